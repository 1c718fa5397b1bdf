//! A reply as a frame: Ethernet, VLAN, IPv4 and UDP headers around it, and how often it is sent.

use std::net::SocketAddrV4;

use pxe_common::MacAddr;

/// Frames below this many bytes, without the check sequence, are padded (IEEE 802.3 §3.2.8).
const MINIMUM_FRAME: usize = 60;
pub(super) const ETHERNET: usize = 14;
const VLAN_TAG: usize = 4;
pub(super) const IPV4: usize = 20;
pub(super) const UDP: usize = 8;

/// A frame that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Bytes written.
    pub length: usize,
    /// Whether it is to be sent twice, since frames get lost. A client takes the first answer and ignores the other.
    pub twice: bool,
}

/// Where a reply goes, below its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<'t> {
    /// Our interface.
    pub ethernet_source: MacAddr,
    /// The client, its router, or everybody.
    pub ethernet_destination: MacAddr,
    /// The VLAN tags that the query came with, outermost first: TPID and TCI of each.
    pub tags: &'t [[u8; 4]],
    /// The address that the client spoke to, or ours.
    pub source: SocketAddrV4,
    /// The client, its relay, or everybody.
    pub destination: SocketAddrV4,
}

impl Headers<'_> {
    /// Where the payload begins in the frame.
    #[must_use]
    pub const fn payload_offset(tags: usize) -> usize {
        ETHERNET + VLAN_TAG * tags + IPV4 + UDP
    }

    /// Writes the headers in front of a payload of `payload_length` bytes that already lies at
    /// [`payload_offset`](Self::payload_offset), with correct checksums, and pads the frame.
    ///
    /// Returns the length of the frame, or none when the buffer does not hold it.
    pub fn write(&self, frame: &mut [u8], payload_length: usize) -> Option<usize> {
        let Self { ethernet_source, ethernet_destination, tags, source, destination } = *self;
        let payload_offset = Self::payload_offset(tags.len());
        let length = payload_offset.checked_add(payload_length)?;
        let padded = length.max(MINIMUM_FRAME);
        let frame = frame.get_mut(..padded)?;
        let udp_length = u16::try_from(UDP + payload_length).ok()?;
        let ip_length = udp_length.checked_add(IPV4 as u16)?;
        frame[length..].fill(0);

        frame[..6].copy_from_slice(&ethernet_destination.0);
        frame[6..12].copy_from_slice(&ethernet_source.0);
        let mut offset = 12;
        for tag in tags {
            frame[offset..offset + VLAN_TAG].copy_from_slice(tag);
            offset += VLAN_TAG;
        }
        frame[offset..offset + 2].copy_from_slice(&[0x08, 0x00]);

        let (ip_header, udp) = frame[offset + 2..length].split_at_mut(IPV4);
        // Version and header length, no DSCP; no identification and no fragment, since RFC 6864 wants one only
        // where a datagram is fragmented; 64 hops.
        ip_header.copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        ip_header[2..4].copy_from_slice(&ip_length.to_be_bytes());
        ip_header[12..16].copy_from_slice(&source.ip().octets());
        ip_header[16..20].copy_from_slice(&destination.ip().octets());
        let checksum = folded(sum(0, ip_header));
        ip_header[10..12].copy_from_slice(&checksum.to_be_bytes());

        udp[..2].copy_from_slice(&source.port().to_be_bytes());
        udp[2..4].copy_from_slice(&destination.port().to_be_bytes());
        udp[4..6].copy_from_slice(&udp_length.to_be_bytes());
        udp[6..8].fill(0);
        // RFC 768: the pseudo header is the addresses, the protocol and the length; a zero sum is sent as all ones.
        let pseudo = sum(17 + u64::from(udp_length), &ip_header[12..20]);
        let checksum = match folded(sum(pseudo, udp)) {
            0 => 0xffff,
            checksum => checksum,
        };
        udp[6..8].copy_from_slice(&checksum.to_be_bytes());
        Some(padded)
    }
}

/// Adds 16-bit big-endian words, the last padded with zero (RFC 1071).
pub(super) fn sum(start: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<2>();
    let total: u64 = words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum();
    start + total + rest.first().map_or(0, |&byte| u64::from(byte) << 8)
}

/// The ones' complement of a sum folded to 16 bits.
pub(super) fn folded(mut sum: u64) -> u16 {
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
        /// Another implementation reads back what was meant, and agrees about both checksums.
        #[test]
        fn another_parser_agrees(payload in prop::collection::vec(any::<u8>(), 0..1200), tags in 0_usize..3) {
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
            let Some(TransportSlice::Udp(udp)) = &packet.transport else { panic!("no UDP") };
            prop_assert_eq!(udp.payload(), &payload[..]);
            let udp_header = udp.to_header();
            prop_assert_eq!(udp_header.calc_checksum_ipv4(&header, &payload).unwrap(), udp_header.checksum);
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
