//! The iPXE script of one machine.
//!
//! The script uses only commands that iPXE had in 2019, since distributions still ship builds of that year. A command that a
//! build may lack is followed by `||`, so that the script goes on without it.

use std::{fmt::Write as _, net::SocketAddrV4};

use super::{
    follow::{SILENT_MS, STALLED_MS, follow},
    ipxe::{self, name_of, screen_text, way_back},
    talos::{self, INITRD_NAME},
};
use crate::model::{
    architecture::Architecture,
    artifact_names,
    inventory::Machine,
    machine_path::MachinePath,
    policy::{DiskRoute, Disposition},
    token::{Token, Tokens},
};

/// The most attempts to load a kernel before the machine restarts. The pauses grow by a second each time, so this takes
/// three minutes plus the downloads.
const ATTEMPTS: u32 = 20;

/// The time that a prompt waits for a key, in milliseconds.
const PROMPT_MS: u32 = 60_000;

/// The time that iPXE waits before it starts the kernel, in milliseconds. iPXE acknowledges the end of the initramfs only while it
/// waits for something. Without the pause, iPXE on UEFI would not, and the arrival of the initramfs could not be seen. A segment that is
/// lost is repeated in that time. A key ends the wait.
pub(super) const ACKNOWLEDGE_MS: u32 = 1_000;

/// The initial capacity for a script, in bytes; few are longer.
const USUAL_LENGTH: usize = 4096;

/// Returns the URL of a machine's own script on `server`, with this token.
#[must_use]
pub fn script_url(machine: &Machine, server: SocketAddrV4, token: Option<Token>) -> String {
    format!("{}{}.ipxe", base_url(server), MachinePath { mac: machine.mac, token })
}

/// Returns the URL of a file in the store, given its path relative to the store.
///
/// The URL is absolute and has the address that the request was sent to, whatever its `Host` header says: a script loaded by TFTP
/// has no HTTP address to be relative to, and UEFI firmware omits the port in that header.
#[must_use]
pub fn asset_url(server: SocketAddrV4, path: &str) -> String {
    format!("{}/assets/{path}", base_url(server))
}

pub(super) fn base_url(server: SocketAddrV4) -> String {
    format!("http://{server}")
}

/// Returns the script that this machine runs now: it loads and starts the kernel and initramfs of its version, or boots from
/// the disk. Its URLs lead back to `server`, the address and port at which the machine asks for it, with
/// these tokens. Returns `None` if the answer is 404.
#[must_use]
pub fn script(machine: &Machine, server: SocketAddrV4, tokens: Tokens, disposition: Disposition) -> Option<String> {
    match (disposition, machine.disk_route) {
        (Disposition::Network, _) => Some(network_script(machine, server, tokens)),
        (Disposition::Disk, DiskRoute::NotFound) => None,
        (Disposition::Disk, route) => Some(disk_script(machine, route)),
    }
}

/// Returns the script that boots from the network.
fn network_script(machine: &Machine, server: SocketAddrV4, tokens: Tokens) -> String {
    let name = name_of(machine);
    let mut script = greeting(machine, server, &name);
    script += &kernel_and_initramfs(machine, server, tokens, &name);
    script.push('\n');
    script + &failures(machine, server, &name)
}

/// Returns the beginning of a script that boots from the network, up to its first attempt. Attempts by the script of another node count.
pub(super) fn greeting(machine: &Machine, server: SocketAddrV4, name: &str) -> String {
    let version = screen_text(&machine.version);
    let cluster = screen_text(&machine.cluster);
    let architecture = machine.architecture;
    let mut script = String::with_capacity(USUAL_LENGTH);
    let _ = write!(
        script,
        "#!ipxe\n\
         echo\n\
         echo pxed: {name} of cluster {cluster} boots Talos {version} for {architecture} from {}\n",
        server.ip()
    );
    script += architecture_check(architecture);
    script + "\n:start\nisset ${pxed-attempt} || set pxed-attempt:int32 1\n"
}

/// Returns the commands that load kernel and initramfs and start them. `step` is the label to retry from. A kernel that is already loaded is
/// not loaded again, not even by the script of another node, since a fleet whose initramfs is missing would otherwise download its kernels
/// again and again. Its arguments are set apart from it, since they may name the node.
pub(super) fn kernel_and_initramfs(machine: &Machine, server: SocketAddrV4, tokens: Tokens, name: &str) -> String {
    let version = screen_text(&machine.version);
    let path = artifact_names::kernel_path(machine);
    let image = path.rsplit('/').next().unwrap_or(&path);
    let kernel = asset_url(server, &path);
    let initramfs = asset_url(server, &artifact_names::initramfs_path(machine));
    let arguments = talos::kernel_arguments(machine, *server.ip(), tokens.config);
    let ipxe::Arguments { settings, words } = ipxe::arguments(&arguments);
    format!(
        "{settings}\
         set step kernel\n\
         iseq ${{pxed-kernel}} {path} && goto arguments ||\n\
         :kernel\n\
         imgfree ||\n\
         clear pxed-kernel ||\n\
         echo pxed: {name} loading kernel {version} (1/2)\n\
         kernel --name {image} --timeout {STALLED_MS} {kernel} || goto failed\n\
         set pxed-kernel {path}\n\
         :arguments\n\
         imgargs {image} {words} || goto failed\n\
         set step initramfs\n\
         :initramfs\n\
         echo pxed: {name} loading initramfs {version} (2/2)\n\
         initrd --name {INITRD_NAME} --timeout {STALLED_MS} {initramfs} || goto failed\n\
         set step kernel\n\
         clear pxed-kernel ||\n\
         echo pxed: {name} starting the kernel\n\
         prompt --timeout {ACKNOWLEDGE_MS} ||\n\
         boot ||\n"
    )
}

/// Returns the end of a script that boots from the network: what follows a failed attempt. If this node still answers, only the file is
/// missing or the connection broke, and it is asked again. The question has no effect there, and a file without a name would become a part
/// of the initramfs, so the answer is freed at once.
pub(super) fn failures(machine: &Machine, server: SocketAddrV4, name: &str) -> String {
    let mut script = format!(
        ":failed\n\
         iseq ${{pxed-attempt}} {ATTEMPTS} && goto give_up ||\n\
         echo pxed: {name} attempt ${{pxed-attempt}} of {ATTEMPTS} failed (the message above says why), trying again in ${{pxed-attempt}} s\n\
         sleep ${{pxed-attempt}}\n\
         inc pxed-attempt\n\
         imgfetch --name alive --timeout {SILENT_MS} {}/ || goto follow\n\
         imgfree alive ||\n\
         goto ${{step}}\n",
        base_url(server)
    );
    script += &follow(name, "failed");
    let _ = write!(
        script,
        "\n\
         :give_up\n\
         echo pxed: {name} gave up after {ATTEMPTS} attempts\n\
         echo pxed: on the provisioning host, pxed explain {mac} says what went wrong\n\
         goto wait\n",
        mac = machine.mac,
    );
    script += &wrong_architecture(machine, name);
    script + &wait()
}

/// Returns the script for firmware whose architecture differs from the one in the spec.
#[must_use]
pub fn wrong_architecture_script(machine: &Machine) -> String {
    format!("#!ipxe\n{}{}", wrong_architecture(machine, &name_of(machine)), wait())
}

/// Returns a prompt that leaves time to read the screen and to open a shell. An unattended machine then starts over, since
/// the cause may have been fixed by then.
fn wait() -> String {
    format!(
        "\n\
         :wait\n\
         prompt --key s --timeout {PROMPT_MS} pxed: press s for a shell, any other key or a minute restarts || goto restart\n\
         shell ||\n\
         :restart\n\
         reboot || exit 1\n"
    )
}

/// Returns the check that goes on to `:start` if the firmware can start a kernel of this architecture. A BIOS runs iPXE in
/// 32 bits on every processor, so the check tests for long mode (CPUID 0x80000001, EDX bit 29).
const fn architecture_check(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Amd64 => {
            "iseq ${buildarch} x86_64 && goto start ||\n\
             iseq ${buildarch} i386 && iseq ${platform} pcbios && cpuid --ext 29 && goto start ||\n\
             goto wrong_architecture\n"
        }
        Architecture::Arm64 => {
            "iseq ${buildarch} arm64 && goto start ||\n\
             goto wrong_architecture\n"
        }
    }
}

fn wrong_architecture(machine: &Machine, name: &str) -> String {
    let Machine { architecture, source, .. } = machine;
    let file = screen_text(&source.file.display().to_string());
    format!(
        "\n\
         :wrong_architecture\n\
         echo pxed: {name} cannot run the kernel that the cluster spec names for it\n\
         echo pxed: the spec says cpuArchitecture {architecture} ({file} line {line}),\n\
         echo pxed: but this firmware is ${{buildarch}} (${{platform}}) and cannot start such a kernel\n\
         echo pxed: correct cpuArchitecture or macAddress there: nothing was booted\n\
         goto wait\n",
        line = source.line
    )
}

fn disk_script(machine: &Machine, route: DiskRoute) -> String {
    let name = name_of(machine);
    // EFI_SUCCESS may end in the boot manager's menu (UEFI 2.10 §3.1.1); an error continues with BootOrder.
    let way = match route {
        DiskRoute::Exit => "exit 1\n",
        DiskRoute::Sanboot => "sanboot --no-describe --drive 0x80 || exit 1\n",
        DiskRoute::Auto | DiskRoute::NotFound => {
            "iseq ${platform} efi && exit 1 ||\n\
             sanboot --no-describe --drive 0x80 || exit 1\n"
        }
    };
    format!(
        "#!ipxe\n\
         echo\n\
         echo pxed: {name} boots from its own disk, as its boot policy says\n\
         echo pxed: {back}\n\
         {way}",
        back = way_back(machine)
    )
}

#[cfg(test)]
#[path = "script/tests.rs"]
mod tests;
