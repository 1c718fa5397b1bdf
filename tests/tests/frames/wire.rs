//! Clients' frames, built byte by byte so that any byte can be wrong, and a parser for the replies.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddrV4},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, ensure};
use etherparse::{SlicedPacket, TransportSlice};
use pxe_lab::cluster::Machine;

/// A hardware address.
pub(crate) type Mac = [u8; 6];

pub(crate) const BROADCAST: Mac = [0xff; 6];
/// The magic cookie of RFC 2131 §3.
const COOKIE: [u8; 4] = [99, 130, 83, 99];

/// Message types of option 53 (RFC 2132 §9.6).
pub(crate) const DISCOVER: u8 = 1;
pub(crate) const OFFER: u8 = 2;
pub(crate) const REQUEST: u8 = 3;
pub(crate) const ACK: u8 = 5;
pub(crate) const NAK: u8 = 6;

/// A client's packet, to be changed and built.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) ethernet_destination: Mac,
    pub(crate) ethernet_source: Mac,
    /// VLAN tags, the outermost first: TPID and TCI.
    pub(crate) tags: Vec<[u8; 4]>,
    pub(crate) source: SocketAddrV4,
    pub(crate) destination: SocketAddrV4,
    /// op, htype, hlen, hops.
    pub(crate) bootp: [u8; 4],
    pub(crate) xid: u32,
    pub(crate) flags: u16,
    pub(crate) ciaddr: Ipv4Addr,
    pub(crate) giaddr: Ipv4Addr,
    pub(crate) chaddr: Mac,
    /// The cookie and the options, including their end.
    pub(crate) options: Vec<u8>,
}

impl Query {
    /// Returns the broadcast DISCOVER of a plain client without an address, in a transaction of its own.
    pub(crate) fn discover(machine: &Machine) -> anyhow::Result<Self> {
        static XID: AtomicU32 = AtomicU32::new(0x7078_6500);
        let chaddr = mac(&machine.mac)?;
        Ok(Self {
            ethernet_destination: BROADCAST,
            ethernet_source: chaddr,
            tags: Vec::new(),
            source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
            destination: SocketAddrV4::new(Ipv4Addr::BROADCAST, 67),
            bootp: [1, 1, 6, 0],
            xid: XID.fetch_add(1, Ordering::Relaxed),
            flags: 0,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            chaddr,
            options: options(&[(53, &[DISCOVER])]),
        })
    }

    /// Replaces the options.
    pub(crate) fn with(mut self, list: &[(u8, &[u8])]) -> Self {
        self.options = options(list);
        self
    }

    /// Replaces the bytes after the cookie.
    pub(crate) fn with_raw(mut self, bytes: &[u8]) -> Self {
        self.options = [&COOKIE, bytes].concat();
        self
    }

    /// Returns the UDP payload.
    pub(crate) fn payload(&self) -> Vec<u8> {
        let mut bytes = self.bootp.to_vec();
        bytes.extend_from_slice(&self.xid.to_be_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&self.flags.to_be_bytes());
        bytes.extend_from_slice(&self.ciaddr.octets());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&self.giaddr.octets());
        bytes.extend_from_slice(&self.chaddr);
        // The rest of chaddr, sname, file.
        bytes.extend_from_slice(&[0; 10 + 64 + 128]);
        bytes.extend_from_slice(&self.options);
        bytes
    }

    /// Returns the frame.
    pub(crate) fn frame(&self) -> Vec<u8> {
        self.frame_of(&self.payload())
    }

    /// Returns the frame with another payload.
    pub(crate) fn frame_of(&self, payload: &[u8]) -> Vec<u8> {
        let mut udp = self.source.port().to_be_bytes().to_vec();
        udp.extend_from_slice(&self.destination.port().to_be_bytes());
        udp.extend_from_slice(&(8 + payload.len() as u16).to_be_bytes());
        udp.extend_from_slice(&[0, 0]);
        udp.extend_from_slice(payload);
        let mut pseudo = [self.source.ip().octets(), self.destination.ip().octets()].concat();
        pseudo.extend_from_slice(&[0, 17]);
        pseudo.extend_from_slice(&(udp.len() as u16).to_be_bytes());
        pseudo.extend_from_slice(&udp);
        udp[6..8].copy_from_slice(&checksum(&pseudo).to_be_bytes());
        self.datagram(&udp, 0)
    }

    /// Returns the packet as two fragments, cut at `at` bytes of its IP payload, a multiple of eight (RFC 791 §3.2).
    pub(crate) fn fragments(&self, at: usize) -> [Vec<u8>; 2] {
        const MORE_FRAGMENTS: u16 = 0x2000;
        let whole = self.frame();
        let (first, rest) = whole[14 + 20..].split_at(at);
        [self.datagram(first, MORE_FRAGMENTS), self.datagram(rest, (at / 8) as u16)]
    }

    /// Returns the frame around an IP payload.
    fn datagram(&self, udp: &[u8], fragment: u16) -> Vec<u8> {
        let mut frame = [self.ethernet_destination, self.ethernet_source].concat();
        for tag in &self.tags {
            frame.extend_from_slice(tag);
        }
        frame.extend_from_slice(&[8, 0]);
        let start = frame.len();
        frame.extend_from_slice(&[0x45, 0]);
        frame.extend_from_slice(&(20 + udp.len() as u16).to_be_bytes());
        frame.extend_from_slice(&[0x70, 0x78]);
        frame.extend_from_slice(&fragment.to_be_bytes());
        frame.extend_from_slice(&[64, 17, 0, 0]);
        frame.extend_from_slice(&self.source.ip().octets());
        frame.extend_from_slice(&self.destination.ip().octets());
        let sum = checksum(&frame[start..]);
        frame[start + 10..start + 12].copy_from_slice(&sum.to_be_bytes());
        frame.extend_from_slice(udp);
        frame.resize(frame.len().max(60), 0);
        frame
    }
}

/// A frame with a DHCP message to a client or a relay, with verified checksums.
#[derive(Clone)]
pub(crate) struct Reply {
    pub(crate) ethernet_destination: Mac,
    pub(crate) ethernet_source: Mac,
    pub(crate) tags: Vec<[u8; 4]>,
    /// The length of the frame in bytes.
    pub(crate) length: usize,
    pub(crate) source: SocketAddrV4,
    pub(crate) destination: SocketAddrV4,
    /// The UDP payload.
    pub(crate) message: Vec<u8>,
}

impl Reply {
    /// Reads a frame. Returns `None` if it is not a BOOTREPLY.
    ///
    /// # Errors
    ///
    /// Fails if a checksum is wrong.
    pub(crate) fn read(frame: &[u8]) -> anyhow::Result<Option<Self>> {
        let Ok(packet) = SlicedPacket::from_ethernet(frame) else { return Ok(None) };
        let (Some(ip), Some(TransportSlice::Udp(udp))) =
            (packet.net.as_ref().and_then(|net| net.ipv4_ref()), &packet.transport)
        else {
            return Ok(None);
        };
        let message = udp.payload();
        if message.len() < 240 || message[0] != 2 || ![67, 4011].contains(&udp.source_port()) {
            return Ok(None);
        }
        let header = ip.header().to_header();
        ensure!(header.header_checksum == header.calc_header_checksum(), "wrong IP checksum: {header:?}");
        let right = udp.to_header().calc_checksum_ipv4(&header, message)?;
        ensure!(udp.checksum() == right, "UDP checksum {:#x} instead of {right:#x}", udp.checksum());
        let tags = frame[12..].chunks_exact(4).map_while(|bytes| <[u8; 4]>::try_from(bytes).ok());
        let address = |start: usize| frame[start..start + 6].try_into().context("an Ethernet address");
        Ok(Some(Self {
            ethernet_destination: address(0)?,
            ethernet_source: address(6)?,
            tags: tags.take_while(|tag| matches!(tag, [0x81, 0, ..] | [0x88, 0xa8, ..])).collect(),
            length: frame.len(),
            source: SocketAddrV4::new(header.source.into(), udp.source_port()),
            destination: SocketAddrV4::new(header.destination.into(), udp.destination_port()),
            message: message.to_vec(),
        }))
    }

    pub(crate) fn xid(&self) -> u32 {
        u32::from_be_bytes([self.message[4], self.message[5], self.message[6], self.message[7]])
    }

    pub(crate) fn flags(&self) -> u16 {
        u16::from_be_bytes([self.message[10], self.message[11]])
    }

    pub(crate) fn yiaddr(&self) -> Ipv4Addr {
        self.address(16)
    }

    pub(crate) fn giaddr(&self) -> Ipv4Addr {
        self.address(24)
    }

    pub(crate) fn chaddr(&self) -> &[u8] {
        &self.message[28..34]
    }

    fn address(&self, at: usize) -> Ipv4Addr {
        let field = &self.message[at..at + 4];
        Ipv4Addr::new(field[0], field[1], field[2], field[3])
    }

    /// Returns the options in their order.
    pub(crate) fn options(&self) -> Vec<(u8, &[u8])> {
        let mut rest = &self.message[240..];
        let mut options = Vec::new();
        while let [code, tail @ ..] = rest {
            rest = tail;
            match (code, tail) {
                (0, _) => {}
                (255, _) => break,
                (code, [length, tail @ ..]) if usize::from(*length) <= tail.len() => {
                    let (value, next) = tail.split_at(usize::from(*length));
                    options.push((*code, value));
                    rest = next;
                }
                _ => break,
            }
        }
        options
    }

    pub(crate) fn option(&self, code: u8) -> Option<&[u8]> {
        self.options().into_iter().find(|(found, _)| *found == code).map(|(_, value)| value)
    }

    /// Returns the message type of option 53.
    pub(crate) fn kind(&self) -> Option<u8> {
        self.option(53).and_then(|value| value.first().copied())
    }
}

/// Shows the fields that matter in a failure.
impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("ethernet", &format_args!("{:02x?} -> {:02x?}", self.ethernet_source, self.ethernet_destination))
            .field("tags", &format_args!("{:02x?}", self.tags))
            .field("length", &self.length)
            .field("udp", &format_args!("{} -> {}", self.source, self.destination))
            .field("flags", &self.flags())
            .field("yiaddr", &self.yiaddr())
            .field("giaddr", &self.giaddr())
            .field("chaddr", &format_args!("{:02x?}", self.chaddr()))
            .field("options", &format_args!("{:?}", self.options()))
            .finish_non_exhaustive()
    }
}

/// Returns the cookie, the options, and their end.
pub(crate) fn options(list: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = COOKIE.to_vec();
    for (code, value) in list {
        bytes.push(*code);
        bytes.push(value.len() as u8);
        bytes.extend_from_slice(value);
    }
    bytes.push(255);
    bytes
}

/// Returns the MAC of a spec's machine.
pub(crate) fn mac(text: &str) -> anyhow::Result<Mac> {
    let bytes: Result<Vec<_>, _> = text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect();
    bytes?.try_into().map_err(|_| anyhow::anyhow!("{text} is not a MAC"))
}

/// Returns the checksum of RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
