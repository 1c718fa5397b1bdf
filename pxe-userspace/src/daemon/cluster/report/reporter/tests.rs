//! One or two nodes, and an API server whose watches are instant.

use std::{collections::BTreeMap, net::Ipv4Addr, time::SystemTime};

use serde_json::json;
use tempfile::TempDir;

use super::{super::decisions::Reply, *};
use crate::{
    cluster_status::schedule::Failure,
    journal::samples::*,
    model::{
        api_object::ApiObject,
        event::{BootEvent, EventKind},
        finding::{Affected, Finding, SpecFault},
        nodes::{Node, Sites},
        origin::Origin,
        policy::Disposition,
        policy_book::SharedPolicies,
    },
};

mod addresses;

const SITE: Ipv4Addr = Ipv4Addr::new(10, 255, 0, 1);

/// A node with its journal.
struct TestNode {
    reporter: Reporter,
    world: World,
    policies: SharedPolicies,
    state: TempDir,
}

/// The nodes, the objects that they share, and the writes.
struct Site {
    nodes: Vec<TestNode>,
    objects: Arc<Objects>,
    begin: Now,
    passed: Duration,
    /// The time, the node, the object and what was said.
    writes: Vec<(Duration, usize, String, String)>,
    /// The answer of the server to a write.
    answer: fn(&Task) -> Result<(), Failure>,
    inventory: Arc<Inventory>,
}

fn key(number: u32) -> ObjectKey {
    let name = format!("metal-{number}");
    ObjectKey { kind: ApiKind::TalosMachine, namespace: "default".into(), name: name.into() }
}

fn cluster_key() -> ObjectKey {
    ObjectKey { kind: ApiKind::TalosCluster, namespace: "default".into(), name: "lab".into() }
}

fn observed(key: ObjectKey, text: &serde_json::Value) -> Observed {
    let object = ApiObject { key, uid: "uid".into(), created: "".into(), text: text.to_string().into() };
    Observed {
        object,
        annotations: BTreeMap::new(),
        conditions: Vec::new(),
        generation: Some(1),
        is_being_deleted: false,
    }
}

fn talos_machine(number: u32) -> Observed {
    let mac = machine(number).mac.to_string();
    observed(key(number), &json!({ "spec": { "pxeClientSpec": { "macAddress": mac } } }))
}

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

impl TestNode {
    fn new(
        name: &str,
        peer: Option<&str>,
        inventory: &Arc<Inventory>,
        objects: &Arc<Objects>,
        state: TempDir,
        now: Now,
    ) -> Self {
        let shared = Arc::new(arc_swap::ArcSwap::new(Arc::clone(inventory)));
        let policies = SharedPolicies::default();
        let journal = Journal::new(shared, Arc::clone(&policies), state.path()).unwrap();
        let node = |name: &str| {
            let address = Ipv4Addr::new(10, 255, 0, name.as_bytes()[name.len() - 1]);
            Node { name: name.into(), sites: Sites::from([(SITE, address)]), is_alive: true, ..Node::default() }
        };
        let nodes = Nodes::new(node(name), peer.map(node));
        let world = World {
            journal: Arc::new(journal),
            objects: Arc::clone(objects),
            faults: SharedSpecFaults::default(),
            images: SharedImages::default(),
            nodes: Arc::new(arc_swap::ArcSwap::from_pointee(nodes)),
            own_sites: SharedOwnSites::default(),
            host: "host".into(),
            neighbour_at: addresses::first_at_the_second,
        };
        Self { reporter: Reporter::new(world.clone(), now), world, policies, state }
    }
}

impl Site {
    fn new(nodes: usize, machines: u32) -> Self {
        let begin = Now { instant: Instant::now(), wall: SystemTime::now() };
        let objects = Arc::new(Objects::default());
        (1..=machines).for_each(|number| objects.insert(talos_machine(number)).unwrap());
        let inventory = Arc::new(Inventory::new((1..=machines).map(|number| Arc::new(machine(number))).collect()));
        let names = ["node-1", "node-2"];
        let of = |index: usize| {
            let peer = (nodes > 1).then(|| names[1 - index]);
            TestNode::new(names[index], peer, &inventory, &objects, tempfile::tempdir().unwrap(), begin)
        };
        let nodes = (0..nodes).map(of).collect();
        Self { nodes, objects, begin, passed: Duration::ZERO, writes: Vec::new(), answer: |_| Ok(()), inventory }
    }

    fn now(&self) -> Now {
        Now { instant: self.begin.instant + self.passed, wall: self.begin.wall + self.passed }
    }

    /// Lets a node see events of a machine now.
    fn events(&self, node: usize, number: u32, events: &[EventKind]) {
        let mac = machine(number).mac;
        let at = self.now().wall;
        let events: Vec<_> =
            events.iter().map(|kind| BootEvent { mac, at, origin: Origin::Machine, kind: kind.clone() }).collect();
        self.nodes[node].world.journal.apply(&events);
    }

    /// Lets time pass. Every write is answered at once, and its effect is seen by all nodes.
    fn pass(&mut self, lasts: Duration) {
        let until = self.passed + lasts;
        while self.passed < until {
            self.passed += Duration::from_millis(100);
            let now = self.now();
            for index in 0..self.nodes.len() {
                self.nodes[index].reporter.look(now);
                while let Some((task, write)) = self.nodes[index].reporter.next(now) {
                    let result = (self.answer)(&task);
                    let name = result.is_ok().then(|| self.apply(index, &task, &write)).flatten();
                    let failed = |failure| Failed { failure, text: "told so".to_owned() };
                    self.nodes[index].reporter.finished(&task, &write, result.map(|()| name).map_err(failed), now);
                }
            }
        }
    }

    fn apply(&mut self, node: usize, task: &Task, write: &Write) -> Option<String> {
        let mut observed = (*self.objects.get(&task.object)?).clone();
        let mut name = None;
        let said = match write {
            Write::Condition { condition, .. } => {
                observed.conditions.retain(|of| of.kind != condition.kind);
                observed.conditions.push(condition.clone());
                format!("{} {}", condition.status, condition.reason)
            }
            Write::Annotation { value, .. } => {
                match value {
                    Some(value) => _ = observed.annotations.insert(POLICY.to_owned(), (*value).to_owned()),
                    None => _ = observed.annotations.remove(POLICY),
                }
                format!("annotation {value:?}")
            }
            Write::Event { occasion, count, name: of, .. } => {
                name = Some(of.clone().unwrap_or_else(|| "event".to_owned()));
                format!("Event {} {count}", occasion.reason())
            }
        };
        self.objects.insert(observed).unwrap();
        self.writes.push((self.passed, node, task.object.to_string(), said));
        name
    }

    /// Returns what was written about a machine since the last call.
    fn said(&mut self, number: u32) -> Vec<String> {
        let object = key(number).to_string();
        let (said, rest) = self.writes.drain(..).partition::<Vec<_>, _>(|(_, _, of, _)| *of == object);
        self.writes = rest;
        said.into_iter().map(|(_, node, _, said)| format!("{}: {said}", node + 1)).collect()
    }

    fn condition(&self, number: u32) -> ApiCondition {
        self.objects.get(&key(number)).and_then(|object| object.condition(BOOTED).cloned()).unwrap_or_default()
    }

    /// Stops a node and starts it again, with its state or without.
    fn restart(&mut self, index: usize, keeps_state: bool) {
        let now = self.now();
        let TestNode { state, world, .. } = self.nodes.remove(index);
        let state = if keeps_state { state } else { tempfile::tempdir().unwrap() };
        let nodes = world.nodes.load_full();
        let (name, peer) = (Arc::clone(&nodes.this().name), nodes.peers().first().map(|peer| Arc::clone(&peer.name)));
        // Writes allowed in a second.
        world.journal.save_now();
        drop(world);
        let node = TestNode::new(&name, peer.as_deref(), &self.inventory, &self.objects, state, now);
        self.nodes.insert(index, node);
    }

    fn owner(&self, number: u32) -> usize {
        let machine = machine(number);
        usize::from(!owns(&self.nodes[0].world.nodes.load(), &machine))
    }
}

/// The events of a boot, one after the other.
fn boot(site: &mut Site, node: usize, number: u32) {
    for event in uefi_boot() {
        site.events(node, number, &[event]);
        site.pass(at(0.4));
    }
}

#[test]
fn boot_is_told_in_few_writes_and_its_end_soon() {
    let mut site = Site::new(1, 1);
    site.pass(at(1.0));
    boot(&mut site, 0, 1);
    site.pass(at(2.0));
    let said = site.said(1);
    assert_eq!(said.first().map(String::as_str), Some("1: False Offered"), "{said:?}");
    assert_eq!(said.last().map(String::as_str), Some("1: True Running"), "{said:?}");
    assert!(said.contains(&"1: True Booted".to_owned()), "{said:?}");
    assert!(said.len() <= 5, "{said:?}");
    let condition = site.condition(1);
    assert!(condition.message.contains("An operating system has been running"), "{condition:?}");
    assert!(condition.message.contains("[node-1, 20"), "{condition:?}");
    assert_eq!(condition.observed_generation, Some(1));
}

#[test]
fn nothing_is_written_when_nothing_changed() {
    let mut site = Site::new(2, 1);
    let owner = site.owner(1);
    boot(&mut site, owner, 1);
    site.pass(at(10.0));
    site.said(1);
    for second in 0..600_u32 {
        // It renews its lease, and the operator writes its status.
        site.events(owner, 1, &dora(Plain)[2..]);
        let mut observed = (*site.objects.get(&key(1)).unwrap()).clone();
        let ready = ApiCondition { kind: "Ready".into(), message: second.to_string(), ..ApiCondition::default() };
        observed.conditions.retain(|condition| condition.kind != "Ready");
        observed.conditions.push(ready);
        site.objects.insert(observed).unwrap();
        site.pass(at(1.0));
    }
    assert_eq!(site.said(1), [""; 0]);
}

#[test]
fn machine_that_nobody_has_seen_is_unknown_after_a_while_and_told_by_its_owner() {
    let mut site = Site::new(2, 20);
    site.pass(at(9.0));
    assert_eq!(site.writes.len(), 0);
    site.pass(at(20.0));
    for number in 1..=20 {
        let owner = site.owner(number) + 1;
        assert_eq!(site.said(number), [format!("{owner}: Unknown NotSeen")]);
    }
}

#[test]
fn machine_is_told_of_by_the_node_that_it_chose_and_by_no_other() {
    let mut site = Site::new(2, 1);
    let other = 1 - site.owner(1);
    // Both hear it. It takes the offer of the node that does not own it.
    site.events(1 - other, 1, &[discover(Pxe), offer()]);
    boot(&mut site, other, 1);
    site.pass(at(120.0));
    let said = site.said(1);
    let mine = format!("{}: ", other + 1);
    // The owner heard it ask, and may have said so at first.
    let after: Vec<_> = said.iter().skip_while(|said| !said.starts_with(&mine)).collect();
    assert!(!after.is_empty() && after.iter().all(|said| said.starts_with(&mine)), "{said:?}");
    assert_eq!(site.condition(1).reason, "Running");
}

#[test]
fn node_without_memory_sends_a_machine_where_the_others_do() {
    for (policy, boots_from) in [
        (BootPolicy::Once, Disposition::Disk),
        (BootPolicy::Auto, Disposition::Network),
        (BootPolicy::Hold, Disposition::Disk),
    ] {
        let mut site = Site::new(2, 1);
        let with_policy = Arc::new(Inventory::new(vec![Arc::new(Machine { policy, ..machine(1) })]));
        site.inventory = with_policy;
        site.restart(0, true);
        site.restart(1, true);
        let owner = site.owner(1);
        boot(&mut site, owner, 1);
        site.pass(at(5.0));
        let of = |site: &Site, node: usize| site.nodes[node].policies.load().disposition(&site.inventory.machines()[0]);
        assert_eq!(of(&site, owner), boots_from, "{policy:?}");
        assert_eq!(of(&site, 1 - owner), boots_from, "{policy:?}, the other node");
        site.restart(owner, false);
        site.pass(at(1.0));
        assert_eq!(of(&site, owner), boots_from, "{policy:?}, without memory");
        site.said(1);
        // Having started again is no news.
        site.pass(at(60.0));
        assert_eq!(site.said(1), [""; 0]);
    }
}

#[test]
fn release_reaches_the_other_node_and_is_applied_once() {
    let mut site = Site::new(2, 1);
    let owner = site.owner(1);
    boot(&mut site, owner, 1);
    site.pass(at(5.0));
    let booted = |site: &Site, node: usize| site.nodes[node].policies.load().booted.contains(&MAC);
    assert!(booted(&site, 0) && booted(&site, 1));
    // Released at the node that did not serve it.
    let now = site.now();
    site.nodes[1 - owner].world.journal.release(MAC).unwrap();
    let (reply, mut notes) = Reply::channel();
    site.nodes[1 - owner].reporter.decide(Decide { mac: MAC, is_hold: false, reply }, now);
    site.pass(at(1.0));
    assert_eq!(notes.try_recv().unwrap(), ["wrote the condition PxeBooted (Released) of TalosMachine default/metal-1"]);
    assert!(!booted(&site, 0) && !booted(&site, 1));
    assert_eq!((&*site.condition(1).status, &*site.condition(1).reason), ("Unknown", "Released"));
    site.said(1);
    site.pass(at(60.0));
    assert_eq!(site.said(1), [""; 0]);
    // A release that could not be told is told after a restart, and the old condition does not undo it.
    boot(&mut site, owner, 1);
    site.pass(at(5.0));
    site.answer = |_| Err(Failure::Trouble);
    site.nodes[owner].world.journal.release(MAC).unwrap();
    let (reply, mut notes) = Reply::channel();
    let now = site.now();
    site.nodes[owner].reporter.decide(Decide { mac: MAC, is_hold: false, reply }, now);
    site.pass(at(6.0));
    assert!(notes.try_recv().unwrap()[0].contains("other nodes do not know of it"));
    site.restart(owner, true);
    site.pass(at(2.0));
    assert!(!booted(&site, owner) && booted(&site, 1 - owner));
    site.answer = |_| Ok(());
    site.pass(at(90.0));
    assert!(!booted(&site, 0) && !booted(&site, 1));
    // It boots once more, and restarts of either node forget neither the boot nor that this release is over.
    boot(&mut site, owner, 1);
    site.answer = |_| Err(Failure::Trouble);
    site.pass(at(5.0));
    for node in [0, 1] {
        site.restart(node, true);
        site.pass(at(2.0));
    }
    assert!(booted(&site, owner));
}

#[test]
fn hold_moves_into_the_api_and_a_person_hears_of_it() {
    let mut site = Site::new(1, 1);
    site.pass(at(1.0));
    site.nodes[0].world.journal.hold(MAC).unwrap();
    let (reply, mut notes) = Reply::channel();
    let now = site.now();
    site.nodes[0].reporter.decide(Decide { mac: MAC, is_hold: true, reply }, now);
    site.pass(at(1.0));
    assert_eq!(
        notes.try_recv().unwrap(),
        ["wrote the annotation pxed.dev/boot-policy: hold on TalosMachine default/metal-1"]
    );
    let overrides = |site: &Site| site.nodes[0].policies.load().overrides.len();
    // It stays here until the spec says it.
    assert_eq!(overrides(&site), 1);
    site.inventory = Arc::new(Inventory::new(vec![Arc::new(Machine { policy: BootPolicy::Hold, ..machine(1) })]));
    site.restart(0, true);
    site.pass(at(1.0));
    assert_eq!(overrides(&site), 0);
    let record = site.nodes[0].world.journal.machine(MAC).unwrap();
    assert_eq!((record.policy, record.is_decided_here), (BootPolicy::Hold, false));
    // It is released: the annotation goes, and the condition says so.
    site.nodes[0].world.journal.release(MAC).unwrap();
    let (reply, mut notes) = Reply::channel();
    let now = site.now();
    site.nodes[0].reporter.decide(Decide { mac: MAC, is_hold: false, reply }, now);
    site.pass(at(2.0));
    assert_eq!(notes.try_recv().unwrap().len(), 2);
    assert!(site.objects.get(&key(1)).unwrap().annotations.is_empty());
    assert_eq!(site.condition(1).reason, "Released");
}

#[test]
fn hold_while_the_api_is_away_is_told_and_written_later() {
    let mut site = Site::new(1, 1);
    site.answer = |_| Err(Failure::Trouble);
    site.pass(at(1.0));
    site.nodes[0].world.journal.hold(MAC).unwrap();
    let (reply, mut notes) = Reply::channel();
    let now = site.now();
    site.nodes[0].reporter.decide(Decide { mac: MAC, is_hold: true, reply }, now);
    site.pass(at(10.0));
    let notes = notes.try_recv().unwrap().join(" ");
    assert!(notes.contains("not in TalosMachine default/metal-1 yet") && notes.contains("told so"), "{notes}");
    // Even a pxed that was restarted in between writes it.
    site.restart(0, true);
    site.answer = |_| Ok(());
    site.pass(at(90.0));
    assert_eq!(site.objects.get(&key(1)).unwrap().annotations.get(POLICY).map(String::as_str), Some("hold"));
}

#[test]
fn decision_about_a_machine_without_an_object_is_told_to_be_local() {
    let mut site = Site::new(1, 1);
    site.objects.remove(&key(1));
    site.pass(at(1.0));
    let (reply, mut notes) = Reply::channel();
    let now = site.now();
    site.nodes[0].reporter.decide(Decide { mac: MAC, is_hold: true, reply }, now);
    assert!(notes.try_recv().unwrap()[0].contains("this node alone"));
}

#[test]
fn object_that_is_deleted_while_its_machine_loads_ends_the_writes() {
    let mut site = Site::new(1, 2);
    site.pass(at(1.0));
    site.events(0, 1, &uefi_boot()[..12]);
    site.pass(at(0.2));
    // The server knows before the watch does.
    site.answer = |task| if task.object == key(1) { Err(Failure::Gone) } else { Ok(()) };
    site.pass(at(20.0));
    site.objects.remove(&key(1));
    site.events(0, 1, &uefi_boot()[12..]);
    site.pass(at(20.0));
    assert_eq!(site.nodes[0].reporter.wanted(), 0);
    assert_eq!(site.nodes[0].reporter.entries.len(), 1);
    // It is made again: another object, which hears how far the machine is.
    site.answer = |_| Ok(());
    site.said(1);
    let mut again = talos_machine(1);
    again.object.uid = "another".into();
    site.objects.insert(again).unwrap();
    site.pass(at(3.0));
    assert_eq!(site.said(1), ["1: True Running"]);
}

#[test]
fn failure_is_an_event_and_its_repetition_a_series() {
    let mut site = Site::new(1, 1);
    site.pass(at(1.0));
    for _ in 0..3 {
        site.events(0, 1, &[&dora(Pxe)[..], &dora(Ipxe), &[failed(Kernel, "no such file")]].concat());
        site.pass(at(30.0));
    }
    site.pass(at(120.0));
    let said = site.said(1);
    let events: Vec<_> = said.iter().filter(|said| said.contains("Event")).map(String::as_str).collect();
    assert_eq!(events.first(), Some(&"1: Event BootFailed 1"));
    assert_eq!(events.last(), Some(&"1: Event BootFailed 3"));
    assert!(events.len() <= 3, "{events:?}");
    assert_eq!(said.iter().filter(|said| said.contains("False Failed")).count(), 1, "{said:?}");
    assert!(site.condition(1).message.contains("no such file"));
}

#[test]
fn stuck_machine_is_told_when_it_has_been_stuck_for_long_enough() {
    let mut site = Site::new(1, 1);
    site.pass(at(1.0));
    site.events(0, 1, &dora(Pxe));
    site.pass(at(44.0));
    assert_eq!(site.said(1), ["1: False Addressed"]);
    site.pass(at(10.0));
    assert_eq!(site.said(1), ["1: False Addressed", "1: Event BootStuck 1"]);
    assert!(site.condition(1).message.contains("To do:"));
}

#[test]
fn machine_with_a_mistake_is_named_in_its_condition_and_nobody_else_suffers() {
    let mut site = Site::new(2, 1);
    let mut copy = talos_machine(1);
    copy.object.key = ObjectKey { namespace: "other".into(), ..key(7) };
    site.objects.insert(copy.clone()).unwrap();
    let finding = Finding {
        file: copy.object.key.place(),
        line: 0,
        column: 0,
        field: "spec.pxeClientSpec.macAddress".to_owned(),
        message: "is also that of TalosMachine default/metal-1".to_owned(),
    };
    let faults = SpecFaults {
        faults: vec![SpecFault { finding, objects: "machine", left_out: 1, kept: 0 }],
        affected: vec![Affected { mac: Some(MAC), fault: 0, is_kept: false }],
        is_awaited: false,
    };
    site.nodes.iter().for_each(|node| node.world.faults.store(Arc::new(faults.clone())));
    site.pass(at(30.0));
    let condition = site.objects.get(&copy.object.key).unwrap().condition(BOOTED).unwrap().clone();
    assert_eq!((&*condition.status, &*condition.reason), ("False", "LeftOut"));
    assert!(condition.message.contains("TalosMachine other/metal-7: spec.pxeClientSpec.macAddress"), "{condition:?}");
    let of_copy: Vec<_> = site.writes.iter().filter(|(_, _, object, _)| object.contains("other")).collect();
    assert_eq!(of_copy.len(), 2, "a condition and an Event, by one node: {of_copy:?}");
    assert_eq!(site.condition(1).reason, "NotSeen");
    // Having started again is no news.
    site.writes.clear();
    for node in [0, 1] {
        site.restart(node, true);
        site.nodes[node].world.faults.store(Arc::new(faults.clone()));
    }
    site.pass(at(30.0));
    let conditions: Vec<_> = site.writes.iter().filter(|(.., said)| !said.contains("Event")).collect();
    assert!(conditions.is_empty(), "{conditions:?}");
}

#[test]
fn cluster_is_told_of_by_one_node_and_again_when_something_changes() {
    let mut site = Site::new(2, 3);
    site.objects.insert(observed(cluster_key(), &json!({}))).unwrap();
    site.pass(at(3.0));
    let said = |site: &mut Site| {
        let object = cluster_key().to_string();
        let said: Vec<_> =
            site.writes.iter().filter(|(_, _, of, _)| *of == object).map(|(.., said)| said.clone()).collect();
        site.writes.clear();
        said
    };
    assert_eq!(said(&mut site), ["True Ready"]);
    let condition = site.objects.get(&cluster_key()).unwrap().condition(READY).unwrap().clone();
    assert!(condition.message.contains("10.255.0.1 on eth1 is served by node-1"), "{condition:?}");
    assert!(condition.message.contains("node-2"), "{condition:?}");
    site.restart(0, false);
    site.restart(1, false);
    site.pass(at(30.0));
    assert!(said(&mut site).iter().all(|said| said.contains("NotSeen")));
    // Neither node serves it any more, then one does.
    let serve = |site: &Site, sites: Sites| {
        for node in &site.nodes {
            let nodes = node.world.nodes.load_full();
            let problems = vec!["interface eth9: no such interface".to_owned()];
            let with = |node: &Node| Node { sites: sites.clone(), problems: problems.clone(), ..node.clone() };
            let nodes = Nodes::new(with(nodes.this()), nodes.peers().iter().map(with));
            node.world.nodes.store(Arc::new(nodes));
        }
    };
    serve(&site, Sites::new());
    site.pass(at(5.0));
    assert_eq!(said(&mut site), ["False NotServed", "Event NotReady 1"]);
    serve(&site, Sites::from([(SITE, SITE)]));
    site.pass(at(5.0));
    assert_eq!(said(&mut site), ["True Ready"]);
}

#[test]
fn fleet_of_another_installation_is_not_contradicted() {
    let mut site = Site::new(1, 1);
    let mut cluster = observed(cluster_key(), &json!({}));
    cluster.conditions.push(ApiCondition {
        kind: READY.to_owned(),
        status: "True".to_owned(),
        reason: "Ready".to_owned(),
        message: "1 machine boots. [elsewhere-1, 2026-01-01T00:00:00Z]".to_owned(),
        last_transition_time: "2026-01-01T00:00:00Z".to_owned(),
        observed_generation: None,
    });
    site.objects.insert(cluster).unwrap();
    let problems = vec!["interface eth9: no such interface".to_owned()];
    let idle = Node { name: "node-1".into(), is_alive: true, problems, ..Node::default() };
    site.nodes[0].world.nodes.store(Arc::new(Nodes::new(idle, [])));
    site.pass(at(5.0));
    assert_eq!(site.writes.len(), 0, "{:?}", site.writes);
}

#[test]
fn storm_is_told_at_the_pace_of_the_fleet_and_in_bounded_memory() {
    const MACHINES: u32 = 2_000;
    let mut site = Site::new(2, MACHINES);
    for number in 1..=MACHINES {
        let owner = site.owner(number);
        site.events(owner, number, &uefi_boot());
    }
    site.pass(at(60.0));
    assert!((290..=315).contains(&site.writes.len()), "{}", site.writes.len());
    assert!(site.writes.iter().all(|(.., said)| said == "True Running"));
    for node in &site.nodes {
        assert_eq!(node.reporter.entries.len(), MACHINES as usize);
        assert!(node.reporter.touched.is_empty());
    }
}

#[test]
fn webhook_that_rejects_one_machine_holds_up_no_other() {
    let mut site = Site::new(1, 5);
    site.answer = |task| if task.object == key(3) { Err(Failure::Refused) } else { Ok(()) };
    (1..=5).for_each(|number| site.events(0, number, &uefi_boot()));
    site.pass(at(5.0));
    for number in [1, 2, 4, 5] {
        assert_eq!(site.said(number), ["1: True Running"]);
    }
    assert_eq!(site.said(3), [""; 0]);
}
