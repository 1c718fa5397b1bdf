//! The circumstances of a query: its addresses, and the server that it reached.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::{model::inventory::Machine, net::networks::Networks};

/// The kind of DHCP service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Full DHCP: addresses and boot files.
    Server,
    /// ProxyDHCP: boot files only, beside another server that assigns the addresses.
    Proxy,
}

/// Our server on one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Our address: server identifier, TFTP server, host of every URL.
    pub address: Ipv4Addr,
    /// The networks of its interface, for machines without a mask of their own.
    pub networks: Networks,
    /// The port of the boot HTTP listener.
    pub http_port: u16,
    /// The duration of a lease in seconds.
    pub lease_seconds: u32,
    /// The kind of service.
    pub mode: Mode,
}

impl Server {
    /// Returns the prefix length of a machine's network: the spec's; else that of the interface's network that holds the
    /// machine; else that of the server's network, since the networks of a site are usually of one size.
    #[must_use]
    pub fn prefix_length(&self, machine: &Machine) -> u8 {
        let of_interface = || self.networks.holding(machine.address).map(|(_, length)| length);
        machine.prefix_length.or_else(of_interface).unwrap_or_else(|| self.networks.first_prefix_length())
    }
}

/// The source and destination of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The sender's IP address, unspecified if it has none, and its UDP port.
    pub source: SocketAddrV4,
    /// The address that it spoke to, which is ours or a broadcast address, and port 67 or 4011.
    pub destination: SocketAddrV4,
}
