//! The parts that the metrics of all modules are made of: labels with a fixed set of values, counters by such a label, and
//! the encoder of families whose members are known only when the metrics are read.
//!
//! Names and labels are a contract with dashboards and alerts. A value of an enumeration is lower case, with words joined by
//! underscores, and each is exposed from the start, with the count 0.

pub mod histogram;

use std::{
    fmt,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// An enumeration whose variants are the values of a label.
pub trait Label: Copy + Send + Sync + 'static {
    /// The name of the label.
    const NAME: &'static str;

    /// Every value, in the order in which they are exposed.
    const ALL: &'static [Self];

    /// Returns the value as it is exposed.
    fn value(self) -> &'static str;

    /// Returns the position of the value in [`Self::ALL`].
    fn index(self) -> usize;
}

/// Defines an enumeration and how its variants are spelled as values of a label.
macro_rules! label {
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $name:ident: $label:literal {
            $($(#[$of_variant:meta])* $variant:ident = $value:literal,)+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        $visibility enum $name {
            $($(#[$of_variant])* $variant,)+
        }

        impl $crate::metrics::Label for $name {
            const NAME: &'static str = $label;
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn value(self) -> &'static str {
                match self {
                    $(Self::$variant => $value,)+
                }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}
pub(crate) use label;

/// Counters, one for each value of a label. Clones share the counts.
pub struct Counters<L> {
    counts: Arc<[AtomicU64]>,
    label: PhantomData<L>,
}

impl<L: Label> Counters<L> {
    /// Adds one to the counter of this value.
    pub fn increment(&self, value: L) {
        if let Some(count) = self.counts.get(value.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the count of this value.
    #[must_use]
    pub fn get(&self, value: L) -> u64 {
        self.counts.get(value.index()).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

impl<L: Label> Default for Counters<L> {
    fn default() -> Self {
        Self { counts: L::ALL.iter().map(|_| AtomicU64::new(0)).collect(), label: PhantomData }
    }
}

impl<L> Clone for Counters<L> {
    fn clone(&self) -> Self {
        Self { counts: Arc::clone(&self.counts), label: PhantomData }
    }
}

impl<L: Label> fmt::Debug for Counters<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(L::ALL.iter().map(|&value| (value.value(), self.get(value)))).finish()
    }
}

impl<L: Label> EncodeMetric for Counters<L> {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        let mut family = Family { encoder, metric_type: MetricType::Counter };
        L::ALL.iter().try_for_each(|&value| family.member(&[(L::NAME, value.value())], self.get(value)))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

/// Encodes families whose members are known only when the metrics are read.
pub struct Families<'a>(DescriptorEncoder<'a>);

impl<'a> Families<'a> {
    /// Wraps the encoder that a collector is given.
    pub fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    /// Begins a family of counters. `help` is a sentence without its period, as in [`Registry::register`].
    ///
    /// # Errors
    ///
    /// If the text cannot be written.
    ///
    /// [`Registry::register`]: prometheus_client::registry::Registry::register
    pub fn counters<'s>(&'s mut self, name: &'s str, help: &str) -> Result<Family<'s>, fmt::Error> {
        self.family(name, help, MetricType::Counter)
    }

    /// Begins a family of gauges.
    ///
    /// # Errors
    ///
    /// If the text cannot be written.
    pub fn gauges<'s>(&'s mut self, name: &'s str, help: &str) -> Result<Family<'s>, fmt::Error> {
        self.family(name, help, MetricType::Gauge)
    }

    /// Encodes a gauge without labels.
    ///
    /// # Errors
    ///
    /// If the text cannot be written.
    pub fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let gauge = ConstGauge::new(value);
        let encoder = self.0.encode_descriptor(name, &format!("{help}."), None, MetricType::Gauge)?;
        gauge.encode(encoder)
    }

    /// Encodes a counter of seconds without labels.
    ///
    /// # Errors
    ///
    /// If the text cannot be written.
    pub fn counter_of_seconds(&mut self, name: &str, help: &str, seconds: f64) -> fmt::Result {
        let encoder = self.0.encode_descriptor(name, &format!("{help}."), None, MetricType::Counter)?;
        ConstCounter::new(seconds).encode(encoder)
    }

    /// Encodes a gauge of seconds without labels.
    ///
    /// # Errors
    ///
    /// If the text cannot be written.
    pub fn gauge_of_seconds(&mut self, name: &str, help: &str, seconds: f64) -> fmt::Result {
        let encoder = self.0.encode_descriptor(name, &format!("{help}."), None, MetricType::Gauge)?;
        ConstGauge::new(seconds).encode(encoder)
    }

    fn family<'s>(&'s mut self, name: &'s str, help: &str, metric_type: MetricType) -> Result<Family<'s>, fmt::Error> {
        let encoder = self.0.encode_descriptor(name, &format!("{help}."), None, metric_type)?;
        Ok(Family { encoder, metric_type })
    }
}

/// A family that is being encoded.
pub struct Family<'a> {
    encoder: MetricEncoder<'a>,
    metric_type: MetricType,
}

impl Family<'_> {
    /// Encodes one member.
    ///
    /// # Errors
    ///
    /// If the text cannot be written.
    pub fn member(&mut self, labels: &impl EncodeLabelSet, value: u64) -> fmt::Result {
        let encoder = self.encoder.encode_family(labels)?;
        match self.metric_type {
            MetricType::Counter => ConstCounter::new(value).encode(encoder),
            _ => ConstGauge::new(value).encode(encoder),
        }
    }
}

/// Spells a name of ours that is written with hyphens elsewhere as the value of a label.
#[must_use]
pub fn snake_case(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text, registry::Registry};

    use super::*;

    label! {
        enum Fruit: "fruit" {
            Apple = "apple",
            SourCherry = "sour_cherry",
        }
    }

    #[test]
    fn counters_are_exposed_from_the_start() {
        let counters = Counters::<Fruit>::default();
        let mut registry = Registry::default();
        registry.register("eaten", "Fruit eaten", counters.clone());
        counters.increment(Fruit::SourCherry);
        let mut exposed = String::new();
        text::encode(&mut exposed, &registry).unwrap();
        let expected = "# HELP eaten Fruit eaten.\n# TYPE eaten counter\neaten_total{fruit=\"apple\"} 0\n\
                        eaten_total{fruit=\"sour_cherry\"} 1\n# EOF\n";
        assert_eq!(exposed, expected);
        assert_eq!((counters.get(Fruit::Apple), counters.get(Fruit::SourCherry)), (0, 1));
    }
}
