//! What the files are called: the names that talos-operator gives them, and the loaders' stand-ins.

use super::{
    event::ArtifactKind,
    inventory::Machine,
    loader::{BOOT_FROM_DISK, LoaderFile},
};

/// The Image Factory's schematic without any customisation: its kernel and initramfs are the release's.
pub const PLAIN_SCHEMATIC: &str = "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba";

/// Where Debian's package `ipxe` puts what stands in for a loader that the artifacts directory lacks, best first.
///
/// `ipxe.efi` goes before `snponly.efi`: it is the build that <https://boot.ipxe.org> offers, and brings drivers for
/// cards whose firmware driver is broken as well as the firmware's own.
const STAND_INS: &[(&str, &[&str])] = &[
    (LoaderFile::Undionly.name(), &["/usr/lib/ipxe/undionly.kpxe"]),
    (LoaderFile::EfiX64.name(), &["/usr/lib/ipxe/ipxe.efi", "/usr/lib/ipxe/snponly.efi"]),
    (LoaderFile::EfiArm64.name(), &["/usr/lib/ipxe/ipxe-arm64.efi", "/usr/lib/ipxe/snponly-arm64.efi"]),
    (LoaderFile::EfiIa32.name(), &["/usr/lib/ipxe/ipxe-i386.efi", "/usr/lib/ipxe/snponly-i386.efi"]),
    ("ipxe.efi", &["/usr/lib/ipxe/ipxe.efi"]),
    ("snponly.efi", &["/usr/lib/ipxe/snponly.efi"]),
    ("undionly.kkpxe", &["/usr/lib/ipxe/undionly.kkpxe"]),
    ("ipxe.pxe", &["/usr/lib/ipxe/ipxe.pxe"]),
];

/// The files of the host, best first, that stand in for a loader of this name.
pub(crate) fn stand_ins(name: &[u8]) -> &'static [&'static str] {
    STAND_INS.iter().find(|(loader, _)| loader.as_bytes() == name).map_or(&[], |&(_, files)| files)
}

/// The kernel of a machine, relative to the artifacts directory: `vmlinuz-<version>-<arch>`, and for a machine whose
/// image names an Image Factory schematic `<schematic>/vmlinuz-<version>-<arch>`.
#[must_use]
pub fn kernel_path(machine: &Machine) -> String {
    let Machine { version, architecture, .. } = machine;
    in_schematic(machine, format!("vmlinuz-{version}-{architecture}"))
}

/// The initramfs of a machine, relative to the artifacts directory: `initramfs-<version>-<arch>.xz`, below
/// `<schematic>/` as the kernel is.
#[must_use]
pub fn initramfs_path(machine: &Machine) -> String {
    let Machine { version, architecture, .. } = machine;
    in_schematic(machine, format!("initramfs-{version}-{architecture}.xz"))
}

/// The schematic whose files the machine boots, where these are not the release's own.
pub(crate) fn schematic_of(machine: &Machine) -> Option<&str> {
    machine.schematic.as_deref().filter(|&schematic| schematic != PLAIN_SCHEMATIC)
}

fn in_schematic(machine: &Machine, name: String) -> String {
    match schematic_of(machine) {
        Some(schematic) => format!("{schematic}/{name}"),
        None => name,
    }
}

/// What kind of file a path names, judged by the last component alone.
#[must_use]
pub fn kind_of(path: &[u8]) -> ArtifactKind {
    let name = path.rsplit(|byte| matches!(byte, b'/' | b'\\')).next().unwrap_or(path).to_ascii_lowercase();
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix.as_bytes()));
    let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| name.ends_with(suffix.as_bytes()));
    if ends(&[".ipxe", ".ipxe.0"]) {
        ArtifactKind::Script
    } else if begins(&["vmlinuz", "kernel-"]) {
        ArtifactKind::Kernel
    } else if begins(&["initramfs", "initrd"]) {
        ArtifactKind::Initramfs
    } else if ends(&[".efi", ".kpxe", ".kkpxe", ".kkkpxe", ".pxe", ".0"]) {
        ArtifactKind::Loader
    } else {
        ArtifactKind::Other
    }
}

/// Whether a file of this name may well be missing, so that its refusal is no failure: iPXE looks for `autoexec.ipxe`
/// and shim for certificates and revocations without expecting them, and the refusal of [`BOOT_FROM_DISK`] is what
/// firmware was sent to fetch.
#[must_use]
pub fn is_optional(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| matches!(byte, b'/' | b'\\')).next().unwrap_or(path);
    name == b"autoexec.ipxe"
        || name == BOOT_FROM_DISK.as_bytes()
        || (name.ends_with(b".efi") && (name.starts_with(b"revocations") || name.starts_with(b"shim_certificate")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{architecture::Architecture, testing::machine};

    #[test]
    fn kernels_and_initramfs_are_named_as_the_operator_names_them() {
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
    fn a_path_tells_what_it_names() {
        for (path, kind) in [
            ("ipxe-efi-x86_64.efi", ArtifactKind::Loader),
            ("/undionly.kpxe", ArtifactKind::Loader),
            ("\\Boot\\Bootmgfw.EFI", ArtifactKind::Loader),
            ("pxelinux.0", ArtifactKind::Loader),
            ("autoexec.ipxe", ArtifactKind::Script),
            ("boot.ipxe.0", ArtifactKind::Script),
            ("ab12/vmlinuz-v1.13.0-amd64", ArtifactKind::Kernel),
            ("initramfs-v1.13.0-amd64.xz", ArtifactKind::Initramfs),
            ("vmlinuz.d/notes.txt", ArtifactKind::Other),
            ("", ArtifactKind::Other),
        ] {
            assert_eq!(kind_of(path.as_bytes()), kind, "{path}");
        }
    }

    #[test]
    fn what_boot_programs_probe_for_is_optional() {
        for (path, optional) in [
            ("autoexec.ipxe", true),
            ("/sub/autoexec.ipxe", true),
            ("revocations_sku.efi", true),
            ("EFI\\revocations_sbat.efi", true),
            ("shim_certificate_0.efi", true),
            ("boot-from-disk", true),
            ("ipxe.efi", false),
            ("autoexec.ipxe/kernel", false),
        ] {
            assert_eq!(is_optional(path.as_bytes()), optional, "{path}");
        }
    }
}
