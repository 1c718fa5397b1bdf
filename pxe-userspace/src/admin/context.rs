//! The state of the admin listener.

use std::{fmt, pin::Pin, sync::Arc};

use prometheus_client::registry::Registry;
use pxe_common::MacAddr;
use tokio::sync::Semaphore;

use super::health::Health;
use crate::{
    capture::Tap,
    journal::Journal,
    model::{
        address_signs::NeighbourAt, api_state::SharedApiState, confinement::SharedConfinement, finding::AllSpecFaults,
        images::SharedImages, nodes::SharedNodes, strangers::SharedStrangers, visitors::SharedVisitors,
    },
};

/// The number of clients that may follow the event stream at the same time.
pub(super) const MAX_FOLLOWERS: usize = 64;

/// The parts of pxed that the admin listener shows.
#[derive(Clone, Debug)]
pub struct AdminContext {
    /// The machines.
    pub journal: Arc<Journal>,
    /// The files that the machines need.
    pub images: SharedImages,
    /// The nodes that share the fleet.
    pub nodes: SharedNodes,
    /// The clients that no journal follows.
    pub visitors: SharedVisitors,
    /// Those who ask by DHCP and are not answered.
    pub strangers: SharedStrangers,
    /// The metrics.
    pub registry: Arc<Registry>,
    /// The shortcomings of the running daemon.
    pub health: Arc<Health>,
    /// The privileges that this process has given up.
    pub confinement: SharedConfinement,
    /// The errors of the specs.
    pub faults: AllSpecFaults,
    /// The state of the API server, if the spec is there.
    pub api: Option<SharedApiState>,
    /// The way into the API of a Kubernetes cluster, if the spec comes from there.
    pub cluster: Option<ClusterPolicy>,
    /// The frames of machines, for captures.
    pub captures: CaptureSource,
    /// Returns what panics have ended, and their number, as sentences.
    pub mistakes: fn() -> Vec<String>,
    /// Asks the kernel which host has a machine's address.
    pub neighbour_at: NeighbourAt,
}

/// The frames of machines, and what a capture needs to know of them.
#[derive(Clone, Debug, Default)]
pub struct CaptureSource {
    /// The place where workers show their frames.
    pub tap: Tap,
    /// The port of boot HTTP.
    pub http_port: u16,
}

/// A person's decision about a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is kept from booting over the network.
    Hold,
    /// It boots as the spec says, as if it had never booted.
    Release,
}

type Carry = dyn Fn(MacAddr, Decision) -> Pin<Box<dyn Future<Output = Vec<String>> + Send>> + Send + Sync;

/// Carries decisions into the API of a Kubernetes cluster, from which other nodes read them.
#[derive(Clone)]
pub struct ClusterPolicy(Arc<Carry>);

impl ClusterPolicy {
    /// Wraps what carries a decision, and returns in sentences what was written where.
    pub fn new<F: Future<Output = Vec<String>> + Send + 'static>(
        carry: impl Fn(MacAddr, Decision) -> F + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(move |mac, decision| Box::pin(carry(mac, decision))))
    }

    /// Carries a decision that is in force on this node.
    pub(super) async fn carry(&self, mac: MacAddr, decision: Decision) -> Vec<String> {
        (self.0)(mac, decision).await
    }
}

impl fmt::Debug for ClusterPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterPolicy")
    }
}

/// The state of the router.
#[derive(Clone, Debug)]
pub(super) struct Admin {
    pub(super) context: AdminContext,
    /// One permit for each client that may follow the event stream.
    pub(super) followers: Arc<Semaphore>,
}

impl Admin {
    /// Creates the state of a router that nobody follows yet.
    pub(super) fn new(context: AdminContext) -> Self {
        Self { context, followers: Arc::new(Semaphore::new(MAX_FOLLOWERS)) }
    }
}
