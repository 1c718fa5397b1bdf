//! The way in which a machine gets its kernel.

use serde::Serialize;

/// The way in which a machine gets its kernel, from `pxed.dev/boot`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootMethod {
    /// By a loader, iPXE unless the spec names another one: script or configuration, kernel, initramfs.
    #[default]
    Ipxe,
    /// UEFI loads a unified kernel image that is made for this machine: kernel, initramfs and the machine's arguments in one file.
    Uki,
    /// UEFI loads the Image Factory's unified kernel image for Secure Boot as it is. Its arguments are those of the schematic.
    FactoryUki,
}

impl BootMethod {
    /// All methods.
    pub const ALL: [Self; 3] = [Self::Ipxe, Self::Uki, Self::FactoryUki];

    /// Returns the name in the spec.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipxe => "ipxe",
            Self::Uki => "uki",
            Self::FactoryUki => "factory-uki",
        }
    }
}
