//! Whether to look again before sleeping.
//!
//! Being woken costs more than answering: a processor leaves its sleep, and the one that sends pays for the call. Under load
//! the next datagram is a few microseconds away, and a worker that looks for it a few times more never sleeps. Where that is
//! seen not to help, it is not done.

use std::time::{Duration, Instant};

/// How long to look again, at most: about what being woken costs.
const LINGER: Duration = Duration::from_micros(50);
/// How much of having gone well is remembered.
const CREDIT_LIMIT: u8 = 16;
/// What lingering in vain costs, in times that it went well.
const PENALTY: u8 = 4;
/// Without credit, one wait in so many is begun by lingering all the same.
const PROBE_EVERY: u32 = 64;

/// The memory of one worker.
#[derive(Debug, Default)]
pub(super) struct Spin {
    /// Since when there has been nothing to do.
    since: Option<Instant>,
    credit: u8,
    waits: u32,
}

impl Spin {
    /// There was something to do.
    pub(super) fn worked(&mut self) {
        if self.since.take().is_some() {
            self.credit = (self.credit + 1).min(CREDIT_LIMIT);
        }
    }

    /// There is nothing to do: whether to look again at once, instead of sleeping.
    pub(super) fn again(&mut self, now: Instant) -> bool {
        if let Some(since) = self.since {
            if now.saturating_duration_since(since) < LINGER {
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

    /// Waits for datagrams that come this often; says how many waits slept, and how long the others took in all.
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
    fn under_load_nobody_sleeps() {
        let mut spin = Spin::default();
        let (slept, _) = wait(&mut spin, Duration::from_micros(20), 10_000);
        assert!(slept <= PROBE_EVERY, "{slept}");
    }

    #[test]
    fn otherwise_hardly_anything_is_spent() {
        let mut spin = Spin::default();
        wait(&mut spin, Duration::from_micros(20), 1000);
        let (slept, spun) = wait(&mut spin, Duration::from_millis(1), 10_000);
        assert_eq!(slept, 10_000);
        assert!(spun < Duration::from_millis(10), "{spun:?} of 10 s");
    }
}
