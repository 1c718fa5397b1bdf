//! Ethernet frames of simulated machines: UDP and ARP over IPv4.

use std::net::{Ipv4Addr, SocketAddrV4};

use pxe_common::MacAddr;

use crate::dhcp;

/// The TTL that EDK2 and iPXE use.
const TTL: u8 = 64;

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;
/// The offset of the payload in a frame that [`udp`] has built.
pub(crate) const UDP_PAYLOAD: usize = ETHERNET + IPV4 + UDP;
const UDP_CHECKSUM: usize = ETHERNET + IPV4 + 6;

const TYPE_IPV4: [u8; 2] = [0x08, 0x00];
const TYPE_ARP: [u8; 2] = [0x08, 0x06];
const PROTOCOL_UDP: u8 = 17;

/// Returns a UDP datagram as a whole frame. The payload must be smaller than 64 KiB.
pub(crate) fn udp(link: (MacAddr, MacAddr), from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(UDP_PAYLOAD + payload.len());
    frame.extend(link.1.0);
    frame.extend(link.0.0);
    frame.extend(TYPE_IPV4);
    let length = (IPV4 + UDP + payload.len()) as u16;
    // RFC 791 §3.1: version and header length, then no fragments.
    frame.extend([0x45, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([0, 0, 0x40, 0, TTL, PROTOCOL_UDP, 0, 0]);
    frame.extend(from.ip().octets());
    frame.extend(to.ip().octets());
    let checksum = fold(sum(&frame[ETHERNET..]));
    frame[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&(!checksum).to_be_bytes());
    frame.extend(from.port().to_be_bytes());
    frame.extend(to.port().to_be_bytes());
    frame.extend((length - IPV4 as u16).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    finish_udp(&mut frame);
    frame
}

/// Updates the UDP checksum (RFC 768) of a frame that [`udp`] has built, after its payload was changed.
pub(crate) fn finish_udp(frame: &mut [u8]) {
    frame[UDP_CHECKSUM..UDP_CHECKSUM + 2].fill(0);
    let pseudo = u64::from(PROTOCOL_UDP) + (frame.len() - ETHERNET - IPV4) as u64;
    // The sum includes the addresses, which precede the UDP header.
    let checksum = !fold(sum(&frame[ETHERNET + 12..]) + pseudo);
    // Zero means that there is no checksum.
    let checksum = if checksum == 0 { u16::MAX } else { checksum };
    frame[UDP_CHECKSUM..UDP_CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// Returns the sum of the 16-bit words (RFC 1071) before folding. Adding 32 bits at a time folds to the same.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut sum: u64 = words.iter().map(|word| u64::from(u32::from_be_bytes(*word))).sum();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    sum += u64::from(u32::from_be_bytes(last));
    sum
}

const fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Returns an ARP request (RFC 826). If `target` equals `sender`, it announces the address (RFC 5227 §2.3).
pub(crate) fn arp_request(hardware: MacAddr, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::with_capacity(42);
    frame.extend(MacAddr::BROADCAST.0);
    frame.extend(hardware.0);
    frame.extend(TYPE_ARP);
    // Ethernet, IPv4, the lengths of their addresses, a request.
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(hardware.0);
    frame.extend(sender.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

/// The protocol of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Dhcp,
    Tftp,
    Arp,
}

impl Protocol {
    /// Returns the protocol of a frame that this module has built.
    pub(crate) fn of(frame: &[u8]) -> Self {
        match frame.get(12..14) {
            Some([0x08, 0x06]) => Self::Arp,
            _ => Self::of_port(frame.get(36..38).map_or(0, |port| u16::from_be_bytes([port[0], port[1]]))),
        }
    }

    /// Returns the protocol that a server speaks on this port.
    pub(crate) const fn of_port(port: u16) -> Self {
        match port {
            dhcp::SERVER_PORT | dhcp::PROXY_PORT => Self::Dhcp,
            _ => Self::Tftp,
        }
    }
}

/// A frame that may concern a simulated machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received<'a> {
    /// A datagram. Its checksum is not verified, because virtual links deliver partial checksums.
    Udp { source: MacAddr, from: SocketAddrV4, to: SocketAddrV4, payload: &'a [u8] },
    /// The answer to an ARP request.
    ArpReply { hardware: MacAddr, address: Ipv4Addr, asked_by: Ipv4Addr },
}

/// Parses a frame. Returns `None` if it is neither an unfragmented UDP datagram nor an ARP reply.
pub(crate) fn parse(frame: &[u8]) -> Option<Received<'_>> {
    let (ethernet, rest) = frame.split_first_chunk::<ETHERNET>()?;
    match [ethernet[12], ethernet[13]] {
        TYPE_IPV4 => {
            let header = rest.first_chunk::<IPV4>()?;
            let header_length = usize::from(header[0] & 0x0f) * 4;
            let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
            // A fragment has the flag "more fragments" or an offset.
            let is_whole = header[6] & 0x3f == 0 && header[7] == 0;
            if header[0] >> 4 != 4 || header_length < IPV4 || header[9] != PROTOCOL_UDP || !is_whole {
                return None;
            }
            let (udp, payload) = rest.get(header_length..length)?.split_first_chunk::<UDP>()?;
            let length = usize::from(u16::from_be_bytes([udp[4], udp[5]])).checked_sub(UDP)?;
            let socket = |address: [u8; 4], port: [u8; 2]| SocketAddrV4::new(address.into(), u16::from_be_bytes(port));
            Some(Received::Udp {
                source: MacAddr(*ethernet[6..].first_chunk()?),
                from: socket(*header[12..].first_chunk()?, [udp[0], udp[1]]),
                to: socket(*header[16..].first_chunk()?, [udp[2], udp[3]]),
                payload: payload.get(..length)?,
            })
        }
        TYPE_ARP => {
            let arp = rest.first_chunk::<28>()?;
            if arp[..8] != [0, 1, 8, 0, 6, 4, 0, 2] {
                return None;
            }
            let ipv4 = |at: usize| Some(Ipv4Addr::from(*arp.get(at..)?.first_chunk::<4>()?));
            Some(Received::ArpReply {
                hardware: MacAddr(*arp[8..].first_chunk()?),
                address: ipv4(14)?,
                asked_by: ipv4(24)?,
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    use super::*;

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    #[test]
    fn datagram_round_trips() {
        let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
        let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);
        let frame = udp((A, B), from, to, b"hello");
        assert_eq!(parse(&frame), Some(Received::Udp { source: A, from, to, payload: b"hello" }));
        assert_eq!(Protocol::of(&frame), Protocol::Dhcp);
    }

    #[test]
    fn arp_request_is_not_a_reply() {
        let address = Ipv4Addr::new(10, 0, 0, 1);
        let mut frame = arp_request(A, Ipv4Addr::new(10, 0, 0, 9), address);
        assert_eq!((frame.len(), Protocol::of(&frame)), (42, Protocol::Arp));
        assert_eq!(parse(&frame), None);
        frame[21] = 2;
        let asked_by = Ipv4Addr::UNSPECIFIED;
        let Some(Received::ArpReply { hardware, address: sender, .. }) = parse(&frame) else { panic!("{asked_by}") };
        assert_eq!((hardware, sender), (A, Ipv4Addr::new(10, 0, 0, 9)));
    }

    proptest::proptest! {
        #[test]
        fn datagrams_are_valid_to_etherparse(payload in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
            let from = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 9), 1580);
            let to = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 69);
            let frame = udp((A, B), from, to, &payload);
            let packet = SlicedPacket::from_ethernet(&frame).unwrap();
            let Some(NetSlice::Ipv4(ip)) = &packet.net else { panic!("no IPv4") };
            let Some(TransportSlice::Udp(udp)) = &packet.transport else { panic!("no UDP") };
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            assert_eq!(udp.payload(), payload);
            assert_eq!(udp.checksum(), udp.to_header().calc_checksum_ipv4(&header, &payload).unwrap());
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(frame in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = parse(&frame);
        }
    }
}
