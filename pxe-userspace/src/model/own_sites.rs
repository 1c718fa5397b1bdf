//! The addresses at which this node serves the sites of the spec.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use arc_swap::ArcSwap;

use super::inventory::Site;

/// The addresses in force. The upkeep stores new ones whenever they change; readers load them.
pub type SharedOwnSites = Arc<ArcSwap<OwnSites>>;

/// The addresses of this node on a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnAddress {
    /// The address in its answers: server identifier, next server, and host of every URL.
    pub address: Ipv4Addr,
    /// The other addresses at which it serves the same machines, sorted: they may know one of them from before, when an address moved.
    pub also: Arc<[Ipv4Addr]>,
}

impl OwnAddress {
    /// Returns `true` if this node serves the site at `address`.
    #[must_use]
    pub fn includes(&self, address: Ipv4Addr) -> bool {
        self.address == address || self.also.contains(&address)
    }
}

/// The sites that this node serves now, and the reasons why it does not serve others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnSites {
    /// Those whose DHCP, TFTP and HTTP it answers now.
    pub served: BTreeMap<Site, OwnAddress>,
    /// The problems of its interfaces and servers, each a sentence for a person that names the interface or address; sorted.
    pub problems: Vec<String>,
}

impl OwnSites {
    /// Returns the addresses at which this node serves a site, or `None` if it does not serve it.
    #[must_use]
    pub fn of(&self, site: &Site) -> Option<&OwnAddress> {
        self.served.get(site)
    }
}
