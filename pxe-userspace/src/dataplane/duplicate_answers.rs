//! What is to be answered twice: a client that asks again has lost its question or our answer, and others lose theirs too.

use std::{
    hash::BuildHasher as _,
    net::Ipv4Addr,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use pxe_common::MacAddr;

use crate::{dhcp::wire::MessageType, model::inventory::AddressHashBuilder};

/// Machines whose last question is remembered, if no two fall on one place: enough for a whole fleet at once.
const PLACES: usize = 65_536;

/// The share of repeated questions is a mean of about so many, the last ones counting most.
const MEMORY: u32 = 128;
/// The whole, of which it is a share.
const ALL: u32 = 1 << 16;
/// From which share on the network loses frames: nearly one in fifty.
const LOSSY: u32 = ALL / 50;

/// The last question of many machines, each in the place that its address falls on, so that the memory is bounded and a
/// machine is forgotten when another takes its place. All workers share one, since a question may come to another receive queue
/// when it is repeated.
#[derive(Debug)]
pub struct DuplicateAnswers {
    places: Box<[AtomicU64]>,
    /// The share of repeated questions. Workers may overwrite each other's: it is an estimate.
    share: AtomicU32,
}

impl Default for DuplicateAnswers {
    /// None has asked.
    fn default() -> Self {
        Self { places: (0..PLACES).map(|_| AtomicU64::new(0)).collect(), share: AtomicU32::new(0) }
    }
}

impl DuplicateAnswers {
    /// Whether this question gets two answers: one that is asked again, and every one while many are.
    ///
    /// Firmware asks four times only. With 5 % lost each way, one answer to each loses one machine in 11,000 at each step, two
    /// to a repeated question one in 70,000, two to every one in 130,000; 160,000 are the limit, where every question is lost.
    pub fn wants_two(&self, mac: MacAddr, xid: u32, sender: Ipv4Addr, answer: MessageType) -> bool {
        let again = self.asked_again(mac, xid, sender, answer);
        let share = self.share.load(Ordering::Relaxed);
        let share = share - share / MEMORY + if again { ALL / MEMORY } else { 0 };
        self.share.store(share, Ordering::Relaxed);
        again || share >= LOSSY
    }

    /// Whether this is what the machine has asked last: by the transaction number, which a client keeps while it repeats itself
    /// (RFC 2131 §4.1), the sender, which is another one where two relays forward the same question, and the kind of answer.
    fn asked_again(&self, mac: MacAddr, xid: u32, sender: Ipv4Addr, answer: MessageType) -> bool {
        let machine = AddressHashBuilder.hash_one(mac);
        let question = AddressHashBuilder.hash_one((machine, xid, u32::from(sender), u32::from(u8::from(answer))));
        let place = usize::try_from(machine % PLACES as u64).ok().and_then(|place| self.places.get(place));
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
        let repeats = DuplicateAnswers::default();
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
        let repeats = DuplicateAnswers::default();
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

    #[test]
    fn while_many_repeat_themselves_everybody_gets_two() {
        let repeats = DuplicateAnswers::default();
        let asked = |xid| repeats.wants_two(MACHINE, xid, FIRMWARE, MessageType::Offer);
        let calm = (0..1_000).filter(|&xid| asked(xid)).count();
        assert_eq!(calm, 0);
        let once = repeats.wants_two(OTHER, 7, FIRMWARE, MessageType::Offer);
        let again = repeats.wants_two(OTHER, 7, FIRMWARE, MessageType::Offer);
        let next = repeats.wants_two(OTHER, 8, FIRMWARE, MessageType::Offer);
        assert_eq!((once, again, next), (false, true, false), "one that repeats itself is no reason");
        // Each tenth question is the one before once more.
        let lossy = (1_000..2_000).filter(|&number| asked(number - u32::from(number % 10 == 9))).count();
        assert!(lossy > 950, "{lossy} of 1,000");
        let calm = (2_000..4_000).filter(|&xid| asked(xid)).count();
        assert!((1..500).contains(&calm), "{calm}: it takes a while, and passes");
    }
}
