//! DHCP frames in other machines' names.

use std::net::{Ipv4Addr, SocketAddrV4};

use pxe_common::MacAddr;

use super::frames::{Flood, Wire, udp_frame};

/// The way in which an attacker hides that it is not the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disguise {
    /// None: the frames come from the attacker's own MAC address.
    None,
    /// They come from the attacker's own MAC address, and name this relay.
    Relay(Ipv4Addr),
    /// Each comes from another MAC address.
    ChangingAddress,
}

/// Sends this many DISCOVERs and REQUESTs a second in the machines' names, as PXE firmware and as an operating system.
#[must_use]
pub fn flood(wire: Wire, machines: Vec<MacAddr>, disguise: Disguise, a_second: u32) -> Flood {
    let own = wire.mac;
    Flood::start(wire, a_second, move |number| {
        let machine = machines.get(number as usize % machines.len().max(1)).copied().unwrap_or_default();
        let [.., b, c, d, e] = number.to_be_bytes();
        let source = if disguise == Disguise::ChangingAddress { MacAddr([0x0a, 0, b, c, d, e]) } else { own };
        let relay = if let Disguise::Relay(relay) = disguise { relay } else { Ipv4Addr::UNSPECIFIED };
        frame(source, machine, relay, number)
    })
}

/// Returns a frame of the sequence: firmware asks for an address, then an operating system does, as on a start from the disk.
fn frame(source: MacAddr, machine: MacAddr, relay: Ipv4Addr, number: u64) -> Vec<u8> {
    // RFC 2131 §2: op, htype, hlen, hops; xid; secs and flags; ciaddr, yiaddr, siaddr.
    let mut message = vec![1, 1, 6, 0];
    message.extend_from_slice(&(number as u32).to_be_bytes());
    message.extend_from_slice(&[0; 4 + 12]);
    message.extend_from_slice(&relay.octets());
    message.extend_from_slice(&machine.0);
    message.resize(236, 0);
    message.extend_from_slice(&[99, 130, 83, 99]);
    if number.is_multiple_of(2) {
        message.extend_from_slice(&[53, 1, 1, 60, 9]);
        message.extend_from_slice(b"PXEClient");
        message.extend_from_slice(&[93, 2, 0, 7]);
    } else {
        message.extend_from_slice(&[53, 1, 3, 50, 4, 10, 99, 0, 101, 55, 9, 1, 3, 15, 6, 121, 119, 42, 26, 12]);
    }
    message.push(255);
    let port = if relay.is_unspecified() { 68 } else { 67 };
    let (from, to) = (SocketAddrV4::new(relay, port), SocketAddrV4::new(Ipv4Addr::BROADCAST, 67));
    udp_frame((source, MacAddr::BROADCAST), from, to, &message)
}
