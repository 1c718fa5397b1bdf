//! Lists the XDP programs that are attached to an interface, by one request to rtnetlink(7).

use std::{io, os::fd::AsRawFd as _};

use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};

/// `struct nlmsghdr` and `struct ifinfomsg`.
const MESSAGE_HEADER: usize = 16;
const LINK_HEADER: usize = 16;
/// `struct nlattr`, whose length includes itself.
const ATTRIBUTE_HEADER: usize = 4;
/// `NLA_TYPE_MASK`: the two upper bits are flags.
const ATTRIBUTE_TYPE: u16 = 0x3fff;
/// The attribute from linux/if_link.h.
const IFLA_XDP: u16 = 43;
/// `IFLA_XDP_PROG_ID` if there is one program; also `IFLA_XDP_DRV_PROG_ID`, `IFLA_XDP_SKB_PROG_ID` and
/// `IFLA_XDP_HW_PROG_ID`, by its mode.
const IFLA_XDP_PROGRAMS: std::ops::RangeInclusive<u16> = 4..=7;

/// The size of the answer buffer. Without its virtual functions, no link takes more.
const ANSWER_BYTES: usize = 32 << 10;

/// Returns the identifiers of the XDP programs that are attached to the interface with this index, in any mode.
///
/// # Errors
///
/// If there is no such interface, or the kernel refuses to answer.
pub fn programs(interface_index: u32) -> io::Result<Vec<u32>> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    let kernel = NetlinkAddr::new(0, 0);
    sendto(socket.as_raw_fd(), &question(interface_index), &kernel, MsgFlags::empty())?;
    let mut answer = vec![0; ANSWER_BYTES];
    // The answer is complete when `sendto` returns.
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT)?;
    answer.truncate(length);
    programs_in(&answer)
}

/// Returns an `RTM_GETLINK` request for one interface.
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

/// Parses the answer: `RTM_NEWLINK` with its attributes, or `NLMSG_ERROR` with an errno.
fn programs_in(answer: &[u8]) -> io::Result<Vec<u32>> {
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
    let xdp = attribute(attributes, IFLA_XDP).unwrap_or_default();
    let mut programs: Vec<_> = IFLA_XDP_PROGRAMS.filter_map(|kind| number(attribute(xdp, kind)?, 0)).collect();
    programs.sort_unstable();
    programs.dedup();
    Ok(programs)
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
    fn attached_programs_are_found_among_the_attributes() {
        const NESTED: u16 = 0x8000;
        let name = attribute_of(libc::IFLA_IFNAME, b"eth0\0");
        // The mode comes first.
        let xdp = |kind, programs: &[(u16, u32)]| {
            let programs = programs.iter().flat_map(|(kind, id)| attribute_of(*kind, &id.to_ne_bytes()));
            attribute_of(kind, &attribute_of(2, &[1]).into_iter().chain(programs).collect::<Vec<_>>())
        };
        for (attributes, expected) in [
            (vec![name.clone()], vec![]),
            (vec![name.clone(), xdp(IFLA_XDP, &[])], vec![]),
            (vec![name.clone(), xdp(IFLA_XDP, &[(4, 77)]), name.clone()], vec![77]),
            (vec![name.clone(), xdp(IFLA_XDP | NESTED, &[(4, 77), (6, 77)])], vec![77]),
            (vec![xdp(IFLA_XDP, &[(5, 77), (7, 78)]), name], vec![77, 78]),
        ] {
            assert_eq!(programs_in(&link(&attributes)).unwrap(), expected, "{attributes:?}");
        }
    }

    #[test]
    fn refusal_is_an_error() {
        let refusal = message(libc::NLMSG_ERROR as u16, &(-libc::ENODEV).to_ne_bytes());
        assert_eq!(programs_in(&refusal).unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn kernel_is_asked() {
        let loopback = nix::net::if_::if_nametoindex("lo").unwrap();
        assert!(programs(loopback).unwrap().is_empty());
        assert_eq!(programs(i32::MAX as u32).unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }

    proptest! {
        #[test]
        fn arbitrary_answer_is_survived(mut bytes: Vec<u8>, kind: bool) {
            if let Some(length) = bytes.get_mut(..6) {
                length[..4].copy_from_slice(&48_u32.to_ne_bytes());
                length[4..].copy_from_slice(&(if kind { libc::RTM_NEWLINK } else { libc::NLMSG_ERROR as u16 }).to_ne_bytes());
            }
            let _ = programs_in(&bytes);
        }
    }
}
