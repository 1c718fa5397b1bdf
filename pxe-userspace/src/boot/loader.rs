//! Which network boot program a firmware can start.
//!
//! Firmware names itself by IANA's "Processor Architecture Types" (RFC 4578 option 93). One number
//! says two things: which program it can start, and whether it fetches that program by TFTP or HTTP.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::inventory::Architecture;

/// A network boot program, by the name it has in the artifacts directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoaderFile {
    /// iPXE for PC BIOS, on the firmware's own UNDI driver.
    Undionly,
    /// iPXE for 32-bit x86 UEFI.
    EfiIa32,
    /// iPXE for x86-64 UEFI.
    EfiX64,
    /// iPXE for 32-bit ARM UEFI.
    EfiArm32,
    /// iPXE for 64-bit ARM UEFI.
    EfiArm64,
    /// iPXE for 32-bit RISC-V UEFI.
    EfiRiscv32,
    /// iPXE for 64-bit RISC-V UEFI.
    EfiRiscv64,
}

impl LoaderFile {
    /// Every loader that a client can be told to fetch.
    pub const ALL: [Self; 7] = [
        Self::Undionly,
        Self::EfiIa32,
        Self::EfiX64,
        Self::EfiArm32,
        Self::EfiArm64,
        Self::EfiRiscv32,
        Self::EfiRiscv64,
    ];

    /// The file's name, relative to the artifacts directory.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Undionly => "undionly.kpxe",
            Self::EfiIa32 => "ipxe-efi-i386.efi",
            Self::EfiX64 => "ipxe-efi-x86_64.efi",
            Self::EfiArm32 => "ipxe-efi-arm32.efi",
            Self::EfiArm64 => "ipxe-efi-arm64.efi",
            Self::EfiRiscv32 => "ipxe-efi-riscv32.efi",
            Self::EfiRiscv64 => "ipxe-efi-riscv64.efi",
        }
    }

    /// The loader for firmware that does not say what it is. PXE ROMs that send neither option 93 nor
    /// an architecture in option 60 are older than both, so on a PC they are BIOS.
    #[must_use]
    pub const fn for_machine(architecture: Architecture) -> Self {
        match architecture {
            Architecture::Amd64 => Self::Undionly,
            Architecture::Arm64 => Self::EfiArm64,
        }
    }

    /// Whether a machine of this architecture can run the loader. An amd64 processor runs the
    /// firmware of its 32-bit forebear too.
    #[must_use]
    pub const fn runs_on(self, architecture: Architecture) -> bool {
        match architecture {
            Architecture::Amd64 => matches!(self, Self::Undionly | Self::EfiIa32 | Self::EfiX64),
            Architecture::Arm64 => matches!(self, Self::EfiArm32 | Self::EfiArm64),
        }
    }
}

impl fmt::Display for LoaderFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for LoaderFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The boot file of firmware that is to go on to its disk. No such file is ever served, by TFTP or HTTP: the
/// refusal is what sends the firmware on, and the name is what the person at the console reads.
pub const BOOT_FROM_DISK: &str = "boot-from-disk";

/// Option 93 of a Raspberry Pi's own boot ROM, where it tells the truth (IANA 41); most say 0.
pub const RASPBERRY_PI: u16 = 41;

/// The loader for a processor architecture type; `None` where iPXE has none (Itanium, PowerPC, …).
#[must_use]
pub const fn loader_for(client_architecture: u16) -> Option<LoaderFile> {
    match client_architecture {
        0 | 20 => Some(LoaderFile::Undionly),
        6 | 15 => Some(LoaderFile::EfiIa32),
        // 9 and 17 are EFI byte code by IANA's list; in the field, x64 firmware says 9 as often as 7.
        7 | 9 | 16 | 17 => Some(LoaderFile::EfiX64),
        10 | 18 | 21 | 23 => Some(LoaderFile::EfiArm32),
        11 | 19 | 22 | 24 | RASPBERRY_PI => Some(LoaderFile::EfiArm64),
        25 | 26 => Some(LoaderFile::EfiRiscv32),
        27 | 28 => Some(LoaderFile::EfiRiscv64),
        _ => None,
    }
}

/// Whether a processor architecture type means "boot from HTTP" (RFC 4578's registry, 15 and above).
#[must_use]
pub const fn fetches_by_http(client_architecture: u16) -> bool {
    matches!(client_architecture, 15..=20 | 23 | 24 | 26 | 28 | 30 | 38 | 40)
}

/// Whether the firmware is a PC's BIOS, for which ProxyDHCP is one offer without a second question on
/// port 4011.
#[must_use]
pub const fn is_bios(client_architecture: u16) -> bool {
    matches!(client_architecture, 0 | 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_class_has_its_loader_and_transport() {
        for (number, loader, http) in [
            (0, Some("undionly.kpxe"), false),
            (2, None, false),
            (6, Some("ipxe-efi-i386.efi"), false),
            (7, Some("ipxe-efi-x86_64.efi"), false),
            (9, Some("ipxe-efi-x86_64.efi"), false),
            (10, Some("ipxe-efi-arm32.efi"), false),
            (11, Some("ipxe-efi-arm64.efi"), false),
            (14, None, false),
            (15, Some("ipxe-efi-i386.efi"), true),
            (16, Some("ipxe-efi-x86_64.efi"), true),
            (17, Some("ipxe-efi-x86_64.efi"), true),
            (18, Some("ipxe-efi-arm32.efi"), true),
            (19, Some("ipxe-efi-arm64.efi"), true),
            (20, Some("undionly.kpxe"), true),
            (21, Some("ipxe-efi-arm32.efi"), false),
            (22, Some("ipxe-efi-arm64.efi"), false),
            (23, Some("ipxe-efi-arm32.efi"), true),
            (24, Some("ipxe-efi-arm64.efi"), true),
            (25, Some("ipxe-efi-riscv32.efi"), false),
            (26, Some("ipxe-efi-riscv32.efi"), true),
            (27, Some("ipxe-efi-riscv64.efi"), false),
            (28, Some("ipxe-efi-riscv64.efi"), true),
            (29, None, false),
            (30, None, true),
            (41, Some("ipxe-efi-arm64.efi"), false),
            (0xffff, None, false),
        ] {
            assert_eq!(loader_for(number).map(LoaderFile::name), loader, "architecture {number}");
            assert_eq!(fetches_by_http(number), http, "architecture {number}");
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = LoaderFile::ALL.map(LoaderFile::name).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), LoaderFile::ALL.len());
    }
}
