//! The counters of the boot HTTP server.

use std::fmt::{self, Write as _};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{
    metrics::{Counters, Label as _, label},
    model::visitors::Outcome,
};

label! {
    /// The handler that a request went to.
    pub(super) enum Route: "route" {
        /// `/assets/…`
        Assets = "assets",
        /// `/boot/{mac}.ipxe` and configurations of GRUB and U-Boot
        Script = "script",
        /// Unified kernel images: `/boot/{mac}/talos.efi`
        Uki = "uki",
        /// `/boot/{mac}/config.yaml`
        Config = "config",
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
        /// A script or machine configuration was requested from an address that is not the machine's.
        Source = "source",
        /// What may hold a machine's secrets was requested without the unguessable part of its URL, or with a wrong or old one.
        Token = "token",
        /// The connection exceeds the limit, in total or for one address.
        Connection = "connection",
        /// The connection was idle or a stranger's, and made room for another.
        Vacated = "vacated",
        /// The client did not send its request or read its answer in time.
        Timeout = "timeout",
    }
}

label! {
    /// The outcome of a request that belongs to no machine's journal.
    pub(super) enum Visited: "outcome" {
        /// The answer was sent.
        Served = "served",
        /// No group selects the client.
        NoGroup = "no_group",
        /// The profile has nothing for the route.
        NoConfig = "no_config",
        /// A template lacks a value.
        NoValue = "no_value",
        /// The cluster spec has nothing for the route.
        NoConfigInSpec = "no_config_in_spec",
        /// The file is missing or cannot be sent.
        NoFile = "no_file",
        /// The client asked for what is a machine's, and has not the machine's address.
        NotItsAddress = "not_its_address",
        /// The path belongs to no route.
        NoRoute = "no_route",
    }
}

impl Visited {
    pub(super) const fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Served => Self::Served,
            Outcome::NoGroup { .. } => Self::NoGroup,
            Outcome::NoConfig { .. } => Self::NoConfig,
            Outcome::NoValue { .. } => Self::NoValue,
            Outcome::NoConfigInSpec => Self::NoConfigInSpec,
            Outcome::NoFile { .. } => Self::NoFile,
            Outcome::NotItsAddress { .. } => Self::NotItsAddress,
            Outcome::NoRoute => Self::NoRoute,
        }
    }
}

/// The counters. All listeners share one instance.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    visits: Counters<Visited>,
    refused: Counters<Refused>,
    bytes: Counter,
    disk_waits: Counter,
    connections: Gauge,
}

impl Metrics {
    /// Registers the counters under names that begin with `http_`.
    pub fn register(&self, registry: &mut Registry) {
        let Self { requests, visits, refused, bytes, disk_waits, connections } = self;
        // Other statuses of a route are exposed after the first answer with them.
        for &route in Route::ALL {
            drop(requests.get_or_create(&RequestLabels { route, status: 200 }));
        }
        registry.register("http_requests", "Requests answered, by route and status", requests.clone());
        registry.register(
            "http_visits",
            "Requests for scripts, configurations and files that belong to no machine's journal, by outcome",
            visits.clone(),
        );
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

    pub(super) fn visited(&self, outcome: Visited) {
        self.visits.increment(outcome);
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
