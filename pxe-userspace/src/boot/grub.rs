//! The configuration of one machine's GRUB, which GRUB runs as a script.
//!
//! It uses commands that Debian's signed images contain, since with Secure Boot GRUB loads no modules.

use std::{fmt::Write as _, net::Ipv4Addr};

use super::{
    ipxe::{name_of, screen_text, way_back},
    talos,
};
use crate::model::{
    architecture::Architecture,
    artifact_names,
    inventory::Machine,
    policy::{DiskRoute, Disposition},
};

/// The most attempts to load kernel and initramfs before the machine restarts. The pauses grow by a second each time, so this
/// takes three minutes plus the downloads.
const ATTEMPTS: u32 = 20;

/// The time that the last message stays on the screen, in seconds. An unattended machine then starts over, since the cause may
/// have been fixed by then.
const WAIT_SECONDS: u32 = 60;

/// The initial capacity for a configuration, in bytes; few are longer.
const USUAL_LENGTH: usize = 3072;

/// Returns the configuration that this machine's GRUB runs now: it loads and starts the kernel and initramfs of its version, or
/// boots from the disk. Returns `None` if the file shall not exist. `server` is where the machine asks for it, and `root` the place of
/// the artifacts there in GRUB's notation, as `(tftp,10.0.0.1)`.
#[must_use]
pub fn config(machine: &Machine, server: Ipv4Addr, root: &str, disposition: Disposition) -> Option<String> {
    match (disposition, machine.disk_route) {
        (Disposition::Network, _) => Some(network_config(machine, server, root)),
        (Disposition::Disk, DiskRoute::NotFound) => None,
        (Disposition::Disk, route) => Some(disk_config(machine, route)),
    }
}

fn network_config(machine: &Machine, server: Ipv4Addr, root: &str) -> String {
    let name = name_of(machine);
    let version = screen_text(&machine.version);
    let cluster = screen_text(&machine.cluster);
    let kernel = quoted_word(&format!("{root}/{}", artifact_names::kernel_path(machine)));
    let initramfs = quoted_word(&format!("{root}/{}", artifact_names::initramfs_path(machine)));
    let unquoted = talos::arguments(machine, server, None);
    let arguments = quoted(&unquoted);
    let Machine { mac, architecture, source, .. } = machine;

    let mut config = String::with_capacity(USUAL_LENGTH);
    let _ = write!(
        config,
        "# GRUB configuration of {mac}, by pxed\n\
         echo 'pxed: {name} of cluster {cluster} boots Talos {version} for {architecture} from {server}'\n"
    );
    if is_altered(&unquoted) {
        config += "echo 'pxed: GRUB puts a backslash before each quote and backslash of the kernel arguments'\n";
    }
    config += architecture_check(*architecture);
    config += "\nif [ $runs = yes ]; then\n    for attempt in";
    for attempt in 1..=ATTEMPTS {
        let _ = write!(config, " {attempt}");
    }
    let _ = write!(
        config,
        "; do
        echo 'pxed: {name} loading kernel {version} (1/2)'
        if linux {kernel} {arguments}; then
            echo 'pxed: {name} loading initramfs {version} (2/2)'
            if initrd {initramfs}; then
                echo 'pxed: {name} starting the kernel'
                boot
            fi
        fi
        echo \"pxed: {name} attempt $attempt of {ATTEMPTS} failed (the message above says why), trying again in $attempt s\"
        sleep $attempt
    done
    echo 'pxed: {name} gave up after {ATTEMPTS} attempts'
    echo 'pxed: on the provisioning host, pxed explain {mac} says what went wrong'
else
    echo 'pxed: {name} cannot run the kernel that the cluster spec names for it'
    echo 'pxed: the spec says cpuArchitecture {architecture} ({file} line {line}),'
    echo \"pxed: but this firmware is $grub_cpu ($grub_platform) and cannot start such a kernel\"
    echo 'pxed: correct cpuArchitecture or macAddress there: nothing was booted'
fi
echo 'pxed: press Esc for a command line; otherwise the machine restarts'
if sleep --interruptible {WAIT_SECONDS}; then reboot; fi
",
        file = screen_text(&source.file.display().to_string()),
        line = source.line,
    );
    config
}

/// Returns the check that sets `runs` to `yes` if this GRUB can start a kernel of this architecture. On a BIOS, and on the 32-bit UEFI
/// of some 64-bit processors, GRUB has 32 bits and starts kernels of 64. A GRUB that does not name its architecture is believed.
const fn architecture_check(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Amd64 => {
            "set runs=no\n\
             if [ -z \"$grub_cpu\" ]; then set runs=yes; fi\n\
             if [ \"$grub_cpu\" = x86_64 ]; then set runs=yes; fi\n\
             if [ \"$grub_cpu\" = i386 ]; then set runs=yes; fi\n"
        }
        Architecture::Arm64 => {
            "set runs=no\n\
             if [ -z \"$grub_cpu\" ]; then set runs=yes; fi\n\
             if [ \"$grub_cpu\" = arm64 ]; then set runs=yes; fi\n"
        }
    }
}

/// Returns the configuration that boots from the disk. Many builds of GRUB end `exit 1` with success, after which UEFI shows its
/// menu instead of its next boot entry. So the loader on the disk is started first, at the path that every disk with one has.
fn disk_config(machine: &Machine, route: DiskRoute) -> String {
    let Machine { mac, architecture, .. } = machine;
    let (name, back) = (name_of(machine), way_back(machine));
    let loader = match architecture {
        Architecture::Amd64 => "/EFI/BOOT/BOOTX64.EFI",
        Architecture::Arm64 => "/EFI/BOOT/BOOTAA64.EFI",
    };
    let start = format!(
        "if [ \"$grub_platform\" = efi ]; then\n    \
             if search --no-floppy --set=root --file {loader}; then\n        \
                 if chainloader {loader}; then boot; fi\n    \
             fi\n\
         else\n    \
             set root=(hd0)\n    \
             if chainloader +1; then boot; fi\n\
         fi\n"
    );
    let way = match route {
        DiskRoute::Exit => "",
        DiskRoute::Auto | DiskRoute::Sanboot | DiskRoute::NotFound => &start,
    };
    format!(
        "# GRUB configuration of {mac}, by pxed\n\
         echo 'pxed: {name} boots from its own disk, as its boot policy says'\n\
         echo 'pxed: {back}'\n\
         {way}\
         exit 1\n"
    )
}

/// Quotes kernel arguments for GRUB, so that the kernel gets the same arguments.
///
/// GRUB takes a line apart as a shell does, and puts the words together again: it joins them with spaces, puts one with a space
/// in it into double quotes, and puts a backslash before each quote and backslash of a word, which nothing prevents. So an
/// argument that is quoted for the kernel is given to GRUB without its quotes, as far as GRUB restores them. White space between
/// arguments becomes spaces, which is the same to Linux.
#[must_use]
pub fn quoted(arguments: &str) -> String {
    let words: Vec<String> = words(arguments).iter().map(|word| quoted_word(word)).collect();
    words.join(" ")
}

/// Returns `true` if the kernel gets backslashes that the arguments do not have.
#[must_use]
pub fn is_altered(arguments: &str) -> bool {
    words(arguments).iter().any(|word| word.contains(['\'', '"', '\\']))
}

/// Returns the arguments as the words that GRUB shall put together. A run of spaces makes empty words.
fn words(arguments: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut is_quoted) = (String::new(), false);
    for character in arguments.chars() {
        match character {
            '\0' => {}
            ' ' | '\x09'..='\x0d' if !is_quoted => words.push(unquoted(std::mem::take(&mut word))),
            '\n' => word.push(' '),
            _ => {
                is_quoted ^= character == '"';
                word.push(character);
            }
        }
    }
    words.push(unquoted(word));
    words
}

/// Returns an argument without the double quotes that Linux removes (`next_arg`): those around the value, or around all of it.
/// If others remain, it is returned as it is.
fn unquoted(word: String) -> String {
    let inner = |text: &str| text.strip_prefix('"').map(|text| text.strip_suffix('"').unwrap_or(text).to_owned());
    let plain = match (inner(&word), word.split_once('=')) {
        (Some(all), _) => Some(all),
        (None, Some((name, value))) if !name.is_empty() => inner(value).map(|value| format!("{name}={value}")),
        (None, _) => None,
    };
    // GRUB restores the quotes for the sake of a space, and for no other white space.
    let is_restored = |plain: &String| plain.contains(' ') || !plain.contains(|c| matches!(c, '\x09'..='\x0d'));
    plain.filter(|plain| !plain.contains('"') && is_restored(plain)).unwrap_or(word)
}

/// Returns a word for GRUB's shell, quoted if the shell would not read it as it is.
#[must_use]
pub fn quoted_word(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=.,:/+@%()".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
#[path = "grub/tests.rs"]
mod tests;
