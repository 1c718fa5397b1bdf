//! Counters and gauges.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

use crate::metrics::{Counters, label};

/// Counters and gauges of the TFTP server, shared by its workers.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Datagrams that reached the listening socket.
    pub requests: Counter,
    /// Requests and datagrams that were refused, by reason.
    pub refused: Counters<RefusedReason>,
    /// Transfers that ended, by result.
    pub transfers: Counters<TransferResult>,
    /// Running transfers.
    pub active: Gauge,
    /// Bytes of files that clients have acknowledged.
    pub bytes: Counter<u64, AtomicU64>,
    /// Retransmissions, because an acknowledgement did not come in time.
    pub timeouts: Counter,
    /// Datagrams that the kernel refused to send.
    pub send_errors: Counter,
    /// Datagrams for a transfer that does not exist (any more): late ones, or somebody guesses ports.
    pub strays: Counter,
    /// Requests from addresses that belong to no machine of the cluster spec.
    pub unknown_clients: Counter,
}

label! {
    /// A reason for refusing a request.
    pub enum RefusedReason: "reason" {
        /// There is no such file.
        NotFound = "not_found",
        /// There is no such file, and the client does without: boot programs look for files that need not exist.
        Optional = "optional",
        /// The machine is to boot from its disk, so that it has no configuration.
        Disk = "disk",
        /// A file that the machine boots is not there yet, so that it gets no configuration.
        Awaited = "awaited",
        /// A configuration was requested from an address that is not the machine's.
        Source = "source",
        /// The path leads out of the artifacts directory.
        Outside = "outside",
        /// The file cannot be read.
        Unreadable = "unreadable",
        /// The file is not the one that was verified, or is being verified.
        Unverified = "unverified",
        /// The server is read-only.
        Write = "write",
        /// The mode is `mail` or unknown.
        Mode = "mode",
        /// The datagram is not a TFTP request.
        Malformed = "malformed",
        /// The address is neither a machine's nor in a network of ours.
        Foreign = "foreign",
        /// The limit of transfers is reached, in all or for this client's address, and all are in progress; or no port is free; or requests come faster
        /// than they can be read; or no file descriptor is free.
        Busy = "busy",
    }
}

label! {
    /// The result of a transfer.
    pub enum TransferResult: "result" {
        /// The client acknowledged the whole file.
        Done = "done",
        /// The client asked for the length only.
        Probed = "probed",
        /// The client sent an error.
        Aborted = "aborted",
        /// Everything was sent, and the end not acknowledged.
        Unconfirmed = "unconfirmed",
        /// The client fell silent.
        Silent = "silent",
        /// The client started over before the end.
        Restarted = "restarted",
        /// The client's host said that nothing listens at the client's port.
        Unreachable = "unreachable",
        /// The file changed or could not be read.
        FileError = "file_error",
        /// Another request needed its place: the client had acknowledged nothing, or its address has too many transfers.
        Displaced = "displaced",
    }
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
        self.refused.increment(reason);
    }

    pub(super) fn end(&self, result: TransferResult) {
        self.transfers.increment(result);
    }
}
