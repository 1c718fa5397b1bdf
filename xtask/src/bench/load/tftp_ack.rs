//! Acknowledgements that bypass the IP stack, several per system call.
//!
//! At windowsize 1 a client spends three quarters of its time in sending, half of that on work that is the same each time.
//! A load that costs as much as the server would measure itself, so it builds its frames on its own.

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

/// Acknowledgements sent together: few, so that the server works while others are written.
const BATCH: usize = 8;

/// A packet socket with its queue of frames.
pub(super) struct Acknowledger {
    socket: OwnedFd,
    headers: MultiHeaders<SockaddrIn>,
    ours: MacAddr,
    servers: MacAddr,
    waiting: Vec<Frame>,
}

impl Acknowledger {
    /// Opens the socket on the interface with the MAC `ours`, in the caller's namespace.
    ///
    /// # Errors
    ///
    /// Fails without such an interface or without root.
    pub(super) fn open(ours: MacAddr, servers: MacAddr) -> anyhow::Result<Self> {
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
        let is_ours = |address: &LinkAddr| address.addr() == Some(ours.0);
        let links = getifaddrs()?.filter_map(|entry| entry.address?.as_link_addr().copied());
        let link = links.into_iter().find(is_ours).with_context(|| format!("no interface has {ours}"))?;
        bind(socket.as_raw_fd(), &link).context("cannot bind a packet socket")?;
        let headers = MultiHeaders::preallocate(BATCH, None);
        Ok(Self { socket, headers, ours, servers, waiting: Vec::with_capacity(BATCH) })
    }

    /// Queues an acknowledgement, and flushes a full batch.
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
        // A checksum of zero is sent as all ones (RFC 768).
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

    /// Sends all queued frames. A frame that the interface does not take is lost, as on a network.
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

/// Returns the checksum of RFC 1071 over the bytes and an initial sum.
fn checksum(more: u32, bytes: &[u8]) -> u16 {
    let mut sum = more + sum(bytes);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
