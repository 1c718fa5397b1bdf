//! Sends hand-made frames at a rate, until it is dropped.

use std::{
    net::SocketAddrV4,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, SockaddrLike as _, bind, send, socket},
};
use pxe_common::MacAddr;

use crate::Namespace;

/// The time between two bursts.
const TURN: Duration = Duration::from_millis(1);

/// Returns an Ethernet frame with a UDP datagram. The checksum of UDP is left out, as IPv4 allows.
#[must_use]
pub fn udp_frame(macs: (MacAddr, MacAddr), from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let (source, destination) = macs;
    let udp_length = (8 + payload.len()) as u16;
    let mut frame = [&destination.0[..], &source.0, &[0x08, 0x00]].concat();
    let mut ip = vec![0x45, 0];
    ip.extend_from_slice(&(20 + udp_length).to_be_bytes());
    ip.extend_from_slice(&[0, 0, 0x40, 0, 64, 17, 0, 0]);
    ip.extend_from_slice(&from.ip().octets());
    ip.extend_from_slice(&to.ip().octets());
    let sum: u32 = ip.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let checksum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    frame.extend_from_slice(&ip);
    for field in [from.port(), to.port(), udp_length, 0] {
        frame.extend_from_slice(&field.to_be_bytes());
    }
    frame.extend_from_slice(payload);
    frame
}

/// A packet socket for sending on an interface.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    /// The interface's own MAC address.
    pub mac: MacAddr,
}

impl Wire {
    /// Opens the socket.
    ///
    /// # Errors
    ///
    /// Fails if there is no such interface, or the kernel refuses.
    pub fn open(namespace: &Namespace, interface: &str) -> anyhow::Result<Self> {
        namespace.enter(|| {
            let mut addresses = getifaddrs()?.filter(|entry| entry.interface_name == interface);
            let address = addresses
                .find_map(|entry| entry.address?.as_link_addr().copied().filter(|link| link.family().is_some()))
                .with_context(|| format!("no interface {interface}"))?;
            let mac = MacAddr(address.addr().context("a MAC address")?);
            let socket =
                socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
            bind(socket.as_raw_fd(), &address)?;
            Ok(Self { socket, mac })
        })?
    }

    /// Sends a frame.
    ///
    /// # Errors
    ///
    /// Fails if the interface is down or the frame exceeds its MTU.
    pub fn send(&self, frame: &[u8]) -> anyhow::Result<()> {
        loop {
            match send(self.socket.as_raw_fd(), frame, MsgFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::EAGAIN | Errno::ENOBUFS) => {
                    poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)], PollTimeout::from(100_u8))?;
                }
                Err(error) => return Err(error).context("cannot send a frame"),
            }
        }
    }
}

/// A flood of frames, which ends when it is dropped.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Flood {
    /// Sends this many frames a second. `frame` makes the frame of each number.
    #[must_use]
    pub fn start(wire: Wire, a_second: u32, mut frame: impl FnMut(u64) -> Vec<u8> + Send + 'static) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = thread::spawn(move || {
            let begun = Instant::now();
            let mut number = 0;
            while !stopped.load(Ordering::Relaxed) {
                let due = u64::from(a_second) * begun.elapsed().as_millis() as u64 / 1000;
                while number < due && !stopped.load(Ordering::Relaxed) {
                    wire.send(&frame(number))?;
                    number += 1;
                    count.store(number, Ordering::Relaxed);
                }
                thread::sleep(TURN);
            }
            Ok(())
        });
        Self { stop, sent, thread: Some(thread) }
    }

    /// Returns the number of frames that were sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends the flood. Returns the number of frames.
    ///
    /// # Errors
    ///
    /// Fails if a frame could not be sent.
    pub fn end(mut self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| anyhow::anyhow!("the flood's thread has panicked"))??;
        }
        Ok(self.sent())
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
