//! The nodes that share the fleet: finds out about them and publishes them.

mod by_hand;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use tokio::time::MissedTickBehavior;

use self::by_hand::{ByHand, Interfaces};
use crate::{
    model::{
        inventory::{SharedInventory, Site},
        nodes::SharedNodes,
        own_sites::SharedOwnSites,
    },
    net::interface::Interface,
};

/// The interval at which the peers of `--peers` are assigned to the sites again: interfaces and the spec change.
const ASSIGN_EVERY: Duration = Duration::from_secs(2);

/// The options about other nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeConfig {
    /// The name of this node.
    pub name: Arc<str>,
    /// The addresses of `--peers`.
    pub peers: Vec<Ipv4Addr>,
}

/// The membership of `--peers`.
pub(super) struct Membership {
    pub(super) config: NodeConfig,
    pub(super) nodes: SharedNodes,
    pub(super) inventory: SharedInventory,
    pub(super) own_sites: SharedOwnSites,
}

impl Membership {
    /// Publishes the nodes for the first time, before machines are answered. Returns what is wrong with the options.
    pub(super) fn start(&self) -> BTreeSet<String> {
        let ByHand { nodes, problems } = self.assigned();
        for peer in nodes.peers() {
            tracing::info!(peer = %peer.name, "shares the fleet with this node (--peers)");
        }
        self.nodes.store(Arc::new(nodes));
        problems.into_iter().collect()
    }

    /// Keeps the nodes in step with the spec and the interfaces. It never ends.
    pub(super) async fn keep(self, mut known: BTreeSet<String>) {
        let this = Arc::new(self);
        let mut interval = tokio::time::interval(ASSIGN_EVERY);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let that = Arc::clone(&this);
            // Interfaces are read from the kernel, which may take its time.
            let Ok(ByHand { nodes, problems }) = tokio::task::spawn_blocking(move || that.assigned()).await else {
                continue;
            };
            let problems: BTreeSet<_> = problems.into_iter().collect();
            problems.difference(&known).for_each(|problem| tracing::warn!("{problem}"));
            known = problems;
            if **this.nodes.load() != nodes {
                this.nodes.store(Arc::new(nodes));
            }
        }
    }

    fn assigned(&self) -> ByHand {
        let NodeConfig { name, peers } = &self.config;
        let sites: BTreeSet<Site> =
            self.inventory.load().machines().iter().map(|machine| Site::clone(&machine.site)).collect();
        let names: BTreeSet<_> = sites.iter().map(|site| Arc::clone(&site.interface)).collect();
        let read = |name: Arc<str>| Some((name.to_string(), Interface::read(&name).ok()?.addresses));
        let interfaces: Interfaces = names.into_iter().filter_map(read).collect::<BTreeMap<_, _>>();
        by_hand::nodes(peers, name, &sites, &self.own_sites.load(), &interfaces)
    }
}
