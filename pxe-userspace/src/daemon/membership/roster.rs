//! The peers as their Leases tell of them. Pure: the clock is a parameter, and reading and writing Leases is done elsewhere.
//!
//! A node lives as long as its Lease changes. The times that are written in it are those of other clocks, which may be an hour off, so
//! they are only compared with each other. This node's own clock measures how long a Lease has not changed, and only while the API
//! server answers: while it does not, nothing is known, and the nodes stay as they were.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::model::{
    node_lease::{Announcement, NodeLease},
    nodes::{Node, Sites},
};

/// The shortest and the longest time for which an unchanged Lease counts, whatever it says.
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(60);
/// The most time that passes between two lists. After a longer pause the API server was away.
const LONGEST_STEP: Duration = Duration::from_secs(5);
/// The time for which a node that is gone, and addresses that it had, are remembered: machines may still name them.
const REMEMBERED: Duration = Duration::from_secs(600);
/// The most peers that are followed.
const MOST_PEERS: usize = 256;

/// The peers that were seen, by the names of their Leases.
#[derive(Debug, Default)]
pub(super) struct Roster {
    peers: BTreeMap<Arc<str>, Peer>,
    /// The time that has been observed: it stands still while the API server is away.
    observed: Duration,
    last_list: Option<Instant>,
    /// The Leases beyond [`MOST_PEERS`].
    surplus: usize,
}

#[derive(Debug)]
struct Peer {
    /// The look of its Lease, and the observed time at which it came to look like this.
    version: Arc<str>,
    changed: Duration,
    counts_for: Duration,
    is_gone: bool,
    node: Node,
    /// The addresses that it had before, and when it was last seen with each.
    formerly: BTreeMap<Ipv4Addr, Duration>,
}

/// A change that is worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Edge {
    /// A node was seen for the first time, or lives again.
    Joined(Arc<str>),
    /// A node has not renewed its Lease in time.
    Died(Arc<str>, Duration),
    /// A node has ended and deleted its Lease, or somebody else has.
    Left(Arc<str>),
    /// A node serves other sites or addresses than before.
    Moved(Arc<str>),
    /// A node has other problems than before.
    Problems(Arc<str>, Vec<String>),
}

impl Roster {
    /// Creates the roster with the peers of the last run, which have to show within the usual time that they live.
    pub(super) fn new(remembered: impl IntoIterator<Item = Node>) -> Self {
        let peer = |node: Node| {
            let peer = Peer {
                version: Arc::default(),
                changed: Duration::ZERO,
                counts_for: NodeLease::DURATION,
                is_gone: !node.is_alive,
                formerly: node.formerly.iter().map(|&address| (address, Duration::ZERO)).collect(),
                node,
            };
            (Arc::clone(&peer.node.name), peer)
        };
        Self { peers: remembered.into_iter().take(MOST_PEERS).map(peer).collect(), ..Self::default() }
    }

    /// Takes in a list of all Leases but this node's own. Returns what has changed.
    pub(super) fn observe(&mut self, leases: &[NodeLease], now: Instant) -> Vec<Edge> {
        let step = self.last_list.map_or(Duration::ZERO, |last| now.saturating_duration_since(last).min(LONGEST_STEP));
        self.observed += step;
        self.last_list = Some(now);
        let before: BTreeMap<_, _> =
            self.peers.iter().map(|(name, peer)| (Arc::clone(name), peer.node.clone())).collect();
        self.peers.values_mut().for_each(|peer| peer.is_gone = true);
        self.surplus = 0;
        for lease in leases {
            self.take(lease);
        }
        let observed = self.observed;
        for peer in self.peers.values_mut() {
            peer.node.is_alive = !peer.is_gone && observed.saturating_sub(peer.changed) <= peer.counts_for;
            peer.formerly.retain(|_, seen| observed.saturating_sub(*seen) <= REMEMBERED);
            peer.node.formerly = peer.formerly.keys().copied().collect();
        }
        self.peers.retain(|_, peer| peer.node.is_alive || observed.saturating_sub(peer.changed) <= REMEMBERED);
        self.peers.iter().flat_map(|(name, peer)| edges(name, before.get(name), peer)).collect()
    }

    fn take(&mut self, lease: &NodeLease) {
        let NodeLease { node: name, version, counts_for, announcement, .. } = lease;
        if !self.peers.contains_key(name) && self.peers.len() >= MOST_PEERS {
            self.surplus += 1;
            return;
        }
        let observed = self.observed;
        let peer = self.peers.entry(Arc::clone(name)).or_insert_with(|| Peer {
            version: Arc::default(),
            changed: observed,
            counts_for: *counts_for,
            is_gone: false,
            node: Node { name: Arc::clone(name), ..Node::default() },
            formerly: BTreeMap::new(),
        });
        peer.is_gone = false;
        peer.counts_for = (*counts_for).clamp(SHORTEST, LONGEST);
        if peer.version != *version {
            peer.version = Arc::clone(version);
            peer.changed = observed;
        }
        let (sites, problems) = match announcement {
            Ok(Announcement { sites, problems, .. }) => (sites.clone(), problems.clone()),
            Err(reason) => (Sites::new(), vec![reason.clone()]),
        };
        peer.formerly.extend(peer.node.sites.values().map(|&address| (address, observed)));
        peer.node.sites = sites;
        peer.node.problems = problems;
    }

    /// Returns the peers.
    pub(super) fn peers(&self) -> impl Iterator<Item = &Node> + '_ {
        self.peers.values().map(|peer| &peer.node)
    }

    /// Returns the number of Leases that are too many to be followed.
    pub(super) const fn surplus(&self) -> usize {
        self.surplus
    }
}

fn edges(name: &Arc<str>, before: Option<&Node>, peer: &Peer) -> Vec<Edge> {
    let Peer { node, is_gone, counts_for, .. } = peer;
    let was_alive = before.is_some_and(|before| before.is_alive);
    let mut edges = Vec::new();
    match (was_alive, node.is_alive) {
        (false, true) => edges.push(Edge::Joined(Arc::clone(name))),
        (true, false) if *is_gone => edges.push(Edge::Left(Arc::clone(name))),
        (true, false) => edges.push(Edge::Died(Arc::clone(name), *counts_for)),
        (true, true) if before.is_some_and(|before| before.sites != node.sites) => {
            edges.push(Edge::Moved(Arc::clone(name)));
        }
        _ => {}
    }
    if node.is_alive && before.map_or(!node.problems.is_empty(), |before| before.problems != node.problems) {
        edges.push(Edge::Problems(Arc::clone(name), node.problems.clone()));
    }
    edges
}

#[cfg(test)]
mod tests;
