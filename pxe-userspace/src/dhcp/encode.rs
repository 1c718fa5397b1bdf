//! Writes a reply as bytes, in place.
//!
//! The order of options matters:
//!
//! - The most important options come first, so that the least important ones are left out if there is too little room.
//! - Option 67 comes after all other options for the client, if everything finds room: EDK2 overwrites the byte after the boot
//!   file's name with a NUL, in its own copy of the packet, and then continues reading there.
//! - Options 66 and 67 are followed by a PAD byte: some ROMs read them as C strings, which end at the first NUL.
//! - Option 82 comes last in the options field, as RFC 3046 §2.2 requires. Relay agents look for it nowhere else.
//!
//! Room is used as follows ([`Layout`]): an option that does not fit into the options field is written whole into `file`, else into
//! `sname`, and option 52 says so. `sname` is given up for options before `file`, since option 66 and `siaddr` say the same as
//! `sname` does. If `file` holds options, only option 67 names the boot file.

use std::{fmt::Write as _, ops::Range};

use arrayvec::ArrayString;

use super::{
    answer::{Network, Reply, VendorOptions},
    decode::Query,
    reason::Reason,
    wire::{IP_UDP_HEADERS, MINIMUM_LENGTH, code},
};
use crate::net::prefix;
use pxe_common::bootp::{MAGIC_COOKIE, field};

/// The longest message that one Ethernet frame carries.
pub const MAXIMUM_LENGTH: usize = 1500 - IP_UDP_HEADERS;

/// The room that is reserved for option 52 in the options field.
const OVERLOAD_ROOM: usize = 3;
/// The most DNS servers that one option holds.
const DNS_SERVERS: usize = 63;

/// Sub-option 6 of option 43, PXE_DISCOVERY_CONTROL: bit 3, "download the boot file that is named".
const NO_DISCOVERY: [u8; 4] = [6, 1, 8, 255];
/// The menu with one item that a Raspberry Pi 3 or 4 requires: control, menu (item 0, 17 bytes), prompt.
const RASPBERRY_PI_MENU: &[u8] = b"\x06\x01\x08\x09\x14\x00\x00\x11Raspberry Pi Boot\x0a\x04\x00PXE\xff";
/// Option 175 for iPXE: `no-pxedhcp` = 1.
const NO_PROXY_DHCP: [u8; 3] = [176, 1, 1];

/// The use of the header fields `sname` and `file`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Both say what their names say.
    Named,
    /// `sname` has room for options.
    FreeSname,
    /// Both have room for options.
    FreeBoth,
}

/// The options that found room, from none to all of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// Even options without which the reply is useless are missing.
    Useless,
    /// Those that identify the client or repeat something, and convenient ones, are missing.
    Bare,
    /// Only convenient ones are missing.
    Ample,
    /// None is missing.
    Complete,
}

/// Writes the reply to the beginning of `out`. Returns its length, which is at least 300 bytes and at most what the client accepts
/// (option 57, else 576 with the IP and UDP headers).
///
/// If the relay's information leaves no room for the essential options, the reply is longer, by that information at most: the relay
/// removes it before the client gets the reply.
///
/// # Errors
///
/// [`Reason::NoRoom`] if `out` is too small, or if the essential options do not fit into [`MAXIMUM_LENGTH`] bytes.
pub fn encode(reply: &Reply<'_>, query: &Query<'_>, out: &mut [u8]) -> Result<usize, Reason> {
    let accepted = usize::from(query.maximum_size().unwrap_or(576)) - IP_UDP_HEADERS;
    let relay_information = query.option(code::RELAY_INFORMATION).map_or(0, encoded_length);
    for limit in [accepted, accepted + relay_information] {
        let limit = limit.min(MAXIMUM_LENGTH).min(out.len());
        let out = out.get_mut(..limit).filter(|out| out.len() >= MINIMUM_LENGTH).ok_or(Reason::NoRoom)?;
        let mut best = (Fit::Useless, Layout::FreeSname);
        for layout in [Layout::Named, Layout::FreeSname, Layout::FreeBoth] {
            let (length, fit) = write(reply, query, out, layout);
            if fit == Fit::Complete {
                return Ok(length);
            }
            // With everything named, less finds room than with `sname` free.
            if fit > best.0 && layout != Layout::Named {
                best = (fit, layout);
            }
        }
        if best.0 > Fit::Useless {
            return Ok(write(reply, query, out, best.1).0);
        }
    }
    Err(Reason::NoRoom)
}

/// Makes one attempt. Returns the length, and the options that found room.
fn write(reply: &Reply<'_>, query: &Query<'_>, out: &mut [u8], layout: Layout) -> (usize, Fit) {
    let boot = &reply.boot;
    let mut server_name = ArrayString::<15>::new();
    if boot.by_tftp {
        // Fifteen bytes hold any IPv4 address.
        let _ = write!(server_name, "{}", boot.server);
    }
    write_header(reply, query, out);
    let sname_is_free = server_name.is_empty() || layout != Layout::Named;
    let file_is_free = boot.name.is_empty() || layout == Layout::FreeBoth;
    let terminated = boot.vendor_options != VendorOptions::RaspberryPi;
    let relay_information = query.option(code::RELAY_INFORMATION);
    let boot_file = Some(boot.name.as_bytes()).filter(|name| !name.is_empty());
    // The boot file is the last option for the client, unless that would drive others out of the options field.
    let last = boot_file.filter(|_| layout == Layout::Named);
    let reserved = OVERLOAD_ROOM
        + relay_information.map_or(0, encoded_length)
        + last.map_or(0, |name| encoded_length(name) + usize::from(terminated))
        + 1;
    // The message type is always the first option of the options field, however much a relay wants back.
    let room = field::OPTIONS + encoded_length(&[0]);
    let Some(end) = out.len().checked_sub(reserved).filter(|&end| end >= room) else { return (0, Fit::Useless) };
    let mut writer = Writer {
        main: field::OPTIONS..end,
        file: if file_is_free { field::FILE } else { 0..0 },
        sname: if sname_is_free { field::SNAME } else { 0..0 },
        overload: 0,
        fit: Fit::Complete,
        without: Fit::Useless,
        terminated,
        out,
    };
    write_essential(reply, query, boot_file.filter(|_| layout == Layout::FreeBoth), &mut writer);
    // Without these, clients boot all the same.
    writer.without = Fit::Bare;
    if let Some(name) = boot_file
        && layout == Layout::FreeSname
    {
        writer.put_text(code::BOOT_FILE, name);
    }
    write_repeated(reply, query, server_name.as_bytes(), &mut writer);
    writer.without = Fit::Ample;
    if let Some(reason) = reply.reason {
        writer.put(code::MESSAGE, reason.as_bytes());
    } else if let Some(network) = &reply.network {
        write_conveniences(network, query, &mut writer);
    }
    let fit = writer.fit;
    // A field without options says what its name says.
    if writer.overload & 1 == 0 {
        writer.put_field(field::FILE, boot.name.as_bytes());
    }
    if writer.overload & 2 == 0 {
        writer.put_field(field::SNAME, server_name.as_bytes());
    }
    (writer.finish(last, relay_information), fit)
}

/// Writes the header fields of RFC 2131 §4.3.1 table 3.
fn write_header(reply: &Reply<'_>, query: &Query<'_>, out: &mut [u8]) {
    out[..field::OPTIONS].fill(0);
    out[field::OP] = 2;
    out[field::HTYPE] = 1;
    out[field::HLEN] = 6;
    for copied in [field::XID, field::GIADDR, field::CHADDR] {
        out[copied.clone()].copy_from_slice(&query.header()[copied]);
    }
    out[field::FLAGS].copy_from_slice(&reply.flags.to_be_bytes());
    out[field::CIADDR].copy_from_slice(&reply.ciaddr.octets());
    out[field::YIADDR].copy_from_slice(&reply.yiaddr.octets());
    out[field::SIADDR].copy_from_slice(&reply.boot.server.octets());
    out[field::COOKIE].copy_from_slice(&MAGIC_COOKIE);
}

/// Writes the options without which a client does not boot: an address is useless without its mask, and a server in another
/// network without a router. The vendor class comes early, in the options field, since that is how a client recognises an offer.
fn write_essential(reply: &Reply<'_>, query: &Query<'_>, boot_file: Option<&[u8]>, writer: &mut Writer<'_>) {
    writer.put(code::MESSAGE_TYPE, &[reply.message.into()]);
    writer.put(code::SERVER_ID, &reply.server_id.octets());
    let Reply { network, boot, .. } = reply;
    writer.put_some(code::VENDOR_CLASS, boot.vendor_class.map(str::as_bytes));
    if let Some(network) = network {
        if let Some(lease_seconds) = network.lease_seconds {
            writer.put(code::LEASE_SECONDS, &lease_seconds.to_be_bytes());
        }
        if let Some(prefix_length) = network.prefix_length {
            writer.put(code::SUBNET_MASK, &prefix::mask(prefix_length).octets());
        }
        if let Some(router) = network.router
            && query.wants(code::ROUTER)
        {
            writer.put(code::ROUTER, &router.octets());
        }
    }
    match boot.vendor_options {
        VendorOptions::None => {}
        VendorOptions::NoDiscovery => writer.put(code::VENDOR_SPECIFIC, &NO_DISCOVERY),
        VendorOptions::RaspberryPi => writer.put(code::VENDOR_SPECIFIC, RASPBERRY_PI_MENU),
    }
    if let Some(name) = boot_file {
        writer.put_text(code::BOOT_FILE, name);
    }
}

/// Writes what the client has said itself, and what other fields say too.
fn write_repeated(reply: &Reply<'_>, query: &Query<'_>, server_name: &[u8], writer: &mut Writer<'_>) {
    // RFC 6842 §3: the client identifier is returned unaltered.
    writer.put_some(code::CLIENT_ID, query.option(code::CLIENT_ID));
    // RFC 2131 table 3: a DHCPNAK has nothing else.
    if reply.reason.is_some() {
        return;
    }
    if !server_name.is_empty() {
        writer.put_text(code::TFTP_SERVER, server_name);
    }
    // RFC 4578 §2.3: the machine identifier is returned, too.
    writer.put_some(code::MACHINE_ID, query.option(code::MACHINE_ID));
    if reply.boot.no_proxy_dhcp {
        writer.put(code::IPXE, &NO_PROXY_DHCP);
    }
}

/// Writes those of the network's other parameters that the client wants.
fn write_conveniences(network: &Network<'_>, query: &Query<'_>, writer: &mut Writer<'_>) {
    let Network { lease_seconds, address, prefix_length, machine, router: _ } = *network;
    let mut wanted = |code, value: &[u8]| {
        if query.wants(code) {
            writer.put(code, value);
        }
    };
    if !machine.dns_servers.is_empty() {
        let mut octets = [0; 4 * DNS_SERVERS];
        let servers = machine.dns_servers.iter().take(DNS_SERVERS);
        for (bytes, server) in octets.chunks_exact_mut(4).zip(servers) {
            bytes.copy_from_slice(&server.octets());
        }
        wanted(code::DNS, &octets[..4 * machine.dns_servers.len().min(DNS_SERVERS)]);
    }
    if let Some(lease) = lease_seconds {
        // RFC 2131 §4.4.5: T1 is half of the lease, T2 seven eighths.
        wanted(code::RENEWAL_SECONDS, &(lease / 2).to_be_bytes());
        wanted(code::REBINDING_SECONDS, &(lease - lease / 8).to_be_bytes());
    }
    if let Some(broadcast) = prefix_length.and_then(|length| prefix::broadcast(address, length)) {
        wanted(code::BROADCAST, &broadcast.octets());
    }
    if let Some(hostname) = &machine.hostname {
        wanted(code::HOST_NAME, hostname.as_bytes());
    }
}

/// Returns the bytes that an option takes with its headers, one for each 255 bytes of value (RFC 3396 §6).
const fn encoded_length(value: &[u8]) -> usize {
    let pieces = if value.is_empty() { 1 } else { value.len().div_ceil(255) };
    value.len() + 2 * pieces
}

/// Writes options into the room that is left in each field.
struct Writer<'o> {
    out: &'o mut [u8],
    main: Range<usize>,
    file: Range<usize>,
    sname: Range<usize>,
    overload: u8,
    fit: Fit,
    /// The most that the reply can be without the options that are being written.
    without: Fit,
    /// Text is followed by a PAD byte. The boot ROM of a Raspberry Pi mishandles PAD.
    terminated: bool,
}

impl Writer<'_> {
    /// Writes an option into the first field that has room for all of it.
    fn put(&mut self, code: u8, value: &[u8]) {
        if let Some(at) = self.room_for(encoded_length(value)) {
            put_at(self.out, at, code, value);
        }
    }

    /// Writes an option that some ROMs read as a C string.
    fn put_text(&mut self, code: u8, value: &[u8]) {
        if let Some(at) = self.room_for(encoded_length(value) + usize::from(self.terminated)) {
            put_text_at(self.out, at, code, value, self.terminated);
        }
    }

    /// Writes a text into a header field.
    fn put_field(&mut self, field: Range<usize>, text: &[u8]) {
        self.out[field][..text.len()].copy_from_slice(text);
    }

    fn put_some(&mut self, code: u8, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.put(code, value);
        }
    }

    /// Takes room in the first field that has enough of it. Returns its start.
    fn room_for(&mut self, length: usize) -> Option<usize> {
        // Overloaded fields need a byte for their end option, and a NUL for clients that read them as text all the same.
        let (room, overload) = if length <= self.main.len() {
            (&mut self.main, 0)
        } else if length + 2 <= self.file.len() {
            (&mut self.file, 1)
        } else if length + 2 <= self.sname.len() {
            (&mut self.sname, 2)
        } else {
            self.fit = self.fit.min(self.without);
            return None;
        };
        self.overload |= overload;
        let at = room.start;
        room.start += length;
        Some(at)
    }

    /// Writes the options for which room was reserved. Returns the message's length.
    fn finish(self, boot_file: Option<&[u8]>, relay_information: Option<&[u8]>) -> usize {
        let Self { out, main, file, sname, overload, terminated, .. } = self;
        let mut at = main.start;
        for (bit, room) in [(1, file), (2, sname)] {
            if overload & bit != 0 {
                out[room.start] = code::END;
            }
        }
        if overload != 0 {
            at = put_at(out, at, code::OVERLOAD, &[overload]);
        }
        if let Some(boot_file) = boot_file {
            at = put_text_at(out, at, code::BOOT_FILE, boot_file, terminated);
        }
        if let Some(relay_information) = relay_information {
            at = put_at(out, at, code::RELAY_INFORMATION, relay_information);
        }
        out[at] = code::END;
        at += 1;
        if at < MINIMUM_LENGTH {
            out[at..MINIMUM_LENGTH].fill(code::PAD);
            at = MINIMUM_LENGTH;
        }
        at
    }
}

/// Writes an option in as many pieces as it needs. Returns its end.
fn put_at(out: &mut [u8], mut at: usize, code: u8, value: &[u8]) -> usize {
    let mut rest = value;
    loop {
        let (piece, next) = rest.split_at(rest.len().min(255));
        out[at] = code;
        out[at + 1] = piece.len() as u8;
        out[at + 2..at + 2 + piece.len()].copy_from_slice(piece);
        at += 2 + piece.len();
        rest = next;
        if rest.is_empty() {
            return at;
        }
    }
}

/// Writes an option, followed by a PAD byte if it is to be terminated. Returns its end.
fn put_text_at(out: &mut [u8], at: usize, code: u8, value: &[u8], terminated: bool) -> usize {
    let end = put_at(out, at, code, value);
    if !terminated {
        return end;
    }
    out[end] = code::PAD;
    end + 1
}

#[cfg(test)]
mod tests;
