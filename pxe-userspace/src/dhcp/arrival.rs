//! How a query arrived, and at which server.

use std::net::{Ipv4Addr, SocketAddrV4};

/// Whether addresses are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Full DHCP: reservations and boot files.
    Server,
    /// ProxyDHCP: boot files, beside another server that gives the addresses.
    Proxy,
}

/// Ourselves on one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// Our address: server identifier, TFTP server, host of every URL.
    pub address: Ipv4Addr,
    /// Bits in the interface's network mask; machines without one of their own use it.
    pub prefix_length: u8,
    /// The port of the boot HTTP listener.
    pub http_port: u16,
    /// Seconds of a lease.
    pub lease_seconds: u32,
    /// Whether addresses are given.
    pub mode: Mode,
}

/// From where to where a query travelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The sender's IP address, unspecified where it has none, and its UDP port.
    pub source: SocketAddrV4,
    /// The address that it spoke to, ours or a broadcast address, and port 67 or 4011.
    pub destination: SocketAddrV4,
}
