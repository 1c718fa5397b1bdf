//! The registry behind `/metrics`: everything that pxed exposes.

use std::sync::Arc;

use prometheus_client::registry::Registry;

use crate::{
    dataplane::{
        counters::ReplyCounters,
        metrics::{PortCounts, PortMetrics},
    },
    http,
    journal::Journal,
    logging,
    model::event::EventSink,
    tftp,
};

/// The sources of all metrics.
pub(super) struct Metered<'a, F> {
    pub(super) tftp: &'a tftp::Metrics,
    pub(super) http: &'a http::Metrics,
    pub(super) journal: &'a Arc<Journal>,
    pub(super) events: &'a EventSink,
    pub(super) replies: &'a ReplyCounters,
    /// Returns the counts of the ports.
    pub(super) ports: F,
}

/// Returns the registry of all metrics, each under a name that begins with `pxed_`.
pub(super) fn registry<F>(metered: Metered<'_, F>) -> Registry
where
    F: Fn() -> Vec<PortCounts> + Send + Sync + 'static,
{
    let Metered { tftp, http, journal, events, replies, ports } = metered;
    let mut registry = Registry::with_prefix("pxed");
    tftp.register(&mut registry);
    http.register(&mut registry);
    replies.register(&mut registry);
    journal.register(events, &mut registry);
    let help = "Log lines dropped because standard error was not read or not writable";
    registry.register("log_lines_dropped", help, logging::dropped());
    registry.register_collector(Box::new(PortMetrics::new(ports)));
    registry
}

#[cfg(test)]
mod tests;
