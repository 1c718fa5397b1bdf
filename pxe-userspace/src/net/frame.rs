//! The headers around a UDP payload: Ethernet, VLAN tags, IPv4 and UDP.

use std::net::SocketAddrV4;

use pxe_common::{
    MacAddr,
    frame::{ETHERNET_LENGTH, IPV4_LENGTH, PROTOCOL_UDP, TAG_LENGTH, UDP_LENGTH, ethertype},
};

/// The minimum length of a frame without its check sequence (IEEE 802.3 §3.2.8); shorter ones are padded.
const MINIMUM_FRAME: usize = 60;
/// The flag that forbids routers to fragment a packet (RFC 791 §3.1).
const DO_NOT_FRAGMENT: u16 = 0x4000;
/// The number of routers that a packet may pass.
const TIME_TO_LIVE: u8 = 64;
/// The offset of the checksum in a UDP header (RFC 768).
pub(super) const UDP_CHECKSUM_OFFSET: usize = 6;

/// The reply that was written into a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its length in bytes.
    pub length: usize,
    /// The second copy, because frames get lost. A client takes the first copy and ignores the second.
    pub second: Second,
}

/// The second copy of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Second {
    /// There is none.
    None,
    /// It is the same.
    Same,
    /// It goes to every host of the link, because the client may not take a frame to its own address.
    ToAll {
        /// The number of VLAN tags in the frame.
        tags: usize,
    },
}

impl Second {
    /// Makes the second copy of a frame that was sent, in place. Returns `false` if there is none.
    pub fn make(self, frame: &mut [u8]) -> bool {
        match self {
            Self::None => false,
            Self::Same => true,
            Self::ToAll { tags } => to_all(frame, tags).is_some(),
        }
    }
}

/// Lets a datagram go to every host of the link, by Ethernet and by IP. Returns `None` if the frame is none that [`Headers::write`] has written.
fn to_all(frame: &mut [u8], tags: usize) -> Option<()> {
    let (ethernet, packet) = frame.split_at_mut_checked(ETHERNET_LENGTH + TAG_LENGTH * tags)?;
    let (ip, udp) = packet.split_first_chunk_mut::<IPV4_LENGTH>()?;
    let length = u16::from_be_bytes(*udp.get(4..)?.first_chunk()?);
    let udp = udp.get_mut(..length.into()).filter(|udp| udp.len() >= UDP_LENGTH)?;
    ethernet[..6].fill(0xff);
    ip[16..].fill(0xff);
    ip[10..12].fill(0);
    let checksum = folded(sum(ip));
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    udp[UDP_CHECKSUM_OFFSET..][..2].fill(0);
    let pseudo = u64::from(PROTOCOL_UDP) + u64::from(length) + sum(&ip[12..]);
    let checksum = match folded(pseudo + sum(udp)) {
        0 => u16::MAX,
        checksum => checksum,
    };
    udp[UDP_CHECKSUM_OFFSET..][..2].copy_from_slice(&checksum.to_be_bytes());
    Some(())
}

/// The addresses in the headers of a UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<'t> {
    /// Our interface.
    pub ethernet_source: MacAddr,
    /// The client, its router, or everybody.
    pub ethernet_destination: MacAddr,
    /// The VLAN tags, outermost first: TPID and TCI of each.
    pub tags: &'t [[u8; TAG_LENGTH]],
    /// Our address, or the one that the client spoke to.
    pub source: SocketAddrV4,
    /// The client, its relay, or everybody.
    pub destination: SocketAddrV4,
}

impl Headers<'_> {
    /// Returns the offset of the payload in a frame with this many tags.
    #[must_use]
    pub const fn payload_offset(tags: usize) -> usize {
        ETHERNET_LENGTH + TAG_LENGTH * tags + IPV4_LENGTH + UDP_LENGTH
    }

    /// Writes the headers in front of a payload of `payload_length` bytes, which is already at
    /// [`payload_offset`](Self::payload_offset), with correct checksums, and pads the frame.
    ///
    /// Returns the length of the frame, or `None` if it does not fit into the buffer.
    pub fn write(&self, frame: &mut [u8], payload_length: usize) -> Option<usize> {
        let payload_offset = Self::payload_offset(self.tags.len());
        let length = payload_offset.checked_add(payload_length)?;
        let padded = length.max(MINIMUM_FRAME);
        let frame = frame.get_mut(..padded)?;
        frame[length..].fill(0);
        self.write_prefix(&mut frame[..payload_offset], payload_length, 0)?;
        let udp = &mut frame[payload_offset - UDP_LENGTH..length];
        let checksum = match folded(sum(udp)) {
            // RFC 768: zero means that there is no checksum, so a sum of zero is sent as all ones.
            0 => u16::MAX,
            checksum => checksum,
        };
        udp[UDP_CHECKSUM_OFFSET..][..2].copy_from_slice(&checksum.to_be_bytes());
        Some(padded)
    }

    /// Writes the headers of a payload of `payload_length` bytes that the kernel does not fragment. The UDP checksum covers
    /// only the pseudo header; the kernel completes it.
    ///
    /// Returns `None` if the payload is too long for a datagram, or if `prefix` does not have the length of the headers.
    pub(super) fn write_unfragmented(&self, prefix: &mut [u8], payload_length: usize) -> Option<()> {
        self.write_prefix(prefix, payload_length, DO_NOT_FRAGMENT)
    }

    fn write_prefix(&self, prefix: &mut [u8], payload_length: usize, fragment: u16) -> Option<()> {
        let Self { ethernet_source, ethernet_destination, tags, source, destination } = *self;
        let udp_length = u16::try_from(UDP_LENGTH.checked_add(payload_length)?).ok()?;
        let ip_length = udp_length.checked_add(IPV4_LENGTH as u16)?;
        let (ethernet, prefix) = prefix.split_at_mut_checked(ETHERNET_LENGTH + TAG_LENGTH * tags.len())?;
        let (ip, udp) = prefix.split_first_chunk_mut::<IPV4_LENGTH>()?;
        let udp: &mut [u8; UDP_LENGTH] = udp.try_into().ok()?;

        // The EtherType follows the tags.
        let (addresses, ethertype) = ethernet.split_at_mut(ethernet.len() - 2);
        let (addresses, tag_bytes) = addresses.split_at_mut(ETHERNET_LENGTH - 2);
        addresses[..6].copy_from_slice(&ethernet_destination.0);
        addresses[6..].copy_from_slice(&ethernet_source.0);
        tag_bytes.copy_from_slice(tags.as_flattened());
        ethertype.copy_from_slice(&ethertype::IPV4.to_be_bytes());

        // Version 4 and five words of header. There is no identification: RFC 6864 requires one only for fragmented
        // datagrams.
        *ip = [0; IPV4_LENGTH];
        ip[0] = 0x45;
        ip[2..4].copy_from_slice(&ip_length.to_be_bytes());
        ip[6..8].copy_from_slice(&fragment.to_be_bytes());
        ip[8] = TIME_TO_LIVE;
        ip[9] = PROTOCOL_UDP;
        ip[12..16].copy_from_slice(&source.ip().octets());
        ip[16..].copy_from_slice(&destination.ip().octets());
        let checksum = folded(sum(ip));
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());

        udp[..2].copy_from_slice(&source.port().to_be_bytes());
        udp[2..4].copy_from_slice(&destination.port().to_be_bytes());
        udp[4..6].copy_from_slice(&udp_length.to_be_bytes());
        // RFC 768: the pseudo header is the addresses, the protocol and the length.
        let pseudo = !folded(u64::from(PROTOCOL_UDP) + u64::from(udp_length) + sum(&ip[12..]));
        udp[UDP_CHECKSUM_OFFSET..].copy_from_slice(&pseudo.to_be_bytes());
        Some(())
    }
}

/// Returns the sum of 16-bit big-endian words, the last one padded with zero (RFC 1071).
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<2>();
    let total: u64 = words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum();
    total + rest.first().map_or(0, |&byte| u64::from(byte) << 8)
}

/// Returns the ones' complement of a sum folded to 16 bits.
pub(crate) fn folded(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use etherparse::{SlicedPacket, TransportSlice, VlanSlice};
    use proptest::prelude::*;

    use super::*;

    fn headers(tags: &[[u8; 4]]) -> Headers<'_> {
        Headers {
            ethernet_source: MacAddr([2, 0, 0, 0, 0, 1]),
            ethernet_destination: MacAddr([2, 0, 0, 0, 0, 9]),
            tags,
            source: SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 67),
            destination: SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 9), 68),
        }
    }

    fn frame(tags: &[[u8; 4]], payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0xaa; 2048];
        let offset = Headers::payload_offset(tags.len());
        frame[offset..offset + payload.len()].copy_from_slice(payload);
        let length = headers(tags).write(&mut frame, payload.len()).unwrap();
        frame.truncate(length);
        frame
    }

    proptest! {
        /// Another implementation reads back the same headers and accepts both checksums.
        #[test]
        fn headers_are_read_back_by_another_parser(payload in prop::collection::vec(any::<u8>(), 0..1200), tags in 0_usize..3) {
            let all = [[0x88, 0xa8, 0x00, 0x64], [0x81, 0x00, 0x20, 0x07]];
            let tags = &all[2 - tags..];
            let frame = frame(tags, &payload);
            prop_assert!(frame.len() >= MINIMUM_FRAME);

            let packet = SlicedPacket::from_ethernet(&frame).unwrap();
            prop_assert_eq!(packet.vlan().is_some(), !tags.is_empty());
            if let Some(VlanSlice::DoubleVlan(double)) = packet.vlan() {
                prop_assert_eq!(double.outer.vlan_identifier().value(), 100);
                prop_assert_eq!(double.inner.vlan_identifier().value(), 7);
            }
            let Some(etherparse::NetSlice::Ipv4(ipv4)) = &packet.net else { panic!("no IPv4") };
            let header = ipv4.header().to_header();
            prop_assert_eq!(header.calc_header_checksum(), header.header_checksum);
            prop_assert_eq!((header.dont_fragment, header.identification, header.time_to_live), (false, 0, 64));
            prop_assert_eq!((header.source, header.destination), ([10, 0, 0, 1], [10, 0, 0, 9]));
            let Some(TransportSlice::Udp(udp)) = &packet.transport else { panic!("no UDP") };
            prop_assert_eq!(udp.payload(), &payload[..]);
            prop_assert_eq!((udp.source_port(), udp.destination_port()), (67, 68));
            let ethernet = (&frame[..6], &frame[6..12]);
            prop_assert_eq!(ethernet, (&[2, 0, 0, 0, 0, 9][..], &[2, 0, 0, 0, 0, 1][..]));
            let udp_header = udp.to_header();
            prop_assert_eq!(udp_header.calc_checksum_ipv4(&header, &payload).unwrap(), udp_header.checksum);
        }
    }

    proptest! {
        /// The second copy is what would have been written for everybody at once.
        #[test]
        fn second_copy_to_all_is_a_frame_to_all(payload in prop::collection::vec(any::<u8>(), 0..600), tags in 0_usize..3) {
            let all = [[0x88, 0xa8, 0x00, 0x64], [0x81, 0x00, 0x20, 0x07]];
            let tags = &all[2 - tags..];
            let to_client = headers(tags);
            let destination = SocketAddrV4::new(Ipv4Addr::BROADCAST, 68);
            let to_all = Headers { ethernet_destination: MacAddr::BROADCAST, destination, ..to_client };
            let written = |headers: Headers<'_>| {
                let mut frame = vec![0; 2048];
                let offset = Headers::payload_offset(tags.len());
                frame[offset..offset + payload.len()].copy_from_slice(&payload);
                let length = headers.write(&mut frame, payload.len()).unwrap();
                frame.truncate(length);
                frame
            };
            let (mut second, mut same) = (written(to_client), written(to_client));
            let is_second = Second::ToAll { tags: tags.len() }.make(&mut second);
            prop_assert!(is_second);
            prop_assert_eq!(second, written(to_all));
            prop_assert!(Second::Same.make(&mut same) && !Second::None.make(&mut same));
            prop_assert_eq!(same, written(to_client));
        }

        #[test]
        fn second_copy_of_anything_is_no_panic(mut frame in prop::collection::vec(any::<u8>(), 0..80), tags in 0_usize..4) {
            let _ = Second::ToAll { tags }.make(&mut frame);
        }
    }

    #[test]
    fn padding_is_zero_and_a_small_buffer_is_refused() {
        let frame = frame(&[], b"x");
        assert_eq!(frame.len(), MINIMUM_FRAME);
        assert!(frame[Headers::payload_offset(0) + 1..].iter().all(|&byte| byte == 0));
        assert_eq!(headers(&[]).write(&mut [0; 100], 80), None);
        assert_eq!(headers(&[]).write(&mut [0; 100], usize::MAX), None);
    }
}
