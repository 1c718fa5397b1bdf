//! Counters and gauges.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// Counters and gauges of the TFTP server, shared by its workers.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Datagrams that reached the listening socket.
    pub requests: Counter,
    /// Requests and datagrams that were refused, by reason.
    pub refused: Family<RefusedLabels, Counter>,
    /// Transfers that ended, by result.
    pub transfers: Family<TransferLabels, Counter>,
    /// Running transfers.
    pub active: Gauge,
    /// Bytes of files that clients have acknowledged.
    pub bytes: Counter<u64, AtomicU64>,
    /// Retransmissions, because an acknowledgement did not come in time.
    pub timeouts: Counter,
    /// Datagrams that the kernel refused to send.
    pub send_errors: Counter,
    /// Datagrams for a transfer that does not exist (any more).
    pub strays: Counter,
    /// Requests from addresses that belong to no machine of the cluster spec.
    pub unknown_clients: Counter,
}

/// A reason for refusing a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "they are the values of the label")]
pub enum RefusedReason {
    /// There is no such file.
    not_found,
    /// The path leads out of the artifacts directory.
    outside,
    /// The file cannot be read.
    unreadable,
    /// The server is read-only.
    write,
    /// The mode is `mail` or unknown.
    mode,
    /// The datagram is not a TFTP request.
    malformed,
    /// The address is neither a machine's nor in a network of ours.
    foreign,
    /// The limit of transfers is reached, in all or for this client's address; or requests come faster than they can be read.
    busy,
}

/// The result of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "they are the values of the label")]
pub enum TransferResult {
    /// The client acknowledged the whole file.
    done,
    /// The client asked for the length only.
    probed,
    /// The client sent an error.
    aborted,
    /// Everything was sent, and the end not acknowledged.
    unconfirmed,
    /// The client fell silent.
    silent,
    /// The client started over before the end.
    restarted,
    /// The file changed or could not be read.
    file_error,
}

/// Labels of [`Metrics::refused`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RefusedLabels {
    /// The reason.
    pub reason: RefusedReason,
}

/// Labels of [`Metrics::transfers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TransferLabels {
    /// The result.
    pub result: TransferResult,
}

impl Metrics {
    /// Registers all of them as `tftp_…`.
    pub fn register(&self, registry: &mut Registry) {
        let Self { requests, refused, transfers, active, bytes, timeouts, send_errors, strays, unknown_clients } = self;
        let registry = registry.sub_registry_with_prefix("tftp");
        registry.register("requests", "Datagrams that reached the listening socket", requests.clone());
        registry.register("refused", "Requests that were refused, by reason", refused.clone());
        registry.register("transfers", "Transfers that ended, by result", transfers.clone());
        registry.register("active_transfers", "Running transfers", active.clone());
        registry.register("acknowledged_bytes", "Bytes of files that clients have acknowledged", bytes.clone());
        registry.register("timeouts", "Acknowledgements that did not come in time", timeouts.clone());
        registry.register("send_errors", "Datagrams that the kernel refused to send", send_errors.clone());
        registry.register("stray_datagrams", "Datagrams for a transfer that does not exist", strays.clone());
        registry.register(
            "unknown_clients",
            "Requests from addresses that belong to no machine of the cluster spec",
            unknown_clients.clone(),
        );
    }

    pub(super) fn refuse(&self, reason: RefusedReason) {
        self.refused.get_or_create(&RefusedLabels { reason }).inc();
    }

    pub(super) fn end(&self, result: TransferResult) {
        self.transfers.get_or_create(&TransferLabels { result }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_dashboards_use() {
        let mut registry = Registry::with_prefix("pxed");
        let metrics = Metrics::default();
        metrics.register(&mut registry);
        metrics.refuse(RefusedReason::outside);
        metrics.end(TransferResult::done);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "pxed_tftp_requests_total 0",
            "pxed_tftp_refused_total{reason=\"outside\"} 1",
            "pxed_tftp_transfers_total{result=\"done\"} 1",
            "pxed_tftp_active_transfers 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} not in\n{text}");
        }
    }
}
