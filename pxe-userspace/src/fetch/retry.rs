//! The decision whether a download that failed is tried again, and when.

use std::time::{Duration, SystemTime};

/// The bounds of repeated attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The most attempts in a row that bring nothing.
    pub attempts: u32,
    /// The most attempts in all.
    pub attempts_in_all: u32,
    /// The pause after the first attempt. Each further pause is twice as long.
    pub first_pause: Duration,
    /// The longest pause. A server that asks for a longer one is not asked again in this round.
    pub longest_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 5,
            attempts_in_all: 100,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(60),
        }
    }
}

/// An attempt that brought this many bytes starts the count of fruitless ones again: a connection that breaks every minute still
/// gets a file of 100 MB, and a server that breaks each answer after a few bytes does not keep a download busy for good.
const FRUITFUL: u64 = 1 << 20;

/// The attempts at one file so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attempts {
    fruitless: u32,
    all: u32,
}

impl Attempts {
    /// Returns the number of attempts.
    #[must_use]
    pub(super) const fn count(self) -> u32 {
        self.all
    }

    /// Counts an attempt that failed in a way that may pass, after `received` bytes. Returns the pause before the next one, or `None` if
    /// there is none. `asked` is the pause that the server asked for (`Retry-After`), and `random` is in [0, 1).
    pub(super) fn failed(
        &mut self,
        policy: &RetryPolicy,
        received: u64,
        asked: Option<Duration>,
        random: f64,
    ) -> Option<Duration> {
        self.all += 1;
        self.fruitless = if received >= FRUITFUL { 1 } else { self.fruitless + 1 };
        if self.fruitless >= policy.attempts || self.all >= policy.attempts_in_all {
            return None;
        }
        if asked.is_some_and(|asked| asked > policy.longest_pause) {
            return None;
        }
        let doubled = policy.first_pause.saturating_mul(1 << (self.fruitless - 1).min(16));
        // Between half and all of it, so that the servers of many sites do not ask in step.
        let pause = doubled.min(policy.longest_pause).mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0));
        Some(asked.map_or(pause, |asked| asked.max(pause)))
    }

    /// Counts an attempt after which there is no other.
    pub(super) fn ended(&mut self) {
        self.all += 1;
    }
}

/// Returns the pause that a `Retry-After` asks for: seconds, or an HTTP date (RFC 9110 §10.2.3).
#[must_use]
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Some(SystemTime::from(date).duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        attempts: 5,
        attempts_in_all: 8,
        first_pause: Duration::from_secs(1),
        longest_pause: Duration::from_secs(5),
    };

    #[test]
    fn pauses_double_up_to_the_longest_and_attempts_end() {
        let mut attempts = Attempts::default();
        let mut seconds = Vec::new();
        while let Some(pause) = attempts.failed(&POLICY, 0, None, 1.0) {
            seconds.push(pause.as_secs());
        }
        assert_eq!(seconds, [1, 2, 4, 5]);
        assert_eq!(attempts.count(), POLICY.attempts);
    }

    #[test]
    fn jitter_is_between_half_and_all_of_the_pause() {
        for (random, milliseconds) in [(0.0, 500), (0.5, 750), (1.0, 1000), (7.0, 1000)] {
            let pause = Attempts::default().failed(&POLICY, 0, None, random);
            assert_eq!(pause, Some(Duration::from_millis(milliseconds)));
        }
    }

    #[test]
    fn attempt_that_brought_much_starts_the_count_again_within_bounds() {
        let mut attempts = Attempts::default();
        for _ in 0..3 {
            assert!(attempts.failed(&POLICY, 0, None, 0.0).is_some());
        }
        assert!(attempts.failed(&POLICY, FRUITFUL, None, 0.0).is_some());
        assert_eq!(attempts.failed(&POLICY, 0, None, 1.0), Some(Duration::from_secs(2)));
        assert!(attempts.failed(&POLICY, FRUITFUL, None, 0.0).is_some());
        assert!(attempts.failed(&POLICY, FRUITFUL, None, 0.0).is_some());
        assert_eq!(attempts.failed(&POLICY, FRUITFUL, None, 0.0), None, "{} in all", POLICY.attempts_in_all);
    }

    #[test]
    fn pause_that_the_server_asks_for_is_kept() {
        let after = |seconds| Attempts::default().failed(&POLICY, 0, Some(Duration::from_secs(seconds)), 1.0);
        assert_eq!(after(3), Some(Duration::from_secs(3)));
        assert_eq!(after(0), Some(Duration::from_secs(1)));
        assert_eq!(after(6), None);
        assert_eq!(after(u64::MAX), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::from("1994-11-06T08:49:00Z".parse::<jiff::Timestamp>().unwrap());
        assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after(" 0 ", now), Some(Duration::ZERO));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(37)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:48:37 GMT", now), Some(Duration::ZERO));
        for odd in ["", "soon", "-1", "1.5", "99999999999999999999999"] {
            assert_eq!(retry_after(odd, now), None, "{odd}");
        }
    }
}
