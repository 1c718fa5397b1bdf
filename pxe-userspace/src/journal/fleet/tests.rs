use proptest::prelude::*;

use super::*;
use crate::{journal::samples::*, model::event::EventKind};

fn fleet(machines: usize) -> Fleet {
    Fleet::new(&State::new(), at(0.0), machines)
}

fn record(fleet: &Fleet) -> MachineRecord {
    fleet.machine(&Arc::new(machine(1)), usize::MAX)
}

#[test]
fn boot_is_kept_as_it_happened() {
    let mut fleet = fleet(1);
    let events = timed(MAC, uefi_boot());
    for event in &events {
        fleet.apply(event);
    }
    let record = record(&fleet);
    assert_eq!(record.events, events);
    assert_eq!((record.stage, record.boots, record.last_error), (Stage::Running, 1, None));
    assert_eq!(record.stage_since, events.last().unwrap().at);
}

#[test]
fn machine_without_events_is_waiting() {
    let record = record(&fleet(1));
    assert_eq!((record.stage, record.stage_since, record.events.len()), (Stage::NeverSeen, at(0.0), 0));
}

/// Slow is not stuck: as long as bytes arrive, or others take as long.
#[test]
fn machine_is_stuck_when_it_stays_at_a_step_for_longer_than_others() {
    use crate::model::progress::Progress;
    let boot = [&dora(Ipxe)[..], &load(Script), &[requested(Kernel)]].concat();
    let mut fleet = fleet(100);
    let stuck_after = |fleet: &Fleet, limit: f64| {
        let record = record(fleet);
        let since = record.stage_since.duration_since(at(0.0)).unwrap().as_secs_f64();
        assert!(!record.is_stuck(at(since + limit - 1.0)), "{limit}");
        let now = at(since + limit + 1.0);
        assert!(record.is_stuck(now), "{limit}");
        assert_eq!(record.stuck_at(now), record.deadline.at());
        for (advanced, is_running, expected) in [(2.0, true, false), (60.0, true, true), (2.0, false, true)] {
            let progress = Progress {
                artifact: Kernel,
                transport: Http,
                done: 1_000,
                total: 20_000_000,
                block: 0,
                since: at(since),
                advanced: at(since + limit + 1.0 - advanced),
                is_running,
            };
            let record = MachineRecord { progress: Some(progress), ..record.clone() };
            assert_eq!(record.is_stuck(now), expected, "{advanced} {is_running}");
            assert_eq!(record.stuck_at(now).is_some(), expected, "{advanced} {is_running}");
        }
    };
    timed(MAC, boot.clone()).iter().for_each(|event| _ = fleet.apply(event));
    stuck_after(&fleet, 180.0);
    // The others take 100 s for it.
    for number in 2..=21 {
        let other = machine(number);
        let mut events = timed(other.mac, boot.clone());
        events.push(BootEvent { at: at(100.0), ..timed(other.mac, [requested(Initramfs)]).remove(0) });
        for event in &events {
            let applied = fleet.apply(event);
            fleet.note_pace(&other, &applied, event);
        }
    }
    assert!(!record(&fleet).is_stuck(at(390.0)));
    assert!(record(&fleet).is_stuck(at(600.0)));
    // It went on, and is where it belongs.
    timed(MAC, [&load(Initramfs)[..], &dora(Plain)].concat()).iter().for_each(|event| _ = fleet.apply(event));
    assert_eq!((record(&fleet).stage, record(&fleet).stuck_at(at(0.0))), (Stage::Running, None));
}

/// The time that pxed takes for a file is not the machine's.
#[test]
fn wait_for_a_file_does_not_count_for_the_script() {
    let awaits = EventKind::Awaits { path: Arc::from("/assets/vmlinuz"), state: "downloading", percent: None };
    let mut fleet = fleet(1);
    let events = [&dora(Ipxe)[..], &[requested(Script), awaits, requested(Script)]].concat();
    let mut events = timed(MAC, events);
    events.last_mut().unwrap().at = at(600.0);
    let (last, first) = events.split_last().unwrap();
    first.iter().for_each(|event| _ = fleet.apply(event));
    assert_eq!((record(&fleet).stage, record(&fleet).stuck_at(at(0.0))), (Stage::AwaitingFiles, None));
    fleet.apply(last);
    assert!(!record(&fleet).is_stuck(at(640.0)) && record(&fleet).is_stuck(at(646.0)));
}

#[test]
fn last_error_stays_until_the_next() {
    let mut fleet = fleet(1);
    let failures = [failed(Kernel, "the machine closed the connection"), done(Kernel)];
    for event in timed(MAC, failures) {
        fleet.apply(&event);
    }
    let (time, text) = record(&fleet).last_error.unwrap();
    assert_eq!(time, at(0.0));
    assert_eq!(&*text, "kernel /assets/vmlinuz-v1.13.0-amd64 by HTTP failed: the machine closed the connection");
}

/// Its operating system proves that it has its initramfs.
#[test]
fn boot_by_an_unconfirmed_initramfs_is_counted_too() {
    let loads = [&dora(Ipxe)[..], &load(Kernel), &[requested(Initramfs)]].concat();
    for (name, then, boots) in [
        ("nothing more", vec![], 0),
        ("unconfirmed", vec![unconfirmed(Initramfs)], 0),
        ("unconfirmed, and it runs", [&[unconfirmed(Initramfs)][..], &dora(Plain)].concat(), 1),
        ("it runs, and the verdict comes late", [&dora(Plain)[..], &[unconfirmed(Initramfs)]].concat(), 1),
        ("failed, and another system runs", [&[failed(Initramfs, "reset")][..], &dora(Plain)].concat(), 0),
    ] {
        let mut fleet = fleet(1);
        for event in timed(MAC, [&loads[..], &then].concat()) {
            fleet.apply(&event);
        }
        assert_eq!(record(&fleet).boots, boots, "{name}");
    }
}

#[test]
fn boot_is_counted_once() {
    let mut fleet = fleet(1);
    let twice = [&uefi_boot()[..], &uefi_boot(), &[done(Initramfs)]].concat();
    let doubled = twice.into_iter().flat_map(|event| [event.clone(), event]);
    for event in timed(MAC, doubled) {
        fleet.apply(&event);
    }
    assert_eq!(record(&fleet).boots, 3, "two boots, and one more initramfs in between");
}

#[test]
fn installed_machine_is_known_after_a_restart() {
    let mut before = fleet(1);
    for event in timed(MAC, [&uefi_boot()[..], &dora(Pxe), &dora(Plain)].concat()) {
        before.apply(&event);
    }
    let state =
        before.take_state().unwrap().into_iter().map(|(mac, remembered)| (mac.to_string(), remembered)).collect();
    let mut after = Fleet::new(&state, at(100.0), 1);
    assert_eq!((record(&after).stage, record(&after).boots), (Stage::NeverSeen, 1));
    after.apply(&BootEvent { mac: MAC, at: at(101.0), origin: Origin::Machine, kind: ack(Plain) });
    assert_eq!(record(&after).stage, Stage::OnDisk);
}

#[test]
fn machine_that_declined_its_address_runs_what_it_was_given() {
    let decline = EventKind::Decline { address: [10, 0, 0, 1].into() };
    let declined = [&uefi_boot()[..], &[decline]].concat();
    for (and_then, expected) in
        [(vec![], Stage::Failed), (dora(Plain).to_vec(), Stage::Running), (dora(Pxe).to_vec(), Stage::Addressed)]
    {
        let mut fleet = fleet(1);
        for event in timed(MAC, declined.iter().cloned().chain(and_then)) {
            fleet.apply(&event);
        }
        assert_eq!(record(&fleet).stage, expected);
    }
}

#[test]
fn machine_that_left_the_spec_keeps_its_persistent_state() {
    let mut fleet = fleet(1);
    for event in timed(MAC, uefi_boot()) {
        fleet.apply(&event);
    }
    fleet.follow(&Inventory::default());
    assert!(record(&fleet).events.is_empty());
    assert_eq!(record(&fleet).boots, 1);
    assert!(fleet.book().booted.contains(&MAC));
}

#[test]
fn renewal_changes_nothing() {
    let mut fleet = fleet(1);
    for event in timed(MAC, uefi_boot()) {
        fleet.apply(&event);
    }
    assert!(fleet.take_state().is_some() && fleet.take_book().is_some());
    for event in timed(MAC, [request(Plain), ack(Plain)]) {
        fleet.apply(&event);
    }
    assert!(!fleet.is_changed(), "neither a write of the state nor a copy of the book");
}

#[test]
fn machine_that_repeats_itself_is_logged_at_a_bounded_rate() {
    let mut fleet = fleet(1);
    let mut lines = 0;
    let mut suppressed = 0;
    // A thousand packets a second for a minute, then silence, then one more.
    let times = (0..60_000).map(|index| f64::from(index) / 1_000.0).chain([1_000.0]);
    for time in times {
        fleet.apply(&BootEvent { mac: MAC, at: at(time), origin: Origin::Machine, kind: discover(Pxe) });
        if let Logging::Line { suppressed: before } = fleet.may_log(MAC, at(time)) {
            lines += 1;
            suppressed += before;
        }
    }
    assert!((100..=200).contains(&lines), "{lines} lines");
    assert_eq!(lines + suppressed, 60_001, "suppressed lines are counted");
}

#[test]
fn memory_per_machine_shrinks_with_the_fleet() {
    assert_eq!(events_per_machine(0), 64);
    assert_eq!(events_per_machine(10_000), 64);
    assert_eq!(events_per_machine(100_000), 24);
    assert!(uefi_boot().len() <= MIN_EVENTS, "one whole boot fits");
}

proptest! {
    #[test]
    fn events_of_any_kind_are_survived_and_bounded(
        events in proptest::collection::vec((1_u32..4, any_event(), -1e9..1e9_f64), 0..120),
        machines in 0_usize..300_000,
    ) {
        let mut fleet = fleet(machines);
        for (number, kind, offset) in events {
            let time = if offset < 0.0 { at(0.0) - std::time::Duration::from_secs_f64(-offset) } else { at(offset) };
            fleet.apply(&BootEvent { mac: machine(number).mac, at: time, origin: Origin::Machine, kind });
        }
        for number in 1..4 {
            let record = fleet.machine(&Arc::new(machine(number)), usize::MAX);
            prop_assert!(record.events.len() <= events_per_machine(machines));
            prop_assert!(record.events.iter().all(|event| event.mac == record.machine.mac));
            let diagnosis = crate::journal::diagnose(&record, &Default::default(), at(0.0));
            prop_assert!(!diagnosis.reached.is_empty());
            let json = crate::journal::json::MachineJson::explained(&record, &diagnosis, at(60.0));
            prop_assert!(serde_json::to_string(&json).is_ok());
        }
        // No text remains when all events are forgotten: each use is released exactly once.
        fleet.follow(&Inventory::default());
        prop_assert_eq!(fleet.texts.is_empty(), true);
    }
}
