//! The kernel path: one AF_PACKET socket (packet(7)) for interfaces and containers without XDP.
//!
//! It receives and sends complete frames, as AF_XDP does, so everything above the frame is shared. It does not take UDP port
//! 67 from another server on the same host. A VLAN tag that the kernel has stripped from a frame is put back.
#![expect(unsafe_code, reason = "the VLAN tag comes in PACKET_AUXDATA, which no crate here decodes")]

use std::{
    io,
    mem::{size_of, zeroed},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, send},
};

use pxe_common::{
    bootp::{BOOT_SERVER_PORT, SERVER_PORT},
    frame::{ETHERNET_LENGTH, PROTOCOL_UDP, TAG_LENGTH, ethertype},
};

use super::{buffer, frame::Reply, pulse::Pulse};

/// The length of the longest frame: an MTU of 9,000 bytes, its headers and two VLAN tags.
pub const FRAME_CAPACITY: usize = 9216;

/// The size of the receive buffer: 10,000 requests, for a fleet that powers on at once.
const RECEIVE_BUFFER_BYTES: usize = 32 << 20;

/// The size of the send buffer, as large as that of our UDP sockets.
const SEND_BUFFER_BYTES: usize = 32 << 20;

/// The most frames answered between two checks for `stop`.
const FRAMES_A_TURN: usize = 256;

/// The offset of the EtherType, where a VLAN tag belongs.
const TAG_OFFSET: usize = ETHERNET_LENGTH - 2;

/// A packet socket that receives the interface's BOOTP requests and sends frames on it.
pub struct PacketSocket {
    socket: OwnedFd,
}

impl PacketSocket {
    /// Opens the socket on an interface.
    ///
    /// # Errors
    ///
    /// If the kernel refuses, for example because `CAP_NET_RAW` is missing.
    pub fn open(interface_index: u32) -> io::Result<Self> {
        let socket = open()?;
        attach(&socket, &filter())?;
        set(&socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, &1_i32)?;
        set(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
        buffer::set_receive_buffer(&socket, RECEIVE_BUFFER_BYTES)?;
        bind(&socket, interface_index, libc::ETH_P_ALL as u16)?;
        Ok(Self { socket })
    }

    /// Answers frames until `stop` becomes readable. `respond` gets a received frame and a buffer for the reply, and returns
    /// the reply's length and copies. `pulse` counts the turns.
    ///
    /// # Errors
    ///
    /// If waiting fails, which cannot be recovered from.
    pub fn serve(
        &mut self,
        stop: BorrowedFd<'_>,
        pulse: &Pulse,
        mut respond: impl FnMut(&[u8], &mut [u8]) -> Option<Reply>,
    ) -> io::Result<()> {
        let mut query = vec![0; FRAME_CAPACITY];
        let mut reply = vec![0; FRAME_CAPACITY];
        loop {
            // Bounded, so that `stop` is seen even under a flood.
            for _ in 0..FRAMES_A_TURN {
                let Some(length) = self.receive(&mut query) else { break };
                let Some(Reply { length, second }) = respond(&query[..length], &mut reply) else { continue };
                let Some(frame) = reply.get_mut(..length) else { continue };
                // A full device queue or a link that is down loses the reply, as any network may. The client asks again.
                let send = |frame: &[u8]| send(self.socket.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT);
                let _ = send(frame);
                if second.make(frame) {
                    let _ = send(frame);
                }
            }
            pulse.beat();
            let mut descriptors =
                [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN), PollFd::new(stop, PollFlags::POLLIN)];
            match poll(&mut descriptors, Pulse::longest_wait()) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            if descriptors[1].any().unwrap_or(false) {
                return Ok(());
            }
        }
    }

    /// Reads the next frame and puts its VLAN tag back. Returns its length, or `None` if nothing can be read now.
    fn receive(&self, buffer: &mut [u8]) -> Option<usize> {
        receive(&self.socket, buffer).map(|received| received.length)
    }
}

/// Copies of the BOOTP requests that the host's IP stack gets, of all interfaces together. Nothing is seen that the XDP program redirects or drops.
///
/// The kernel shows a frame with a VLAN tag at the interface of that VLAN, if there is one. If not, it shows it without the tag, which only a
/// socket for all protocols can see. So a second one gets tagged frames alone.
pub struct RequestTap {
    untagged: OwnedFd,
    tagged: OwnedFd,
}

/// The socket of a [`RequestTap`] that a frame came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapView {
    /// With its tag, at the interface that has received it.
    Tagged,
    /// At its last interface, after the kernel has taken the tag away.
    Final {
        /// The tag was one of a VLAN that the host does not have, or the frame is for another host.
        is_of_others: bool,
    },
}

impl RequestTap {
    /// Opens the sockets.
    ///
    /// # Errors
    ///
    /// As for [`PacketSocket::open`].
    pub fn open() -> io::Result<Self> {
        let (untagged, tagged) = (open()?, open()?);
        attach(&untagged, &filter())?;
        attach(&tagged, &filter_of_tagged())?;
        set(&tagged, libc::SOL_PACKET, libc::PACKET_AUXDATA, &1_i32)?;
        set(&tagged, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
        // IPv4 alone, so that what the host sends does not pass here.
        bind(&untagged, 0, libc::ETH_P_IP as u16)?;
        bind(&tagged, 0, libc::ETH_P_ALL as u16)?;
        Ok(Self { untagged, tagged })
    }

    /// Waits until a frame can be read or `stop` becomes readable. Returns `false` for the latter.
    ///
    /// # Errors
    ///
    /// If waiting fails, which cannot be recovered from.
    pub fn wait(&self, stop: BorrowedFd<'_>) -> io::Result<bool> {
        let readable = |socket| PollFd::new(socket, PollFlags::POLLIN);
        let mut descriptors = [readable(stop), readable(self.untagged.as_fd()), readable(self.tagged.as_fd())];
        match poll(&mut descriptors, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => Ok(!descriptors[0].any().unwrap_or(false)),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads the next frame: those with their tags first. Returns it, the index of its interface and the view, or `None` if nothing can be read now.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> Option<(&'b [u8], u32, TapView)> {
        let (Received { length, interface, .. }, view) = match receive(&self.tagged, buffer) {
            Some(received) => (received, TapView::Tagged),
            None => {
                let received = receive(&self.untagged, buffer)?;
                (received, TapView::Final { is_of_others: received.kind == libc::PACKET_OTHERHOST })
            }
        };
        Some((buffer.get(..length)?, interface, view))
    }

    /// Returns the name of an interface.
    #[must_use]
    pub fn name_of(&self, interface: u32) -> Option<String> {
        rustix::net::netdevice::index_to_name(&self.untagged, interface).ok()
    }
}

/// A frame that was read.
#[derive(Clone, Copy, Debug)]
struct Received {
    length: usize,
    interface: u32,
    /// Its destination, as the kernel sees it (`sll_pkttype`).
    kind: u8,
}

/// Reads the next frame of a packet socket and puts its VLAN tag back. Returns `None` if nothing can be read now.
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Option<Received> {
    // Leave room before the frame for the tag that the kernel may have stripped.
    let tail = buffer.get_mut(TAG_LENGTH..)?;
    let mut control = [0_u64; 8];
    let mut vector = libc::iovec { iov_base: tail.as_mut_ptr().cast(), iov_len: tail.len() };
    // SAFETY: `msghdr` is plain data, for which all zeroes is a valid value.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: `sockaddr_ll` is plain data, for which all zeroes is a valid value.
    let mut from: libc::sockaddr_ll = unsafe { zeroed() };
    message.msg_name = (&raw mut from).cast();
    message.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: every pointer in the message refers to memory that is alive for the call, with its own length.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let length = usize::try_from(received).ok()?;
    let (interface, kind) = (u32::try_from(from.sll_ifindex).ok()?, from.sll_pkttype);
    // SAFETY: `recvmsg` has filled in the message, whose buffers are still alive.
    match unsafe { stripped_tag(&message) } {
        Some(tag) => {
            buffer.copy_within(TAG_LENGTH..TAG_LENGTH + TAG_OFFSET, 0);
            buffer.get_mut(TAG_OFFSET..TAG_OFFSET + TAG_LENGTH)?.copy_from_slice(&tag);
            Some(Received { length: length + TAG_LENGTH, interface, kind })
        }
        None => {
            buffer.copy_within(TAG_LENGTH..TAG_LENGTH + length, 0);
            Some(Received { length, interface, kind })
        }
    }
}

/// Opens a packet socket that receives nothing and sends frames on an interface. Each frame follows a `struct
/// virtio_net_hdr` (linux/virtio_net.h) that leaves its checksum to the kernel.
///
/// # Errors
///
/// As for [`PacketSocket::open`].
pub(super) fn for_sending(interface_index: u32) -> io::Result<OwnedFd> {
    let socket = open()?;
    set(&socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1_i32)?;
    buffer::set_send_buffer(&socket, SEND_BUFFER_BYTES)?;
    bind(&socket, interface_index, 0)?;
    Ok(socket)
}

/// Opens a packet socket of protocol 0, which receives nothing until `bind` sets another protocol.
pub(super) fn open() -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

pub(super) fn bind(socket: &OwnedFd, interface_index: u32, protocol: u16) -> io::Result<()> {
    // SAFETY: `sockaddr_ll` is plain data, for which all zeroes is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = i32::try_from(interface_index).map_err(io::Error::other)?;
    // SAFETY: the address is alive for the call and its length is its own.
    let result = unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as libc::socklen_t)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Returns the VLAN tag (TPID and TCI) that the kernel stripped from the frame.
///
/// # Safety
///
/// `recvmsg` must have filled in `message`, and its buffers must be alive.
unsafe fn stripped_tag(message: &libc::msghdr) -> Option<[u8; TAG_LENGTH]> {
    // SAFETY: the caller vouches for the message; these walk its control buffer within `msg_controllen`.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: a non-null result of CMSG_FIRSTHDR and CMSG_NXTHDR points at a whole header.
    while let Some(control) = unsafe { header.as_ref() } {
        if control.cmsg_level == libc::SOL_PACKET && control.cmsg_type == libc::PACKET_AUXDATA {
            // SAFETY: the kernel writes a whole `tpacket_auxdata` for this type; it may be unaligned.
            let data = unsafe { libc::CMSG_DATA(control).cast::<libc::tpacket_auxdata>().read_unaligned() };
            if data.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
                return None;
            }
            let tpid =
                if data.tp_status & libc::TP_STATUS_VLAN_TPID_VALID == 0 { ethertype::VLAN } else { data.tp_vlan_tpid };
            let ([a, b], [c, d]) = (tpid.to_be_bytes(), data.tp_vlan_tci.to_be_bytes());
            return Some([a, b, c, d]);
        }
        // SAFETY: as above.
        header = unsafe { libc::CMSG_NXTHDR(message, control) };
    }
    None
}

pub(super) fn set<T>(socket: &OwnedFd, level: i32, option: i32, value: &T) -> io::Result<()> {
    // SAFETY: the value is alive for the call and its length is its own.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Attaches a filter.
fn attach(socket: &OwnedFd, filter: &[libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(filter.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: filter.as_ptr().cast_mut() };
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// Returns a classic BPF program that accepts unfragmented IPv4/UDP to port 67 or 4011, with at most one VLAN tag left in
/// the frame. It only reduces the load: what passes is classified like any other frame.
fn filter() -> Vec<libc::sock_filter> {
    const LDH: u16 = 0x28;
    const LDB: u16 = 0x30;
    const LDH_X: u16 = 0x48;
    const LDX_IP_HEADER: u16 = 0xb1;
    const JEQ: u16 = 0x15;
    const JSET: u16 = 0x45;
    const RET: u16 = 0x06;
    const IPV4: u32 = ethertype::IPV4 as u32;
    // Each block starts at `offset` of the IPv4 header and ends in accept or reject.
    let ipv4 = |offset: usize| {
        let offset = offset as u32;
        [
            (LDB, 0, 0, offset + 9),
            (JEQ, 0, 7, PROTOCOL_UDP.into()),
            (LDH, 0, 0, offset + 6),
            (JSET, 5, 0, 0x3fff),
            (LDX_IP_HEADER, 0, 0, offset),
            (LDH_X, 0, 0, offset + 2),
            (JEQ, 1, 0, SERVER_PORT.into()),
            (JEQ, 0, 1, BOOT_SERVER_PORT.into()),
            (RET, 0, 0, u32::MAX),
            (RET, 0, 0, 0),
        ]
    };
    let block = 10;
    let mut program = vec![
        (LDH, 0, 0, TAG_OFFSET as u32),
        (JEQ, 4, 0, IPV4),
        (JEQ, 1, 0, ethertype::VLAN.into()),
        (JEQ, 0, 2 * block + 2, ethertype::SERVICE_VLAN.into()),
        (LDH, 0, 0, (TAG_OFFSET + TAG_LENGTH) as u32),
        (JEQ, block, 2 * block, IPV4),
    ];
    program.extend(ipv4(ETHERNET_LENGTH));
    program.extend(ipv4(ETHERNET_LENGTH + TAG_LENGTH));
    program.push((RET, 0, 0, 0));
    program.into_iter().map(|(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k }).collect()
}

/// Returns the [`filter`] behind one that rejects frames whose tag the kernel has not stripped, which are those without one.
fn filter_of_tagged() -> Vec<libc::sock_filter> {
    const LDW: u16 = 0x20;
    const JEQ: u16 = 0x15;
    const RET: u16 = 0x06;
    let present = (libc::SKF_AD_OFF + libc::SKF_AD_VLAN_TAG_PRESENT) as u32;
    let head = [(LDW, 0, 0, present), (JEQ, 0, 1, 0), (RET, 0, 0, 0)];
    let head = head.map(|(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k });
    head.into_iter().chain(filter()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use pxe_common::{Counter, Headers, testing::cases};

    use super::*;

    /// The kernel runs a filter in the same way on every kind of socket, so a datagram socket serves for the test.
    #[test]
    fn boot_requests_pass_the_filter_and_other_traffic_does_not() {
        let (sender, receiver) = UnixDatagram::pair().unwrap();
        let filtered = OwnedFd::from(receiver.try_clone().unwrap());
        attach(&filtered, &filter()).unwrap();
        receiver.set_nonblocking(true).unwrap();
        let (mut passed, mut kept_out) = (0, 0);
        for case in cases() {
            let mut frame = case.frame;
            let must_pass = match Headers::parse(&frame[..]) {
                Ok(headers) => {
                    if headers.tags.as_slice().len() == 2 {
                        // The kernel strips the outer tag.
                        frame.drain(TAG_OFFSET..TAG_OFFSET + TAG_LENGTH);
                    }
                    true
                }
                Err(Counter::NotIpv4 | Counter::NotUdp | Counter::Fragment | Counter::OtherPort) => false,
                // A malformed frame may pass or not.
                Err(_) => continue,
            };
            sender.send(&frame).unwrap();
            let mut buffer = [0; FRAME_CAPACITY];
            let received = receiver.recv(&mut buffer).ok().map(|length| &buffer[..length]);
            assert_eq!(received, must_pass.then_some(&frame[..]), "{}", case.name);
            *if must_pass { &mut passed } else { &mut kept_out } += 1;
        }
        assert!(passed > 10 && kept_out > 3, "{passed} passed, {kept_out} did not");
    }
}
