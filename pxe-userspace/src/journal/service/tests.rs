use std::{fs, sync::mpsc as std_mpsc, time::Duration};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{
    journal::{run, samples::*},
    model::{
        event::{EventKind, EventSink, Signs},
        policy_book::PolicyBook,
    },
};

fn open(directory: &TempDir, machines: u32) -> (Arc<Journal>, SharedPolicies) {
    let policies = SharedPolicies::default();
    let journal = Journal::new(inventory(machines), Arc::clone(&policies), directory.path()).unwrap();
    (Arc::new(journal), policies)
}

/// Sends the events and lets the journal apply them all, as at an orderly end of pxed.
async fn absorb(journal: &Arc<Journal>, events: Vec<BootEvent>) {
    let (sink, receiver) = EventSink::channel(100_000);
    for BootEvent { mac, at, origin, kind } in events {
        sink.send(mac, at, origin, kind);
    }
    assert_eq!(sink.dropped(), 0);
    drop(sink);
    run(Arc::clone(journal), receiver, std::future::pending()).await.unwrap();
}

fn installed() -> Vec<BootEvent> {
    timed(MAC, [&uefi_boot()[..], &dora(Pxe), &dora(Plain)].concat())
}

#[tokio::test]
async fn conclusions_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, policies) = open(&directory, 2);
    absorb(&journal, installed()).await;
    journal.hold(machine(2).mac).unwrap().unwrap();
    let expected = PolicyBook {
        overrides: [(machine(2).mac, BootPolicy::Hold)].into(),
        booted: [MAC].into(),
        reached_disk: [MAC].into(),
    };
    assert_eq!(**policies.load(), expected);
    drop(journal);
    let (_journal, policies) = open(&directory, 2);
    assert_eq!(**policies.load(), expected);
}

#[tokio::test]
async fn hold_is_on_disk_when_it_is_confirmed() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, policies) = open(&directory, 1);
    assert!(journal.hold(MAC).unwrap().is_some());
    // A SIGKILL at this instant leaves this file.
    let saved = fs::read_to_string(directory.path().join("machines.json")).unwrap();
    assert_eq!(saved, "{\"format\":1,\"machines\":{\"52:54:00:00:00:01\":{\"override\":\"hold\"}}}\n");
    assert!(journal.release(MAC).unwrap().is_some());
    let saved = fs::read_to_string(directory.path().join("machines.json")).unwrap();
    assert_eq!(saved, "{\"format\":1,\"machines\":{}}\n");
    assert_eq!(**policies.load(), PolicyBook::default());
    assert!(journal.hold(machine(9).mac).unwrap().is_none(), "not in the spec");
}

#[tokio::test]
async fn changes_are_published_and_saved_while_it_runs() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, policies) = open(&directory, 1);
    let (sink, receiver) = EventSink::channel(100);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let task = tokio::spawn(run(Arc::clone(&journal), receiver, async { stopped.await.unwrap() }));
    sink.send(MAC, at(0.0), Origin::Machine, EventKind::SentToDisk);
    sink.send(MAC, at(1.0), Origin::Machine, ack(Plain));
    let both = async {
        while !policies.load().reached_disk.contains(&MAC) || !directory.path().join("machines.json").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), both).await.expect("published and saved");
    stop.send(()).unwrap();
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn machine_outside_the_spec_leaves_no_trace() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, policies) = open(&directory, 1);
    let stranger = machine(7).mac;
    absorb(&journal, timed(stranger, uefi_boot())).await;
    assert!(journal.machine(stranger).is_none());
    assert_eq!(journal.counts().unknown.get(), uefi_boot().len() as u64);
    assert_eq!(**policies.load(), PolicyBook::default());
}

#[tokio::test]
async fn reload_that_drops_a_machine_forgets_its_events() {
    let directory = tempfile::tempdir().unwrap();
    let shared = inventory(2);
    let journal = Journal::new(Arc::clone(&shared), SharedPolicies::default(), directory.path()).unwrap();
    let journal = Arc::new(journal);
    absorb(&journal, installed()).await;
    let without = Inventory::new(vec![Arc::new(machine(2))]);
    let with = shared.swap(Arc::new(without));
    absorb(&journal, timed(machine(2).mac, dora(Pxe))).await;
    shared.store(with);
    let back = journal.machine(MAC).unwrap();
    assert!(back.events.is_empty());
    assert_eq!(back.boots, 1);
}

/// The machine may be installed: nothing may boot it from the network before it sends its next packet.
#[tokio::test]
async fn reload_that_swaps_network_cards_is_followed_without_an_event() {
    let directory = tempfile::tempdir().unwrap();
    let with = |first: u32, other: u32| {
        let machine = Machine { mac: machine(first).mac, additional_macs: [machine(other).mac].into(), ..machine(1) };
        Arc::new(Inventory::new(vec![Arc::new(machine)]))
    };
    let shared = SharedInventory::new(arc_swap::ArcSwap::new(with(1, 2)));
    let policies = SharedPolicies::default();
    let journal = Journal::new(Arc::clone(&shared), Arc::clone(&policies), directory.path()).unwrap();
    let journal = Arc::new(journal);
    absorb(&journal, timed(machine(2).mac, [&uefi_boot()[..], &dora(Pxe), &dora(Plain)].concat())).await;
    assert_eq!(policies.load().reached_disk, [MAC].into());

    shared.store(with(2, 1));
    let second = machine(2).mac;
    for mac in [MAC, second] {
        let seen = journal.machine(mac).unwrap();
        assert_eq!((seen.machine.mac, seen.boots, seen.stage), (second, 1, Stage::OnDisk));
    }
    assert!(journal.hold(MAC).unwrap().is_some());
    let saved = fs::read_to_string(directory.path().join("machines.json")).unwrap();
    assert!(saved.contains(&second.to_string()) && !saved.contains(&MAC.to_string()), "{saved}");
    assert_eq!(policies.load().reached_disk, [second].into());
    assert!(journal.release(MAC).unwrap().is_some());
    assert_eq!(**policies.load(), PolicyBook::default());
}

#[tokio::test]
async fn follower_that_reads_nothing_delays_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = open(&directory, 1);
    let mut follower = journal.follow();
    let many = (0..20_000).map(|_| discover(Pxe));
    absorb(&journal, timed(MAC, many)).await;
    let lagged = follower.recv().await.unwrap_err();
    assert!(matches!(lagged, broadcast::error::RecvError::Lagged(missed) if missed > 10_000));
}

/// A log that nobody reads: a write does not return until the sender is dropped.
struct Stuck(Mutex<std_mpsc::Receiver<()>>);

impl std::io::Write for &Stuck {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // An error means that the sender was dropped.
        let _ = lock(&self.0).recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn log_that_nobody_reads_delays_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = open(&directory, 2_000);
    let (let_go, gone) = std_mpsc::channel();
    let stuck: &'static Stuck = Box::leak(Box::new(Stuck(Mutex::new(gone))));
    let subscriber = tracing_subscriber::fmt().with_writer(move || stuck).finish();
    let _default = tracing::subscriber::set_default(subscriber);
    // With a single subscriber, a line of the log that another test reaches first would be disabled for this test too.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    let (sink, receiver) = EventSink::channel(100_000);
    let mut follower = journal.follow();
    let task = tokio::spawn(run(Arc::clone(&journal), receiver, std::future::pending()));
    let mut sent = 0;
    for number in 1..=2_000 {
        for event in timed(machine(number).mac, uefi_boot()) {
            sink.send(event.mac, event.at, event.origin, event.kind);
            sent += 1;
        }
    }
    while journal.counts().events.get() < sent {
        // A lagged follower is fine here. Only the arrival of something matters.
        let _ = follower.recv().await;
    }
    assert_eq!(journal.machine(machine(2_000).mac).unwrap().stage, Stage::Running);
    assert!(journal.counts().log_dropped.get() > 0, "dropped lines are counted");
    drop((let_go, sink));
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn kill_loses_nothing_that_happened_some_milliseconds_before() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = open(&directory, 2);
    let (sink, receiver) = EventSink::channel(1000);
    let task = tokio::spawn(run(Arc::clone(&journal), receiver, std::future::pending()));
    let written = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap_or_default();
    let until = async |name: &str, text: &str| {
        let found = async {
            while !written(name).contains(text) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), found).await.expect(text);
    };
    // The first change is saved at once. The second one would wait for a second, in which the process is killed.
    sink.send(machine(2).mac, at(0.0), Origin::Machine, EventKind::SentToDisk);
    until("machines.json", &machine(2).mac.to_string()).await;
    for BootEvent { mac, at, origin, kind } in installed() {
        sink.send(mac, at, origin, kind);
    }
    until("machines.changes", "\"reached_disk\":true").await;
    task.abort();
    let _ = task.await;
    assert!(!written("machines.json").contains(&MAC.to_string()), "saved as a whole within a second");
    // A write that was under way has a thread of its own, which a process would not outlive.
    let ended = async {
        while Arc::strong_count(&journal) > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ended).await.expect("the journal is still in use");
    drop(journal);

    let (journal, policies) = open(&directory, 2);
    assert!(policies.load().booted.contains(&MAC) && policies.load().reached_disk.contains(&MAC));
    journal.save_now();
    assert_eq!(written("machines.changes"), "");
    assert!(written("machines.json").contains(&MAC.to_string()));
}

/// A step of [`killed_journal_knows_what_was_written`].
#[derive(Clone, Debug)]
enum Step {
    Event(u32, usize),
    Hold(u32),
    Release(u32),
    Note,
    Save,
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let machines = 1..4_u32;
    prop::collection::vec(
        prop_oneof![
            8 => (machines.clone(), 0..64_usize).prop_map(|(machine, event)| Step::Event(machine, event)),
            1 => machines.clone().prop_map(Step::Hold),
            1 => machines.prop_map(Step::Release),
            3 => Just(Step::Note),
            1 => Just(Step::Save),
            1 => Just(Step::Kill),
        ],
        1..60,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn killed_journal_knows_what_was_written(steps in steps()) {
        let directory = tempfile::tempdir().unwrap();
        let events = installed();
        let (mut journal, _) = open(&directory, 4);
        let now = |journal: &Journal| {
            let mut state = journal.fleet().state();
            state.sort_by_key(|(mac, _)| *mac);
            state
        };
        let mut written = now(&journal);
        for step in steps {
            match step {
                Step::Event(number, event) => {
                    let event = events[event % events.len()].clone();
                    journal.apply(&[BootEvent { mac: machine(number).mac, ..event }]);
                    continue;
                }
                Step::Hold(number) => drop(journal.hold(machine(number).mac).unwrap()),
                Step::Release(number) => drop(journal.release(machine(number).mac).unwrap()),
                Step::Note => journal.note(),
                Step::Save => journal.save_now(),
                Step::Kill => {
                    drop(journal);
                    journal = open(&directory, 4).0;
                    prop_assert_eq!(now(&journal), written.clone());
                }
            }
            written = now(&journal);
        }
    }
}

const HISTORY: HistoryLimits = HistoryLimits { bytes: 1 << 20, age: Duration::from_secs(86_400) };

fn open_with_history(directory: &TempDir, machines: u32) -> Arc<Journal> {
    let journal = Journal::new(inventory(machines), SharedPolicies::default(), directory.path()).unwrap();
    Arc::new(journal.with_history(directory.path(), HISTORY))
}

#[tokio::test]
async fn restart_forgets_neither_stage_nor_events() {
    let directory = tempfile::tempdir().unwrap();
    let boot = uefi_boot();
    // One runs, one is in the middle of its boot, and one came to its disk.
    let [runs, boots, installed] = [1, 2, 3].map(|number| machine(number).mac);
    let half = &boot[..boot.len() / 2];
    let told = [
        timed(runs, boot.clone()),
        timed(boots, half.to_vec()),
        timed(installed, [&boot[..], &dora(Pxe), &dora(Plain)].concat()),
    ];
    let shown = |journal: &Journal| -> Vec<MachineRecord> {
        [runs, boots, installed].map(|mac| journal.machine(mac).unwrap()).into()
    };
    let journal = open_with_history(&directory, 3);
    absorb(&journal, told.concat()).await;
    let before = shown(&journal);
    assert_eq!(before[0].restored, 0);
    drop(journal);
    let journal = open_with_history(&directory, 3);
    for (was, is) in before.iter().zip(shown(&journal)) {
        assert_eq!((is.stage, is.stage_since, &is.events), (was.stage, was.stage_since, &was.events));
        assert_eq!((is.boots, is.cycle, is.boots_from, is.booted), (was.boots, was.cycle, was.boots_from, was.booted));
        assert_eq!(is.restored, is.events.len());
    }
    // The boot goes on, and what came before stays marked.
    absorb(&journal, timed(boots, boot[half.len()..].to_vec())).await;
    let is = journal.machine(boots).unwrap();
    assert_eq!((is.stage, is.boots, is.restored, is.events.len()), (Stage::Running, 1, half.len(), boot.len()));
    let json = serde_json::to_value(crate::journal::json::MachineJson::of(&is, at(60.0))).unwrap();
    let marked = json["events"].as_array().unwrap().iter().filter(|event| event["before_restart"] == true).count();
    assert_eq!(marked, half.len());
    assert_eq!(journal.warnings(), [""; 0]);
}

/// Another host may send any number of packets in a machine's name.
#[tokio::test]
async fn flood_before_a_restart_costs_the_history_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let boot = uefi_boot();
    let journal = open_with_history(&directory, 1);
    let flood = std::iter::repeat_n(EventKind::Ignored { reason: TOO_OFTEN }, 100);
    absorb(&journal, timed(MAC, boot.iter().cloned().chain(flood))).await;
    assert_eq!(journal.counts().history.written.get(), boot.len() as u64);
    let before = journal.machine(MAC).unwrap();
    drop(journal);
    let after = open_with_history(&directory, 1).machine(MAC).unwrap();
    assert_eq!((after.stage, &after.events), (before.stage, &before.events));
    assert_eq!(after.stage, Stage::Running);
}

/// The history has each of the events that the journal merges.
#[tokio::test]
async fn restart_forgets_nothing_of_a_machine_that_waits_for_long() {
    let waits = |percent| EventKind::Awaits { path: "vmlinuz".into(), state: "fetching", percent: Some(percent) };
    let left = || EventKind::LeftToPeer { client: Pxe, address: [10, 255, 0, 2].into(), chosen: false };
    let asks = || [requested(Config), failed(Config, "no such file")];
    let mut cases = vec![
        [&dora(Ipxe)[..], &(0..100).map(waits).collect::<Vec<_>>()].concat(),
        [&uefi_boot()[..], &std::iter::repeat_with(left).take(100).collect::<Vec<_>>()].concat(),
        [&uefi_boot()[..], &std::iter::repeat_with(asks).take(100).flatten().collect::<Vec<_>>()].concat(),
    ];
    // An earlier version wrote these into the history.
    let too_often = std::iter::repeat_n(EventKind::Ignored { reason: TOO_OFTEN }, 100);
    let old = [&uefi_boot()[..], &too_often.collect::<Vec<_>>()].concat();
    for (case, kinds) in cases.drain(..).chain([old]).enumerate() {
        let directory = tempfile::tempdir().unwrap();
        let journal = open_with_history(&directory, 1);
        let parts = timed(MAC, kinds);
        for part in parts.chunks(30) {
            if let Some(history) = &journal.history {
                history.write(part.to_vec());
            }
        }
        journal.apply(&parts);
        journal.finish_history();
        let before = journal.machine(MAC).unwrap();
        drop(journal);
        let after = open_with_history(&directory, 1).machine(MAC).unwrap();
        assert_eq!((after.stage, &after.events), (before.stage, &before.events), "{case}");
    }
}

/// Both follow from events that are not the last ones.
#[tokio::test]
async fn restart_knows_the_wrong_firmware_and_the_times_of_the_fleet() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open_with_history(&directory, 20);
    let wrong = [discover(Pxe), EventKind::WrongArchitecture { client_architecture: 6 }];
    let kinds = [&wrong[..], &dora(Pxe)[1..], &load(Loader), &load(Script)].concat();
    let mut all = timed(machine(1).mac, kinds);
    for number in 2..=20 {
        let boot = [&dora(Ipxe)[..], &load(Script), &[requested(Kernel)]].concat();
        let mut events = timed(machine(number).mac, boot);
        events.push(BootEvent { at: at(100.0), ..timed(machine(number).mac, [requested(Initramfs)]).remove(0) });
        all.extend(events);
    }
    let kernel = [&dora(Ipxe)[..], &load(Script), &[requested(Kernel)]].concat();
    all.extend(timed(machine(2).mac, kernel));
    absorb(&journal, all).await;
    let seen = |journal: &Journal| {
        let [doomed, slow] = [1, 2].map(|number| journal.machine(machine(number).mac).unwrap());
        (doomed.stage, doomed.last_error, slow.stage, slow.deadline)
    };
    let before = seen(&journal);
    assert_eq!((before.0, before.2), (Stage::Failed, Stage::LoadingKernel));
    assert!(before.3.at().unwrap() > at(300.0), "{before:?}");
    drop(journal);
    let journal = open_with_history(&directory, 20);
    assert_eq!(seen(&journal), before);
    // It asks for its script again, and is still the wrong one.
    absorb(&journal, timed(machine(1).mac, load(Script))).await;
    assert_eq!(seen(&journal).0, Stage::Failed);
}

#[tokio::test]
async fn history_says_nothing_about_the_policy() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open_with_history(&directory, 1);
    absorb(&journal, installed()).await;
    drop(journal);
    // Somebody deletes the state, which is the authority.
    for file in ["machines.json", "machines.changes"] {
        let _ = fs::remove_file(directory.path().join(file));
    }
    let journal = open_with_history(&directory, 1);
    let record = journal.machine(MAC).unwrap();
    assert_eq!((record.boots, record.booted, record.reached_disk), (0, false, false));
    assert!(!record.events.is_empty());
}

#[tokio::test]
async fn machine_is_named_when_an_operating_system_begins_to_run() {
    let directory = tempfile::tempdir().unwrap();
    let (sender, mut running) = mpsc::channel(8);
    let journal = Journal::new(inventory(2), SharedPolicies::default(), directory.path()).unwrap();
    let journal = Arc::new(journal.with_running(Some(sender)));
    // The renewal of the lease is no news, but the next boot is.
    absorb(&journal, timed(MAC, [uefi_boot(), plain(Signs::Renewal).to_vec(), uefi_boot()].concat())).await;
    absorb(&journal, timed(machine(2).mac, dora(Pxe))).await;
    assert_eq!((running.try_recv(), running.try_recv()), (Ok(MAC), Ok(MAC)));
    assert!(running.try_recv().is_err());
}

#[tokio::test]
async fn nobody_who_is_told_holds_up_the_journal() {
    let directory = tempfile::tempdir().unwrap();
    let (sender, running) = mpsc::channel(1);
    let journal = Journal::new(inventory(2), SharedPolicies::default(), directory.path()).unwrap();
    let journal = Arc::new(journal.with_running(Some(sender)));
    for number in 1..=2 {
        absorb(&journal, timed(machine(number).mac, uefi_boot())).await;
    }
    drop(running);
    absorb(&journal, timed(MAC, uefi_boot())).await;
    assert_eq!(journal.machine(MAC).unwrap().boots, 2);
}
