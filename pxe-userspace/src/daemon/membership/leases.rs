//! The membership by Leases: this node renews its own, and reads those of the others.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::{MissedTickBehavior, timeout};

use super::{
    roster::{Edge, Roster},
    saved,
};
use crate::{
    kubernetes::{Farewell, Leases, Listed},
    mistakes,
    model::{
        node_lease::{Announcement, NodeLease},
        nodes::{Node, Nodes, SharedNodes, Source},
        own_sites::SharedOwnSites,
    },
};

/// The time that deleting this node's Lease may take at the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// The task that keeps the nodes in step with the Leases.
pub(in crate::daemon) struct LeaseKeeper {
    leases: Leases,
    name: Arc<str>,
    nodes: SharedNodes,
    own_sites: SharedOwnSites,
    state: PathBuf,
    roster: Roster,
    /// The last time at which the API server took and gave everything, and whether it has been away for long since.
    succeeded: Instant,
    trouble: Option<String>,
    /// The rounds in a row in which this node's Lease was another process's.
    taken_over: u32,
    saved: Vec<Node>,
    is_not_saved: bool,
    is_too_many: bool,
}

impl LeaseKeeper {
    /// Creates it with the peers of the last run, and publishes them.
    pub(in crate::daemon) fn start(
        leases: Leases,
        name: Arc<str>,
        nodes: SharedNodes,
        own_sites: SharedOwnSites,
        state: PathBuf,
    ) -> Self {
        let saved = saved::load(&state);
        let keeper = Self {
            leases,
            name,
            nodes,
            own_sites,
            state,
            roster: Roster::new(saved.iter().cloned()),
            succeeded: Instant::now(),
            trouble: None,
            taken_over: 0,
            saved,
            is_not_saved: false,
            is_too_many: false,
        };
        keeper.publish();
        keeper
    }

    /// Returns the access to the Leases, for [`leave`].
    pub(in crate::daemon) fn leases(&self) -> Leases {
        self.leases.clone()
    }

    /// Renews and reads, until it is dropped.
    pub(in crate::daemon) async fn keep(mut self) {
        let mut interval = tokio::time::interval(NodeLease::RENEWED_EVERY);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            // The next round may succeed.
            mistakes::outlive_waiting("keeping the Leases of the nodes", self.round()).await;
        }
    }

    async fn round(&mut self) {
        let own = self.own_sites.load_full();
        let sites = own.served.iter().map(|(site, own)| (site.address, own.address)).collect();
        let announcement = Announcement::new(self.leases.instance(), &sites, &own.problems);
        // First what others wrote since the last round, also into the Lease of this node.
        let listed = self.leases.list().await;
        let renewed = self.leases.renew(&announcement, jiff::Timestamp::now()).await;
        let now = Instant::now();
        let fault = match (renewed, listed) {
            (renewed, Ok(Listed { others, own, is_cut })) => {
                let is_anothers =
                    own.is_some_and(|own| own.announcement.is_ok_and(|said| said.instance != self.leases.instance()));
                self.taken_over = if is_anothers { self.taken_over.saturating_add(1) } else { 0 };
                // In the first round it is that of this node's previous process.
                if self.taken_over == 2 {
                    tracing::error!("{}", self.name_is_taken());
                }
                for edge in self.roster.observe(&others, now) {
                    self.log(&edge);
                }
                let is_too_many = is_cut || self.roster.surplus() > 0;
                if is_too_many && !self.is_too_many {
                    tracing::warn!(
                        "there are more Leases with the label app.kubernetes.io/name=pxed than pxed follows: delete those that no node renews"
                    );
                }
                self.is_too_many = is_too_many;
                renewed.err()
            }
            (_, Err(fault)) => Some(fault),
        };
        match fault {
            None => {
                if self.trouble.take().is_some() {
                    tracing::info!("the Leases of the nodes can be read and renewed again");
                }
                self.succeeded = now;
            }
            Some(fault) if now.duration_since(self.succeeded) >= NodeLease::GIVEN_UP_AFTER => {
                if self.trouble.is_none() {
                    tracing::error!("{fault}: the nodes stay as they were last known");
                }
                self.trouble = Some(fault);
            }
            Some(_) => {}
        }
        self.publish();
        self.save().await;
    }

    fn name_is_taken(&self) -> String {
        format!(
            "another pxed uses the name of this node, {}, and its Lease: give each its own with --node-name NAME",
            self.name
        )
    }

    fn publish(&self) {
        let own = self.own_sites.load();
        let mut problems = own.problems.clone();
        if self.taken_over >= 2 {
            problems.push(self.name_is_taken());
        }
        let this = Node {
            name: Arc::clone(&self.name),
            sites: own.served.iter().map(|(site, own)| (site.address, own.address)).collect(),
            is_alive: true,
            problems,
            formerly: Vec::new(),
        };
        let trouble = self.trouble.as_deref().map(Arc::from);
        let nodes = Nodes::new(this, self.roster.peers().cloned()).known_by(Source::Leases { trouble });
        if **self.nodes.load() != nodes {
            self.nodes.store(Arc::new(nodes));
        }
    }

    /// Saves the peers if they have changed.
    async fn save(&mut self) {
        let plain = |node: &Node| Node { problems: Vec::new(), ..node.clone() };
        let peers: Vec<Node> = self.roster.peers().map(plain).collect();
        if peers == self.saved {
            return;
        }
        let (state, written) = (self.state.clone(), peers.clone());
        let saved = tokio::task::spawn_blocking(move || saved::save(&state, &written)).await;
        match saved.map_err(std::io::Error::other).flatten() {
            Ok(()) => (self.saved, self.is_not_saved) = (peers, false),
            // It is tried again in the next round.
            Err(error) if !self.is_not_saved => {
                tracing::warn!("the nodes could not be saved in {}: {error}", self.state.display());
                self.is_not_saved = true;
            }
            Err(_) => {}
        }
    }

    fn log(&self, edge: &Edge) {
        let node = |name: &Arc<str>| self.roster.peers().find(|node| node.name == *name);
        let served = |name: &Arc<str>| {
            let sites = node(name).map(|node| node.sites.values().map(ToString::to_string).collect::<Vec<_>>());
            sites.unwrap_or_default().join(", ")
        };
        match edge {
            Edge::Joined(name) => {
                tracing::info!(node = %name, serves_at = served(name), "a node shares the fleet");
            }
            Edge::Died(name, after) => tracing::warn!(
                node = %name,
                "a node has not renewed its Lease for {} s: the others answer its machines",
                after.as_secs()
            ),
            Edge::Left(name) => tracing::info!(node = %name, "a node has left: the others answer its machines"),
            Edge::Moved(name) => {
                tracing::info!(node = %name, serves_at = served(name), "a node serves other sites or addresses than before");
            }
            Edge::Problems(name, problems) if problems.is_empty() => {
                tracing::info!(node = %name, "a node has no problems any more");
            }
            Edge::Problems(name, problems) => {
                tracing::warn!(node = %name, "a node has problems: {}", problems.join("; "));
            }
        }
    }
}

/// Deletes this node's Lease, unless another process has it, so that the others take over at once.
pub(in crate::daemon) async fn leave(leases: Leases) {
    match timeout(FAREWELL, leases.delete()).await {
        Ok(Ok(Farewell::Deleted)) => {}
        Ok(Ok(Farewell::Successor)) => tracing::info!("another pxed has renewed the Lease of this node: it stays"),
        Ok(Err(error)) => tracing::warn!("{error}: the others take over after {} s", NodeLease::DURATION.as_secs()),
        Err(_) => tracing::warn!(
            "the Lease of this node could not be deleted in time: the others take over after {} s",
            NodeLease::DURATION.as_secs()
        ),
    }
}
