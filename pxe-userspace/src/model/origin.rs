//! The proof that an event of a machine is the machine's own doing.

use pxe_common::MacAddr;

/// The sender of what made an event, as far as it is known. Anybody on the boot network can send datagrams in a machine's name, so what a
/// restart remembers of a machine changes by its own doing alone ([`Origin::Machine`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// The machine itself. Its DHCP frame came with one of its MAC addresses as Ethernet source, or from a relay that the operator trusts; or the
    /// machine received segments of a TCP connection, since whoever does not get them cannot go on with it.
    #[default]
    Machine,
    /// A datagram with the machine's address as its source (TFTP), which anybody can send. Somebody has acknowledged what was sent to that
    /// address, so he receives it.
    Unproven,
    /// The same, and nobody has acknowledged anything.
    Unanswered,
    /// A DHCP frame that a relay or a router forwarded, as far as it says, from this MAC address.
    Relay(MacAddr),
    /// A DHCP frame that names the machine and that another host of the link sent, with this MAC address.
    Other(MacAddr),
}

impl Origin {
    /// Returns `true` if the event is the machine's own doing.
    #[must_use]
    pub const fn is_proven(self) -> bool {
        matches!(self, Self::Machine)
    }
}
