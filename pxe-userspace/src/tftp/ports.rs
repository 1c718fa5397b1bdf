//! The ports of one worker's transfers: transfer identifiers (RFC 1350 §4) that nobody can guess who does not receive what is sent from them.
//!
//! Whoever forges a machine's address does not see our answers. If all transfers shared a port, such a host could acknowledge blocks that it
//! never got, and have a whole file sent to the machine for a few small datagrams. So each transfer gets a port of its own, which the kernel
//! chooses at random.
//!
//! The socket of such a port is connected to the client: the kernel keeps the route, looks it up for no datagram in either direction, and
//! drops what others send.
//!
//! A socket for each of ten thousand transfers costs more than it protects: descriptors run out. So beyond half of a worker's sockets, the
//! others are shared, and a transfer gets one of these at random. Even somebody who has learned all shared ports, by
//! transfers of his own, has to try half of them for each window that he draws. A window is so large at most ([`super::options`]) that what is
//! sent for it is no more than what trying the ports has cost. A shared socket takes [`USES_LIMIT`] transfers and is then closed, so that what
//! was learned goes out of date.

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
pub(super) const SHARED_LIMIT: usize = 2_048;
/// The most sockets of one worker: as many again belong to one transfer each.
pub(super) const SOCKETS_LIMIT: usize = 2 * SHARED_LIMIT;
/// The fewest, however few descriptors there may be.
pub(super) const LEAST_SOCKETS: usize = 16;
/// The transfers that one shared socket takes before it is closed. Opening one costs about as much as sending three windows.
const USES_LIMIT: u32 = 16;
/// The attempts to find a port at random: one that nobody has in a range that a person has set, or one that is free for a client.
const ATTEMPTS: u32 = 32;
/// The sockets that one look at what has come returns.
pub(super) const READY_LIMIT: usize = 64;
/// The errors that are taken from one socket at a time.
const ERRORS_LIMIT: usize = 64;
/// A socket's buffers. Of each of its transfers, one acknowledgement and one window are under way, so that this is several times enough;
/// and what somebody sends to all ports finds little room.
const BUFFERS: Buffers = Buffers { receive: 64 << 10, send: 2 << 20 };
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
    /// The shared sockets that take further transfers.
    open: Vec<PortId>,
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
    /// The transfers that use it.
    users: u32,
    /// Those that have used it.
    uses: u32,
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
        let (slots, vacant, open) = (Vec::new(), Vec::new(), Vec::new());
        // A range that transfers of their own had used up would leave nothing to share.
        let own_limit = range.map_or(limit, |range| limit.min(range.ports().len())) / 2;
        let shared_limit = (limit - own_limit).max(1);
        let mut ports = Self { address, range, shared_limit, own_limit, own: 0, epoll, slots, vacant, open, users: 0 };
        let refusals = ports.open_socket(PortId::REFUSALS)?;
        ports.slots.push(Some(refusals));
        Ok(ports)
    }

    /// Takes a port for a new transfer of a client. `is_free` says that the client has no other transfer at a port: both would be one.
    ///
    /// # Errors
    ///
    /// No socket can be opened, and there is none to share.
    pub(super) fn take(&mut self, client: SocketAddrV4, is_free: impl Fn(PortId) -> bool) -> io::Result<PortId> {
        // A client to which no socket can be connected may be gone when it is sent to.
        let own = if self.own < self.own_limit { self.open_own(client) } else { Err(Errno::EMFILE.into()) };
        let port = own.or_else(|_| self.share(is_free))?;
        let slot = self.slot_mut(port).ok_or(Errno::EBADF)?;
        slot.users += 1;
        slot.uses += 1;
        if slot.uses == USES_LIMIT {
            self.open.retain(|&open| open != port);
        }
        self.users += 1;
        Ok(port)
    }

    /// Returns a shared port: a new one, or one at random that is free for the client.
    fn share(&mut self, is_free: impl Fn(PortId) -> bool) -> io::Result<PortId> {
        let another = if self.shared() < self.shared_limit { self.open_shared() } else { Err(Errno::EMFILE.into()) };
        another.or_else(|error| self.any(is_free).ok_or(error))
    }

    /// Returns a port whose transfer is over. If nobody uses any port, all are closed.
    pub(super) fn give_back(&mut self, port: PortId) {
        let Some(slot) = self.slot_mut(port) else { return };
        slot.users = slot.users.saturating_sub(1);
        let is_worn = slot.users == 0 && (slot.client.is_some() || slot.uses >= USES_LIMIT);
        self.users = self.users.saturating_sub(1);
        if self.users == 0 {
            self.slots.truncate(1);
            self.vacant.clear();
            self.open.clear();
            self.own = 0;
        } else if is_worn {
            self.close(port);
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
    fn sockets(&self) -> usize {
        self.slots.len() - 1 - self.vacant.len()
    }

    fn shared(&self) -> usize {
        self.sockets() - self.own
    }

    fn slot(&self, port: PortId) -> Option<&Slot> {
        self.slots.get(port.0 as usize)?.as_ref()
    }

    fn slot_mut(&mut self, port: PortId) -> Option<&mut Slot> {
        self.slots.get_mut(port.0 as usize)?.as_mut()
    }

    /// Returns a shared socket that is free for a client, at random: one that takes further transfers, if there is one.
    fn any(&self, is_free: impl Fn(PortId) -> bool) -> Option<PortId> {
        let random = |ports: &[PortId]| (!ports.is_empty()).then(|| ports[rand::random_range(0..ports.len())]);
        // Nearly always the first.
        let open = (0..ATTEMPTS).find_map(|_| random(&self.open).filter(|&port| is_free(port)));
        open.or_else(|| {
            let is_shared = |&port: &PortId| self.slot(port).is_some_and(|slot| slot.client.is_none());
            let sockets = (1..self.slots.len() as u32).map(PortId).filter(is_shared);
            random(&sockets.filter(|&port| is_free(port)).collect::<Vec<_>>())
        })
    }

    fn open_own(&mut self, client: SocketAddrV4) -> io::Result<PortId> {
        let port = self.next();
        let mut slot = self.open_socket(port)?;
        // Connecting a UDP socket sends nothing.
        connect(slot.socket.as_raw_fd(), &SockaddrIn::from(client))?;
        slot.client = Some(client);
        self.put(port, slot);
        self.own += 1;
        Ok(port)
    }

    fn open_shared(&mut self) -> io::Result<PortId> {
        let port = self.next();
        let slot = self.open_socket(port)?;
        self.put(port, slot);
        self.open.push(port);
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

    fn open_socket(&self, port: PortId) -> io::Result<Slot> {
        let socket = self.bind()?;
        let SocketAddr::V4(local) = socket.local_addr()? else { return Err(Errno::EAFNOSUPPORT.into()) };
        setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
        self.epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, port.0.into()))?;
        Ok(Slot { socket, local, client: None, users: 0, uses: 0 })
    }

    fn bind(&self) -> io::Result<UdpSocket> {
        let Some(range) = self.range else { return bind(self.address, 0, BUFFERS) };
        for _ in 0..ATTEMPTS {
            match bind(self.address, rand::random_range(range.ports()), BUFFERS) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                bound => return bound,
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    fn close(&mut self, port: PortId) {
        let Some(slot) = self.slots.get_mut(port.0 as usize).and_then(Option::take) else { return };
        self.vacant.push(port);
        if slot.client.is_some() {
            self.own -= 1;
        } else {
            self.open.retain(|&open| open != port);
        }
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
