//! Asks the kernel who has a machine's address, for those who explain the machine.

use std::net::Ipv4Addr;

use crate::{
    model::address_signs::Neighbour,
    net::{interface::Interface, neighbour, prefix},
};

/// Returns the host that has an address on an interface. Returns `None` if nobody is known to have it, or the kernel does not tell.
///
/// An entry for an address that is in none of the interface's networks says nothing: the kernel makes one for whoever asks for our address.
pub(super) fn neighbour_at(interface: &str, address: Ipv4Addr) -> Option<Neighbour> {
    let networks = Interface::read(interface).ok()?.addresses;
    if !networks.iter().any(|&(ours, length)| prefix::same(address, ours, length)) {
        return None;
    }
    let (mac, confirmed) = neighbour::neighbour(interface, address).ok().flatten()?;
    Some(Neighbour { mac, confirmed })
}
