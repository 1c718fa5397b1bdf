//! The times at which machines are powered on.

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use crate::chance::Chance;

/// The distribution of a fleet's power-ons over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Arrival {
    /// Power comes back: all machines in the same moment
    AtOnce,
    /// One after the other, evenly over --over-seconds
    Ramp,
    /// By chance, as if each were switched on by somebody else: all in about --over-seconds
    Poisson,
}

impl Arrival {
    /// Returns when each machine is powered on, counted from the start of the rehearsal, in ascending order.
    pub(crate) fn times(self, machines: usize, over: Duration, seed: u64) -> Vec<Duration> {
        let mean = over.as_secs_f64() / machines.max(1) as f64;
        let mut chance = Chance::new(seed, ARRIVALS);
        let mut at = 0.0;
        (0..machines)
            .map(|index| match self {
                Self::AtOnce => Duration::ZERO,
                Self::Ramp => Duration::from_secs_f64(mean * index as f64),
                Self::Poisson => {
                    // The gaps of a Poisson process are exponential; 1 - x is never 0.
                    at -= mean * (1.0 - chance.fraction()).ln();
                    Duration::from_secs_f64(at)
                }
            })
            .collect()
    }
}

/// The stream of random numbers that the arrivals draw from.
const ARRIVALS: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    const OVER: Duration = Duration::from_secs(100);

    #[test]
    fn ramp_is_even_and_at_once_has_no_gaps() {
        assert_eq!(Arrival::AtOnce.times(3, OVER, 1), [Duration::ZERO; 3]);
        assert_eq!(Arrival::Ramp.times(4, OVER, 1).iter().map(Duration::as_secs).collect::<Vec<_>>(), [0, 25, 50, 75]);
        assert!(Arrival::Ramp.times(0, OVER, 1).is_empty());
    }

    #[test]
    fn poisson_arrivals_are_exponential_and_repeatable() {
        let times = Arrival::Poisson.times(10_000, OVER, 7);
        assert_eq!(times, Arrival::Poisson.times(10_000, OVER, 7));
        assert_ne!(times, Arrival::Poisson.times(10_000, OVER, 8));
        assert!(times.is_sorted());
        let last = times.last().unwrap().as_secs_f64();
        assert!((95.0..105.0).contains(&last), "{last}");
        // A share of 1 - 1/e of exponential gaps is shorter than their mean.
        let mean = Duration::from_millis(10);
        let short = times.windows(2).filter(|pair| pair[1] - pair[0] < mean).count();
        assert!((6150..6500).contains(&short), "{short}");
    }
}
