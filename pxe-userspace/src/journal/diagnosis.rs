//! The diagnosis of a machine: how far it came, what it waits for, and what a person can do. A pure function of its record.

mod attempt;
mod elsewhere;
mod files;
mod finding;
mod peers;
mod placement;
mod remarks;
mod transfer;

use std::{
    net::Ipv4Addr,
    time::{Duration, SystemTime},
};

use self::{
    attempt::Attempt,
    placement::{foreign_relay, other_vlan},
    remarks::{boot_file, copy, last_plain_exchange, odd_name, refused_uki, why_disk},
};
pub use self::{finding::Diagnosis, peers::among_nodes};
use super::{
    boot_program::{self, BootProgram},
    machine_record::MachineRecord,
    spelling::Spelling,
    stage::Stage,
    words::{elapsed, human, plural},
};
use crate::model::{
    architecture::Architecture,
    artifact_names::is_ipxe,
    client_architecture::ClientArchitecture,
    event::{ArtifactKind, BootFileName, EventKind, Transport},
    failure::{
        ALTERED, ASKED_FROM, CHANGED, FELL_SILENT, LINKS_IN_A_CIRCLE, NO_IMAGE, NO_SUCH_FILE, OUTSIDE, UNREADABLE,
        UNVERIFIED, WRONG_ARCHITECTURE,
    },
    images::Images,
    inventory::Machine,
    policy::{BootPolicy, Disposition},
};

/// The time after which something is wrong at a stage that takes a healthy machine seconds. iPXE may wait 16 s for IPv6 router
/// advertisements, and a switch port without PortFast 30 s.
const PATIENCE: Duration = Duration::from_secs(45);
/// The same for kernels and initramfs images, which take longer on slow links, and for the start of Talos.
const LONG_PATIENCE: Duration = Duration::from_secs(180);

/// Returns the time after which something is wrong with a machine that stays at this stage; `None` if it may stay there for ever.
#[must_use]
pub const fn patience(stage: Stage) -> Option<Duration> {
    match stage {
        Stage::Discovering
        | Stage::Offered
        | Stage::Addressed
        | Stage::LoadingLoader
        | Stage::LoaderDone
        | Stage::IpxeDiscovering
        | Stage::IpxeAddressed
        | Stage::Scripted
        | Stage::KernelDone => Some(PATIENCE),
        Stage::LoadingKernel | Stage::LoadingInitramfs => Some(LONG_PATIENCE),
        // It waits for a file or a person, or runs, perhaps without ever asking.
        Stage::NeverSeen
        | Stage::AwaitingFiles
        | Stage::Booting
        | Stage::Running
        | Stage::Up
        | Stage::SentToDisk
        | Stage::OnDisk
        | Stage::Failed => None,
    }
}

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
        Stage::Failed => after_failure(record, since),
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
    files::remark(&mut diagnosis, record, images, now);
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

fn never_seen(record: &MachineRecord, attempt: &Attempt, since: Duration) -> Diagnosis {
    let reached = match (record.boots, attempt.ignored) {
        (_, Some(reason)) => format!("A packet of it was left unanswered: {reason}."),
        _ if let Some(vlan) = attempt.other_vlan => {
            format!("It asked on VLAN {vlan}, on which pxed does not serve it.")
        }
        (0, None) if !record.events.is_empty() => {
            format!("It has not begun to boot in the {} since pxed started.", human(since))
        }
        (0, None) => format!("It has sent nothing in the {} since pxed started.", human(since)),
        (boots, None) => {
            let times = plural(boots as usize, "time", "times");
            format!("It booted {boots} {times} before. It has sent nothing in the {} since pxed started.", human(since))
        }
    };
    let Site { interface, address } = Site::of(record);
    Diagnosis {
        reached,
        waits_for: "Its first DHCP packet.".to_owned(),
        advice: vec![
            "Is it powered on, and is network boot enabled and first in its boot order?".to_owned(),
            format!(
                "Is its cable in the right port of the switch, and is that port in the VLAN of {interface} ({address})? \
                 A machine behind a router needs a DHCP relay to {address}."
            ),
            format!(
                "Does the spec name the network card that boots? It says {}: compare with the firmware's setup or the BMC.",
                record.machine.macs().map(|mac| mac.to_string()).collect::<Vec<_>>().join(" and ")
            ),
        ],
    }
}

fn discovering(record: &MachineRecord, attempt: &Attempt) -> Diagnosis {
    let who = if record.stage <= Stage::Offered { "Its firmware" } else { "iPXE" };
    let times = attempt.discovers.max(1);
    let asked =
        format!("{who} asked for an address {times} {} in {}", plural(times, "time", "times"), human(attempt.lasted));
    let Site { interface, address } = Site::of(record);
    if let Some(reason) = attempt.ignored
        && attempt.offers == 0
    {
        return Diagnosis {
            reached: format!("{asked} and was left unanswered: {reason}."),
            waits_for: "An offer from pxed.".to_owned(),
            advice: vec!["Fix the cause above; the machine retries on its own.".to_owned()],
        };
    }
    if attempt.requests > 0 {
        let mut advice = Vec::new();
        if attempt.nak.is_some() || attempt.ignored.is_some() || attempt.lasted > PATIENCE {
            advice.push(format!(
                "It may have chosen another server's offer: is there another DHCP server on {interface}? Exclude this machine \
                 there, or run pxed with --mode proxy beside it."
            ));
        }
        let refused = match (attempt.nak, attempt.ignored) {
            (Some(reason), _) => format!("; pxed refused: {reason}"),
            (None, Some(reason)) => format!("; pxed did not answer: {reason}"),
            (None, None) => String::new(),
        };
        let reached = format!("{asked} and requested one{refused}.");
        return Diagnosis { reached, waits_for: "The acknowledgement from pxed.".to_owned(), advice };
    }
    if attempt.lasted < PATIENCE && attempt.discovers <= 1 {
        return Diagnosis {
            reached: format!("{asked}; pxed offered {}.", record.machine.address),
            waits_for: "Its request for that address.".to_owned(),
            advice: Vec::new(),
        };
    }
    Diagnosis {
        reached: format!("{asked}, was offered {} and never requested it.", record.machine.address),
        waits_for: "Its request for that address.".to_owned(),
        advice: vec![
            format!(
                "Another DHCP server on {interface} may answer too, and the machine takes its offer: exclude this machine \
                 there, or run pxed with --mode proxy beside it."
            ),
            format!(
                "The offer may not reach it: the switch port may not forward yet (enable PortFast), the way back may be in \
                 another VLAN, or the relay may be unreachable from {address}. Check with tcpdump -ni {interface} port 67."
            ),
        ],
    }
}

fn addressed(record: &MachineRecord, since: Duration) -> Diagnosis {
    let boot_file = boot_file(record);
    let Site { address, .. } = Site::of(record);
    let (waits_for, port) = match boot_file {
        Some(BootFileName::Script) => ("Its request for its script by HTTP.".to_owned(), "TCP, the port of boot HTTP"),
        Some(BootFileName::Uki) => {
            ("Its request for its unified kernel image by HTTP.".to_owned(), "TCP, the port of boot HTTP")
        }
        Some(file @ (BootFileName::Loader(_) | BootFileName::OwnLoader(_))) => {
            (format!("Its request for {file}."), "UDP port 69, or TCP for HTTP boot")
        }
        None => ("Its request for a loader.".to_owned(), "UDP port 69"),
    };
    let mut advice = Vec::new();
    if since > PATIENCE {
        advice.push(format!("Do all firewalls, on the way and on this host, let it reach {address}, {port}?"));
        advice.push(
            "Another DHCP or PXE server may have answered as well. Some firmware gives up when it gets two offers."
                .to_owned(),
        );
        advice.push(
            "Do its mask and gateway in the spec (meta.subnet, meta.gateway) let it reach that address?".to_owned(),
        );
    }
    Diagnosis { reached: format!("Its firmware has had an address for {}.", human(since)), waits_for, advice }
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
        advice.push(format!("If it does not have the file: {}", stalled(record, transport)));
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
    let advice = if since > patience || is_stuck { vec![stalled(record, transport)] } else { Vec::new() };
    Diagnosis { reached, waits_for: "The end of the transfer.".to_owned(), advice }
}

/// Returns what to do about a transfer to a machine that stalls.
fn stalled(record: &MachineRecord, transport: Transport) -> String {
    transfer::stalled(transport, record.progress.as_ref(), (record.server, record.machine.address))
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

fn ipxe_addressed(since: Duration) -> Diagnosis {
    let mut advice = Vec::new();
    if since > PATIENCE {
        advice.push("Do all firewalls let it reach the HTTP port of pxed (--http-port) on this host?".to_owned());
        advice.push(
            "An iPXE that was built without HTTP cannot fetch its script: replace it with the one that pxed serves."
                .to_owned(),
        );
    }
    Diagnosis {
        reached: format!("iPXE has had an address for {}.", human(since)),
        waits_for: "Its request for the boot script.".to_owned(),
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
    let (address, since) = (record.machine.address, human(since));
    let reached = if record.stage == Stage::Up {
        format!("Talos has been up with {address} for {since}: its API has answered pxed.")
    } else {
        format!("An operating system has been running with {address} for {since}.")
    };
    Diagnosis { reached, waits_for: "Nothing from pxed.".to_owned(), advice }
}

fn sent_to_disk(record: &MachineRecord, since: Duration) -> Diagnosis {
    let mut advice = vec![format!(
        "It was sent there because {}. To boot it from the network: pxed release {}.",
        why_disk(record),
        record.machine.mac
    )];
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
            format!("It stays there because {}. To install it again: pxed release {mac}.", why_disk(record))
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

fn after_failure(record: &MachineRecord, since: Duration) -> Diagnosis {
    let failure = record.events.iter().rev().find(|event| event.kind.is_failure()).map(|event| &event.kind);
    let advice =
        failure.map_or_else(|| "Look at its screen or serial console.".to_owned(), |kind| remedy(record, kind));
    let what = record.last_error.as_ref().map_or("a step failed", |(_, text)| text);
    Diagnosis {
        reached: format!("It failed {} ago: {what}.", human(since)),
        waits_for: "Its next attempt.".to_owned(),
        advice: vec![advice],
    }
}

/// Returns what to do about a failure.
fn remedy(record: &MachineRecord, failure: &EventKind) -> String {
    let machine = &record.machine;
    match failure {
        EventKind::WrongArchitecture { client_architecture } => wrong_architecture(record, *client_architecture),
        EventKind::Decline { address } => format!(
            "Another host uses {address}: find it (arping -I {} {address}) and give one of the two another address.",
            machine.site.interface
        ),
        EventKind::Failed { artifact: ArtifactKind::Config, reason, .. } if !reason.starts_with(ASKED_FROM) => {
            format!(
                "Talos waits for its machine configuration and asks again, at first after seconds and later after minutes: {reason}. No \
                 restart is needed when that is corrected."
            )
        }
        EventKind::Failed { transport, path, reason, .. } => {
            let says = |words| reason.starts_with(words);
            if says(ASKED_FROM) {
                format!(
                    "Its script and configurations are given to {} alone, but the request came from another address: another \
                     DHCP server assigned it, or a proxy or NAT is in between.",
                    machine.address
                )
            } else if says(NO_SUCH_FILE)
                && *transport == Transport::Tftp
                && let Some((asked, Spelling { cause, meant, is_understood })) = odd_name(record)
            {
                if is_understood {
                    format!("{meant} is not among the artifacts: put it into the artifacts directory. ({cause})")
                } else {
                    format!("{cause} {}", copy(&meant, asked))
                }
            } else if says(NO_SUCH_FILE) {
                format!("{path} is not among the artifacts: put it into the artifacts directory. No restart is needed.")
            } else if says(OUTSIDE) {
                format!(
                    "Put {path} itself into the artifacts directory: symbolic links that lead out of it are not followed."
                )
            } else if says(LINKS_IN_A_CIRCLE) {
                format!("Put {path} itself into the artifacts directory: its symbolic links lead in a circle.")
            } else if says(CHANGED) {
                format!(
                    "Somebody wrote to {path} while it was sent. Copy a new version beside it and rename it (mv): transfers of the \
                     old one then end well. The machine retries on its own or at its next boot."
                )
            } else if says(UNVERIFIED) {
                format!(
                    "pxed is reading {path} again, because it was replaced or touched. The machine gets it at its next attempt."
                )
            } else if says(ALTERED) {
                format!(
                    "Delete {path} from the artifacts directory, so that pxed fetches it again, or keep it as it is with pxed fetch \
                     --accept."
                )
            } else if says(UNREADABLE) {
                format!("pxed cannot read {path}: check the permissions of the file and its directories, and the disk.")
            } else if says(NO_IMAGE) {
                "Correct that, as it says there. The machine gets its image at its next attempt; no restart of pxed is needed."
                    .to_owned()
            } else if says(WRONG_ARCHITECTURE) {
                format!("{}: correct the spec, or the MAC if it is another machine's.", architecture_in_spec(machine))
            } else if says(FELL_SILENT) {
                stalled(record, *transport)
            } else {
                "It retries at its next boot. If it fails again, look at its screen or serial console.".to_owned()
            }
        }
        _ => "Look at its screen or serial console.".to_owned(),
    }
}

fn wrong_architecture(record: &MachineRecord, client_architecture: u16) -> String {
    let machine = &record.machine;
    let ClientArchitecture { name, loader, .. } = ClientArchitecture::of(client_architecture);
    let firmware = format!("Its firmware is {name} (type {client_architecture})");
    let spec = architecture_in_spec(machine);
    if !loader.is_some_and(|loader| loader.is_32_bit_of(machine.architecture)) {
        return format!("{firmware}, but {spec}: correct the spec, or the MAC if it is another machine's.");
    }
    // The processor may be a 64-bit one all the same, and the spec right.
    let remedy = match machine.architecture {
        Architecture::Amd64 => {
            "boot it as 64-bit UEFI or as a BIOS (CSM, legacy), or by GRUB (annotation pxed.dev/loader)"
        }
        Architecture::Arm64 => "give it 64-bit firmware",
    };
    format!(
        "{firmware}, from which iPXE cannot start a 64-bit kernel, but {spec}: {remedy}. Otherwise correct the spec, or the MAC if \
         it is another machine's."
    )
}

fn architecture_in_spec(machine: &Machine) -> String {
    format!("{} says cpuArchitecture {}", machine.source.in_words(), machine.architecture)
}

struct Site<'a> {
    interface: &'a str,
    address: Ipv4Addr,
}

impl<'a> Site<'a> {
    fn of(record: &'a MachineRecord) -> Self {
        Self { interface: &record.machine.site.interface, address: record.server }
    }
}

#[cfg(test)]
mod tests;
