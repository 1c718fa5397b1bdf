//! The frames of an interface that belong into a capture. Pure.

use std::net::Ipv4Addr;

use pxe_common::{
    MacAddr,
    bootp::{BOOT_SERVER_PORT, CLIENT_PORT, SERVER_PORT, field},
    frame::{ETHERNET_LENGTH, IPV4_LENGTH, PROTOCOL_UDP, TAG_LENGTH, UDP_LENGTH, ethertype},
};

use super::record::Way;

/// The EtherType of ARP.
pub(super) const ARP: u16 = 0x0806;
/// IP protocol numbers.
const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
/// The bytes that are kept of a request or an answer of HTTP: its head, and all of a script.
const HTTP_HEAD: usize = 4096;
/// The bytes that are kept of the rest of a body, or of a fragment.
const BODY: usize = 32;

/// The machine of a capture and its surroundings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Selection<'a> {
    /// The MAC addresses of its cards.
    pub(super) macs: &'a [MacAddr],
    /// Its address, if the spec has it.
    pub(super) address: Option<Ipv4Addr>,
    /// The addresses of this host.
    pub(super) own: &'a [Ipv4Addr],
    /// The port of boot HTTP.
    pub(super) http_port: u16,
    /// A worker sees every DHCP request of the interface, and its answers leave by a packet socket. Otherwise XDP takes the requests that
    /// workers see, and no packet socket sees their answers.
    pub(super) dhcp_is_tapped: bool,
}

impl Selection<'_> {
    /// Returns the number of bytes to keep of a frame, or `None` if it is not of this capture.
    pub(super) fn kept(&self, frame: &[u8], way: Way) -> Option<usize> {
        let (start, ethertype) = network_layer(frame)?;
        let packet = frame.get(start..)?;
        match ethertype {
            ARP => self.is_arp_of_machine(packet).then_some(frame.len()),
            ethertype::IPV4 => self.kept_of_ipv4(frame, packet, way).map(|kept| frame.len().min(start + kept)),
            _ => None,
        }
    }

    /// RFC 826: hardware and protocol address of the sender, then those of the target.
    fn is_arp_of_machine(&self, packet: &[u8]) -> bool {
        let hardware = [8, 18].into_iter().filter_map(|at| Some(MacAddr(*packet.get(at..)?.first_chunk()?)));
        let protocol = [14, 24].into_iter().filter_map(|at| address(packet, at));
        hardware.into_iter().any(|mac| self.macs.contains(&mac)) || protocol.into_iter().any(|ip| self.is_at(ip))
    }

    fn kept_of_ipv4(&self, frame: &[u8], packet: &[u8], way: Way) -> Option<usize> {
        let ip = packet.first_chunk::<IPV4_LENGTH>()?;
        let header = usize::from(ip[0] & 15) * 4;
        let (source, destination) = (address(ip, 12)?, address(ip, 16)?);
        let offset = u16::from_be_bytes([ip[6], ip[7]]) & 0x1fff;
        let port = |at: usize| Some(u16::from_be_bytes(*packet.get(header + at..)?.first_chunk()?));
        if ip[9] == PROTOCOL_UDP && offset == 0 {
            let ports = (port(0)?, port(2)?);
            if is_dhcp(ports) {
                return self.keeps_dhcp(packet.get(header + UDP_LENGTH..)?, ports, way).then_some(packet.len());
            }
        }
        let is_machine = self.is_at(source) || self.is_at(destination) || self.is_card_in(frame);
        if !is_machine || !(self.own.contains(&source) || self.own.contains(&destination)) {
            return None;
        }
        match ip[9] {
            _ if offset != 0 => Some(header + BODY),
            ICMP | PROTOCOL_UDP => Some(packet.len()),
            TCP if [port(0)?, port(2)?].contains(&self.http_port) => {
                let payload = header + usize::from(packet.get(header + 12)? >> 4) * 4;
                let is_head = way == Way::In || packet.get(payload..)?.starts_with(b"HTTP/1.");
                Some(payload + if is_head { HTTP_HEAD } else { BODY })
            }
            _ => None,
        }
    }

    fn keeps_dhcp(&self, message: &[u8], (source, destination): (u16, u16), way: Way) -> bool {
        let is_server = |port| port == SERVER_PORT || port == BOOT_SERVER_PORT;
        let is_tapped = match way {
            Way::In => is_server(destination),
            Way::Out => is_server(source),
        };
        let of_machine = || {
            let chaddr = message.get(field::CHADDR).and_then(<[u8]>::first_chunk);
            chaddr.is_some_and(|mac| self.macs.contains(&MacAddr(*mac)))
        };
        !(self.dhcp_is_tapped && is_tapped) && of_machine()
    }

    fn is_at(&self, address: Ipv4Addr) -> bool {
        self.address == Some(address)
    }

    fn is_card_in(&self, frame: &[u8]) -> bool {
        let card = |at: usize| Some(MacAddr(*frame.get(at..)?.first_chunk()?));
        [card(0), card(6)].into_iter().flatten().any(|mac| self.macs.contains(&mac))
    }
}

/// Returns the offset of what follows the Ethernet header and its tags, and its EtherType.
pub(super) fn network_layer(frame: &[u8]) -> Option<(usize, u16)> {
    let mut start = ETHERNET_LENGTH;
    for _ in 0..3 {
        let ethertype = u16::from_be_bytes(*frame.get(start - 2..)?.first_chunk()?);
        if ![ethertype::VLAN, ethertype::SERVICE_VLAN].contains(&ethertype) {
            return Some((start, ethertype));
        }
        start += TAG_LENGTH;
    }
    None
}

/// Returns `true` for the ports of DHCP and PXE, source and destination.
pub(super) fn is_dhcp((source, destination): (u16, u16)) -> bool {
    let ports = [SERVER_PORT, CLIENT_PORT, BOOT_SERVER_PORT];
    ports.contains(&source) || ports.contains(&destination)
}

fn address(packet: &[u8], at: usize) -> Option<Ipv4Addr> {
    packet.get(at..)?.first_chunk().map(|bytes: &[u8; 4]| Ipv4Addr::from(*bytes))
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;
    use pxe_common::testing::FrameBuilder;

    use super::*;

    const MACHINE: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
    const OTHER: [u8; 6] = [0x52, 0x54, 0, 0, 0, 2];
    const SERVER: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const ADDRESS: [u8; 4] = [10, 0, 0, 5];
    const OTHERS: [u8; 4] = [10, 0, 0, 6];
    const OURS: [u8; 4] = [10, 0, 0, 1];
    const FAR: [u8; 4] = [192, 0, 2, 1];

    fn selection(dhcp_is_tapped: bool) -> Selection<'static> {
        const OWN: &[Ipv4Addr] = &[Ipv4Addr::new(10, 0, 0, 1)];
        let (macs, own) = (&[MacAddr(MACHINE)][..], OWN);
        Selection { macs, address: Some(ADDRESS.into()), own, http_port: 8000, dhcp_is_tapped }
    }

    fn udp(macs: ([u8; 6], [u8; 6]), addresses: ([u8; 4], [u8; 4]), ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2(macs.0, macs.1).ipv4(addresses.0, addresses.1, 64);
        let mut frame = Vec::new();
        builder.udp(ports.0, ports.1).write(&mut frame, payload).unwrap();
        frame
    }

    fn tcp(addresses: ([u8; 4], [u8; 4]), ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2(MACHINE, SERVER).ipv4(addresses.0, addresses.1, 64);
        let mut frame = Vec::new();
        builder.tcp(ports.0, ports.1, 1, 1000).write(&mut frame, payload).unwrap();
        frame
    }

    #[test]
    fn frames_of_the_machine_are_kept_and_others_are_not() {
        let (to_us, from_us) = ((ADDRESS, OURS), (OURS, ADDRESS));
        let cards = (MACHINE, SERVER);
        let body = [b'x'; 8000];
        let arp = |sender: [u8; 6], target: [u8; 4]| {
            let header = [0, 1, 8, 0, 6, 4, 0, 1];
            [&[0xff; 6][..], &sender, &[8, 6], &header, &sender, &OTHERS, &[0; 6], &target].concat()
        };
        let all = usize::MAX;
        for (name, frame, way, expected) in [
            ("TFTP request", udp(cards, to_us, (1024, 69), b"\0\x01a\0octet\0"), Way::In, Some(all)),
            ("TFTP data", udp((SERVER, MACHINE), from_us, (40_000, 1024), &body), Way::Out, Some(all)),
            ("the same through a router", udp((SERVER, OTHER), from_us, (40_000, 1024), b""), Way::Out, Some(all)),
            ("TFTP of another machine", udp((OTHER, SERVER), (OTHERS, OURS), (1024, 69), b""), Way::In, None),
            ("UDP to a host behind us", udp(cards, (ADDRESS, FAR), (1024, 69), b""), Way::In, None),
            ("the machine with another address", udp(cards, (OTHERS, OURS), (1024, 69), b""), Way::In, Some(all)),
            ("HTTP request", tcp(to_us, (50_000, 8000), b"GET / HTTP/1.1\r\n\r\n"), Way::In, Some(all)),
            (
                "HTTP response",
                tcp(from_us, (8000, 50_000), &[b"HTTP/1.1 200", &body[..]].concat()),
                Way::Out,
                Some(54 + 4096),
            ),
            ("rest of a body", tcp(from_us, (8000, 50_000), &body), Way::Out, Some(54 + 32)),
            ("acknowledgement", tcp(to_us, (50_000, 8000), b""), Way::In, Some(all)),
            ("another TCP port", tcp(to_us, (50_000, 22), b""), Way::In, None),
            ("ARP of the machine", arp(MACHINE, FAR), Way::In, Some(all)),
            ("ARP for the machine", arp(SERVER, ADDRESS), Way::Out, Some(all)),
            ("ARP of others", arp(OTHER, OURS), Way::In, None),
            ("IPv6", [&SERVER[..], &MACHINE, &[0x86, 0xdd], &[0; 60]].concat(), Way::In, None),
            ("a cut frame", udp(cards, to_us, (1024, 69), b"")[..20].to_vec(), Way::In, None),
        ] {
            let kept = selection(true).kept(&frame, way);
            assert_eq!(kept, expected.map(|expected| expected.min(frame.len())), "{name}");
        }
    }

    /// Each DHCP frame comes from one source, on every datapath.
    #[test]
    fn dhcp_frames_that_a_worker_sees_are_left_to_it() {
        let mut message = [0; 300];
        message[field::CHADDR.start..][..6].copy_from_slice(&MACHINE);
        let mut of_other = message;
        of_other[field::CHADDR.start + 5] = 2;
        for (name, ports, way, message, of_xdp, of_socket) in [
            ("request", (68, 67), Way::In, message, true, false),
            ("request to the boot server", (68, 4011), Way::In, message, true, false),
            ("relayed request", (67, 67), Way::In, message, true, false),
            ("our answer", (67, 68), Way::Out, message, true, false),
            ("another server's answer", (67, 68), Way::In, message, true, true),
            ("request of this host", (68, 67), Way::Out, message, true, true),
            ("request of another machine", (68, 67), Way::In, of_other, false, false),
            ("another server's answer to another machine", (67, 68), Way::In, of_other, false, false),
        ] {
            let frame = udp((OTHER, SERVER), ([0; 4], [255; 4]), ports, &message);
            assert_eq!(selection(false).kept(&frame, way).is_some(), of_xdp, "{name}, XDP");
            assert_eq!(selection(true).kept(&frame, way).is_some(), of_socket, "{name}, packet socket");
        }
    }

    #[test]
    fn tags_are_looked_behind() {
        let frame = udp((MACHINE, SERVER), (ADDRESS, OURS), (1024, 69), b"");
        for tags in [&[0x81, 0, 0, 7][..], &[0x88, 0xa8, 0, 100, 0x81, 0, 0, 7]] {
            let tagged = [&frame[..12], tags, &frame[12..]].concat();
            assert_eq!(selection(true).kept(&tagged, Way::In), Some(tagged.len()));
        }
        let three = [&frame[..12], &[0x81, 0, 0, 7].repeat(3), &frame[12..]].concat();
        assert_eq!(selection(true).kept(&three, Way::In), None);
    }

    proptest! {
        #[test]
        fn altered_and_cut_frames_are_no_panic(at in 0_usize..340, byte in any::<u8>(), length in 0_usize..340) {
            let mut frame = FrameBuilder::default().build();
            let length = length.min(frame.len());
            frame[at.min(length.max(1) - 1)] = byte;
            for way in [Way::In, Way::Out] {
                for tapped in [true, false] {
                    let kept = selection(tapped).kept(&frame[..length], way);
                    prop_assert!(kept.is_none_or(|kept| kept <= length));
                }
            }
        }
    }
}
