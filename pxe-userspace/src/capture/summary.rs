//! A capture as text: a line for each frame, for reports. Pure.

use std::{
    fmt::Write as _,
    net::Ipv4Addr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pxe_common::{
    bootp::{BOOT_SERVER_PORT, SERVER_PORT, field},
    frame::{IPV4_LENGTH, PROTOCOL_UDP, UDP_LENGTH, ethertype},
};

use super::{
    pcapng::ENHANCED_PACKET,
    selection::{ARP, TCP, network_layer},
};

/// The bytes of the first line of a request that are shown.
const LINE: usize = 200;

/// A frame of a capture in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The time.
    pub at: SystemTime,
    /// The way, the length and the content.
    pub text: String,
    /// pxed's decision, or nothing.
    pub comment: String,
}

/// Returns the frames of a file that pxed has written. What is not one of its blocks is passed over.
#[must_use]
pub fn lines(file: &[u8]) -> Vec<Line> {
    let (mut rest, mut lines) = (file, Vec::new());
    while let Some(length) = word(rest, 4).filter(|length| *length >= 12) {
        let Some((block, others)) = rest.split_at_checked(length) else { break };
        if word(block, 0) == Some(ENHANCED_PACKET as usize) {
            lines.extend(line(block));
        }
        rest = others;
    }
    lines
}

fn line(block: &[u8]) -> Option<Line> {
    let time = |at| u32::try_from(word(block, at)?).ok().map(u64::from);
    let at = UNIX_EPOCH.checked_add(Duration::from_nanos(time(12)? << 32 | time(16)?))?;
    let (kept, length) = (word(block, 20)?, word(block, 24)?);
    let bytes = block.get(28..28_usize.checked_add(kept)?)?;
    let (mut comment, mut way) = (String::new(), "");
    let mut options = block.get(28 + kept.checked_next_multiple_of(4)?..)?;
    while let [a, b, c, d, rest @ ..] = options {
        let (code, size) = (u16::from_le_bytes([*a, *b]), usize::from(u16::from_le_bytes([*c, *d])));
        let Some(value) = rest.get(..size) else { break };
        match code {
            0 => break,
            1 => comment = String::from_utf8_lossy(value).into_owned(),
            2 => way = if value.first() == Some(&1) { "in " } else { "out" },
            _ => {}
        }
        options = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(Line { at, text: format!("{way} {length:>5} B  {}", content(bytes)), comment })
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?)).ok()
}

/// Returns the content of a frame in words.
fn content(frame: &[u8]) -> String {
    in_words(frame).unwrap_or_else(|| "a malformed frame".to_owned())
}

fn in_words(frame: &[u8]) -> Option<String> {
    let (start, kind) = network_layer(frame)?;
    let packet = frame.get(start..)?;
    if kind == ARP {
        return Some("ARP".to_owned());
    }
    if kind != ethertype::IPV4 {
        return Some(format!("EtherType {kind:#06x}"));
    }
    let ip = packet.first_chunk::<IPV4_LENGTH>()?;
    let header = usize::from(ip[0] & 15) * 4;
    let address = |at: usize| Some(Ipv4Addr::from(*packet.get(at..)?.first_chunk::<4>()?));
    let port = |at: usize| Some(u16::from_be_bytes(*packet.get(header + at..)?.first_chunk()?));
    let (source, destination) = (address(12)?, address(16)?);
    if ![TCP, PROTOCOL_UDP].contains(&ip[9]) {
        return Some(format!("IP protocol {}  {source} → {destination}", ip[9]));
    }
    let (from, to) = (port(0)?, port(2)?);
    let tags = if start > 14 { " with a VLAN tag" } else { "" };
    let mut text = format!("{source}:{from} → {destination}:{to}{tags}  ");
    if ip[9] == TCP {
        let payload = packet.get(header + usize::from(packet.get(header + 12)? >> 4) * 4..)?;
        let end = payload.iter().position(|byte| *byte == b'\r').unwrap_or(0).min(LINE);
        text.push_str(if end == 0 { "TCP" } else { "HTTP " });
        text.push_str(&printable(&payload[..end]));
        return Some(text);
    }
    let payload = packet.get(header + UDP_LENGTH..)?;
    let is_server = |port| [SERVER_PORT, BOOT_SERVER_PORT].contains(&port);
    // Writing to a string cannot fail.
    let _ = match payload {
        _ if is_server(from) || is_server(to) => write!(text, "DHCP {}", dhcp(payload).unwrap_or("without a type")),
        [0, 1, path @ ..] => {
            let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len()).min(LINE);
            write!(text, "TFTP RRQ {}", printable(&path[..end]))
        }
        [0, opcode @ (3 | 4), a, b, ..] => {
            write!(text, "TFTP {} {}", if *opcode == 3 { "DATA" } else { "ACK" }, u16::from_be_bytes([*a, *b]))
        }
        [0, 5, ..] => write!(text, "TFTP ERROR"),
        [0, 6, ..] => write!(text, "TFTP OACK"),
        _ => write!(text, "UDP"),
    };
    Some(text)
}

/// Returns the message type (option 53).
fn dhcp(message: &[u8]) -> Option<&'static str> {
    let mut options = message.get(field::COOKIE.end..)?;
    loop {
        match options {
            [0, rest @ ..] => options = rest,
            [53, 1, kind, ..] => {
                let names = ["DISCOVER", "OFFER", "REQUEST", "DECLINE", "ACK", "NAK", "RELEASE", "INFORM"];
                return names.get(usize::from(kind.checked_sub(1)?)).copied();
            }
            [code, length, rest @ ..] if *code != 255 => options = rest.get(usize::from(*length)..)?,
            _ => return None,
        }
    }
}

fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;
    use pxe_common::testing::FrameBuilder;

    use super::*;
    use crate::capture::pcapng::{Direction, Packet, enhanced_packet, interface_description, section_header};

    fn file(frames: &[&[u8]]) -> Vec<u8> {
        let mut file = Vec::new();
        section_header(&mut file, "pxed", "", "");
        interface_description(&mut file, "eth0", "");
        for bytes in frames {
            let (at, direction, length) = (UNIX_EPOCH + Duration::from_nanos(1 << 40), Direction::Inbound, 9);
            enhanced_packet(&mut file, &Packet { interface: 0, at, direction, length, bytes, comment: "why" });
        }
        file
    }

    #[test]
    fn frames_are_told_in_words() {
        let builder = || PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 5], [10, 0, 0, 1], 64);
        let udp = |port, payload: &[u8]| {
            let mut frame = Vec::new();
            builder().udp(1024, port).write(&mut frame, payload).unwrap();
            frame
        };
        let tcp = |payload: &[u8]| {
            let mut frame = Vec::new();
            builder().tcp(5000, 8000, 1, 1).write(&mut frame, payload).unwrap();
            frame
        };
        for (frame, expected) in [
            (FrameBuilder::default().build(), "DHCP DISCOVER"),
            (udp(69, b"\0\x01ipxe.efi\0octet\0"), "10.0.0.5:1024 → 10.0.0.1:69  TFTP RRQ ipxe.efi"),
            (udp(4000, b"\0\x03\x01\x02data"), "TFTP DATA 258"),
            (udp(4000, b"\0\x04\0\x02"), "TFTP ACK 2"),
            (udp(4000, b"\0\x06x"), "TFTP OACK"),
            (udp(53, b"x"), "UDP"),
            (tcp(b"GET /boot.ipxe HTTP/1.1\r\nhost: a\r\n"), "HTTP GET /boot.ipxe HTTP/1.1"),
            (tcp(b""), "TCP"),
            (vec![1; 10], "a malformed frame"),
        ] {
            let lines = lines(&file(&[&frame]));
            assert_eq!(lines.len(), 1);
            let Line { at, text, comment } = &lines[0];
            assert!(text.starts_with("in ") && text.ends_with(expected), "{text}");
            assert_eq!((at, comment.as_str()), (&(UNIX_EPOCH + Duration::from_nanos(1 << 40)), "why"));
        }
    }

    proptest! {
        #[test]
        fn anything_is_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0_usize..600, byte in any::<u8>()) {
            let _ = lines(&bytes);
            let _ = content(&bytes);
            let mut file = file(&[&bytes, &FrameBuilder::default().build()]);
            if let Some(place) = file.get_mut(at) {
                *place = byte;
            }
            let _ = lines(&file);
        }
    }
}
