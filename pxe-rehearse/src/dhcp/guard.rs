//! Checks of a payload before dhcproto reads it.
//!
//! dhcproto 0.15 trusts its input. `chaddr()` panics, in release builds too, if the hardware address is longer than its field.
//! Debug builds panic if option 80, 81, 94 or 152 to 155 has an unusual length. The magic cookie is not checked. An option
//! that cannot be decoded silently ends the list, so that all options behind it are lost.

use dhcproto::v4::{HType, MAGIC, Opcode, borrowed};
use pxe_common::MacAddr;

/// The header and the magic cookie.
const MIN_LENGTH: usize = 240;

/// The codes of the two options that have no length (RFC 2132 §3.1, §3.2).
const PAD: u8 = 0;
const END: u8 = 255;

/// Opens a UDP payload that is a DHCP reply to an Ethernet client. The header of the message is then safe to read.
///
/// # Errors
///
/// Returns what is wrong with the payload, for people.
pub(crate) fn open(payload: &[u8]) -> Result<borrowed::Message<'_>, &'static str> {
    let message = borrowed::Message::new(payload).map_err(|_| "shorter than a DHCP header")?;
    if message.opcode() != Opcode::BootReply {
        return Err("not a BOOTREPLY");
    }
    if message.htype() != HType::Eth || message.hlen() != 6 {
        return Err("not for an Ethernet address");
    }
    if payload[MIN_LENGTH - MAGIC.len()..MIN_LENGTH] != MAGIC {
        return Err("no magic cookie: BOOTP, not DHCP");
    }
    Ok(message)
}

/// Returns `chaddr` (RFC 2131 §2) of any payload that is long enough, so that even a malformed reply reaches the machine
/// that it is for.
pub(crate) fn addressee(payload: &[u8]) -> Option<MacAddr> {
    Some(MacAddr(*payload.get(28..)?.first_chunk()?))
}

/// Splits a list of options at their lengths, and returns each with its code and length. Padding is left out.
///
/// # Errors
///
/// Fails if an option is cut off, or if the list lacks its end: EDK2 discards such a message.
pub(super) fn split(mut list: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    let mut options = Vec::new();
    loop {
        list = match list {
            [END, ..] => return Ok(options),
            [PAD, rest @ ..] => rest,
            [_, length, ..] => {
                let (option, rest) = list
                    .split_at_checked(2 + usize::from(*length))
                    .ok_or("an option that is longer than the rest of the message")?;
                options.push(option);
                rest
            }
            [_] => return Err("an option without a length"),
            [] => return Err("options without an end (option 255)"),
        };
    }
}
