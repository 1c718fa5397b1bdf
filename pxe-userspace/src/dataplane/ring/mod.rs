//! An AF_XDP socket on one receive queue, with the loop that owns its rings.
//!
//! `queue` is the socket. `pump` answers the frames that arrive in the rings; it is generic over `rings`, which tests
//! implement in plain memory. `ledger` counts the frames by place and limits how many replies may take.
//! `refusal` puts the kernel's reasons for refusing a socket into words.

mod ledger;
#[cfg(test)]
mod memory;
mod pump;
mod queue;
mod refusal;
mod rings;

pub use queue::{Queue, QueueError, QueueStats};
