//! The rate limits of the XDP program, applied by userspace to frames that do not pass through it.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    time::Instant,
};

use pxe_common::{
    Bucket, Buckets, Counter, MacAddr, MachineKey, SenderKey, Settings,
    classify::{Sender, admit},
};

use crate::model::inventory::Inventory;

/// The senders elsewhere that are remembered, at most. Of two that take the same slot, the later one is: the earlier has a full bucket again, so nobody
/// can use up another's.
const SLOTS: usize = 8_192;

/// The place of one sender elsewhere.
type Slot = Cell<Option<(SenderKey, Bucket)>>;

/// The token buckets of one worker.
pub(super) struct Gate {
    settings: Settings,
    /// The buckets of machines in the spec that have asked. Unknown machines get none, so that they take no memory.
    machines: RefCell<HashMap<MacAddr, Bucket>>,
    senders: Box<[Slot]>,
    /// Its keys are random, so that nobody can choose an address for another one's slot.
    hasher: RandomState,
    elsewhere: Cell<Bucket>,
    begun: Instant,
}

impl Gate {
    /// Creates full buckets.
    pub(super) fn new(settings: Settings, now: Instant) -> Self {
        Self {
            settings,
            machines: RefCell::default(),
            senders: (0..SLOTS).map(|_| Cell::new(None)).collect(),
            hasher: RandomState::new(),
            elsewhere: Cell::default(),
            begun: now,
        }
    }

    /// Takes the tokens for a request that names a machine of the inventory.
    ///
    /// # Errors
    ///
    /// The counter that says which bucket is empty.
    pub(super) fn admit(
        &self,
        machine: MacAddr,
        sender: Sender,
        inventory: &Inventory,
        now: Instant,
    ) -> Result<(), Counter> {
        let since_begun = now.saturating_duration_since(self.begun);
        let now_ns = u64::try_from(since_begun.as_nanos()).unwrap_or(u64::MAX);
        admit(machine, sender, &Look { gate: self, inventory, now_ns })
    }

    fn slot(&self, key: SenderKey) -> Option<&Slot> {
        self.senders.get(usize::try_from(self.hasher.hash_one(key) % SLOTS as u64).ok()?)
    }
}

/// The buckets at one instant.
struct Look<'a> {
    gate: &'a Gate,
    inventory: &'a Inventory,
    now_ns: u64,
}

impl Buckets for Look<'_> {
    fn settings(&self) -> Settings {
        self.gate.settings
    }

    fn is_known(&self, machine: MachineKey) -> bool {
        self.inventory.by_mac(machine.into()).is_some()
    }

    fn update_machine<R>(&self, machine: MachineKey, step: impl FnOnce(Bucket) -> (Bucket, R)) -> Option<R> {
        if !self.is_known(machine) {
            return None;
        }
        let mut machines = self.gate.machines.borrow_mut();
        let bucket = machines.entry(machine.into()).or_default();
        let (after, result) = step(*bucket);
        *bucket = after;
        Some(result)
    }

    fn sender(&self, key: SenderKey) -> Bucket {
        let known = self.gate.slot(key).and_then(Cell::get);
        known.filter(|(known, _)| *known == key).map_or_else(Bucket::default, |(_, bucket)| bucket)
    }

    fn set_sender(&self, key: SenderKey, bucket: Bucket) {
        if let Some(slot) = self.gate.slot(key) {
            slot.set(Some((key, bucket)));
        }
    }

    fn elsewhere(&self) -> Bucket {
        self.gate.elsewhere.get()
    }

    fn set_elsewhere(&self, bucket: Bucket) {
        self.gate.elsewhere.set(bucket);
    }

    fn now_ns(&self) -> u64 {
        self.now_ns
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::journal::samples::machine;

    const ATTACKER: MacAddr = MacAddr([0x06, 0, 0, 0, 0, 9]);

    fn inventory() -> Inventory {
        Inventory::new((1..=2).map(|number| Arc::new(machine(number))).collect())
    }

    /// Returns how many of this many requests are admitted at once.
    fn admitted(gate: &Gate, sender: Sender, requests: u32, now: Instant) -> u32 {
        let (inventory, victim) = (inventory(), machine(1).mac);
        (0..requests).filter(|_| gate.admit(victim, sender, &inventory, now).is_ok()).count() as u32
    }

    #[test]
    fn flood_from_elsewhere_takes_none_of_the_machines_tokens() {
        let begun = Instant::now();
        let gate = Gate::new(Settings::default(), begun);
        for second in 0..60 {
            let now = begun + Duration::from_secs(second);
            let others = if second == 0 { 32 } else { 8 };
            assert_eq!(admitted(&gate, Sender::Card(ATTACKER), 20_000, now), others, "second {second}");
            assert_eq!(admitted(&gate, Sender::Relay(ATTACKER), 20_000, now), 0, "the same host as a relay");
            assert_eq!(admitted(&gate, Sender::Relay(MacAddr([2, 0, 0, 0, 0, 2])), 8, now), 8, "an honest relay");
            assert_eq!(admitted(&gate, Sender::Itself, 8, now), 8, "second {second}");
        }
    }

    #[test]
    fn many_forged_senders_have_one_bucket_together_and_little_memory() {
        let begun = Instant::now();
        let gate = Gate::new(Settings::default(), begun);
        let forged = |number: u32| {
            let [a, b, c, d] = number.to_be_bytes();
            MacAddr([0x0a, 0, a, b, c, d])
        };
        let passed = |numbers: std::ops::Range<u32>, now| -> u32 {
            numbers.map(|number| admitted(&gate, Sender::Card(forged(number)), 1, now)).sum()
        };
        assert_eq!(passed(0..100_000, begun), 2_049);
        let later = begun + Duration::from_secs(1);
        assert!(passed(100_000..200_000, later) <= 2_049);
        assert_eq!(admitted(&gate, Sender::Itself, 40, later), 32);
        assert!(gate.machines.borrow().len() <= 2);
    }

    #[test]
    fn other_card_of_the_fleet_pays_for_what_it_sends() {
        let begun = Instant::now();
        let gate = Gate::new(Settings::default(), begun);
        let other = machine(2).mac;
        assert_eq!(admitted(&gate, Sender::Card(other), 100, begun), 32);
        assert_eq!(admitted(&gate, Sender::Itself, 100, begun), 32);
        let result = gate.admit(other, Sender::Itself, &inventory(), begun);
        assert_eq!(result, Err(Counter::RateLimited), "its own bucket");
        let stranger = gate.admit(ATTACKER, Sender::Itself, &inventory(), begun);
        assert_eq!(stranger, Err(Counter::UnknownPassed));
        assert!(gate.machines.borrow().len() <= 2);
    }
}
