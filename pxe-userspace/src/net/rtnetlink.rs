//! Requests to rtnetlink(7) that have one message for an answer.

use std::{io, os::fd::AsRawFd as _};

use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};

/// `struct nlmsghdr`.
const MESSAGE_HEADER: usize = 16;
/// `struct nlattr`, whose length includes itself.
pub(super) const ATTRIBUTE_HEADER: usize = 4;
/// `NLA_TYPE_MASK`: the two upper bits are flags.
const ATTRIBUTE_TYPE: u16 = 0x3fff;

/// The size of the answer buffer. Without its virtual functions, no link takes more.
const ANSWER_BYTES: usize = 32 << 10;

/// Asks the kernel, and returns its answer.
///
/// # Errors
///
/// If the kernel does not answer.
pub(super) fn ask(question: &[u8]) -> io::Result<Vec<u8>> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    let kernel = NetlinkAddr::new(0, 0);
    sendto(socket.as_raw_fd(), question, &kernel, MsgFlags::empty())?;
    let mut answer = vec![0; ANSWER_BYTES];
    // The answer is complete when `sendto` returns.
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT)?;
    answer.truncate(length);
    Ok(answer)
}

/// Returns a request of this type with this body.
pub(super) fn request(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = MESSAGE_HEADER + body.len();
    let mut message = Vec::with_capacity(length);
    message.extend((length as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// Returns the attributes of an answer, which follow a header of this length. The answer is a message of this type, or `NLMSG_ERROR` with an
/// errno.
///
/// # Errors
///
/// If it is neither, and the error that it tells of.
pub(super) fn attributes_of(answer: &[u8], kind: u16, header: usize) -> io::Result<&[u8]> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "rtnetlink's answer is malformed");
    let length = number(answer, 0).and_then(|length| usize::try_from(length).ok()).ok_or_else(malformed)?;
    let message = answer.get(..length).ok_or_else(malformed)?;
    let found = short(message, 4).ok_or_else(malformed)?;
    if i32::from(found) == libc::NLMSG_ERROR {
        let errno = number(message, MESSAGE_HEADER).ok_or_else(malformed)?.cast_signed();
        return Err(io::Error::from_raw_os_error(errno.wrapping_neg()));
    }
    let attributes = message.get(MESSAGE_HEADER + header..).ok_or_else(malformed)?;
    if found == kind { Ok(attributes) } else { Err(malformed()) }
}

/// Returns the value of the first attribute of a type.
pub(super) fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
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

/// Returns the number of 32 bits at this place.
pub(super) fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
pub(super) mod testing {
    use super::{ATTRIBUTE_HEADER, MESSAGE_HEADER};

    pub(in crate::net) fn attribute_of(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((ATTRIBUTE_HEADER + value.len()) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    pub(in crate::net) fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((MESSAGE_HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes
    }
}
