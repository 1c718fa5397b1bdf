//! Sends datagrams as complete frames, bypassing the host's IP stack.
//!
//! For a datagram to a neighbour, the kernel's path from a UDP socket to the device (route, headers, filters, neighbour)
//! costs as much as everything else in sending it. Many datagrams to the same few neighbours are cheaper with headers
//! written here. The kernel still computes the checksum, or leaves it to the card.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use pxe_common::{MacAddr, frame::UDP_LENGTH};

use super::{
    frame::{Headers, UDP_CHECKSUM_OFFSET},
    interface::{self, Interface},
    packet_socket, prefix,
};

/// The bytes in front of a datagram's payload: `struct virtio_net_hdr`, Ethernet, IPv4, UDP.
pub type Prefix = [u8; VNET_LENGTH + HEADERS_LENGTH];

/// The length of `struct virtio_net_hdr`.
const VNET_LENGTH: usize = 10;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
const NEEDS_CHECKSUM: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_UDP_L4`: the kernel, or the card, cuts the payload into datagrams. Linux 6.2 is the first that knows it.
const CUT_INTO_DATAGRAMS: u8 = 5;
/// The length of the other headers.
const HEADERS_LENGTH: usize = Headers::payload_offset(0);

/// A packet socket for sending on one interface.
#[derive(Debug)]
pub struct RawUdp {
    socket: OwnedFd,
    name: String,
    mac: MacAddr,
    /// The interface's own networks.
    networks: Vec<(Ipv4Addr, u8)>,
}

impl RawUdp {
    /// Opens a socket that sends on an interface.
    ///
    /// # Errors
    ///
    /// If the kernel refuses, for example because `CAP_NET_RAW` is missing.
    pub fn open(interface: &Interface) -> io::Result<Self> {
        let socket = packet_socket::for_sending(interface.index)?;
        let Interface { ref name, mac, ref addresses, .. } = *interface;
        Ok(Self { socket, name: name.clone(), mac, networks: addresses.clone() })
    }

    /// Returns the neighbour's hardware address if the kernel knows it. `socket` may be any socket in our network namespace.
    ///
    /// A host in none of the interface's networks is no neighbour, whatever the kernel's table says: any host of the link puts an entry for any
    /// address there by asking for ours. The kernel itself looks up the router of such an address.
    #[must_use]
    pub fn neighbour(&self, socket: &UdpSocket, to: SocketAddrV4) -> Option<MacAddr> {
        if !self.networks.iter().any(|&(ours, length)| prefix::same(*to.ip(), ours, length)) {
            return None;
        }
        interface::neighbour(socket, &self.name, *to.ip()).ok().flatten()
    }

    /// Returns the bytes to send in front of a payload of this length, or `None` if it is too long for one datagram. With a `segment`, the
    /// payload becomes datagrams of that many bytes, of which the last may be shorter.
    #[must_use]
    pub fn prefix(
        &self,
        (from, to): (SocketAddrV4, SocketAddrV4),
        mac: MacAddr,
        payload: usize,
        segment: Option<u16>,
    ) -> Option<Prefix> {
        let headers =
            Headers { ethernet_source: self.mac, ethernet_destination: mac, tags: &[], source: from, destination: to };
        let mut prefix = [0; VNET_LENGTH + HEADERS_LENGTH];
        let (vnet, frame) = prefix.split_at_mut(VNET_LENGTH);
        // In the host's byte order; the offset counts from the beginning of the frame.
        vnet[0] = NEEDS_CHECKSUM;
        if let Some(segment) = segment {
            vnet[1] = CUT_INTO_DATAGRAMS;
            vnet[2..4].copy_from_slice(&(HEADERS_LENGTH as u16).to_ne_bytes());
            vnet[4..6].copy_from_slice(&segment.to_ne_bytes());
        }
        vnet[6..8].copy_from_slice(&((HEADERS_LENGTH - UDP_LENGTH) as u16).to_ne_bytes());
        vnet[8..10].copy_from_slice(&(UDP_CHECKSUM_OFFSET as u16).to_ne_bytes());
        headers.write_unfragmented(frame, payload)?;
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

    use super::{
        super::frame::{folded, sum},
        *,
    };

    #[test]
    fn headers_equal_those_that_the_kernel_would_write() {
        let socket = std::fs::File::open("/dev/null").unwrap().into();
        let direct = RawUdp { socket, name: "eth0".to_owned(), mac: MacAddr([2, 0, 0, 0, 0, 1]), networks: Vec::new() };
        let from = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 4096);
        let to = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 2070);
        let payload = b"\0\x03\0\x01odd";
        let prefix = direct.prefix((from, to), MacAddr([2, 0, 0, 0, 0, 2]), payload.len(), None).unwrap();
        assert_eq!(
            prefix[..VNET_LENGTH],
            *[&[1, 0, 0, 0, 0, 0][..], &34u16.to_ne_bytes(), &6u16.to_ne_bytes()].concat()
        );
        // Completes the checksum as the kernel does: the sum from the UDP header on, with the pseudo header's sum in its
        // place.
        let mut frame = [&prefix[VNET_LENGTH..], payload].concat();
        let checksum = folded(sum(&frame[34..]));
        frame[40..42].copy_from_slice(&checksum.to_be_bytes());
        let packet = etherparse::PacketHeaders::from_ethernet_slice(&frame).unwrap();
        let Some(etherparse::NetHeaders::Ipv4(ip, _)) = packet.net else { panic!("IPv4") };
        let Some(etherparse::TransportHeader::Udp(udp)) = packet.transport else { panic!("UDP") };
        assert_eq!(ip.header_checksum, ip.calc_header_checksum());
        assert_eq!(udp.checksum, udp.calc_checksum_ipv4(&ip, payload).unwrap());
        assert_eq!((udp.source_port, udp.destination_port, packet.payload.slice()), (4096, 2070, &payload[..]));
        assert!(ip.dont_fragment && ip.time_to_live == 64);
        let of_many = direct.prefix((from, to), MacAddr([2, 0, 0, 0, 0, 2]), payload.len(), Some(3)).unwrap();
        let expected = [&[1, 5][..], &42u16.to_ne_bytes(), &3u16.to_ne_bytes(), &prefix[6..]].concat();
        assert_eq!(of_many[..], expected, "the same but for what the kernel is told");
        assert!(direct.prefix((from, to), MacAddr::default(), 65_536, None).is_none());
    }
}
