use super::*;
use crate::journal::log_budget::Logging;
use crate::journal::{fleet::Fleet, remembered::State, samples::*, stage::Stage};

/// Returns the stage of a machine after these events, the texts of the events that are kept, and how many of them repeat others.
fn after(events: &[EventKind]) -> (Stage, Vec<String>, usize) {
    let mut fleet = Fleet::new(&State::new(), at(-60.0), 1);
    let mut repeats = 0;
    for event in &timed(MAC, events.iter().cloned()) {
        repeats += usize::from(fleet.apply(event).repeats);
    }
    let record = fleet.machine(&Arc::new(machine(1)), usize::MAX);
    (record.stage, record.events.iter().map(|event| event.kind.to_string()).collect(), repeats)
}

fn booted() -> Vec<EventKind> {
    [&dora(Ipxe)[..], &[requested(Script)], &load(Kernel), &load(Initramfs), &dora(Plain)].concat()
}

#[test]
fn machine_that_asks_for_its_configuration_runs_talos() {
    let boot = booted();
    let without_dhcp = [&dora(Ipxe)[..], &[requested(Script)], &load(Kernel), &load(Initramfs)].concat();
    for before in [&boot, &without_dhcp] {
        let (stage, events, _) = after(&[&before[..], &[requested(Config)]].concat());
        assert_eq!(stage, Stage::Running);
        let path = "/boot/52-54-00-00-00-01/config.yaml";
        assert_eq!(events.last().unwrap(), &format!("asks for the machine configuration {path} by HTTP"));
        assert_eq!(after(&[&before[..], &load(Config)].concat()).0, Stage::Running);
        assert_eq!(
            after(&[&before[..], &[requested(Config), failed(Config, "no such file")]].concat()).0,
            Stage::Failed
        );
    }
    let late = [&boot[..], &[requested(Config), failed(Config, "no such file")], &load(Config)].concat();
    assert_eq!(after(&late).0, Stage::Running);
}

#[test]
fn attempts_that_end_alike_are_kept_once() {
    let attempt = |reason| [requested(Config), failed(Config, reason)];
    let mut events = booted();
    let boot = events.len();
    for _ in 0..1000 {
        events.extend(attempt("no such file"));
    }
    let (stage, kept, repeats) = after(&events);
    assert_eq!((stage, kept.len(), repeats), (Stage::Failed, boot + 2, 999), "{kept:#?}");
    assert!(kept.last().unwrap().contains("no such file"), "{kept:#?}");
    // What is new is kept.
    events.extend(attempt("the file is empty"));
    for _ in 0..10 {
        events.extend(load(Config));
    }
    let (stage, kept, repeats) = after(&events);
    assert_eq!((stage, kept.len(), repeats), (Stage::Running, boot + 6, 999 + 9), "{kept:#?}");
}

#[test]
fn attempts_of_another_boot_are_kept() {
    let attempt = [requested(Config), failed(Config, "no such file")];
    let events = [&booted()[..], &attempt, &booted(), &attempt].concat();
    let (_, kept, repeats) = after(&events);
    assert_eq!((kept.len(), repeats), (events.len(), 0));
    // Nor are repeated files of a boot.
    let kernels = [&[requested(Script)][..], &load(Kernel), &load(Kernel), &load(Kernel)].concat();
    assert_eq!(after(&kernels).1.len(), kernels.len());
}

#[test]
fn texts_of_dropped_attempts_are_released() {
    let mut texts = Interner::default();
    let mut record = Record::new(at(0.0), Cycle::Unknown, 0);
    for event in timed(MAC, (0..100).flat_map(|_| [requested(Config), failed(Config, "no such file")])) {
        record.apply(MAC, &event, 64, &mut texts);
    }
    record.clear(&mut texts);
    assert!(texts.is_empty());
}

#[test]
fn clock_that_is_set_back_does_not_silence_a_machine() {
    let mut record = Record::new(at(0.0), Cycle::Unknown, 0);
    let is_logged =
        |record: &mut Record, second: f64| matches!(record.log_budget.take(at(second)), Logging::Line { .. });
    let burst = (0..1000).take_while(|_| is_logged(&mut record, 10_000.0)).count();
    assert!((1..1000).contains(&burst), "{burst}");
    assert!(!is_logged(&mut record, 6_400.0), "nothing is earned by it");
    assert!(is_logged(&mut record, 6_460.0));
}
