//! The pauses between attempts that fail.

use std::time::Duration;

/// The pause after the first failure, at most.
const FIRST: Duration = Duration::from_millis(500);
/// The pause after any number of failures, at most.
const MOST: Duration = Duration::from_secs(30);

/// Pauses that grow with each failure. A random part keeps many clients from asking all at once.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Forgets the failures.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Returns the pause after one more failure. `random` is between 0 and 1. A server that asks for a pause gets it, up to a limit.
    pub(super) fn pause(&mut self, random: f64, asked: Option<Duration>) -> Duration {
        let limit = FIRST.saturating_mul(1 << self.failures.min(16)).min(MOST);
        self.failures = self.failures.saturating_add(1);
        let pause = limit.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0);
        pause.max(asked.unwrap_or_default()).min(MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_start_again() {
        for random in [0.0, 0.5, 1.0, f64::INFINITY] {
            let mut backoff = Backoff::default();
            let pauses: Vec<_> = (0..100).map(|_| backoff.pause(random, None)).collect();
            assert!(pauses.is_sorted() && pauses[0] <= FIRST && pauses[0] >= FIRST / 2, "{pauses:?}");
            assert!(pauses[99] <= MOST && pauses[99] >= MOST / 2);
            backoff.reset();
            assert_eq!(backoff.pause(random, None), pauses[0]);
        }
    }

    #[test]
    fn server_gets_the_pause_that_it_asks_for_within_the_limit() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.pause(0.0, Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(backoff.pause(0.0, Some(Duration::from_secs(3600))), MOST);
        assert!(backoff.pause(0.0, Some(Duration::ZERO)) >= FIRST);
    }
}
