//! The headers of a UDP datagram in IPv4 in Ethernet, with up to two VLAN tags.

use core::{net::Ipv4Addr, ops::Range};

use crate::{
    bootp::{BOOT_SERVER_PORT, SERVER_PORT},
    bytes::Bytes,
    counter::Counter,
    mac::MacAddr,
};

/// The length of an Ethernet header without VLAN tags.
pub const ETHERNET_LENGTH: usize = 14;
/// The length of one VLAN tag.
pub const TAG_LENGTH: usize = 4;
/// The length of an IPv4 header without options.
pub const IPV4_LENGTH: usize = 20;
/// The length of a UDP header.
pub const UDP_LENGTH: usize = 8;

/// EtherType numbers.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// A customer's VLAN tag follows (IEEE 802.1Q).
    pub const VLAN: u16 = 0x8100;
    /// A service provider's VLAN tag follows (IEEE 802.1ad).
    pub const SERVICE_VLAN: u16 = 0x88a8;
}

/// The IP protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;

/// One VLAN tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct VlanTag {
    /// The tag protocol identifier: 0x8100 or 0x88a8.
    pub protocol: u16,
    /// The tag control information: priority (3 bits), drop eligible (1 bit), VLAN (12 bits).
    pub control: u16,
}

impl VlanTag {
    /// Returns the VLAN's number.
    #[must_use]
    pub const fn vlan(self) -> u16 {
        self.control & 0x0fff
    }
}

/// The VLAN tags of a frame, the outermost first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tags {
    tags: [VlanTag; 2],
    count: usize,
}

impl Tags {
    /// Returns the tags, from none to two.
    #[must_use]
    pub fn as_slice(&self) -> &[VlanTag] {
        self.tags.get(..self.count).unwrap_or_default()
    }

    /// Returns the VLAN of the outermost tag that is not served, or `None` if all are. A frame in a VLAN within a VLAN is served
    /// if both are: it belongs to another network than a frame in one of them alone.
    ///
    /// VLAN 0 is no VLAN: such a tag has a priority only (IEEE 802.1Q §6.9).
    #[inline(always)]
    pub fn unserved(&self, mut serves: impl FnMut(u16) -> bool) -> Option<u16> {
        let [outer, inner] = self.tags.map(VlanTag::vlan);
        if outer != 0 && !serves(outer) {
            return Some(outer);
        }
        // Tags that the frame does not have are zero.
        (inner != 0 && !serves(inner)).then_some(inner)
    }

    /// Returns the bytes that they take in the frame.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.count * TAG_LENGTH
    }
}

/// The headers in front of a DHCP or PXE message, checked against each other and against the frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers {
    /// The receiver: our interface, or a group.
    pub ethernet_destination: MacAddr,
    /// The sender on this link: the machine itself, or the router or relay in front of it.
    pub ethernet_source: MacAddr,
    /// The VLAN tags between the addresses and the EtherType.
    pub tags: Tags,
    /// The IPv4 source; 0.0.0.0 for a client without an address.
    pub source: Ipv4Addr,
    /// The IPv4 destination.
    pub destination: Ipv4Addr,
    /// The UDP source port.
    pub source_port: u16,
    /// The UDP destination port: 67 or 4011.
    pub destination_port: u16,
    /// The place of the UDP payload in the frame: always within it, and without Ethernet's padding.
    pub payload: Range<usize>,
}

impl Headers {
    /// Reads the headers of a frame to port 67 or 4011.
    ///
    /// Checksums are ignored: a virtual link hands over frames whose UDP checksum nobody has computed.
    ///
    /// # Errors
    ///
    /// Returns the counter that says why this is no such frame. The most frequent case on a link, anything but UDP, is
    /// decided first.
    #[inline(always)]
    pub fn parse<B: Bytes + ?Sized>(frame: &B) -> Result<Self, Counter> {
        // What decides early is read by itself: it spares the XDP program the bytes around it.
        let [high, low] = frame.read(ETHERNET_LENGTH - 2).ok_or(Counter::TruncatedEthernet)?;
        let (tags, ethertype) = read_tags(frame, be16(high, low))?;
        if ethertype != ethertype::IPV4 {
            return Err(Counter::NotIpv4);
        }

        let ip_start = ETHERNET_LENGTH + tags.length();
        let ip: [u8; IPV4_LENGTH] = frame.read(ip_start).ok_or(Counter::TruncatedIpv4)?;
        // Version and IHL in one byte (RFC 791 §3.1).
        let ip_length = usize::from(ip[0] & 0x0f) * 4;
        if ip[0] >> 4 != 4 || ip_length < IPV4_LENGTH {
            return Err(Counter::BadIpv4Header);
        }
        if ip[9] != PROTOCOL_UDP {
            return Err(Counter::NotUdp);
        }
        // "More fragments" or an offset other than 0 (RFC 791 §3.1).
        if be16(ip[6], ip[7]) & 0x3fff != 0 {
            return Err(Counter::Fragment);
        }

        let udp_start = ip_start + ip_length;
        let udp: [u8; UDP_LENGTH] = frame.read(udp_start).ok_or(Counter::TruncatedIpv4)?;
        let destination_port = be16(udp[2], udp[3]);
        if destination_port != SERVER_PORT && destination_port != BOOT_SERVER_PORT {
            return Err(Counter::OtherPort);
        }

        let total_length = usize::from(be16(ip[2], ip[3]));
        if total_length < ip_length + UDP_LENGTH {
            return Err(Counter::BadIpv4Length);
        }
        if frame.length() < ip_start + total_length {
            return Err(Counter::TruncatedIpv4);
        }
        let udp_length = usize::from(be16(udp[4], udp[5]));
        if udp_length < UDP_LENGTH || udp_length > total_length - ip_length {
            return Err(Counter::BadUdpLength);
        }

        Ok(Self {
            ethernet_destination: MacAddr(frame.read(0).ok_or(Counter::TruncatedEthernet)?),
            ethernet_source: MacAddr(frame.read(6).ok_or(Counter::TruncatedEthernet)?),
            tags,
            source: Ipv4Addr::new(ip[12], ip[13], ip[14], ip[15]),
            destination: Ipv4Addr::new(ip[16], ip[17], ip[18], ip[19]),
            source_port: be16(udp[0], udp[1]),
            destination_port,
            payload: udp_start + UDP_LENGTH..udp_start + udp_length,
        })
    }
}

/// Returns the tags, and the EtherType behind them. `ethertype` is the one behind the addresses.
#[inline(always)]
fn read_tags<B: Bytes + ?Sized>(frame: &B, ethertype: u16) -> Result<(Tags, u16), Counter> {
    if !is_tag(ethertype) {
        return Ok((Tags::default(), ethertype));
    }
    let outer: [u8; TAG_LENGTH] = frame.read(ETHERNET_LENGTH).ok_or(Counter::TruncatedEthernet)?;
    let outer_tag = VlanTag { protocol: ethertype, control: be16(outer[0], outer[1]) };
    let ethertype = be16(outer[2], outer[3]);
    if !is_tag(ethertype) {
        return Ok((Tags { tags: [outer_tag, VlanTag::default()], count: 1 }, ethertype));
    }
    let inner: [u8; TAG_LENGTH] = frame.read(ETHERNET_LENGTH + TAG_LENGTH).ok_or(Counter::TruncatedEthernet)?;
    let inner_tag = VlanTag { protocol: ethertype, control: be16(inner[0], inner[1]) };
    let ethertype = be16(inner[2], inner[3]);
    if is_tag(ethertype) {
        return Err(Counter::TooManyTags);
    }
    Ok((Tags { tags: [outer_tag, inner_tag], count: 2 }, ethertype))
}

#[inline(always)]
const fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, ethertype::VLAN | ethertype::SERVICE_VLAN)
}

#[inline(always)]
const fn be16(high: u8, low: u8) -> u16 {
    u16::from_be_bytes([high, low])
}
