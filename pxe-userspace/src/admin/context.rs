//! The state of the admin listener.

use std::sync::Arc;

use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;

use super::health::Health;
use crate::{
    journal::Journal,
    model::{api_state::SharedApiState, finding::AllSpecFaults, images::SharedImages, visitors::SharedVisitors},
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
    /// The clients that no journal follows.
    pub visitors: SharedVisitors,
    /// The metrics.
    pub registry: Arc<Registry>,
    /// The shortcomings of the running daemon.
    pub health: Arc<Health>,
    /// The errors of the specs.
    pub faults: AllSpecFaults,
    /// The state of the API server, if the spec is there.
    pub api: Option<SharedApiState>,
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
