//! Latencies of any number of events in a bounded space.

use std::time::Duration;

use serde::Serialize;

/// Each power of two is cut into so many: a value is known to 3 %.
const CUTS: u32 = 32;
/// From 2 µs up to 2^40 ns, 18 minutes; what is shorter or longer counts as that.
const BUCKETS: usize = (40 - 10) * CUTS as usize;

/// How often which latency came. The shortest and the longest are exact.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    longest: Duration,
}

/// What people ask of latencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Latencies {
    /// Of how many events.
    pub count: u64,
    /// The median.
    #[serde(rename = "p50_us", serialize_with = "micros")]
    pub p50: Duration,
    /// The 90th percentile.
    #[serde(rename = "p90_us", serialize_with = "micros")]
    pub p90: Duration,
    /// The 99th percentile.
    #[serde(rename = "p99_us", serialize_with = "micros")]
    pub p99: Duration,
    /// The longest.
    #[serde(rename = "max_us", serialize_with = "micros")]
    pub max: Duration,
}

fn micros<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_nanos() as f64 / 1e3)
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, longest: Duration::ZERO }
    }
}

impl Histogram {
    pub(super) fn add(&mut self, latency: Duration) {
        self.counts[bucket(latency)] += 1;
        self.total += 1;
        self.longest = self.longest.max(latency);
    }

    /// None of nothing.
    pub(super) fn latencies(&self) -> Option<Latencies> {
        (self.total > 0).then(|| Latencies {
            count: self.total,
            p50: self.percentile(50),
            p90: self.percentile(90),
            p99: self.percentile(99),
            max: self.longest,
        })
    }

    /// By the nearest rank, as the upper edge of its bucket.
    fn percentile(&self, percent: u64) -> Duration {
        let mut left = (self.total * percent).div_ceil(100);
        for (bucket, &count) in self.counts.iter().enumerate() {
            if count >= left {
                return upper_edge(bucket).min(self.longest);
            }
            left -= count;
        }
        self.longest
    }
}

/// The power of two (from 2^10), then the next five bits.
fn bucket(latency: Duration) -> usize {
    let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1 << 10);
    let power = nanos.ilog2();
    let cut = (nanos >> (power - CUTS.ilog2())) as u32 - CUTS;
    (((power - 10) * CUTS + cut) as usize).min(BUCKETS - 1)
}

fn upper_edge(bucket: usize) -> Duration {
    let (power, cut) = (bucket as u32 / CUTS + 10, bucket as u64 % u64::from(CUTS));
    Duration::from_nanos((u64::from(CUTS) + cut + 1) << (power - CUTS.ilog2()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_three_percent() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.latencies(), None);
        for millis in 1..=1000 {
            histogram.add(Duration::from_millis(millis));
        }
        let found = histogram.latencies().unwrap();
        assert_eq!((found.count, found.max), (1000, Duration::from_secs(1)));
        for (got, exact) in [(found.p50, 0.5), (found.p90, 0.9), (found.p99, 0.99)] {
            assert!((1.0..1.04).contains(&(got.as_secs_f64() / exact)), "{got:?} for {exact}");
        }
    }

    #[test]
    fn any_latency_has_a_bucket() {
        let mut histogram = Histogram::default();
        for latency in [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(u64::MAX)] {
            histogram.add(latency);
        }
        assert_eq!(histogram.latencies().unwrap().max, Duration::from_secs(u64::MAX));
    }

    #[test]
    fn a_value_lies_below_the_edge_of_its_bucket_and_not_below_the_last() {
        for nanos in (1024..1 << 20).step_by(37) {
            let latency = Duration::from_nanos(nanos);
            let bucket = bucket(latency);
            assert!(latency < upper_edge(bucket), "{nanos}");
            assert!(bucket == 0 || latency >= upper_edge(bucket - 1), "{nanos}");
        }
    }
}
