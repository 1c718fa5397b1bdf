//! The diagnosis of a machine whose last step failed, and what to do about each failure.

use std::time::{Duration, SystemTime};

use super::{
    super::{machine_record::MachineRecord, spelling::Spelling, words::human},
    files,
    finding::Diagnosis,
    loops::{ANOTHER_IPXE, is_url_of_script},
    other_server,
    remarks::{copy, odd_name},
    transfer,
};
use crate::model::{
    architecture::Architecture,
    client_architecture::ClientArchitecture,
    event::{ArtifactKind, EventKind, Transport},
    failure::{
        ALTERED, ASKED_FROM, CHANGED, FELL_SILENT, LINKS_IN_A_CIRCLE, NO_IMAGE, NO_SUCH_FILE, OUTSIDE, UNREADABLE,
        UNVERIFIED, WRONG_ARCHITECTURE,
    },
    images::Images,
    inventory::Machine,
};

/// Returns the diagnosis of a machine whose last step failed.
pub(super) fn after_failure(record: &MachineRecord, images: &Images, since: Duration, now: SystemTime) -> Diagnosis {
    let failure = record.events.iter().rev().find(|event| event.kind.is_failure()).map(|event| &event.kind);
    let advice = match failure {
        Some(kind) => files::refused(record, images, kind, now).unwrap_or_else(|| vec![remedy(record, kind)]),
        None => vec!["Look at its screen or serial console.".to_owned()],
    };
    let what = record.last_error.as_ref().map_or("a step failed", |(_, text)| text);
    Diagnosis {
        reached: format!("It failed {} ago: {what}.", human(since)),
        waits_for: "Its next attempt.".to_owned(),
        advice,
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
                given_to_it_alone(record)
            } else if says(NO_SUCH_FILE) && *transport == Transport::Tftp && is_url_of_script(path) {
                ANOTHER_IPXE.to_owned()
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
                    "Delete {path} from the artifacts directory, so that pxed fetches it again, or keep it as it is: pxed fetch --accept \
                     {path}."
                )
            } else if says(UNREADABLE) {
                format!("pxed cannot read {path}: check the permissions of the file and its directories, and the disk.")
            } else if says(NO_IMAGE) {
                "Correct that, as it says there. The machine gets its image at its next attempt; no restart of pxed is needed."
                    .to_owned()
            } else if says(WRONG_ARCHITECTURE) {
                format!("{}: correct the spec, or the MAC if it is another machine's.", architecture_in_spec(machine))
            } else if says(FELL_SILENT) {
                transfer::of_machine(record, *transport)
            } else {
                "It retries at its next boot. If it fails again, look at its screen or serial console.".to_owned()
            }
        }
        _ => "Look at its screen or serial console.".to_owned(),
    }
}

/// Returns the advice about a request from another address than the machine's.
pub(super) fn given_to_it_alone(record: &MachineRecord) -> String {
    let begin = format!(
        "Its script and configurations are given to {} alone, but the request came from another address",
        record.machine.address
    );
    match other_server::assigned(record) {
        Some(text) => format!("{begin}. {text}"),
        None => format!("{begin}: another DHCP server assigned it, or a proxy or NAT is in between."),
    }
}

/// Returns the advice about firmware that cannot start the kernel of the spec.
pub(super) fn wrong_architecture(record: &MachineRecord, client_architecture: u16) -> String {
    let machine = &record.machine;
    let ClientArchitecture { name, loader, .. } = ClientArchitecture::of(client_architecture);
    let firmware = format!("Its firmware is {name} (type {client_architecture})");
    if loader.is_none() && machine.loader(None).is_none() {
        return format!(
            "{firmware}, for which there is no iPXE, so that pxed has no file for it. If it is another machine than the spec means, correct the MAC \
             ({place}); otherwise name a loader that it can start (annotation pxed.dev/loader).",
            place = machine.source.in_words()
        );
    }
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
