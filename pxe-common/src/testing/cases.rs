//! Named frames, each with its expected verdicts.

use core::net::Ipv4Addr;
use std::{vec, vec::Vec};

use super::{
    build::FrameBuilder,
    constants::{SERVER, SMALL_BURST, UNKNOWN, small_bucket},
    world::Rules,
};
use crate::{
    counter::Counter,
    layout::{Settings, UnknownMachines},
    mac::MacAddr,
};

/// A frame received in a world.
#[derive(Clone, Debug)]
pub struct Case {
    /// The special feature of the frame.
    pub name: &'static str,
    /// The rules of the world.
    pub rules: Rules,
    /// The frame.
    pub frame: Vec<u8>,
    /// The expected verdicts, one for each time that the frame is received.
    pub expected: Vec<Counter>,
}

impl Case {
    fn new(name: &'static str, expected: Counter, change: impl FnOnce(&mut FrameBuilder)) -> Self {
        let mut builder = FrameBuilder::default();
        change(&mut builder);
        Self { name, rules: Rules::default(), frame: builder.build(), expected: vec![expected] }
    }

    /// Creates a case of the default frame, truncated to `length` bytes.
    fn cut(name: &'static str, expected: Counter, length: usize, change: impl FnOnce(&mut FrameBuilder)) -> Self {
        let mut case = Self::new(name, expected, change);
        case.frame.truncate(length);
        case
    }

    fn with(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    fn then(mut self, expected: &[Counter]) -> Self {
        self.expected.extend_from_slice(expected);
        self
    }
}

const CUSTOMER: (u16, u16) = (0x8100, 0x6064);
const SERVICE: (u16, u16) = (0x88a8, 0x00c8);

/// Returns all cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    [ours(), not_ours(), for_others(), on_other_vlans(), malformed(), by_settings()].concat()
}

fn ours() -> Vec<Case> {
    use Counter::Redirected;

    let unicast = |destination: Ipv4Addr| {
        move |frame: &mut FrameBuilder| {
            frame.ethernet_destination = MacAddr([0x02, 0, 0, 0, 0, 1]);
            frame.source = Ipv4Addr::new(10, 0, 0, 77);
            frame.destination = destination;
        }
    };
    vec![
        Case::new("discover, untagged", Redirected, |_| ()),
        Case::new("priority tag of VLAN 0, 802.1ad", Redirected, |f| f.tags = vec![(0x88a8, 0x2000)]),
        Case::new("priority tag within a VLAN", Redirected, |f| f.tags = vec![CUSTOMER, (0x8100, 0xe000)]),
        Case::new("priority tag around a VLAN", Redirected, |f| f.tags = vec![(0x88a8, 0xe000), CUSTOMER]),
        Case::new("one 802.1Q tag", Redirected, |f| f.tags = vec![CUSTOMER]),
        Case::new("one 802.1ad tag", Redirected, |f| f.tags = vec![SERVICE]),
        Case::new("priority tag of VLAN 0", Redirected, |f| f.tags = vec![(0x8100, 0xe000)]),
        Case::new("802.1ad around 802.1Q", Redirected, |f| f.tags = vec![SERVICE, CUSTOMER]),
        Case::new("802.1Q around 802.1Q", Redirected, |f| f.tags = vec![CUSTOMER, CUSTOMER]),
        // Router alert (RFC 2113).
        Case::new("IPv4 options of 4 bytes", Redirected, |f| f.ip_options = vec![148, 4, 0, 0]),
        Case::new("IPv4 options of 40 bytes", Redirected, |f| f.ip_options = vec![1; 40]),
        Case::new("two tags and 40 bytes of options", Redirected, |f| {
            f.tags = vec![SERVICE, CUSTOMER];
            f.ip_options = vec![1; 40];
        }),
        Case::new("don't fragment", Redirected, |f| f.fragment = 0x4000),
        Case::new("renewal, unicast to our address", Redirected, unicast(SERVER)),
        Case::new("relayed to our address", Redirected, |f| {
            unicast(SERVER)(f);
            f.ethernet_source = MacAddr([0x02, 0, 0, 0, 0, 9]);
            f.giaddr = Ipv4Addr::new(192, 0, 2, 1);
            f.bootp[3] = 1;
            f.ports = (67, 67);
        }),
        Case::new("boot server request to our port 4011", Redirected, |f| {
            unicast(SERVER)(f);
            f.ports = (68, 4011);
        }),
        Case::new("broadcast of our network", Redirected, |f| f.destination = Ipv4Addr::new(10, 0, 0, 255)),
        Case::new("broadcast of our other network", Redirected, |f| f.destination = Ipv4Addr::new(192, 168, 7, 255)),
        Case::new("broadcast of our network in unicast Ethernet", Redirected, unicast(Ipv4Addr::new(10, 0, 0, 255))),
        Case::new("relayed to another address of the interface", Redirected, |f| {
            unicast(Ipv4Addr::new(192, 168, 4, 9))(f);
            f.giaddr = Ipv4Addr::new(192, 0, 2, 1);
            f.ports = (67, 67);
        }),
        Case::new("IP broadcast in unicast Ethernet", Redirected, unicast(Ipv4Addr::BROADCAST)),
        Case::new("our address in broadcast Ethernet", Redirected, |f| f.destination = SERVER),
        Case::new("our address and port 4011 in broadcast Ethernet", Redirected, |f| {
            f.destination = SERVER;
            f.ports = (68, 4011);
        }),
        // A virtual link leaves the checksum to a card that does not exist, so only the pseudo header's sum is present.
        Case::new("partial UDP checksum", Redirected, |f| f.udp_checksum = 0x0146),
        Case::new("no cookie: userspace reports the error", Redirected, |f| f.options = vec![0; 64]),
        Case::new("fixed fields alone", Redirected, |f| f.options.clear()),
        Case::new("UDP shorter than IP", Redirected, |f| f.udp_length = Some(8 + 240)),
        Case::cut("Ethernet padding behind the datagram", Redirected, usize::MAX, |f| f.options.resize(64, 0)).padded(),
        Case::new("broadcast chaddr belongs to no machine", Counter::UnknownPassed, |f| f.chaddr = MacAddr::BROADCAST),
    ]
}

impl Case {
    fn padded(mut self) -> Self {
        self.frame.extend_from_slice(&[0xa5; 46]);
        self
    }
}

fn not_ours() -> Vec<Case> {
    use Counter::{Fragment, NotEthernet, NotIpv4, NotRequest, NotUdp, OtherPort, TooManyTags};

    vec![
        Case::new("IPv6", NotIpv4, |f| f.ethertype = 0x86dd),
        Case::new("ARP", NotIpv4, |f| f.ethertype = 0x0806),
        Case::new("IEEE 802.3 length", NotIpv4, |f| f.ethertype = 0x0026),
        Case::new("IPv6 behind a tag", NotIpv4, |f| {
            f.tags = vec![CUSTOMER];
            f.ethertype = 0x86dd;
        }),
        Case::new("three tags", TooManyTags, |f| f.tags = vec![SERVICE, CUSTOMER, CUSTOMER]),
        Case::new("TCP", NotUdp, |f| f.protocol = 6),
        Case::new("ICMP", NotUdp, |f| f.protocol = 1),
        Case::new("TCP behind two tags", NotUdp, |f| {
            f.tags = vec![SERVICE, CUSTOMER];
            f.protocol = 6;
        }),
        Case::new("first fragment", Fragment, |f| f.fragment = 0x2000),
        Case::new("last fragment", Fragment, |f| f.fragment = 0x00b9),
        Case::new("DNS", OtherPort, |f| f.ports.1 = 53),
        Case::new("answer to a client's port", OtherPort, |f| f.ports = (67, 68)),
        Case::new("port 4011 in the wrong byte order", OtherPort, |f| f.ports.1 = 4011_u16.swap_bytes()),
        Case::new("BOOTREPLY to a relay", NotRequest, |f| f.bootp[0] = 2),
        Case::new("op 0", NotRequest, |f| f.bootp[0] = 0),
        Case::new("InfiniBand client", NotEthernet, |f| f.bootp = [1, 32, 0, 0]),
    ]
}

/// Requests that are sent to an address that is not ours. The Ethernet destination does not make them ours.
fn for_others() -> Vec<Case> {
    let addressed = |name, ethernet_destination, destination: [u8; 4], port| {
        Case::new(name, Counter::OtherServer, |f| {
            f.ethernet_destination = MacAddr(ethernet_destination);
            f.destination = destination.into();
            f.ports.1 = port;
        })
    };
    let [others, ours, broadcast] = [[2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1], [0xff; 6]];
    let multicast = [0x01, 0x00, 0x5e, 0x00, 0x01, 0x02];
    vec![
        addressed("unicast to another server", others, [10, 0, 0, 2], 67),
        addressed("another server's address in unicast Ethernet to us", ours, [10, 0, 0, 2], 67),
        addressed("another server's address in broadcast Ethernet", broadcast, [10, 0, 0, 2], 67),
        addressed("another server's address in multicast Ethernet", multicast, [10, 0, 0, 2], 67),
        addressed("another boot server's address in broadcast Ethernet", broadcast, [10, 0, 0, 2], 4011),
        addressed("another boot server's address in multicast Ethernet", multicast, [10, 0, 0, 2], 4011),
        addressed("multicast boot server discovery", multicast, [224, 0, 1, 2], 4011),
        addressed("multicast in broadcast Ethernet", broadcast, [224, 0, 1, 2], 67),
        addressed("no address in broadcast Ethernet", broadcast, [0, 0, 0, 0], 67),
        addressed("our network's own address", broadcast, [10, 0, 0, 0], 67),
        addressed("broadcast of a network that is not ours", broadcast, [10, 0, 1, 255], 67),
        addressed("broadcast of a wider network than ours", broadcast, [10, 255, 255, 255], 67),
        addressed("loopback", ours, [127, 0, 0, 1], 67),
    ]
}

/// Requests on VLANs that are not served. They pass whoever sent them.
fn on_other_vlans() -> Vec<Case> {
    use Counter::OtherVlan;

    let drop_unknown = Rules { settings: small_bucket(UnknownMachines::Drop), no_socket: false };
    let tagged = |name, tags: &[(u16, u16)]| Case::new(name, OtherVlan, |f| f.tags = tags.to_vec());
    vec![
        tagged("another VLAN", &[(0x8100, 7)]),
        tagged("another VLAN with a priority", &[(0x8100, 0xa007)]),
        tagged("another service VLAN", &[(0x88a8, 7)]),
        tagged("VLAN 1", &[(0x8100, 1)]),
        tagged("VLAN 4094", &[(0x8100, 0x0ffe)]),
        tagged("reserved VLAN 4095", &[(0x8100, 0x0fff)]),
        tagged("another VLAN within a served one", &[SERVICE, (0x8100, 7)]),
        tagged("served VLAN within another one", &[(0x88a8, 7), CUSTOMER]),
        tagged("another VLAN within a priority tag", &[(0x8100, 0xe000), (0x8100, 7)]),
        tagged("another VLAN, asked often", &[(0x8100, 7)]).then(&[OtherVlan; 40]),
        Case::new("unknown machine on another VLAN where unknown ones are dropped", OtherVlan, |f| {
            f.chaddr = UNKNOWN;
            f.tags = vec![(0x8100, 7)];
        })
        .with(drop_unknown),
        Case::new("another server's client on another VLAN", Counter::OtherServer, |f| {
            f.destination = Ipv4Addr::new(10, 0, 0, 2);
            f.tags = vec![(0x8100, 7)];
        }),
    ]
}

fn malformed() -> Vec<Case> {
    use Counter::{
        BadHardwareLength, BadIpv4Header, BadIpv4Length, BadUdpLength, TruncatedBootp, TruncatedEthernet, TruncatedIpv4,
    };

    vec![
        Case::cut("no byte", TruncatedEthernet, 0, |_| ()),
        Case::cut("ends within the Ethernet header", TruncatedEthernet, 13, |_| ()),
        Case::cut("ends within the first tag", TruncatedEthernet, 17, |f| f.tags = vec![CUSTOMER]),
        Case::cut("ends within the second tag", TruncatedEthernet, 21, |f| f.tags = vec![SERVICE, CUSTOMER]),
        Case::cut("ends behind the Ethernet header", TruncatedIpv4, 14, |_| ()),
        Case::cut("ends within the IPv4 header", TruncatedIpv4, 33, |_| ()),
        Case::cut("ends within the IPv4 options", TruncatedIpv4, 14 + 24, |f| f.ip_options = vec![1; 8]),
        Case::cut("ends within the UDP header", TruncatedIpv4, 14 + 20 + 7, |_| ()),
        Case::cut("ends within BOOTP", TruncatedIpv4, 14 + 20 + 8 + 100, |_| ()),
        Case::cut("ends one byte early", TruncatedIpv4, 14 + 20 + 8 + 299, |_| ()),
        Case::new("IP version 6 in an IPv4 frame", BadIpv4Header, |f| f.version = 6),
        Case::new("IP header of 16 bytes", BadIpv4Header, |f| f.header_words = Some(4)),
        Case::new("IP total length 0", BadIpv4Length, |f| f.total_length = Some(0)),
        Case::new("IP total length without room for UDP", BadIpv4Length, |f| f.total_length = Some(27)),
        Case::new("IP total length beyond the frame", TruncatedIpv4, |f| f.total_length = Some(0xffff)),
        Case::new("UDP length 7", BadUdpLength, |f| f.udp_length = Some(7)),
        Case::new("UDP length beyond IP", BadUdpLength, |f| f.udp_length = Some(8 + 301)),
        Case::new("UDP length without room for BOOTP", TruncatedBootp, |f| f.udp_length = Some(8 + 235)),
        Case::new("empty UDP datagram", TruncatedBootp, |f| f.udp_length = Some(8)),
        Case::new("hardware address of 5 bytes", BadHardwareLength, |f| f.bootp[2] = 5),
        Case::new("hardware address of 16 bytes", BadHardwareLength, |f| f.bootp[2] = 16),
        Case::new("hardware address of 255 bytes", BadHardwareLength, |f| f.bootp[2] = 255),
    ]
}

fn by_settings() -> Vec<Case> {
    use Counter::{NoSocket, RateLimited, Redirected, UnknownDropped, UnknownPassed};

    let drop_unknown = Rules { settings: small_bucket(UnknownMachines::Drop), no_socket: false };
    let small = Rules { settings: small_bucket(UnknownMachines::Pass), no_socket: false };
    let no_socket = Rules { no_socket: true, ..Rules::default() };
    let zeros = Settings { refill_ns: 0, tolerance_ns: 0, drop_unknown: 0, zero: 0 };
    let from_unknown = |f: &mut FrameBuilder| f.chaddr = UNKNOWN;
    vec![
        Case::new("unknown machine, passed", UnknownPassed, from_unknown).then(&[UnknownPassed; 40]),
        Case::new("unknown machine, dropped", UnknownDropped, from_unknown).with(drop_unknown),
        Case::new("unknown machine without a socket", UnknownPassed, from_unknown).with(no_socket),
        Case::new("known machine where unknown ones are dropped", Redirected, |_| ()).with(drop_unknown),
        Case::new("other server's client where unknown ones are dropped", Counter::OtherServer, |f| {
            from_unknown(f);
            f.ethernet_destination = MacAddr([0x02, 0, 0, 0, 0, 2]);
            f.destination = Ipv4Addr::new(10, 0, 0, 2);
        })
        .with(drop_unknown),
        Case::new("no socket on the queue", NoSocket, |_| ()).with(no_socket),
        Case::new("empty bucket", Redirected, |_| ())
            .with(small)
            .then(&[Redirected; SMALL_BURST as usize - 1])
            .then(&[RateLimited; 3]),
        Case::new("bucket with room for a firmware's retransmissions", Redirected, |_| ()).then(&[Redirected; 31]),
        Case::new("settings never written: no limit", Redirected, |_| ())
            .with(Rules { settings: zeros, no_socket: false })
            .then(&[Redirected; 100]),
        Case::new("settings never written: unknown machines pass", UnknownPassed, from_unknown)
            .with(Rules { settings: zeros, no_socket: false }),
    ]
}
