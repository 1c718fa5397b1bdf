//! Blocks of pcapng files (draft-ietf-opsawg-pcapng), in little-endian byte order.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The type of a Section Header Block (§4.1).
pub const SECTION_HEADER: u32 = 0x0a0d_0d0a;
/// The type of an Interface Description Block (§4.2).
pub const INTERFACE_DESCRIPTION: u32 = 1;
/// The type of a Name Resolution Block (§4.5).
pub const NAME_RESOLUTION: u32 = 4;
/// The type of an Interface Statistics Block (§4.6).
pub const INTERFACE_STATISTICS: u32 = 5;
/// The type of an Enhanced Packet Block (§4.3).
pub const ENHANCED_PACKET: u32 = 6;

/// The value by which a reader tells the byte order.
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
/// LINKTYPE_ETHERNET.
const ETHERNET: u16 = 1;
/// Times are in units of 10⁻⁹ s.
const NANOSECONDS: u8 = 9;
/// The options of every block (§3.5).
const END_OF_OPTIONS: u16 = 0;
const COMMENT: u16 = 1;
/// The longest value of an option.
const LONGEST_OPTION: usize = u16::MAX as usize;

/// The direction of a packet, as the two lowest bits of `epb_flags` (§4.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Direction {
    /// Received.
    Inbound = 1,
    /// Sent.
    Outbound = 2,
}

/// The content of an Enhanced Packet Block.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// The index of the interface in the file.
    pub interface: u32,
    /// The time of the packet.
    pub at: SystemTime,
    /// Its direction.
    pub direction: Direction,
    /// Its length on the link.
    pub length: u32,
    /// Its bytes, as far as they are kept.
    pub bytes: &'a [u8],
    /// A comment, or nothing.
    pub comment: &'a str,
}

/// The content of an Interface Statistics Block.
#[derive(Clone, Copy, Debug)]
pub struct Statistics<'a> {
    /// The index of the interface in the file.
    pub interface: u32,
    /// The time of the counts.
    pub at: SystemTime,
    /// The time of the beginning.
    pub since: SystemTime,
    /// The packets that came by, written or not.
    pub received: u64,
    /// The packets that are missing in the file.
    pub dropped: u64,
    /// A comment, or nothing.
    pub comment: &'a str,
}

/// Writes the beginning of a file: the program, the operating system, and a comment.
pub fn section_header(out: &mut Vec<u8>, application: &str, system: &str, comment: &str) {
    block(out, SECTION_HEADER, |body| {
        body.extend_from_slice(&BYTE_ORDER_MAGIC.to_le_bytes());
        // Version 1.0, and a length of the section that is not known.
        body.extend_from_slice(&[1, 0, 0, 0]);
        body.extend_from_slice(&[0xff; 8]);
        text(body, COMMENT, comment);
        text(body, 3, system);
        text(body, 4, application);
        end(body);
    });
}

/// Describes an Ethernet interface. The first one that is described in a file has the index 0.
pub fn interface_description(out: &mut Vec<u8>, name: &str, description: &str) {
    block(out, INTERFACE_DESCRIPTION, |body| {
        body.extend_from_slice(&ETHERNET.to_le_bytes());
        // Reserved, and no limit of the length.
        body.extend_from_slice(&[0; 2]);
        body.extend_from_slice(&[0; 4]);
        text(body, 2, name);
        text(body, 3, description);
        option(body, 9, &[NANOSECONDS]);
        end(body);
    });
}

/// Writes a block that says nothing: names of no addresses.
pub fn nothing(out: &mut Vec<u8>) {
    // The end of the names, which is the end of the options, too.
    block(out, NAME_RESOLUTION, end);
}

/// Writes a packet.
pub fn enhanced_packet(out: &mut Vec<u8>, packet: &Packet<'_>) {
    let Packet { interface, at, direction, length, bytes, comment } = *packet;
    let kept = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    block(out, ENHANCED_PACKET, |body| {
        body.extend_from_slice(&interface.to_le_bytes());
        time(body, at);
        body.extend_from_slice(&kept.to_le_bytes());
        body.extend_from_slice(&length.max(kept).to_le_bytes());
        body.extend_from_slice(bytes);
        pad(body);
        text(body, COMMENT, comment);
        option(body, 2, &(direction as u32).to_le_bytes());
        end(body);
    });
}

/// Writes the counts of an interface. The last block of an interface counts.
pub fn interface_statistics(out: &mut Vec<u8>, statistics: &Statistics<'_>) {
    let Statistics { interface, at, since, received, dropped, comment } = *statistics;
    block(out, INTERFACE_STATISTICS, |body| {
        body.extend_from_slice(&interface.to_le_bytes());
        time(body, at);
        text(body, COMMENT, comment);
        for (code, at) in [(2, since), (3, at)] {
            let mut value = Vec::with_capacity(8);
            time(&mut value, at);
            option(body, code, &value);
        }
        // Received by the interface, lost by the system that captures, written.
        for (code, count) in [(4, received), (7, dropped), (8, received.saturating_sub(dropped))] {
            option(body, code, &count.to_le_bytes());
        }
        end(body);
    });
}

fn block(out: &mut Vec<u8>, kind: u32, write_body: impl FnOnce(&mut Vec<u8>)) {
    let mut body = Vec::new();
    write_body(&mut body);
    pad(&mut body);
    let length = u32::try_from(body.len() + 12).unwrap_or(u32::MAX).to_le_bytes();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&length);
    out.append(&mut body);
    out.extend_from_slice(&length);
}

/// Fills up to 32 bits.
fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

/// Writes a time as the high and the low half of a number.
fn time(body: &mut Vec<u8>, at: SystemTime) {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let [a, b, c, d, e, f, g, h] = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX).to_le_bytes();
    body.extend_from_slice(&[e, f, g, h, a, b, c, d]);
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = value.get(..LONGEST_OPTION).unwrap_or(value);
    body.extend_from_slice(&code.to_le_bytes());
    body.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
    body.extend_from_slice(value);
    pad(body);
}

/// Writes an option with a text, unless it is empty.
fn text(body: &mut Vec<u8>, code: u16, text: &str) {
    if !text.is_empty() {
        let text = text.get(..text.floor_char_boundary(LONGEST_OPTION)).unwrap_or_default();
        option(body, code, text.as_bytes());
    }
}

fn end(body: &mut Vec<u8>) {
    option(body, END_OF_OPTIONS, &[]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::capture::blocks;

    fn at(nanoseconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(nanoseconds)
    }

    /// Every block, byte by byte.
    #[test]
    fn blocks_have_the_bytes_of_the_draft() {
        let mut section = Vec::new();
        section_header(&mut section, "pxed", "Linux", "hi");
        let mut interface = Vec::new();
        interface_description(&mut interface, "eth0", "");
        let mut packet = Vec::new();
        let time = at(0x1122_3344_5566_7788);
        let (direction, bytes) = (Direction::Outbound, &[1, 2, 3, 4, 5][..]);
        enhanced_packet(&mut packet, &Packet { interface: 7, at: time, direction, length: 9, bytes, comment: "é" });
        let mut statistics = Vec::new();
        let (received, dropped) = (0x0a, 3);
        let counts = Statistics { interface: 1, at: time, since: at(1), received, dropped, comment: "" };
        interface_statistics(&mut statistics, &counts);
        let mut none = Vec::new();
        nothing(&mut none);
        #[rustfmt::skip]
        let cases: [(&str, Vec<u8>, &[u8]); 5] = [
            ("no names", none, &[4, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0]),
            ("section header", section, &[
                0x0a, 0x0d, 0x0d, 0x0a, 60, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0,
                0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                1, 0, 2, 0, b'h', b'i', 0, 0,
                3, 0, 5, 0, b'L', b'i', b'n', b'u', b'x', 0, 0, 0,
                4, 0, 4, 0, b'p', b'x', b'e', b'd',
                0, 0, 0, 0, 60, 0, 0, 0,
            ]),
            ("interface description", interface, &[
                1, 0, 0, 0, 40, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0,
                2, 0, 4, 0, b'e', b't', b'h', b'0',
                9, 0, 1, 0, 9, 0, 0, 0,
                0, 0, 0, 0, 40, 0, 0, 0,
            ]),
            ("enhanced packet", packet, &[
                6, 0, 0, 0, 60, 0, 0, 0, 7, 0, 0, 0,
                0x44, 0x33, 0x22, 0x11, 0x88, 0x77, 0x66, 0x55,
                5, 0, 0, 0, 9, 0, 0, 0, 1, 2, 3, 4, 5, 0, 0, 0,
                1, 0, 2, 0, 0xc3, 0xa9, 0, 0,
                2, 0, 4, 0, 2, 0, 0, 0,
                0, 0, 0, 0, 60, 0, 0, 0,
            ]),
            ("interface statistics", statistics, &[
                5, 0, 0, 0, 88, 0, 0, 0, 1, 0, 0, 0,
                0x44, 0x33, 0x22, 0x11, 0x88, 0x77, 0x66, 0x55,
                2, 0, 8, 0, 0, 0, 0, 0, 1, 0, 0, 0,
                3, 0, 8, 0, 0x44, 0x33, 0x22, 0x11, 0x88, 0x77, 0x66, 0x55,
                4, 0, 8, 0, 0x0a, 0, 0, 0, 0, 0, 0, 0,
                7, 0, 8, 0, 3, 0, 0, 0, 0, 0, 0, 0,
                8, 0, 8, 0, 7, 0, 0, 0, 0, 0, 0, 0,
                0, 0, 0, 0, 88, 0, 0, 0,
            ]),
        ];
        for (name, written, expected) in cases {
            assert_eq!(written, expected, "{name}");
        }
    }

    proptest! {
        /// Whatever a packet and its comment are, the block says its own length twice, and others follow it.
        #[test]
        fn packet_of_any_content_is_one_block(
            bytes in prop::collection::vec(any::<u8>(), 0..2000),
            comment in ".{0,80}",
            repeated in 1_usize..2000,
            nanoseconds in any::<u64>(),
        ) {
            let comment = comment.repeat(repeated);
            let mut out = Vec::new();
            let (direction, length) = (Direction::Inbound, 1);
            let packet =
                Packet { interface: 0, at: at(nanoseconds), direction, length, bytes: &bytes, comment: &comment };
            enhanced_packet(&mut out, &packet);
            prop_assert_eq!(out.len() % 4, 0);
            prop_assert_eq!(&out[4..8], &out[out.len() - 4..]);
            prop_assert_eq!(blocks::whole(&out).unwrap(), out.len());
            // The length on the link is never less than what is kept of it.
            prop_assert_eq!(&out[20..24], &u32::try_from(bytes.len()).unwrap().to_le_bytes());
            prop_assert!(u32::from_le_bytes(out[24..28].try_into().unwrap()) as usize >= bytes.len());
        }
    }
}
