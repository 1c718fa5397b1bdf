//! The last boot of a machine as a story: a sentence for each step, with its time in UTC. A pure function of the machine's record.

mod act;
mod repetition;

use std::time::SystemTime;

use self::{
    act::{Act, Teller},
    repetition::{Told, merge},
};
use super::machine_record::MachineRecord;
use crate::model::event::{BootEvent, ClientKind, EventKind};

/// The longest story. Of a longer one, the middle is left out.
const SENTENCES: usize = 40;

/// Returns the story of the last boot: since the firmware began to ask, or iPXE in the network card's ROM.
#[must_use]
pub fn story(record: &MachineRecord) -> Vec<String> {
    let (begin, attempts) = last_boot(&record.events);
    let events = record.events.get(begin..).unwrap_or_default();
    let Some(first) = events.first() else { return Vec::new() };
    let teller = Teller::new(record, first.at);
    let acts = Act::all(events);
    let told = merge(&acts);
    let mut sentences = Vec::with_capacity(told.len() + 1);
    if let Some((count, since)) = attempts {
        sentences.push(teller.attempt(first.at, count, since));
    }
    sentences.extend(told.iter().map(|told| match told {
        Told::Act(act) => teller.sentence(act),
        Told::Again { steps, times, until } => teller.again(*steps, *times, *until),
    }));
    shorten(sentences)
}

/// Leaves out the middle of a long story.
fn shorten(mut sentences: Vec<String>) -> Vec<String> {
    if let Some(more) = sentences.len().checked_sub(SENTENCES).filter(|more| *more > 0) {
        let middle = SENTENCES / 2;
        sentences.splice(middle..=middle + more, [format!("… {} more steps, which the events have", more + 1)]);
    }
    sentences
}

/// What the events up to here show of a boot.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No boot has begun, or the last one is over.
    Over,
    /// The firmware asks, and has no answer that it took.
    Asks,
    /// The boot is under way.
    UnderWay,
}

/// Returns the index of the event with which the last boot began; and the number of attempts since an operating system ran, with the time of
/// the first, if there are several.
fn last_boot(events: &[BootEvent]) -> (usize, Option<(usize, SystemTime)>) {
    let mut phase = Phase::Over;
    let mut begins = Vec::new();
    for (index, BootEvent { kind, .. }) in events.iter().enumerate() {
        let begins_at_firmware = matches!(kind, EventKind::Discover { client, .. } if is_firmware(*client));
        let begins_at_ipxe = matches!(kind, EventKind::Discover { client: ClientKind::Ipxe, .. });
        if begins_at_firmware && phase != Phase::Asks || begins_at_ipxe && phase == Phase::Over {
            if phase == Phase::Over {
                begins.clear();
            }
            begins.push(index);
            phase = if begins_at_firmware { Phase::Asks } else { Phase::UnderWay };
        } else if kind.is_operating_system() || *kind == EventKind::SentToDisk {
            phase = Phase::Over;
        } else if phase == Phase::Asks && is_progress(kind) {
            phase = Phase::UnderWay;
        }
    }
    let attempts = begins.first().and_then(|first| events.get(*first)).filter(|_| begins.len() > 1);
    (begins.last().copied().unwrap_or_default(), attempts.map(|first| (begins.len(), first.at)))
}

fn is_firmware(client: ClientKind) -> bool {
    matches!(client, ClientKind::Pxe | ClientKind::HttpBoot)
}

/// Returns `true` for what firmware does only with an answer.
fn is_progress(kind: &EventKind) -> bool {
    matches!(
        kind,
        EventKind::Request { .. }
            | EventKind::Ack { .. }
            | EventKind::Requested { .. }
            | EventKind::Decline { .. }
            | EventKind::Discover { client: ClientKind::Ipxe, .. }
    )
}

#[cfg(test)]
mod tests;
