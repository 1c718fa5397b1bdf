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

/// The events of the first attempts are gone by then.
#[test]
fn attempts_are_counted_further_than_they_are_kept() {
    let boots: Vec<EventKind> = std::iter::repeat_with(|| dora(Pxe)).take(100).flatten().collect();
    let all = shown(&boots);
    assert_eq!((all.len(), all.first().map(|first| first.0)), (TOLD, Some(93)));
}
