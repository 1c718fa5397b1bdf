//! A live capture of the DHCP packets on an interface.

use std::{
    net::Ipv4Addr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, socket},
};

use crate::namespace::Namespace;

/// The message types of option 53 (RFC 2132 §9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Kind {
    Discover,
    Offer,
    Request,
    Decline,
    Ack,
    Nak,
    Release,
    Inform,
}

/// One DHCP packet with the addresses of its frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The frame went to the Ethernet broadcast address.
    pub ethernet_broadcast: bool,
    /// IPv4 source.
    pub from: Ipv4Addr,
    /// IPv4 destination.
    pub to: Ipv4Addr,
    /// UDP destination port.
    pub to_port: u16,
    /// The message type.
    pub kind: Kind,
    /// The transaction's number.
    pub xid: u32,
    /// The client's own address, if it has one.
    pub ciaddr: Ipv4Addr,
    /// The offered or assigned address.
    pub yiaddr: Ipv4Addr,
    /// The relay agent's address.
    pub giaddr: Ipv4Addr,
    /// The client's MAC, as text.
    pub chaddr: String,
    /// The options in the packet's order.
    pub options: Vec<(u8, Vec<u8>)>,
}

impl Message {
    /// Returns an option's value.
    #[must_use]
    pub fn option(&self, code: u8) -> Option<&[u8]> {
        self.options.iter().find(|(found, _)| *found == code).map(|(_, value)| value.as_slice())
    }
}

/// A capture on every interface of a namespace. It ends when it is dropped.
#[derive(Debug)]
pub struct Capture {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    messages: Mutex<Vec<Message>>,
    changed: Condvar,
    stop: AtomicBool,
}

impl Capture {
    /// Starts the capture. Every packet sent after the return is seen.
    ///
    /// # Errors
    ///
    /// Fails if the socket cannot be opened.
    pub fn start(namespace: &Namespace) -> anyhow::Result<Self> {
        let open = || socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_NONBLOCK, SockProtocol::EthAll);
        let socket = namespace.enter(open)?.context("cannot open a packet socket")?;
        let shared = Arc::new(Shared::default());
        let capture = Self { shared: Arc::clone(&shared) };
        thread::spawn(move || read(&socket, &shared));
        Ok(capture)
    }

    /// Returns all messages so far.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        self.shared.messages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the number of messages so far, where [`Self::wait_for`] may begin.
    #[must_use]
    pub fn position(&self) -> usize {
        self.shared.messages.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits for the first message from `position` on for which `wanted` holds. Returns it and the
    /// position after it.
    ///
    /// # Errors
    ///
    /// Fails if the time is up; the error lists the messages seen instead.
    pub fn wait_for(
        &self,
        what: &str,
        position: usize,
        within: Duration,
        wanted: impl Fn(&Message) -> bool,
    ) -> anyhow::Result<(Message, usize)> {
        let deadline = Instant::now() + within;
        let mut messages = self.shared.messages.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some((index, message)) = messages.iter().enumerate().skip(position).find(|(_, found)| wanted(found))
            {
                return Ok((message.clone(), index + 1));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let seen: String = messages.iter().skip(position).map(|message| format!("  {message:?}\n")).collect();
                bail!("no {what} within {} s; seen:\n{seen}", within.as_secs());
            }
            messages = self.shared.changed.wait_timeout(messages, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

fn read(socket: &OwnedFd, shared: &Shared) {
    let mut frame = [0; 2048];
    while !shared.stop.load(Ordering::Relaxed) {
        let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        // The timeout lets the loop notice the end of the capture.
        if !matches!(poll(&mut ready, PollTimeout::from(200_u8)), Ok(_) | Err(Errno::EINTR)) {
            return;
        }
        while let Ok(length) = recv(socket.as_raw_fd(), &mut frame, MsgFlags::empty()) {
            if let Some(message) = parse(&frame[..length.min(frame.len())]) {
                shared.messages.lock().unwrap_or_else(PoisonError::into_inner).push(message);
                shared.changed.notify_all();
            }
        }
    }
}

/// Parses the DHCP message in an untagged Ethernet frame (RFC 2131 §2).
fn parse(frame: &[u8]) -> Option<Message> {
    let ip = frame.get(14..).filter(|_| frame[12..14] == [8, 0])?;
    let header = usize::from(ip.first()? & 15) * 4;
    let udp = ip.get(header..).filter(|_| ip.get(9) == Some(&17))?;
    let port = |at: usize| Some(u16::from_be_bytes(udp.get(at..at + 2)?.try_into().ok()?));
    let to_port = port(2)?;
    if ![67, 68, 4011].contains(&to_port) && ![67, 4011].contains(&port(0)?) {
        return None;
    }
    let dhcp = udp.get(8..)?;
    let options = options(dhcp.get(240..)?);
    let address = |bytes: &[u8], at: usize| <[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok().map(Ipv4Addr::from);
    let kind = match options.iter().find(|(code, _)| *code == 53)?.1.as_slice() {
        [1] => Kind::Discover,
        [2] => Kind::Offer,
        [3] => Kind::Request,
        [4] => Kind::Decline,
        [5] => Kind::Ack,
        [6] => Kind::Nak,
        [7] => Kind::Release,
        [8] => Kind::Inform,
        _ => return None,
    };
    Some(Message {
        ethernet_broadcast: frame[..6] == [0xff; 6],
        from: address(ip, 12)?,
        to: address(ip, 16)?,
        to_port,
        kind,
        xid: u32::from_be_bytes(dhcp[4..8].try_into().ok()?),
        ciaddr: address(dhcp, 12)?,
        yiaddr: address(dhcp, 16)?,
        giaddr: address(dhcp, 24)?,
        chaddr: dhcp[28..34].iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"),
        options,
    })
}

fn options(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut options = Vec::new();
    loop {
        match bytes {
            [0, rest @ ..] => bytes = rest,
            [code, length, rest @ ..] if *code != 255 && rest.len() >= usize::from(*length) => {
                let (value, rest) = rest.split_at(usize::from(*length));
                options.push((*code, value.to_vec()));
                bytes = rest;
            }
            _ => return options,
        }
    }
}
