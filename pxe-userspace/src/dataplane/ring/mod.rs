//! An AF_XDP socket on one receive queue, with the loop that owns its rings.
//!
//! [`queue`] is the socket, [`pump`] answers what its rings bring, over any [`rings`], and [`ledger`] decides which frames
//! the replies may take.

mod ledger;
#[cfg(test)]
mod memory;
mod pump;
mod queue;
mod rings;

pub use queue::{Queue, QueueError, QueueStats};
