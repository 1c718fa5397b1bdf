//! Which questions were asked before: a client that asks again has lost its question or our answer.

use std::{
    hash::BuildHasher as _,
    net::Ipv4Addr,
    sync::atomic::{AtomicU64, Ordering},
};

use pxe_common::MacAddr;

use crate::{dhcp::wire::MessageType, inventory::AddressHashBuilder};

/// Machines whose last question is remembered, if no two fall on one place: enough for a whole fleet at once.
const PLACES: usize = 65_536;

/// The last question of many machines, each in the place that its address falls on, so that the memory is bounded and a
/// machine is forgotten when another takes its place. All workers share one, since a question may come to another receive queue
/// when it is repeated.
#[derive(Debug)]
pub struct Repeats(Box<[AtomicU64]>);

impl Default for Repeats {
    /// None has asked.
    fn default() -> Self {
        Self((0..PLACES).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Repeats {
    /// Whether this is what the machine has asked last: by the transaction number, which a client keeps while it repeats itself
    /// (RFC 2131 §4.1), the sender, which is another one where two relays forward the same question, and the kind of answer.
    pub fn asked_again(&self, mac: MacAddr, xid: u32, sender: Ipv4Addr, answer: MessageType) -> bool {
        let machine = AddressHashBuilder.hash_one(mac);
        let question = AddressHashBuilder.hash_one((machine, xid, u32::from(sender), u32::from(u8::from(answer))));
        let place = usize::try_from(machine % PLACES as u64).ok().and_then(|place| self.0.get(place));
        place.is_some_and(|place| place.swap(question, Ordering::Relaxed) == question)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
    const OTHER: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 2]);
    const RELAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
    const FIRMWARE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

    #[test]
    fn only_the_same_question_of_the_same_machine_is_a_repetition() {
        let repeats = Repeats::default();
        for (mac, xid, sender, answer, again) in [
            (MACHINE, 7, FIRMWARE, MessageType::Offer, false),
            (OTHER, 7, FIRMWARE, MessageType::Offer, false),
            (MACHINE, 7, FIRMWARE, MessageType::Offer, true),
            (MACHINE, 7, FIRMWARE, MessageType::Offer, true),
            (MACHINE, 7, FIRMWARE, MessageType::Ack, false),
            (MACHINE, 8, FIRMWARE, MessageType::Ack, false),
            (MACHINE, 8, RELAY, MessageType::Ack, false),
            (MACHINE, 8, RELAY, MessageType::Ack, true),
            (OTHER, 7, FIRMWARE, MessageType::Offer, true),
        ] {
            assert_eq!(repeats.asked_again(mac, xid, sender, answer), again, "{mac} {xid} {sender} {answer:?}");
        }
    }

    #[test]
    fn a_fleet_finds_its_places() {
        let repeats = Repeats::default();
        let fleet = || {
            (0..10_000_u32).map(|number| {
                let [_, _, c, d] = number.to_be_bytes();
                MacAddr([0x00, 0x0c, 0x01, 0x02, c, d])
            })
        };
        let first = fleet().filter(|&mac| repeats.asked_again(mac, 1, FIRMWARE, MessageType::Offer)).count();
        let again = fleet().filter(|&mac| repeats.asked_again(mac, 1, FIRMWARE, MessageType::Offer)).count();
        assert_eq!(first, 0);
        assert!(again > 8_000, "{again} of 10,000 were known again");
    }
}
