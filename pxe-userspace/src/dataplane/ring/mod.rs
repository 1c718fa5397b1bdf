//! An AF_XDP socket on one receive queue, with the loop that owns its rings.
//!
//! `queue` is the socket. `pump` answers the frames that the rings bring; it runs over any `rings`, in tests over plain memory.
//! `ledger` counts where the frames are and decides which of them replies may take.

mod ledger;
#[cfg(test)]
mod memory;
mod pump;
mod queue;
mod rings;

pub use queue::{Queue, QueueError, QueueStats};
