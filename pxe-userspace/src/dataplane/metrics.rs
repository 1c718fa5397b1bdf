//! The metrics of the ports.

use std::{fmt, sync::atomic::Ordering};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};
use pxe_common::Counter;

use super::{Dataplane, port::Port, shortfall::Service};
use crate::metrics::{Families, snake_case};

/// The counts of one port.
#[derive(Clone, Debug)]
pub struct PortCounts {
    /// The name of its interface.
    pub interface: String,
    /// How its frames reach us.
    pub service: Service,
    /// The verdicts of its XDP program; empty without one.
    pub frames: Vec<(Counter, u64)>,
    /// The losses of each receive queue.
    pub queues: Vec<QueueLosses>,
}

/// Frames that one receive queue lost.
#[derive(Clone, Copy, Debug)]
pub struct QueueLosses {
    /// The number of the queue.
    pub queue: u32,
    /// Frames that arrived while there was no room to receive them.
    pub received: u64,
    /// Replies for which there was no room.
    pub replies: u64,
}

impl PortCounts {
    /// Returns the counts of every port.
    #[must_use]
    pub fn of(dataplane: &Dataplane) -> Vec<Self> {
        let of_port = |port: &Port| Self {
            interface: port.interface().name.clone(),
            service: Service::of_port(port),
            frames: port.counters(),
            queues: port
                .queues()
                .map(|(queue, stats)| QueueLosses {
                    queue,
                    received: stats.overrun.load(Ordering::Relaxed),
                    replies: stats.unsent.load(Ordering::Relaxed),
                })
                .collect(),
        };
        dataplane.ports().map(of_port).collect()
    }
}

/// The metrics of the ports, read at each scrape.
pub struct PortMetrics<F> {
    counts: F,
}

impl<F: Fn() -> Vec<PortCounts>> PortMetrics<F> {
    /// Creates the metrics of the ports whose counts `counts` returns.
    pub fn new(counts: F) -> Self {
        Self { counts }
    }
}

impl<F> fmt::Debug for PortMetrics<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortMetrics").finish_non_exhaustive()
    }
}

impl<F: Fn() -> Vec<PortCounts> + Send + Sync + 'static> Collector for PortMetrics<F> {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let ports = (self.counts)();
        let mut families = Families::new(encoder);
        let mut family =
            families.counters("xdp_packets", "Frames by what the XDP program did with them, and the reason")?;
        for PortCounts { interface, frames, .. } in &ports {
            for (counter, count) in frames {
                let (verdict, reason) = (counter.action().name(), counter.name());
                let labels = [("interface", interface.as_str()), ("verdict", verdict), ("reason", reason)];
                family.member(&labels, *count)?;
            }
        }
        let mut family = families.counters(
            "queue_lost",
            "Frames that a receive queue lost because there was no room to receive or to reply",
        )?;
        for PortCounts { interface, queues, .. } in &ports {
            for QueueLosses { queue, received, replies } in queues {
                let queue = queue.to_string();
                for (way, count) in [("receive", received), ("reply", replies)] {
                    let labels = [("interface", interface.as_str()), ("queue", queue.as_str()), ("way", way)];
                    family.member(&labels, *count)?;
                }
            }
        }
        let mut family = families.gauges("port", "Interfaces served, by how their frames reach pxed")?;
        for PortCounts { interface, service, .. } in &ports {
            family.member(&[("interface", interface.as_str()), ("path", &snake_case(service.path.name()))], 1)?;
        }
        let help = "Shortcomings of how an interface is served: a slower path than wanted, receive queues that nobody serves, and those \
                    whose frames are copied";
        let mut family = families.gauges("port_shortfall", help)?;
        for PortCounts { interface, service, .. } in &ports {
            let shortfalls =
                [("path", u32::from(service.is_slower)), ("queues", service.unserved()), ("copies", service.copying)];
            for (of, count) in shortfalls {
                family.member(&[("interface", interface.as_str()), ("of", of)], u64::from(count))?;
            }
        }
        Ok(())
    }
}
