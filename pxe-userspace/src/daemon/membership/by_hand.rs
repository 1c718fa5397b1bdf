//! The peers of `--peers`: known by their addresses alone, and taken to live.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use crate::{
    model::{
        inventory::Site,
        nodes::{Node, Nodes, Sites, Source},
        own_sites::OwnSites,
    },
    net::prefix,
};

/// The addresses of this host, each with its prefix length, by interface.
pub(super) type Interfaces = BTreeMap<String, Vec<(Ipv4Addr, u8)>>;

/// The nodes that a list of peers means, and what is wrong with the list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ByHand {
    pub(super) nodes: Nodes,
    /// The problems, each a sentence for a person.
    pub(super) problems: Vec<String>,
}

/// Returns the nodes. Each peer serves the sites of the networks that it is in, or the only site wherever it is. The addresses of this
/// host are no peers, so that all nodes can be given one list.
pub(super) fn nodes(
    peers: &[Ipv4Addr],
    name: &Arc<str>,
    sites: &BTreeSet<Site>,
    own: &OwnSites,
    interfaces: &Interfaces,
) -> ByHand {
    let is_own = |address: &Ipv4Addr| interfaces.values().flatten().any(|(own, _)| own == address);
    let mut problems = Vec::new();
    let mut nodes = Vec::new();
    for &peer in peers.iter().filter(|peer| !is_own(peer)) {
        let serves = |site: &&Site| sites.len() == 1 || are_neighbours(peer, site, own, interfaces);
        let serves: Sites = sites.iter().filter(serves).map(|site| (site.address, peer)).collect();
        if serves.is_empty() && !sites.is_empty() {
            problems.push(format!(
                "--peers {peer}: no interface of the spec has an address in its network here, so no site is shared with it"
            ));
        }
        nodes.push(Node { name: peer.to_string().into(), sites: serves, is_alive: true, ..Node::default() });
    }
    let served = own.served.iter().map(|(site, own)| (site.address, own.address)).collect();
    let this = Node {
        name: Arc::clone(name),
        sites: served,
        is_alive: true,
        problems: own.problems.clone(),
        ..Node::default()
    };
    ByHand { nodes: Nodes::new(this, nodes).known_by(Source::ByHand), problems }
}

/// Returns `true` if the peer is in the network of this node's address on the site, or of the spec's.
fn are_neighbours(peer: Ipv4Addr, site: &Site, own: &OwnSites, interfaces: &Interfaces) -> bool {
    let own = own.of(site).map(|own| own.address);
    let networks = interfaces.get(&*site.interface).into_iter().flatten();
    networks.filter(|(_, length)| *length < 32).any(|&(address, length)| {
        let holds = |other| prefix::same(address, other, length);
        holds(peer) && (holds(site.address) || own.is_some_and(holds))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::own_sites::OwnAddress;

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    fn site(interface: &str, address: &str) -> Site {
        Site { interface: interface.into(), address: ip(address) }
    }

    fn served(sites: &[(Site, &str)]) -> OwnSites {
        let own = |address: &str| OwnAddress { address: ip(address), also: Arc::default() };
        OwnSites {
            served: sites.iter().map(|(site, address)| (site.clone(), own(address))).collect(),
            problems: Vec::new(),
        }
    }

    fn interfaces() -> Interfaces {
        [("eth1", "10.0.0.2", 24), ("eth2", "10.1.0.2", 16)]
            .map(|(name, address, length)| (name.to_owned(), vec![(ip(address), length)]))
            .into()
    }

    fn by_hand(peers: &[&str], sites: &[Site], own: &OwnSites) -> ByHand {
        let peers: Vec<_> = peers.iter().map(|peer| ip(peer)).collect();
        nodes(&peers, &"here".into(), &sites.iter().cloned().collect(), own, &interfaces())
    }

    #[test]
    fn peers_serve_the_sites_of_their_networks() {
        let sites = [site("eth1", "10.0.0.254"), site("eth2", "10.1.0.254")];
        let own = served(&[(sites[0].clone(), "10.0.0.2"), (sites[1].clone(), "10.1.0.2")]);
        let ByHand { nodes, problems } = by_hand(&["10.0.0.3", "10.1.200.3", "192.168.0.3"], &sites, &own);
        assert_eq!(nodes.servers_of(ip("10.0.0.254")).collect::<Vec<_>>(), [ip("10.0.0.3")]);
        assert_eq!(nodes.servers_of(ip("10.1.0.254")).collect::<Vec<_>>(), [ip("10.1.200.3")]);
        assert!(problems.len() == 1 && problems[0].starts_with("--peers 192.168.0.3: "), "{problems:?}");
        assert_eq!(
            nodes.this().sites,
            Sites::from([(ip("10.0.0.254"), ip("10.0.0.2")), (ip("10.1.0.254"), ip("10.1.0.2"))])
        );
    }

    #[test]
    fn only_site_is_shared_with_peers_anywhere() {
        let sites = [site("eth1", "10.0.0.254")];
        let ByHand { nodes, problems } = by_hand(&["192.168.0.3"], &sites, &served(&[]));
        assert_eq!(nodes.servers_of(ip("10.0.0.254")).collect::<Vec<_>>(), [ip("192.168.0.3")]);
        assert_eq!(problems, Vec::<String>::new());
    }

    #[test]
    fn own_addresses_in_the_list_are_no_peers() {
        let sites = [site("eth1", "10.0.0.254")];
        let ByHand { nodes, problems } = by_hand(&["10.0.0.2", "10.0.0.3", "10.1.0.2"], &sites, &served(&[]));
        let names: Vec<_> = nodes.peers().iter().map(|peer| &*peer.name).collect();
        assert_eq!((names, problems), (vec!["10.0.0.3"], Vec::new()));
    }
}
