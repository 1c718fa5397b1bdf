//! Sending a datagram to the next hop, whose hardware address is found by ARP.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use pxe_common::MacAddr;

use super::{Machine, Output};
use crate::{exchange::Lease, frame};

impl Machine {
    /// Sends a datagram, or keeps it until the next hop is known.
    pub(super) fn send(&mut self, now: Duration, from: u16, to: SocketAddrV4, payload: &[u8]) {
        let Some(lease) = &self.lease else { return };
        let from = SocketAddrV4::new(lease.address, from);
        let hop = next_hop(lease, *to.ip());
        let datagram = |hardware| frame::udp((self.setup.interface, hardware), from, to, payload);
        match self.neighbours.get(hop) {
            Some(hardware) => self.outputs.push(Output::Frame(datagram(hardware))),
            None => {
                self.neighbours.ask(now, hop, datagram(MacAddr::BROADCAST));
                self.outputs.push(Output::Frame(frame::arp_request(self.setup.interface, *from.ip(), hop)));
            }
        }
    }

    /// Handles the answer to an ARP request of this machine.
    pub(crate) fn on_arp(&mut self, address: Ipv4Addr, hardware: MacAddr) {
        for mut frame in self.neighbours.learn(address, hardware) {
            if let Some(destination) = frame.get_mut(..6) {
                destination.copy_from_slice(&hardware.0);
            }
            self.outputs.push(Output::Frame(frame));
        }
    }
}

/// Returns the next hop to this address.
fn next_hop(lease: &Lease, to: Ipv4Addr) -> Ipv4Addr {
    let mask = u32::MAX.checked_shl(32 - u32::from(lease.prefix_length.min(32))).unwrap_or(0);
    let is_near = (to.to_bits() ^ lease.address.to_bits()) & mask == 0;
    if is_near { to } else { lease.router.unwrap_or(to) }
}
