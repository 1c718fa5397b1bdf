//! A histogram of latencies, in constant space.

use std::time::Duration;

use serde::Serialize;

/// The number of buckets for each power of two. It gives a precision of 3 %.
const CUTS: u32 = 32;
/// The buckets from 2^10 ns (1 µs) up to 2^40 ns (18 minutes). Values outside count as the nearest.
const BUCKETS: usize = (40 - 10) * CUTS as usize;

/// The counts of latencies, and the exact longest one.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    longest: Duration,
}

/// Percentiles of latencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Latencies {
    /// The number of events.
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
    /// Adds an event.
    pub(crate) fn add(&mut self, latency: Duration) {
        self.counts[bucket(latency)] += 1;
        self.total += 1;
        self.longest = self.longest.max(latency);
    }

    /// Returns the percentiles, or `None` if there was no event.
    pub(crate) fn latencies(&self) -> Option<Latencies> {
        (self.total > 0).then(|| Latencies {
            count: self.total,
            p50: self.percentile(50),
            p90: self.percentile(90),
            p99: self.percentile(99),
            max: self.longest,
        })
    }

    /// Returns a percentile by the nearest-rank method, as the upper edge of its bucket.
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

/// Returns the number of the bucket: the power of two (from 2^10), then the next five bits.
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
    fn percentiles_are_precise_to_three_percent() {
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
    fn every_latency_has_a_bucket() {
        let mut histogram = Histogram::default();
        for latency in [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(u64::MAX)] {
            histogram.add(latency);
        }
        assert_eq!(histogram.latencies().unwrap().max, Duration::from_secs(u64::MAX));
    }

    #[test]
    fn buckets_contain_their_values() {
        for nanos in (1024..1 << 20).step_by(37) {
            let latency = Duration::from_nanos(nanos);
            let bucket = bucket(latency);
            assert!(latency < upper_edge(bucket), "{nanos}");
            assert!(bucket == 0 || latency >= upper_edge(bucket - 1), "{nanos}");
        }
    }
}
