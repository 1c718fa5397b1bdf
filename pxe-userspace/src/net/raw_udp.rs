//! Datagrams put on the wire as frames, past the host's IP stack.
//!
//! For one datagram to a neighbour, the kernel's way from a UDP socket to the device (routing, the header, its filters, the
//! neighbour) costs as much as all else that sending is. Whoever has many to send to the same few neighbours does better to
//! write the headers once. The kernel still computes the checksum, or leaves it to the card.

use std::{
    io,
    net::{SocketAddrV4, UdpSocket},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use pxe_common::MacAddr;

use super::{
    frame::{ETHERNET, IPV4, UDP, folded, sum},
    interface::{self, Interface},
    packet_socket,
};

/// What stands in front of a datagram's payload: `struct virtio_net_hdr`, Ethernet, IPv4, UDP.
pub type Prefix = [u8; VNET + ETHERNET + IPV4 + UDP];

const VNET: usize = 10;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
const NEEDS_CHECKSUM: u8 = 1;
/// Where in the UDP header its checksum is.
const CHECKSUM_OFFSET: u16 = 6;

/// A packet socket for sending on one interface.
#[derive(Debug)]
pub struct RawUdp {
    socket: OwnedFd,
    name: String,
    mac: MacAddr,
}

impl RawUdp {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, for one for want of `CAP_NET_RAW`.
    pub fn open(interface: &Interface) -> io::Result<Self> {
        let socket = packet_socket::for_sending(interface.index)?;
        Ok(Self { socket, name: interface.name.clone(), mac: interface.mac })
    }

    /// The neighbour's hardware address, where the kernel knows it. `socket` is any, in our network namespace.
    #[must_use]
    pub fn neighbour(&self, socket: &UdpSocket, to: SocketAddrV4) -> Option<MacAddr> {
        interface::neighbour(socket, &self.name, *to.ip()).ok().flatten()
    }

    /// What to send in front of a payload of this many bytes. None where it is too long for one datagram.
    #[must_use]
    pub fn prefix(&self, from: SocketAddrV4, to: SocketAddrV4, mac: MacAddr, payload: usize) -> Option<Prefix> {
        let udp_length = u16::try_from(UDP + payload).ok()?;
        let ip_length = udp_length.checked_add(IPV4 as u16)?;
        let mut prefix = [0; VNET + ETHERNET + IPV4 + UDP];
        let (vnet, frame) = prefix.split_at_mut(VNET);
        // In the host's byte order, and from the beginning of the frame.
        vnet[0] = NEEDS_CHECKSUM;
        vnet[6..8].copy_from_slice(&((ETHERNET + IPV4) as u16).to_ne_bytes());
        vnet[8..10].copy_from_slice(&CHECKSUM_OFFSET.to_ne_bytes());

        frame[..6].copy_from_slice(&mac.0);
        frame[6..12].copy_from_slice(&self.mac.0);
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        let (ip, udp) = frame[ETHERNET..].split_at_mut(IPV4);
        // Version and header length; not to be fragmented, hence without an identification (RFC 6864); 64 hops; UDP.
        ip[..10].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17]);
        ip[2..4].copy_from_slice(&ip_length.to_be_bytes());
        ip[12..16].copy_from_slice(&from.ip().octets());
        ip[16..20].copy_from_slice(&to.ip().octets());
        let checksum = folded(sum(0, ip));
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        udp[..2].copy_from_slice(&from.port().to_be_bytes());
        udp[2..4].copy_from_slice(&to.port().to_be_bytes());
        udp[4..6].copy_from_slice(&udp_length.to_be_bytes());
        // The checksum's beginning, the pseudo header of RFC 768; the kernel adds the rest.
        let pseudo = !folded(sum(17 + u64::from(udp_length), &ip[12..20]));
        udp[6..8].copy_from_slice(&pseudo.to_be_bytes());
        Some(prefix)
    }
}

impl AsFd for RawUdp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_headers_are_those_that_the_kernel_would_write() {
        let socket = std::fs::File::open("/dev/null").unwrap().into();
        let direct = RawUdp { socket, name: "eth0".to_owned(), mac: MacAddr([2, 0, 0, 0, 0, 1]) };
        let from = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 4096);
        let to = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 2070);
        let payload = b"\0\x03\0\x01odd";
        let prefix = direct.prefix(from, to, MacAddr([2, 0, 0, 0, 0, 2]), payload.len()).unwrap();
        assert_eq!(prefix[..VNET], *[&[1, 0, 0, 0, 0, 0][..], &34u16.to_ne_bytes(), &6u16.to_ne_bytes()].concat());
        // As the kernel completes it: the sum from the UDP header on, the pseudo header's in its place.
        let mut frame = [&prefix[VNET..], payload].concat();
        let checksum = folded(sum(0, &frame[34..]));
        frame[40..42].copy_from_slice(&checksum.to_be_bytes());
        let packet = etherparse::PacketHeaders::from_ethernet_slice(&frame).unwrap();
        let Some(etherparse::NetHeaders::Ipv4(ip, _)) = packet.net else { panic!("IPv4") };
        let Some(etherparse::TransportHeader::Udp(udp)) = packet.transport else { panic!("UDP") };
        assert_eq!(ip.header_checksum, ip.calc_header_checksum());
        assert_eq!(udp.checksum, udp.calc_checksum_ipv4(&ip, payload).unwrap());
        assert_eq!((udp.source_port, udp.destination_port, packet.payload.slice()), (4096, 2070, &payload[..]));
        assert!(ip.dont_fragment && ip.time_to_live == 64);
        assert!(direct.prefix(from, to, MacAddr::default(), 65_536).is_none());
    }
}
