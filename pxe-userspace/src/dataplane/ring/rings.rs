//! The operations on a queue's memory and rings that the pump needs.

use std::ops::DerefMut;

use nix::errno::Errno;

/// The most frames taken from the receive ring at once.
pub(super) const BATCH: usize = 64;

/// The most replies to one batch: each may be sent twice.
pub(super) const REPLIES: usize = 2 * BATCH;

/// The frames and the four rings of one AF_XDP socket: the kernel's, or a test's in plain memory.
///
/// Every frame that is handed out is returned by [`free`](Self::free) or [`stage`](Self::stage).
pub(super) trait Rings {
    /// A frame that is in no ring.
    type Frame: DerefMut<Target = [u8]>;

    /// Frees the frames in the completion ring. Returns their number.
    fn complete(&mut self) -> usize;

    /// Empties the receive ring into the batch, up to [`BATCH`] frames. Returns their number.
    fn receive(&mut self) -> usize;

    /// Takes a received frame out of the batch, in the order of arrival.
    fn next_received(&mut self) -> Option<Self::Frame>;

    /// Takes a free frame, extended to its full capacity.
    fn allocate(&mut self) -> Option<Self::Frame>;

    /// Frees a frame.
    fn free(&mut self, frame: Self::Frame);

    /// Truncates a frame to its first `length` bytes and adds it to the batch to be sent.
    ///
    /// # Errors
    ///
    /// Returns the frame if it is shorter than that or the batch is full.
    fn stage(&mut self, frame: Self::Frame, length: usize) -> Result<(), Self::Frame>;

    /// Moves staged frames to the transmit ring while it has room. Returns their number.
    fn transmit(&mut self) -> usize;

    /// Takes a staged frame back.
    fn unstage(&mut self) -> Option<Self::Frame>;

    /// Moves up to `frames` free frames to the fill ring. Returns their number.
    fn fill(&mut self, frames: usize) -> usize;

    /// Asks the kernel to send what the transmit ring holds.
    ///
    /// # Errors
    ///
    /// The error that the kernel returned. The frames are still in the transmit ring, or were sent nevertheless.
    fn kick(&mut self) -> Result<(), Errno>;
}
