//! Writes a reply as bytes, in place.
//!
//! The order of options matters:
//!
//! - Essential options come first, so that they are never left out if there is too little room.
//! - Option 67 comes after all other options for the client: EDK2 overwrites the byte after the boot file's name with a NUL, in its
//!   own copy of the packet, and then continues reading there.
//! - Option 82 comes last, as RFC 3046 §2.2 requires.
//!
//! An option that does not fit is written whole into `file`, else into `sname`, and option 52 says so. `file` is not used if it names
//! a boot file. `sname` is used only if there is no other room, since option 66 and `siaddr` say the same as it does.

use std::{fmt::Write as _, ops::Range};

use arrayvec::ArrayString;

use super::{
    answer::{Boot, Network, Reply, VendorOptions},
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

/// Writes the reply to the beginning of `out`. Returns its length, which is at least 300 bytes and at most what the client accepts
/// (option 57, else 576 with the IP and UDP headers).
///
/// # Errors
///
/// [`Reason::NoRoom`] if `out` is too small, or if the essential options do not fit.
pub fn encode(reply: &Reply<'_>, query: &Query<'_>, out: &mut [u8]) -> Result<usize, Reason> {
    let limit = usize::from(query.maximum_size().unwrap_or(576)) - IP_UDP_HEADERS;
    let limit = limit.min(MAXIMUM_LENGTH).min(out.len());
    let out = out.get_mut(..limit).filter(|out| out.len() >= MINIMUM_LENGTH).ok_or(Reason::NoRoom)?;
    let (length, complete) = write(reply, query, out, true)?;
    if complete || !reply.boot.by_tftp {
        return Ok(length);
    }
    write(reply, query, out, false).map(|(length, _)| length)
}

/// Makes one attempt. Returns the length, and whether every option found room.
fn write(reply: &Reply<'_>, query: &Query<'_>, out: &mut [u8], fill_sname: bool) -> Result<(usize, bool), Reason> {
    let boot = &reply.boot;
    let mut server_name = ArrayString::<15>::new();
    if boot.by_tftp {
        // Fifteen bytes hold any IPv4 address.
        let _ = write!(server_name, "{}", boot.server);
    }
    let names_server = fill_sname && !server_name.is_empty();
    write_header(reply, query, out);
    if names_server {
        put_text(out, field::SNAME, server_name.as_bytes());
    }
    put_text(out, field::FILE, boot.name.as_bytes());

    let relay_information = query.option(code::RELAY_INFORMATION);
    let reserved = OVERLOAD_ROOM
        + relay_information.map_or(0, encoded_length)
        + if boot.name.is_empty() { 0 } else { encoded_length(boot.name.as_bytes()) }
        + 1;
    // The message type is always the first option of the options field, however much a relay wants back.
    let room = field::OPTIONS + encoded_length(&[0]);
    let end = out.len().checked_sub(reserved).filter(|&end| end >= room).ok_or(Reason::NoRoom)?;
    let mut writer = Writer {
        main: field::OPTIONS..end,
        file: if boot.name.is_empty() { field::FILE } else { 0..0 },
        sname: if names_server { 0..0 } else { field::SNAME },
        overload: 0,
        complete: true,
        out,
    };

    let essential = writer.put(code::MESSAGE_TYPE, &[reply.message.into()])
        && writer.put(code::SERVER_ID, &reply.server_id.octets())
        && reply.network.and_then(|network| network.lease_seconds).is_none_or(|lease_seconds| {
            writer.put(code::LEASE_SECONDS, &lease_seconds.to_be_bytes())
        })
        // RFC 6842 §3: the client identifier is returned unaltered.
        && writer.put_some(code::CLIENT_ID, query.option(code::CLIENT_ID));
    if !essential {
        return Err(Reason::NoRoom);
    }
    if let Some(reason) = reply.reason {
        writer.put(code::MESSAGE, reason.as_bytes());
    } else {
        // RFC 4578 §2.3: so is the machine identifier.
        writer.put_some(code::MACHINE_ID, query.option(code::MACHINE_ID));
        write_boot(boot, server_name.as_bytes(), &mut writer);
        if let Some(network) = &reply.network {
            write_network(network, query, &mut writer);
        }
    }
    let complete = writer.complete;
    Ok((writer.finish(boot.name.as_bytes(), relay_information), complete))
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

fn write_boot(boot: &Boot<'_>, server_name: &[u8], writer: &mut Writer<'_>) {
    writer.put_some(code::VENDOR_CLASS, boot.vendor_class.map(str::as_bytes));
    match boot.vendor_options {
        VendorOptions::None => {}
        VendorOptions::NoDiscovery => _ = writer.put(code::VENDOR_SPECIFIC, &NO_DISCOVERY),
        VendorOptions::RaspberryPi => _ = writer.put(code::VENDOR_SPECIFIC, RASPBERRY_PI_MENU),
    }
    if boot.no_proxy_dhcp {
        writer.put(code::IPXE, &NO_PROXY_DHCP);
    }
    if !server_name.is_empty() {
        writer.put(code::TFTP_SERVER, server_name);
    }
}

/// Writes the mask, without which an address is useless, and those of the other options that the client wants.
fn write_network(network: &Network<'_>, query: &Query<'_>, writer: &mut Writer<'_>) {
    let Network { lease_seconds, prefix_length, router, machine } = *network;
    writer.put(code::SUBNET_MASK, &prefix::mask(prefix_length).octets());
    let mut wanted = |code, value: &[u8]| {
        if query.wants(code) {
            writer.put(code, value);
        }
    };
    if let Some(router) = router {
        wanted(code::ROUTER, &router.octets());
    }
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
    if let Some(broadcast) = prefix::broadcast(machine.address, prefix_length) {
        wanted(code::BROADCAST, &broadcast.octets());
    }
    if let Some(hostname) = &machine.hostname {
        wanted(code::HOST_NAME, hostname.as_bytes());
    }
}

fn put_text(out: &mut [u8], field: Range<usize>, text: &[u8]) {
    let start = field.start;
    out[start..start + text.len()].copy_from_slice(text);
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
    complete: bool,
}

impl Writer<'_> {
    /// Writes an option into the first field that has room for all of it. Returns `false` if none has.
    fn put(&mut self, code: u8, value: &[u8]) -> bool {
        let length = encoded_length(value);
        // Overloaded fields need a byte for their end option.
        let (room, overload) = if length <= self.main.len() {
            (&mut self.main, 0)
        } else if length < self.file.len() {
            (&mut self.file, 1)
        } else if length < self.sname.len() {
            (&mut self.sname, 2)
        } else {
            self.complete = false;
            return false;
        };
        self.overload |= overload;
        let at = room.start;
        room.start += length;
        put_at(self.out, at, code, value);
        true
    }

    fn put_some(&mut self, code: u8, value: Option<&[u8]>) -> bool {
        value.is_none_or(|value| self.put(code, value))
    }

    /// Writes the options for which room was reserved. Returns the message's length.
    fn finish(self, boot_file: &[u8], relay_information: Option<&[u8]>) -> usize {
        let Self { out, main, file, sname, overload, .. } = self;
        let mut at = main.start;
        for (bit, room) in [(1, file), (2, sname)] {
            if overload & bit != 0 {
                out[room.start] = code::END;
            }
        }
        if overload != 0 {
            at = put_at(out, at, code::OVERLOAD, &[overload]);
        }
        if !boot_file.is_empty() {
            at = put_at(out, at, code::BOOT_FILE, boot_file);
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

#[cfg(test)]
mod tests;
