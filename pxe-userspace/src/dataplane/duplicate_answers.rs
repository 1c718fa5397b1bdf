//! Decides which questions get two answers. A client that asks again has lost its question or our answer, so others may lose
//! theirs.

use std::{
    hash::BuildHasher as _,
    net::Ipv4Addr,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use pxe_common::MacAddr;

use crate::{
    dhcp::wire::MessageType,
    model::{inventory::AddressHashBuilder, origin::Origin},
};

/// The slots of the table. Each machine's last question takes one unless two machines collide; a whole fleet fits.
const SLOTS: usize = 65_536;

/// The window of the moving average that estimates the share of repeated questions.
const MEMORY: u32 = 128;
/// The share at which every question is a repetition.
const ALL: u32 = 1 << 16;
/// The share above which the network is considered lossy: one in fifty.
const LOSSY: u32 = ALL / 50;

/// The last question of each machine, in a table of fixed size: a machine is forgotten when another one takes its slot. All
/// workers share the table because a repeated question may arrive on another receive queue.
#[derive(Debug)]
pub struct DuplicateAnswers {
    slots: Box<[AtomicU64]>,
    /// The same of what relays bring, in a table of its own: whoever pretends to be relays makes no machine forgotten.
    slots_by_relay: Box<[AtomicU64]>,
    /// The share of repeated questions. It is an estimate, so workers may overwrite each other's updates.
    share: AtomicU32,
}

/// The answers to one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// One answer.
    One,
    /// The same answer twice.
    Two,
    /// Two answers to a repeated question: one to the client, and one to all, since the client may not take what is sent to itself.
    OneToAll,
}

impl Default for DuplicateAnswers {
    /// Returns a table in which no machine has asked.
    fn default() -> Self {
        let table = || (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self { slots: table(), slots_by_relay: table(), share: AtomicU32::new(0) }
    }
}

impl DuplicateAnswers {
    /// Records a question and returns its answers. It gets two if it is repeated, or if many questions are.
    ///
    /// Firmware asks four times. With 5 % loss in each direction, each step loses one machine in 11,000 if every question
    /// gets one answer, one in 70,000 if repeated questions get two, and one in 130,000 if all get two. The limit is one in
    /// 160,000: that is the chance of losing all four questions. A boot has four steps, and a third of the first questions is
    /// answered twice while the loss lasts, so about one machine in 20,000 is lost.
    ///
    /// What another host asks in a machine's name gets one, and is not recorded: it says nothing of what the machine lost. Questions through a relay are
    /// recorded by relay, and do not count for the network.
    pub fn copies(&self, asker: (MacAddr, Origin), xid: u32, sender: Ipv4Addr, answer: MessageType) -> Copies {
        let (mac, relay) = match asker {
            (mac, Origin::Machine) => (mac, None),
            (mac, Origin::Relay(relay)) => (mac, Some(relay)),
            (_, Origin::Unproven | Origin::Unanswered | Origin::Other(_)) => return Copies::One,
        };
        let again = self.asked_again(mac, relay, xid, sender, answer);
        let mut share = self.share.load(Ordering::Relaxed);
        if relay.is_none() {
            share = share - share / MEMORY + if again { ALL / MEMORY } else { 0 };
            self.share.store(share, Ordering::Relaxed);
        }
        match again {
            true => Copies::OneToAll,
            false if share >= LOSSY => Copies::Two,
            false => Copies::One,
        }
    }

    /// Records a question and returns `true` if it repeats the machine's last one. A question is identified by its
    /// transaction number, which a client keeps in retransmissions (RFC 2131 §4.1), by its sender, which differs if two
    /// relays forward the same question, and by the kind of its answer.
    fn asked_again(
        &self,
        mac: MacAddr,
        relay: Option<MacAddr>,
        xid: u32,
        sender: Ipv4Addr,
        answer: MessageType,
    ) -> bool {
        let (machine, slots) = match relay {
            None => (AddressHashBuilder::default().hash_one(mac), &self.slots),
            Some(relay) => (AddressHashBuilder::default().hash_one((mac, relay)), &self.slots_by_relay),
        };
        let question =
            AddressHashBuilder::default().hash_one((machine, xid, u32::from(sender), u32::from(u8::from(answer))));
        let slot = usize::try_from(machine % SLOTS as u64).ok().and_then(|place| slots.get(place));
        slot.is_some_and(|slot| slot.swap(question, Ordering::Relaxed) == question)
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

    use super::*;

    const MACHINE: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
    const OTHER: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 2]);
    const RELAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
    const FIRMWARE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

    #[test]
    fn repetition_is_the_same_question_of_the_same_machine() {
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
            assert_eq!(repeats.asked_again(mac, None, xid, sender, answer), again, "{mac} {xid} {sender} {answer:?}");
        }
    }

    #[test]
    fn table_has_room_for_a_fleet() {
        let repeats = DuplicateAnswers::default();
        let fleet = || {
            (0..10_000_u32).map(|number| {
                let [_, _, c, d] = number.to_be_bytes();
                MacAddr([0x00, 0x0c, 0x01, 0x02, c, d])
            })
        };
        let first = fleet().filter(|&mac| repeats.asked_again(mac, None, 1, FIRMWARE, MessageType::Offer)).count();
        let again = fleet().filter(|&mac| repeats.asked_again(mac, None, 1, FIRMWARE, MessageType::Offer)).count();
        assert_eq!(first, 0);
        assert!(again > 8_000, "{again} of 10,000 were known again");
    }

    /// Lets machines go through the four DHCP steps of a boot at the same time, over a network that loses one frame in twenty each
    /// way. Returns the number of machines that lost all four questions of a step or their answers.
    fn lost_machines(machines: u32, seed: u64, wants_two: impl Fn(MacAddr, u32) -> bool) -> usize {
        let mut random = StdRng::seed_from_u64(seed);
        let mut arrives = || random.random_range(0..20) > 0;
        // Each machine's step and attempt. All ask in turn, and those that have to repeat themselves ask again in the next turn.
        let mut fleet: Vec<(u32, u32, u32)> = (0..machines).map(|number| (number, 0, 0)).collect();
        let mut lost = 0;
        while !fleet.is_empty() {
            fleet.retain_mut(|(number, step, attempt)| {
                let [_, b, c, d] = number.to_be_bytes();
                let mac = MacAddr([0x52, 0x54, 0, b, c, d]);
                let is_answered = arrives() && {
                    let two = wants_two(mac, *number * 4 + *step);
                    // Both answers are sent, whether the first arrives or not.
                    let answers = [arrives(), two && arrives()];
                    answers.contains(&true)
                };
                (*step, *attempt) = if is_answered { (*step + 1, 0) } else { (*step, *attempt + 1) };
                lost += usize::from(*attempt == 4);
                *attempt < 4 && *step < 4
            });
        }
        lost
    }

    #[test]
    fn lossy_network_costs_hardly_more_machines_than_it_must() {
        let machines = 1_000;
        let lost = |wants_two: &dyn Fn(&DuplicateAnswers, MacAddr, u32) -> bool| -> usize {
            let storm = |seed| {
                let repeats = DuplicateAnswers::default();
                lost_machines(machines, seed, |mac, xid| wants_two(&repeats, mac, xid))
            };
            (0..200).map(storm).sum()
        };
        let ours = lost(&|repeats, mac, xid| {
            repeats.copies((mac, Origin::Machine), xid, FIRMWARE, MessageType::Offer) != Copies::One
        });
        let once = lost(&|_, _, _| false);
        // Of 200,000 machines, one in 2,800 is expected to be lost with single answers, and one in 20,000 with ours.
        assert!((45..100).contains(&once), "{once} with one answer each");
        assert!(ours <= 20, "{ours} of 200,000");
    }

    #[test]
    fn questions_all_get_two_answers_while_many_are_repeated() {
        let repeats = DuplicateAnswers::default();
        let asked = |xid| repeats.copies((MACHINE, Origin::Machine), xid, FIRMWARE, MessageType::Offer) != Copies::One;
        let calm = (0..1_000).filter(|&xid| asked(xid)).count();
        assert_eq!(calm, 0);
        let once = repeats.copies((OTHER, Origin::Machine), 7, FIRMWARE, MessageType::Offer) != Copies::One;
        let again = repeats.copies((OTHER, Origin::Machine), 7, FIRMWARE, MessageType::Offer) != Copies::One;
        let next = repeats.copies((OTHER, Origin::Machine), 8, FIRMWARE, MessageType::Offer) != Copies::One;
        assert_eq!((once, again, next), (false, true, false), "one repetition is not many");
        // Every tenth question repeats the one before it.
        let lossy = (1_000..2_000).filter(|&number| asked(number - u32::from(number % 10 == 9))).count();
        assert!(lossy > 950, "{lossy} of 1,000");
        let calm = (2_000..4_000).filter(|&xid| asked(xid)).count();
        assert!((1..500).contains(&calm), "{calm}: it takes a while, but passes");
    }

    /// Whoever knows how addresses are hashed can choose one that takes any place.
    #[test]
    fn machine_is_forgotten_for_no_relay() {
        let repeats = DuplicateAnswers::default();
        let ask = |origin| repeats.copies((MACHINE, origin), 7, FIRMWARE, MessageType::Offer) != Copies::One;
        assert!(!ask(Origin::Machine));
        for number in 0..20 * SLOTS as u32 {
            let [a, b, c, d] = number.to_be_bytes();
            ask(Origin::Relay(MacAddr([6, 0, a, b, c, d])));
        }
        assert!(ask(Origin::Machine));
    }

    #[test]
    fn questions_of_others_change_nothing_for_the_machine() {
        let repeats = DuplicateAnswers::default();
        let attacker = MacAddr([6, 0, 0, 0, 0, 9]);
        let ask = |origin, xid| repeats.copies((MACHINE, origin), xid, FIRMWARE, MessageType::Offer) != Copies::One;
        assert!(!ask(Origin::Machine, 7));
        // Repeated thousands of times, and in between with another transaction.
        for xid in (0..10_000).map(|number| number / 4) {
            assert!(!ask(Origin::Other(attacker), xid));
            ask(Origin::Relay(attacker), xid);
        }
        assert!(ask(Origin::Machine, 7), "the machine's own question is known again");
        assert!(!ask(Origin::Machine, 8), "the network is not lossy");
        assert!(!ask(Origin::Relay(attacker), 70_000) && ask(Origin::Relay(attacker), 70_000));
    }
}
