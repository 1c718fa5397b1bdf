//! The outcomes of a frame, each with its reason.

/// The action of the XDP program on a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It goes up the kernel's stack, untouched.
    Pass,
    /// It is dropped.
    Drop,
    /// It goes to the AF_XDP socket of its receive queue.
    Redirect,
}

impl Action {
    /// Returns the name in metrics: a lower-case word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Drop => "drop",
            Self::Redirect => "redirect",
        }
    }
}

/// The owner of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Well-formed as far as it was read, and not for us.
    NotOurs,
    /// It contradicts itself or ends too early. It passes, too: others may understand it.
    Malformed,
    /// A boot request that is for us.
    Ours,
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $variant:ident = $index:literal, $name:literal;)+) => {
        /// The verdict on a frame and its reason. Every frame is counted in exactly one of them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Counter {
            $($(#[doc = $doc])+ $variant = $index,)+
        }

        impl Counter {
            /// Every counter, in the order of the map.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Returns the name in metrics and logs: lower case, words joined by underscores.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

counters! {
    /// Its EtherType, after at most two VLAN tags, is not IPv4.
    NotIpv4 = 0, "not_ipv4";
    /// It has more than two VLAN tags.
    TooManyTags = 1, "too_many_vlan_tags";
    /// IPv4, but not UDP.
    NotUdp = 2, "not_udp";
    /// A fragment of a UDP datagram. The kernel reassembles it and hands it to a socket.
    Fragment = 3, "fragment";
    /// UDP to a port other than 67 and 4011.
    OtherPort = 4, "other_port";
    /// A BOOTP message other than BOOTREQUEST: most often another server's answer.
    NotRequest = 5, "not_a_request";
    /// The client's hardware is not Ethernet (htype other than 1).
    NotEthernet = 6, "not_an_ethernet_client";
    /// Sent to an address that is neither ours nor a broadcast address of ours: it is for another server.
    OtherServer = 7, "for_another_server";
    /// It ends within the Ethernet header or a VLAN tag.
    TruncatedEthernet = 8, "truncated_ethernet";
    /// It ends before its IPv4 header or its IPv4 total length does.
    TruncatedIpv4 = 9, "truncated_ipv4";
    /// The IP version is not 4 or the header length is below 20.
    BadIpv4Header = 10, "bad_ipv4_header";
    /// The IPv4 total length has no room for a UDP header.
    BadIpv4Length = 11, "bad_ipv4_length";
    /// The UDP length is below 8 or beyond the IPv4 total length.
    BadUdpLength = 12, "bad_udp_length";
    /// It ends within the fixed fields of BOOTP.
    TruncatedBootp = 13, "truncated_bootp";
    /// It says Ethernet, but its hardware addresses do not have six bytes.
    BadHardwareLength = 14, "bad_hardware_address_length";
    /// A request of a machine that we do not know, passed on as the settings say.
    UnknownPassed = 15, "unknown_machine_passed";
    /// A request of a machine that we do not know, dropped as the settings say.
    UnknownDropped = 16, "unknown_machine_dropped";
    /// A known machine asked too often.
    RateLimited = 17, "rate_limited";
    /// A request of a known machine on a queue without a socket.
    NoSocket = 18, "no_socket_on_queue";
    /// A request of a known machine, handed to the socket.
    Redirected = 19, "redirected";
    /// A request on a VLAN that is not served. It passes: the host may have an interface for that VLAN.
    OtherVlan = 20, "on_another_vlan";
    /// A request in a known machine's name that came from elsewhere, and too often. The machine's own requests are not counted here.
    OthersRateLimited = 21, "others_rate_limited";
}

/// The number of counters: the size of the map.
pub const COUNTERS: u32 = Counter::ALL.len() as u32;

impl Counter {
    /// Returns the action of the XDP program on such a frame.
    #[must_use]
    pub const fn action(self) -> Action {
        match self {
            Self::Redirected => Action::Redirect,
            Self::RateLimited | Self::OthersRateLimited | Self::UnknownDropped => Action::Drop,
            _ => Action::Pass,
        }
    }

    /// Returns `true` if such a frame may be a DHCP request. The others are ARP, TCP or UDP to other ports.
    #[must_use]
    pub const fn is_of_dhcp(self) -> bool {
        !matches!(self, Self::NotIpv4 | Self::NotUdp | Self::OtherPort)
    }

    /// Returns the owner of such a frame.
    #[must_use]
    pub const fn class(self) -> Class {
        match self {
            Self::NotIpv4
            | Self::TooManyTags
            | Self::NotUdp
            | Self::Fragment
            | Self::OtherPort
            | Self::NotRequest
            | Self::NotEthernet
            | Self::OtherServer
            | Self::OtherVlan => Class::NotOurs,
            Self::TruncatedEthernet
            | Self::TruncatedIpv4
            | Self::BadIpv4Header
            | Self::BadIpv4Length
            | Self::BadUdpLength
            | Self::TruncatedBootp
            | Self::BadHardwareLength => Class::Malformed,
            Self::UnknownPassed
            | Self::UnknownDropped
            | Self::RateLimited
            | Self::OthersRateLimited
            | Self::NoSocket
            | Self::Redirected => Class::Ours,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counter_has_its_own_slot() {
        for (index, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, index, "{}", counter.name());
        }
    }

    #[test]
    fn frame_that_is_not_ours_passes() {
        for counter in Counter::ALL {
            assert!(counter.class() == Class::Ours || counter.action() == Action::Pass, "{}", counter.name());
        }
    }
}
