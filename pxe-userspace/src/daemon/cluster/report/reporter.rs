//! Decides what the API is told of machines and clusters, and when. It reads the journal, the objects, the nodes and the files, and hands out
//! writes; it neither sends anything nor reads a clock.
//!
//! A machine is written about by the node that it has chosen, else by the node that owns it. Each looks only at changes of what it sees itself,
//! so that two nodes never overwrite each other in turns.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use pxe_common::MacAddr;

use super::{
    decisions::Decide,
    entry::{Annotation, Entry, text_of},
    index::Index,
    mistakes::{Clusters, LeftOut, kept},
    wait::Waiting,
    write::{Failed, Group, HOLD, Now, POLICY, Task, What, Write},
};
use crate::{
    cluster_status::{
        cluster,
        condition::{Assessment, Author, BOOTED, READY, author_of, written},
        facts::mark,
        machine::{self, Assessed, LEFT_OUT, RELEASED, SETTLES_IN},
        occasion::Occasion,
        schedule::{Failure, Priority, Schedule, Told},
    },
    journal::{Journal, MachineRecord, Stage},
    kubernetes::{Changes, Objects, Observed},
    model::{
        address_signs::{AddressSigns, NeighbourAt},
        api_object::{ApiCondition, ApiKind, ObjectKey},
        finding::{SharedSpecFaults, SpecFaults},
        images::SharedImages,
        inventory::{Inventory, Machine},
        nodes::{Node, Nodes, Owner, SharedNodes},
        own_sites::SharedOwnSites,
        policy::BootPolicy,
    },
};

/// The machines that are assessed at once. In a storm the others wait for the next look.
const ASSESSED_AT_ONCE: usize = 512;
/// The machines that are read from the journal at once, which waits meanwhile.
const CHUNK: usize = 64;
/// The least time between two looks at all objects, unless the spec changed.
const FOLLOW_EVERY: Duration = Duration::from_millis(250);
/// The time after which objects without a condition are looked at again.
const FOLLOW_ANYWAY: Duration = Duration::from_secs(5);
/// The least time between two looks at the clusters, or at what waits for a time.
const CLUSTERS_EVERY: Duration = Duration::from_secs(1);

/// The sources of the reporter.
#[derive(Clone, Debug)]
pub(in crate::daemon) struct World {
    pub(in crate::daemon) journal: Arc<Journal>,
    pub(in crate::daemon) objects: Arc<Objects>,
    pub(in crate::daemon) faults: SharedSpecFaults,
    pub(in crate::daemon) images: SharedImages,
    pub(in crate::daemon) nodes: SharedNodes,
    /// The sites of this node, if it is alone.
    pub(in crate::daemon) own_sites: SharedOwnSites,
    /// The name of this node, if it is alone.
    pub(in crate::daemon) host: Arc<str>,
    /// Asks the kernel which host has a machine's address.
    pub(in crate::daemon) neighbour_at: NeighbourAt,
}

impl World {
    /// Returns the nodes. While nobody has published any, this node is alone.
    fn nodes(&self) -> Arc<Nodes> {
        let nodes = self.nodes.load_full();
        if !nodes.this().name.is_empty() {
            return nodes;
        }
        let own = self.own_sites.load();
        let sites = own.served.iter().map(|(site, own)| (site.address, own.address)).collect();
        let problems = own.problems.clone();
        Arc::new(Nodes::new(
            Node { name: Arc::clone(&self.host), sites, is_alive: true, problems, ..Node::default() },
            [],
        ))
    }
}

/// The state of the reporter. It is bounded by the number of objects.
#[derive(Debug)]
pub(super) struct Reporter {
    world: World,
    index: Index,
    entries: HashMap<ObjectKey, Entry>,
    schedule: Schedule<Task, Group>,
    touched: VecDeque<MacAddr>,
    waiting: Waiting,
    /// The findings of the last look at all objects.
    followed: Option<(Changes, Arc<Inventory>, Arc<SpecFaults>, Instant)>,
    clusters_at: Option<Instant>,
}

impl Reporter {
    pub(super) fn new(world: World, now: Now) -> Self {
        Self {
            world,
            index: Index::default(),
            entries: HashMap::new(),
            schedule: Schedule::new(now.instant),
            touched: VecDeque::new(),
            waiting: Waiting::default(),
            followed: None,
            clusters_at: None,
        }
    }

    /// Takes in what has changed.
    pub(super) fn look(&mut self, now: Now) {
        let nodes = self.world.nodes();
        self.schedule.set_nodes(1 + nodes.peers().iter().filter(|peer| peer.is_alive).count());
        self.follow(&nodes, now);
        self.touched.extend(self.world.journal.take_touched());
        let touched: Vec<_> = self.touched.drain(..self.touched.len().min(ASSESSED_AT_ONCE)).collect();
        self.assess(&touched, &nodes, now);
        if self.clusters_at.is_none_or(|at| now.instant.saturating_duration_since(at) >= CLUSTERS_EVERY) {
            self.clusters_at = Some(now.instant);
            let due = self.entries.values().filter(|entry| entry.again.is_some_and(|again| again <= now.wall));
            let due: Vec<_> = due.filter_map(|entry| entry.mac).take(ASSESSED_AT_ONCE).collect();
            self.assess(&due, &nodes, now);
            self.look_at_clusters(&nodes, now);
        }
        self.waiting.give_up(now.instant);
    }

    /// Returns the number of writes that are wanted.
    pub(super) fn wanted(&self) -> usize {
        self.schedule.wanted()
    }

    /// Brings the entries in step with the objects and the spec, if they changed.
    fn follow(&mut self, nodes: &Nodes, now: Now) {
        let changes = *self.world.objects.changes().borrow();
        let (inventory, faults) = (self.world.journal.inventory(), self.world.faults.load_full());
        let waits = self.entries.values().any(|entry| entry.last.is_none());
        if let Some((before, of, faults_before, at)) = &self.followed {
            let is_new_spec =
                before.spec != changes.spec || !Arc::ptr_eq(of, &inventory) || !Arc::ptr_eq(faults_before, &faults);
            let rested = now.instant.saturating_duration_since(*at);
            let is_due = before.all != changes.all && rested >= FOLLOW_EVERY || waits && rested >= FOLLOW_ANYWAY;
            if !is_new_spec && !is_due {
                return;
            }
        }
        self.followed = Some((changes, Arc::clone(&inventory), Arc::clone(&faults), now.instant));
        let objects = self.world.objects.all(None);
        self.index.update(&objects, &inventory);
        let left_out = LeftOut::new(&faults);
        let held = self.world.journal.decided();
        let held: HashMap<MacAddr, BootPolicy> = held.into_iter().collect();
        let untold = self.world.journal.untold_releases();
        let mut before = std::mem::take(&mut self.entries);
        let (mut facts, mut unsettled) = (Vec::new(), Vec::new());
        for observed in &objects {
            let key = &observed.object.key;
            let kind = match key.kind {
                ApiKind::TalosMachine => BOOTED,
                ApiKind::TalosCluster => READY,
                ApiKind::TalosControlPlane | ApiKind::TalosWorker => continue,
            };
            let known = before.remove(key).filter(|entry| entry.uid == observed.object.uid);
            let is_new = known.is_none();
            let mut entry = known.unwrap_or_else(|| Entry::new(Arc::clone(&observed.object.uid), now.instant));
            let was = std::mem::replace(&mut entry.mac, self.index.machine_of(key));
            if let Some(mac) = entry.mac {
                facts.extend(entry.learn(mac, observed.condition(kind), &nodes.this().name, now));
                if is_new || was != entry.mac {
                    self.touched.push_back(mac);
                }
                let machine = inventory.by_mac(mac);
                if let Some(BootPolicy::Hold) = held.get(&mac) {
                    self.hold_in_api(key, &mut entry, observed, machine, now);
                }
                if untold.contains(&mac) && entry.released.is_none() {
                    self.release_in_api(key, &mut entry, observed, now);
                }
                let condition = observed.condition(kind);
                let is_settled = now.instant.saturating_duration_since(entry.appeared) >= SETTLES_IN;
                let is_absent = condition.is_none() && is_settled;
                if is_absent || condition.is_some_and(|condition| condition.reason == LEFT_OUT) {
                    unsettled.push((key.clone(), mac));
                }
            } else if key.kind == ApiKind::TalosMachine
                && let Some(fault) = left_out.of(key, self.index.claimed_by(key))
                && nodes.owns_key(&key.to_string())
            {
                entry.note_condition(observed.condition(kind));
                let was_booted = observed.condition(kind).is_some_and(|condition| condition.status == "True");
                let assessment = machine::left_out(fault, was_booted);
                let occasion = Some(Occasion::LeftOut);
                tell(&mut self.schedule, key, &mut entry, assessment, occasion, Priority::Outcome, now);
            } else {
                entry.note_condition(observed.condition(kind));
            }
            self.entries.insert(key.clone(), entry);
        }
        self.world.journal.learn(&facts);
        let entries = &self.entries;
        let exists = |task: &Task| entries.contains_key(&task.object);
        self.schedule.retain(exists, |group| entries.keys().any(|key| key.namespace == group.namespace));
        self.waiting.drop_gone(exists);
        for (key, mac) in unsettled {
            let Some(machine) = inventory.by_mac(mac) else { continue };
            if owns(nodes, machine) || self.is_served_here(machine) {
                let task = Task { object: key, what: What::Condition };
                self.schedule.want(task, Priority::Initial, Duration::ZERO, now.instant);
            }
        }
    }

    /// Moves a hold that a person set here into the API.
    fn hold_in_api(
        &mut self,
        key: &ObjectKey,
        entry: &mut Entry,
        observed: &Observed,
        machine: Option<&Arc<Machine>>,
        now: Now,
    ) {
        if observed.annotations.get(POLICY).is_some_and(|policy| policy == HOLD) {
            if let Some(machine) = machine.filter(|machine| machine.policy == BootPolicy::Hold) {
                self.world.journal.hand_over(machine.mac);
            }
        } else if entry.annotation.is_none() {
            entry.annotation = Some(Annotation::Hold);
            let task = Task { object: key.clone(), what: What::Annotation };
            self.schedule.want(task, Priority::Fact, Duration::ZERO, now.instant);
        }
    }

    /// Tells other nodes of a release that was made here. Returns what is to be written for it.
    fn release_in_api(&mut self, key: &ObjectKey, entry: &mut Entry, observed: &Observed, now: Now) -> Vec<Task> {
        let is_held = observed.annotations.get(POLICY).is_some_and(|policy| policy == HOLD);
        entry.annotation = is_held.then_some(Annotation::Remove);
        (entry.released, entry.detail) = (Some(now.wall), None);
        let parts = is_held.then_some(What::Annotation).into_iter().chain([What::Condition]);
        let tasks: Vec<_> = parts.map(|what| Task { object: key.clone(), what }).collect();
        for task in &tasks {
            self.schedule.want(task.clone(), Priority::Fact, Duration::ZERO, now.instant);
        }
        tasks
    }

    fn is_served_here(&self, machine: &Arc<Machine>) -> bool {
        let images = self.world.images.load();
        let records = self.world.journal.machines(std::slice::from_ref(machine), usize::MAX, None);
        records.first().is_some_and(|record| {
            machine::assess(record, &images, false, record.stage_since).is_served_here == Some(true)
        })
    }

    /// Assesses machines, and wants to write what is new.
    fn assess(&mut self, macs: &[MacAddr], nodes: &Nodes, now: Now) {
        let inventory = self.world.journal.inventory();
        let images = self.world.images.load_full();
        let faults = self.world.faults.load_full();
        for macs in macs.chunks(CHUNK) {
            let machines: Vec<_> = macs.iter().filter_map(|&mac| inventory.by_mac(mac)).cloned().collect();
            for record in self.world.journal.machines(&machines, usize::MAX, None) {
                let Some(key) = self.index.object_of(record.machine.mac) else { continue };
                let Some(entry) = self.entries.get_mut(key) else { continue };
                let assessed = machine::assess(&record, &images, entry.is_released(&record), now.wall);
                entry.again = assessed.again;
                if !speaks(&assessed, nodes, &record) || entry.is_outdated(&record, &assessed) {
                    continue;
                }
                if record.stage == Stage::NeverSeen {
                    // It says nothing that the API does not have, if it has anything.
                    entry.told = Some(assessed.assessment);
                    continue;
                }
                let priority = priority(&assessed);
                let Assessed { mut assessment, occasion, .. } = assessed;
                assessment.detail += &kept(&faults, record.machine.mac).unwrap_or_default();
                let begins = entry.stage_since.replace(record.stage_since) != Some(record.stage_since);
                note(&mut self.schedule, key, entry, occasion, &assessment.detail, begins, now);
                tell(&mut self.schedule, key, entry, assessment, None, priority, now);
            }
        }
    }

    /// Assesses the clusters that this node speaks for.
    fn look_at_clusters(&mut self, nodes: &Nodes, now: Now) {
        let Some((_, inventory, faults, _)) = &self.followed else { return };
        let Node { sites, problems, .. } = nodes.this();
        if sites.is_empty() && problems.is_empty() && nodes.peers().is_empty() {
            // Nobody has looked at the interfaces yet.
            return;
        }
        let (inventory, faults) = (Arc::clone(inventory), Arc::clone(faults));
        let clusters: Vec<ObjectKey> =
            self.entries.keys().filter(|key| key.kind == ApiKind::TalosCluster).cloned().collect();
        let by_cluster = Clusters::new(&inventory, &faults, &self.index);
        let images = self.world.images.load_full();
        for key in clusters {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            if !nodes.owns_key(&key.to_string()) {
                entry.told = None;
                continue;
            }
            let Some(assessed) = cluster::assess(&by_cluster.of(&key), nodes, &images, now.wall) else { continue };
            let observed = self.world.objects.get(&key);
            let condition = observed.as_ref().and_then(|observed| observed.condition(READY));
            if !assessed.is_served && condition.is_some_and(|condition| is_of_another_fleet(condition, nodes)) {
                continue;
            }
            let reason = assessed.assessment.reason;
            note(&mut self.schedule, &key, entry, assessed.occasion, reason, false, now);
            tell(&mut self.schedule, &key, entry, assessed.assessment, None, Priority::Outcome, now);
        }
    }

    /// Returns what is to be written now.
    pub(super) fn next(&mut self, now: Now) -> Option<(Task, Write)> {
        while let Some(task) = self.schedule.next(now.instant, Task::group) {
            match self.prepare(&task, now) {
                Some(write) => return Some((task, write)),
                None => {
                    self.schedule.unused(&task, now.instant);
                    self.waiting.written(&task);
                }
            }
        }
        None
    }

    /// Returns what to write for a task as things are now; `None` if the API says it already.
    fn prepare(&mut self, task: &Task, now: Now) -> Option<Write> {
        let object = self.world.objects.get(&task.object).filter(|object| !object.is_being_deleted)?;
        let nodes = self.world.nodes();
        let author = Author { node: &nodes.this().name, now: now.wall };
        match task.what {
            What::Annotation => {
                let entry = self.entries.get_mut(&task.object)?;
                let is_hold = object.annotations.get(POLICY).is_some_and(|policy| policy == HOLD);
                let value = match entry.annotation? {
                    Annotation::Hold if !is_hold => Some(HOLD),
                    Annotation::Remove if is_hold => None,
                    Annotation::Hold | Annotation::Remove => {
                        entry.annotation = None;
                        return None;
                    }
                };
                Some(Write::Annotation { object, value })
            }
            What::Condition => {
                let (assessment, sentence, is_timeless) = self.condition(task, &nodes, now)?;
                let kind = if task.object.kind == ApiKind::TalosCluster { READY } else { BOOTED };
                let entry = self.entries.get_mut(&task.object)?;
                let said = object.condition(kind);
                let is_said = entry.last.as_ref().is_some_and(|(last, _)| assessment.is_said_by(last));
                let is_same = match &entry.detail {
                    Some(detail) => *detail == assessment.detail,
                    // Another run of pxed wrote this.
                    None if is_timeless => said.is_some_and(|said| text_of(&said.message) == sentence),
                    None => assessment.detail.is_empty(),
                };
                entry.told = Some(assessment.clone());
                // A release is a message to other nodes: each counts.
                let is_release = assessment.reason == RELEASED && entry.detail.as_deref() != Some(RELEASED);
                if is_said && is_same && !is_release {
                    return None;
                }
                let before = entry.last.as_ref().map(|(last, _)| last);
                let condition = written(kind, &assessment, &sentence, author, before, object.generation);
                Some(Write::Condition { object, condition, assessment })
            }
            What::Event(occasion) => {
                let note = self.condition(task, &nodes, now).map_or_else(String::new, |(_, sentence, _)| sentence);
                let entry = self.entries.get_mut(&task.object)?;
                let series = entry.occasions.due(occasion)?;
                let node = author.node.to_owned();
                let (name, count) = (series.name.clone(), series.count);
                Some(Write::Event { object, occasion, note, node, at: now.wall, name, count })
            }
        }
    }

    /// Returns what is to be said of an object, the sentence, and whether the sentence has no times in it.
    fn condition(&self, task: &Task, nodes: &Nodes, now: Now) -> Option<(Assessment, String, bool)> {
        let key = &task.object;
        let (_, inventory, faults, _) = self.followed.as_ref()?;
        let entry = self.entries.get(key)?;
        if key.kind == ApiKind::TalosCluster {
            let images = self.world.images.load();
            let by_cluster = Clusters::new(inventory, faults, &self.index);
            let assessed = cluster::assess(&by_cluster.of(key), nodes, &images, now.wall)?;
            return Some((assessed.assessment, assessed.sentence, true));
        }
        let Some(mac) = entry.mac else {
            let left_out = LeftOut::new(faults);
            let fault = left_out.of(key, self.index.claimed_by(key))?;
            let was_booted = entry.last.as_ref().is_some_and(|(last, _)| last.status == "True");
            return Some((machine::left_out(fault, was_booted), machine::left_out_sentence(fault), true));
        };
        let record = self.world.journal.machine(mac)?;
        let images = self.world.images.load();
        let assessed = machine::assess(&record, &images, entry.is_released(&record), now.wall);
        let is_released = assessed.assessment.reason == RELEASED;
        if !is_released && (!speaks(&assessed, nodes, &record) || entry.is_outdated(&record, &assessed)) {
            return None;
        }
        let mut assessment = assessed.assessment;
        let signs = match assessed.occasion {
            Some(_) => AddressSigns::of(&record.machine, inventory, self.world.neighbour_at, None),
            // In a storm the kernel is not asked about machines that get on.
            None => AddressSigns::default(),
        };
        let mut sentence = machine::sentence(&record, &images, &signs, &assessment, now.wall);
        if let Some(mistake) = kept(faults, mac) {
            sentence += &mistake;
            assessment.detail += &mistake;
        }
        Some((assessment, sentence, false))
    }

    /// Notes the end of a write. Returns whether it failed in a way that a person should read about.
    pub(super) fn finished(
        &mut self,
        task: &Task,
        write: &Write,
        result: Result<Option<String>, Failed>,
        now: Now,
    ) -> bool {
        let Failed { failure, text } = match result {
            Ok(name) => {
                self.schedule.written(task, &task.group(), now.instant);
                if let Some(entry) = self.entries.get_mut(&task.object) {
                    entry.take(write, name);
                    if let (Write::Condition { condition, .. }, Some(mac)) = (write, entry.mac)
                        && condition.reason == RELEASED
                    {
                        self.world.journal.mark_release(mac, Some(mark(condition)));
                    }
                }
                self.waiting.written(task);
                return false;
            }
            Err(failed) => failed,
        };
        let entry = self.entries.get_mut(&task.object);
        if let (Write::Event { occasion, name, .. }, Failure::Gone, Some(entry)) = (write, failure, entry) {
            // The Event, not its object, unless that is gone as well.
            if name.is_some() {
                entry.occasions.is_gone(*occasion);
                self.schedule.unused(task, now.instant);
                self.schedule.want(task.clone(), Priority::Event, Duration::ZERO, now.instant);
                return false;
            }
            entry.occasions.written(*occasion, None, 0);
        }
        self.waiting.failed(task, &text);
        self.schedule.failed(task, task.group(), failure, now.instant) == Told::Line
    }

    /// Carries a person's decision into the API, after it is in force here.
    pub(super) fn decide(&mut self, decide: Decide, now: Now) {
        let Decide { mac, is_hold, reply } = decide;
        let inventory = self.world.journal.inventory();
        let nodes = self.world.nodes();
        self.follow(&nodes, now);
        let first = inventory.by_mac(mac).map(|machine| machine.mac);
        let key = first.and_then(|mac| self.index.object_of(mac)).cloned();
        let Some((key, observed)) = key.and_then(|key| Some((key.clone(), self.world.objects.get(&key)?))) else {
            reply.send_nothing();
            return;
        };
        let Some(mut entry) = self.entries.remove(&key) else { return reply.send_nothing() };
        let is_held = observed.annotations.get(POLICY).is_some_and(|policy| policy == HOLD);
        let mut tasks = Vec::new();
        if !is_hold {
            self.world.journal.mark_release(mac, None);
            tasks = self.release_in_api(&key, &mut entry, &observed, now);
        } else if !is_held {
            entry.annotation = Some(Annotation::Hold);
            let task = Task { object: key.clone(), what: What::Annotation };
            self.schedule.want(task.clone(), Priority::Fact, Duration::ZERO, now.instant);
            tasks.push(task);
        }
        self.entries.insert(key.clone(), entry);
        self.waiting.add(&key, is_hold, is_held, tasks, reply, now.instant);
    }
}

/// Returns whether a node that is not of this fleet says that it serves.
fn is_of_another_fleet(condition: &ApiCondition, nodes: &Nodes) -> bool {
    let author = author_of(&condition.message);
    let is_ours =
        |author: &str| *nodes.this().name == *author || nodes.peers().iter().any(|peer| *peer.name == *author);
    condition.status == "True" && author.is_some_and(|author| !is_ours(author))
}

fn owns(nodes: &Nodes, machine: &Machine) -> bool {
    matches!(nodes.owner(machine.site.address, machine.mac), Owner::This)
}

/// Returns whether this node is the one that tells of a machine: the machine chose it, or it owns the machine, which chose nobody.
fn speaks(assessed: &Assessed, nodes: &Nodes, record: &MachineRecord) -> bool {
    assessed.is_served_here.unwrap_or_else(|| owns(nodes, &record.machine))
}

fn priority(assessed: &Assessed) -> Priority {
    match assessed {
        Assessed { is_fact: true, .. } => Priority::Fact,
        Assessed { is_progress: true, .. } => Priority::Progress,
        _ => Priority::Outcome,
    }
}

/// Wants a condition to be written if it says something else than the last time.
fn tell(
    schedule: &mut Schedule<Task, Group>,
    key: &ObjectKey,
    entry: &mut Entry,
    assessment: Assessment,
    occasion: Option<Occasion>,
    priority: Priority,
    now: Now,
) {
    if occasion.is_some() {
        note(schedule, key, entry, occasion, &assessment.detail, false, now);
    }
    if entry.told.as_ref() == Some(&assessment) {
        return;
    }
    entry.told = Some(assessment);
    let task = Task { object: key.clone(), what: What::Condition };
    schedule.want(task, priority, Duration::ZERO, now.instant);
}

/// Wants an Event to be written if an occasion begins.
fn note(
    schedule: &mut Schedule<Task, Group>,
    key: &ObjectKey,
    entry: &mut Entry,
    occasion: Option<Occasion>,
    detail: &str,
    begins: bool,
    now: Now,
) {
    if let Some((occasion, delay)) = entry.occasions.note(now.instant, occasion, detail, begins) {
        let task = Task { object: key.clone(), what: What::Event(occasion) };
        schedule.want(task, Priority::Event, delay, now.instant);
    }
}

#[cfg(test)]
mod tests;
