//! Whether an XDP program is attached to an interface, by one question to rtnetlink(7).

use std::{io, os::fd::AsRawFd as _};

use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};

/// `struct nlmsghdr` and `struct ifinfomsg`.
const MESSAGE_HEADER: usize = 16;
const LINK_HEADER: usize = 16;
/// `struct nlattr`, whose length counts itself.
const ATTRIBUTE_HEADER: usize = 4;
/// `NLA_TYPE_MASK`: the two upper bits are flags.
const ATTRIBUTE_TYPE: u16 = 0x3fff;
/// linux/if_link.h.
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
const XDP_ATTACHED_NONE: u8 = 0;

/// More than the kernel says about any link without its virtual functions.
const ANSWER_BYTES: usize = 32 << 10;

/// Returns true if an XDP program, ours or another, is attached to the interface of this index, in whichever mode.
///
/// # Errors
///
/// When there is no such interface, or the kernel refuses to tell.
pub fn has_program(interface_index: u32) -> io::Result<bool> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    let kernel = NetlinkAddr::new(0, 0);
    sendto(socket.as_raw_fd(), &question(interface_index), &kernel, MsgFlags::empty())?;
    let mut answer = vec![0; ANSWER_BYTES];
    // The answer is there when `sendto` returns.
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT)?;
    answer.truncate(length);
    is_attached(&answer)
}

/// An `RTM_GETLINK` request for one interface.
fn question(interface_index: u32) -> Vec<u8> {
    let mut message = Vec::with_capacity(MESSAGE_HEADER + LINK_HEADER);
    message.extend(((MESSAGE_HEADER + LINK_HEADER) as u32).to_ne_bytes());
    message.extend(libc::RTM_GETLINK.to_ne_bytes());
    message.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    message.extend([0; 8]);
    message.extend([0; 4]);
    message.extend(interface_index.to_ne_bytes());
    message.resize(MESSAGE_HEADER + LINK_HEADER, 0);
    message
}

/// Reads the answer: `RTM_NEWLINK` with its attributes, or `NLMSG_ERROR` with an errno.
fn is_attached(answer: &[u8]) -> io::Result<bool> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "rtnetlink's answer is malformed");
    let length = number(answer, 0).and_then(|length| usize::try_from(length).ok()).ok_or_else(malformed)?;
    let message = answer.get(..length).ok_or_else(malformed)?;
    let kind = short(message, 4).ok_or_else(malformed)?;
    if i32::from(kind) == libc::NLMSG_ERROR {
        let errno = number(message, MESSAGE_HEADER).ok_or_else(malformed)?.cast_signed();
        return Err(io::Error::from_raw_os_error(errno.wrapping_neg()));
    }
    let attributes = message.get(MESSAGE_HEADER + LINK_HEADER..).ok_or_else(malformed)?;
    if kind != libc::RTM_NEWLINK {
        return Err(malformed());
    }
    let state = attribute(attributes, IFLA_XDP).and_then(|xdp| attribute(xdp, IFLA_XDP_ATTACHED)?.first().copied());
    Ok(state.is_some_and(|state| state != XDP_ATTACHED_NONE))
}

/// Returns the value of the first attribute of a type.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(short(attributes, 0)?);
        let kind = short(attributes, 2)? & ATTRIBUTE_TYPE;
        let value = attributes.get(ATTRIBUTE_HEADER..length)?;
        if kind == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attribute_of(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((ATTRIBUTE_HEADER + value.len()) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((MESSAGE_HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes
    }

    fn link(attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![0; LINK_HEADER];
        body.extend(attributes.concat());
        message(libc::RTM_NEWLINK, &body)
    }

    #[test]
    fn attached_program_is_found_among_the_attributes() {
        const NESTED: u16 = 0x8000;
        let name = attribute_of(libc::IFLA_IFNAME, b"eth0\0");
        let xdp = |kind: u16, mode| attribute_of(kind, &attribute_of(IFLA_XDP_ATTACHED, &[mode]));
        for (attributes, attached) in [
            (vec![name.clone()], false),
            (vec![name.clone(), xdp(IFLA_XDP, XDP_ATTACHED_NONE)], false),
            (vec![name.clone(), xdp(IFLA_XDP, 1), name.clone()], true),
            (vec![name.clone(), xdp(IFLA_XDP | NESTED, 2)], true),
            (vec![xdp(IFLA_XDP, 4), name], true),
        ] {
            assert_eq!(is_attached(&link(&attributes)).unwrap(), attached, "{attributes:?}");
        }
    }

    #[test]
    fn refusal_is_an_error() {
        let refusal = message(libc::NLMSG_ERROR as u16, &(-libc::ENODEV).to_ne_bytes());
        assert_eq!(is_attached(&refusal).unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn kernel_is_asked() {
        let loopback = nix::net::if_::if_nametoindex("lo").unwrap();
        assert!(!has_program(loopback).unwrap());
        assert_eq!(has_program(i32::MAX as u32).unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }

    proptest! {
        #[test]
        fn arbitrary_answer_is_survived(mut bytes: Vec<u8>, kind: bool) {
            if let Some(length) = bytes.get_mut(..6) {
                length[..4].copy_from_slice(&48_u32.to_ne_bytes());
                length[4..].copy_from_slice(&(if kind { libc::RTM_NEWLINK } else { libc::NLMSG_ERROR as u16 }).to_ne_bytes());
            }
            let _ = is_attached(&bytes);
        }
    }
}
