use std::{fmt::Write as _, path::Path, sync::Arc};

use super::{
    super::condition::{BOOTED, author_of, tests::is_reason, written},
    *,
};
use crate::{
    cluster_status::condition::Author,
    journal::{Deadline, Fact, Known, samples::*, testing::Records},
    model::{
        finding::Finding,
        images::{FileState, ImageFile, Stubs},
        inventory::Machine,
        testing::assert_golden,
    },
};

/// The records of a machine, by the name of its situation.
fn situations(policy: BootPolicy) -> Vec<(&'static str, MachineRecord)> {
    let machine = Arc::new(Machine { policy, ..machine(1) });
    let mut situations = Vec::new();
    let boot = uefi_boot();
    for length in 0..=boot.len() {
        let mut records = Records::new();
        records.apply(&boot[..length]);
        let name = if length == boot.len() { "the whole boot" } else { "a boot" };
        situations.push((name, records.record(&machine)));
    }
    let mut case = |name, facts: &[Known], events: &[EventKind]| {
        let mut records = Records::new();
        facts.iter().for_each(|&known| records.learn(Fact { mac: MAC, known }));
        records.apply(events);
        situations.push((name, records.record(&machine)));
    };
    let wrong = EventKind::WrongArchitecture { client_architecture: 11 };
    let other = EventKind::Ignored { reason: OTHER_OFFER };
    let no_file = failed(Kernel, "no such file");
    let fell_silent = failed(Initramfs, "the client fell silent");
    let awaits = EventKind::Awaits { path: "vmlinuz-v1.13.0-amd64".into(), state: "missing", percent: None };
    let facts: [(&str, &[Known]); 3] = [
        ("new", &[]),
        ("booted before", &[Known::Booted]),
        ("ran from its disk", &[Known::ReachedDisk { booted: true }]),
    ];
    for (name, facts) in facts {
        case(name, facts, &[]);
        case(name, facts, &dora(Pxe));
        case(name, facts, &dora(Plain));
        case(name, facts, &[&dora(Pxe)[..], &dora(Plain)].concat());
        case(name, facts, &[&dora(Pxe)[..], &[EventKind::SentToDisk]].concat());
        case(name, facts, &[&dora(Pxe)[..], &[EventKind::SentToDisk], &dora(Plain)].concat());
        case(name, facts, &[&dora(Pxe)[..], std::slice::from_ref(&wrong)].concat());
        case(name, facts, &[discover(Pxe), offer(), request(Pxe), other.clone()]);
        case(name, facts, &[&dora(Pxe)[..], &dora(Ipxe), std::slice::from_ref(&no_file)].concat());
        case(name, facts, &[&dora(Pxe)[..], &dora(Ipxe), std::slice::from_ref(&fell_silent)].concat());
        case(name, facts, &[&dora(Pxe)[..], &dora(Ipxe), std::slice::from_ref(&awaits)].concat());
    }
    situations
}

fn missing() -> Images {
    let reason: Arc<str> = "pxed runs with --offline".into();
    let file = ImageFile { remedy: ["pxed fetch".to_owned()].into(), ..FileState::Missing { reason }.into() };
    Images::new([("vmlinuz-v1.13.0-amd64".into(), file)].into(), Default::default(), Stubs::default())
}

#[test]
fn conditions_follow_from_stage_policy_and_finding() {
    let images = missing();
    let mut table = String::from("policy situation stage: status reason (detail) occasion\n");
    for policy in [BootPolicy::Auto, BootPolicy::Always, BootPolicy::Once, BootPolicy::Hold] {
        for (name, record) in situations(policy) {
            for (when, after) in [("", 1), (" later", 600)] {
                let now = record.stage_since + Duration::from_secs(after);
                let Assessed { assessment, occasion, is_served_here, is_fact, is_progress, .. } =
                    assess(&record, &images, false, now);
                let Assessment { status, reason, detail } = assessment;
                assert!(is_reason(reason), "{reason}");
                let occasion = occasion.map_or("", Occasion::reason);
                let marks = [(is_served_here == Some(true), "here"), (is_fact, "fact"), (is_progress, "progress")];
                let marks: Vec<_> = marks.into_iter().filter(|(is, _)| *is).map(|(_, mark)| mark).collect();
                let _ = writeln!(
                    table,
                    "{policy:?} {name}{when} {}: {} {reason} ({detail}) {occasion} {}",
                    record.stage,
                    status.name(),
                    marks.join(" ")
                );
            }
        }
    }
    assert_golden("src/cluster_status/machine/conditions.txt", &table);
}

/// The conclusions of another node from the condition lead it to the same decision, whatever the machine does.
#[test]
fn node_without_memory_decides_as_the_node_that_wrote_the_condition() {
    for policy in [BootPolicy::Auto, BootPolicy::Once, BootPolicy::Hold] {
        for (name, record) in situations(policy) {
            let now = record.stage_since + Duration::from_secs(1);
            let assessment = assess(&record, &missing(), false, now).assessment;
            let condition = written(BOOTED, &assessment, "", Author { node: "node-1", now }, None, None);
            let mut other = Records::new();
            if let Some(fact) = crate::cluster_status::facts::fact(MAC, &condition) {
                other.learn(fact);
            }
            let theirs = other.record(&record.machine);
            assert_eq!(theirs.boots_from, record.boots_from, "{policy:?} {name} {}: {assessment:?}", record.stage);
            // A system that runs here without having been booted must not become a boot there.
            assert!(!theirs.booted || record.booted, "{policy:?} {name} {}: {assessment:?}", record.stage);
        }
    }
}

#[test]
fn messages_are_what_explain_says_and_fit() {
    for policy in [BootPolicy::Auto, BootPolicy::Hold] {
        for (name, record) in situations(policy) {
            let now = record.stage_since + Duration::from_secs(600);
            let assessment = assess(&record, &missing(), false, now).assessment;
            let sentence = sentence(&record, &missing(), &AddressSigns::default(), &assessment, now);
            let condition = written(BOOTED, &assessment, &sentence, Author { node: "node-1", now }, None, Some(1));
            assert!(condition.message.chars().count() <= 32_768);
            assert_eq!(author_of(&condition.message), Some("node-1"));
            if assessment.reason != NOT_SEEN {
                let reached = diagnose(&record, &missing(), now).reached;
                assert!(condition.message.contains(&reached), "{name}: {}", condition.message);
            }
        }
    }
}

#[test]
fn released_machine_is_unknown_whatever_it_did() {
    for (_, record) in situations(BootPolicy::Auto) {
        let now = record.stage_since + Duration::from_secs(600);
        let assessed = assess(&record, &missing(), true, now);
        assert_eq!(assessed.assessment, Assessment::new(Status::Unknown, RELEASED));
        assert!(assessed.is_fact);
        assert!(
            sentence(&record, &missing(), &AddressSigns::default(), &assessed.assessment, now).contains("released")
        );
    }
}

#[test]
fn stuck_machine_is_assessed_again_in_time() {
    let mut records = Records::new();
    records.apply(&dora(Pxe));
    let record = records.record(&Arc::new(machine(1)));
    let images = Images::default();
    let first = assess(&record, &images, false, record.stage_since);
    let again = first.again.unwrap();
    assert_eq!((first.occasion, first.is_progress), (None, true));
    let just_before = assess(&record, &images, false, again - Duration::from_millis(1));
    assert_eq!(just_before.occasion, None);
    let stuck = assess(&record, &images, false, again);
    assert_eq!((stuck.occasion, stuck.again, stuck.is_progress), (Some(Occasion::BootStuck), None, false));
    assert_ne!(stuck.assessment, first.assessment);
    assert!(sentence(&record, &images, &AddressSigns::default(), &stuck.assessment, again).contains("To do:"));
}

#[test]
fn machine_that_has_its_kernel_has_booted_though_it_is_stuck() {
    let boot = uefi_boot();
    for length in 0..=boot.len() {
        let mut records = Records::new();
        records.apply(&boot[..length]);
        let mut record = records.record(&Arc::new(machine(1)));
        if !matches!(record.stage, Stage::Booting | Stage::Running) {
            continue;
        }
        let now = record.stage_since + Duration::from_secs(3_600);
        record.deadline = Deadline::of(record.stage_since);
        let assessed = assess(&record, &Images::default(), false, now);
        assert_eq!(assessed.assessment.status, Status::True, "{}", record.stage);
        assert_eq!((assessed.occasion, assessed.is_fact), (Some(Occasion::BootStuck), true), "{}", record.stage);
    }
}

#[test]
fn machine_that_chose_another_node_is_not_served_here() {
    let left = |chosen| EventKind::LeftToPeer { client: Pxe, address: std::net::Ipv4Addr::new(10, 0, 0, 9), chosen };
    for (events, expected) in [
        (vec![discover(Pxe), offer()], None),
        (dora(Pxe).to_vec(), Some(true)),
        (vec![discover(Pxe), left(false)], None),
        (vec![discover(Pxe), offer(), left(true)], Some(false)),
        ([&dora(Pxe)[..], &[left(true)]].concat(), Some(false)),
        ([&[discover(Pxe), left(true)], &dora(Ipxe)[..]].concat(), Some(true)),
        ([&dora(Pxe)[..], &[discover(Pxe)]].concat(), None),
    ] {
        let mut records = Records::new();
        records.apply(&events);
        let record = records.record(&Arc::new(machine(1)));
        let assessed = assess(&record, &Images::default(), false, record.stage_since);
        assert_eq!(assessed.is_served_here, expected, "{events:?}");
    }
}

#[test]
fn left_out_machine_names_its_mistake_and_keeps_its_status() {
    let finding = Finding {
        file: Path::new("TalosMachine ns/m1").into(),
        line: 0,
        column: 0,
        field: "spec.pxeClientSpec.macAddress".to_owned(),
        message: "is also the MAC of TalosMachine other/m1".to_owned(),
    };
    let fault = SpecFault { finding, objects: "machine", left_out: 1, kept: 0 };
    assert_eq!(left_out(&fault, false).status, Status::False);
    assert_eq!(left_out(&fault, true).status, Status::True);
    let sentence = left_out_sentence(&fault);
    assert!(
        sentence
            .ends_with("TalosMachine ns/m1: spec.pxeClientSpec.macAddress: is also the MAC of TalosMachine other/m1")
    );
}
