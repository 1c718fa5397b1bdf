//! A cable that loses, repeats and reorders frames, of every protocol.
//!
//! The kernel's netem would do the same, where it is built with it. Here a thread carries the frames between two packet sockets, and what
//! it does with each follows from a seed.

use std::{
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike as _, bind, recv, send,
        setsockopt, socket, sockopt,
    },
};

use crate::{Bridged, Namespace, chance::Chance, requires, topology::veth};

/// The time for which a frame is held back if none overtakes it, in milliseconds.
const HELD_MILLIS: u8 = 5;
/// The time between two looks at the end, in milliseconds.
const LOOK_MILLIS: u8 = 100;
/// The frames that are carried before the other direction has its turn.
const BATCH: usize = 64;
/// Room for the frames of a storm that wait.
const BUFFER_BYTES: usize = 32 << 20;

/// The percentages of the frames to which something happens, in each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Frames that are lost.
    pub drop: u64,
    /// Frames that arrive twice.
    pub duplicate: u64,
    /// Frames that the next one overtakes.
    pub reorder: u64,
}

/// The frames of one cable so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Frames that were sent into the cable.
    pub frames: u64,
    /// Of these, frames that were lost.
    pub dropped: u64,
    /// Frames that arrived twice.
    pub duplicated: u64,
    /// Frames that were overtaken.
    pub reordered: u64,
}

/// The cable. It ends when it is dropped.
#[derive(Debug)]
pub struct BadLink {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    losses: Mutex<Losses>,
    carried: Mutex<Carried>,
    is_over: AtomicBool,
}

impl BadLink {
    /// Gives a namespace an interface of this name on the switch, by a cable that loses nothing yet.
    ///
    /// # Errors
    ///
    /// Fails with [`requires::Skip`] without ethtool, or with the output of `ip`.
    pub fn plug_in(bridged: &Bridged, namespace: &Namespace, interface: &str, seed: u64) -> anyhow::Result<Self> {
        requires::tools(&["ethtool"])?;
        let net = &bridged.net;
        let [far, near, port] = ["bad-far", "bad-near", "bad-port"];
        veth(namespace, interface, net, far)?;
        veth(net, near, net, port)?;
        net.ip(&["link", "set", port, "master", "br0"])?;
        // Frames have to be whole and of the link's size, since the thread sends them as they come.
        for (end, name) in [(namespace, interface), (net, port)] {
            let off = ["tx", "off", "tso", "off", "gso", "off", "tx-udp-segmentation", "off"];
            end.run("ethtool", &[&["-K", name][..], &off].concat())?;
        }
        let ends = net.enter(|| anyhow::Ok([open(far)?, open(near)?]))??;
        let shared = Arc::<Shared>::default();
        let carrier = Arc::clone(&shared);
        let thread = thread::Builder::new().name("bad-link".to_owned()).spawn(move || carry(&carrier, &ends, seed))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Sets what the cable does with frames from now on.
    pub fn set(&self, losses: Losses) {
        *self.shared.losses.lock().unwrap_or_else(PoisonError::into_inner) = losses;
    }

    /// Returns what it has done.
    #[must_use]
    pub fn carried(&self) -> Carried {
        *self.shared.carried.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for BadLink {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("lab: the bad link panicked");
        }
    }
}

/// Opens a packet socket on an interface of the caller's namespace.
fn open(interface: &str) -> anyhow::Result<OwnedFd> {
    let address = getifaddrs()?
        .filter(|entry| entry.interface_name == interface)
        .find_map(|entry| entry.address?.as_link_addr().copied())
        .filter(|address: &LinkAddr| address.family().is_some())
        .with_context(|| format!("no interface {interface}"))?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
    setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES)?;
    setsockopt(&socket, sockopt::SndBufForce, &BUFFER_BYTES)?;
    bind(socket.as_raw_fd(), &address)?;
    Ok(socket)
}

fn carry(shared: &Shared, ends: &[OwnedFd; 2], seed: u64) {
    let mut ways = [Way::new(seed), Way::new(!seed)];
    let mut buffer = vec![0; 1 << 16];
    while !shared.is_over.load(Ordering::Relaxed) {
        let losses = *shared.losses.lock().unwrap_or_else(PoisonError::into_inner);
        let mut carried = 0;
        for (way, [from, to]) in ways.iter_mut().zip([[&ends[0], &ends[1]], [&ends[1], &ends[0]]]) {
            for _ in 0..BATCH {
                match recv(from.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                    Ok(length) => way.frame(&buffer[..length], losses, |frame| push(to, frame)),
                    // A link that is down or was down (ENETDOWN) comes back.
                    Err(_) => break,
                }
                carried += 1;
            }
        }
        let sum = |of: fn(&Carried) -> u64| ways.iter().map(|way| of(&way.carried)).sum();
        *shared.carried.lock().unwrap_or_else(PoisonError::into_inner) = Carried {
            frames: sum(|way| way.frames),
            dropped: sum(|way| way.dropped),
            duplicated: sum(|way| way.duplicated),
            reordered: sum(|way| way.reordered),
        };
        if carried > 0 {
            continue;
        }
        let is_held = ways.iter().any(|way| way.held.is_some());
        let timeout = PollTimeout::from(if is_held { HELD_MILLIS } else { LOOK_MILLIS });
        let mut waiting = [0, 1].map(|end: usize| PollFd::new(ends[end].as_fd(), PollFlags::POLLIN));
        if matches!(poll(&mut waiting, timeout), Ok(0)) {
            for (way, to) in ways.iter_mut().zip([&ends[1], &ends[0]]) {
                if let Some(frame) = way.held.take() {
                    push(to, &frame);
                }
            }
        }
    }
}

/// Sends a frame, or loses it like a cable whose other end is down.
fn push(to: &OwnedFd, frame: &[u8]) {
    while let Err(Errno::EAGAIN | Errno::ENOBUFS) = send(to.as_raw_fd(), frame, MsgFlags::empty()) {
        let _ = poll(&mut [PollFd::new(to.as_fd(), PollFlags::POLLOUT)], PollTimeout::from(LOOK_MILLIS));
    }
}

/// One direction.
struct Way {
    chance: Chance,
    held: Option<Vec<u8>>,
    carried: Carried,
}

impl Way {
    fn new(seed: u64) -> Self {
        Self { chance: Chance::new(seed), held: None, carried: Carried::default() }
    }

    fn frame(&mut self, frame: &[u8], losses: Losses, mut push: impl FnMut(&[u8])) {
        self.carried.frames += 1;
        // Drawn whatever comes of it, so that a frame's fate does not depend on those before it.
        let [drop, duplicate, reorder] =
            [losses.drop, losses.duplicate, losses.reorder].map(|percent| self.chance.happens(percent));
        if drop {
            self.carried.dropped += 1;
            return;
        }
        if reorder && self.held.is_none() {
            self.carried.reordered += 1;
            self.held = Some(frame.to_vec());
            return;
        }
        push(frame);
        if duplicate {
            self.carried.duplicated += 1;
            push(frame);
        }
        if let Some(held) = self.held.take() {
            push(&held);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_lost_repeated_and_overtaken_as_often_as_asked() {
        let carry = |losses| {
            let (mut way, mut out) = (Way::new(7), Vec::new());
            for number in 0..10_000_u32 {
                way.frame(&number.to_be_bytes(), losses, |frame| out.push(frame.to_vec()));
            }
            (way.carried, out)
        };
        let (carried, out) = carry(Losses::default());
        assert_eq!((carried, out.len()), (Carried { frames: 10_000, ..Carried::default() }, 10_000));
        assert!(out.is_sorted());
        let (carried, out) = carry(Losses { drop: 30, duplicate: 10, reorder: 10 });
        assert!((2800..3200).contains(&carried.dropped), "{carried:?}");
        assert!((500..900).contains(&carried.duplicated) && (500..900).contains(&carried.reordered), "{carried:?}");
        assert!(out.len() as u64 >= 9_999 - carried.dropped + carried.duplicated && !out.is_sorted());
    }
}
