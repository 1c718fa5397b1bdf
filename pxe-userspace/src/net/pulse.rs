//! The signs of life of a thread that waits for frames.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use nix::poll::PollTimeout;

/// The time that a thread without frames waits before it gives the next sign of life, in milliseconds.
const BEAT_MILLISECONDS: u16 = 1_000;

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
