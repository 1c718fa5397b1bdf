//! The address at which a node serves a site: the one in the spec, or one of the node's own.
//!
//! Several nodes may serve one spec, and only one of them can have the address that it names. The choice is a pure function of what the
//! kernel says about the interface, so it is the same after a restart.

use std::{cmp::Reverse, net::Ipv4Addr, sync::Arc};

use crate::{
    model::own_sites::OwnAddress,
    net::{
        interface::{Interface, InterfaceError, listed},
        prefix,
    },
};

/// The addresses that a node may serve at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Addressing {
    /// Only that of the spec. While the interface does not have it, another host may, and nothing is served.
    #[default]
    OfSpec,
    /// That of the spec if the interface has it, else one of the node's own.
    OfNode {
        /// The addresses that a person chose for this (`--advertise`), in their order.
        advertised: Arc<[Ipv4Addr]>,
    },
}

/// A site on an interface, with the addresses at which it is served there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The address in the spec.
    pub site: Ipv4Addr,
    /// This node's addresses.
    pub own: OwnAddress,
}

impl Addressing {
    /// Returns the choice for a node among several, with the addresses that were advertised.
    #[must_use]
    pub fn among_nodes(self) -> Self {
        match self {
            Self::OfSpec => Self::OfNode { advertised: Arc::default() },
            of_node @ Self::OfNode { .. } => of_node,
        }
    }
}

#[cfg(test)]
impl Served {
    /// Returns the site at this address of the spec, served there and nowhere else.
    pub(super) fn of_spec(site: Ipv4Addr) -> Self {
        Self { site, own: OwnAddress { address: site, also: Arc::default() } }
    }
}

impl Addressing {
    /// Returns the addresses at which the sites on an interface are served, in the order of `sites`, and the errors of the sites that
    /// cannot be served.
    #[must_use]
    pub fn on(&self, interface: &Interface, sites: &[Ipv4Addr]) -> (Vec<Served>, Vec<InterfaceError>) {
        let (mut served, mut errors) = (Vec::new(), Vec::new());
        for &site in sites {
            let own = match self {
                Self::OfSpec => {
                    interface.prefix_length(site).map(|_| OwnAddress { address: site, also: Arc::default() })
                }
                Self::OfNode { advertised } => of_node(interface, site, sites, advertised),
            };
            match (own, self) {
                (Some(own), _) => served.push(Served { site, own }),
                (None, Self::OfSpec) => errors.push(interface.lacks(site)),
                (None, Self::OfNode { .. }) => errors.push(interface.has_none_for(site)),
            }
        }
        (served, errors)
    }

    /// Returns a sentence about each site that several addresses of the interface could serve, for the log.
    pub fn choices(&self, interface: &Interface, sites: &[Ipv4Addr]) -> impl Iterator<Item = String> {
        let served = match self {
            Self::OfSpec => Vec::new(),
            Self::OfNode { .. } => self.on(interface, sites).0,
        };
        served.into_iter().filter(|served| served.own.address != served.site).filter_map(|Served { site, own }| {
            let others = networks(interface, site).map(|(_, address, _)| address);
            let others: Vec<_> = others.filter(|other| *other != own.address && !sites.contains(other)).collect();
            let other = others.first()?;
            let (name, address, present) = (&interface.name, own.address, listed(&interface.addresses));
            Some(format!(
                "interface {name} has several addresses ({present}): {address} serves the site {site}, and --advertise {other} \
                 would choose another one"
            ))
        })
    }

    /// Returns a warning for each interface on which a site is not served at the address of the spec although addresses were
    /// advertised, if one of these is on none of the interfaces: it may be misspelt. An address that another node of the same
    /// configuration has is no mistake, as long as this node has one, too.
    #[must_use]
    pub fn unused<'i>(&self, interfaces: impl Iterator<Item = (&'i Interface, &'i [Ipv4Addr])> + Clone) -> Vec<Unused> {
        let Self::OfNode { advertised } = self else { return Vec::new() };
        let is_here = |&address: &Ipv4Addr| interfaces.clone().any(|(interface, _)| has(interface, address));
        let nowhere: Vec<_> = advertised.iter().copied().filter(|address| !is_here(address)).collect();
        if nowhere.is_empty() {
            return Vec::new();
        }
        let without = interfaces.filter(|(interface, sites)| {
            sites.iter().any(|&site| !has(interface, site))
                && !advertised.iter().any(|&address| has(interface, address))
        });
        without
            .map(|(interface, _)| Unused {
                interface: interface.name.clone(),
                present: listed(&interface.addresses),
                addresses: nowhere.clone(),
            })
            .collect()
    }
}

/// Advertised addresses that no interface has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unused {
    /// An interface that has none of the advertised addresses.
    pub interface: String,
    /// Its addresses.
    pub present: String,
    /// The addresses.
    pub addresses: Vec<Ipv4Addr>,
}

fn has(interface: &Interface, address: Ipv4Addr) -> bool {
    interface.prefix_length(address).is_some()
}

/// Returns the addresses at which a node serves a site: all those that it might choose and that the interface has, the best one first.
///
/// A machine in the middle of its boot knows one of them from its lease, its script or its configuration. So an address that moved to this
/// node, or a person's choice after a restart, takes nothing away from it while the interface has the one before.
fn of_node(interface: &Interface, site: Ipv4Addr, sites: &[Ipv4Addr], advertised: &[Ipv4Addr]) -> Option<OwnAddress> {
    let of_spec = Some(site).filter(|&site| has(interface, site));
    let own = in_network_of(interface, site, sites);
    let chosen = advertised_on(interface, site, advertised);
    let mut candidates = [of_spec, chosen, own].into_iter().flatten();
    let address = candidates.next()?;
    let mut also: Vec<_> = candidates.filter(|&other| other != address).collect();
    also.sort_unstable();
    also.dedup();
    Some(OwnAddress { address, also: also.into() })
}

/// Returns the first advertised address that the interface has in a network with the site's address, or else the first that it has.
fn advertised_on(interface: &Interface, site: Ipv4Addr, advertised: &[Ipv4Addr]) -> Option<Ipv4Addr> {
    let here = || advertised.iter().copied().filter(|&address| has(interface, address));
    let is_near = |&address: &Ipv4Addr| {
        networks(interface, site).any(|(_, network, length)| prefix::same(network, address, length))
    };
    here().find(is_near).or_else(|| here().next())
}

/// Returns the node's own address in the smallest network of the interface that holds the site's address: the first that the kernel lists
/// there, which is the primary one. The address of another site is taken only if there is no other, since it may move to another node.
fn in_network_of(interface: &Interface, site: Ipv4Addr, sites: &[Ipv4Addr]) -> Option<Ipv4Addr> {
    let own = networks(interface, site).filter(|&(_, address, _)| address != site);
    own.min_by_key(|&(index, address, length)| (sites.contains(&address), Reverse(length), index))
        .map(|(_, address, _)| address)
}

/// Returns the networks of the interface that hold the site's address, each with its position, our address in it and its prefix length.
fn networks(interface: &Interface, site: Ipv4Addr) -> impl Iterator<Item = (usize, Ipv4Addr, u8)> {
    let addresses = interface.addresses.iter().enumerate().map(|(index, &(address, length))| (index, address, length));
    addresses.filter(move |&(_, address, length)| length < 32 && prefix::same(address, site, length))
}

#[cfg(test)]
mod tests;
