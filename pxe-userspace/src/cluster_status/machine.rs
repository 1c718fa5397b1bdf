//! The condition `PxeBooted` of a machine.
//!
//! `True` says that the machine got its kernel since it was last released; the book of policies on another node follows from it. So it
//! depends on what is known of the machine, not on its stage alone: an old system that asks for an address has not booted from here.

use std::time::{Duration, SystemTime};

use super::{
    condition::{Assessment, Status},
    occasion::Occasion,
};
use crate::{
    journal::{Diagnosis, MachineRecord, Stage, diagnose, with_address_signs},
    model::{
        address_signs::AddressSigns,
        event::{BootEvent, ClientKind, EventKind},
        failure::OTHER_OFFER,
        finding::SpecFault,
        images::Images,
        policy::{BootPolicy, Disposition},
    },
};

/// The reason for a machine that has sent nothing.
pub const NOT_SEEN: &str = "NotSeen";
/// The reason for a machine that a person released.
pub const RELEASED: &str = "Released";
/// The reason for a machine that has a mistake in the spec and is not served.
pub const LEFT_OUT: &str = "LeftOut";
/// The reason for a machine that was seen to run from its own disk.
pub const RUNS_FROM_DISK: &str = "RunsFromDisk";

/// The time after the deadline of a step at which a machine is assessed again.
const AGAIN: Duration = Duration::from_secs(1);

/// The statement of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assessed {
    /// The condition.
    pub assessment: Assessment,
    /// The occasions for a person to look, as long as they last.
    pub occasion: Option<Occasion>,
    /// The machine has chosen this node: the node has given it an address or a file since its firmware last asked. `false` if it has
    /// chosen another node since, and `None` if it was not seen to choose.
    pub is_served_here: Option<bool>,
    /// The time after which the same record says more, because the machine is stuck then.
    pub again: Option<SystemTime>,
    /// A boot policy follows from it.
    pub is_fact: bool,
    /// The boot is on its way: more follows within seconds.
    pub is_progress: bool,
}

/// Assesses a machine of the inventory. `released` says that it was released and has done nothing since.
#[must_use]
pub fn assess(record: &MachineRecord, images: &Images, released: bool, now: SystemTime) -> Assessed {
    let is_stuck = now.checked_sub(AGAIN).is_some_and(|now| record.is_stuck(now));
    // As long as bytes of a file arrive, it is looked at again and again.
    let again = record.deadline.at().map(|deadline| (deadline + AGAIN).max(now + AGAIN));
    let fault = problem(record, images, is_stuck);
    let (status, reason) = if released { (Status::Unknown, RELEASED) } else { said(record, fault.as_ref()) };
    let detail = match &fault {
        Some((_, _, detail)) if !released => detail.clone(),
        _ => String::new(),
    };
    let is_on_its_way = (Stage::Discovering..Stage::Booting).contains(&record.stage);
    let is_progress = status == Status::False && fault.is_none() && is_on_its_way && reason != "Held";
    Assessed {
        assessment: Assessment { status, reason, detail },
        occasion: fault.map(|(occasion, ..)| occasion),
        is_served_here: chosen(record),
        again: again.filter(|_| !is_stuck),
        is_fact: status == Status::True || reason == RUNS_FROM_DISK || released,
        is_progress,
    }
}

/// Returns status and reason.
fn said(record: &MachineRecord, fault: Option<&(Occasion, &'static str, String)>) -> (Status, &'static str) {
    let MachineRecord { stage, booted, reached_disk, boots_from, policy, .. } = *record;
    // It may have been installed by others.
    let known = if booted { Status::True } else { Status::Unknown };
    let to_disk = boots_from == Disposition::Disk;
    match (stage, fault) {
        (Stage::NeverSeen, _) if reached_disk => (known, RUNS_FROM_DISK),
        (Stage::NeverSeen, _) if booted => (Status::True, "Booted"),
        (Stage::NeverSeen, None) => (Status::Unknown, NOT_SEEN),
        // It needs no kernel from here. On its way to its disk it still asks for an address and a script.
        _ if to_disk && reached_disk => (known, RUNS_FROM_DISK),
        _ if to_disk && booted && !matches!(stage, Stage::Booting | Stage::Running | Stage::Up) => {
            (Status::True, "SentToDisk")
        }
        // It has its files, even if it gets no further. Other nodes read that from here.
        (Stage::Booting, _) => (Status::True, "Booted"),
        (Stage::Running | Stage::Up, _) => (known, "Running"),
        (_, Some((_, reason, _))) => (Status::False, reason),
        (Stage::SentToDisk, _) if policy == BootPolicy::Hold => (Status::False, "Held"),
        (Stage::SentToDisk, _) => (if booted { Status::True } else { Status::False }, "SentToDisk"),
        (Stage::OnDisk, _) if reached_disk => (known, RUNS_FROM_DISK),
        (Stage::OnDisk, _) => (known, "OtherSystem"),
        (stage, _) if stage < Stage::LoadingKernel && policy == BootPolicy::Hold => (Status::False, "Held"),
        (stage, None) => (Status::False, name(stage)),
    }
}

/// Returns what is wrong: the occasion, the reason of the condition, and what distinguishes it from others.
fn problem(record: &MachineRecord, images: &Images, is_stuck: bool) -> Option<(Occasion, &'static str, String)> {
    let boots_from_network = record.boots_from == Disposition::Network;
    let last =
        |is_it: fn(&EventKind) -> bool| record.events.iter().rev().take_while(in_this_boot).find(|e| is_it(&e.kind));
    if boots_from_network
        && record.stage < Stage::KernelDone
        && let Some(BootEvent { kind: EventKind::WrongArchitecture { client_architecture }, .. }) =
            last(|kind| matches!(kind, EventKind::WrongArchitecture { .. }))
    {
        return Some((Occasion::WrongArchitecture, "WrongArchitecture", client_architecture.to_string()));
    }
    if record.stage == Stage::Failed {
        if last(EventKind::is_failure).is_some_and(|e| matches!(e.kind, EventKind::WrongArchitecture { .. })) {
            return Some((Occasion::WrongArchitecture, "WrongArchitecture", String::new()));
        }
        let text = record.last_error.as_ref().map_or_else(String::new, |(_, text)| text.to_string());
        return Some((Occasion::BootFailed, "Failed", text));
    }
    if boots_from_network
        && matches!(record.stage, Stage::AwaitingFiles)
        && let Some(awaited) = images.awaited(images.as_bootable(&record.machine))
        && (!awaited.file.state.is_expected() || awaited.file.state.name() == "failed")
    {
        let detail = format!("{} {}", awaited.path, awaited.file.state.name());
        return Some((Occasion::ImageMissing, "ImageMissing", detail));
    }
    if matches!(record.stage, Stage::Discovering | Stage::Offered | Stage::IpxeDiscovering)
        && last(|kind| matches!(kind, EventKind::Ignored { reason } if *reason == OTHER_OFFER)).is_some()
    {
        return Some((Occasion::OtherDhcpServer, "OtherDhcpServer", String::new()));
    }
    is_stuck.then(|| (Occasion::BootStuck, name(record.stage), "stuck".to_owned()))
}

/// Returns whether an event is no DISCOVER of firmware, which begins a boot.
fn in_this_boot(event: &&BootEvent) -> bool {
    !matches!(event.kind, EventKind::Discover { client: ClientKind::Pxe | ClientKind::HttpBoot, .. })
}

/// Returns `Some(true)` if the machine was last seen to take something from this node in this boot, and `Some(false)` if it was last seen
/// to choose another.
fn chosen(record: &MachineRecord) -> Option<bool> {
    record.events.iter().rev().take_while(in_this_boot).find_map(|event| match &event.kind {
        // In ProxyDHCP another server gives the address, and all nodes see the machine choose it.
        EventKind::Ack { address, boot_file, .. } if address.is_some() || boot_file.is_some() => Some(true),
        EventKind::Requested { .. }
        | EventKind::Done { .. }
        | EventKind::Unconfirmed { .. }
        | EventKind::Failed { .. }
        | EventKind::Awaits { .. }
        | EventKind::SentToDisk => Some(true),
        EventKind::LeftToPeer { chosen: true, .. } => Some(false),
        _ => None,
    })
}

/// Returns the reason of a machine that is on its way.
const fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::NeverSeen => NOT_SEEN,
        Stage::Discovering => "Discovering",
        Stage::Offered => "Offered",
        Stage::Addressed => "Addressed",
        Stage::LoadingLoader => "LoadingLoader",
        Stage::LoaderDone => "LoaderDone",
        Stage::IpxeDiscovering => "IpxeDiscovering",
        Stage::IpxeAddressed => "IpxeAddressed",
        Stage::AwaitingFiles => "AwaitingFiles",
        Stage::Scripted => "Scripted",
        Stage::LoadingKernel => "LoadingKernel",
        Stage::KernelDone => "KernelDone",
        Stage::LoadingInitramfs => "LoadingInitramfs",
        Stage::Booting => "Booted",
        // The cluster's own API says when the machine is up.
        Stage::Running | Stage::Up => "Running",
        Stage::SentToDisk => "SentToDisk",
        Stage::OnDisk => "OtherSystem",
        Stage::Failed => "Failed",
    }
}

/// Returns the sentence of the condition: what `pxed explain` says, with what to do. `signs` are those about the machine's address.
#[must_use]
pub fn sentence(
    record: &MachineRecord,
    images: &Images,
    signs: &AddressSigns,
    assessment: &Assessment,
    now: SystemTime,
) -> String {
    let mac = record.machine.mac;
    match assessment.reason {
        RELEASED => {
            return format!("{mac} was released: it boots as its policy says, as if it had never booted.");
        }
        NOT_SEEN => return format!("{mac} has not been seen yet: it has sent nothing since it is watched."),
        _ => {}
    }
    let Diagnosis { reached, advice, .. } = with_address_signs(diagnose(record, images, now), record, signs, now);
    match &*advice {
        [] => format!("{mac}: {reached}"),
        advice => format!("{mac}: {reached} To do: {}", advice.join(" ")),
    }
}

/// Assesses a machine that a mistake in the spec leaves out. Its status stays `True` if it is, since a mistake does not undo a boot.
#[must_use]
pub fn left_out(fault: &SpecFault, was_booted: bool) -> Assessment {
    let status = if was_booted { Status::True } else { Status::False };
    Assessment { status, reason: LEFT_OUT, detail: fault.finding.to_string() }
}

/// Returns the sentence about such a machine.
#[must_use]
pub fn left_out_sentence(fault: &SpecFault) -> String {
    format!("It is left out, because of a mistake in the spec: {}", fault.finding)
}

/// The time that a machine which has just appeared is given before it is called not seen: the operator writes its status at that time.
pub const SETTLES_IN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
