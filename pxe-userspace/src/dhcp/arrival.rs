//! The circumstances of a query: its addresses, and the server that it reached.

use std::net::{Ipv4Addr, SocketAddrV4};

/// The kind of DHCP service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Full DHCP: addresses and boot files.
    Server,
    /// ProxyDHCP: boot files only, beside another server that assigns the addresses.
    Proxy,
}

/// Our server on one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// Our address: server identifier, TFTP server, host of every URL.
    pub address: Ipv4Addr,
    /// The bits of the interface's network mask, for machines without a mask of their own.
    pub prefix_length: u8,
    /// The port of the boot HTTP listener.
    pub http_port: u16,
    /// The duration of a lease in seconds.
    pub lease_seconds: u32,
    /// The kind of service.
    pub mode: Mode,
}

/// The source and destination of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The sender's IP address, unspecified if it has none, and its UDP port.
    pub source: SocketAddrV4,
    /// The address that it spoke to, which is ours or a broadcast address, and port 67 or 4011.
    pub destination: SocketAddrV4,
}
