//! The upstream file that an artifact comes from.

use std::sync::Arc;

use super::architecture::Architecture;

/// The upstream file that an artifact comes from, without the address of a server: sites may use mirrors.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ImageSource {
    /// A file of a Talos release, whose checksums are published next to it (`sha256sum.txt`, `sha512sum.txt`).
    TalosRelease {
        /// The version, with its `v`.
        version: Arc<str>,
        /// The name: `vmlinuz-amd64`, `initramfs-arm64.xz`.
        file: Arc<str>,
    },
    /// A file that the Image Factory makes. No checksum is published.
    Factory {
        /// The schematic.
        schematic: Arc<str>,
        /// The version, with its `v`.
        version: Arc<str>,
        /// The name: `kernel-amd64`, `initramfs-amd64.xz`, `metal-amd64-uki.efi`.
        file: Arc<str>,
    },
    /// A build of iPXE, by its path below the download server's root: `x86_64-efi/ipxe.efi`. No checksum is published.
    Ipxe {
        /// The path.
        path: Arc<str>,
    },
}

impl ImageSource {
    /// Returns the source of the kernel of a version.
    #[must_use]
    pub fn kernel(schematic: Option<&Arc<str>>, version: &Arc<str>, architecture: Architecture) -> Self {
        let version = Arc::clone(version);
        match schematic {
            Some(schematic) => Self::Factory {
                schematic: Arc::clone(schematic),
                version,
                file: format!("kernel-{architecture}").into(),
            },
            None => Self::TalosRelease { version, file: format!("vmlinuz-{architecture}").into() },
        }
    }

    /// Returns the source of the initramfs of a version.
    #[must_use]
    pub fn initramfs(schematic: Option<&Arc<str>>, version: &Arc<str>, architecture: Architecture) -> Self {
        let (version, file) = (Arc::clone(version), format!("initramfs-{architecture}.xz").into());
        match schematic {
            Some(schematic) => Self::Factory { schematic: Arc::clone(schematic), version, file },
            None => Self::TalosRelease { version, file },
        }
    }
}
