//! The state of the connection to the API server, for people and probes.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::Serialize;
use utoipa::ToSchema;

/// The state of the connection to the API server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ApiState {
    /// The address of the server.
    pub server: String,
    /// The namespaces whose objects count; empty for all.
    pub namespaces: Vec<String>,
    /// Set once everything was read from the server since the start.
    pub synced: bool,
    /// Set while some of the objects are those that the last run left on disk.
    pub from_disk: bool,
    /// The fault.
    pub troubles: Vec<ApiTrouble>,
}

/// Something that keeps objects from being read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ApiTrouble {
    /// A sentence for people.
    pub message: String,
    /// The time since when it is so, in seconds since 1970.
    pub since: u64,
    /// Set if nothing at all is known instead, so that machines may be missing.
    pub nothing_known: bool,
}

/// The state, which whoever watches the API replaces. Everybody may read it.
pub type SharedApiState = Arc<ArcSwap<ApiState>>;
