//! The state of a file in words, for consoles, `pxed explain` and the log.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use super::{
    artifact_names::kind_of,
    event::{ArtifactKind, EventKind},
    images::{Awaited, FileState},
};

/// The time after which a machine asks again for a file that is expected to come.
const AGAIN: Duration = Duration::from_secs(5);
/// The same for a file that somebody has to see to.
const AGAIN_UNEXPECTED: Duration = Duration::from_secs(10);

impl FileState {
    /// Returns the share of the file that is on disk, in percent, while it is downloaded and its length is known.
    #[must_use]
    pub fn percent(&self) -> Option<u8> {
        let &Self::Fetching { done, total: Some(total), .. } = self else { return None };
        let share = u128::from(done) * 100 / u128::from(total.max(1));
        // Only a whole file has all of it, and it still has to be verified.
        Some(u8::try_from(share).map_or(99, |share| share.min(99)))
    }

    /// Returns the state as the end of a sentence that begins with the file.
    #[must_use]
    pub fn in_words(&self, now: SystemTime) -> InWords<'_> {
        InWords { state: self, now }
    }
}

impl Awaited<'_> {
    /// Returns the time after which the machine asks again.
    #[must_use]
    pub fn pause(&self) -> Duration {
        if self.file.state.is_expected() { AGAIN } else { AGAIN_UNEXPECTED }
    }

    /// Returns the event of a machine that is told to wait.
    #[must_use]
    pub fn event(&self) -> EventKind {
        let state = &self.file.state;
        EventKind::Awaits { path: self.path.into(), state: state.name(), percent: state.percent() }
    }

    /// Returns the kind of file as a word.
    #[must_use]
    pub fn noun(&self) -> &'static str {
        match kind_of(self.path.as_bytes()) {
            ArtifactKind::Kernel => "kernel",
            ArtifactKind::Initramfs => "initramfs",
            _ => "image",
        }
    }
}

/// The `Display` of a state.
#[derive(Clone, Copy, Debug)]
pub struct InWords<'s> {
    state: &'s FileState,
    now: SystemTime,
}

impl fmt::Display for InWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.state {
            FileState::Verified => f.write_str("is there, as it was verified"),
            FileState::Packaged => f.write_str("is there, from a package of this host"),
            FileState::ByHand => f.write_str("is there, put there by a person and verified against nothing"),
            FileState::Verifying => f.write_str("is there and is being verified"),
            FileState::Queued => f.write_str("is going to be downloaded after others"),
            FileState::Fetching { done, total, rest } => {
                f.write_str("is being downloaded")?;
                match (self.state.percent(), total) {
                    (Some(percent), Some(total)) => {
                        write!(f, ": {percent} percent ({} of {})", megabytes(*done), megabytes(*total))?;
                    }
                    // The server has not answered so far, or another process downloads it.
                    _ if *done == 0 => {}
                    _ => write!(f, ": {} so far", megabytes(*done))?,
                }
                match rest {
                    Some(rest) => write!(f, ", about {} left", human(*rest)),
                    None => Ok(()),
                }
            }
            FileState::Failed { reason, again } => {
                let wait = again.duration_since(self.now).unwrap_or_default();
                write!(f, "could not be downloaded: {reason}, and pxed tries again ")?;
                if wait.is_zero() { f.write_str("now") } else { write!(f, "in {}", human(wait)) }
            }
            FileState::Missing { reason } => write!(f, "is missing: {reason}"),
            FileState::Refused { reason } => write!(f, "is refused: {reason}"),
        }
    }
}

/// Formats a number of bytes in decimal units.
fn megabytes(bytes: u64) -> String {
    match bytes {
        0..100_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        100_000..10_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

/// Formats a duration that is an estimate.
fn human(duration: Duration) -> String {
    match duration.as_secs() {
        0 => "1 s".to_owned(),
        seconds @ 1..100 => format!("{seconds} s"),
        seconds @ 100..6_000 => format!("{} min", (seconds + 30) / 60),
        seconds => format!("{} h", (seconds + 1_800) / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn fetching(done: u64, total: Option<u64>, rest: Option<u64>) -> FileState {
        FileState::Fetching { done, total, rest: rest.map(Duration::from_secs) }
    }

    #[test]
    fn states_read_as_sentences() {
        let failed = |seconds| FileState::Failed {
            reason: "connection refused".into(),
            again: NOW + Duration::from_secs(seconds),
        };
        for (state, expected) in [
            (fetching(0, None, None), "is being downloaded"),
            (fetching(34_567_890, None, Some(3)), "is being downloaded: 34 MB so far, about 3 s left"),
            (fetching(400_000, Some(800_000), None), "is being downloaded: 50 percent (0.4 MB of 0.8 MB)"),
            (
                fetching(34_567_890, Some(80_000_000), Some(130)),
                "is being downloaded: 43 percent (34 MB of 80 MB), about 2 min left",
            ),
            (FileState::Packaged, "is there, from a package of this host"),
            (failed(12), "could not be downloaded: connection refused, and pxed tries again in 12 s"),
            (failed(0), "could not be downloaded: connection refused, and pxed tries again now"),
            (FileState::Missing { reason: "pxed is offline".into() }, "is missing: pxed is offline"),
        ] {
            assert_eq!(state.in_words(NOW).to_string(), expected);
        }
    }

    #[test]
    fn percentage_never_says_more_than_is_there() {
        for (done, total, expected) in [
            (0, Some(80), Some(0)),
            (43, Some(100), Some(43)),
            (79, Some(80), Some(98)),
            (80, Some(80), Some(99)),
            // A server that lied about the length.
            (90, Some(80), Some(99)),
            (0, Some(0), Some(0)),
            (1, Some(0), Some(99)),
            (u64::MAX, Some(u64::MAX), Some(99)),
            (5, None, None),
        ] {
            assert_eq!(fetching(done, total, None).percent(), expected, "{done} of {total:?}");
        }
        assert_eq!(FileState::Queued.percent(), None);
    }

    #[test]
    fn machine_asks_again_more_often_if_a_file_is_expected() {
        let pause = |state: FileState| {
            let file = state.into();
            Awaited { path: "vmlinuz", file: &file }.pause()
        };
        assert_eq!(pause(FileState::Queued), AGAIN);
        assert_eq!(pause(FileState::Missing { reason: "".into() }), AGAIN_UNEXPECTED);
    }
}
