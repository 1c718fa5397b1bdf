//! The records of all machines, and the one step that an event takes through them. Pure: no I/O, no clock.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
    time::SystemTime,
};

use pxe_common::MacAddr;

use super::{
    cards::{Cards, Move},
    fact::{Fact, Known},
    interner::Interner,
    log_budget::Logging,
    machine_record::{MachineRecord, Summary},
    pace::{Chain, Deadline, Pace},
    policy::{self, Cycle},
    record::{Outcome, Record},
    remembered::{Override, Remembered, State},
    stage::Stage,
};
use crate::model::{
    event::{BootEvent, EventKind},
    inventory::{AddressHashBuilder, Inventory, Machine},
    policy::BootPolicy,
    policy_book::PolicyBook,
};

/// Events that are kept for a machine of a small fleet: two or three whole boots.
const MAX_EVENTS: usize = 64;
/// Events that are kept for the whole fleet, about 60 MB, unless each machine would have less than one boot.
const MAX_EVENTS_OF_FLEET: usize = 2_400_000;
/// Events that are kept for a machine of the largest fleet: one whole boot.
const MIN_EVENTS: usize = 24;

/// The mark of a release that other nodes do not know of yet.
const UNTOLD: u64 = 0;

/// The records of all machines that have sent something.
#[derive(Debug)]
pub(super) struct Fleet {
    records: HashMap<MacAddr, Record, AddressHashBuilder>,
    texts: Interner,
    cards: Cards,
    book: PolicyBook,
    /// The time at which the journal started.
    started: SystemTime,
    limit: usize,
    /// The book has changed since it was last taken for publication.
    book_changed: bool,
    /// The persistent state has changed since it was last taken to be saved.
    state_changed: bool,
    /// The machines of which something else is to be remembered than was last taken.
    changed: HashSet<MacAddr>,
    /// The marks of the releases by other nodes that have been applied.
    releases: HashMap<MacAddr, u64>,
    /// The machines that came to another stage or failed since they were last taken. `None` if nobody asks for them.
    touched: Option<HashSet<MacAddr>>,
    pace: Pace,
    /// Somebody finds out whether Talos is up on the machines on which an operating system runs.
    verifies_up: bool,
}

/// The effect of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Applied {
    pub(super) stage: Stage,
    /// The stage before.
    from: Stage,
    chain: Chain,
    /// The time at which it came to the step before.
    step_since: SystemTime,
    /// The machine has moved to another stage.
    pub(super) moved: bool,
    /// The event repeats the one before.
    pub(super) repeats: bool,
    /// The event is another host's doing, and changed nothing of the machine's.
    pub(super) is_of_others: bool,
    /// An attempt to boot begins with the event.
    pub(super) begins: bool,
}

impl Fleet {
    /// Creates a fleet from its saved state.
    pub(super) fn new(state: &State, started: SystemTime, machines: usize) -> Self {
        let mut records = HashMap::default();
        let mut book = PolicyBook::default();
        let mut releases = HashMap::new();
        for (mac, remembered) in state {
            let Ok(mac) = mac.parse::<MacAddr>() else { continue };
            let Remembered { cycle, boots, booted, reached_disk, policy, release } = *remembered;
            if cycle != Cycle::Unknown || boots > 0 {
                records.insert(mac, Record::new(started, cycle, boots));
            }
            if booted {
                book.booted.insert(mac);
            }
            if reached_disk {
                book.reached_disk.insert(mac);
            }
            if let Some(policy) = policy {
                book.overrides.insert(mac, policy.into());
            }
            releases.extend(release.map(|release| (mac, release)));
        }
        let limit = events_per_machine(machines);
        Self {
            records,
            texts: Interner::default(),
            cards: Cards::default(),
            book,
            started,
            limit,
            book_changed: false,
            state_changed: false,
            changed: HashSet::new(),
            releases,
            touched: None,
            pace: Pace::default(),
            verifies_up: false,
        }
    }

    /// Applies an event of a machine of the inventory, from any of its network cards.
    pub(super) fn apply(&mut self, event: &BootEvent) -> Applied {
        let started = self.started;
        let mac = self.cards.first(event.mac);
        let record = self.records.entry(mac).or_insert_with(|| Record::new(started, Cycle::Unknown, 0));
        let (cycle, boots, stage) = (record.cycle, record.boots, record.stage);
        let step_since = record.step_since();
        let Outcome { completes, repeats, is_of_others, begins } =
            record.apply(mac, event, self.limit, &mut self.texts);
        if is_of_others {
            let chain = record.chain;
            return Applied {
                stage,
                from: stage,
                chain,
                step_since,
                moved: false,
                repeats: false,
                is_of_others,
                begins,
            };
        }
        let is_news = policy::observe(&mut self.book, mac, cycle, event, completes);
        self.book_changed |= is_news;
        let is_remembered = is_news || (record.cycle, record.boots) != (cycle, boots);
        if is_news && self.releases.get(&mac) == Some(&UNTOLD) {
            // It has booted since, so that nobody else has to hear of it.
            self.releases.remove(&mac);
        }
        settle(record, stage, event, self.book.reached_disk.contains(&mac));
        if let Some(touched) = &mut self.touched
            && (is_news || record.stage != stage || tells_of_a_problem(&event.kind))
        {
            touched.insert(mac);
        }
        let applied = Applied {
            stage: record.stage,
            from: stage,
            chain: record.chain,
            step_since,
            moved: record.stage != stage,
            repeats,
            is_of_others: false,
            begins,
        };
        if is_remembered {
            self.remember(mac);
        }
        applied
    }

    /// Takes note of the time that a machine spent at a step, if the event moved it to a later one.
    pub(super) fn note_pace(&mut self, machine: &Machine, applied: &Applied, event: &BootEvent) {
        let Applied { stage, from, chain, step_since, moved, .. } = *applied;
        // The clock may have been set back.
        if moved && let Ok(time) = event.at.duration_since(step_since) {
            self.pace.note(&machine.cluster, chain, (from, stage), time);
        }
    }

    /// Applies an event that an earlier pxed saw of a machine. No conclusion is drawn from it, but for the times that machines take.
    pub(super) fn restore(&mut self, machine: &Machine, event: &BootEvent) {
        let mac = self.cards.first(event.mac);
        let record = self.records.entry(mac).or_insert_with(|| Record::new(event.at, Cycle::Unknown, 0));
        let (stage, step_since) = (record.stage, record.step_since());
        record.restore(mac, event, self.limit, &mut self.texts);
        settle(record, stage, event, self.book.reached_disk.contains(&mac));
        if record.stage != stage
            && let Ok(time) = event.at.duration_since(step_since)
        {
            self.pace.note(&machine.cluster, record.chain, (stage, record.stage), time);
        }
    }

    /// Sets whether somebody finds out when Talos is up on a machine. Without that, none is stuck before it.
    pub(super) fn verify_up(&mut self, verifies_up: bool) {
        self.verifies_up = verifies_up;
    }

    /// Returns how many events are kept for each machine.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Returns whether a line about this machine may be logged now.
    pub(super) fn may_log(&mut self, mac: MacAddr, at: SystemTime) -> Logging {
        self.records
            .get_mut(&self.cards.first(mac))
            .map_or(Logging::Line { suppressed: 0 }, |record| record.log_budget.take(at))
    }

    /// Keeps a machine from booting over the network, as a person decided.
    pub(super) fn hold(&mut self, mac: MacAddr) {
        let mac = self.cards.first(mac);
        policy::hold(&mut self.book, mac);
        self.book_changed = true;
        self.remember(mac);
    }

    /// Lets a machine boot from the network again, as a person decided. The system that runs on it now must prove nothing about
    /// its disk any more: otherwise the next renewal of an installed system would undo the release.
    pub(super) fn release(&mut self, mac: MacAddr) {
        let mac = self.cards.first(mac);
        policy::release(&mut self.book, mac);
        if let Some(record) = self.records.get_mut(&mac) {
            record.cycle = Cycle::Unknown;
        }
        self.book_changed = true;
        self.remember(mac);
    }

    /// Drops what a person decided here about a machine, since the spec says it by now.
    pub(super) fn hand_over(&mut self, mac: MacAddr) {
        let mac = self.cards.first(mac);
        if self.book.overrides.remove(&mac).is_some() {
            self.book_changed = true;
            self.remember(mac);
        }
    }

    /// Takes over what another node knows of a machine.
    pub(super) fn learn(&mut self, &Fact { mac, known }: &Fact) {
        let first = self.cards.first(mac);
        let is_news = match known {
            // A person released it here, which the others do not know yet.
            Known::Booted | Known::ReachedDisk { .. } if self.releases.get(&first) == Some(&UNTOLD) => false,
            Known::Booted => self.book.booted.insert(first),
            Known::ReachedDisk { booted } => {
                (booted && self.book.booted.insert(first)) | self.book.reached_disk.insert(first)
            }
            Known::Released(mark) if self.releases.insert(first, mark) == Some(mark) => false,
            Known::Released(_) => {
                self.release(mac);
                true
            }
        };
        self.book_changed |= is_news;
        if is_news {
            self.remember(first);
        }
    }

    /// Remembers a release that was made here, under the mark by which other nodes know it; `None` if they do not know of it yet.
    pub(super) fn mark_release(&mut self, mac: MacAddr, mark: Option<u64>) {
        let mac = self.cards.first(mac);
        self.releases.insert(mac, mark.unwrap_or(UNTOLD));
        self.remember(mac);
    }

    /// Returns the machines that were released here, of which other nodes do not know yet.
    pub(super) fn untold_releases(&self) -> Vec<MacAddr> {
        self.releases.iter().filter(|(_, mark)| **mark == UNTOLD).map(|(mac, _)| *mac).collect()
    }

    /// Returns the machines that came to another stage or failed since the last call. The first call begins to note them.
    pub(super) fn take_touched(&mut self) -> Vec<MacAddr> {
        self.touched.get_or_insert_default().drain().collect()
    }

    /// Forgets the events of machines that left the inventory, but keeps their persistent state: they may come back with the next
    /// reload. What is remembered of a machine follows it to the network card that the spec names first now.
    pub(super) fn follow(&mut self, inventory: &Inventory) {
        let cards = Cards::of(inventory);
        let before = std::mem::replace(&mut self.cards, cards);
        let moves: Vec<_> = before.moves(&self.cards, inventory).collect();
        for step in moves {
            self.carry_over(step);
        }
        self.limit = events_per_machine(inventory.machines().len());
        let clusters: HashSet<&str> = inventory.machines().iter().map(|machine| &*machine.cluster).collect();
        self.pace.keep(|cluster| clusters.contains(cluster));
        let Self { records, texts, limit, .. } = self;
        if let Some(touched) = &mut self.touched {
            touched.retain(|&mac| inventory.by_mac(mac).is_some());
        }
        records.retain(|&mac, record| {
            if inventory.by_mac(mac).is_some() {
                record.trim(*limit, texts);
                return true;
            }
            record.clear(texts);
            record.cycle != Cycle::Unknown || record.boots > 0
        });
        records.shrink_to_fit();
    }

    fn carry_over(&mut self, Move { from, to, only_if_new }: Move) {
        if only_if_new && (self.records.contains_key(&to) || policy::knows(&self.book, to)) {
            return;
        }
        let record = self.records.remove(&from);
        let is_remembered = record.is_some();
        if let Some(mut record) = record {
            record.change_first_card(from, to);
            match self.records.entry(to) {
                Entry::Vacant(entry) => _ = entry.insert(record),
                Entry::Occupied(entry) => entry.into_mut().merge(record, &mut self.texts),
            }
        }
        let is_in_book = policy::carry_over(&mut self.book, from, to);
        self.book_changed |= is_in_book;
        if is_in_book || is_remembered {
            self.remember(from);
            self.remember(to);
        }
    }

    /// Returns the book if it has changed since the last call.
    pub(super) fn take_book(&mut self) -> Option<PolicyBook> {
        std::mem::take(&mut self.book_changed).then(|| self.book.clone())
    }

    /// Returns the current book.
    pub(super) fn book(&self) -> &PolicyBook {
        &self.book
    }

    /// Returns whether [`Fleet::take_book`] or [`Fleet::take_state`] would return something.
    pub(super) fn is_changed(&self) -> bool {
        self.book_changed || self.state_changed
    }

    fn remember(&mut self, mac: MacAddr) {
        self.state_changed = true;
        self.changed.insert(mac);
    }

    /// Returns whether [`Fleet::take_changes`] would return something.
    pub(super) fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Returns what is to be remembered of the machines of which it has changed since the last call.
    pub(super) fn take_changes(&mut self) -> Vec<(MacAddr, Remembered)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|mac| (mac, self.remembered(mac))).collect()
    }

    /// Marks the machines as changed again, because the changes could not be written.
    pub(super) fn changes_not_written(&mut self, machines: impl Iterator<Item = MacAddr>) {
        self.changed.extend(machines);
    }

    fn remembered(&self, mac: MacAddr) -> Remembered {
        let record = self.records.get(&mac);
        Remembered {
            cycle: record.map_or(Cycle::Unknown, |record| record.cycle),
            boots: record.map_or(0, |record| record.boots),
            booted: self.book.booted.contains(&mac),
            reached_disk: self.book.reached_disk.contains(&mac),
            policy: self.book.overrides.get(&mac).map(|&policy| policy.into()),
            release: self.releases.get(&mac).copied(),
        }
    }

    /// Returns the persistent state if it has changed since the last call.
    pub(super) fn take_state(&mut self) -> Option<Vec<(MacAddr, Remembered)>> {
        std::mem::take(&mut self.state_changed).then(|| self.state())
    }

    /// Marks the state as changed again, because it could not be saved.
    pub(super) fn state_not_saved(&mut self) {
        self.state_changed = true;
    }

    pub(super) fn state(&self) -> Vec<(MacAddr, Remembered)> {
        let machines: HashSet<MacAddr> = (self.records.keys())
            .chain(&self.book.booted)
            .chain(&self.book.reached_disk)
            .chain(self.book.overrides.keys())
            .chain(self.releases.keys())
            .copied()
            .collect();
        let remembered = machines.into_iter().map(|mac| (mac, self.remembered(mac)));
        remembered.filter(|(_, remembered)| *remembered != Remembered::default()).collect()
    }

    /// Returns `true` if nothing was ever heard of a machine, as far as this node remembers.
    pub(super) fn is_silent(&self, mac: MacAddr) -> bool {
        let first = self.cards.first(mac);
        let is_silent = |record: &Record| {
            record.stage == Stage::default() && record.boots == 0 && record.cycle == Cycle::Unknown && record.is_empty()
        };
        !self.book.booted.contains(&first)
            && !self.book.reached_disk.contains(&first)
            && self.records.get(&first).is_none_or(is_silent)
    }

    /// Returns the stage of a machine.
    pub(super) fn stage(&self, mac: MacAddr) -> Stage {
        self.records.get(&self.cards.first(mac)).map_or(Stage::NeverSeen, |record| record.stage)
    }

    /// Returns the time that a machine has for its step.
    fn deadline(&self, machine: &Machine, record: Option<&Record>) -> Deadline {
        let limit = |record: &Record| {
            // Nobody may look whether it goes on, and a renewal shows a system that has run for longer than pxed knows.
            let is_booting = matches!(record.cycle, Cycle::Netbooted | Cycle::Fetched);
            let is_known = record.stage != Stage::Running || self.verifies_up && is_booting;
            let limit = self.pace.limit(&machine.cluster, record.chain, record.stage).filter(|_| is_known)?;
            record.step_since().checked_add(limit)
        };
        Deadline(record.and_then(limit))
    }

    /// Returns what lists are filtered and sorted by.
    pub(super) fn summary(&self, machine: &Machine) -> Summary {
        let record = self.records.get(&machine.mac);
        Summary {
            stage: record.map_or(Stage::NeverSeen, |record| record.stage),
            stage_since: record.map_or(self.started, Record::stage_since),
            deadline: self.deadline(machine, record),
            is_stuck: false,
            boots: record.map_or(0, Record::all_boots),
            cycle: record.map_or(Cycle::Unknown, |record| record.cycle),
            last_error_at: record.and_then(Record::last_error_at),
        }
    }

    /// Returns everything that is known about a machine, with its last `events` events.
    pub(super) fn machine(&self, machine: &Arc<Machine>, events: usize) -> MachineRecord {
        let record = self.records.get(&machine.mac);
        MachineRecord {
            machine: Arc::clone(machine),
            server: machine.site.address,
            policy: self.book.policy(machine),
            boots_from: self.book.disposition(machine),
            stage: record.map_or(Stage::NeverSeen, |record| record.stage),
            stage_since: record.map_or(self.started, Record::stage_since),
            deadline: self.deadline(machine, record),
            boots: record.map_or(0, Record::all_boots),
            attempt: record.map_or(0, |record| record.attempts),
            last_error: record.and_then(|record| record.last_error(&self.texts)),
            asked_too_often: record.and_then(Record::asked_too_often),
            booted: machine.macs().any(|mac| self.book.booted.contains(&mac)),
            reached_disk: machine.macs().any(|mac| self.book.reached_disk.contains(&mac)),
            is_decided_here: machine.macs().any(|mac| self.book.overrides.contains_key(&mac)),
            cycle: record.map_or(Cycle::Unknown, |record| record.cycle),
            verifies_up: self.verifies_up,
            others: record.and_then(Record::others),
            progress: None,
            astray: None,
            near_misses: Vec::new(),
            restored: record.map_or(0, |record| record.restored(events)),
            events: record.map_or_else(Vec::new, |record| record.events(machine.mac, events, &self.texts)),
        }
    }
}

/// Moves a machine to the stage that follows from more than its events: an operating system got its address at this stage before.
fn settle(record: &mut Record, before: Stage, event: &BootEvent, reached_disk: bool) {
    if !event.kind.is_operating_system() {
        return;
    }
    let runs_ours = matches!(record.cycle, Cycle::Netbooted | Cycle::Fetched);
    let known = match before {
        // pxed has not seen how it booted, but knows that it ran from its disk.
        Stage::NeverSeen if reached_disk && !runs_ours => Some(Stage::OnDisk),
        // It declined its address and has one now.
        Stage::Failed if runs_ours => Some(Stage::Running),
        _ => None,
    };
    if let Some(known) = known {
        record.enter(known, event.at);
    }
}

/// Returns `true` for what a person may have to know of, although the machine stays at its stage.
fn tells_of_a_problem(event: &EventKind) -> bool {
    event.is_failure() || matches!(event, EventKind::Awaits { .. } | EventKind::Ignored { .. })
}

/// Returns how many events are kept for each machine of a fleet of this size.
fn events_per_machine(machines: usize) -> usize {
    (MAX_EVENTS_OF_FLEET / machines.max(1)).clamp(MIN_EVENTS, MAX_EVENTS)
}

impl From<Override> for BootPolicy {
    fn from(policy: Override) -> Self {
        match policy {
            Override::Auto => Self::Auto,
            Override::Always => Self::Always,
            Override::Once => Self::Once,
            Override::Hold => Self::Hold,
        }
    }
}

impl From<BootPolicy> for Override {
    fn from(policy: BootPolicy) -> Self {
        match policy {
            BootPolicy::Auto => Self::Auto,
            BootPolicy::Always => Self::Always,
            BootPolicy::Once => Self::Once,
            BootPolicy::Hold => Self::Hold,
        }
    }
}

#[cfg(test)]
mod tests;
