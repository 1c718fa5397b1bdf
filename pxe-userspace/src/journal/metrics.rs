//! The journal's metrics, counted when they are asked for.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use super::keeper::Journal;

/// Adds the journal's metrics to a registry.
pub(super) fn register(journal: Arc<Journal>, registry: &mut Registry) {
    registry.register_collector(Box::new(JournalMetrics(journal)));
}

#[derive(Debug)]
struct JournalMetrics(Arc<Journal>);

impl Collector for JournalMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let counts = self.0.counts();
        let mut counter = |name: &str, help: &str, value: u64| {
            let counter = ConstCounter::new(value);
            let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(metric)
        };
        counter("pxed_boot_events", "Boot events taken into the journal.", counts.events)?;
        counter("pxed_boot_events_of_unknown", "Boot events of machines that are not in the spec.", counts.unknown)?;
        counter("pxed_boot_log_lines_dropped", "Boot events not logged because the log lagged.", counts.log_dropped)?;
        counter("pxed_state_write_failures", "Times that the state directory could not be written.", counts.not_saved)?;
        let mut metric = encoder.encode_descriptor(
            "pxed_machines",
            "Machines of the spec by boot stage.",
            None,
            ConstGauge::new(0_u64).metric_type(),
        )?;
        for (stage, machines) in self.0.stages() {
            ConstGauge::new(machines).encode(metric.encode_family(&[("stage", stage.name())])?)?;
        }
        Ok(())
    }
}
