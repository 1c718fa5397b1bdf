//! Attempts of a machine, from its events.

use std::sync::Arc;

use super::*;
use crate::journal::{samples::*, testing::Records};

fn record(kinds: &[EventKind]) -> MachineRecord {
    let mut records = Records::new();
    records.apply(kinds);
    records.record(&Arc::new(machine(1)))
}

fn shown(kinds: &[EventKind]) -> Vec<(u32, Step, Outcome, bool)> {
    let of = |attempt: &Attempt| (attempt.number, attempt.step, attempt.outcome, attempt.failure.is_some());
    let record = record(kinds);
    let attempts = attempts(&record);
    assert_eq!(attempts.last().map_or(0, |last| last.number), record.attempt);
    attempts.iter().map(of).collect()
}

#[test]
fn machine_that_begins_again_has_several_attempts() {
    let silent = [&dora(Pxe)[..], &[requested(Loader)]].concat();
    let broken = [&dora(Pxe)[..], &load(Loader), &dora(Ipxe), &load(Script)].concat();
    let broken = [&broken[..], &[requested(Kernel), failed(Kernel, "the machine closed the connection")]].concat();
    let both = [&silent[..], &broken].concat();
    let first = (1, Step::Loader, Outcome::BeganAgain, false);
    assert_eq!(shown(&both), [first, (2, Step::Kernel, Outcome::Failed, true)]);
    let under_way = [&both[..], &dora(Pxe)].concat();
    let second = (2, Step::Kernel, Outcome::Failed, true);
    assert_eq!(shown(&under_way), [first, second, (3, Step::Addressed, Outcome::UnderWay, false)]);
    let ran = [&both[..], &uefi_boot()].concat();
    assert_eq!(shown(&ran), [first, second, (3, Step::Running, Outcome::Ran, false)]);
    // The next boot begins to count again.
    assert_eq!(shown(&[&ran[..], &dora(Pxe)].concat()), [(1, Step::Addressed, Outcome::UnderWay, false)]);
}

/// Firmware repeats its question while nobody answers; iPXE that firmware loaded belongs to the same attempt.
#[test]
fn repeated_question_is_no_attempt() {
    assert_eq!(
        shown(&[discover(Pxe), discover(Pxe), offer(), discover(Pxe)]),
        [(1, Step::Offered, Outcome::UnderWay, false)]
    );
    assert_eq!(shown(&uefi_boot()).len(), 1);
    assert_eq!(shown(&dora(Ipxe)), [(1, Step::Ipxe, Outcome::UnderWay, false)]);
    assert_eq!(shown(&[discover(Pxe), EventKind::SentToDisk]), [(1, Step::Asking, Outcome::SentToDisk, false)]);
    assert_eq!(shown(&plain(crate::model::event::Signs::Talos)), []);
}

/// A network card's iPXE has no firmware in front of it that asks first.
#[test]
fn ipxe_in_rom_that_begins_again_has_several_attempts() {
    let kernel_fails = [requested(Kernel), failed(Kernel, "no such file")];
    let round = [&dora(Ipxe)[..], &load(Script), &kernel_fails].concat();
    let first = (1, Step::Kernel, Outcome::Failed, true);
    let second = (2, Step::Kernel, Outcome::Failed, true);
    assert_eq!(shown(&[&round[..], &round].concat()), [first, second]);
    let third = (3, Step::Running, Outcome::Ran, false);
    assert_eq!(shown(&[&round[..], &round, &ipxe_boot()].concat()), [first, second, third]);
    let refused = [&dora(Ipxe)[..], &[failed(Script, "asked from 10.0.0.9")]].concat();
    assert_eq!(shown(&[&refused[..], &refused].concat()).len(), 2);
    let image = [&dora(Ipxe)[..], &[requested(Uki)]].concat();
    assert_eq!(shown(&[&image[..], &dora(Ipxe)].concat()).len(), 2);
}

#[test]
fn ipxe_that_asks_again_before_its_script_goes_on_with_its_attempt() {
    let waits = EventKind::Awaits { path: "vmlinuz".into(), state: "fetching", percent: None };
    let nak = EventKind::Nak { reason: "another address is reserved" };
    let autoexec = EventKind::Requested { artifact: Script, transport: Tftp, path: "autoexec.ipxe".into() };
    for between in [vec![], vec![waits], vec![nak], vec![autoexec], load(Loader).to_vec()] {
        let asks_again = [&dora(Ipxe)[..], &between, &dora(Ipxe)].concat();
        assert_eq!(shown(&asks_again).len(), 1, "{between:?}");
    }
    // iPXE that firmware loaded: the firmware would ask first.
    let follows = [&dora(Pxe)[..], &load(Loader), &dora(Ipxe), &load(Script), &[requested(Kernel)], &dora(Ipxe)];
    assert_eq!(shown(&follows.concat()).len(), 1);
}

/// The events of the first attempts are gone by then.
#[test]
fn attempts_are_counted_further_than_they_are_kept() {
    let boots: Vec<EventKind> = std::iter::repeat_with(|| dora(Pxe)).take(100).flatten().collect();
    let all = shown(&boots);
    assert_eq!((all.len(), all.first().map(|first| first.0)), (TOLD, Some(93)));
}

#[test]
fn failure_that_the_machine_got_over_ends_no_attempt() {
    let broken = [requested(Kernel), failed(Kernel, "the machine closed the connection")];
    let retried = [&dora(Ipxe)[..], &load(Script), &broken, &load(Script)].concat();
    // The kernel panics, which nobody sees.
    let panicked = [&dora(Pxe)[..], &load(Loader), &retried, &load(Kernel), &load(Initramfs), &dora(Pxe)].concat();
    assert_eq!(shown(&panicked)[0], (1, Step::Initramfs, Outcome::BeganAgain, false));
    // It is not over before the kernel is there.
    let silent = [&dora(Pxe)[..], &load(Loader), &retried, &[requested(Kernel)], &dora(Pxe)].concat();
    assert_eq!(shown(&silent)[0], (1, Step::Kernel, Outcome::Failed, true));
    let nak = || EventKind::Nak { reason: "another address is reserved" };
    let refused = [discover(Ipxe), offer(), request(Ipxe), nak()];
    let corrected = [&dora(Pxe)[..], &load(Loader), &refused, &dora(Ipxe), &load(Script), &dora(Pxe)].concat();
    assert_eq!(shown(&corrected)[0], (1, Step::Script, Outcome::BeganAgain, false));
    let refused_again = [&dora(Pxe)[..], &[request(Pxe), nak(), request(Pxe), ack(Pxe)]].concat();
    assert_eq!(shown(&refused_again), [(1, Step::Addressed, Outcome::UnderWay, false)]);
    // The firmware gave up this transfer and did without it.
    let late = [&dora(Pxe)[..], &load(Loader), &dora(Ipxe), &[failed(Loader, "the client fell silent")]].concat();
    assert_eq!(shown(&late), [(1, Step::Ipxe, Outcome::UnderWay, false)]);
}

/// The stage of the record and the outcome of its last attempt stand beside each other in the API.
#[test]
fn wrong_firmware_has_failed_on_its_way_to_the_script() {
    let wrong = EventKind::WrongArchitecture { client_architecture: 6 };
    let boot = [&[discover(Pxe), wrong][..], &dora(Pxe)[1..], &load(Loader)].concat();
    let silent_ipxe = EventKind::Discover { client: Ipxe, client_architecture: None };
    let ipxe = [&boot[..], &[silent_ipxe], &dora(Ipxe)[1..], &load(Script)].concat();
    for (kinds, step) in [(&boot, Step::Loader), (&ipxe, Step::Script)] {
        assert_eq!(record(kinds).stage, Stage::Failed);
        assert_eq!(shown(kinds), [(1, step, Outcome::Failed, true)]);
    }
    let kernel = [&ipxe[..], &load(Kernel)].concat();
    assert_eq!(shown(&kernel), [(1, Step::Kernel, Outcome::UnderWay, false)]);
}
