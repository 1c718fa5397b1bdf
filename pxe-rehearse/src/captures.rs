//! Captures of real firmware, for tests.

use std::{net::SocketAddrV4, path::Path};

use crate::frame::{self, Received};

/// A UDP datagram of a capture.
pub(crate) struct Datagram {
    /// The number of the frame, counted from 1 as in Wireshark.
    pub(crate) number: usize,
    pub(crate) from: SocketAddrV4,
    pub(crate) to: SocketAddrV4,
    pub(crate) payload: Vec<u8>,
}

/// Returns every UDP datagram of `pxe-userspace/tests/firmware/NAME.pcap`.
pub(crate) fn datagrams(name: &str) -> Vec<Datagram> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../pxe-userspace/tests/firmware").join(format!("{name}.pcap"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    // The format of libpcap, little-endian: a header of 24 bytes, then one of 16 before each frame.
    let mut rest = &bytes[24..];
    let mut found = Vec::new();
    let mut number = 0;
    while rest.len() >= 16 {
        let length = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        number += 1;
        if let Some(Received::Udp { from, to, payload, .. }) = frame::parse(&rest[16..16 + length]) {
            found.push(Datagram { number, from, to, payload: payload.to_vec() });
        }
        rest = &rest[16 + length..];
    }
    assert!(!found.is_empty(), "{name}: no datagrams");
    found
}
