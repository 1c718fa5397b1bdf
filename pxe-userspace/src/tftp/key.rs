//! The names of transfers.

use std::net::SocketAddrV4;

/// One of a worker's ports, by its place in [`Ports`](super::ports::Ports).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PortId(pub(super) u32);

impl PortId {
    /// The port from which refusals are sent. No transfer uses it.
    pub(super) const REFUSALS: Self = Self(0);
}

/// The pair of transfer identifiers that names a transfer (RFC 1350 §4): the client's address and port, and our port. A datagram belongs
/// to the transfer only if both are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    /// The client.
    pub(super) client: SocketAddrV4,
    /// Our port.
    pub(super) port: PortId,
}
