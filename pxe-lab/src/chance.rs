//! Repeatable random numbers.

use std::{
    env,
    time::{Duration, SystemTime},
};

/// The variable that names the seed of tests that draw random numbers. By default each run has a new one, and prints it.
pub const SEED: &str = "PXED_TEST_SEED";

/// A SplitMix64 generator (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Creates a generator. The same seed gives the same numbers.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next 64 bits.
    pub const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `limit`, which must not be 0.
    pub const fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit
    }

    /// Returns `true` in this share of the cases.
    pub const fn happens(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Returns a time between these, in milliseconds.
    pub fn between(&mut self, from: Duration, to: Duration) -> Duration {
        let (from, to) = (from.as_millis() as u64, to.as_millis() as u64);
        Duration::from_millis(from + self.below((to - from).max(1)))
    }
}

/// Returns the seed that [`SEED`] names, or a new one.
#[must_use]
pub fn seed() -> u64 {
    let new = || SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| u64::from(since.subsec_nanos()));
    env::var(SEED).ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_published_ones_and_stay_within_their_limits() {
        let mut chance = Chance::new(1_234_567);
        assert_eq!([chance.draw(), chance.draw()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
        let times = [Duration::from_millis(10), Duration::from_millis(20)];
        assert!((0..1000).all(|_| (times[0]..times[1]).contains(&chance.between(times[0], times[1]))));
        let happened = (0..10_000).filter(|_| chance.happens(30)).count();
        assert!((2800..3200).contains(&happened), "{happened}");
    }
}
