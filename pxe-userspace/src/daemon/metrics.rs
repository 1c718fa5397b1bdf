//! The registry behind `/metrics`: everything that pxed exposes.

use std::{fmt, sync::Arc};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, registry::Registry};

use super::images::FetchMetrics;
use crate::{
    dataplane::{
        counters::ReplyCounters,
        metrics::{PortCounts, PortMetrics},
    },
    descriptors::DescriptorMetrics,
    http,
    journal::Journal,
    logging,
    metrics::Families,
    mistakes,
    model::{
        confinement::SharedConfinement,
        event::EventSink,
        finding::{AllSpecFaults, SpecFaults},
        images::SharedImages,
        inventory::Machine,
        nodes::{Owner, SharedNodes},
    },
    process_metrics::{BuildMetrics, ProcessMetrics},
    tftp,
};

/// The sources of all metrics.
pub(super) struct Metered<'a, F> {
    pub(super) fetch: &'a FetchMetrics,
    pub(super) images: &'a SharedImages,
    pub(super) tftp: &'a tftp::Metrics,
    pub(super) http: &'a http::Metrics,
    pub(super) journal: &'a Arc<Journal>,
    pub(super) events: &'a EventSink,
    pub(super) replies: &'a ReplyCounters,
    pub(super) nodes: &'a SharedNodes,
    pub(super) faults: &'a AllSpecFaults,
    pub(super) confinement: &'a SharedConfinement,
    /// Returns the counts of the ports.
    pub(super) ports: F,
}

/// Returns the registry of all metrics. Their names begin with `pxed_`, except for those that every Prometheus client has.
pub(super) fn registry<F>(metered: Metered<'_, F>) -> Registry
where
    F: Fn() -> Vec<PortCounts> + Send + Sync + 'static,
{
    let Metered { fetch, images, tftp, http, journal, events, replies, nodes, faults, confinement, ports } = metered;
    let mut all = Registry::default();
    all.register_collector(Box::new(DescriptorMetrics));
    all.register_collector(Box::new(ProcessMetrics));
    let registry = all.sub_registry_with_prefix("pxed");
    registry.register_collector(Box::new(BuildMetrics));
    fetch.register(Arc::clone(images), registry);
    tftp.register(registry);
    http.register(registry);
    replies.register(registry);
    journal.register(events, registry);
    registry.register_collector(Box::new(NodeMetrics { nodes: Arc::clone(nodes), journal: Arc::clone(journal) }));
    let help = "Log lines dropped because standard error was not read or not writable";
    registry.register("log_lines_dropped", help, logging::dropped());
    registry.register("panics", "Panics of pxed since its start, each a defect", mistakes::panics());
    registry.register_collector(Box::new(PortMetrics::new(ports)));
    registry.register_collector(Box::new(SpecMetrics(faults.clone())));
    registry.register_collector(Box::new(ConfinementMetrics(Arc::clone(confinement))));
    all
}

/// The nodes, counted when the metrics are read.
#[derive(Debug)]
struct NodeMetrics {
    nodes: SharedNodes,
    journal: Arc<Journal>,
}

impl Collector for NodeMetrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (nodes, inventory) = (self.nodes.load(), self.journal.inventory());
        let living = 1 + nodes.peers().iter().filter(|peer| peer.is_alive).count();
        let is_owned = |machine: &Arc<Machine>| nodes.owner(machine.site.address, machine.mac) == Owner::This;
        let owned = inventory.machines().iter().filter(|machine| is_owned(machine)).count();
        let mut families = Families::new(encoder);
        let mut family = families.gauges("nodes", "Nodes that share the fleet, this one included, by state")?;
        family.member(&[("state", "alive")], living as u64)?;
        family.member(&[("state", "dead")], (1 + nodes.peers().len() - living) as u64)?;
        let mut family = families.gauges("machines_owned", "Machines that this node answers first")?;
        family.member(&[("by", "this"); 0], owned as u64)
    }
}

/// The errors of the specs, counted when the metrics are read.
#[derive(Debug)]
struct SpecMetrics(AllSpecFaults);

impl Collector for SpecMetrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let AllSpecFaults { clusters, matchbox } = &self.0;
        let specs = [("cluster", clusters.load_full()), ("matchbox", matchbox.load_full())];
        let affected = |faults: &SpecFaults, is_kept: bool| {
            faults.affected.iter().filter(|affected| affected.is_kept == is_kept).count()
        };
        let mut families = Families::new(encoder);
        let mut gauges = |name, help, count: &dyn Fn(&SpecFaults) -> usize| {
            let mut family = families.gauges(name, help)?;
            specs.iter().try_for_each(|(spec, faults)| family.member(&[("spec", *spec)], count(faults) as u64))
        };
        gauges("spec_valid", "Whether nothing of the spec was refused: 1 or 0", &|faults| faults.is_valid().into())?;
        gauges("spec_errors", "Errors of the spec", &|faults| faults.faults.len())?;
        let help = "Machines of the cluster spec and groups of Matchbox that errors leave out";
        gauges("spec_objects_left_out", help, &|faults| affected(faults, false))?;
        let help = "Machines of the cluster spec and groups of Matchbox that errors keep in their last good version";
        gauges("spec_objects_kept", help, &|faults| affected(faults, true))
    }
}

/// The privileges that this process has given up.
#[derive(Debug)]
struct ConfinementMetrics(SharedConfinement);

impl Collector for ConfinementMetrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families::new(encoder);
        let help = "Measures by which pxed confines itself: 1 in force, 0 not";
        let mut family = families.gauges("confinement", help)?;
        let mut measures = self.0.measures.iter();
        measures.try_for_each(|measure| family.member(&[("measure", measure.name)], measure.in_force.into()))
    }
}

#[cfg(test)]
mod tests;
