//! The journal: it receives events, keeps the state that follows from them, and lets others read it.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use prometheus_client::metrics::counter::Counter;
use pxe_common::MacAddr;
use tokio::sync::{broadcast, mpsc};

use super::{
    boot_times::BootTimes,
    boots::Boots,
    changes_file::ChangesFile,
    cluster_counts::ClusterCounts,
    fact::Fact,
    fleet::{Applied, Fleet},
    history::{self, History},
    json::FleetEvent,
    log::{self, Line, Logger},
    log_budget::Logging,
    machine_record::{MachineRecord, Summary, advances},
    others::OthersLog,
    remembered::{Remembered, State},
    stage::Stage,
    state::{Loaded, StateDir, StateError},
};
use crate::model::{
    event::{BootEvent, EventKind},
    failure::TOO_OFTEN,
    history_limits::HistoryLimits,
    inventory::{Inventory, Machine, SharedInventory},
    near_miss::{self, NearMiss, Slip},
    origin::Origin,
    own_sites::SharedOwnSites,
    policy::BootPolicy,
    policy_book::SharedPolicies,
    progress::ProgressBoard,
    span::SpanSink,
    strangers::{Overheard, SharedStrangers},
};

/// The number of events that are applied at once, while readers wait.
pub(super) const BATCH: usize = 1_024;
/// The number of events that a follower may lag before it loses some.
const FEED_CAPACITY: usize = 4_096;

/// The events of every machine, and the state that follows from them.
#[derive(Debug)]
pub struct Journal {
    inventory: SharedInventory,
    policies: SharedPolicies,
    /// The addresses at which this host serves machines.
    own_sites: SharedOwnSites,
    progress: Arc<ProgressBoard>,
    strangers: SharedStrangers,
    fleet: Mutex<Fleet>,
    /// The inventory that the records belong to.
    followed: Mutex<Arc<Inventory>>,
    /// The loss from a damaged state file, and the reason why the state cannot be saved now.
    damage: Vec<String>,
    not_saved: Mutex<Option<String>>,
    /// Locked while the state is saved, so that an older state never replaces a newer one.
    state_dir: Mutex<StateDir>,
    /// Locked while changes are appended, and while the state is taken that has them all.
    changes: Mutex<ChangesFile>,
    feed: broadcast::Sender<Arc<FleetEvent>>,
    /// The history on disk, if it is kept.
    history: Option<History>,
    others_told: Mutex<OthersLog>,
    times: Arc<BootTimes>,
    /// The channel to whoever exports traces, until the journal runs.
    spans: Mutex<Option<SpanSink>>,
    /// The channel to whoever wants to know of machines on which an operating system begins to run.
    running: Option<mpsc::Sender<MacAddr>>,
    counts: Counts,
}

/// The counters of the journal.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) events: Counter,
    pub(super) unknown: Counter,
    pub(super) not_saved: Counter,
    pub(super) log_dropped: Counter,
    pub(super) history: history::Counts,
}

impl Journal {
    /// Creates the journal from the state in a directory, and publishes the policies from it.
    ///
    /// # Errors
    ///
    /// If the directory cannot be used, or its content cannot be understood.
    pub fn new(inventory: SharedInventory, policies: SharedPolicies, state_dir: &Path) -> Result<Self, StateError> {
        let directory = state_dir;
        let mut state_dir = StateDir::open(directory)?;
        let followed = inventory.load_full();
        let now = SystemTime::now();
        let Loaded { mut state, damage } = state_dir.load(now)?;
        let (changes, lost) = ChangesFile::open(directory, &mut state, now);
        let has_changes = changes.length() > 0;
        let mut fleet = Fleet::new(&state, now, followed.machines().len());
        for damage in damage.iter().chain(&lost) {
            tracing::warn!("{damage}");
        }
        if damage.is_some() || has_changes {
            // A damaged file has been moved, so what could be read of it is in memory alone.
            fleet.state_not_saved();
        }
        fleet.follow(&followed);
        policies.store(Arc::new(fleet.book().clone()));
        Ok(Self {
            inventory,
            policies,
            own_sites: SharedOwnSites::default(),
            progress: Arc::new(ProgressBoard::new(0)),
            strangers: SharedStrangers::default(),
            fleet: Mutex::new(fleet),
            followed: Mutex::new(followed),
            state_dir: Mutex::new(state_dir),
            changes: Mutex::new(changes),
            feed: broadcast::Sender::new(FEED_CAPACITY),
            history: None,
            damage: damage.into_iter().chain(lost).collect(),
            not_saved: Mutex::default(),
            others_told: Mutex::default(),
            times: Arc::default(),
            spans: Mutex::default(),
            running: None,
            counts: Counts::default(),
        })
    }

    /// Reads back what an earlier pxed saw of the machines of the inventory, and keeps the history on disk from now on. No damage to the
    /// history is an error.
    #[must_use]
    pub fn with_history(mut self, state_dir: &Path, limits: HistoryLimits) -> Self {
        {
            let mut fleet = lock(&self.fleet);
            let (inventory, limit) = (lock(&self.followed).clone(), fleet.limit());
            let machine = |mac| inventory.by_mac(mac).map(|machine| machine.mac);
            let losses = history::recall(state_dir, limit, machine, |event| {
                if let Some(machine) = inventory.by_mac(event.mac) {
                    fleet.restore(machine, &event);
                }
            });
            losses.iter().for_each(|loss| tracing::warn!("{loss}"));
            self.damage.extend(losses);
        }
        match History::start(state_dir, limits, &self.counts.history) {
            Ok(history) => self.history = Some(history),
            Err(error) => {
                let problem = format!("the history is not kept: its thread cannot be started: {error}");
                tracing::error!("{problem}");
                self.damage.push(problem);
            }
        }
        self
    }

    /// Sets the addresses at which this host serves machines. Without it, those of the spec are taken for them.
    #[must_use]
    pub fn with_own_sites(self, own_sites: SharedOwnSites) -> Self {
        Self { own_sites, ..self }
    }

    /// Sends the steps of boots to whoever exports traces.
    #[must_use]
    pub fn with_spans(self, spans: Option<SpanSink>) -> Self {
        Self { spans: Mutex::new(spans), ..self }
    }

    /// Sends the first MAC address of each machine on which an operating system begins to run. Never waits: what finds no room is left out.
    #[must_use]
    pub fn with_running(self, running: Option<mpsc::Sender<MacAddr>>) -> Self {
        lock(&self.fleet).verify_up(running.is_some());
        Self { running, ..self }
    }

    /// Sets the board on which transfers publish their progress.
    #[must_use]
    pub fn with_progress(self, progress: Arc<ProgressBoard>) -> Self {
        Self { progress, ..self }
    }

    /// Sets the table of those who ask and are not answered.
    #[must_use]
    pub fn with_strangers(self, strangers: SharedStrangers) -> Self {
        Self { strangers, ..self }
    }

    /// Returns a record with what this host knows beside the events: its own address, and the progress of transfers.
    fn as_seen_here(&self, record: MachineRecord) -> MachineRecord {
        let own = self.own_sites.load().of(&record.machine.site).map(|own| own.address);
        let progress = self.progress.of(record.machine.mac);
        MachineRecord { server: own.unwrap_or(record.server), progress, ..record }
    }

    /// Returns the inventory in force.
    #[must_use]
    pub fn inventory(&self) -> Arc<Inventory> {
        self.inventory.load_full()
    }

    /// Returns everything that is known about a machine, or `None` if it is not in the inventory.
    #[must_use]
    pub fn machine(&self, mac: MacAddr) -> Option<MachineRecord> {
        let inventory = self.inventory.load();
        let machine = inventory.by_mac(mac)?;
        let record = self.fleet().machine(machine, usize::MAX);
        let strangers = self.strangers.lock();
        let astray =
            machine.macs().filter_map(|card| strangers.astray(card)).max_by_key(|heard| heard.last.at).cloned();
        let slip_of =
            |stranger: &Overheard| machine.macs().filter_map(|card| Slip::between(stranger.last.mac, card)).min();
        let near = strangers.iter().filter(|stranger| inventory.by_mac(stranger.last.mac).is_none());
        let mut near_misses: Vec<_> =
            near.filter_map(|stranger| Some((stranger.clone(), slip_of(stranger)?))).collect();
        drop(strangers);
        near_misses.sort_by_key(|(_, slip)| *slip);
        Some(MachineRecord { astray, near_misses, ..self.as_seen_here(record) })
    }

    /// Returns everything that is known about these machines, each with its last `events` events. The journal waits meanwhile, so
    /// a large fleet must be read in parts.
    #[must_use]
    pub fn machines(&self, machines: &[Arc<Machine>], events: usize, only: Option<Stage>) -> Vec<MachineRecord> {
        let fleet = self.fleet();
        let wanted = machines.iter().filter(|machine| only.is_none_or(|stage| fleet.stage(machine.mac) == stage));
        wanted.map(|machine| self.as_seen_here(fleet.machine(machine, events))).collect()
    }

    /// Returns what lists are filtered and sorted by of these machines. The journal waits meanwhile.
    #[must_use]
    pub fn summaries(&self, machines: &[Arc<Machine>]) -> Vec<Summary> {
        let (now, fleet) = (SystemTime::now(), self.fleet());
        let of = |machine: &Arc<Machine>| {
            let summary = fleet.summary(machine);
            let is_stuck = summary.deadline.is_over(now, || self.advances(machine.mac, now));
            Summary { is_stuck, ..summary }
        };
        machines.iter().map(of).collect()
    }

    /// Returns `true` if bytes of a file arrive at a machine.
    fn advances(&self, mac: MacAddr, now: SystemTime) -> bool {
        self.progress.of(mac).is_some_and(|progress| advances(&progress, now))
    }

    /// Returns the machine that a stranger's address is a slip away from: one of which nothing was ever heard.
    #[must_use]
    pub fn nearest<'a>(&self, stranger: MacAddr, inventory: &'a Inventory) -> Option<NearMiss<'a>> {
        let fleet = self.fleet();
        near_miss::nearest(stranger, inventory, |machine| fleet.is_silent(machine.mac))
    }

    /// Returns how many machines of the inventory are at each stage.
    #[must_use]
    pub fn stages(&self) -> Vec<(Stage, u64)> {
        let inventory = self.inventory();
        let mut counts = [0; Stage::ALL.len()];
        for machines in inventory.machines().chunks(BATCH) {
            let fleet = self.fleet();
            for machine in machines {
                counts[fleet.stage(machine.mac) as usize] += 1;
            }
        }
        Stage::ALL.into_iter().zip(counts).collect()
    }

    /// Follows the events from now on. A follower that lags by thousands of events loses the oldest.
    #[must_use]
    pub fn follow(&self) -> broadcast::Receiver<Arc<FleetEvent>> {
        self.feed.subscribe()
    }

    /// Keeps a machine from booting over the network. The hold is in force and saved when this returns. Returns `None` if the
    /// machine is not in the inventory. Waits for the disk.
    ///
    /// # Errors
    ///
    /// If the state cannot be saved. The hold is then in force until pxed ends.
    pub fn hold(&self, mac: MacAddr) -> Result<Option<MachineRecord>, StateError> {
        self.decide(mac, |fleet| fleet.hold(mac))
    }

    /// Lets a machine boot over the network again, even if it was installed. The release is in force and saved when this
    /// returns. Returns `None` if the machine is not in the inventory. Waits for the disk.
    ///
    /// # Errors
    ///
    /// If the state cannot be saved. The release is then in force until pxed ends.
    pub fn release(&self, mac: MacAddr) -> Result<Option<MachineRecord>, StateError> {
        self.decide(mac, |fleet| fleet.release(mac))
    }

    fn decide(&self, mac: MacAddr, decision: impl FnOnce(&mut Fleet)) -> Result<Option<MachineRecord>, StateError> {
        let inventory = self.inventory.load();
        let Some(machine) = inventory.by_mac(mac) else { return Ok(None) };
        let record = {
            let mut fleet = self.fleet();
            decision(&mut fleet);
            self.publish_from(&mut fleet);
            self.as_seen_here(fleet.machine(machine, usize::MAX))
        };
        self.save()?;
        Ok(Some(record))
    }

    /// Takes over what other nodes know. It is in force when this returns, and saved with the next change.
    pub fn learn(&self, facts: &[Fact]) {
        for facts in facts.chunks(BATCH) {
            let mut fleet = self.fleet();
            facts.iter().for_each(|fact| fleet.learn(fact));
            self.publish_from(&mut fleet);
        }
    }

    /// Drops what a person decided here about a machine, since the spec says it by now.
    pub fn hand_over(&self, mac: MacAddr) {
        let mut fleet = self.fleet();
        fleet.hand_over(mac);
        self.publish_from(&mut fleet);
    }

    /// Remembers that a release was made here, under the mark by which other nodes know it; `None` if they do not know of it yet.
    pub fn mark_release(&self, mac: MacAddr, mark: Option<u64>) {
        self.fleet().mark_release(mac, mark);
    }

    /// Returns the machines that were released here, of which other nodes do not know yet.
    #[must_use]
    pub fn untold_releases(&self) -> Vec<MacAddr> {
        self.fleet().untold_releases()
    }

    /// Returns the machines that came to another stage or failed since the last call, by their first MAC address. The first call begins to
    /// note them.
    #[must_use]
    pub fn take_touched(&self) -> Vec<MacAddr> {
        self.fleet().take_touched()
    }

    /// Returns the machines whose policy a person set by pxed, with that policy.
    #[must_use]
    pub fn decided(&self) -> Vec<(MacAddr, BootPolicy)> {
        self.policies.load().overrides.iter().map(|(&mac, &policy)| (mac, policy)).collect()
    }

    /// Saves the state, as [`run`] does every second.
    #[cfg(test)]
    pub(crate) fn save_now(&self) {
        self.save_unless_it_fails();
    }

    /// Applies events at once.
    #[cfg(test)]
    pub(crate) fn apply(&self, events: &[BootEvent]) {
        let mut fleet = self.fleet();
        let inventory = self.inventory();
        for event in events {
            let applied = fleet.apply(event);
            if let Some(machine) = inventory.by_mac(event.mac) {
                fleet.note_pace(machine, &applied, event);
                self.tell_of_running(machine, &applied);
            }
        }
        self.publish_from(&mut fleet);
    }

    /// Applies events.
    pub(super) fn absorb(&self, events: impl Iterator<Item = BootEvent>, boots: &mut Boots, logger: &mut Logger) {
        let followed = self.feed.receiver_count() > 0;
        let mut fleet = self.fleet();
        let inventory = Arc::clone(&lock(&self.followed));
        boots.prune(&inventory);
        let mut for_history = Vec::new();
        for event in events {
            let Some(machine) = inventory.by_mac(event.mac) else {
                self.counts.unknown.inc();
                continue;
            };
            self.counts.events.inc();
            let applied = fleet.apply(&event);
            if applied.is_of_others {
                self.tell_of_others(machine, &event);
                continue;
            }
            fleet.note_pace(machine, &applied, &event);
            self.tell_of_running(machine, &applied);
            boots.done(&event.kind);
            let took = if applied.moved { boots.moved(machine, applied.stage, applied.begins, &event) } else { None };
            // The rate limit is told of every ten seconds of a flood, which would push out how the machine booted.
            if self.history.is_some() && event.kind != (EventKind::Ignored { reason: TOO_OFTEN }) {
                for_history.push(event.clone());
            }
            let level = log::level(&event.kind, &applied);
            let logged = match log::is_wanted(level).then(|| fleet.may_log(event.mac, event.at)) {
                Some(Logging::Line { suppressed }) => Some(suppressed),
                Some(Logging::Suppressed) | None => None,
            };
            if !followed && logged.is_none() {
                continue;
            }
            let event = FleetEvent { machine: Arc::clone(machine), stage: applied.stage, event };
            if followed {
                // An error means that the last follower has left.
                let _ = self.feed.send(Arc::new(event.clone()));
            }
            if let Some(suppressed) = logged {
                logger.log(Line { event, level, suppressed, took });
            }
        }
        if let Some(history) = &self.history
            && !for_history.is_empty()
        {
            history.write(for_history);
        }
        logger.hand_over();
    }

    /// Names a machine to whoever wants to know of those on which an operating system begins to run.
    fn tell_of_running(&self, machine: &Machine, applied: &Applied) {
        if applied.moved
            && applied.stage == Stage::Running
            && let Some(running) = &self.running
        {
            // An error means that there is no room, or nobody who listens.
            let _ = running.try_send(machine.mac);
        }
    }

    /// Logs a frame in a machine's name that another host sent, unless such a line is recent.
    fn tell_of_others(&self, machine: &Machine, event: &BootEvent) {
        let (Origin::Relay(from) | Origin::Other(from)) = event.origin else { return };
        let Some(suppressed) = lock(&self.others_told).admit(event.at) else { return };
        tracing::warn!(
            mac = %event.mac, %from, interface = &*machine.site.interface, suppressed,
            "a DHCP frame with this machine's address came from another host ({}); it changes nothing of the machine's. `pxed explain {}` \
             counts them", event.kind, machine.mac
        );
    }

    pub(super) fn publish_from(&self, fleet: &mut Fleet) {
        if let Some(book) = fleet.take_book() {
            self.policies.store(Arc::new(book));
        }
    }

    /// Writes the state if it has changed.
    fn save(&self) -> Result<(), StateError> {
        let mut state_dir = lock(&self.state_dir);
        let taken = {
            let mut changes = lock(&self.changes);
            // The state that is taken has these, too. Were they not in the file, older lines of it would win over the state.
            self.append(&mut changes);
            self.fleet().take_state().map(|machines| (state_of(machines), changes.length()))
        };
        let Some((state, written)) = taken else { return Ok(()) };
        let saved = state_dir.save(&state, SystemTime::now()).inspect_err(|_| {
            self.counts.not_saved.inc();
            self.fleet().state_not_saved();
        });
        if saved.is_ok() {
            // If the disk refuses it, they are applied once more at the next start.
            let _ = lock(&self.changes).forget(written);
        }
        self.tell_of(saved.as_ref().err());
        saved
    }

    /// Writes what has changed since the last call, without waiting for the disk.
    pub(super) fn note(&self) {
        let mut changes = lock(&self.changes);
        if !changes.is_failing() {
            self.append(&mut changes);
        }
    }

    fn append(&self, changes: &mut ChangesFile) {
        let machines = self.fleet().take_changes();
        let macs: Vec<_> = machines.iter().map(|(mac, _)| *mac).collect();
        // A disk that refuses it refuses the state file as well, which is told of.
        if changes.append(&state_of(machines)).is_err() {
            self.fleet().changes_not_written(macs.into_iter());
        }
    }

    /// Logs that the state cannot be saved, or can be again: once, since it is tried every second.
    fn tell_of(&self, error: Option<&StateError>) {
        let problem =
            error.map(|error| format!("the state is not saved, and a restart would forget what is new: {error}"));
        let before = std::mem::replace(&mut *lock(&self.not_saved), problem.clone());
        match (before, problem) {
            (before, Some(problem)) if before.as_ref() != Some(&problem) => tracing::error!("{problem}"),
            (Some(_), None) => tracing::info!("the state is saved again"),
            _ => {}
        }
    }

    /// Returns what is wrong with the saved state.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let of_history = self.history.as_ref().and_then(|history| history.trouble.get());
        self.damage.iter().cloned().chain(lock(&self.not_saved).clone()).chain(of_history).collect()
    }

    pub(super) fn save_unless_it_fails(&self) {
        // Told of already, and tried again as long as the state is not saved.
        let _ = self.save();
    }

    pub(super) fn times(&self) -> &BootTimes {
        &self.times
    }

    /// Returns what follows the boots, with the sink of their spans the first time.
    pub(super) fn boots(&self) -> Boots {
        Boots::new(Arc::clone(&self.times), lock(&self.spans).take(), self.running.is_some())
    }

    /// Writes what is left of the history.
    pub(super) fn finish_history(&self) {
        if let Some(history) = &self.history {
            history.finish();
        }
    }

    /// Returns the number of machines of each cluster at each step.
    pub(super) fn clusters(&self, now: SystemTime) -> BTreeMap<Arc<str>, ClusterCounts> {
        let inventory = self.inventory();
        let mut clusters = BTreeMap::<_, ClusterCounts>::new();
        for machines in inventory.machines().chunks(BATCH) {
            let fleet = self.fleet();
            for machine in machines {
                let summary = fleet.summary(machine);
                let is_stuck = summary.deadline.is_over(now, || self.advances(machine.mac, now));
                if let Some(counts) = clusters.get_mut(&machine.cluster) {
                    counts.add(summary.stage, is_stuck);
                } else {
                    clusters.entry(Arc::clone(&machine.cluster)).or_default().add(summary.stage, is_stuck);
                }
            }
        }
        clusters
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Returns the records of the inventory in force: after a reload, they follow it first.
    pub(super) fn fleet(&self) -> MutexGuard<'_, Fleet> {
        let mut fleet = lock(&self.fleet);
        let inventory = self.inventory.load();
        let mut followed = lock(&self.followed);
        if !Arc::ptr_eq(&followed, &inventory) {
            fleet.follow(&inventory);
            *followed = Arc::clone(&inventory);
        }
        fleet
    }
}

/// Locks a mutex, poisoned or not: the data is changed in single steps, and stays consistent when a reader panics.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn state_of(machines: Vec<(MacAddr, Remembered)>) -> State {
    machines.into_iter().map(|(mac, remembered)| (mac.to_string(), remembered)).collect()
}

#[cfg(test)]
mod tests;
