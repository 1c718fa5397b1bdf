//! Decides whether a worker polls once more before it sleeps.
//!
//! Being woken costs more than answering: a processor has to leave its sleep state, and the sender pays for the call. Under load
//! the next datagram is a few microseconds away, and a worker that polls a little longer never sleeps. It stops doing so while that
//! does not help.

use std::time::{Duration, Instant};

/// The longest time to poll: about the cost of being woken.
const SPIN: Duration = Duration::from_micros(50);
/// The most credit that success earns.
const CREDIT_LIMIT: u8 = 16;
/// The credit that polling in vain costs.
const PENALTY: u8 = 4;
/// Without credit, one wait in this many begins with polling all the same.
const PROBE_EVERY: u32 = 64;

/// The recent success of one worker's polling.
#[derive(Debug, Default)]
pub(super) struct Spin {
    /// The time since which there has been nothing to do.
    since: Option<Instant>,
    credit: u8,
    waits: u32,
}

impl Spin {
    /// Records that there was something to do.
    pub(super) fn worked(&mut self) {
        if self.since.take().is_some() {
            self.credit = (self.credit + 1).min(CREDIT_LIMIT);
        }
    }

    /// Records that there is nothing to do. Returns `true` to poll again at once, `false` to sleep.
    pub(super) fn again(&mut self, now: Instant) -> bool {
        if let Some(since) = self.since {
            if now.saturating_duration_since(since) < SPIN {
                return true;
            }
            self.since = None;
            self.credit = self.credit.saturating_sub(PENALTY);
            return false;
        }
        self.waits = self.waits.wrapping_add(1);
        let spins = self.credit > 0 || self.waits.is_multiple_of(PROBE_EVERY);
        if spins {
            self.since = Some(now);
        }
        spins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits for datagrams that come at this interval. Returns the number of waits that slept, and the time that the others spent.
    fn wait(spin: &mut Spin, every: Duration, waits: u32) -> (u32, Duration) {
        let (mut now, mut slept, mut spun) = (Instant::now(), 0, Duration::ZERO);
        for _ in 0..waits {
            let next = now + every;
            while now < next {
                if !spin.again(now) {
                    slept += 1;
                    break;
                }
                spun += Duration::from_micros(1);
                now += Duration::from_micros(1);
            }
            now = next;
            spin.worked();
        }
        (slept, spun)
    }

    #[test]
    fn worker_under_load_never_sleeps() {
        let mut spin = Spin::default();
        let (slept, _) = wait(&mut spin, Duration::from_micros(20), 10_000);
        assert!(slept <= PROBE_EVERY, "{slept}");
    }

    #[test]
    fn idle_worker_spends_hardly_anything() {
        let mut spin = Spin::default();
        wait(&mut spin, Duration::from_micros(20), 1000);
        let (slept, spun) = wait(&mut spin, Duration::from_millis(1), 10_000);
        assert_eq!(slept, 10_000);
        assert!(spun < Duration::from_millis(10), "{spun:?} of 10 s");
    }
}
