//! The counters of the boot HTTP server.

use std::fmt::{self, Write as _};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::metrics::{Counters, Label as _, label};

label! {
    /// The handler that a request went to.
    pub(super) enum Route: "route" {
        /// `/assets/…`
        Assets = "assets",
        /// `/boot/{mac}.ipxe` and configurations of GRUB and U-Boot
        Script = "script",
        /// Matchbox's routes.
        Matchbox = "matchbox",
        /// No route, or no request.
        Other = "other",
    }
}

impl EncodeLabelValue for Route {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(self.value())
    }
}

/// The labels of the request counter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    /// The handler.
    pub(super) route: Route,
    /// The status answered.
    pub(super) status: u16,
}

label! {
    /// The reason why something was refused.
    pub enum Refused: "reason" {
        /// The head of the request is invalid.
        Head = "head",
        /// The path leads out of the artifacts directory.
        Path = "path",
        /// A script was requested from an address that is not the machine's.
        Source = "source",
        /// The connection exceeds the limit, in total or for one address.
        Connection = "connection",
        /// The connection was idle or a stranger's, and made room for another.
        Vacated = "vacated",
        /// The client did not send its request or read its answer in time.
        Timeout = "timeout",
    }
}

/// The counters. All listeners share one instance.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    refused: Counters<Refused>,
    bytes: Counter,
    disk_waits: Counter,
    connections: Gauge,
}

impl Metrics {
    /// Registers the counters under names that begin with `http_`.
    pub fn register(&self, registry: &mut Registry) {
        let Self { requests, refused, bytes, disk_waits, connections } = self;
        // Other statuses of a route are exposed after the first answer with them.
        for &route in Route::ALL {
            drop(requests.get_or_create(&RequestLabels { route, status: 200 }));
        }
        registry.register("http_requests", "Requests answered, by route and status", requests.clone());
        registry.register("http_refused", "Requests and connections refused, by reason", refused.clone());
        registry.register("http_sent_bytes", "Bytes of files and scripts sent", bytes.clone());
        registry.register(
            "http_disk_waits",
            "Times that a file had to be read from the disk before it was sent",
            disk_waits.clone(),
        );
        registry.register("http_connections", "Open connections", connections.clone());
    }

    pub(super) fn answered(&self, route: Route, status: u16) {
        self.requests.get_or_create(&RequestLabels { route, status }).inc();
    }

    pub(super) fn refused(&self, reason: Refused) {
        self.refused.increment(reason);
    }

    pub(super) fn sent(&self, bytes: u64) {
        self.bytes.inc_by(bytes);
    }

    pub(super) fn waited_for_disk(&self) {
        self.disk_waits.inc();
    }

    pub(super) fn opened(&self) {
        self.connections.inc();
    }

    pub(super) fn closed(&self) {
        self.connections.dec();
    }

    pub(super) fn open_connections(&self) -> i64 {
        self.connections.get()
    }

    /// Returns the number of bytes of files and scripts that were written to sockets.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Returns how often something was refused for this reason.
    #[must_use]
    pub fn refusals(&self, reason: Refused) -> u64 {
        self.refused.get(reason)
    }
}
