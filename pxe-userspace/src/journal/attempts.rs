//! The attempts of a machine to boot, since an operating system last ran on it: a pure function of its events. Each begins when firmware asks
//! again after it has gone on, or when iPXE in a network card's ROM asks, and asks again after it has gone on to its script. The last one may be
//! under way.
//!
//! iPXE whose node no longer answers asks again, too (`boot::follow`), and nothing in its question tells that from a restart. A node sees both only
//! if its pxed was away meanwhile, and counts an attempt then.

use std::time::SystemTime;

use super::{
    doomed::{doomed_after, leads_nowhere},
    machine_record::MachineRecord,
    stage::Stage,
    step::Step,
};
use crate::model::event::{ArtifactKind, BootEvent, ClientKind, EventKind, Transport};

/// The attempts that are told of, the last ones.
const TOLD: usize = 8;

/// The phase of a boot after some of its events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// No boot has begun, or the last one is over.
    #[default]
    Over,
    /// The firmware asks, and has no answer that it took.
    Asks,
    /// The boot is under way.
    UnderWay,
    /// iPXE in a network card's ROM has begun the boot.
    Rom,
    /// The same, and it has gone on: if iPXE asks now, it has begun again.
    RomGoesOn,
}

impl Phase {
    /// Returns the phase after an event, and `true` if an attempt begins with it.
    pub(super) fn after(self, kind: &EventKind) -> (Self, bool) {
        let begins_at_firmware = matches!(kind, EventKind::Discover { client, .. } if is_firmware(*client));
        let begins_at_ipxe = matches!(kind, EventKind::Discover { client: ClientKind::Ipxe, .. });
        if begins_at_firmware && self != Self::Asks {
            (Self::Asks, true)
        } else if begins_at_ipxe && matches!(self, Self::Over | Self::RomGoesOn) {
            (Self::Rom, true)
        } else if kind.is_operating_system() || *kind == EventKind::SentToDisk {
            (Self::Over, false)
        } else if self == Self::Asks && is_progress(kind) {
            (Self::UnderWay, false)
        } else if self == Self::Rom && goes_on(kind) {
            (Self::RomGoesOn, false)
        } else {
            (self, false)
        }
    }

    /// Returns the number of attempts since an operating system ran, after one more begins at this phase.
    pub(super) fn count(self, attempts: u32) -> u32 {
        if self == Self::Over { 1 } else { attempts.saturating_add(1) }
    }
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

/// Returns `true` for what iPXE does, or what goes wrong with it, only when it has asked for an address. Nothing of that is its question for a script
/// that is not ready: it waits, and may ask DHCP again.
fn goes_on(kind: &EventKind) -> bool {
    match kind {
        EventKind::Requested { artifact, transport, .. } => match artifact {
            // iPXE looks for autoexec.ipxe by TFTP.
            ArtifactKind::Script => *transport == Transport::Http,
            ArtifactKind::Kernel | ArtifactKind::Initramfs | ArtifactKind::Uki => true,
            ArtifactKind::Loader | ArtifactKind::Config | ArtifactKind::Other => false,
        },
        EventKind::Failed { .. } => kind.is_failure(),
        _ => false,
    }
}

/// The end of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It has none yet.
    UnderWay,
    /// An operating system ran.
    Ran,
    /// The machine was told to boot from its own disk.
    SentToDisk,
    /// A step failed, and the machine began again or asks no more.
    Failed,
    /// The machine began again for a reason that pxed has not seen.
    BeganAgain,
}

impl Outcome {
    /// Returns the name in the API.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::UnderWay => "under-way",
            Self::Ran => "ran",
            Self::SentToDisk => "sent-to-disk",
            Self::Failed => "failed",
            Self::BeganAgain => "began-again",
        }
    }
}

/// An attempt to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    /// Its number since an operating system ran, from 1.
    pub(super) number: u32,
    /// The time at which it began.
    pub(super) began: SystemTime,
    /// The program that began it.
    pub(super) by: ClientKind,
    /// The last time at which something was seen of it.
    pub(super) last: SystemTime,
    /// The step that it came to.
    pub(super) step: Step,
    /// Its end.
    pub(super) outcome: Outcome,
    /// The last failure, unless the machine has come further since.
    pub(super) failure: Option<String>,
}

/// Returns the indices of the events with which the attempts since an operating system ran began.
pub(super) fn begins(events: &[BootEvent]) -> Vec<usize> {
    let mut phase = Phase::Over;
    let mut begins = Vec::new();
    for (index, BootEvent { kind, .. }) in events.iter().enumerate() {
        let (next, begins_here) = phase.after(kind);
        if begins_here {
            if phase == Phase::Over {
                begins.clear();
            }
            begins.push(index);
        }
        phase = next;
    }
    begins
}

/// Returns the last attempts of a machine since an operating system ran, the oldest first, as far as its events reach.
pub(super) fn attempts(record: &MachineRecord) -> Vec<Attempt> {
    let begins = begins(&record.events);
    let count = begins.len();
    // The events of the first attempts may be gone.
    let last = record.attempt.max(u32::try_from(count).unwrap_or(u32::MAX));
    let ends = begins.iter().skip(1).copied().chain([record.events.len()]);
    let of_events = begins.iter().copied().zip(ends).enumerate();
    let attempts = of_events.filter_map(|(index, (begin, end))| {
        let is_last = index + 1 == count;
        let before = u32::try_from(count - 1 - index).unwrap_or(u32::MAX);
        // An iPXE that does not name its architecture is judged by what was seen before.
        let is_doomed =
            record.events.get(..begin)?.iter().fold(false, |is_doomed, event| doomed_after(is_doomed, &event.kind));
        attempt(record.events.get(begin..end)?, is_doomed, last.saturating_sub(before), is_last)
    });
    attempts.skip(count.saturating_sub(TOLD)).collect()
}

fn attempt(events: &[BootEvent], mut is_doomed: bool, number: u32, is_last: bool) -> Option<Attempt> {
    let (first, last) = (events.first()?, events.last()?);
    let EventKind::Discover { client: by, .. } = first.kind else { return None };
    let mut stage = Stage::NeverSeen;
    // The same for a machine that is not doomed: its steps are told all the same.
    let mut reached = Stage::NeverSeen;
    let mut step = Step::NeverSeen;
    let mut failure: Option<Failure> = None;
    let mut end = None;
    for BootEvent { kind, .. } in events {
        is_doomed = doomed_after(is_doomed, kind);
        reached = reached.after(kind);
        if reached.step() < Step::Disk {
            step = step.max(reached.step());
        }
        let next = stage.after(kind);
        let next = if is_doomed && leads_nowhere(next) { Stage::Failed } else { next };
        failure = Failure::after(failure, kind, stage, next);
        stage = next;
        if kind.is_operating_system() {
            end = Some(Outcome::Ran);
        } else if *kind == EventKind::SentToDisk {
            end = Some(Outcome::SentToDisk);
        }
    }
    let failure = failure.map(|failure| failure.kind.to_string());
    let outcome = end.unwrap_or(match (is_last, &failure) {
        (true, Some(_)) if stage == Stage::Failed => Outcome::Failed,
        (true, _) => Outcome::UnderWay,
        (false, Some(_)) => Outcome::Failed,
        (false, None) => Outcome::BeganAgain,
    });
    Some(Attempt { number, began: first.at, by, last: last.at, step, outcome, failure })
}

/// A failure that the machine has not got over.
struct Failure<'e> {
    kind: &'e EventKind,
    /// The stage at which the machine failed.
    at: Stage,
}

impl<'e> Failure<'e> {
    /// Returns the failure after an event that leads from a stage to another.
    fn after(failure: Option<Self>, kind: &'e EventKind, from: Stage, to: Stage) -> Option<Self> {
        if !kind.is_failure() {
            let is_over = |failure: &Self| match (failure.kind, kind) {
                (EventKind::Nak { .. }, EventKind::Ack { .. }) => true,
                _ => to != Stage::Failed && to > failure.at,
            };
            return failure.filter(|failure| !is_over(failure));
        }
        // A transfer that the machine gave up may fail when the machine has moved on.
        if matches!(kind, EventKind::Failed { .. }) && to != Stage::Failed {
            return failure;
        }
        let at = failure.filter(|_| from == Stage::Failed).map_or(from, |failure| failure.at);
        Some(Self { kind, at })
    }
}

#[cfg(test)]
mod tests;
