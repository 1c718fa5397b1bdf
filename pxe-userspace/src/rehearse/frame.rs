//! Ethernet frames of simulated machines: UDP and ARP over IPv4, built and read with etherparse.

use std::net::{Ipv4Addr, SocketAddrV4};

use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, NetSlice, PacketBuilder, SlicedPacket, TransportSlice,
};
use pxe_common::MacAddr;

/// The lifetime that EDK2 and iPXE give their packets.
const TTL: u8 = 64;

/// A UDP datagram as a whole frame.
pub(super) fn udp(link: (MacAddr, MacAddr), from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(link.0.0, link.1.0)
        .ipv4(from.ip().octets(), to.ip().octets(), TTL)
        .udp(from.port(), to.port());
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    // Fails only for a payload beyond 64 KiB, which no caller has; the frame would then be empty and unsent.
    let _ = builder.write(&mut frame, payload);
    frame
}

/// Asks who has an address (RFC 826). With `target` = `sender`, it announces one's own (RFC 5227 §2.3).
pub(super) fn arp_request(hardware: MacAddr, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::with_capacity(42);
    let packet = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        ArpOperation::REQUEST,
        &hardware.0,
        &sender.octets(),
        &[0; 6],
        &target.octets(),
    );
    if let Ok(packet) = packet {
        let _ = PacketBuilder::ethernet2(hardware.0, MacAddr::BROADCAST.0).arp(packet).write(&mut frame);
    }
    frame
}

/// A frame that may concern a simulated machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received<'a> {
    /// A datagram. Its checksum is not looked at: a virtual link hands it over unfinished.
    Udp { source: MacAddr, from: SocketAddrV4, to: SocketAddrV4, payload: &'a [u8] },
    /// Somebody says which hardware address theirs is, to the one who asked.
    ArpReply { hardware: MacAddr, address: Ipv4Addr, asked_by: Ipv4Addr },
}

/// Reads a frame; none where it is neither.
pub(super) fn parse(frame: &[u8]) -> Option<Received<'_>> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    match packet.net.as_ref()? {
        NetSlice::Ipv4(ip) => {
            let Some(TransportSlice::Udp(udp)) = &packet.transport else { return None };
            let source = MacAddr(frame.get(6..12)?.try_into().ok()?);
            Some(Received::Udp {
                source,
                from: SocketAddrV4::new(ip.header().source_addr(), udp.source_port()),
                to: SocketAddrV4::new(ip.header().destination_addr(), udp.destination_port()),
                payload: udp.payload(),
            })
        }
        NetSlice::Arp(arp) if arp.operation() == ArpOperation::REPLY => {
            let ipv4 = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from);
            Some(Received::ArpReply {
                hardware: MacAddr(arp.sender_hw_addr().try_into().ok()?),
                address: ipv4(arp.sender_protocol_addr())?,
                asked_by: ipv4(arp.target_protocol_addr())?,
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    #[test]
    fn a_datagram_comes_back_as_it_was_sent() {
        let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
        let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);
        let frame = udp((A, B), from, to, b"hello");
        assert_eq!(parse(&frame), Some(Received::Udp { source: A, from, to, payload: b"hello" }));
    }

    #[test]
    fn a_question_is_not_an_answer() {
        let address = Ipv4Addr::new(10, 0, 0, 1);
        let mut frame = arp_request(A, Ipv4Addr::new(10, 0, 0, 9), address);
        assert_eq!(frame.len(), 42);
        assert_eq!(parse(&frame), None);
        frame[21] = 2;
        let asked_by = Ipv4Addr::UNSPECIFIED;
        let Some(Received::ArpReply { hardware, address: sender, .. }) = parse(&frame) else { panic!("{asked_by}") };
        assert_eq!((hardware, sender), (A, Ipv4Addr::new(10, 0, 0, 9)));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived(frame in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = parse(&frame);
        }
    }
}
