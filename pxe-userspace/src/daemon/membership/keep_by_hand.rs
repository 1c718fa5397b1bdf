//! Keeps the peers of `--peers` in step with the spec and the interfaces.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::MissedTickBehavior;

use super::{
    by_hand::{self, ByHand, Interfaces},
    config::{NodeConfig, Shared},
};
use crate::{mistakes, model::inventory::Site, net::interface::Interface};

/// The interval at which the peers are assigned to the sites again: interfaces and the spec change.
const ASSIGN_EVERY: Duration = Duration::from_secs(2);

/// The task that keeps the nodes of `--peers` in step.
pub(in crate::daemon) struct PeerKeeper {
    config: NodeConfig,
    shared: Shared,
    /// The problems that were logged.
    known: BTreeSet<String>,
}

impl PeerKeeper {
    /// Publishes the nodes for the first time.
    pub(super) fn start(config: NodeConfig, shared: Shared) -> Self {
        let mut keeper = Self { config, shared, known: BTreeSet::new() };
        let by_hand = keeper.assigned();
        for peer in by_hand.nodes.peers() {
            tracing::info!(peer = %peer.name, "shares the fleet with this node (--peers)");
        }
        keeper.publish(by_hand);
        keeper
    }

    /// Keeps the nodes in step. It never ends.
    pub(super) async fn keep(self) {
        let keeper = Arc::new(Mutex::new(self));
        let mut interval = tokio::time::interval(ASSIGN_EVERY);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            // Interfaces are read from the kernel, which may take its time.
            let keeper = Arc::clone(&keeper);
            let round = move || {
                let keeper = &mut *keeper.lock().unwrap_or_else(PoisonError::into_inner);
                mistakes::outlive("assigning the nodes of --peers", || keeper.publish(keeper.assigned()))
            };
            // An error means that the runtime ends. The next round may succeed.
            let _ = tokio::task::spawn_blocking(round).await;
        }
    }

    fn publish(&mut self, ByHand { nodes, problems }: ByHand) {
        let problems: BTreeSet<_> = problems.into_iter().collect();
        problems.difference(&self.known).for_each(|problem| tracing::warn!("{problem}"));
        self.known = problems;
        if **self.shared.nodes.load() != nodes {
            self.shared.nodes.store(Arc::new(nodes));
        }
    }

    fn assigned(&self) -> ByHand {
        let (NodeConfig { name, peers }, Shared { inventory, own_sites, .. }) = (&self.config, &self.shared);
        let sites: BTreeSet<Site> =
            inventory.load().machines().iter().map(|machine| Site::clone(&machine.site)).collect();
        let names: BTreeSet<_> = sites.iter().map(|site| Arc::clone(&site.interface)).collect();
        let read = |name: Arc<str>| Some((name.to_string(), Interface::read(&name).ok()?.addresses));
        let interfaces: Interfaces = names.into_iter().filter_map(read).collect::<BTreeMap<_, _>>();
        by_hand::nodes(peers, name, &sites, &own_sites.load(), &interfaces)
    }
}
