//! A packet socket that observes an interface: what it receives and what it sends, as a capture sees it.
#![expect(
    unsafe_code,
    reason = "VLAN tag, length and time come in control messages, which no crate here decodes together"
)]

use std::{
    io,
    mem::{size_of, zeroed},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pxe_common::frame::{ETHERNET_LENGTH, TAG_LENGTH, ethertype};

use super::{
    buffer,
    packet_socket::{bind, open, set},
};

/// The size of the receive buffer: a window of TFTP for each of many transfers, and what a busy observer does not read at once.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// The offset of the EtherType, where a VLAN tag belongs.
const TAG_OFFSET: usize = ETHERNET_LENGTH - 2;

/// An observed interface.
#[derive(Debug)]
pub struct PacketObserver {
    socket: OwnedFd,
}

/// A frame that came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen<'b> {
    /// Its bytes, as far as the filter lets them through, with its VLAN tag.
    pub frame: &'b [u8],
    /// Its length.
    pub length: usize,
    /// This host sends it.
    pub is_outgoing: bool,
    /// The time at which the kernel saw it, if it tells.
    pub at: Option<SystemTime>,
}

/// The content of the control messages of a frame.
#[derive(Default)]
struct Control {
    tag: Option<[u8; TAG_LENGTH]>,
    length: Option<usize>,
    at: Option<SystemTime>,
}

impl PacketObserver {
    /// The size of a buffer that every frame fits into: 64 KiB, its header and VLAN tags.
    pub const CAPACITY: usize = (64 << 10) + 64;

    /// Opens a socket on an interface, with a classic BPF program that says which frames it gets, and how much of each.
    ///
    /// # Errors
    ///
    /// If the kernel refuses, for example because `CAP_NET_RAW` is missing.
    pub fn open(interface_index: u32, filter: &[libc::sock_filter]) -> io::Result<Self> {
        let socket = open()?;
        attach_filter(&socket, filter)?;
        set(&socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, &1_i32)?;
        set(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &1_i32)?;
        buffer::set_receive_buffer(&socket, RECEIVE_BUFFER_BYTES)?;
        bind(&socket, interface_index, libc::ETH_P_ALL as u16)?;
        Ok(Self { socket })
    }

    /// Returns the next frame for this host or from it, or `None` if there is none now.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> Option<Seen<'b>> {
        loop {
            // Room in front for the tag that the kernel may have taken out.
            let tail = buffer.get_mut(TAG_LENGTH..)?;
            let mut control = [0_u64; 16];
            // SAFETY: plain data, for which all zeroes is a valid value; so is `msghdr`.
            let mut from: libc::sockaddr_ll = unsafe { zeroed() };
            let mut vector = libc::iovec { iov_base: tail.as_mut_ptr().cast(), iov_len: tail.len() };
            // SAFETY: as above.
            let mut message: libc::msghdr = unsafe { zeroed() };
            message.msg_name = (&raw mut from).cast();
            message.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            message.msg_iov = &raw mut vector;
            message.msg_iovlen = 1;
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = size_of_val(&control) as _;
            // SAFETY: every pointer in the message refers to memory that is alive for the call, with its own length.
            let received = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, 0) };
            let kept = usize::try_from(received).ok()?;
            if from.sll_pkttype == libc::PACKET_OTHERHOST {
                continue;
            }
            // SAFETY: `recvmsg` has filled in the message, whose buffers are still alive.
            let Control { tag, length, at } = unsafe { read_control(&message) };
            let tagged = if tag.is_some() { TAG_LENGTH } else { 0 };
            let start = TAG_LENGTH - tagged;
            if let Some(tag) = tag {
                buffer.copy_within(TAG_LENGTH..TAG_LENGTH + TAG_OFFSET, 0);
                buffer.get_mut(TAG_OFFSET..TAG_OFFSET + TAG_LENGTH)?.copy_from_slice(&tag);
            }
            return Some(Seen {
                frame: buffer.get(start..TAG_LENGTH + kept)?,
                length: length.unwrap_or(kept) + tagged,
                is_outgoing: from.sll_pkttype == libc::PACKET_OUTGOING,
                at,
            });
        }
    }

    /// Returns the number of frames that the socket had no room for since the last call.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        // SAFETY: plain data, for which all zeroes is a valid value.
        let mut statistics: libc::tpacket_stats = unsafe { zeroed() };
        let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: value and length are alive for the call, and the length is the value's own.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut statistics).cast(),
                &raw mut length,
            )
        };
        if result < 0 { 0 } else { statistics.tp_drops.into() }
    }
}

impl AsFd for PacketObserver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Attaches a classic BPF program to a socket.
pub(crate) fn attach_filter(socket: &OwnedFd, filter: &[libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(filter.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: filter.as_ptr().cast_mut() };
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// # Safety
///
/// `recvmsg` must have filled in `message`, and its buffers must be alive.
unsafe fn read_control(message: &libc::msghdr) -> Control {
    let mut found = Control::default();
    // SAFETY: the caller vouches for the message; these walk its control buffer within `msg_controllen`.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: a non-null result of CMSG_FIRSTHDR and CMSG_NXTHDR points at a whole header.
    while let Some(control) = unsafe { header.as_ref() } {
        match (control.cmsg_level, control.cmsg_type) {
            (libc::SOL_PACKET, libc::PACKET_AUXDATA) => {
                // SAFETY: the kernel writes a whole `tpacket_auxdata` for this type; it may be unaligned.
                let data = unsafe { libc::CMSG_DATA(control).cast::<libc::tpacket_auxdata>().read_unaligned() };
                found.length = usize::try_from(data.tp_len).ok();
                if data.tp_status & libc::TP_STATUS_VLAN_VALID != 0 {
                    let has_tpid = data.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
                    let tpid = if has_tpid { data.tp_vlan_tpid } else { ethertype::VLAN };
                    let ([a, b], [c, d]) = (tpid.to_be_bytes(), data.tp_vlan_tci.to_be_bytes());
                    found.tag = Some([a, b, c, d]);
                }
            }
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                // SAFETY: as above, a whole `timespec`.
                let time = unsafe { libc::CMSG_DATA(control).cast::<libc::timespec>().read_unaligned() };
                let since = u64::try_from(time.tv_sec).ok().zip(u32::try_from(time.tv_nsec).ok());
                found.at = since.map(|(seconds, nanoseconds)| UNIX_EPOCH + Duration::new(seconds, nanoseconds));
            }
            _ => {}
        }
        // SAFETY: as above.
        header = unsafe { libc::CMSG_NXTHDR(message, control) };
    }
    found
}
