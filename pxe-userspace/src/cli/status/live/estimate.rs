//! Throughput and the time that is left, from what the machines had at several times. Pure.

use std::collections::{HashMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

use crate::cli::{
    shown::Shown,
    status::machines::{Machine, Progress, State},
};

/// The time over which progress is averaged.
const WINDOW: SignedDuration = SignedDuration::from_secs(60);
/// The time over which throughput is averaged.
const RECENT: SignedDuration = SignedDuration::from_secs(10);
/// There is no estimate before this time has been seen.
const LEAST: SignedDuration = SignedDuration::from_secs(5);
/// A longer estimate is none.
const LONGEST: SignedDuration = SignedDuration::from_hours(24);

/// The sums at one time.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Timestamp,
    /// The bytes that machines have received since the beginning.
    bytes: u64,
    /// The boots that machines have done since the beginning, in parts.
    done: f64,
    /// The boots that are left for the machines on their way.
    left: f64,
}

/// The last known state of one machine.
#[derive(Clone, Debug)]
struct Seen {
    share: f64,
    progress: Option<Progress>,
}

/// The progress of the fleet in the last minute.
#[derive(Debug, Default)]
pub(super) struct Estimate {
    samples: VecDeque<Sample>,
    seen: HashMap<Shown, Seen>,
}

impl Estimate {
    /// Takes note of the fleet at this time.
    pub(super) fn note<'m>(&mut self, machines: impl Iterator<Item = &'m Machine>, now: Timestamp) {
        // A clock that was set back tells nothing about the time between.
        if self.samples.back().is_some_and(|last| now < last.at) {
            self.samples.clear();
        }
        let (mut bytes, mut done) = self.samples.back().map_or((0, 0.0), |last| (last.bytes, last.done));
        let mut left = 0.0;
        let mut seen = HashMap::new();
        for machine in machines {
            let current = Seen { share: share(machine), progress: machine.progress.clone() };
            if machine.state(now) == State::Busy {
                left += 1.0 - current.share;
            }
            if let Some(before) = self.seen.get(&machine.mac) {
                bytes += received(before, &current);
                done += (current.share - before.share).max(0.0);
            }
            seen.insert(machine.mac.clone(), current);
        }
        self.seen = seen;
        self.samples.push_back(Sample { at: now, bytes, done, left });
        while self.samples.len() > 2 && self.samples.get(1).is_some_and(|next| now.duration_since(next.at) >= WINDOW) {
            self.samples.pop_front();
        }
    }

    /// Returns the bytes per second that machines received lately.
    pub(super) fn throughput(&self, now: Timestamp) -> Option<f64> {
        let last = self.samples.back()?;
        // The last one before that time, so that two looks far apart have a pace as well.
        let before = self.samples.iter().rev().find(|sample| now.duration_since(sample.at) >= RECENT);
        let first = before.or(self.samples.front())?;
        let seconds = last.at.duration_since(first.at).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
        (seconds > 0.0).then(|| (last.bytes - first.bytes) as f64 / seconds)
    }

    /// Returns the time after which all machines on their way are up, at the pace of the last minute. `None` if nothing moves, or not for
    /// long enough to say.
    pub(super) fn remaining(&self, now: Timestamp) -> Option<SignedDuration> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let span = last.at.duration_since(first.at);
        let done = last.done - first.done;
        if span < LEAST || last.left <= 0.0 || done <= 0.0 || now.duration_since(last.at) > WINDOW {
            return None;
        }
        let seconds = last.left * span.as_secs_f64() / done;
        let left = SignedDuration::try_from_secs_f64(seconds).ok()?.saturating_sub(now.duration_since(last.at));
        (left <= LONGEST).then_some(left.max(SignedDuration::ZERO))
    }
}

/// Returns the bytes that a machine has received since it was last seen.
fn received(before: &Seen, current: &Seen) -> u64 {
    let rest = |progress: &Progress| progress.total.map_or(0, |total| total.saturating_sub(progress.done));
    match (&before.progress, &current.progress) {
        (Some(old), Some(new)) if old.artifact == new.artifact && new.done >= old.done => new.done - old.done,
        // The file before is complete, since the machine has moved on.
        (Some(old), Some(new)) if current.share > before.share => rest(old).saturating_add(new.done),
        (Some(old), None) if current.share > before.share => rest(old),
        (_, Some(new)) => new.done,
        (_, None) => 0,
    }
}

/// Returns the part of a boot that a machine has done.
fn share(machine: &Machine) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "at most 100")]
    let loaded = machine.progress.as_ref().and_then(Progress::percent).unwrap_or(0) as f64 / 100.0;
    match &*machine.stage {
        "discovering" => 0.02,
        "offered" => 0.04,
        "addressed" => 0.06,
        "loading-loader" => 0.08,
        "loader-done" => 0.12,
        "ipxe-discovering" => 0.14,
        "ipxe-addressed" => 0.16,
        "awaiting-files" | "scripted" => 0.18,
        "loading-kernel" => 0.2 + 0.2 * loaded,
        "kernel-done" => 0.4,
        "loading-initramfs" => 0.4 + 0.5 * loaded,
        "booting" => 0.9,
        "running" | "up" => 1.0,
        _ => 0.0,
    }
}

/// Formats a rate as in `12.3 MB/s`.
pub(super) fn rate_text(bytes: f64) -> String {
    match bytes {
        1e9.. => format!("{:.1} GB/s", bytes / 1e9),
        1e6.. => format!("{:.1} MB/s", bytes / 1e6),
        1e3.. => format!("{:.0} kB/s", bytes / 1e3),
        _ => format!("{bytes:.0} B/s"),
    }
}

/// Formats a time that is left.
pub(super) fn remaining_text(left: Option<SignedDuration>) -> String {
    match left.map(|left| left.as_secs()) {
        None => "no estimate yet".to_owned(),
        Some(seconds @ ..60) => format!("{} s left", seconds.max(1)),
        Some(seconds @ ..3_600) => format!("{} min left", (seconds + 30) / 60),
        Some(seconds) => format!("{} h {} min left", seconds / 3_600, seconds % 3_600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::status::live::testing::machine;

    fn second(number: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + number).unwrap()
    }

    /// Returns the estimate after these samples of one machine that loads 100 MB, by the second and the bytes that it has.
    fn after(samples: &[(i64, u64)]) -> Estimate {
        let mut estimate = Estimate::default();
        for &(at, done) in samples {
            let mut machine = machine(1, "loading-initramfs", second(at));
            machine.progress = Some(Progress { artifact: Shown::of("initramfs"), done, total: Some(100_000_000) });
            estimate.note([machine].iter(), second(at));
        }
        estimate
    }

    #[test]
    fn time_left_follows_the_pace_of_the_last_minute() {
        // 10 MB/s, of which 100 MB are half of a boot; what follows is a tenth.
        let estimate = after(&[(0, 0), (1, 10_000_000), (6, 60_000_000)]);
        assert_eq!(estimate.remaining(second(6)), Some(SignedDuration::from_secs(6)));
        assert_eq!(estimate.remaining(second(8)), Some(SignedDuration::from_secs(4)));
        assert_eq!(estimate.remaining(second(20)), Some(SignedDuration::ZERO));
        assert_eq!(rate_text(estimate.throughput(second(6)).unwrap()), "10.0 MB/s");
        // The first minute is forgotten in the second.
        let slow = after(&[(0, 0), (30, 1_000_000), (60, 2_000_000), (90, 50_000_000), (120, 99_000_000)]);
        let left = slow.remaining(second(120)).unwrap();
        assert!(left < SignedDuration::from_secs(30), "{left:?}");
    }

    #[test]
    fn estimate_that_would_be_nonsense_is_not_made() {
        for (what, samples, now) in [
            ("nothing", &[][..], 0),
            ("one look", &[(0, 0)], 0),
            ("too short", &[(0, 0), (4, 40_000_000)], 4),
            ("nothing moves", &[(0, 7), (30, 7)], 30),
            ("it begins again", &[(0, 90_000_000), (30, 0)], 30),
            ("days", &[(0, 0), (60, 2)], 60),
            ("looked long ago", &[(0, 0), (10, 10_000_000)], 100),
            ("the clock went back", &[(60, 0), (70, 50_000_000), (0, 60_000_000)], 0),
        ] {
            assert_eq!(after(samples).remaining(second(now)), None, "{what}");
        }
        assert_eq!(remaining_text(None), "no estimate yet");
        let mut estimate = Estimate::default();
        for at in [0, 30] {
            estimate.note([machine(1, "running", second(0)), machine(2, "failed", second(0))].iter(), second(at));
        }
        assert_eq!(estimate.remaining(second(30)), None);
    }

    #[test]
    fn bytes_of_files_that_end_between_two_looks_count() {
        let progress = |artifact: &str, done| Some(Progress { artifact: Shown::of(artifact), done, total: Some(100) });
        let seen = |share, progress| Seen { share, progress };
        for (before, current, expected) in [
            (seen(0.2, progress("kernel", 10)), seen(0.2, progress("kernel", 60)), 50),
            (seen(0.2, progress("kernel", 10)), seen(0.4, progress("initramfs", 5)), 95),
            (seen(0.4, progress("initramfs", 90)), seen(0.9, None), 10),
            (seen(0.4, progress("kernel", 90)), seen(0.1, None), 0),
            (seen(0.2, progress("kernel", 90)), seen(0.2, progress("kernel", 3)), 3),
            (seen(0.1, None), seen(0.2, progress("kernel", 30)), 30),
            (seen(0.1, None), seen(0.2, None), 0),
        ] {
            assert_eq!(received(&before, &current), expected, "{before:?} {current:?}");
        }
    }

    #[test]
    fn times_and_rates_are_words() {
        let left = |seconds| remaining_text(Some(SignedDuration::from_secs(seconds)));
        assert_eq!(
            [0, 59, 61, 3_599, 7_260].map(left),
            ["1 s left", "59 s left", "1 min left", "60 min left", "2 h 1 min left"]
        );
        assert_eq!([0.0, 1_500.0, 2.5e6, 1.25e9].map(rate_text), ["0 B/s", "2 kB/s", "2.5 MB/s", "1.2 GB/s"]);
    }
}
