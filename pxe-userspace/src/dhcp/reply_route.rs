//! The six routes by which a reply reaches its client (RFC 2131 §4.1, and PXE's port 4011).

use std::net::{Ipv4Addr, SocketAddrV4};

use pxe_common::MacAddr;
use pxe_common::bootp::{BOOT_SERVER_PORT, CLIENT_PORT, SERVER_PORT};

use super::{
    arrival::Arrival,
    decode::Query,
    relay::{Relay, is_host},
    wire::MessageType,
};
use crate::model::dhcp_answers::DhcpAnswers;

/// The route of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyRoute {
    /// To the relay agent that forwarded the query, on the server port or the relay's own (RFC 8357). The frame returns to the
    /// Ethernet address that the query came from.
    Relay(SocketAddrV4),
    /// To a client that has its address and answers ARP. The frame returns to the Ethernet address that the query came from, which
    /// may be a router's.
    Client(Ipv4Addr),
    /// To the assigned address, in a frame to the client's hardware address, because the client cannot answer ARP yet.
    Hardware {
        /// The assigned address.
        address: Ipv4Addr,
        /// The client's hardware address.
        mac: MacAddr,
    },
    /// To every host of the link by IP, in a frame to the client's hardware address. Clients accept what is sent to either, and no other host
    /// of the link is bothered, nor gets to know what is said.
    AllByHardware(MacAddr),
    /// To every host of the link.
    Broadcast,
    /// To the source of the query, for ProxyDHCP's boot server port and for DHCPINFORM without `ciaddr`.
    Source(SocketAddrV4),
}

impl ReplyRoute {
    /// Returns the IP address and UDP port of the reply's destination.
    #[must_use]
    pub const fn destination(self) -> SocketAddrV4 {
        match self {
            Self::Client(address) | Self::Hardware { address, .. } => SocketAddrV4::new(address, CLIENT_PORT),
            Self::AllByHardware(_) | Self::Broadcast => SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT),
            Self::Relay(to) | Self::Source(to) => to,
        }
    }
}

/// Returns the address that a DHCPINFORM reports as its client's own; `None` if it reports none that can be one.
#[must_use]
pub fn inform_address(query: &Query<'_>) -> Option<Ipv4Addr> {
    (query.message() == MessageType::Inform).then(|| query.ciaddr()).filter(|&address| is_host(address))
}

/// Chooses the route of a reply of this type that assigns `yiaddr` (unspecified if it assigns no address), in frames of this kind.
///
/// What is meant for every host goes to the client's hardware address if the query came in a frame from there: then the switches know its port.
/// A frame to an address that no switch knows would get to every host all the same.
#[must_use]
pub fn reply_route(
    message: MessageType,
    yiaddr: Ipv4Addr,
    query: &Query<'_>,
    relay: &Relay,
    arrival: &Arrival,
    answers: DhcpAnswers,
) -> ReplyRoute {
    let to_all = match answers {
        DhcpAnswers::Unicast if arrival.is_of_client(query) => ReplyRoute::AllByHardware(query.mac()),
        DhcpAnswers::Unicast | DhcpAnswers::Broadcast => ReplyRoute::Broadcast,
    };
    let has_source = !arrival.source.ip().is_unspecified();
    if arrival.destination.port() == BOOT_SERVER_PORT && has_source {
        return ReplyRoute::Source(arrival.source);
    }
    // RFC 2131 §4.3.5: "The server … sends a DHCPACK message directly to the address given in the 'ciaddr' field of the DHCPINFORM
    // message." A relay could only send it to `yiaddr`, which the reply does not have.
    if let Some(address) = inform_address(query) {
        return ReplyRoute::Client(address);
    }
    // "If the 'giaddr' field in a DHCP message from a client is non-zero, the server sends any return
    // messages to the 'DHCP server' port on the BOOTP relay agent whose address appears in 'giaddr'."
    if let Some(address) = relay.address {
        let port = match arrival.source.port() {
            port @ 1.. if relay.uses_source_port => port,
            _ => SERVER_PORT,
        };
        return ReplyRoute::Relay(SocketAddrV4::new(address, port));
    }
    // "In all cases, when 'giaddr' is zero, the server broadcasts any DHCPNAK messages to 0xffffffff."
    // That is because the client may have no address that is right here, which a frame to its hardware address does not need.
    if message == MessageType::Nak {
        return to_all;
    }
    // "If the 'giaddr' field is zero and the 'ciaddr' field is nonzero, then the server unicasts DHCPOFFER
    // and DHCPACK messages to the address in 'ciaddr'."
    if is_host(query.ciaddr()) {
        return ReplyRoute::Client(query.ciaddr());
    }
    // Not in the RFC, which assumes that a DHCPINFORM has `ciaddr`. Some clients leave it empty, or put no host's address there.
    if query.message() == MessageType::Inform && has_source {
        return ReplyRoute::Source(arrival.source);
    }
    // "… and the broadcast bit is set, then the server broadcasts". A ProxyDHCP offer assigns no address to unicast to.
    // Unicast is a SHOULD, so that firmware which mishandles it can be served, too.
    if query.wants_broadcast() || yiaddr.is_unspecified() || answers == DhcpAnswers::Broadcast {
        return to_all;
    }
    // "If the broadcast bit is not set and 'giaddr' is zero and 'ciaddr' is zero, then the server unicasts
    // DHCPOFFER and DHCPACK messages to the client's hardware address and 'yiaddr' address."
    ReplyRoute::Hardware { address: yiaddr, mac: query.mac() }
}
