//! The bandwidth limit of all downloads together.

use std::{
    num::NonZeroU64,
    time::{Duration, Instant},
};

/// A token bucket that may go into debt: bytes are taken when they have arrived, and the taker then pauses until they are paid for. Its
/// socket's buffer fills meanwhile, which slows the server down.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenBucket {
    bytes_per_second: NonZeroU64,
    /// The bytes that may be taken at once. Negative while there is debt.
    balance: f64,
    filled: Instant,
}

/// The time for which unused bandwidth is saved up.
const BURST: Duration = Duration::from_millis(250);

impl TokenBucket {
    /// Creates a full bucket.
    #[must_use]
    pub(super) fn new(bytes_per_second: NonZeroU64, now: Instant) -> Self {
        let mut bucket = Self { bytes_per_second, balance: 0.0, filled: now };
        bucket.balance = bucket.capacity();
        bucket
    }

    /// Takes the bytes and returns how long the taker has to pause. Several takers get their shares one after the other.
    pub(super) fn take(&mut self, bytes: u64, now: Instant) -> Duration {
        let rate = self.rate();
        let elapsed = now.saturating_duration_since(self.filled);
        self.filled = self.filled.max(now);
        self.balance = elapsed.as_secs_f64().mul_add(rate, self.balance).min(self.capacity());
        #[expect(clippy::cast_precision_loss, reason = "a byte in 2^53 is not missed")]
        let bytes = bytes as f64;
        self.balance -= bytes;
        Duration::try_from_secs_f64(-self.balance / rate).unwrap_or_default()
    }

    #[expect(clippy::cast_precision_loss, reason = "a byte per second in 2^53 is not missed")]
    fn rate(&self) -> f64 {
        self.bytes_per_second.get() as f64
    }

    fn capacity(&self) -> f64 {
        self.rate() * BURST.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: NonZeroU64 = NonZeroU64::new(1_000_000).unwrap();

    /// Several downloads take pieces as soon as they may.
    #[test]
    fn downloads_together_stay_within_the_limit() {
        let start = Instant::now();
        for piece in [1_000, 16_384, 400_000] {
            let mut bucket = TokenBucket::new(RATE, start);
            let mut free_at = [start; 4];
            let mut taken = 0;
            let end = start + Duration::from_secs(10);
            while let Some(next) = free_at.iter_mut().min().filter(|next| **next < end) {
                taken += piece;
                *next += bucket.take(piece, *next).max(Duration::from_micros(1));
            }
            let most = RATE.get() * 10 + RATE.get() / 4 + piece * 4;
            assert!(taken <= most, "{taken} of {most} in pieces of {piece}");
            assert!(taken >= RATE.get() * 10, "{taken} in pieces of {piece}: the bandwidth is used");
        }
    }

    #[test]
    fn bandwidth_that_nobody_used_is_saved_for_a_moment_only() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(RATE, start);
        let later = start + Duration::from_secs(3600);
        assert_eq!(bucket.take(250_000, later), Duration::ZERO);
        let pause = bucket.take(500_000, later);
        assert!(pause.abs_diff(Duration::from_millis(500)) < Duration::from_millis(1), "{pause:?}");
    }

    #[test]
    fn clock_that_stands_still_or_runs_back_gives_nothing() {
        let start = Instant::now() + Duration::from_secs(10);
        let mut bucket = TokenBucket::new(RATE, start);
        assert_eq!(bucket.take(250_000, start), Duration::ZERO);
        assert!(bucket.take(1_000, start - Duration::from_secs(5)) > Duration::ZERO);
        assert!(bucket.take(1_000, start) > Duration::from_millis(1));
    }
}
