//! What the dataplane counts, as metrics.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use pxe_common::Counter;

use super::{Dataplane, counters::ReplyCounters};
use crate::dhcp::Reason;

/// The dataplane's metrics, read when they are asked for.
#[derive(Clone)]
pub struct DataplaneMetrics {
    dataplane: Arc<Mutex<Dataplane>>,
    replies: Arc<ReplyCounters>,
}

impl DataplaneMetrics {
    /// The metrics of a dataplane and of the replies that its workers count.
    #[must_use]
    pub fn new(dataplane: Arc<Mutex<Dataplane>>, replies: Arc<ReplyCounters>) -> Self {
        Self { dataplane, replies }
    }
}

impl fmt::Debug for DataplaneMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataplaneMetrics").finish_non_exhaustive()
    }
}

impl Collector for DataplaneMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let ReplyCounters { offers, acks, naks, silences, refused } = &*self.replies;
        let mut metric = encoder.encode_descriptor("pxed_dhcp_replies", "DHCP replies", None, MetricType::Counter)?;
        for (message, count) in [("offer", offers), ("ack", acks), ("nak", naks)] {
            ConstCounter::new(count.load(Ordering::Relaxed)).encode(metric.encode_family(&[("message", message)])?)?;
        }
        let mut metric = encoder.encode_descriptor(
            "pxed_dhcp_silences",
            "DHCP packets of known machines left unanswered",
            None,
            MetricType::Counter,
        )?;
        for (reason, count) in Reason::ALL.iter().zip(silences) {
            let labels = [("reason", reason.name())];
            ConstCounter::new(count.load(Ordering::Relaxed)).encode(metric.encode_family(&labels)?)?;
        }

        let mut metric = encoder.encode_descriptor(
            "pxed_socket_frames_refused",
            "Frames that came past XDP, to the packet socket, and were not answered",
            None,
            MetricType::Counter,
        )?;
        for (reason, count) in Counter::ALL.iter().zip(refused) {
            let labels = [("reason", reason.name())];
            ConstCounter::new(count.load(Ordering::Relaxed)).encode(metric.encode_family(&labels)?)?;
        }

        let dataplane = self.dataplane.lock().unwrap_or_else(PoisonError::into_inner);
        let mut metric = encoder.encode_descriptor(
            "pxed_xdp_packets",
            "Frames by what the XDP program did with them and why",
            None,
            MetricType::Counter,
        )?;
        for port in dataplane.ports() {
            let interface = port.interface().name.as_str();
            for (counter, count) in port.counters() {
                let labels =
                    [("interface", interface), ("verdict", counter.action().name()), ("reason", counter.name())];
                ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
            }
        }
        let mut metric = encoder.encode_descriptor(
            "pxed_queue_lost",
            "Frames that a receive queue lost: no room to receive, or none to reply",
            None,
            MetricType::Counter,
        )?;
        for port in dataplane.ports() {
            for (index, queue) in port.queues() {
                let index = index.to_string();
                for (way, count) in [("receive", &queue.overrun), ("reply", &queue.unsent)] {
                    let labels =
                        [("interface", port.interface().name.as_str()), ("queue", index.as_str()), ("way", way)];
                    ConstCounter::new(count.load(Ordering::Relaxed)).encode(metric.encode_family(&labels)?)?;
                }
            }
        }
        let mut metric = encoder.encode_descriptor(
            "pxed_port",
            "Interfaces served, by how their frames reach us",
            None,
            MetricType::Gauge,
        )?;
        for port in dataplane.ports() {
            let labels = [("interface", port.interface().name.as_str()), ("path", port.path().name())];
            ConstGauge::new(1_i64).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
