//! A packet socket on an interface of a namespace: sends frames unchanged, and returns frames as they were on the wire.

use std::{
    io::IoSliceMut,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike as _,
        bind, recvmsg, send, setsockopt, socket, sockopt,
    },
};
use pxe_lab::Namespace;

use crate::wire::{Query, Reply};

/// The time limit for an answer on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// Room for the unread replies during a flood.
const RECEIVE_BUFFER_BYTES: usize = 64 << 20;

/// The socket option that adds `tpacket_auxdata` to each frame.
#[derive(Clone, Copy, Debug)]
struct PacketAuxdata;

nix::setsockopt_impl!(PacketAuxdata, libc::SOL_PACKET, libc::PACKET_AUXDATA, bool, sockopt::SetBool);

/// The socket. It does not receive what it sends.
#[derive(Debug)]
pub(crate) struct Plug(OwnedFd);

impl Plug {
    /// Opens the socket. Every frame that arrives after the return is seen.
    ///
    /// # Errors
    ///
    /// Fails if there is no such interface, or the kernel refuses.
    pub(crate) fn open(namespace: &Namespace, interface: &str) -> anyhow::Result<Self> {
        namespace.enter(|| {
            let is_it = |address: &LinkAddr, name: &str| name == interface && address.family().is_some();
            let address = getifaddrs()?
                .filter_map(|entry| Some((*entry.address?.as_link_addr()?, entry.interface_name)))
                .find(|(address, name)| is_it(address, name))
                .with_context(|| format!("no interface {interface}"))?;
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
            setsockopt(&socket, PacketAuxdata, &true)?;
            setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES)?;
            bind(socket.as_raw_fd(), &address.0)?;
            Ok(Self(socket))
        })?
    }

    /// Sends a frame.
    ///
    /// # Errors
    ///
    /// Fails if the interface is down or the frame exceeds its MTU.
    pub(crate) fn send(&self, frame: &[u8]) -> anyhow::Result<()> {
        loop {
            match send(self.0.as_raw_fd(), frame, MsgFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::EAGAIN | Errno::ENOBUFS) => {
                    poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)], PollTimeout::from(100_u8))?;
                }
                Err(error) => return Err(error).context("cannot send a frame"),
            }
        }
    }

    /// Sends a question and waits for its answer.
    ///
    /// # Errors
    ///
    /// Fails if there is no answer or its checksums are wrong.
    pub(crate) fn ask(&self, query: &Query) -> anyhow::Result<Reply> {
        self.send(&query.frame())?;
        self.await_reply(query.xid, SOON)?
            .with_context(|| format!("no answer within {} s to {query:?}", SOON.as_secs()))
    }

    /// Waits for the reply of a transaction. Returns `None` if the time is up.
    ///
    /// # Errors
    ///
    /// Fails if a reply's checksums are wrong.
    pub(crate) fn await_reply(&self, xid: u32, within: Duration) -> anyhow::Result<Option<Reply>> {
        let deadline = Instant::now() + within;
        while let Some(frame) = self.receive(deadline)? {
            if let Some(reply) = Reply::read(&frame)?.filter(|reply| reply.xid() == xid) {
                return Ok(Some(reply));
            }
        }
        Ok(None)
    }

    /// Sends frames, then a good question, and returns the replies that came before its
    /// answer: those to the frames, since the frames of one queue are answered in order.
    ///
    /// # Errors
    ///
    /// Fails if the question is not answered.
    pub(crate) fn replies_to(&self, frames: &[Vec<u8>], probe: &Query) -> anyhow::Result<Vec<Reply>> {
        for frame in frames {
            self.send(frame)?;
        }
        self.send(&probe.frame())?;
        let deadline = Instant::now() + SOON;
        let mut replies = Vec::new();
        while let Some(frame) = self.receive(deadline)? {
            match Reply::read(&frame)? {
                Some(reply) if reply.xid() == probe.xid => return Ok(replies),
                Some(reply) => replies.push(reply),
                None => {}
            }
        }
        bail!("a good question was not answered afterwards, within {} s; before it came {replies:?}", SOON.as_secs())
    }

    /// Returns every reply that has arrived.
    ///
    /// # Errors
    ///
    /// Fails like [`Self::await_reply`].
    pub(crate) fn drain(&self) -> anyhow::Result<Vec<Reply>> {
        let mut replies = Vec::new();
        while let Some(frame) = self.receive(Instant::now())? {
            replies.extend(Reply::read(&frame)?);
        }
        Ok(replies)
    }

    /// Returns the next frame, including the VLAN tag that the kernel removed from it, or `None` if the time is up.
    pub(crate) fn receive(&self, deadline: Instant) -> anyhow::Result<Option<Vec<u8>>> {
        loop {
            match self.read() {
                Ok(frame) => return Ok(Some(frame)),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => return Err(error).context("cannot receive a frame"),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error).context("cannot wait for a frame"),
            }
        }
    }

    fn read(&self) -> nix::Result<Vec<u8>> {
        let mut frame = vec![0; 10_000];
        let mut control = vec![0; 128];
        let mut buffers = [IoSliceMut::new(&mut frame)];
        let message = recvmsg::<LinkAddr>(self.0.as_raw_fd(), &mut buffers, Some(&mut control), MsgFlags::empty())?;
        let tag = message.cmsgs()?.find_map(|message| stripped_tag(&message));
        let length = message.bytes;
        frame.truncate(length);
        if let Some(tag) = tag {
            frame.splice(12..12, tag);
        }
        Ok(frame)
    }
}

/// Returns the outermost VLAN tag, which the kernel delivers beside the frame: `struct tpacket_auxdata` of packet(7).
fn stripped_tag(message: &ControlMessageOwned) -> Option<[u8; 4]> {
    let ControlMessageOwned::Unknown(message) = message else { return None };
    let status = u32::from_ne_bytes(message.data_bytes.get(..4)?.try_into().ok()?);
    let half = |at: usize| Some(u16::from_ne_bytes(message.data_bytes.get(at..at + 2)?.try_into().ok()?));
    let wanted = libc::TP_STATUS_VLAN_VALID | libc::TP_STATUS_VLAN_TPID_VALID;
    if status & wanted != wanted {
        return None;
    }
    let ([a, b], [c, d]) = (half(18)?.to_be_bytes(), half(16)?.to_be_bytes());
    Some([a, b, c, d])
}
