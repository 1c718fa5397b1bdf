//! The ports of one worker's transfers: transfer identifiers (RFC 1350 §4) that nobody can guess who does not receive what is sent from them.
//!
//! Whoever forges a machine's address does not see our answers. If all transfers shared a port, such a host could acknowledge blocks that it
//! never got, and have a whole file sent to the machine for a few small datagrams. So each transfer gets a port of its own, which the kernel
//! chooses at random.
//!
//! The socket of such a port is connected to the client: the kernel keeps the route, looks it up for no datagram in either direction, and
//! drops what others send.
//!
//! Thousands of sockets cost a storm a tenth of its processor time: what comes to one socket is received
//! together. So if there are more than a few transfers, those with small windows share [`SHARED_LIMIT`] sockets, and a transfer gets one of
//! these at random. Even somebody who has learned all of them, by transfers of his own, has to try half of them for each window that he draws, and
//! [`SHARED_IN_FLIGHT`] says what a small window is: no more bytes than trying the ports has cost. A transfer that wants a larger window has a
//! socket of its own while there are any, and a small window after that.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
};

use nix::{
    cmsg_space,
    errno::Errno,
    libc::{SO_EE_ORIGIN_ICMP, sock_extended_err, sockaddr_in},
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        socket::{ControlMessageOwned, MsgFlags, SockaddrIn, connect, recvmsg, setsockopt, sockopt},
    },
};

use super::{
    bind::{Buffers, bind},
    key::PortId,
};
use crate::model::port_range::PortRange;

/// The most shared sockets of one worker.
pub(super) const SHARED_LIMIT: usize = 128;
/// The bytes that a transfer at a shared socket has in flight at most: four blocks of Ethernet's usual frames, as EDK2 wants them. Whoever has
/// them sent to somebody else has to guess the port, and each guess costs him a frame of 46 bytes or more.
pub(super) const SHARED_IN_FLIGHT: usize = SHARED_LIMIT * 46;
/// The transfers of one worker that have sockets of their own whatever their windows: few enough that there would be little to receive together.
const FEW: usize = 64;
/// The most sockets of one worker: half of them at most belong to one transfer each.
pub(super) const SOCKETS_LIMIT: usize = 4_096;
/// The fewest, however few descriptors there may be.
pub(super) const LEAST_SOCKETS: usize = 16;
/// The attempts to find a port at random: one that nobody has in a range that a person has set, or one that is free for a client.
const ATTEMPTS: u32 = 32;
/// The sockets that one look at what has come returns.
pub(super) const READY_LIMIT: usize = 64;
/// The errors that are taken from one socket at a time.
const ERRORS_LIMIT: usize = 64;
/// The buffers of a socket that transfers share. Of each, one acknowledgement and one window are under way.
const SHARED: Buffers = Buffers { receive: 256 << 10, send: 2 << 20 };
/// The buffers of a socket of one transfer. What somebody sends to all ports in the names of their clients finds little room.
const OWN: Buffers = Buffers { receive: 16 << 10, send: 2 << 20 };
/// ICMP: destination unreachable, port unreachable.
const PORT_UNREACHABLE: (u8, u8) = (3, 3);

/// The sockets of a worker.
#[derive(Debug)]
pub(super) struct Ports {
    address: Ipv4Addr,
    range: Option<PortRange>,
    /// The most sockets that are shared.
    shared_limit: usize,
    /// The most sockets that belong to one transfer each.
    own_limit: usize,
    /// The sockets that do.
    own: usize,
    epoll: Epoll,
    /// By [`PortId`]; the first sends refusals.
    slots: Vec<Option<Slot>>,
    vacant: Vec<PortId>,
    /// The shared sockets.
    shared: Vec<PortId>,
    /// The transfers that use a socket.
    users: usize,
}

/// A socket.
#[derive(Debug)]
struct Slot {
    socket: UdpSocket,
    local: SocketAddrV4,
    /// The client that it is connected to, if it belongs to one transfer.
    client: Option<SocketAddrV4>,
}

/// The sockets that have something to be received.
pub(super) struct Ready {
    events: [EpollEvent; READY_LIMIT],
    count: usize,
}

impl Default for Ready {
    fn default() -> Self {
        Self { events: [EpollEvent::empty(); READY_LIMIT], count: 0 }
    }
}

impl Ready {
    /// Returns the ports, each with the information that the host of a client has sent an error.
    pub(super) fn ports(&self) -> impl Iterator<Item = (PortId, bool)> + use<> {
        let Self { events, count } = *self;
        let port = |event: EpollEvent| (PortId(event.data() as u32), event.events().contains(EpollFlags::EPOLLERR));
        events.into_iter().take(count).map(port)
    }
}

impl Ports {
    /// Makes the ports of a worker, all of them at `address` and within `range`, if there is one. At most `limit` sockets are open at once,
    /// and one more.
    ///
    /// # Errors
    ///
    /// No socket can be bound.
    pub(super) fn new(address: Ipv4Addr, range: Option<PortRange>, limit: usize) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let (slots, vacant, shared) = (Vec::new(), Vec::new(), Vec::new());
        // A range that transfers of their own had used up would leave nothing to share.
        let own_limit = range.map_or(limit, |range| limit.min(range.ports().len())) / 2;
        let shared_limit = (limit - own_limit).clamp(1, SHARED_LIMIT);
        let mut ports =
            Self { address, range, shared_limit, own_limit, own: 0, epoll, slots, vacant, shared, users: 0 };
        let refusals = ports.open_socket(PortId::REFUSALS, SHARED)?;
        ports.slots.push(Some(refusals));
        Ok(ports)
    }

    /// Takes a port for a new transfer of a client, which may want this many bytes in flight. `is_free` says that the client has no other
    /// transfer at a port: both would be one.
    ///
    /// # Errors
    ///
    /// No socket can be opened, and there is none to share.
    pub(super) fn take(
        &mut self,
        client: SocketAddrV4,
        in_flight: usize,
        is_free: impl Fn(PortId) -> bool,
    ) -> io::Result<PortId> {
        let own_limit = if in_flight > SHARED_IN_FLIGHT { self.own_limit } else { self.own_limit.min(FEW) };
        // A client to which no socket can be connected may be gone when it is sent to.
        let own = if self.own < own_limit { self.open_own(client) } else { Err(Errno::EMFILE.into()) };
        let port = own.or_else(|_| self.share(is_free))?;
        self.users += 1;
        Ok(port)
    }

    /// Returns a shared port: a new one, or one at random that is free for the client.
    fn share(&mut self, is_free: impl Fn(PortId) -> bool) -> io::Result<PortId> {
        let is_full = self.shared.len() >= self.shared_limit;
        let another = if is_full { Err(Errno::EMFILE.into()) } else { self.open_shared() };
        another.or_else(|error| self.any(is_free).ok_or(error))
    }

    /// Returns a port whose transfer is over. If nobody uses any port, all are closed.
    pub(super) fn give_back(&mut self, port: PortId) {
        if self.slot(port).is_none() {
            return;
        }
        self.users = self.users.saturating_sub(1);
        if self.users == 0 {
            self.slots.truncate(1);
            self.vacant.clear();
            self.shared.clear();
            self.own = 0;
        } else if self.client(port).is_some() {
            self.slots[port.0 as usize] = None;
            self.vacant.push(port);
            self.own -= 1;
        }
    }

    /// Returns the socket of a port, if it is open.
    pub(super) fn socket(&self, port: PortId) -> Option<&UdpSocket> {
        self.slot(port).map(|slot| &slot.socket)
    }

    /// Returns the client that the socket of a port is connected to, if it belongs to one transfer.
    pub(super) fn client(&self, port: PortId) -> Option<SocketAddrV4> {
        self.slot(port)?.client
    }

    /// Returns the address and number of a port, if it is open.
    pub(super) fn local(&self, port: PortId) -> Option<SocketAddrV4> {
        self.slot(port).map(|slot| slot.local)
    }

    /// Looks for sockets that have something to be received. Returns `false` if there are none.
    pub(super) fn look(&self, ready: &mut Ready) -> bool {
        // An error means that a signal came.
        ready.count = self.epoll.wait(&mut ready.events, EpollTimeout::ZERO).unwrap_or(0);
        ready.count > 0
    }

    /// Returns the clients whose hosts have said that nothing listens at the client's port any more. The kernel has compared what they
    /// returned of our datagrams with its sockets, so whoever forges such a message has to guess our port.
    pub(super) fn unreachable_clients(&self, port: PortId) -> Vec<SocketAddrV4> {
        let Some(socket) = self.socket(port) else { return Vec::new() };
        let mut clients = Vec::new();
        for _ in 0..ERRORS_LIMIT {
            let mut space = cmsg_space!(sock_extended_err, sockaddr_in);
            let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
            let Ok(message) = recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut [], Some(&mut space), flags) else {
                break;
            };
            let is_refusal = |message| match message {
                ControlMessageOwned::Ipv4RecvErr(error, _) => {
                    error.ee_origin == SO_EE_ORIGIN_ICMP && (error.ee_type, error.ee_code) == PORT_UNREACHABLE
                }
                _ => false,
            };
            if message.cmsgs().is_ok_and(|mut messages| messages.any(is_refusal)) {
                clients.extend(message.address.map(SocketAddrV4::from));
            }
        }
        clients
    }

    /// Returns the number of sockets for transfers.
    #[cfg(test)]
    fn sockets(&self) -> usize {
        self.slots.len() - 1 - self.vacant.len()
    }

    fn slot(&self, port: PortId) -> Option<&Slot> {
        self.slots.get(port.0 as usize)?.as_ref()
    }

    /// Returns a shared socket that is free for a client, at random.
    fn any(&self, is_free: impl Fn(PortId) -> bool) -> Option<PortId> {
        let random = |ports: &[PortId]| (!ports.is_empty()).then(|| ports[rand::random_range(0..ports.len())]);
        // Nearly always the first.
        (0..ATTEMPTS)
            .find_map(|_| random(&self.shared).filter(|&port| is_free(port)))
            .or_else(|| random(&self.shared.iter().copied().filter(|&port| is_free(port)).collect::<Vec<_>>()))
    }

    fn open_own(&mut self, client: SocketAddrV4) -> io::Result<PortId> {
        let port = self.next();
        let mut slot = self.open_socket(port, OWN)?;
        // Connecting a UDP socket sends nothing.
        connect(slot.socket.as_raw_fd(), &SockaddrIn::from(client))?;
        slot.client = Some(client);
        self.put(port, slot);
        self.own += 1;
        Ok(port)
    }

    fn open_shared(&mut self) -> io::Result<PortId> {
        let port = self.next();
        let slot = self.open_socket(port, SHARED)?;
        self.put(port, slot);
        self.shared.push(port);
        Ok(port)
    }

    /// Returns the place of the next socket.
    fn next(&self) -> PortId {
        self.vacant.last().copied().unwrap_or(PortId(self.slots.len() as u32))
    }

    fn put(&mut self, port: PortId, slot: Slot) {
        if self.vacant.pop().is_some() {
            self.slots[port.0 as usize] = Some(slot);
        } else {
            self.slots.push(Some(slot));
        }
    }

    fn open_socket(&self, port: PortId, buffers: Buffers) -> io::Result<Slot> {
        let socket = self.bind(buffers)?;
        let SocketAddr::V4(local) = socket.local_addr()? else { return Err(Errno::EAFNOSUPPORT.into()) };
        setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
        self.epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, port.0.into()))?;
        Ok(Slot { socket, local, client: None })
    }

    fn bind(&self, buffers: Buffers) -> io::Result<UdpSocket> {
        let Some(range) = self.range else { return bind(self.address, 0, buffers) };
        for _ in 0..ATTEMPTS {
            match bind(self.address, rand::random_range(range.ports()), buffers) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                bound => return bound,
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }
}

impl AsFd for Ports {
    /// Returns what becomes readable when something has come to any of the sockets.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

#[cfg(test)]
mod tests;
