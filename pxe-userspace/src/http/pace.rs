//! Decides when a client is too slow to be waited for. Pure: the acknowledged position and the time are parameters.
//!
//! What counts is what the client acknowledges, not what the socket takes. A socket takes more only when a third of its send
//! queue is free, and the queue holds several megabytes: a client that reads 10 kB a second would seem to read nothing for minutes.
//!
//! A client that acknowledges a byte now and then is not silent. So that it cannot keep its connection for ever, it must
//! acknowledge [`FLOOR`] bytes in each [`PERIOD`], or all that it was sent. That is about 100 bytes a second, which any link of a
//! machine that boots is faster than.

use std::{fmt, time::Duration};

use tokio::time::Instant;

use crate::model::failure::FELL_SILENT;

/// The time that a client may acknowledge nothing. Firmware that writes its download to slow memory pauses, but not for this
/// long.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// The bytes that a client must acknowledge in each period.
pub(super) const FLOOR: u64 = 64 * 1024;
pub(super) const PERIOD: Duration = Duration::from_secs(600);

/// The reason to give a client up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TooSlow {
    /// It acknowledged nothing for [`PATIENCE`].
    Silent,
    /// It acknowledged less than [`FLOOR`] bytes in a [`PERIOD`].
    Dripping,
}

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => write!(f, "{FELL_SILENT}: it read nothing for {} s", PATIENCE.as_secs()),
            Self::Dripping => {
                write!(f, "the client reads too slowly: less than {} KiB in {} s", FLOOR >> 10, PERIOD.as_secs())
            }
        }
    }
}

/// The progress of a client that is being waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// The position up to which the client has acknowledged the stream.
    acknowledged: u64,
    /// The time at which that position last advanced.
    advanced: Instant,
    /// Time and position at the beginning of the period.
    period: (Instant, u64),
}

impl Pace {
    /// Begins to wait for a client that has acknowledged the stream up to this position.
    pub(super) fn new(acknowledged: u64, now: Instant) -> Self {
        Self { acknowledged, advanced: now, period: (now, acknowledged) }
    }

    /// Returns the position up to which the client has acknowledged the stream.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Returns the time at which that position last advanced.
    pub(super) fn advanced(&self) -> Instant {
        self.advanced
    }

    /// Takes note of the position, and of the time at which it was read.
    pub(super) fn note(&mut self, acknowledged: u64, now: Instant) {
        if acknowledged > self.acknowledged {
            self.acknowledged = acknowledged;
            self.advanced = now;
        }
        let (began, position) = self.period;
        if now.duration_since(began) >= PERIOD && self.acknowledged - position >= FLOOR {
            self.period = (now, self.acknowledged);
        }
    }

    /// Returns the reason to give the client up, if there is one now.
    pub(super) fn too_slow(&self, now: Instant) -> Option<TooSlow> {
        if now.duration_since(self.advanced) >= PATIENCE {
            Some(TooSlow::Silent)
        } else if now.duration_since(self.period.0) >= PERIOD {
            Some(TooSlow::Dripping)
        } else {
            None
        }
    }

    /// Returns the earliest time at which the client can be given up.
    pub(super) fn deadline(&self) -> Instant {
        (self.advanced + PATIENCE).min(self.period.0 + PERIOD)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the time after which a client that acknowledges `bytes` at each `step` is given up, and the reason.
    fn given_up(bytes: u64, step: Duration, limit: Duration) -> Option<(Duration, TooSlow)> {
        let began = Instant::now();
        let (mut pace, mut now, mut position) = (Pace::new(1000, began), began, 1000);
        while now.duration_since(began) < limit {
            now += step;
            position += bytes;
            pace.note(position, now);
            if let Some(reason) = pace.too_slow(now) {
                return Some((now.duration_since(began), reason));
            }
            assert!(pace.deadline() > now);
        }
        None
    }

    #[test]
    fn client_is_given_up_by_what_it_acknowledges() {
        let (day, second) = (Duration::from_secs(86_400), Duration::from_secs(1));
        for (bytes, step, expected) in [
            (0, second, Some((PATIENCE, TooSlow::Silent))),
            (1, second, Some((PERIOD, TooSlow::Dripping))),
            (1, PATIENCE - second, Some((11 * (PATIENCE - second), TooSlow::Dripping))),
            (109, second, Some((PERIOD, TooSlow::Dripping))),
            (110, second, None),
            (2048, 5 * second, None),
            (1460, 13 * second, None),
            (8192, PATIENCE - second, None),
            // Pauses are the client's affair as long as they end in time.
            (1 << 20, PATIENCE - second, None),
            (1 << 20, PATIENCE, None),
        ] {
            assert_eq!(given_up(bytes, step, day), expected, "{bytes} bytes each {step:?}");
        }
    }

    #[test]
    fn position_never_goes_back() {
        let now = Instant::now();
        let mut pace = Pace::new(100, now);
        pace.note(50, now + PATIENCE);
        assert_eq!((pace.acknowledged(), pace.too_slow(now + PATIENCE)), (100, Some(TooSlow::Silent)));
        pace.note(101, now + PATIENCE);
        assert_eq!(pace.too_slow(now + PATIENCE), None);
    }

    proptest! {
        #[test]
        fn deadline_is_when_the_client_is_given_up(steps in prop::collection::vec((0u64..100_000, 1u64..50), 1..50)) {
            let mut now = Instant::now();
            let (mut pace, mut position) = (Pace::new(0, now), 0);
            for (bytes, seconds) in steps {
                now += Duration::from_secs(seconds);
                position += bytes;
                pace.note(position, now);
                if pace.too_slow(now).is_some() {
                    break;
                }
                let deadline = pace.deadline();
                prop_assert_eq!(pace.too_slow(deadline - Duration::from_millis(1)), None);
                prop_assert!(pace.too_slow(deadline).is_some());
            }
        }
    }
}
