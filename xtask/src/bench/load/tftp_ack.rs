//! Acknowledgements past the IP stack, many with one system call.
//!
//! At windowsize 1 a client spends three quarters of its time in sending, half of that for what is the same each time. A load
//! that costs as much as the server would measure itself; so it writes its frames by itself.

use std::{
    net::SocketAddrV4,
    os::fd::{AsRawFd as _, OwnedFd},
};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, MultiHeaders, SockFlag, SockType, SockaddrIn, bind, sendmmsg, socket,
    },
};
use pxe_common::MacAddr;

/// Ethernet, IPv4, UDP, and the four bytes of an acknowledgement.
type Frame = [u8; 46];

/// Acknowledgements that are sent together: few, so that the server works while others are written.
const BATCH: usize = 8;

/// A packet socket, and what waits to be sent on it.
pub(super) struct Acknowledger {
    socket: OwnedFd,
    headers: MultiHeaders<SockaddrIn>,
    ours: MacAddr,
    servers: MacAddr,
    waiting: Vec<Frame>,
}

impl Acknowledger {
    /// Opens the socket on the interface that has `ours`, in the caller's namespace.
    ///
    /// # Errors
    ///
    /// When there is no such interface, or we are not root.
    pub(super) fn open(ours: MacAddr, servers: MacAddr) -> anyhow::Result<Self> {
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
        let is_ours = |address: &LinkAddr| address.addr() == Some(ours.0);
        let links = getifaddrs()?.filter_map(|entry| entry.address?.as_link_addr().copied());
        let link = links.into_iter().find(is_ours).with_context(|| format!("no interface has {ours}"))?;
        bind(socket.as_raw_fd(), &link).context("cannot bind a packet socket")?;
        let headers = MultiHeaders::preallocate(BATCH, None);
        Ok(Self { socket, headers, ours, servers, waiting: Vec::with_capacity(BATCH) })
    }

    /// Sends an acknowledgement, now or soon.
    pub(super) fn send(&mut self, from: SocketAddrV4, to: SocketAddrV4, packet: [u8; 4]) {
        let mut frame: Frame = [0; 46];
        frame[..6].copy_from_slice(&self.servers.0);
        frame[6..12].copy_from_slice(&self.ours.0);
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        let (ip, udp) = frame[14..].split_at_mut(20);
        ip[..12].copy_from_slice(&[0x45, 0, 0, 32, 0, 0, 0x40, 0, 64, 17, 0, 0]);
        ip[12..16].copy_from_slice(&from.ip().octets());
        ip[16..20].copy_from_slice(&to.ip().octets());
        let ip_checksum = checksum(0, ip);
        ip[10..12].copy_from_slice(&ip_checksum.to_be_bytes());
        udp[..2].copy_from_slice(&from.port().to_be_bytes());
        udp[2..4].copy_from_slice(&to.port().to_be_bytes());
        udp[4..6].copy_from_slice(&[0, 12]);
        udp[8..].copy_from_slice(&packet);
        let pseudo = 17 + 12 + sum(&ip[12..20]);
        // A sum of zero is sent as all ones (RFC 768).
        let udp_checksum = match checksum(pseudo, udp) {
            0 => 0xffff,
            checksum => checksum,
        };
        udp[6..8].copy_from_slice(&udp_checksum.to_be_bytes());
        self.waiting.push(frame);
        if self.waiting.len() == BATCH {
            self.flush();
        }
    }

    /// Sends what waits. What the interface does not take is lost, as on a network.
    pub(super) fn flush(&mut self) {
        let Self { socket, headers, waiting, .. } = self;
        let frames: Vec<_> = waiting.iter().map(|frame| [std::io::IoSlice::new(frame)]).collect();
        let addresses = [const { None::<SockaddrIn> }; BATCH];
        let mut sent = 0;
        while sent < frames.len() {
            let rest = &frames[sent..];
            match sendmmsg(socket.as_raw_fd(), headers, rest, &addresses[..rest.len()], [], MsgFlags::empty()) {
                Ok(results) => sent += results.count(),
                Err(Errno::EINTR) => {}
                Err(_) => sent += 1,
            }
        }
        waiting.clear();
    }
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.as_chunks::<2>().0.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum()
}

/// RFC 1071, with what else counts.
fn checksum(more: u32, bytes: &[u8]) -> u16 {
    let mut sum = more + sum(bytes);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
