//! Reasons for leaving a packet unanswered.

use crate::model::failure::OTHER_OFFER;

/// A reason for not answering a packet. Each has a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The packet is shorter than a DHCP message, or longer than UDP can carry.
    Length,
    /// `op` is not BOOTREQUEST: the packet is from a server, or replayed.
    NotARequest,
    /// `htype` is not Ethernet, or `hlen` is not 6.
    HardwareAddress,
    /// `chaddr` is zero or a group address.
    NotOneMachine,
    /// The packet has no magic cookie or no message type: it is BOOTP.
    Bootp,
    /// An essential option has a wrong length, or is cut off.
    BrokenOption,
    /// An option that can have one value came with two, for example two server identifiers.
    Contradiction,
    /// A message type that clients do not send.
    NotAClientMessage,
    /// The message is for a DHCP server and came to the boot server's port, 4011.
    BootServerPort,
    /// No machine has this MAC.
    UnknownMachine,
    /// `giaddr` is our own address, or cannot be a relay's.
    BadRelay,
    /// The client took another server's offer.
    OtherServer,
    /// Another node of the fleet answers this machine first.
    LeftToPeer,
    /// The client took the offer of another node of the fleet.
    ChosePeer,
    /// A DHCPREQUEST names no address.
    NoAddress,
    /// The relay reports the machine on a network that its address does not belong to.
    WrongNetwork,
    /// ProxyDHCP does not answer this message: it concerns an address, which the other server assigns.
    NothingToSay,
    /// The machine boots from its disk, and silence makes this firmware continue with it.
    SentToDisk,
    /// There is no loader for the firmware's architecture, and ProxyDHCP has nothing else to offer.
    NoLoader,
    /// DHCPDECLINE and DHCPRELEASE have no reply.
    NoReplyDue,
    /// The reply is longer than the client accepts.
    NoRoom,
    /// The address of the machine in the spec is this host's, or another node's.
    OurAddress,
    /// Another host asked for the machine, and the reply would end the machine's own exchange.
    FromElsewhere,
}

impl Reason {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 23] = [
        Self::Length,
        Self::NotARequest,
        Self::HardwareAddress,
        Self::NotOneMachine,
        Self::Bootp,
        Self::BrokenOption,
        Self::Contradiction,
        Self::NotAClientMessage,
        Self::BootServerPort,
        Self::UnknownMachine,
        Self::BadRelay,
        Self::OtherServer,
        Self::LeftToPeer,
        Self::ChosePeer,
        Self::NoAddress,
        Self::WrongNetwork,
        Self::NothingToSay,
        Self::SentToDisk,
        Self::NoLoader,
        Self::NoReplyDue,
        Self::NoRoom,
        Self::OurAddress,
        Self::FromElsewhere,
    ];

    /// Returns the index of the counter, below the length of [`Reason::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Returns the label of the counter.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::NotARequest => "not_a_request",
            Self::HardwareAddress => "hardware_address",
            Self::NotOneMachine => "not_one_machine",
            Self::Bootp => "bootp",
            Self::BrokenOption => "broken_option",
            Self::Contradiction => "contradiction",
            Self::NotAClientMessage => "not_a_client_message",
            Self::BootServerPort => "boot_server_port",
            Self::UnknownMachine => "unknown_machine",
            Self::BadRelay => "bad_relay",
            Self::OtherServer => "other_server",
            Self::LeftToPeer => "left_to_peer",
            Self::ChosePeer => "chose_peer",
            Self::NoAddress => "no_address",
            Self::WrongNetwork => "wrong_network",
            Self::NothingToSay => "nothing_to_say",
            Self::SentToDisk => "sent_to_disk",
            Self::NoLoader => "no_loader",
            Self::NoReplyDue => "no_reply_due",
            Self::NoRoom => "no_room",
            Self::OurAddress => "our_address",
            Self::FromElsewhere => "from_elsewhere",
        }
    }

    /// Returns the reason in words, about one machine.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Length => "the packet is too short or too long for DHCP",
            Self::NotARequest => "the packet comes from a server, not from a client",
            Self::HardwareAddress => "the packet does not carry an Ethernet address of six bytes",
            Self::NotOneMachine => "the hardware address in the packet cannot belong to one machine",
            Self::Bootp => "the packet is BOOTP without DHCP",
            Self::BrokenOption => "an option in the packet is cut off or has a wrong length",
            Self::Contradiction => "the packet has two different values for one option",
            Self::NotAClientMessage => "the packet is of a type that clients do not send",
            Self::BootServerPort => {
                "the message is for a DHCP server, but came to port 4011, where only requests for a boot file are answered"
            }
            Self::UnknownMachine => "no machine in the spec has this MAC",
            Self::BadRelay => "the relay's address (giaddr) is our own or cannot be a relay's",
            Self::OtherServer => OTHER_OFFER,
            Self::LeftToPeer => "another pxed of the fleet answers this machine",
            Self::ChosePeer => "the machine chose the offer of another pxed of the fleet",
            Self::NoAddress => "the machine requested a lease without naming an address",
            Self::WrongNetwork => {
                "the relay reports the machine on a network that its address does not belong to; check the cabling or the spec"
            }
            Self::NothingToSay => "the message concerns an address, which the other DHCP server assigns",
            Self::SentToDisk => "the machine is to boot from its disk",
            Self::NoLoader => "there is no loader for the architecture of the machine's firmware",
            Self::NoReplyDue => "the message needs no reply",
            Self::NoRoom => "the reply is longer than the machine and its relay accept",
            Self::FromElsewhere => {
                "another host sent the packet in the machine's name, and the reply would end the machine's own exchange"
            }
            Self::OurAddress => {
                "its address in the spec is that of a host that runs pxed; give one of the two another address"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_a_counter_and_a_name_each() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), index);
            assert_eq!(Reason::ALL.iter().filter(|other| other.name() == reason.name()).count(), 1);
        }
    }
}
