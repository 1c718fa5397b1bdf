//! The journal's metrics, counted when they are asked for.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use super::service::Journal;
use crate::model::event::EventSink;

impl Journal {
    /// Adds the metrics of the journal, and of the sink that feeds it, to a registry.
    pub fn register(self: &Arc<Self>, sink: &EventSink, registry: &mut Registry) {
        let metrics = JournalMetrics { journal: Arc::clone(self), dropped: sink.dropped_counter() };
        registry.register_collector(Box::new(metrics));
    }
}

#[derive(Debug)]
struct JournalMetrics {
    journal: Arc<Journal>,
    dropped: Arc<AtomicU64>,
}

impl Collector for JournalMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let counts = self.journal.counts();
        let dropped = self.dropped.load(Ordering::Relaxed);
        let mut counter = |name: &str, help: &str, value: u64| {
            let counter = ConstCounter::new(value);
            let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(metric)
        };
        counter("pxed_boot_events", "Boot events taken into the journal.", counts.events)?;
        counter("pxed_boot_events_of_unknown", "Boot events of machines that are not in the spec.", counts.unknown)?;
        counter("pxed_boot_events_dropped", "Boot events forgotten because the journal lagged.", dropped)?;
        counter("pxed_boot_log_lines_dropped", "Boot events not logged because the log lagged.", counts.log_dropped)?;
        counter("pxed_state_write_failures", "Times that the state directory could not be written.", counts.not_saved)?;
        let mut metric = encoder.encode_descriptor(
            "pxed_machines",
            "Machines of the spec by boot stage.",
            None,
            ConstGauge::new(0_u64).metric_type(),
        )?;
        for (stage, machines) in self.journal.stages() {
            ConstGauge::new(machines).encode(metric.encode_family(&[("stage", stage.name())])?)?;
        }
        Ok(())
    }
}
