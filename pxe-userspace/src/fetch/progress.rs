//! What is told of a download while it runs.

use std::time::{Duration, Instant};

/// A step of a download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It waits until another process, or another task of this one, has downloaded the file.
    Elsewhere,
    /// It waits for other downloads.
    Queued,
    /// The server was asked. Some files are made when they are asked for, which takes minutes.
    Asked,
    /// Bytes arrive.
    Receiving {
        /// The bytes of the file that are on disk, with those of earlier attempts.
        done: u64,
        /// The length of the file, once the server has said it.
        total: Option<u64>,
    },
    /// The attempt failed, and another one follows.
    Pausing {
        /// The fault, in words for a person.
        reason: String,
        /// The pause until then.
        pause: Duration,
    },
}

/// A function that is told of each step. It is called often and must return at once.
pub type Observer<'o> = &'o (dyn Fn(Progress) + Send + Sync);

/// Chooses the steps of a download that get a line where nobody watches a bar: each further tenth of the file, and every ten seconds.
#[derive(Clone, Copy, Debug)]
pub struct Milestones {
    tenth: u64,
    last: Instant,
}

impl Milestones {
    /// The longest time without a line.
    pub const INTERVAL: Duration = Duration::from_secs(10);
    /// The shortest time between lines, so that a fast network does not flood the log.
    const PAUSE: Duration = Duration::from_secs(1);

    /// Starts with the download.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self { tenth: 0, last: now }
    }

    /// Returns whether this step gets a line.
    pub fn is_due(&mut self, done: u64, total: Option<u64>, now: Instant) -> bool {
        let tenth = total.filter(|&total| total > 0).map_or(0, |total| done.saturating_mul(10) / total);
        // The end has a line of its own.
        let is_further = tenth > self.tenth && tenth < 10;
        let silence = now.saturating_duration_since(self.last);
        let is_due = silence >= if is_further { Self::PAUSE } else { Self::INTERVAL };
        if is_due {
            (self.tenth, self.last) = (tenth, now);
        }
        is_due
    }
}

/// Returns a number of bytes as a text: `17 B`, `4.2 MB`, `1.3 GB`.
#[must_use]
pub fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "one digit after the point is shown")]
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_comes_at_each_tenth_and_every_ten_seconds() {
        let start = Instant::now();
        let mut milestones = Milestones::new(start);
        let mut at = |done, seconds| milestones.is_due(done, Some(1000), start + Duration::from_secs(seconds));
        assert!(!at(0, 0));
        assert!(!at(99, 1));
        assert!(at(100, 1));
        assert!(!at(150, 2));
        assert!(at(450, 3), "several tenths at once are one line");
        assert!(!at(460, 12));
        assert!(at(461, 13));
        assert!(!at(1000, 14), "the end has a line of its own");
    }

    #[test]
    fn file_of_unknown_length_gets_a_line_every_ten_seconds() {
        let start = Instant::now();
        let mut milestones = Milestones::new(start);
        assert!(!milestones.is_due(1 << 30, None, start + Duration::from_secs(9)));
        assert!(milestones.is_due(1 << 30, None, start + Duration::from_secs(10)));
        assert!(!Milestones::new(start).is_due(0, Some(0), start));
    }

    #[test]
    fn bytes_have_a_unit() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (94_371_840, "94.4 MB"),
            (u64::MAX, "18446744.1 TB"),
        ] {
            assert_eq!(bytes_text(bytes), text);
        }
    }
}
