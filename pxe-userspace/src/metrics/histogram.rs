//! Histograms of durations that threads observe without a lock.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};

/// Durations, counted by the first bound in seconds that they do not exceed. Clones share the counts.
#[derive(Clone, Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One for each bound, and one for what exceeds all of them.
    counts: Arc<[AtomicU64]>,
    nanoseconds: Arc<AtomicU64>,
}

impl Histogram {
    /// Creates a histogram with these bounds in seconds, in ascending order.
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, nanoseconds: Arc::default() }
    }

    /// Counts a duration.
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let index = self.bounds.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get(index) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Returns the number of durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(self.counts.iter().map(|count| count.load(Ordering::Relaxed))).collect();
        // The sum of the buckets, which may have grown meanwhile.
        let count = buckets.iter().map(|(_, count)| count).sum();
        let seconds = self.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9;
        encoder.encode_histogram::<NoLabelSet>(seconds, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text, registry::Registry};

    use super::*;

    #[test]
    fn durations_are_in_the_bucket_of_the_first_bound_that_they_do_not_exceed() {
        let histogram = Histogram::new(&[0.5, 2.0]);
        for milliseconds in [0, 500, 501, 2_000, 2_001, 60_000] {
            histogram.observe(Duration::from_millis(milliseconds));
        }
        let mut registry = Registry::default();
        registry.register("took_seconds", "Time", histogram.clone());
        let mut exposed = String::new();
        text::encode(&mut exposed, &registry).unwrap();
        let expected = "# HELP took_seconds Time.\n# TYPE took_seconds histogram\ntook_seconds_sum 65.002\ntook_seconds_count 6\n\
                        took_seconds_bucket{le=\"0.5\"} 2\ntook_seconds_bucket{le=\"2.0\"} 4\ntook_seconds_bucket{le=\"+Inf\"} 6\n# EOF\n";
        assert_eq!(exposed, expected);
        assert_eq!(histogram.count(), 6);
    }
}
