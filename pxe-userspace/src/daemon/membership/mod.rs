//! The nodes that share the fleet: finds out about them and publishes them.

mod by_hand;
mod config;
mod keep_by_hand;
mod leases;
mod roster;
mod saved;

use std::{path::Path, sync::Arc};

pub use self::config::NodeConfig;
pub(super) use self::{config::Shared, leases::leave};
use self::{keep_by_hand::PeerKeeper, leases::LeaseKeeper};
use crate::kubernetes::{ApiServer, Leases};

/// The way in which this node knows the others.
pub(super) enum Membership {
    /// By Leases in the API server.
    Leases(LeaseKeeper),
    /// By `--peers`.
    ByHand(PeerKeeper),
}

impl Membership {
    /// Publishes the nodes for the first time, before machines are answered. Returns `None` if this node looks for no others.
    pub(super) fn start(
        config: &NodeConfig,
        shared: Shared,
        api: Option<Arc<ApiServer>>,
        state: &Path,
    ) -> Option<Self> {
        match api {
            Some(server) => {
                let Shared { nodes, own_sites, .. } = shared;
                let leases = Leases::new(server, &config.name);
                let keeper = LeaseKeeper::start(leases, Arc::clone(&config.name), nodes, own_sites, state.to_owned());
                Some(Self::Leases(keeper))
            }
            None => (!config.peers.is_empty()).then(|| Self::ByHand(PeerKeeper::start(config.clone(), shared))),
        }
    }

    /// Returns the access to the Leases, for [`leave`].
    pub(super) fn leases(&self) -> Option<Leases> {
        match self {
            Self::Leases(keeper) => Some(keeper.leases()),
            Self::ByHand(_) => None,
        }
    }

    /// Keeps the nodes in step with what happens. It never ends.
    pub(super) async fn keep(self) {
        match self {
            Self::Leases(keeper) => keeper.keep().await,
            Self::ByHand(keeper) => keeper.keep().await,
        }
    }
}
