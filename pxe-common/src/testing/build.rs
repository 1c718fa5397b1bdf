//! Builds frames field by field from the RFCs, without any of the classifier's code.

use core::net::Ipv4Addr;
use std::{vec, vec::Vec};

use super::constants::KNOWN;
use crate::mac::MacAddr;

/// A frame to build. Its default is the broadcast DHCPDISCOVER of a known machine without an address.
#[derive(Clone, Debug)]
pub struct FrameBuilder {
    /// Ethernet destination.
    pub ethernet_destination: MacAddr,
    /// Ethernet source.
    pub ethernet_source: MacAddr,
    /// VLAN tags, outermost first: protocol identifier and control information of each.
    pub tags: Vec<(u16, u16)>,
    /// EtherType after the tags.
    pub ethertype: u16,
    /// IP version.
    pub version: u8,
    /// IPv4 options: a multiple of four bytes, up to 40.
    pub ip_options: Vec<u8>,
    /// IP header length in words of four bytes, if it is to be wrong.
    pub header_words: Option<u8>,
    /// IPv4 total length, if it is to be wrong.
    pub total_length: Option<u16>,
    /// Flags and fragment offset.
    pub fragment: u16,
    /// IP protocol.
    pub protocol: u8,
    /// IPv4 source.
    pub source: Ipv4Addr,
    /// IPv4 destination.
    pub destination: Ipv4Addr,
    /// UDP ports, source and destination.
    pub ports: (u16, u16),
    /// UDP length, if it is to be wrong.
    pub udp_length: Option<u16>,
    /// UDP checksum; 0 means none (RFC 768).
    pub udp_checksum: u16,
    /// BOOTP op, htype, hlen, hops.
    pub bootp: [u8; 4],
    /// The relay agent's address.
    pub giaddr: Ipv4Addr,
    /// The client's hardware address.
    pub chaddr: MacAddr,
    /// The bytes after the fixed fields: the magic cookie and the options.
    pub options: Vec<u8>,
}

impl Default for FrameBuilder {
    fn default() -> Self {
        // Cookie, DHCPDISCOVER, maximum message size, "PXEClient", end (RFC 2131 §3, RFC 2132).
        let mut options = vec![99, 130, 83, 99, 53, 1, 1, 57, 2, 5, 192, 60, 9];
        options.extend_from_slice(b"PXEClient\xff");
        // BOOTP's 300 bytes (RFC 1542 §2.1).
        options.resize(300 - 236, 0);
        Self {
            ethernet_destination: MacAddr::BROADCAST,
            ethernet_source: KNOWN,
            tags: Vec::new(),
            ethertype: 0x0800,
            version: 4,
            ip_options: Vec::new(),
            header_words: None,
            total_length: None,
            fragment: 0,
            protocol: 17,
            source: Ipv4Addr::UNSPECIFIED,
            destination: Ipv4Addr::BROADCAST,
            ports: (68, 67),
            udp_length: None,
            udp_checksum: 0,
            bootp: [1, 1, 6, 0],
            giaddr: Ipv4Addr::UNSPECIFIED,
            chaddr: KNOWN,
            options,
        }
    }
}

impl FrameBuilder {
    /// Returns the bytes, without padding and without a frame check sequence.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let udp_length = 8 + 236 + self.options.len();
        let header_length = 20 + self.ip_options.len();
        let mut frame = Vec::new();

        frame.extend_from_slice(&self.ethernet_destination.0);
        frame.extend_from_slice(&self.ethernet_source.0);
        for (protocol, control) in &self.tags {
            frame.extend_from_slice(&protocol.to_be_bytes());
            frame.extend_from_slice(&control.to_be_bytes());
        }
        frame.extend_from_slice(&self.ethertype.to_be_bytes());

        let ip_start = frame.len();
        let header_words = self.header_words.unwrap_or((header_length / 4) as u8);
        frame.extend_from_slice(&[self.version << 4 | header_words, 0]);
        frame.extend_from_slice(&self.total_length.unwrap_or((header_length + udp_length) as u16).to_be_bytes());
        frame.extend_from_slice(&[0x12, 0x34]);
        frame.extend_from_slice(&self.fragment.to_be_bytes());
        frame.extend_from_slice(&[64, self.protocol, 0, 0]);
        frame.extend_from_slice(&self.source.octets());
        frame.extend_from_slice(&self.destination.octets());
        frame.extend_from_slice(&self.ip_options);
        let checksum = internet_checksum(&frame[ip_start..]);
        frame[ip_start + 10..ip_start + 12].copy_from_slice(&checksum.to_be_bytes());

        frame.extend_from_slice(&self.ports.0.to_be_bytes());
        frame.extend_from_slice(&self.ports.1.to_be_bytes());
        frame.extend_from_slice(&self.udp_length.unwrap_or(udp_length as u16).to_be_bytes());
        frame.extend_from_slice(&self.udp_checksum.to_be_bytes());

        frame.extend_from_slice(&self.bootp);
        // xid; secs and flags; ciaddr, yiaddr, siaddr.
        frame.extend_from_slice(&[0xde, 0xad, 0xbe, 0xef, 0, 0, 0x80, 0]);
        frame.extend_from_slice(&[0; 12]);
        frame.extend_from_slice(&self.giaddr.octets());
        frame.extend_from_slice(&self.chaddr.0);
        // The rest of chaddr, then sname and file.
        frame.extend_from_slice(&[0; 10 + 64 + 128]);
        frame.extend_from_slice(&self.options);
        frame
    }
}

/// Returns the checksum of RFC 1071 over an even number of bytes.
fn internet_checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks_exact(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
