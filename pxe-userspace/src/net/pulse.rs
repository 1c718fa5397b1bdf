//! The signs of life of a thread that waits for frames.

use std::{
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::EventFd,
};

/// The time that a thread without frames waits before it gives the next sign of life, in milliseconds.
const BEAT_MILLISECONDS: u16 = 1_000;

/// Waits for this time, but no longer than until the thread is told to end. Returns `true` if it is.
pub fn is_told_to_end(stop: &EventFd, at_most: Duration) -> bool {
    let timeout = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::MAX);
    poll(&mut [PollFd::new(stop.as_fd(), PollFlags::POLLIN)], timeout).is_ok_and(|ready| ready > 0)
}

/// Counts the signs of life of a thread. Clones count the same ones.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// Returns the longest time that the thread may wait between two signs of life.
    #[must_use]
    pub fn longest_wait() -> PollTimeout {
        BEAT_MILLISECONDS.into()
    }

    /// Gives a sign of life. Only the thread itself does so.
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of signs of life so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
