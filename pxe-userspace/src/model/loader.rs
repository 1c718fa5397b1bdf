//! The network boot programs that firmware is told to start.

use std::fmt;

use serde::{Serialize, Serializer};

use super::architecture::Architecture;

/// A network boot program. Its name is that of its file in the artifacts directory.
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
    /// All loaders that a client can be told to fetch.
    pub const ALL: [Self; 7] = [
        Self::Undionly,
        Self::EfiIa32,
        Self::EfiX64,
        Self::EfiArm32,
        Self::EfiArm64,
        Self::EfiRiscv32,
        Self::EfiRiscv64,
    ];

    /// Returns the name of the file, relative to the artifacts directory.
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

    /// Returns the UEFI loader for machines of this architecture.
    #[must_use]
    pub const fn efi_for(architecture: Architecture) -> Self {
        match architecture {
            Architecture::Amd64 => Self::EfiX64,
            Architecture::Arm64 => Self::EfiArm64,
        }
    }

    /// Returns the loader for firmware that does not name its architecture. PXE ROMs that send neither option 93 nor an
    /// architecture in option 60 are older than both, so on a PC they are BIOS.
    #[must_use]
    pub const fn for_machine(architecture: Architecture) -> Self {
        match architecture {
            Architecture::Amd64 => Self::Undionly,
            Architecture::Arm64 => Self::EfiArm64,
        }
    }

    /// Returns whether a machine of this architecture can run the loader. An amd64 machine may have 32-bit firmware.
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

/// The boot file that is named to firmware that shall boot from its disk. It is never served, by TFTP or HTTP: the refusal
/// makes the firmware try its next boot entry, and the person at the console reads the name.
pub const BOOT_FROM_DISK: &str = "boot-from-disk";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loader_names_are_unique() {
        let mut names: Vec<_> = LoaderFile::ALL.map(LoaderFile::name).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), LoaderFile::ALL.len());
    }
}
