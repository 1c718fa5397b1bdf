//! The names of the files: those that talos-operator uses, and those of the loaders' stand-ins.

use std::sync::Arc;

use super::{
    architecture::Architecture,
    config_files::{self, ConfigReader},
    event::ArtifactKind,
    inventory::Machine,
    loader::{BOOT_FROM_DISK, LoaderFile},
};

/// The schematic of the Image Factory without customisation. Its kernel and initramfs are those of the release.
pub const PLAIN_SCHEMATIC: &str = "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba";

/// The directory of pxed's own files in the artifacts directory. Nothing in it is served.
pub const OWN_DIRECTORY: &str = ".pxed";

/// Files of Debian's packages `ipxe` and `systemd-boot-efi` that replace a loader or an EFI stub that is missing in the artifacts directory,
/// best first.
///
/// `ipxe.efi` is preferred to `snponly.efi`: it is the build that <https://boot.ipxe.org> offers, and it has drivers of its
/// own for cards whose firmware driver is broken, besides the firmware's.
const STAND_INS: &[(&str, &[&str])] = &[
    (LoaderFile::Undionly.name(), &["/usr/lib/ipxe/undionly.kpxe"]),
    (LoaderFile::EfiX64.name(), &["/usr/lib/ipxe/ipxe.efi", "/usr/lib/ipxe/snponly.efi"]),
    (LoaderFile::EfiArm64.name(), &["/usr/lib/ipxe/ipxe-arm64.efi", "/usr/lib/ipxe/snponly-arm64.efi"]),
    (LoaderFile::EfiIa32.name(), &["/usr/lib/ipxe/ipxe-i386.efi", "/usr/lib/ipxe/snponly-i386.efi"]),
    // Never `ipxe.efi`, whose own drivers are what a spec avoids that names these.
    (LoaderFile::EfiX64.firmware_driver_build(), &["/usr/lib/ipxe/snponly.efi"]),
    (LoaderFile::EfiArm64.firmware_driver_build(), &["/usr/lib/ipxe/snponly-arm64.efi"]),
    (LoaderFile::EfiIa32.firmware_driver_build(), &["/usr/lib/ipxe/snponly-i386.efi"]),
    ("ipxe.efi", &["/usr/lib/ipxe/ipxe.efi"]),
    ("snponly.efi", &["/usr/lib/ipxe/snponly.efi"]),
    ("undionly.kkpxe", &["/usr/lib/ipxe/undionly.kkpxe"]),
    ("ipxe.pxe", &["/usr/lib/ipxe/ipxe.pxe"]),
    (stub_name(Architecture::Amd64), &["/usr/lib/systemd/boot/efi/linuxx64.efi.stub"]),
    (stub_name(Architecture::Arm64), &["/usr/lib/systemd/boot/efi/linuxaa64.efi.stub"]),
];

/// Returns the name of systemd's EFI stub, from which a unified kernel image is made.
#[must_use]
pub const fn stub_name(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Amd64 => "linuxx64.efi.stub",
        Architecture::Arm64 => "linuxaa64.efi.stub",
    }
}

/// Returns the files of the host that replace a loader or EFI stub of this name, best first.
pub(crate) fn stand_ins(name: &[u8]) -> &'static [&'static str] {
    STAND_INS.iter().find(|(loader, _)| loader.as_bytes() == name).map_or(&[], |&(_, files)| files)
}

/// Returns the path of a machine's kernel, relative to the artifacts directory: `vmlinuz-<version>-<arch>`, below
/// `<schematic>/` if the machine's image names an Image Factory schematic.
#[must_use]
pub fn kernel_path(machine: &Machine) -> String {
    let Machine { version, architecture, .. } = machine;
    in_schematic(machine, format!("vmlinuz-{version}-{architecture}"))
}

/// Returns the path of a machine's initramfs, relative to the artifacts directory: `initramfs-<version>-<arch>.xz`, below
/// `<schematic>/` like the kernel.
#[must_use]
pub fn initramfs_path(machine: &Machine) -> String {
    let Machine { version, architecture, .. } = machine;
    in_schematic(machine, format!("initramfs-{version}-{architecture}.xz"))
}

/// Returns the path of the Image Factory's unified kernel image from which a machine's own is made, relative to the artifacts directory:
/// `uki-<version>-<arch>.efi`, below `<schematic>/` like the kernel.
#[must_use]
pub fn uki_path(machine: &Machine) -> String {
    let Machine { version, architecture, .. } = machine;
    in_schematic(machine, format!("uki-{version}-{architecture}.efi"))
}

/// Returns the path of the Image Factory's unified kernel image for Secure Boot, relative to the artifacts directory:
/// `secureboot-uki-<version>-<arch>.efi`, below `<schematic>/` like the kernel.
#[must_use]
pub fn secure_boot_uki_path(machine: &Machine) -> String {
    let Machine { version, architecture, .. } = machine;
    in_schematic(machine, format!("secureboot-uki-{version}-{architecture}.efi"))
}

/// Returns the schematic whose files the machine boots, or `None` if it boots those of the release.
pub(crate) fn schematic_of(machine: &Machine) -> Option<&Arc<str>> {
    machine.schematic.as_ref().filter(|schematic| &***schematic != PLAIN_SCHEMATIC)
}

fn in_schematic(machine: &Machine, name: String) -> String {
    match schematic_of(machine) {
        Some(schematic) => format!("{schematic}/{name}"),
        None => name,
    }
}

/// Returns a path without the bytes that firmware reads beyond it when it takes option 67 for a C string: the end of the DHCP options (255)
/// and their padding (0).
#[must_use]
pub fn without_end_marker(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| !matches!(byte, 0 | 0xff)).map_or(0, |last| last + 1);
    path.get(..end).unwrap_or_default()
}

/// The end of the DHCP options in a path, in the form that events keep.
pub const END_MARKER_TEXT: &str = "\\xff";

/// The same as [`without_end_marker`], for a path in the form that events keep.
#[must_use]
pub fn without_end_marker_text(path: &str) -> &str {
    path.trim_end_matches(END_MARKER_TEXT)
}

/// Returns the kind of file that a path names, judged by its last component, and for configurations by the directory too.
#[must_use]
pub fn kind_of(path: &[u8]) -> ArtifactKind {
    let path = without_end_marker(path);
    let name = path.rsplit(|byte| matches!(byte, b'/' | b'\\')).next().unwrap_or(path).to_ascii_lowercase();
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix.as_bytes()));
    let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| name.ends_with(suffix.as_bytes()));
    if ends(&[".ipxe", ".ipxe.0"]) || ConfigReader::of(path).is_some() {
        ArtifactKind::Script
    } else if begins(&["vmlinuz", "kernel-"]) {
        ArtifactKind::Kernel
    } else if begins(&["initramfs", "initrd"]) {
        ArtifactKind::Initramfs
    } else if ends(&[".efi"]) && (begins(&["uki-", "secureboot-uki-"]) || ends(&["-uki.efi"])) {
        ArtifactKind::Uki
    } else if ends(&[".efi", ".kpxe", ".kkpxe", ".kkkpxe", ".pxe", ".0"]) {
        ArtifactKind::Loader
    } else {
        ArtifactKind::Other
    }
}

/// Returns whether a loader is iPXE, judged by its name.
#[must_use]
pub fn is_ipxe(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    ["ipxe", "snponly", "undionly"].iter().any(|build| name.starts_with(build))
}

/// Returns whether a file of this name may be missing, so that its refusal is not a failure. iPXE looks for `autoexec.ipxe`
/// and shim for certificates and revocations without expecting them, so do GRUB and U-Boot ([`config_files::is_probe`]), and
/// [`BOOT_FROM_DISK`] is meant to be refused.
#[must_use]
pub fn is_optional(path: &[u8]) -> bool {
    let path = without_end_marker(path);
    let name = path.rsplit(|byte| matches!(byte, b'/' | b'\\')).next().unwrap_or(path);
    name == b"autoexec.ipxe"
        || name == BOOT_FROM_DISK.as_bytes()
        || config_files::is_probe(path)
        || (name.ends_with(b".efi") && (name.starts_with(b"revocations") || name.starts_with(b"shim_certificate")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::machine;

    #[test]
    fn end_marker_is_no_part_of_a_name() {
        let cases: &[(&[u8], &[u8])] = &[
            (b"undionly.kpxe\xff", b"undionly.kpxe"),
            (b"undionly.kpxe\xff\0\xff\xff", b"undionly.kpxe"),
            (b"a\xffb\xff", b"a\xffb"),
            (b"\xffa", b"\xffa"),
            (b"a ", b"a "),
            (b"\xff\xff", b""),
            (b"", b""),
        ];
        for (path, name) in cases {
            assert_eq!(without_end_marker(path), *name, "{}", path.escape_ascii());
        }
        assert_eq!(kind_of(b"undionly.kpxe\xff"), ArtifactKind::Loader);
        assert!(is_optional(b"autoexec.ipxe\xff"));
    }

    #[test]
    fn kernel_and_initramfs_are_named_as_the_operator_names_them() {
        let plain = machine(1, Architecture::Amd64, "v1.13.0", None);
        assert_eq!(kernel_path(&plain), "vmlinuz-v1.13.0-amd64");
        assert_eq!(initramfs_path(&plain), "initramfs-v1.13.0-amd64.xz");
        let vanilla = machine(1, Architecture::Arm64, "v1.13.0", Some(PLAIN_SCHEMATIC));
        assert_eq!(kernel_path(&vanilla), "vmlinuz-v1.13.0-arm64");
        let custom = machine(1, Architecture::Arm64, "v1.12.1", Some("ab12"));
        assert_eq!(kernel_path(&custom), "ab12/vmlinuz-v1.12.1-arm64");
        assert_eq!(initramfs_path(&custom), "ab12/initramfs-v1.12.1-arm64.xz");
    }

    #[test]
    fn path_tells_its_kind() {
        for (path, kind) in [
            ("ipxe-efi-x86_64.efi", ArtifactKind::Loader),
            ("/undionly.kpxe", ArtifactKind::Loader),
            ("\\Boot\\Bootmgfw.EFI", ArtifactKind::Loader),
            ("pxelinux.0", ArtifactKind::Loader),
            ("autoexec.ipxe", ArtifactKind::Script),
            ("boot.ipxe.0", ArtifactKind::Script),
            ("/grub/grub.cfg", ArtifactKind::Script),
            ("pxelinux.cfg/0A000001", ArtifactKind::Script),
            ("ab12/vmlinuz-v1.13.0-amd64", ArtifactKind::Kernel),
            ("initramfs-v1.13.0-amd64.xz", ArtifactKind::Initramfs),
            ("uki-v1.13.0-amd64.efi", ArtifactKind::Uki),
            ("ab12/secureboot-uki-v1.13.0-arm64.efi", ArtifactKind::Uki),
            ("metal-amd64-uki.efi", ArtifactKind::Uki),
            ("uki.efi", ArtifactKind::Loader),
            ("vmlinuz.d/notes.txt", ArtifactKind::Other),
            ("", ArtifactKind::Other),
        ] {
            assert_eq!(kind_of(path.as_bytes()), kind, "{path}");
        }
    }

    #[test]
    fn file_that_boot_programs_probe_for_is_optional() {
        for (path, optional) in [
            ("autoexec.ipxe", true),
            ("/sub/autoexec.ipxe", true),
            ("revocations_sku.efi", true),
            ("EFI\\revocations_sbat.efi", true),
            ("shim_certificate_0.efi", true),
            ("boot-from-disk", true),
            ("pxelinux.cfg/default", true),
            ("/grub/x86_64-efi/command.lst", true),
            ("/grub/grub.cfg", false),
            ("ipxe.efi", false),
            ("autoexec.ipxe/kernel", false),
        ] {
            assert_eq!(is_optional(path.as_bytes()), optional, "{path}");
        }
    }
}
