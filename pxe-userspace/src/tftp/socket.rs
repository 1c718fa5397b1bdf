//! Sends and receives datagrams in batches: one system call for many, and a window of one transfer as a single buffer that the
//! kernel or the card cuts into datagrams (UDP generic segmentation offload).

use std::{
    io::{IoSlice, IoSliceMut},
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    ops::Range,
    os::fd::{AsFd as _, AsRawFd as _},
    sync::Arc,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, recvfrom, recvmmsg, sendmmsg, sendmsg},
};
use pxe_common::MacAddr;

use super::{chunk::Chunk, key::PortId, ports::Ports};
use crate::net::raw_udp::{Prefix, RawUdp};

/// Datagrams that one system call sends, or receives from a socket to which many clients send.
pub(super) const BATCH: usize = 64;
/// The most datagrams that the kernel cuts one send into (UDP_MAX_SEGMENTS).
const SEGMENTS_LIMIT: usize = 64;
/// The most bytes that one send carries: an IPv4 packet's 65535 without its headers.
const SEND_LIMIT: usize = 65_507;
/// The bytes that are gathered before they are sent: few enough to stay in a processor's cache between the copy out of the page
/// cache and the copy into the socket.
const OUTBOX_CAPACITY: usize = 256 << 10;

/// The wait for a socket that takes nothing, in milliseconds, before its interface is taken to send no more.
const ROOM_WAIT: u16 = 200;

/// Receives datagrams in batches.
pub(super) struct Inbox {
    buffer: Vec<u8>,
    datagram_limit: usize,
    headers: MultiHeaders<SockaddrIn>,
    received: Vec<(SocketAddrV4, usize)>,
}

impl Inbox {
    /// Makes room for a batch of datagrams. One that is longer than `datagram_limit` bytes is cut.
    pub(super) fn new(datagram_limit: usize, batch: usize) -> Self {
        Self {
            buffer: vec![0; datagram_limit * batch],
            datagram_limit,
            headers: MultiHeaders::preallocate(batch, None),
            received: Vec::with_capacity(batch),
        }
    }

    /// Receives up to a batch of datagrams, which [`datagram`](Self::datagram) then returns.
    ///
    /// # Errors
    ///
    /// `EAGAIN`: there is no datagram.
    pub(super) fn receive(&mut self, socket: &UdpSocket) -> Result<(), Errno> {
        let Self { buffer, datagram_limit, headers, received } = self;
        received.clear();
        let mut slices: Vec<_> = buffer.chunks_mut(*datagram_limit).map(|chunk| [IoSliceMut::new(chunk)]).collect();
        for result in recvmmsg(socket.as_raw_fd(), headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)? {
            let address = result.address.map_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0), Into::into);
            received.push((address, result.bytes));
        }
        Ok(())
    }

    /// Returns the number of datagrams that were received last.
    pub(super) fn len(&self) -> usize {
        self.received.len()
    }

    /// Returns one of the datagrams that were received last, and its source.
    pub(super) fn datagram(&self, index: usize) -> Option<(SocketAddrV4, &[u8])> {
        let &(address, length) = self.received.get(index)?;
        let start = index * self.datagram_limit;
        Some((address, self.buffer.get(start..start + length.min(self.datagram_limit))?))
    }
}

/// Receives one datagram from a socket of one transfer, into `space`. Returns its source and its bytes; one that is longer than the space is
/// cut. A client has one acknowledgement under way, so looking for a second datagram costs more than it brings.
///
/// # Errors
///
/// `EAGAIN`: there is no datagram.
pub(super) fn receive_one<'a>(socket: &UdpSocket, space: &'a mut [u8]) -> Result<(SocketAddrV4, &'a [u8]), Errno> {
    let (length, source) = after_error(|| recvfrom::<SockaddrIn>(socket.as_raw_fd(), space))?;
    Ok((
        source.map_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0), Into::into),
        space.get(..length).unwrap_or_default(),
    ))
}

/// Receives again if there is an error: the kernel reports one that a client's host has sent once before it hands out the datagrams that
/// came earlier.
pub(super) fn after_error<T>(mut receive: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    receive().or_else(|error| if error == Errno::EAGAIN { Err(error) } else { receive() })
}

/// The destination of a send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Destination {
    /// The client.
    pub(super) client: SocketAddrV4,
    /// The port that it is sent from.
    pub(super) from: PortId,
    /// The address and port that it is sent from, and the client's hardware address, if single datagrams may go past the IP stack.
    pub(super) shortcut: Option<(SocketAddrV4, MacAddr)>,
}

/// Queues datagrams and sends them in batches.
pub(super) struct Outbox {
    buffer: Vec<u8>,
    used: usize,
    queue: Vec<Outgoing>,
    /// The sends of the queue that are done.
    sent: usize,
    errors: u64,
    /// The kernel cuts sends into datagrams. Switched off if the card turns out not to support it.
    segmentation: bool,
    /// The way past the IP stack. Dropped if frames cannot be sent.
    direct: Option<RawUdp>,
    /// The kernel cuts frames as well. Older ones do not.
    direct_segmentation: bool,
    /// The send of the queue that is tried again after an error that an earlier datagram may have caused.
    tried_again: Option<usize>,
}

/// A send: one datagram, or several to the same client.
struct Outgoing {
    /// The headers of a datagram that goes past the IP stack.
    prefix: Option<Prefix>,
    to: SocketAddrV4,
    from: PortId,
    /// The chunk that holds its bytes; `None` for the outbox's own buffer.
    chunk: Option<Arc<Chunk>>,
    range: Range<usize>,
    /// The bytes of each datagram but the last, if there are several.
    segment: Option<u16>,
}

impl Outgoing {
    fn bytes<'a>(&'a self, buffer: &'a [u8]) -> &'a [u8] {
        let bytes = self.chunk.as_ref().map_or(buffer, |chunk| &chunk.0);
        bytes.get(self.range.clone()).unwrap_or_default()
    }
}

impl Outbox {
    /// Makes an empty outbox. `direct` is a way past the IP stack to neighbours.
    pub(super) fn new(direct: Option<RawUdp>) -> Self {
        Self {
            direct,
            buffer: vec![0; OUTBOX_CAPACITY],
            used: 0,
            queue: Vec::with_capacity(BATCH),
            sent: 0,
            errors: 0,
            segmentation: true,
            direct_segmentation: true,
            tried_again: None,
        }
    }

    /// Returns how many datagrams of this length go into one send.
    pub(super) fn segments(length: usize) -> usize {
        (SEND_LIMIT / length.max(1)).clamp(1, SEGMENTS_LIMIT)
    }

    /// Returns `true` if a send of this many bytes can be queued now.
    pub(super) fn has_room(&self, length: usize) -> bool {
        self.queue.len() < BATCH && self.buffer.len() - self.used >= length
    }

    /// Returns `true` if something waits to be sent from this port.
    pub(super) fn holds(&self, port: PortId) -> bool {
        self.queue.iter().any(|outgoing| outgoing.from == port)
    }

    /// Returns the space for the next send, to be filled before [`push`](Self::push); empty if there is no room.
    pub(super) fn space(&mut self, length: usize) -> &mut [u8] {
        self.buffer.get_mut(self.used..self.used + length).unwrap_or_default()
    }

    /// Returns the hardware address of a client, if it is a neighbour and there is a way past the IP stack.
    pub(super) fn neighbour(&self, socket: &UdpSocket, client: SocketAddrV4) -> Option<MacAddr> {
        self.direct.as_ref()?.neighbour(socket, client)
    }

    /// Queues the first `length` bytes of the space as datagrams of `segment` bytes. The last may be shorter.
    pub(super) fn push(&mut self, to: Destination, length: usize, segment: usize) {
        let range = self.used..self.used + length;
        self.used = range.end;
        self.queue_up(to, None, range, segment);
    }

    /// Queues a part of a chunk in the same way.
    pub(super) fn push_chunk(&mut self, to: Destination, chunk: Arc<Chunk>, range: Range<usize>, segment: usize) {
        self.queue_up(to, Some(chunk), range, segment);
    }

    fn queue_up(&mut self, to: Destination, chunk: Option<Arc<Chunk>>, range: Range<usize>, segment: usize) {
        let Destination { client: to, from, shortcut } = to;
        let direct = self.direct.as_ref().zip(shortcut);
        let prefix = |length, segment: Option<u16>| {
            let (direct, (from, mac)) = direct.filter(|_| segment.is_none() || self.direct_segmentation)?;
            direct.prefix((from, to), mac, length, segment)
        };
        if range.len() <= segment {
            self.queue.push(Outgoing { prefix: prefix(range.len(), None), to, from, chunk, range, segment: None });
        } else if let (true, Ok(segment)) = (self.segmentation, u16::try_from(segment)) {
            let (prefix, segment) = (prefix(range.len(), Some(segment)), Some(segment));
            self.queue.push(Outgoing { prefix, to, from, chunk, range, segment });
        } else {
            let end = range.end;
            let one = |start: usize| {
                let range = start..end.min(start + segment);
                Outgoing { prefix: None, to, from, chunk: chunk.clone(), range, segment: None }
            };
            self.queue.extend(range.step_by(segment.max(1)).map(one));
        }
    }

    /// Sends everything, and waits while the socket's buffer is full. What finds no room for too long is dropped.
    pub(super) fn flush(&mut self, ports: &Ports) {
        while let Some(next) = self.queue.get(self.sent) {
            let Some(socket) = ports.socket(next.from) else {
                // Its transfer is over.
                self.sent += 1;
                continue;
            };
            let direct = self.direct.as_ref().filter(|_| next.prefix.is_some());
            let sent = match direct {
                Some(direct) => self.send_frames(direct),
                None => self.send_some(socket, ports.client(next.from).is_some()),
            };
            match sent {
                Ok(sent) => self.sent += sent,
                Err(Errno::EAGAIN) => {
                    let waiting_for = direct.map_or(socket.as_fd(), |direct| direct.as_fd());
                    let mut writable = [PollFd::new(waiting_for, PollFlags::POLLOUT)];
                    // The next send reports any error.
                    if poll(&mut writable, PollTimeout::from(ROOM_WAIT)) == Ok(0) {
                        self.errors += (self.queue.len() - self.sent) as u64;
                        break;
                    }
                }
                // The stack may succeed. A full queue is temporary; any other error is about the kernel or the interface.
                Err(error) if direct.is_some() => {
                    let first = &mut self.queue[self.sent];
                    first.prefix = None;
                    if error == Errno::EINVAL && first.segment.is_some() {
                        self.direct_segmentation = false;
                    } else if error != Errno::ENOBUFS {
                        tracing::debug!(%error, "TFTP: frames cannot be sent; using the IP stack");
                        self.direct = None;
                    }
                }
                // The kernel reports an ICMP message about an earlier datagram at the next use of its socket, whoever that is for.
                Err(error) if error == Errno::ECONNREFUSED && self.tried_again != Some(self.sent) => {
                    self.tried_again = Some(self.sent);
                }
                Err(error) => self.send_failed(socket, error),
            }
        }
        self.queue.clear();
        self.tried_again = None;
        self.sent = 0;
        self.used = 0;
    }

    /// Returns the number of sends that the kernel has refused since the last call.
    pub(super) fn take_errors(&mut self) -> u64 {
        std::mem::take(&mut self.errors)
    }

    /// Hands the kernel the next sends that leave from the same socket and are cut alike. Returns how many it took.
    ///
    /// If a connected socket is given an address, the kernel looks the route up again.
    fn send_some(&self, socket: &UdpSocket, is_connected: bool) -> Result<usize, Errno> {
        let waiting = &self.queue[self.sent..];
        let Some(first) = waiting.first() else { return Ok(0) };
        let segment = first.segment;
        let through_stack = |outgoing: &&Outgoing| outgoing.prefix.is_none() || self.direct.is_none();
        let alike = waiting.iter().take(BATCH).take_while(through_stack);
        let alike = alike.take_while(|outgoing| outgoing.segment == segment && outgoing.from == first.from);
        let address = |outgoing: &Outgoing| (!is_connected).then(|| SockaddrIn::from(outgoing.to));
        let control: Vec<_> = segment.iter().map(ControlMessage::UdpGsoSegments).collect();
        let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        if alike.clone().nth(1).is_none() {
            let bytes = [IoSlice::new(first.bytes(&self.buffer))];
            return sendmsg(fd, &bytes, &control, flags, address(first).as_ref()).map(|_| 1);
        }
        let (addresses, slices): (Vec<_>, Vec<_>) =
            alike.map(|outgoing| (address(outgoing), [IoSlice::new(outgoing.bytes(&self.buffer))])).unzip();
        let space = segment.map(|_| nix::cmsg_space!(u16));
        let mut headers = MultiHeaders::preallocate(slices.len(), space);
        Ok(sendmmsg(fd, &mut headers, &slices, &addresses, &control, flags)?.count())
    }

    /// Hands the interface the next datagrams that go past the IP stack. Returns how many it took.
    fn send_frames(&self, direct: &RawUdp) -> Result<usize, Errno> {
        let frames = self.queue[self.sent..].iter().take(BATCH).map_while(|outgoing| {
            let prefix = outgoing.prefix.as_ref()?;
            Some([IoSlice::new(prefix), IoSlice::new(outgoing.bytes(&self.buffer))])
        });
        let frames: Vec<_> = frames.collect();
        // The socket is bound to the interface, and the frames hold the addresses.
        let addresses: Vec<Option<SockaddrIn>> = vec![None; frames.len()];
        let mut headers = MultiHeaders::preallocate(frames.len(), None);
        let (fd, flags) = (direct.as_fd().as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        Ok(sendmmsg(fd, &mut headers, &frames, &addresses, [], flags)?.count())
    }

    /// Handles the kernel's refusal of the first waiting send. If it was to be cut, that may be the reason, so its datagrams are sent
    /// one by one. Otherwise it is dropped, which is the same to the transfer as a loss on the way.
    fn send_failed(&mut self, socket: &UdpSocket, error: Errno) {
        let Some(outgoing) = self.queue.get(self.sent) else { return };
        self.sent += 1;
        let Some(segment) = outgoing.segment else {
            self.errors += 1;
            return;
        };
        // EIO: the card does not compute checksums. EINVAL concerns this client only: its path has a smaller MTU than was thought.
        if error == Errno::EIO {
            self.segmentation = false;
        }
        for datagram in outgoing.bytes(&self.buffer).chunks(segment.max(1).into()) {
            if socket.send_to(datagram, outgoing.to).is_err() {
                self.errors += 1;
            }
        }
    }
}

/// Returns the size of the largest IP packet that reaches this client unfragmented, in bytes, as far as the kernel knows: the MTU
/// of the route, or of the path if a router has reported it.
pub(super) fn path_mtu(probe: &UdpSocket, client: SocketAddrV4) -> Result<u16, Errno> {
    // Connecting a UDP socket sends nothing; it looks the route up.
    nix::sys::socket::connect(probe.as_raw_fd(), &SockaddrIn::from(client))?;
    route_mtu(probe)
}

/// Returns the same for the client that a socket is connected to.
pub(super) fn route_mtu(socket: &UdpSocket) -> Result<u16, Errno> {
    let mtu = nix::sys::socket::getsockopt(socket, nix::sys::socket::sockopt::IpMtu)?;
    Ok(u16::try_from(mtu).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tftp::bind::{Buffers, bind};

    const FROM: PortId = PortId::REFUSALS;

    fn bound() -> UdpSocket {
        bind(Ipv4Addr::LOCALHOST, 0, Buffers { receive: 1 << 20, send: 1 << 20 }).unwrap()
    }

    fn to(client: SocketAddrV4) -> Destination {
        Destination { client, from: FROM, shortcut: None }
    }

    fn pair() -> (Ports, UdpSocket, SocketAddrV4) {
        let (sender, receiver) = (Ports::new(Ipv4Addr::LOCALHOST, None, 1).unwrap(), bound());
        let std::net::SocketAddr::V4(client) = receiver.local_addr().unwrap() else { panic!("IPv4") };
        (sender, receiver, client)
    }

    fn wait(receiver: &UdpSocket) {
        let ready = poll(&mut [PollFd::new(receiver.as_fd(), PollFlags::POLLIN)], PollTimeout::from(10_000_u16));
        assert_eq!(ready, Ok(1));
    }

    fn send(blocks: usize, segment: usize, segmentation: bool) -> Vec<Vec<u8>> {
        let (sender, receiver, client) = pair();
        let mut outbox = Outbox { segmentation, ..Outbox::new(None) };
        let length = blocks * segment - 3;
        outbox.space(length).iter_mut().enumerate().for_each(|(at, byte)| *byte = (at / segment) as u8);
        outbox.push(to(client), length, segment);
        outbox.flush(&sender);
        assert_eq!(outbox.take_errors(), 0);
        let mut inbox = Inbox::new(2048, BATCH);
        let mut received = Vec::new();
        while received.len() < blocks {
            if inbox.receive(&receiver).is_err() {
                wait(&receiver);
                continue;
            }
            received
                .extend((0..inbox.len()).filter_map(|index| inbox.datagram(index)).map(|(_, bytes)| bytes.to_vec()));
        }
        received
    }

    #[test]
    fn datagrams_are_the_same_with_and_without_segmentation() {
        // No kernel cuts 200 out of one send: it refuses, and they go one by one.
        for (blocks, segmentation) in [(1, true), (40, true), (40, false), (200, true), (200, false)] {
            let received = send(blocks, 100, segmentation);
            let expected: Vec<_> =
                (0..blocks).map(|block| vec![block as u8; if block + 1 == blocks { 97 } else { 100 }]).collect();
            assert_eq!(received, expected, "{blocks} blocks, segmentation {segmentation}");
        }
    }

    #[test]
    fn failed_send_is_counted_and_stops_nothing() {
        let (sender, receiver, client) = pair();
        let mut outbox = Outbox::new(None);
        outbox.space(1);
        // A socket that is bound to 127.0.0.1 reaches no other host.
        outbox.push(to(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 9)), 1, 1);
        outbox.push(to(client), 1, 1);
        outbox.flush(&sender);
        assert_eq!(outbox.take_errors(), 1);
        wait(&receiver);
    }

    #[test]
    fn path_mtu_is_the_kernels() {
        let probe = bound();
        let mtu: u32 = std::fs::read_to_string("/sys/class/net/lo/mtu").unwrap().trim().parse().unwrap();
        for _ in 0..2 {
            let found = path_mtu(&probe, SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9)).unwrap();
            assert_eq!(u32::from(found), mtu.min(65535));
        }
    }

    #[test]
    fn error_of_one_client_costs_no_other_a_datagram() {
        let (sender, receiver, client) = pair();
        let mut outbox = Outbox::new(None);
        for _ in 0..10 {
            let closed = {
                let std::net::SocketAddr::V4(closed) = bound().local_addr().unwrap() else { panic!("IPv4") };
                closed
            };
            outbox.space(1);
            outbox.push(to(closed), 1, 1);
            outbox.flush(&sender);
            // On loopback, the ICMP message is there by now.
            outbox.push(to(client), 1, 1);
            outbox.flush(&sender);
            wait(&receiver);
            assert_eq!(receiver.recv(&mut [0; 8]).unwrap(), 1);
            assert_eq!(sender.unreachable_clients(FROM), [closed]);
        }
        assert_eq!(outbox.take_errors(), 0);
    }
}
