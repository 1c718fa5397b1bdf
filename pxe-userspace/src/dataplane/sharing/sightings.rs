//! What this node has seen of the machines: the last question of each, and its last choice. Tables of fixed size without locks.

use std::{
    hash::{BuildHasher as _, Hash},
    net::Ipv4Addr,
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use pxe_common::MacAddr;

use crate::model::{inventory::AddressHashBuilder, origin::Origin};

/// The slots of each table. A whole fleet fits; of two machines that take the same slot, the later one is known.
const SLOTS: usize = 65_536;
/// The lowest bits of a slot hold a time. In units of 10 ms they last for 46 hours.
const TIME_BITS: u32 = 24;
const TIME: u64 = (1 << TIME_BITS) - 1;

/// The shortest time between two questions, in units of 10 ms.
const SHORTEST: u64 = 20;
/// The longest time between a question and its repetition in the same transaction, in the same units.
const LONGEST: u64 = 6_000;
/// The same in a new transaction.
const LONGEST_IN_NEW_TRANSACTION: u64 = 1_000;
/// The bits of a question's digest in a slot, and those of its transaction.
const QUESTION: u64 = u64::MAX << 32;
const TRANSACTION: u64 = !QUESTION & !TIME;

/// The time for which a choice counts, in seconds.
const CHOICE_COUNTS_FOR: u64 = 600;
/// The bits of a choice in a slot: the machine, whether the node left it unanswered, and the node.
const MACHINE: u64 = u64::MAX << 44;
const MISSED: u64 = 1 << 43;
const NODE: u64 = !MACHINE & !MISSED & !TIME;

/// The tables. All workers use them: a repeated question may arrive on another receive queue.
#[derive(Debug)]
pub(super) struct Sightings {
    /// The last question of each network card that was left to another node: its digest, its transaction and its time.
    asked: Box<[AtomicU64]>,
    /// The last choice of each machine.
    choices: Box<[AtomicU64]>,
    /// The same of what relays bring, in tables of their own: whoever pretends to be a relay changes nothing that machines themselves have asked.
    asked_by_relay: Box<[AtomicU64]>,
    choices_by_relay: Box<[AtomicU64]>,
}

/// Whoever asks, as far as it is remembered.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asker {
    /// A machine or one of its network cards, itself.
    Itself(MacAddr),
    /// The same through a relay with this MAC address.
    ByRelay(MacAddr, MacAddr),
    /// Another host in the name of a machine, of which nothing is remembered.
    Other(MacAddr),
}

impl Asker {
    /// Returns the one who asks for a machine.
    pub(super) fn of(mac: MacAddr, origin: Origin) -> Self {
        match origin {
            Origin::Machine => Self::Itself(mac),
            Origin::Relay(relay) => Self::ByRelay(mac, relay),
            Origin::Unproven | Origin::Unanswered | Origin::Other(_) => Self::Other(mac),
        }
    }

    /// Returns the same for this network card; `None` if nothing of it is remembered.
    pub(super) fn of_card(self, card: MacAddr) -> Option<Self> {
        match self {
            Self::Itself(_) => Some(Self::Itself(card)),
            Self::ByRelay(_, relay) => Some(Self::ByRelay(card, relay)),
            Self::Other(_) => None,
        }
    }

    fn hash(self) -> u64 {
        match self {
            Self::Itself(mac) | Self::Other(mac) => hash(mac),
            Self::ByRelay(mac, relay) => hash((mac, relay)),
        }
    }
}

/// The last choice of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// It chose the node with this [`digest`].
    Took(u64),
    /// It got no answer from that node.
    Missed(u64),
}

impl Default for Sightings {
    /// Returns tables in which nothing has been seen.
    fn default() -> Self {
        let table = || (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self { asked: table(), choices: table(), asked_by_relay: table(), choices_by_relay: table() }
    }
}

impl Sightings {
    /// Remembers a question of a network card and returns `true` if it repeats the one before. Frames that come within a fifth of a
    /// second are one question.
    pub(super) fn asked_again(&self, asker: Asker, question: &impl Hash, xid: u32, now: SystemTime) -> bool {
        let table = match asker {
            Asker::Itself(_) => &self.asked,
            Asker::ByRelay(..) => &self.asked_by_relay,
            Asker::Other(_) => return false,
        };
        let Some(slot) = slot(table, asker) else { return false };
        let now = units_of(now, 10);
        let seen = hash((asker.hash(), question)) & QUESTION | hash(xid) & TRANSACTION | now;
        let before = slot.load(Ordering::Relaxed);
        let since = now.wrapping_sub(before) & TIME;
        let is_same = (before ^ seen) & QUESTION == 0;
        if is_same && since < SHORTEST {
            return false;
        }
        slot.store(seen, Ordering::Relaxed);
        let longest = if (before ^ seen) & TRANSACTION == 0 { LONGEST } else { LONGEST_IN_NEW_TRANSACTION };
        is_same && since <= longest
    }

    /// Remembers the choice of a machine.
    pub(super) fn choose(&self, asker: Asker, choice: Choice, now: SystemTime) {
        let table = match asker {
            Asker::Itself(_) => &self.choices,
            Asker::ByRelay(..) => &self.choices_by_relay,
            Asker::Other(_) => return,
        };
        let Some(slot) = slot(table, asker) else { return };
        let node = match choice {
            Choice::Took(node) => node,
            Choice::Missed(node) => node | MISSED,
        };
        slot.store(asker.hash() & MACHINE | node | units_of(now, 1_000), Ordering::Relaxed);
    }

    /// Returns the last choice of a machine, if it still counts.
    pub(super) fn choice(&self, asker: Asker, now: SystemTime) -> Option<Choice> {
        let table = match asker {
            Asker::Itself(_) | Asker::Other(_) => &self.choices,
            Asker::ByRelay(..) => &self.choices_by_relay,
        };
        let seen = slot(table, asker)?.load(Ordering::Relaxed);
        let since = units_of(now, 1_000).wrapping_sub(seen) & TIME;
        let is_known = seen != 0 && (seen ^ asker.hash()) & MACHINE == 0 && since <= CHOICE_COUNTS_FOR;
        let node = seen & NODE;
        is_known.then_some(if seen & MISSED == 0 { Choice::Took(node) } else { Choice::Missed(node) })
    }
}

/// Returns the digest of a node's address, as choices hold it.
pub(super) fn digest(server: Ipv4Addr) -> u64 {
    hash(server) & NODE
}

fn hash(value: impl Hash) -> u64 {
    AddressHashBuilder::default().hash_one(value)
}

fn slot(table: &[AtomicU64], asker: Asker) -> Option<&AtomicU64> {
    table.get(usize::try_from(asker.hash() % SLOTS as u64).ok()?)
}

/// Returns the time in units of this number of milliseconds, without its upper bits.
fn units_of(time: SystemTime, milliseconds: u128) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis());
    (since / milliseconds) as u64 & TIME
}
