//! Remarks on single events: the proof of a disk, and names that firmware changed.

use std::time::{Duration, SystemTime};

use crate::{
    journal::{
        machine_record::MachineRecord,
        policy::Proof,
        spelling::{self, Spelling},
        words::{elapsed, human},
    },
    model::{
        event::{ArtifactKind, BootEvent, BootFileName, ClientKind, EventKind, Signs, Transport},
        policy::BootPolicy,
    },
};

/// The conclusion from an exchange through a relay or a router, whose frames anybody can send.
const THROUGH_RELAY: &str = "does not count as proof of its disk: it came through a relay or a router, as anybody can pretend. It counts if pxed is \
                             told to trust that relay (--trusted-relay)";

/// Returns what the last exchange of a plain client in this boot proves, unless it ran the kernel that pxed served, which is as it should be.
pub(super) fn last_plain_exchange(record: &MachineRecord, now: SystemTime) -> Option<String> {
    let in_this_cycle = |event: &&BootEvent| {
        !begins_boot(event) && record.cycle.after(event.origin, &event.kind, false) == record.cycle
    };
    let (event, signs) = record
        .events
        .iter()
        .rev()
        .take_while(in_this_cycle)
        .find_map(|event| event.kind.plain_exchange().map(|signs| (event, signs)))?;
    let proof = Proof::of(record.cycle, record.booted, signs);
    let asker = match signs {
        Signs::Talos => "Talos",
        Signs::System | Signs::Renewal => "An operating system",
        Signs::None => "A DHCP client without a sign of an operating system",
    };
    let conclusion = if event.origin.is_proven() { proof.text() } else { THROUGH_RELAY };
    (proof != Proof::Netbooted)
        .then(|| format!(" {asker} asked {} ago, which {conclusion}.", human(elapsed(event.at, now))))
}

/// The time for which it matters that packets were dropped.
const RECENT: Duration = Duration::from_secs(300);

/// Returns a remark if packets of the machine were dropped lately by its rate limit.
pub(super) fn asks_too_often(record: &MachineRecord, now: SystemTime) -> Option<String> {
    let since = elapsed(record.asked_too_often?, now);
    (since <= RECENT).then(|| {
        format!(
            " Packets of it were dropped by its rate limit {} ago: its firmware asks in a loop, or another host uses its MAC address \
             (pxed capture {}). --machine-rate sets the limit.",
            human(since),
            record.machine.mac
        )
    })
}

/// Returns `true` for the DISCOVER of firmware or iPXE.
fn begins_boot(event: &BootEvent) -> bool {
    matches!(event.kind, EventKind::Discover { client: ClientKind::Pxe | ClientKind::HttpBoot | ClientKind::Ipxe, .. })
}

/// Returns the boot file that the machine was told last.
pub(super) fn boot_file(record: &MachineRecord) -> Option<&BootFileName> {
    record.events.iter().rev().find_map(|event| match &event.kind {
        EventKind::Ack { boot_file: Some(file), .. } | EventKind::Offer { boot_file: Some(file), .. } => Some(file),
        _ => None,
    })
}

/// Returns `true` if the firmware boots by HTTP, as its last question says.
pub(super) fn boots_by_http(record: &MachineRecord) -> bool {
    let asked = record.events.iter().rev().find_map(|event| match event.kind {
        EventKind::Discover { client, .. } | EventKind::Request { client, .. } => {
            Some(client).filter(|client| *client != ClientKind::Plain)
        }
        _ => None,
    });
    asked == Some(ClientKind::HttpBoot)
}

/// Returns the last file that the firmware asked for by TFTP since its DISCOVER, and what is odd about the name, if anything is.
pub(super) fn odd_name(record: &MachineRecord) -> Option<(&str, Spelling)> {
    let boot = record.events.iter().rev().take_while(|event| !begins_boot(event));
    let asked = boot.into_iter().find_map(|event| match &event.kind {
        EventKind::Requested { transport: Transport::Tftp, path, .. } => Some(path),
        _ => None,
    })?;
    let is_file = |file: &&BootFileName| !matches!(file, BootFileName::Script | BootFileName::Uki);
    let told = boot_file(record).filter(is_file).map(ToString::to_string);
    Some((asked, spelling::examine(asked, told.as_deref())?))
}

/// The longest time from the end of a unified kernel image to the next request of firmware that refused it. A machine that starts Talos and
/// restarts takes longer.
const REFUSAL: Duration = Duration::from_secs(30);

/// Returns a remark if the firmware of a machine that has not loaded anything since asked soon after it had got a unified kernel image: it
/// refuses the image, and begins again or goes on to its next boot entry.
pub(super) fn refused_uki(record: &MachineRecord) -> Option<String> {
    let mut asked = None;
    for event in record.events.iter().rev() {
        match &event.kind {
            EventKind::Discover { client: ClientKind::Pxe | ClientKind::HttpBoot, .. } => asked = Some(event.at),
            EventKind::Done { artifact: ArtifactKind::Uki, .. } => {
                let after = elapsed(event.at, asked?);
                return (after <= REFUSAL).then(|| {
                    format!(
                        " It asked {} after it had got its unified kernel image, and has not started it.",
                        human(after)
                    )
                });
            }
            EventKind::Requested { .. } => return None,
            event if event.is_operating_system() => return None,
            _ => {}
        }
    }
    None
}

/// Returns how a file is found under the name that firmware asks for.
pub(super) fn copy(meant: &str, asked: &str) -> String {
    if meant.is_empty() {
        return "Give it a boot file in the DHCP server that answers it.".to_owned();
    }
    format!("Put a copy of {meant}, or a link to it, at {asked} in the artifacts directory.")
}

/// Returns the reason for which a machine is sent to its disk.
pub(super) fn why_disk(record: &MachineRecord) -> &'static str {
    match record.policy {
        BootPolicy::Hold if record.is_decided_here => "it is held by a person (pxed hold)",
        BootPolicy::Hold => "it is held by the annotation pxed.dev/boot-policy: hold",
        BootPolicy::Once => "its policy is once, and it was given its kernel",
        BootPolicy::Auto => "it has been seen to run from its own disk",
        BootPolicy::Always => "its policy said so at that time",
    }
}

/// Returns how a machine that is sent to its disk comes to boot from the network instead. `purpose` begins the sentence.
pub(super) fn way_to_network(record: &MachineRecord, purpose: &str) -> String {
    let machine = &record.machine;
    let release = format!("pxed release {}", machine.mac);
    if machine.policy != BootPolicy::Hold {
        return format!("{purpose}: {release}.");
    }
    let place = machine.source.in_words();
    if machine.source.is_object() {
        return format!(
            "{purpose}: {release}, if the annotation is that of its TalosMachine. If it is that of its role or cluster, change it there ({place})."
        );
    }
    format!(
        "{purpose}: give it another pxed.dev/boot-policy in the spec ({place}, or the annotations of its role and cluster), \
         which {release} does not change."
    )
}
