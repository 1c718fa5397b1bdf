//! Files that do not exist in the artifacts directory and are served all the same: the configurations of GRUB and U-Boot, and
//! kernel and initramfs below the directory of a loader.

use std::{net::Ipv4Addr, sync::Arc, time::SystemTime};

use pxe_common::MacAddr;

use super::{
    context::Context,
    files::OpenFiles,
    metrics::RefusedReason,
    packet::ErrorCode,
    refusal::{AWAITED, Refused},
};
use crate::{
    artifacts::OpenArtifact,
    boot::config::{Answer, ConfigRequest, Files},
    model::{
        artifact_names::{initramfs_path, kernel_path},
        config_files::ConfigFile,
        event::EventKind,
        failure::NO_SUCH_FILE,
        policy::Disposition,
    },
};

/// The answer to a request for a file that the store does not have.
#[derive(Debug)]
pub(super) struct Generated {
    /// The machine whose file it is, or that asked for it. `None` if the request is no step of its boot.
    pub(super) machine: Option<MacAddr>,
    /// The news about a machine, besides the request for the file.
    pub(super) event: Option<(MacAddr, EventKind)>,
    /// The file.
    pub(super) file: Result<Arc<OpenArtifact>, Refused>,
}

/// Answers a request to `server` from `client`, which has the address of `machine`, after the store has `refused` it.
pub(super) fn generate(
    context: &Context,
    open_files: &mut OpenFiles,
    (server, client): (Ipv4Addr, Ipv4Addr),
    machine: Option<MacAddr>,
    path: &[u8],
    refused: Refused,
) -> Generated {
    let (inventory, policies, images) = (context.inventory.load(), context.policies.load(), context.images.load());
    let Some(file) = ConfigFile::parse(path) else {
        let file = below_a_directory(context, client, path).map(|file| open_files.share(file)).ok_or(refused);
        return Generated { machine, event: None, file };
    };
    let request = ConfigRequest {
        file,
        peer: client.into(),
        server,
        inventory: &inventory,
        policies: &policies,
        images: &images,
        check_source: context.check_source,
        files: Files::Tftp,
        now: SystemTime::now(),
    };
    match request.answer() {
        Answer::Config { machine, disposition, text } => Generated {
            machine: Some(machine.mac),
            event: (disposition == Disposition::Disk).then_some((machine.mac, EventKind::SentToDisk)),
            file: open_files.with_text(&text).map_err(Refused::from),
        },
        Answer::ToDisk(machine) => Generated {
            machine: Some(machine.mac),
            event: Some((machine.mac, EventKind::SentToDisk)),
            file: Err(Refused::new(RefusedReason::Disk, ErrorCode::NotFound, "this machine boots from its disk")),
        },
        Answer::Waits { machine, event, text, pause: _ } => Generated {
            machine: None,
            event: Some((machine.mac, event)),
            file: match text {
                Some(text) => open_files.with_text(&text).map_err(Refused::from),
                None => Err(AWAITED),
            },
        },
        Answer::NotTheirs { machine, reason } => Generated {
            machine: Some(machine.mac),
            event: None,
            file: Err(Refused::new(RefusedReason::Source, ErrorCode::AccessViolation, reason)),
        },
        // A machine asks by the MAC of each of its cards, and by the address that any of them has.
        Answer::NoMachine if machine.is_some() => Generated {
            machine,
            event: None,
            file: Err(Refused::new(RefusedReason::Optional, ErrorCode::NotFound, NO_SUCH_FILE)),
        },
        Answer::NoMachine => Generated { machine, event: None, file: Err(refused) },
    }
}

/// Opens the machine's own kernel or initramfs if a directory stands before its path. U-Boot looks for all files in the directory
/// of its boot file, wherever its configuration says that they are.
fn below_a_directory(context: &Context, client: Ipv4Addr, path: &[u8]) -> Option<OpenArtifact> {
    let (inventory, images) = (context.inventory.load(), context.images.load());
    let machine = images.as_bootable(inventory.by_address(client)?);
    let is_below =
        |name: &String| path.strip_suffix(name.as_bytes()).is_some_and(|directory| directory.ends_with(b"/"));
    let name = [kernel_path(machine), initramfs_path(machine)].into_iter().find(is_below)?;
    context.store.open(name.as_bytes()).ok()
}
