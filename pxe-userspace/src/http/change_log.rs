//! Tells the operator of files that were overwritten while they were sent: a line for each file, not for each connection.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The time between two lines about the same file.
const INTERVAL: Duration = Duration::from_secs(10);

/// The most files of which the last line is remembered.
const FILE_LIMIT: usize = 256;

/// The times of the last lines, by inode.
#[derive(Debug, Default)]
pub struct ChangeLog {
    lines: Mutex<HashMap<u64, Instant>>,
}

impl ChangeLog {
    /// Logs that a file was changed in place.
    pub(super) fn log(&self, file: &Path, inode: u64) {
        if self.admit(inode, Instant::now()) {
            tracing::warn!(
                "{}: overwritten in place while it was sent, so its transfers were broken off: replace files by rename. Copy the \
                 new version beside it, then mv it over the old one",
                file.display()
            );
        }
    }

    fn admit(&self, inode: u64, now: Instant) -> bool {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.get(&inode).is_some_and(|&last| now.duration_since(last) < INTERVAL) {
            return false;
        }
        if lines.len() >= FILE_LIMIT {
            lines.retain(|_, last| now.duration_since(*last) < INTERVAL);
        }
        lines.len() < FILE_LIMIT && lines.insert(inode, now).is_none_or(|last| last < now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_has_one_line_in_ten_seconds() {
        let (log, start) = (ChangeLog::default(), Instant::now());
        let admitted = |inode, second| log.admit(inode, start + Duration::from_secs(second));
        let times = [(1, 0), (1, 1), (2, 1), (1, 9), (1, 10), (2, 10), (2, 11)];
        assert_eq!(times.map(|(inode, second)| admitted(inode, second)), [true, false, true, false, true, false, true]);
        let lines = (0..10_000).filter(|&inode| admitted(inode, 12)).count();
        assert!(lines <= FILE_LIMIT && log.lines.lock().unwrap().len() <= FILE_LIMIT, "{lines}");
        assert!(admitted(77_777, 30), "old lines make room");
    }
}
