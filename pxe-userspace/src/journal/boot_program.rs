//! The programs between a machine's firmware and its kernel, as its requests show them: what each waits for, and what goes wrong
//! with it.

use super::machine_record::MachineRecord;
use crate::model::{
    architecture::Architecture,
    config_files::ConfigReader,
    event::{ArtifactKind, ClientKind, EventKind, Transport},
};

/// A program that boots a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BootProgram {
    Ipxe,
    /// shim, which starts GRUB.
    Shim,
    Grub,
    UBoot,
}

impl BootProgram {
    /// Returns the program that was loaded last, with the name of its file.
    pub(super) fn loaded(record: &MachineRecord) -> (Self, Option<&str>) {
        let path = record.events.iter().rev().find_map(|event| match &event.kind {
            EventKind::Requested { artifact: ArtifactKind::Loader, path, .. } => Some(&**path),
            _ => None,
        });
        let name = path.map(|path| path.rsplit(['/', '\\']).next().unwrap_or(path));
        let begins = |text| name.is_some_and(|name| name.to_ascii_lowercase().starts_with(text));
        let program = if begins("shim") {
            Self::Shim
        } else if begins("grub") {
            Self::Grub
        } else {
            Self::Ipxe
        };
        (program, name)
    }

    /// Returns the program that asked for the last script or configuration, with its path.
    pub(super) fn scripted(record: &MachineRecord) -> (Self, Option<&str>) {
        let path = record.events.iter().rev().find_map(|event| match &event.kind {
            EventKind::Requested { artifact: ArtifactKind::Script, path, .. } => Some(&**path),
            _ => None,
        });
        let program = match path.and_then(|path| ConfigReader::of(path.as_bytes())) {
            Some(ConfigReader::Grub) => Self::Grub,
            Some(ConfigReader::UBoot) => Self::UBoot,
            None => Self::Ipxe,
        };
        (program, path)
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ipxe => "iPXE",
            Self::Shim => "shim",
            Self::Grub => ConfigReader::Grub.name(),
            Self::UBoot => ConfigReader::UBoot.name(),
        }
    }

    /// Returns the step that follows when the program has been loaded.
    pub(super) const fn first_step(self) -> &'static str {
        match self {
            Self::Ipxe => "iPXE to start and to ask for an address.",
            Self::Shim => {
                "shim to start and to ask for GRUB, grubx64.efi (grubaa64.efi on ARM64) in its own directory."
            }
            Self::Grub => "GRUB to start and to ask for its configuration, grub.cfg.",
            Self::UBoot => "U-Boot to ask for its configuration, pxelinux.cfg/….",
        }
    }

    /// Returns the reasons why it does not come to its first step, the most likely first.
    pub(super) fn does_not_start(self) -> Vec<String> {
        let texts: &[&str] = match self {
            Self::Ipxe => &[
                "With Secure Boot enabled, the firmware refuses an unsigned loader, usually without a message: disable it, or \
                 serve a signed shim.",
                "The loader may have no driver for its network card, or one that hangs: give the machine the one that uses the \
                 driver of its firmware (annotation pxed.dev/loader: snponly).",
                "Look at its screen or serial console: iPXE shows what it waits for.",
            ],
            Self::Shim => &[
                "With Secure Boot enabled, the firmware refuses a shim that its keys do not sign or that has been revoked: look at \
                 its screen, and try the shim of a newer release.",
                "An older shim asks for nothing by the network if it was not loaded from there: load it by TFTP.",
            ],
            Self::Grub => &[
                "A GRUB that was built for disks looks for its configuration there: serve the one for the network (Debian: \
                 grubnetx64.efi.signed as grubx64.efi). One without HTTP has to be loaded by TFTP.",
                "With Secure Boot enabled, shim refuses a GRUB that its vendor did not sign: both have to come from one \
                 distribution.",
                "Look at its screen or serial console: GRUB shows a prompt if it has no configuration.",
            ],
            Self::UBoot => &["Look at its serial console: U-Boot shows what it looks for."],
        };
        texts.iter().copied().map(str::to_owned).collect()
    }

    /// Returns what to do about a machine that has its script, or its kernel, and does not continue.
    pub(super) fn does_not_continue(self, has_kernel: bool) -> Vec<String> {
        let text = match (self, has_kernel) {
            (Self::Ipxe, true) => {
                "Look at its screen or serial console: iPXE shows why it does not continue (too little memory?)."
            }
            (Self::Grub, true) => {
                "Look at its screen or serial console: GRUB shows why it does not continue. With Secure Boot enabled, it refuses a \
                 kernel without a signature that shim trusts (`bad shim signature`)."
            }
            (Self::UBoot, true) => {
                "Look at its serial console: U-Boot shows why it does not continue (too little memory, or no `ramdisk_addr_r`?)."
            }
            (Self::Ipxe | Self::Shim, _) => {
                "Look at its screen or serial console: the script shows what it does and what failed."
            }
            (Self::Grub | Self::UBoot, false) => {
                return vec![format!(
                    "Look at its screen or serial console: {} shows what it does and what failed.",
                    self.name()
                )];
            }
        };
        vec![text.to_owned()]
    }

    /// Returns the reasons why a program that has everything does not start the kernel.
    pub(super) fn does_not_boot(self, record: &MachineRecord) -> Option<String> {
        (self == Self::UBoot).then(|| {
            format!(
                "U-Boot's console says why it does not start the kernel: `Bad Linux ARM64 Image magic` means that the file is no \
                 uncompressed Image, `bootarg overflow` that the arguments (the machine's own have {} bytes) are longer than \
                 CONFIG_SYS_CBSIZE of its build.",
                record.machine.kernel_args.len()
            )
        })
    }
}

/// Returns `true` if the program in question got its kernel more than once since its script: it refuses the kernel and starts over.
pub(super) fn loads_kernel_again(record: &MachineRecord) -> bool {
    let kernels = record
        .events
        .iter()
        .rev()
        .take_while(|event| !matches!(event.kind, EventKind::Requested { artifact: ArtifactKind::Script, .. }));
    kernels.filter(|event| matches!(event.kind, EventKind::Done { artifact: ArtifactKind::Kernel, .. })).count() > 1
}

/// The things to check if firmware or a loader has a unified kernel image and does not start it.
pub(super) const UKI_REFUSED: &str = "Its firmware may have refused the image: look at its screen or serial console. With Secure Boot \
    enabled, it starts only an image that its keys verify (`Access Denied`, `Security Violation`): sign the images \
    (--secure-boot-key, --secure-boot-cert) and enrol the certificate in the firmware, or disable Secure Boot.";

/// Returns `true` if what the machine loaded last is a unified kernel image.
pub(super) fn boots_uki(record: &MachineRecord) -> bool {
    let last = record.events.iter().rev().find_map(|event| match event.kind {
        EventKind::Requested { artifact, .. } | EventKind::Done { artifact, .. } => Some(artifact),
        _ => None,
    });
    last == Some(ArtifactKind::Uki)
}

/// A machine whose firmware is U-Boot, or may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UBoot {
    /// It says so itself.
    pub(super) is_certain: bool,
    /// The way to boot by it.
    pub(super) advice: String,
}

/// Returns what to do if the machine's firmware is U-Boot. Returns `None` if it cannot be: if the machine is a PC, or loads by HTTP.
/// The EFI of U-Boot says that it is any UEFI.
pub(super) fn u_boot(record: &MachineRecord) -> Option<UBoot> {
    let asked = record.events.iter().rev().find_map(|event| match event.kind {
        EventKind::Discover { client: ClientKind::Pxe, client_architecture } => Some(client_architecture),
        _ => None,
    });
    let is_certain = matches!(asked, Some(Some(U_BOOT_ARM32 | U_BOOT_ARM64)));
    let loads_by_http = record.events.iter().rev().find_map(|event| match event.kind {
        EventKind::Requested { artifact: ArtifactKind::Loader, transport, .. } => Some(transport == Transport::Http),
        _ => None,
    });
    let is_possible = record.machine.architecture == Architecture::Arm64 && loads_by_http != Some(true);
    let begin = if is_certain { "Its firmware is U-Boot, in which" } else { "If its firmware is U-Boot:" };
    let advice = format!(
        "{begin} iPXE hangs at \"Press Ctrl-B\", because U-Boot's EFI has no interrupts to wake it. Boot without iPXE, by the \
         configuration in pxelinux.cfg that pxed makes: `dhcp; pxe get; pxe boot`, or for good `setenv boot_targets pxe; saveenv`."
    );
    (is_certain || is_possible).then_some(UBoot { is_certain, advice })
}

/// The architectures of U-Boot (IANA, option 93).
const U_BOOT_ARM32: u16 = 21;
const U_BOOT_ARM64: u16 = 22;

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::{
        journal::{
            diagnosis::{Diagnosis, diagnose},
            fleet::Fleet,
            remembered::State,
            samples::*,
        },
        model::{
            event::{BootFileName, Signs},
            inventory::Machine,
            loader::LoaderFile,
        },
    };

    /// Returns the diagnosis of a machine `later` seconds after the last of these events, as one text.
    fn after(architecture: Architecture, events: &[EventKind], later: f64) -> String {
        let mut fleet = Fleet::new(&State::new(), at(-60.0), 1);
        let events = timed(MAC, events.iter().cloned());
        for event in &events {
            fleet.apply(event);
        }
        let machine = Machine { architecture, kernel_args: "x".repeat(300).into(), ..machine(1) };
        let last = events.last().map_or(at(0.0), |event| event.at);
        let record = fleet.machine(&Arc::new(machine), usize::MAX);
        let Diagnosis { reached, waits_for, advice } =
            diagnose(&record, &Default::default(), last + Duration::from_secs_f64(later));
        format!("{reached} | {waits_for} | {}", advice.join(" | "))
    }

    fn file(artifact: ArtifactKind, path: &str) -> [EventKind; 2] {
        let (transport, path) = (Tftp, Arc::<str>::from(path));
        [
            EventKind::Requested { artifact, transport, path: Arc::clone(&path) },
            EventKind::Done { artifact, transport, path, bytes: 1000, took: Duration::from_millis(10) },
        ]
    }

    fn u_boot(client_architecture: u16) -> Vec<EventKind> {
        let client = Pxe;
        let boot_file = Some(BootFileName::Loader(LoaderFile::EfiArm64));
        vec![
            EventKind::Discover { client, client_architecture: Some(client_architecture) },
            EventKind::Ack { address: None, client, signs: Signs::None, boot_file },
        ]
    }

    #[test]
    fn diagnosis_names_the_program_that_runs() {
        let shim = [&dora(Pxe)[..], &file(Loader, "shimx64.efi")].concat();
        let grub = [&shim[..], &file(Loader, "grubx64.efi")].concat();
        let config = [&grub[..], &file(Script, "/grub/grub.cfg")].concat();
        let kernel = [&config[..], &file(Kernel, "/vmlinuz-v1.13.0-amd64")].concat();
        let again = [&kernel[..], &file(Kernel, "/vmlinuz-v1.13.0-amd64")].concat();
        for (name, events, later, expected) in [
            ("shim", &shim, 1.0, &["got the loader shimx64.efi", "shim to start and to ask for GRUB"][..]),
            ("shim stops", &shim, 60.0, &["has been revoked"]),
            ("GRUB", &grub, 1.0, &["got the loader grubx64.efi", "ask for its configuration, grub.cfg"]),
            ("GRUB stops", &grub, 60.0, &["grubnetx64.efi.signed", "Secure Boot", "GRUB shows a prompt"]),
            ("configured", &config, 1.0, &["GRUB asked for /grub/grub.cfg 1 s ago", "request for the kernel"]),
            ("configured and stops", &config, 60.0, &["GRUB shows what it does"]),
            ("kernel", &kernel, 60.0, &["GRUB shows why", "bad shim signature"]),
            ("refused kernel", &again, 1.0, &["bad shim signature"]),
        ] {
            let told = after(Architecture::Amd64, events, later);
            for words in expected {
                assert!(told.contains(words), "{name}: no {words:?} in {told}");
            }
            assert!(!told.contains("iPXE"), "{name}: {told}");
        }
    }

    #[test]
    fn diagnosis_of_u_boot_tells_how_it_boots() {
        let config = [&u_boot(22)[..], &file(Script, "pxelinux.cfg/01-52-54-00-00-00-01")].concat();
        let booting = [&config[..], &file(Kernel, "vmlinuz"), &file(Initramfs, "initramfs")].concat();
        let hangs = [&u_boot(22)[..], &file(Loader, "ipxe-efi-arm64.efi")].concat();
        let as_efi = [&u_boot(11)[..], &file(Loader, "ipxe-efi-arm64.efi")].concat();
        for (name, events, later, expected) in [
            (
                "address",
                u_boot(22),
                1.0,
                &["Its firmware is U-Boot", "pxe get; pxe boot", "pxelinux.cfg/01-52-54-00-00-00-01"][..],
            ),
            ("iPXE hangs", hangs, 1.0, &["Its firmware is U-Boot", "hangs", "setenv boot_targets pxe"]),
            ("iPXE hangs in its EFI", as_efi, 60.0, &["If its firmware is U-Boot", "hangs", "setenv boot_targets pxe"]),
            ("configured", config, 1.0, &["U-Boot asked for pxelinux.cfg/01-52-54-00-00-00-01 1 s ago"]),
            ("does not boot", booting, 200.0, &["bootarg overflow", "300 bytes", "Bad Linux ARM64 Image magic"]),
        ] {
            let told = after(Architecture::Arm64, &events, later);
            for words in expected {
                assert!(told.contains(words), "{name}: no {words:?} in {told}");
            }
        }
        let pc = [&dora(Pxe)[..], &file(Loader, "ipxe-efi-x86_64.efi")].concat();
        assert!(!after(Architecture::Amd64, &pc, 60.0).contains("U-Boot"));
    }
}
