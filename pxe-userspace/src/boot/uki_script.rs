//! The iPXE script of a machine that boots a unified kernel image.
//!
//! On UEFI the image is loaded and started like a kernel. It gets no command line, so that its own counts, and no initramfs: the stub in it
//! crashes if it finds one of iPXE's. A BIOS cannot start it, and boots the kernel and the initramfs, if they are there.

use std::{fmt::Write as _, net::SocketAddrV4};

use super::{
    follow::STALLED_MS,
    ipxe::{name_of, screen_text},
    script::{self, ACKNOWLEDGE_MS},
};
use crate::model::{
    architecture::Architecture,
    images::BootFiles,
    inventory::Machine,
    machine_path::{MachinePath, UKI_FILE},
    token::{Token, Tokens},
};

/// Returns the URL of a machine's unified kernel image on `server`, with this token.
#[must_use]
pub fn uki_url(machine: &Machine, server: SocketAddrV4, token: Option<Token>) -> String {
    format!("{}{}/{UKI_FILE}", script::base_url(server), MachinePath { mac: machine.mac, token })
}

/// Returns the script that boots the machine from the network, by URLs that lead back to `server` and have these tokens. `files` are those that its image is made of.
#[must_use]
pub fn uki_script(machine: &Machine, server: SocketAddrV4, tokens: Tokens, files: &BootFiles) -> String {
    let name = name_of(machine);
    let version = screen_text(&machine.version);
    let url = uki_url(machine, server, tokens.boot);
    let mut script = script::greeting(machine, server, &name);
    match machine.architecture {
        // Only UEFI.
        Architecture::Arm64 => {}
        Architecture::Amd64 => {
            script += "iseq ${platform} efi && goto uki ||\n";
            script += &match files {
                BootFiles::KernelAndInitramfs { .. } => {
                    script::kernel_and_initramfs(machine, server, tokens, &name) + "goto failed\n\n"
                }
                BootFiles::FactoryUki(_) | BootFiles::SecureBootUki(_) => no_bios(machine, &name),
            };
        }
    }
    // `@0` is no option, and a name that is none: with a name that can be printed, the stub takes it for the command line.
    let _ = write!(
        script,
        ":uki\n\
         imgfree ||\n\
         clear pxed-kernel ||\n\
         set step uki\n\
         echo pxed: {name} loading the unified kernel image of {version}\n\
         kernel --name @0 --timeout {STALLED_MS} {url} || goto failed\n\
         echo pxed: {name} starting it\n\
         prompt --timeout {ACKNOWLEDGE_MS} ||\n\
         boot ||\n\
         \n",
    );
    script + &script::failures(machine, server, &name)
}

/// Returns the words for a BIOS that can start nothing of what is there.
fn no_bios(machine: &Machine, name: &str) -> String {
    let boot = machine.boot.name();
    let file = screen_text(&machine.source.file.display().to_string());
    format!(
        "echo pxed: {name} cannot boot: this firmware is a BIOS, and only UEFI starts a unified kernel image\n\
         echo pxed: switch the firmware to UEFI, or change pxed.dev/boot from {boot} to ipxe\n\
         echo pxed: the machine is in {file} line {line}\n\
         goto wait\n\
         \n",
        line = machine.source.line
    )
}
