//! Asks the kernel who has a machine's address, for those who explain the machine.

use std::net::Ipv4Addr;

use crate::{
    model::address_signs::Neighbour,
    net::neighbour::{self, Found},
};

/// Returns the host that has an address on an interface, or where this host's routes lead. Returns `None` if nobody is known to have it, or the
/// kernel does not tell.
pub(super) fn neighbour_at(interface: &str, address: Ipv4Addr) -> Option<Neighbour> {
    let Found { interface, mac, confirmed } = neighbour::neighbour(interface, address).ok().flatten()?;
    Some(Neighbour { mac, interface: interface.into(), confirmed })
}
