//! The metrics of the journal.

use std::{fmt, sync::Arc, time::SystemTime};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, registry::Registry};

use super::{
    cluster_counts::ClusterCounts,
    service::{Counts, Journal},
    step::Step,
};
use crate::{
    metrics::{Families, snake_case},
    model::event::EventSink,
};

impl Journal {
    /// Registers the metrics of the journal, and of the sink that feeds it.
    pub fn register(self: &Arc<Self>, sink: &EventSink, registry: &mut Registry) {
        let Counts { events, unknown, not_saved, log_dropped, history } = self.counts();
        registry.register("boot_events", "Boot events taken into the journal", events.clone());
        let help = "Boot events of machines that are not in the spec";
        registry.register("boot_events_of_unknown", help, unknown.clone());
        let help = "Boot events lost because the journal lagged";
        registry.register("boot_events_dropped", help, sink.dropped_counter());
        let help = "Boot events not logged because the log lagged";
        registry.register("boot_log_lines_dropped", help, log_dropped.clone());
        let help = "Times that the state directory could not be written";
        registry.register("state_write_failures", help, not_saved.clone());
        let help = "Boot events written to the history on disk";
        registry.register("history_events", help, history.written.clone());
        let help = "Boot events missing in the history on disk, because the disk was slow, full or refused them";
        registry.register("history_events_dropped", help, history.dropped.clone());
        let help = "Bytes written to the history on disk";
        registry.register("history_written_bytes", help, history.bytes.clone());
        registry.register_collector(Box::new(StageMetrics(Arc::clone(self))));
        registry.register_collector(Box::new(ClusterMetrics(Arc::clone(self))));
        registry.register_collector(Box::new(self.times().clone()));
    }
}

/// The machines by stage, counted when the metrics are read.
#[derive(Debug)]
struct StageMetrics(Arc<Journal>);

impl Collector for StageMetrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families::new(encoder);
        let mut family = families.gauges("machines", "Machines of the spec by boot stage")?;
        for (stage, machines) in self.0.stages() {
            family.member(&[("stage", snake_case(stage.name()))], machines)?;
        }
        Ok(())
    }
}

/// The clusters that have members of their own in a family. The others are taken together, so that their number has no effect on monitoring.
const CLUSTERS: usize = 100;

/// The machines by cluster and step, counted when the metrics are read.
#[derive(Debug)]
struct ClusterMetrics(Arc<Journal>);

impl Collector for ClusterMetrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let clusters = self.0.clusters(SystemTime::now());
        let mut others = ClusterCounts::default();
        clusters.values().skip(CLUSTERS).for_each(|counts| others.merge(counts));
        let own = clusters.iter().take(CLUSTERS).map(|(name, counts)| (&**name, counts));
        let rest = (clusters.len() > CLUSTERS).then_some(("(others)", &others));
        let mut families = Families::new(encoder);
        let mut family = families.gauges("cluster_machines", "Machines of each cluster by step of their boot")?;
        let all = own.chain(rest);
        for (cluster, counts) in all.clone() {
            for (step, count) in Step::ALL.into_iter().zip(counts.steps) {
                family.member(&[("cluster", cluster.to_owned()), ("step", snake_case(step.name()))], count)?;
            }
        }
        let help = "Machines of each cluster that are at a step of their boot for much longer than others";
        let mut family = families.gauges("machines_stuck", help)?;
        for (cluster, counts) in all {
            family.member(&[("cluster", cluster.to_owned())], counts.stuck)?;
        }
        Ok(())
    }
}
