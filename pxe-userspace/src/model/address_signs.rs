//! Signs that a machine's address is not where the spec says.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use pxe_common::MacAddr;

/// A host of the link that has an address, as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its hardware address.
    pub mac: MacAddr,
    /// The time since it last answered for the address.
    pub confirmed: Duration,
}

/// The signs about one machine that are in no journal, as they are now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressSigns {
    /// The host that has the machine's address.
    pub neighbour: Option<Neighbour>,
    /// The last request for what is the machine's alone that came from another address, with that address.
    pub asked_from: Option<(IpAddr, SystemTime)>,
}
