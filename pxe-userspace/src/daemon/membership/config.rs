//! What the membership is told, and what it shares with others.

use std::{net::Ipv4Addr, sync::Arc};

use crate::model::{inventory::SharedInventory, nodes::SharedNodes, own_sites::SharedOwnSites};

/// The options about other nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeConfig {
    /// The name of this node.
    pub name: Arc<str>,
    /// The addresses of `--peers`.
    pub peers: Vec<Ipv4Addr>,
}

/// The snapshots that the membership reads and publishes.
pub(in crate::daemon) struct Shared {
    /// The nodes, which it publishes.
    pub(in crate::daemon) nodes: SharedNodes,
    pub(in crate::daemon) inventory: SharedInventory,
    pub(in crate::daemon) own_sites: SharedOwnSites,
}
