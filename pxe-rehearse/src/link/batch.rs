//! Batches of frames: up to 64 with one system call, which would otherwise dominate the cost of a frame.
#![expect(
    unsafe_code,
    reason = "sendmmsg and recvmmsg take arrays of pointers; options of packet sockets are in no crate"
)]

use std::{
    io,
    mem::{size_of, zeroed},
    os::fd::AsRawFd,
    thread,
    time::Duration,
};

/// The number of frames in one system call.
pub(crate) const BATCH: usize = 64;
/// The room for an outgoing frame. Firmware sends no longer ones.
const OUTGOING_BYTES: usize = 1536;
/// The room for an incoming frame. Between network namespaces, unsegmented bursts of up to 64 KiB arrive.
const INCOMING_BYTES: usize = 66 * 1024;

/// The time to wait for a full queue, and how many times for one batch.
const WAIT: Duration = Duration::from_micros(50);
const MAX_WAITS: u32 = 40;

fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::EAGAIN))
}

/// The queue of frames to send.
pub(crate) struct Outgoing {
    bytes: Box<[u8]>,
    lengths: [usize; BATCH],
    count: usize,
}

impl Outgoing {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; BATCH * OUTGOING_BYTES].into(), lengths: [0; BATCH], count: 0 }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.count == BATCH
    }

    /// Queues a copy of a frame and returns the copy, or `None` if the queue is full or the frame too long.
    pub(crate) fn push(&mut self, frame: &[u8]) -> Option<&mut [u8]> {
        if self.is_full() || frame.len() > OUTGOING_BYTES {
            return None;
        }
        let start = self.count * OUTGOING_BYTES;
        self.lengths[self.count] = frame.len();
        self.count += 1;
        let place = &mut self.bytes[start..start + frame.len()];
        place.copy_from_slice(frame);
        Some(place)
    }

    /// Sends the queue and returns the number of frames that the interface had no room for. They are lost, as on any wire.
    pub(crate) fn flush(&mut self, socket: &impl AsRawFd) -> usize {
        let count = std::mem::take(&mut self.count);
        // SAFETY: both are plain data, for which all zeros are a valid value.
        let (mut vectors, mut headers): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) =
            unsafe { (zeroed(), zeroed()) };
        let places = self.bytes.chunks_exact_mut(OUTGOING_BYTES).zip(self.lengths);
        for ((vector, header), (place, length)) in vectors.iter_mut().zip(&mut headers).zip(places).take(count) {
            *vector = libc::iovec { iov_base: place.as_mut_ptr().cast(), iov_len: length };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
        }
        let (mut next, mut unsent, mut waits) = (0, 0, 0);
        while next < count {
            let left = &mut headers[next..count];
            // SAFETY: every header points at a vector and every vector at a place in `bytes`, and all of them outlive the call.
            let result = unsafe {
                libc::sendmmsg(socket.as_raw_fd(), left.as_mut_ptr(), left.len() as libc::c_uint, libc::MSG_DONTWAIT)
            };
            match usize::try_from(result) {
                // The kernel stops at the first frame that fails, and returns an error if that is the first of all.
                Ok(done) => next += done,
                // The short queue of a virtual link is emptied soon. Frames that a network card would have queued must not
                // count as lost.
                Err(_) if waits < MAX_WAITS && is_full(&io::Error::last_os_error()) => {
                    waits += 1;
                    thread::sleep(WAIT);
                }
                Err(_) => {
                    next += 1;
                    unsent += 1;
                }
            }
        }
        unsent
    }
}

/// The frames of one batch that were received.
pub(crate) struct Incoming {
    bytes: Box<[u8]>,
    lengths: [usize; BATCH],
}

impl Incoming {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; BATCH * INCOMING_BYTES].into(), lengths: [0; BATCH] }
    }

    /// Receives what is there, without waiting, and returns the number of frames.
    ///
    /// # Errors
    ///
    /// Returns the error of the kernel: `WouldBlock` if nothing is there.
    pub(crate) fn receive(&mut self, socket: &impl AsRawFd) -> io::Result<usize> {
        // SAFETY: both are plain data, for which all zeros are a valid value.
        let (mut vectors, mut headers): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) =
            unsafe { (zeroed(), zeroed()) };
        let places = self.bytes.chunks_exact_mut(INCOMING_BYTES);
        for ((vector, header), place) in vectors.iter_mut().zip(&mut headers).zip(places) {
            *vector = libc::iovec { iov_base: place.as_mut_ptr().cast(), iov_len: place.len() };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: every header points at a vector and every vector at a place in `bytes`, and all of them outlive the call;
        // no time limit is passed.
        let result = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(result).map_err(|_| io::Error::last_os_error())?;
        for (length, header) in self.lengths.iter_mut().zip(&headers).take(count) {
            *length = (header.msg_len as usize).min(INCOMING_BYTES);
        }
        Ok(count)
    }

    /// Returns the frame of this number, which must be less than what [`Self::receive`] returned.
    pub(crate) fn frame(&self, number: usize) -> &[u8] {
        let start = number * INCOMING_BYTES;
        &self.bytes[start..start + self.lengths[number]]
    }
}

/// Sets a flag of a packet socket.
///
/// # Errors
///
/// Returns the error of the kernel.
pub(super) fn set_packet_option(socket: &impl AsRawFd, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the value outlives the call, and the length is that of the value.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
