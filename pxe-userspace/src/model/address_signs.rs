//! Signs that a machine's address is not where the spec says.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use pxe_common::MacAddr;

use super::inventory::{Inventory, Machine};

/// A host of the link that has an address, as the kernel knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its hardware address.
    pub mac: MacAddr,
    /// The interface on which it answered.
    pub interface: Arc<str>,
    /// The time since it last answered for the address.
    pub confirmed: Duration,
}

/// Asks the kernel who has an address. The interface is that of the machine's site; the host may be on another one.
pub type NeighbourAt = fn(&str, Ipv4Addr) -> Option<Neighbour>;

/// A host with a hardware address that the spec does not name for the machine whose address it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The host as the kernel knows it.
    pub neighbour: Neighbour,
    /// The things that are known of it besides.
    pub identity: Identity,
}

/// The things that are known of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Another machine of the spec.
    OtherMachine(Arc<Machine>),
    /// The machine's router, with its address: it may answer ARP for others (proxy ARP).
    Router(Ipv4Addr),
    /// Nothing.
    Unknown,
}

/// The signs about one machine that are in no journal, as they are now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressSigns {
    /// The host that has the machine's address, unless it is the machine.
    pub holder: Option<Holder>,
    /// The last request for what is the machine's alone that came from another address, with that address.
    pub asked_from: Option<(IpAddr, SystemTime)>,
}

impl AddressSigns {
    /// Returns the signs about a machine of this inventory.
    #[must_use]
    pub fn of(
        machine: &Machine,
        inventory: &Inventory,
        neighbour_at: impl Fn(&str, Ipv4Addr) -> Option<Neighbour>,
        asked_from: Option<(IpAddr, SystemTime)>,
    ) -> Self {
        let neighbour_at = |address| neighbour_at(&machine.site.interface, address);
        let other = neighbour_at(machine.address).filter(|other| machine.macs().all(|card| card != other.mac));
        let holder = other.map(|neighbour| {
            let is_it = |router: &Ipv4Addr| neighbour_at(*router).is_some_and(|router| router.mac == neighbour.mac);
            let identity = match (inventory.by_mac(neighbour.mac), machine.gateway.filter(is_it)) {
                (Some(other), _) => Identity::OtherMachine(Arc::clone(other)),
                (None, Some(router)) => Identity::Router(router),
                (None, None) => Identity::Unknown,
            };
            Holder { neighbour, identity }
        });
        Self { holder, asked_from }
    }
}
