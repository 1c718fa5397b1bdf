//! Why a packet was left unanswered.

/// Every way for a packet to stay without a reply. Each is a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Shorter than a DHCP message, or longer than UDP can carry.
    Length,
    /// `op` is not BOOTREQUEST: a server's packet, or one replayed.
    NotARequest,
    /// `htype` is not Ethernet, or `hlen` is not 6.
    HardwareAddress,
    /// `chaddr` is zero or a group address.
    NotOneMachine,
    /// No magic cookie, or no message type: BOOTP.
    Bootp,
    /// An option that decides has a wrong length, or is cut off.
    BrokenOption,
    /// An option that can have one value came with two: two server identifiers, for one.
    Contradiction,
    /// A message type that clients do not send.
    NotAClientMessage,
    /// No machine has this MAC.
    UnknownMachine,
    /// `giaddr` is ourselves, or no address that a relay can have.
    BadRelay,
    /// The client took another server's offer.
    OtherServer,
    /// DHCPREQUEST without an address.
    NoAddress,
    /// The relay says that the machine is on a network where its address does not belong.
    WrongNetwork,
    /// ProxyDHCP has nothing for this message: it is about an address, which is the other server's to give.
    NothingToSay,
    /// The machine boots from its disk, and silence is how this firmware goes on to it.
    SentToDisk,
    /// There is no loader for the firmware's architecture, and ProxyDHCP has nothing else to say.
    NoLoader,
    /// DHCPDECLINE and DHCPRELEASE have no reply.
    NoReplyDue,
    /// The reply does not fit into what the client accepts.
    NoRoom,
}

impl Reason {
    /// Every reason, in the order of its counters.
    pub const ALL: [Self; 18] = [
        Self::Length,
        Self::NotARequest,
        Self::HardwareAddress,
        Self::NotOneMachine,
        Self::Bootp,
        Self::BrokenOption,
        Self::Contradiction,
        Self::NotAClientMessage,
        Self::UnknownMachine,
        Self::BadRelay,
        Self::OtherServer,
        Self::NoAddress,
        Self::WrongNetwork,
        Self::NothingToSay,
        Self::SentToDisk,
        Self::NoLoader,
        Self::NoReplyDue,
        Self::NoRoom,
    ];

    /// The index of its counter, below [`Reason::ALL`]'s length.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The label of its counter.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::NotARequest => "not-a-request",
            Self::HardwareAddress => "hardware-address",
            Self::NotOneMachine => "not-one-machine",
            Self::Bootp => "bootp",
            Self::BrokenOption => "broken-option",
            Self::Contradiction => "contradiction",
            Self::NotAClientMessage => "not-a-client-message",
            Self::UnknownMachine => "unknown-machine",
            Self::BadRelay => "bad-relay",
            Self::OtherServer => "other-server",
            Self::NoAddress => "no-address",
            Self::WrongNetwork => "wrong-network",
            Self::NothingToSay => "nothing-to-say",
            Self::SentToDisk => "sent-to-disk",
            Self::NoLoader => "no-loader",
            Self::NoReplyDue => "no-reply-due",
            Self::NoRoom => "no-room",
        }
    }

    /// The same in words for a person, about one machine.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Length => "the packet is too short or too long for DHCP",
            Self::NotARequest => "the packet is a server's, not a client's",
            Self::HardwareAddress => "the packet does not carry an Ethernet address of six bytes",
            Self::NotOneMachine => "the hardware address in the packet cannot belong to one machine",
            Self::Bootp => "the packet is BOOTP without DHCP",
            Self::BrokenOption => "an option in the packet is cut off or has a wrong length",
            Self::Contradiction => "the packet says two different things about one option",
            Self::NotAClientMessage => "the packet is of a type that clients do not send",
            Self::UnknownMachine => "no machine in the spec has this MAC",
            Self::BadRelay => "the relay's address (giaddr) is our own or cannot be a relay's",
            Self::OtherServer => {
                "the machine chose another DHCP server's offer; is there a second one on this network?"
            }
            Self::NoAddress => "the machine requested a lease without naming an address",
            Self::WrongNetwork => {
                "the relay places the machine on a network where its address does not belong; check the cabling or the spec"
            }
            Self::NothingToSay => "the message is about an address, which is the other DHCP server's to give",
            Self::SentToDisk => "the machine is to boot from its disk",
            Self::NoLoader => "there is no loader for the architecture that the machine's firmware names",
            Self::NoReplyDue => "the message needs no reply",
            Self::NoRoom => "the reply is longer than what the machine or its relay left room for",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_and_a_name_of_its_own() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), index);
            assert_eq!(Reason::ALL.iter().filter(|other| other.name() == reason.name()).count(), 1);
        }
    }
}
