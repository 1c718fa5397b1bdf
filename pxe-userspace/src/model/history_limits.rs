//! The limits of the history on disk.

use std::time::Duration;

/// The most that the history on disk may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// The size in bytes.
    pub bytes: u64,
    /// The age of the oldest segment.
    pub age: Duration,
}
