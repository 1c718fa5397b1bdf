//! The circumstances of a query: its addresses, and the server that it reached.

use std::{
    borrow::Cow,
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use pxe_common::MacAddr;

use super::decode::Query;
use crate::{
    guard::Guard,
    model::inventory::Machine,
    net::{networks::Networks, prefix},
};

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
    /// Other addresses of ours, by which a client may know this server from before.
    pub also: Arc<[Ipv4Addr]>,
    /// The networks of its interface, for machines without a mask of their own.
    pub networks: Networks,
    /// The port of the boot HTTP listener.
    pub http_port: u16,
    /// The duration of a lease in seconds.
    pub lease_seconds: u32,
    /// The kind of service.
    pub mode: Mode,
    /// Makes the unguessable parts of URLs. `None` if scripts are given to whoever asks.
    pub guard: Option<Arc<Guard>>,
}

impl Server {
    /// Returns `true` if this is one of its addresses.
    #[must_use]
    pub fn is_at(&self, address: Ipv4Addr) -> bool {
        self.address == address || self.also.contains(&address)
    }

    /// Returns the server as a client knows it: at the address that the query names as its server, or that it was sent to by a client
    /// without a relay, if that is one of ours; else at the usual address. An address may have moved to us after the client got its offer
    /// or its lease, and the client accepts the answers of the server that it chose.
    #[must_use]
    pub fn as_known_by(&self, query: &Query<'_>, arrival: &Arrival) -> Cow<'_, Self> {
        let sent_to = || Some(*arrival.destination.ip()).filter(|_| query.giaddr().is_unspecified());
        let known = query.server_id().or_else(sent_to).filter(|address| self.also.contains(address));
        match known {
            Some(address) => Cow::Owned(Self { address, ..self.clone() }),
            None => Cow::Borrowed(self),
        }
    }

    /// Returns the prefix length of a machine's network: the spec's; else that of the interface's network that holds the
    /// machine; else that of the server's network, since the networks of a site are usually of one size.
    #[must_use]
    pub fn prefix_length(&self, machine: &Machine) -> u8 {
        let of_interface = || self.networks.holding(machine.address).map(|(_, length)| length);
        machine.prefix_length.or_else(of_interface).unwrap_or_else(|| self.networks.first_prefix_length())
    }

    /// Returns the router for a machine, given the address of its relay on its link: the spec's; else an address that the
    /// machine reaches without a router. That is the server's or the relay's, or another one of the interface, through which
    /// the machine reaches the server.
    #[must_use]
    pub fn router(&self, machine: &Machine, relay: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        let prefix_length = self.prefix_length(machine);
        let on_link = |&address: &Ipv4Addr| {
            address != machine.address
                && prefix::same(address, machine.address, prefix_length)
                && !prefix::is_edge(address, prefix_length)
        };
        let beside_server = self.networks.holding(machine.address).map(|(address, _)| address);
        machine.gateway.or_else(|| [Some(self.address), relay, beside_server].into_iter().flatten().find(on_link))
    }

    /// Returns `true` if a machine is told of a way to the server: both are in one network, or it gets a router. A machine in
    /// none of the interface's networks is taken to be behind a relay, which is its router.
    #[must_use]
    pub fn is_reached_by(&self, machine: &Machine) -> bool {
        let prefix_length = self.prefix_length(machine);
        let is_relayed = prefix_length < 32 && self.networks.holding(machine.address).is_none();
        prefix::same(self.address, machine.address, prefix_length) || self.router(machine, None).is_some() || is_relayed
    }
}

/// The source and destination of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The sender's IP address, unspecified if it has none, and its UDP port.
    pub source: SocketAddrV4,
    /// The address that it spoke to, which is ours or a broadcast address, and port 67 or 4011.
    pub destination: SocketAddrV4,
    /// The hardware address that sent the frame: the client's, a router's, or anybody's.
    pub sender: MacAddr,
    /// Set if a relay forwarded the packet that the operator trusts.
    pub by_trusted_relay: bool,
    /// The time, in seconds since 1970.
    pub at: u32,
}

impl Arrival {
    /// Returns the arrival of a packet between these addresses whose frame and time are not known.
    #[must_use]
    pub const fn between(source: SocketAddrV4, destination: SocketAddrV4) -> Self {
        Self { source, destination, sender: MacAddr([0; 6]), by_trusted_relay: false, at: 0 }
    }

    /// Returns `true` if the query came in a frame of the client itself. Switches then know the port of its hardware address, and no other
    /// port gets a frame that is sent there.
    #[must_use]
    pub fn is_of_client(&self, query: &Query<'_>) -> bool {
        self.sender == query.mac() && query.giaddr().is_unspecified()
    }
}

#[cfg(test)]
mod tests;
