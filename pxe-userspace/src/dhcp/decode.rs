//! Parses bytes from the wire into a [`Query`], or a reason for silence.
//!
//! Malformed packets are treated as follows:
//!
//! - The header must be that of a DHCP client on Ethernet. This is checked before anything else is read.
//! - An option in several pieces is joined (RFC 3396), in the order options field, `file`, `sname`. The latter two are read if
//!   option 52 says so.
//! - An option with a single value (50, 53, 54) that comes twice with different values is a contradiction. The same value twice
//!   counts once.
//! - An option whose length exceeds its field ends that field. If it is an essential one (50, 53, 54), the message is dropped.
//!   Otherwise the options before it are kept, because firmware that sends a malformed tail must still boot.
//! - A missing end option is not an error.

use std::{net::Ipv4Addr, ops::Range};

use pxe_common::MacAddr;
use pxe_common::bootp::{BROADCAST_FLAG, MAGIC_COOKIE, field};

use super::{
    reason::Reason,
    wire::{MessageType, code},
};

/// The options that are read. All others are skipped.
const KEPT: [u8; 13] = [
    code::REQUESTED_ADDRESS,
    code::MESSAGE_TYPE,
    code::SERVER_ID,
    code::PARAMETERS,
    code::MAXIMUM_SIZE,
    code::VENDOR_CLASS,
    code::CLIENT_ID,
    code::USER_CLASS,
    code::RELAY_INFORMATION,
    code::ARCHITECTURES,
    code::MACHINE_ID,
    code::SUBNET_SELECTION,
    code::IPXE,
];

/// The room for options that came in pieces. Each byte of a packet is joined at most once, and an Ethernet packet has little more
/// than this for options.
const JOINED_CAPACITY: usize = 1024;

/// The place of an option's value.
#[derive(Clone, Copy, Debug)]
struct Slot {
    start: u16,
    end: u16,
    joined: bool,
}

/// A checked message of a client. It borrows the packet.
#[derive(Clone, Debug)]
pub struct Query<'a> {
    header: &'a [u8; field::OPTIONS],
    payload: &'a [u8],
    slots: [Option<Slot>; KEPT.len()],
    joined: [u8; JOINED_CAPACITY],
    message: MessageType,
    mac: MacAddr,
}

/// Parses a UDP payload that arrived on port 67 or 4011.
///
/// # Errors
///
/// A [`Reason`] says what is wrong with it. The module's documentation lists what is tolerated.
pub fn decode(payload: &[u8]) -> Result<Query<'_>, Reason> {
    let header: &[u8; field::OPTIONS] = payload.first_chunk().ok_or(Reason::Length)?;
    // Offsets are kept in 16 bits below.
    if payload.len() > usize::from(u16::MAX) {
        return Err(Reason::Length);
    }
    if header[field::OP] != 1 {
        return Err(Reason::NotARequest);
    }
    if header[field::HTYPE] != 1 || header[field::HLEN] != 6 {
        return Err(Reason::HardwareAddress);
    }
    let mac = MacAddr(array(&header[field::CHADDR]));
    if mac.is_zero() || mac.is_group() {
        return Err(Reason::NotOneMachine);
    }
    if header[field::COOKIE] != MAGIC_COOKIE {
        return Err(Reason::Bootp);
    }
    let mut query = Query {
        header,
        payload,
        slots: [None; KEPT.len()],
        joined: [0; JOINED_CAPACITY],
        message: MessageType::Other(0),
        mac,
    };
    query.read_options()?;
    let message = query.fixed::<1>(code::MESSAGE_TYPE)?.ok_or(Reason::Bootp)?;
    query.message = MessageType::from(message[0]);
    query.fixed::<4>(code::REQUESTED_ADDRESS)?;
    query.fixed::<4>(code::SERVER_ID)?;
    Ok(query)
}

impl<'a> Query<'a> {
    fn read_options(&mut self) -> Result<(), Reason> {
        let mut overload = 0;
        let mut split = 0_u16;
        self.read_field(field::OPTIONS..self.payload.len(), &mut overload, &mut split)?;
        // RFC 2131 §4.1: `file` is read before `sname`. An overload option inside them is ignored.
        let said = overload;
        if said & 1 != 0 {
            self.read_field(field::FILE, &mut overload, &mut split)?;
        }
        if said & 2 != 0 {
            self.read_field(field::SNAME, &mut overload, &mut split)?;
        }
        if split != 0 { self.join(split, said) } else { Ok(()) }
    }

    /// Notes the places of the options of one field, and in `split` those that have come before.
    fn read_field(&mut self, range: Range<usize>, overload: &mut u8, split: &mut u16) -> Result<(), Reason> {
        for option in Options::new(self.payload, range) {
            let (code, value) = match option {
                Ok(option) => option,
                Err(code::REQUESTED_ADDRESS | code::MESSAGE_TYPE | code::SERVER_ID) => {
                    return Err(Reason::BrokenOption);
                }
                Err(_) => return Ok(()),
            };
            if let (code::OVERLOAD, [said @ 1..=3]) = (code, &self.payload[value.clone()]) {
                *overload = *said;
            }
            let Some(index) = kept(code) else { continue };
            let slot = Slot { start: value.start as u16, end: value.end as u16, joined: false };
            match self.slots[index] {
                None => self.slots[index] = Some(slot),
                Some(first) if has_one_value(code) => {
                    if self.payload[usize::from(first.start)..usize::from(first.end)] != self.payload[value] {
                        return Err(Reason::Contradiction);
                    }
                }
                Some(_) => *split |= 1 << index,
            }
        }
        Ok(())
    }

    /// Joins the options that came in pieces (RFC 3396 §5).
    fn join(&mut self, split: u16, overload: u8) -> Result<(), Reason> {
        let mut used = 0;
        let fields = [
            (true, field::OPTIONS..self.payload.len()),
            (overload & 1 != 0, field::FILE),
            (overload & 2 != 0, field::SNAME),
        ];
        for (index, &wanted) in KEPT.iter().enumerate() {
            if split & (1 << index) == 0 {
                continue;
            }
            let start = used;
            for (_, range) in fields.iter().filter(|(holds_options, _)| *holds_options) {
                for (code, value) in Options::new(self.payload, range.clone()).map_while(Result::ok) {
                    if code == wanted {
                        let end = used + value.len();
                        let room = self.joined.get_mut(used..end).ok_or(Reason::BrokenOption)?;
                        room.copy_from_slice(&self.payload[value]);
                        used = end;
                    }
                }
            }
            self.slots[index] = Some(Slot { start: start as u16, end: used as u16, joined: true });
        }
        Ok(())
    }

    /// Returns the whole value of an option, if it is one that is read.
    #[must_use]
    pub fn option(&self, code: u8) -> Option<&[u8]> {
        let slot = self.slots[kept(code)?]?;
        let bytes: &[u8] = if slot.joined { &self.joined } else { self.payload };
        bytes.get(usize::from(slot.start)..usize::from(slot.end))
    }

    fn fixed<const N: usize>(&self, code: u8) -> Result<Option<[u8; N]>, Reason> {
        self.option(code).map(|value| value.try_into().map_err(|_| Reason::BrokenOption)).transpose()
    }

    fn address_option(&self, code: u8) -> Option<Ipv4Addr> {
        self.fixed::<4>(code).ok().flatten().map(Ipv4Addr::from)
    }

    /// Returns option 53.
    #[must_use]
    pub const fn message(&self) -> MessageType {
        self.message
    }

    /// Returns `chaddr`, which is neither zero nor a group address.
    #[must_use]
    pub const fn mac(&self) -> MacAddr {
        self.mac
    }

    /// Returns the number of the transaction.
    #[must_use]
    pub fn xid(&self) -> u32 {
        u32::from_be_bytes(array(&self.header[field::XID]))
    }

    /// Returns the seconds since the client began to ask, as it says.
    #[must_use]
    pub fn secs(&self) -> u16 {
        u16::from_be_bytes(array(&self.header[field::SECS]))
    }

    /// Returns `ciaddr`; unspecified if the client has no address.
    #[must_use]
    pub fn ciaddr(&self) -> Ipv4Addr {
        address(&self.header[field::CIADDR])
    }

    /// Returns `giaddr`; unspecified if no relay forwarded the message.
    #[must_use]
    pub fn giaddr(&self) -> Ipv4Addr {
        address(&self.header[field::GIADDR])
    }

    /// Returns `flags`.
    #[must_use]
    pub fn flags(&self) -> u16 {
        u16::from_be_bytes(array(&self.header[field::FLAGS]))
    }

    /// Returns `true` if the client cannot receive unicast before it has its address.
    #[must_use]
    pub fn wants_broadcast(&self) -> bool {
        self.flags() & BROADCAST_FLAG != 0
    }

    /// Returns option 50.
    #[must_use]
    pub fn requested_address(&self) -> Option<Ipv4Addr> {
        self.address_option(code::REQUESTED_ADDRESS)
    }

    /// Returns option 54.
    #[must_use]
    pub fn server_id(&self) -> Option<Ipv4Addr> {
        self.address_option(code::SERVER_ID)
    }

    /// Returns option 118 (RFC 3011).
    #[must_use]
    pub fn subnet_selection(&self) -> Option<Ipv4Addr> {
        self.address_option(code::SUBNET_SELECTION)
    }

    /// Returns `true` if the client wants this option: option 55 lists it, or is absent.
    #[must_use]
    pub fn wants(&self, code: u8) -> bool {
        self.option(code::PARAMETERS).is_none_or(|list| list.contains(&code))
    }

    /// Returns option 57, the length of an IP datagram in bytes, raised to 576 if it is smaller.
    #[must_use]
    pub fn maximum_size(&self) -> Option<u16> {
        let bytes = self.fixed::<2>(code::MAXIMUM_SIZE).ok().flatten()?;
        Some(u16::from_be_bytes(bytes).max(576))
    }

    /// Returns the BOOTP header.
    #[must_use]
    pub const fn header(&self) -> &'a [u8; field::OPTIONS] {
        self.header
    }
}

/// Returns `true` for an option whose second instance cannot continue the first.
const fn has_one_value(code: u8) -> bool {
    matches!(code, code::REQUESTED_ADDRESS | code::MESSAGE_TYPE | code::SERVER_ID)
}

/// The index of each code in [`KEPT`], or one beyond its end.
const INDEX: [u8; 256] = {
    let mut table = [u8::MAX; 256];
    let mut index = 0;
    while index < KEPT.len() {
        table[KEPT[index] as usize] = index as u8;
        index += 1;
    }
    table
};

fn kept(code: u8) -> Option<usize> {
    Some(usize::from(INDEX[usize::from(code)])).filter(|&index| index < KEPT.len())
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.first_chunk().copied().unwrap_or([0; N])
}

fn address(bytes: &[u8]) -> Ipv4Addr {
    Ipv4Addr::from(array::<4>(bytes))
}

/// Iterates over the options of one field: the code, and the range of the value in the packet. A value that exceeds the field
/// yields its code as an error, and ends the iteration.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Options<'a> {
    /// Iterates over the options in `range` of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8], range: Range<usize>) -> Self {
        Self { bytes, at: range.start, end: range.end.min(bytes.len()) }
    }
}

impl Iterator for Options<'_> {
    type Item = Result<(u8, Range<usize>), u8>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.at < self.end {
            let code = *self.bytes.get(self.at)?;
            match code {
                code::PAD => self.at += 1,
                code::END => self.at = self.end,
                _ => {
                    let start = self.at + 2;
                    let length = if start <= self.end { self.bytes.get(self.at + 1) } else { None };
                    let value = length.map(|&length| start..start + usize::from(length));
                    return match value {
                        Some(value) if value.end <= self.end => {
                            self.at = value.end;
                            Some(Ok((code, value)))
                        }
                        _ => {
                            self.at = self.end;
                            Some(Err(code))
                        }
                    };
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
