//! The nodes that share a fleet, and the choice of the node that answers a machine: a snapshot, replaced as a whole when a node
//! comes, goes or serves other sites.
//!
//! Every node makes the same choice without asking the others, from the machine's MAC address and the nodes' server addresses
//! (rendezvous hashing). A machine keeps its owner as long as the owner lives, whatever other nodes do.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use arc_swap::ArcSwap;
use pxe_common::MacAddr;

/// The nodes in force. Readers load them for each packet, and the membership stores each new snapshot.
pub type SharedNodes = Arc<ArcSwap<Nodes>>;

/// The sites that a node serves now: from the address in the spec (`pxeServerSpec.address`) to the node's own server address there.
pub type Sites = BTreeMap<Ipv4Addr, Ipv4Addr>;

/// A node of the same fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name: that of its Lease, or its address if it was given by hand.
    pub name: Arc<str>,
    /// The sites that it serves.
    pub sites: Sites,
    /// Set if it answers, as far as this node knows. This node itself always does.
    pub is_alive: bool,
    /// Its problems as it tells them, in sentences for people.
    pub problems: Vec<String>,
    /// Server addresses that it had some minutes ago, which machines may still name.
    pub formerly: Vec<Ipv4Addr>,
}

/// The way in which this node knows the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// It looks for no others.
    #[default]
    Alone,
    /// A person named them, and they are taken to live.
    ByHand,
    /// They keep Leases in the API server.
    Leases {
        /// The reason why nothing new is known of them.
        trouble: Option<Arc<str>>,
    },
}

/// This node and its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nodes {
    this: Node,
    source: Source,
    peers: Vec<Node>,
    /// The living peers by the site that they serve, sorted. Each is its server address and its index in `peers`.
    candidates: BTreeMap<Ipv4Addr, Vec<(Ipv4Addr, usize)>>,
}

impl Default for Nodes {
    /// Returns the snapshot of a node that knows no others.
    fn default() -> Self {
        Self::new(Node { is_alive: true, ..Node::default() }, [])
    }
}

/// The node that answers a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner<'n> {
    /// This node.
    This,
    /// Another node, at this address of its own; `None` if no living node serves the machine's site.
    Peer(&'n Node, Option<Ipv4Addr>),
}

impl Nodes {
    /// Creates the snapshot. Of two peers with one name, the later is left out.
    #[must_use]
    pub fn new(this: Node, peers: impl IntoIterator<Item = Node>) -> Self {
        let mut by_name = BTreeMap::new();
        for peer in peers {
            by_name.entry(Arc::clone(&peer.name)).or_insert(peer);
        }
        let peers: Vec<Node> = by_name.into_values().collect();
        let mut candidates: BTreeMap<Ipv4Addr, Vec<(Ipv4Addr, usize)>> = BTreeMap::new();
        for (index, peer) in peers.iter().enumerate().filter(|(_, peer)| peer.is_alive) {
            for (&site, &address) in &peer.sites {
                candidates.entry(site).or_default().push((address, index));
            }
        }
        Self { this, source: Source::Alone, peers, candidates }
    }

    /// Returns the snapshot with the way in which the others are known.
    #[must_use]
    pub fn known_by(self, source: Source) -> Self {
        Self { source, ..self }
    }

    /// Returns the way in which this node knows the others.
    #[must_use]
    pub const fn source(&self) -> &Source {
        &self.source
    }

    /// Returns this node.
    #[must_use]
    pub const fn this(&self) -> &Node {
        &self.this
    }

    /// Returns the other nodes, the dead ones included, in the order of their names.
    #[must_use]
    pub fn peers(&self) -> &[Node] {
        &self.peers
    }

    /// Returns the peer that owns a machine, and its server address; `None` if this node owns it. `site` is the address in the spec,
    /// `server` is this node's own address there, and `mac` is the machine's main MAC address, whichever card asks.
    #[must_use]
    pub fn peer_that_owns(&self, site: Ipv4Addr, server: Ipv4Addr, mac: MacAddr) -> Option<(&Node, Ipv4Addr)> {
        self.peer_that_owns_without(site, server, mac, |_| false)
    }

    /// Returns the same if the nodes with certain server addresses did not exist.
    #[must_use]
    pub fn peer_that_owns_without(
        &self,
        site: Ipv4Addr,
        server: Ipv4Addr,
        mac: MacAddr,
        without: impl Fn(Ipv4Addr) -> bool,
    ) -> Option<(&Node, Ipv4Addr)> {
        self.first_peer(site, mac, without).filter(|&(_, address)| rank(address, mac) > rank(server, mac))
    }

    /// Returns the server addresses of the living peers that serve a site.
    pub fn servers_of(&self, site: Ipv4Addr) -> impl Iterator<Item = Ipv4Addr> + '_ {
        self.candidates.get(&site).into_iter().flatten().map(|&(address, _)| address)
    }

    /// Returns the owner of a machine. If no living node serves its site, one of the living nodes is chosen all the same, so that one of
    /// them speaks for the machine.
    #[must_use]
    pub fn owner(&self, site: Ipv4Addr, mac: MacAddr) -> Owner<'_> {
        let peer = match self.this.sites.get(&site) {
            Some(&server) => self.peer_that_owns(site, server, mac),
            None => match self.first_peer(site, mac, |_| false) {
                Some(peer) => Some(peer),
                None => return self.named_owner(&mac.0).map_or(Owner::This, |peer| Owner::Peer(peer, None)),
            },
        };
        peer.map_or(Owner::This, |(peer, address)| Owner::Peer(peer, Some(address)))
    }

    /// Returns `true` if this node is the one that speaks for something with this key, such as `TalosCluster default/metal`. All
    /// living nodes are candidates, by their names.
    #[must_use]
    pub fn owns_key(&self, key: &str) -> bool {
        self.named_owner(key.as_bytes()).is_none()
    }

    /// Returns the peer that has or had this server address, dead or alive.
    #[must_use]
    pub fn peer_at(&self, server: Ipv4Addr) -> Option<&Node> {
        let has_it = |peer: &&Node| peer.sites.values().chain(&peer.formerly).any(|&address| address == server);
        self.peers.iter().find(has_it)
    }

    /// Returns the living peer that would own a machine if this node did not exist.
    fn first_peer(
        &self,
        site: Ipv4Addr,
        mac: MacAddr,
        without: impl Fn(Ipv4Addr) -> bool,
    ) -> Option<(&Node, Ipv4Addr)> {
        let candidates = self.candidates.get(&site)?.iter().copied().filter(|&(address, _)| !without(address));
        let (address, index) = candidates.max_by_key(|&(address, _)| rank(address, mac))?;
        Some((self.peers.get(index)?, address))
    }

    /// Returns the living peer that owns a key; `None` if it is this node.
    fn named_owner(&self, key: &[u8]) -> Option<&Node> {
        let key = fold(key);
        let rank = |node: &Node| (mix(mix(fold(node.name.as_bytes())) ^ key), Arc::clone(&node.name));
        let best = self.peers.iter().filter(|peer| peer.is_alive).max_by_key(|peer| rank(peer))?;
        (rank(best) > rank(&self.this)).then_some(best)
    }
}

/// Returns the rank of a node for a machine: the node with the highest owns it. The address decides between equal hashes.
///
/// All nodes of a fleet must agree, whatever their version, so this function never changes.
fn rank(server: Ipv4Addr, mac: MacAddr) -> (u64, Ipv4Addr) {
    let [a, b, c, d, e, f] = mac.0;
    let mac = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
    (mix(mix(u64::from(u32::from(server))) ^ mac), server)
}

/// One step of `SplitMix64` (Steele, Lea, Flood 2014), which spreads each bit of its input over all of its output.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// FNV-1a, 64 bits.
fn fold(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests;
