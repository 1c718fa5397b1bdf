//! The network boot programs that firmware is told to start.

use std::{fmt, sync::Arc};

use serde::{Serialize, Serializer};

use super::{architecture::Architecture, token::TOKEN_LENGTH};

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

    /// Returns the class of firmware that starts it, as a spec names it.
    #[must_use]
    pub const fn class(self) -> &'static str {
        match self {
            Self::Undionly => "bios",
            Self::EfiIa32 => "uefi-ia32",
            Self::EfiX64 => "uefi-x64",
            Self::EfiArm32 => "uefi-arm32",
            Self::EfiArm64 => "uefi-arm64",
            Self::EfiRiscv32 => "uefi-riscv32",
            Self::EfiRiscv64 => "uefi-riscv64",
        }
    }

    /// Returns the name of the build that uses no network driver but the firmware's. For a BIOS that is the usual loader.
    #[must_use]
    pub const fn firmware_driver_build(self) -> &'static str {
        match self {
            Self::Undionly => Self::Undionly.name(),
            Self::EfiIa32 => "snponly-i386.efi",
            Self::EfiX64 => "snponly-x86_64.efi",
            Self::EfiArm32 => "snponly-arm32.efi",
            Self::EfiArm64 => "snponly-arm64.efi",
            Self::EfiRiscv32 => "snponly-riscv32.efi",
            Self::EfiRiscv64 => "snponly-riscv64.efi",
        }
    }

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

    /// Returns whether iPXE, as this loader, can start the kernel of a machine of this architecture. On 32-bit UEFI it cannot start
    /// a 64-bit kernel, even on a 64-bit processor.
    #[must_use]
    pub const fn starts_kernels_of(self, architecture: Architecture) -> bool {
        match architecture {
            Architecture::Amd64 => matches!(self, Self::Undionly | Self::EfiX64),
            Architecture::Arm64 => matches!(self, Self::EfiArm64),
        }
    }

    /// Returns whether the loader is for the 32-bit UEFI that some machines of this architecture have.
    #[must_use]
    pub const fn is_32_bit_of(self, architecture: Architecture) -> bool {
        match architecture {
            Architecture::Amd64 => matches!(self, Self::EfiIa32),
            Architecture::Arm64 => matches!(self, Self::EfiArm32),
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

/// The most bytes in the name of a machine's own loader: with the longest address and port, its URL has the 127 bytes that a DHCP
/// message has room for.
pub const LOADER_NAME_LIMIT: usize = 127 - "http://255.255.255.255:65535/assets/".len();

/// The most bytes in the name of the file itself, without its directories: a machine that boots a unified kernel image gets its own loader
/// below the path of the machine.
pub const LOADER_FILE_LIMIT: usize =
    127 - "http://255.255.255.255:65535/boot/00-00-00-00-00-00/".len() - "/".len() - TOKEN_LENGTH;

/// Returns the name of a file without its directories.
#[must_use]
pub fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A loader that a client is told to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loader<'m> {
    /// The usual one for its firmware.
    Usual(LoaderFile),
    /// The file that the spec names for the machine.
    Own(&'m Arc<str>),
}

impl<'m> Loader<'m> {
    /// Returns the name of the file, relative to the artifacts directory.
    #[must_use]
    pub fn name(self) -> &'m str {
        match self {
            Self::Usual(loader) => loader.name(),
            Self::Own(name) => name,
        }
    }
}

/// The loaders that the spec names for a machine, by the class of its firmware. A class without one gets the usual loader.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct OwnLoaders {
    by_class: [Option<Arc<str>>; LoaderFile::ALL.len()],
    other: Option<Arc<str>>,
}

impl OwnLoaders {
    /// Names the loader of a class; without a name, it is the usual one. The class `None` is firmware that iPXE does not exist for.
    pub fn set(&mut self, class: Option<LoaderFile>, name: Option<Arc<str>>) {
        match class.and_then(|class| self.by_class.get_mut(class as usize)) {
            Some(slot) => *slot = name,
            None => self.other = name,
        }
    }

    /// Returns the name of the loader of a class, if the spec names one.
    #[must_use]
    pub fn get(&self, class: Option<LoaderFile>) -> Option<&Arc<str>> {
        match class {
            Some(class) => self.by_class.get(class as usize)?.as_ref(),
            None => self.other.as_ref(),
        }
    }

    /// Returns whether every class gets the usual loader.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.other.is_none() && self.by_class.iter().all(Option::is_none)
    }
}

/// A mapping from the class of firmware to the name of the file. Firmware that iPXE does not exist for is `other`.
impl Serialize for OwnLoaders {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let named = LoaderFile::ALL.into_iter().zip(&self.by_class).map(|(class, name)| (class.class(), name));
        let named = named.chain([("other", &self.other)]).filter_map(|(class, name)| Some((class, name.as_deref()?)));
        serializer.collect_map(named)
    }
}

/// Returns whether a loader is a shim, judged by its name: the first program of a chain for Secure Boot, which checks the second one and
/// starts it. Distributions install theirs as `bootx64.efi`, too.
#[must_use]
pub fn is_shim(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    name.contains("shim") || matches!(&*name, "bootx64.efi" | "bootaa64.efi")
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

    #[test]
    fn shim_is_known_by_its_name() {
        for (name, expected) in [
            ("shimx64.efi", true),
            ("debian/shimaa64.efi.signed", true),
            ("ipxe-shimx64.efi", true),
            ("SNPONLY-SHIMX64.EFI", true),
            ("EFI/BOOT/BOOTX64.EFI", true),
            ("shim/grubx64.efi", false),
            ("snponly-x86_64.efi", false),
            ("", false),
        ] {
            assert_eq!(is_shim(name), expected, "{name}");
        }
    }

    #[test]
    fn own_loader_is_that_of_its_class() {
        let mut loaders = OwnLoaders::default();
        assert!(loaders.is_empty());
        for (index, class) in LoaderFile::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, index);
            assert_eq!(loaders.get(Some(class)), None);
            loaders.set(Some(class), Some(class.class().into()));
        }
        assert_eq!(loaders.get(None), None);
        loaders.set(None, Some("other".into()));
        for class in LoaderFile::ALL {
            assert_eq!(loaders.get(Some(class)).map(|name| &**name), Some(class.class()));
        }
        assert_eq!(loaders.get(None).map(|name| &**name), Some("other"));
    }
}
