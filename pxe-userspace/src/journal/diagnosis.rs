//! The diagnosis of a machine: how far it came, what it waits for, and what a person can do. A pure function of its record.

mod address;
mod asking;
mod attempt;
mod elsewhere;
mod failure;
mod files;
mod finding;
mod loops;
mod other_server;
mod patience;
mod peers;
mod placement;
mod remarks;
mod transfer;

use std::time::{Duration, SystemTime};

pub use self::{address::with_address_signs, finding::Diagnosis, peers::among_nodes};
use self::{
    asking::{addressed, discovering, ipxe_addressed, never_seen},
    attempt::Attempt,
    failure::{after_failure, wrong_architecture},
    patience::{LONG_PATIENCE, PATIENCE},
    placement::{foreign_relay, other_vlan},
    remarks::{asks_too_often, boot_file, copy, last_plain_exchange, odd_name, refused_uki, way_to_network, why_disk},
};
use super::{
    boot_program::{self, BootProgram},
    machine_record::MachineRecord,
    policy::Cycle,
    spelling::Spelling,
    stage::Stage,
    words::{elapsed, human},
};
use crate::model::{
    artifact_names::is_ipxe,
    event::{ArtifactKind, BootFileName, EventKind, Transport},
    images::Images,
    policy::{BootPolicy, Disposition},
};

/// Returns how far a machine came by `now`, what it waits for, and what to do. `images` says what of its files is there.
#[must_use]
pub fn diagnose(record: &MachineRecord, images: &Images, now: SystemTime) -> Diagnosis {
    let since = elapsed(record.stage_since, now);
    let attempt = Attempt::of(record, now);
    let mut diagnosis = match record.stage {
        Stage::NeverSeen => never_seen(record, &attempt, since),
        Stage::Discovering | Stage::Offered | Stage::IpxeDiscovering => discovering(record, &attempt),
        Stage::Addressed => addressed(record, since),
        Stage::LoadingLoader | Stage::LoadingKernel | Stage::LoadingInitramfs => loading(record, since, now),
        Stage::LoaderDone => match (BootProgram::loaded(record), foreign_loader(record)) {
            ((BootProgram::Ipxe, _), Some(name)) => foreign_loader_done(name, since),
            _ => loader_done(record, since),
        },
        Stage::IpxeAddressed => ipxe_addressed(since),
        Stage::AwaitingFiles => files::awaiting(record, images, now),
        Stage::Scripted => scripted(record, since),
        Stage::KernelDone => kernel_done(record, since),
        Stage::Booting => booting(record, since),
        Stage::Running | Stage::Up => running(record, since),
        Stage::SentToDisk => sent_to_disk(record, since),
        Stage::OnDisk => on_disk(record, since),
        Stage::Failed => after_failure(record, images, since, now),
    };
    if record.stage != Stage::Failed
        && let Some(architecture) = attempt.wrong_architecture
    {
        diagnosis.advice.insert(0, wrong_architecture(record, architecture));
    }
    if (Stage::Addressed..Stage::IpxeDiscovering).contains(&record.stage)
        && let Some((asked, Spelling { cause, meant, is_understood })) = odd_name(record)
    {
        if is_understood {
            diagnosis.reached += &format!(" {cause} pxed reads the name as {meant}.");
        } else {
            diagnosis.advice.insert(0, format!("{cause} {}", copy(&meant, asked)));
        }
    }
    if record.policy == BootPolicy::Auto
        && let Some(text) = last_plain_exchange(record, now)
    {
        diagnosis.reached += &text;
    }
    if (Stage::Addressed..Stage::IpxeDiscovering).contains(&record.stage)
        && let Some(u_boot) = boot_program::u_boot(record)
    {
        if u_boot.is_certain {
            let mac = record.machine.mac.to_string().replace(':', "-");
            diagnosis.waits_for = format!("Its request for pxelinux.cfg/01-{mac}.");
        }
        if u_boot.is_certain || record.stage == Stage::LoaderDone && since > PATIENCE {
            diagnosis.advice.insert(0, u_boot.advice);
        }
    }
    if let Some(text) = refused_uki(record) {
        diagnosis.reached += &text;
        diagnosis.advice.insert(0, boot_program::UKI_REFUSED.to_owned());
    }
    if let Some(text) = asks_too_often(record, now) {
        diagnosis.reached += &text;
    }
    loops::remark(&mut diagnosis, record, now);
    files::remark(&mut diagnosis, record, images, attempt.wrong_architecture.is_some(), now);
    if let Some(other) = attempt.other_server {
        other_server::remark(&mut diagnosis, record, other, now);
    }
    if let Some(relay) = attempt.foreign_relay {
        diagnosis.advice.insert(0, foreign_relay(record, relay));
    }
    if let Some(vlan) = attempt.other_vlan
        && !matches!(record.stage, Stage::Running | Stage::Up | Stage::OnDisk)
    {
        diagnosis.advice.insert(0, other_vlan(record, vlan));
    }
    elsewhere::remark(&mut diagnosis, record, now);
    if record.boots_from == Disposition::Disk && !matches!(record.stage, Stage::SentToDisk | Stage::OnDisk) {
        diagnosis.advice.push(format!("At its next boot it is sent to its disk: {}.", why_disk(record)));
    }
    diagnosis
}

/// Returns the diagnosis of a file that was sent but not confirmed.
fn unconfirmed(record: &MachineRecord, file: (ArtifactKind, Transport, &str), since: Duration) -> Diagnosis {
    let (artifact, transport, path) = file;
    let mut advice = Vec::new();
    if since > PATIENCE {
        advice.push(
            "If it has the file, it does not start it: look at its screen or serial console. With Secure Boot enabled, the \
             firmware refuses an unsigned loader."
                .to_owned(),
        );
        advice.push(format!("If it does not have the file: {}", transfer::of_machine(record, transport)));
    }
    Diagnosis {
        reached: format!(
            "It was sent the whole {artifact} {path} by {transport}, but did not confirm its end, as some firmware never does."
        ),
        waits_for: "Its next step, which shows whether it has the file.".to_owned(),
        advice,
    }
}

fn loading(record: &MachineRecord, since: Duration, now: SystemTime) -> Diagnosis {
    let file = record.events.iter().rev().find_map(|event| match &event.kind {
        EventKind::Requested { artifact, transport, path } => Some((*artifact, *transport, path, false)),
        EventKind::Unconfirmed { artifact, transport, path, .. } => Some((*artifact, *transport, path, true)),
        _ => None,
    });
    let (reached, transport) = match file {
        Some((artifact, transport, path, true)) => return unconfirmed(record, (artifact, transport, path), since),
        Some((artifact, transport, path, false)) => {
            let progress =
                record.progress.as_ref().filter(|progress| progress.is_running && progress.transport == transport);
            let so_far = progress.map(|progress| format!(": {}", transfer::so_far(progress, now))).unwrap_or_default();
            (
                format!("It has been loading its {artifact} {path} by {transport} for {}{so_far}.", human(since)),
                transport,
            )
        }
        None => (format!("It has been loading for {}.", human(since)), Transport::Http),
    };
    let patience = if record.stage == Stage::LoadingLoader { PATIENCE } else { LONG_PATIENCE };
    let is_stuck = record.progress.as_ref().is_some_and(|progress| transfer::stands_still(progress, now));
    let advice = if since > patience || is_stuck { vec![transfer::of_machine(record, transport)] } else { Vec::new() };
    Diagnosis { reached, waits_for: "The end of the transfer.".to_owned(), advice }
}

fn loader_done(record: &MachineRecord, since: Duration) -> Diagnosis {
    let (program, file) = BootProgram::loaded(record);
    let ago = human(since);
    let reached = match (program, file) {
        (BootProgram::Ipxe, _) | (_, None) => {
            format!("Its firmware got the loader {ago} ago; iPXE has not asked for an address since.")
        }
        (_, Some(file)) => {
            format!("It got the loader {file} {ago} ago; {} has asked for nothing since.", program.name())
        }
    };
    let advice = if since > PATIENCE { program.does_not_start() } else { Vec::new() };
    Diagnosis { reached, waits_for: program.first_step().to_owned(), advice }
}

/// Returns the name of the loader that the machine was last told to fetch, if the spec names it and it is not iPXE.
fn foreign_loader(record: &MachineRecord) -> Option<&str> {
    match boot_file(record) {
        Some(BootFileName::OwnLoader(name)) if !is_ipxe(name) => Some(name),
        _ => None,
    }
}

/// Returns the diagnosis of a loader that need not ask for anything any more.
fn foreign_loader_done(name: &str, since: Duration) -> Diagnosis {
    let mut advice = Vec::new();
    if since > PATIENCE {
        advice.push(format!(
            "What {name} does next is up to it. If it does nothing, look at its screen or serial console. With Secure Boot \
             enabled, the firmware refuses an unsigned loader, usually without a message."
        ));
    }
    Diagnosis {
        reached: format!("Its firmware got the loader that the spec names, {name}, {} ago.", human(since)),
        waits_for: "Its next step. pxed sees only what it asks for here.".to_owned(),
        advice,
    }
}

fn scripted(record: &MachineRecord, since: Duration) -> Diagnosis {
    let (program, path) = BootProgram::scripted(record);
    let reached = match (program, path) {
        (BootProgram::Ipxe, _) | (_, None) => format!("It asked for its boot script {} ago.", human(since)),
        (_, Some(path)) => format!("{} asked for {path} {} ago.", program.name(), human(since)),
    };
    let advice = if since > PATIENCE { program.does_not_continue(false) } else { Vec::new() };
    Diagnosis { reached, waits_for: "Its request for the kernel.".to_owned(), advice }
}

fn kernel_done(record: &MachineRecord, since: Duration) -> Diagnosis {
    let (program, _) = BootProgram::scripted(record);
    let is_stuck = since > PATIENCE || boot_program::loads_kernel_again(record);
    let advice = if is_stuck { program.does_not_continue(true) } else { Vec::new() };
    Diagnosis {
        reached: format!("It got its kernel {} ago.", human(since)),
        waits_for: "Its request for the initramfs.".to_owned(),
        advice,
    }
}

fn booting(record: &MachineRecord, since: Duration) -> Diagnosis {
    let mut advice = Vec::new();
    if since > LONG_PATIENCE {
        advice.extend(BootProgram::scripted(record).0.does_not_boot(record));
        advice.push(
            "It may be running already: with an address from its kernel arguments (ip=…) or its configuration it does not \
             ask by DHCP. Try its Talos API on port 50000."
                .to_owned(),
        );
        advice.push(format!(
            "The kernel may have stopped, or may lack a driver for the network card, which an Image Factory schematic can \
             add: look at its console, which the kernel arguments name ({}).",
            record.machine.source.in_words()
        ));
    }
    let is_uki = boot_program::boots_uki(record);
    if is_uki && since > PATIENCE {
        advice.insert(0, boot_program::UKI_REFUSED.to_owned());
    }
    let files = if is_uki { "its unified kernel image" } else { "kernel and initramfs" };
    Diagnosis {
        reached: format!("It got {files} {} ago and starts Talos {}.", human(since), record.machine.version),
        waits_for: "Its operating system to ask for an address.".to_owned(),
        advice,
    }
}

fn running(record: &MachineRecord, since: Duration) -> Diagnosis {
    let mut advice = Vec::new();
    // pxed cannot see whether Talos is on its disk by now: see `policy`.
    if record.boots > 1 && record.policy == BootPolicy::Auto && record.boots_from == Disposition::Network {
        advice.push(format!(
            "It was booted from the network {} times, and will be at each power-on while its firmware asks the network \
             first. When Talos is installed on its disk, put the disk first in its boot order, set the annotation \
             pxed.dev/boot-policy: once, or run pxed hold {}.",
            record.boots, record.machine.mac
        ));
    }
    let is_unverified = record.stage == Stage::Running && record.verifies_up && record.cycle == Cycle::Netbooted;
    if is_unverified && since > LONG_PATIENCE {
        advice.push(loops::not_up(record, since));
    }
    let (address, since) = (record.machine.address, human(since));
    let reached = if record.stage == Stage::Up {
        format!("Talos has been up with {address} for {since}: its API has answered pxed.")
    } else {
        format!("An operating system has been running with {address} for {since}.")
    };
    Diagnosis { reached, waits_for: "Nothing from pxed.".to_owned(), advice }
}

fn sent_to_disk(record: &MachineRecord, since: Duration) -> Diagnosis {
    let mut advice = vec![match record.boots_from {
        Disposition::Disk => {
            let way = way_to_network(record, "To boot it from the network");
            format!("It was sent there because {}. {way}", why_disk(record))
        }
        Disposition::Network => "Its next boot is from the network.".to_owned(),
    }];
    if since > LONG_PATIENCE {
        advice.push(
            "If its screen shows no operating system, its disk has none that boots, or its boot order lacks the disk."
                .to_owned(),
        );
    }
    Diagnosis {
        reached: format!("It was told to boot from its own disk {} ago.", human(since)),
        waits_for: "The operating system on its disk to ask for an address (a system with a fixed address never does)."
            .to_owned(),
        advice,
    }
}

fn on_disk(record: &MachineRecord, since: Duration) -> Diagnosis {
    let mac = record.machine.mac;
    let advice = match record.boots_from {
        Disposition::Disk => {
            let way = way_to_network(record, "To install it again");
            format!("It stays there because {}. {way}", why_disk(record))
        }
        Disposition::Network => {
            format!("It boots from the network when its firmware asks. To prevent that: pxed hold {mac}.")
        }
    };
    Diagnosis {
        reached: format!("An operating system that pxed did not serve has been running for {}.", human(since)),
        waits_for: "Nothing from pxed.".to_owned(),
        advice: vec![advice],
    }
}

#[cfg(test)]
mod tests;
