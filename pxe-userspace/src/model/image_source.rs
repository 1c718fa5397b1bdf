//! The upstream file that an artifact comes from.

use std::sync::Arc;

use super::{architecture::Architecture, artifact_names::PLAIN_SCHEMATIC};

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
    /// iPXE's shim, which Microsoft has signed. No checksum is published.
    IpxeShim {
        /// The name: `ipxe-shimx64.efi`, `ipxe-shimaa64.efi`.
        file: Arc<str>,
    },
    /// A build of iPXE that is signed for its shim: a file in the archive of iPXE's release. No checksum is published.
    IpxeSigned {
        /// The path in the archive: `ipxeboot/x86_64-sb/ipxe.efi`.
        member: Arc<str>,
    },
}

impl ImageSource {
    /// Returns the source of the kernel of a version.
    #[must_use]
    pub fn kernel(schematic: Option<&Arc<str>>, version: &Arc<str>, architecture: Architecture) -> Self {
        match schematic {
            Some(schematic) => Self::factory(schematic, version, format!("kernel-{architecture}")),
            None => Self::release(version, format!("vmlinuz-{architecture}")),
        }
    }

    /// Returns the source of the initramfs of a version.
    #[must_use]
    pub fn initramfs(schematic: Option<&Arc<str>>, version: &Arc<str>, architecture: Architecture) -> Self {
        let file = format!("initramfs-{architecture}.xz");
        match schematic {
            Some(schematic) => Self::factory(schematic, version, file),
            None => Self::release(version, file),
        }
    }

    /// Returns the source of the unified kernel image of a version. Only the Image Factory has one, also for the plain schematic.
    #[must_use]
    pub fn uki(schematic: Option<&Arc<str>>, version: &Arc<str>, architecture: Architecture) -> Self {
        Self::factory_or_plain(schematic, version, format!("metal-{architecture}-uki.efi"))
    }

    /// Returns the source of the unified kernel image for Secure Boot of a version. Only the Image Factory has one, also for the plain
    /// schematic.
    #[must_use]
    pub fn secure_boot_uki(schematic: Option<&Arc<str>>, version: &Arc<str>, architecture: Architecture) -> Self {
        Self::factory_or_plain(schematic, version, format!("metal-{architecture}-secureboot-uki.efi"))
    }

    /// Returns the source of a loader by its path in the artifacts directory, or `None` if the name is of the user's choice. The names
    /// are those of the usual loaders and of their variants ([`LoaderFile`](super::loader::LoaderFile)), and iPXE's own.
    #[must_use]
    pub fn loader(path: &str) -> Option<Self> {
        let build = match path {
            "ipxe-efi-x86_64.efi" | "ipxe.efi" => "x86_64-efi/ipxe.efi",
            "ipxe-efi-arm64.efi" => "arm64-efi/ipxe.efi",
            "ipxe-efi-i386.efi" => "i386-efi/ipxe.efi",
            "snponly-x86_64.efi" | "snponly.efi" => "x86_64-efi/snponly.efi",
            "snponly-arm64.efi" => "arm64-efi/snponly.efi",
            "snponly-i386.efi" => "i386-efi/snponly.efi",
            "undionly.kpxe" | "ipxe.pxe" => path,
            _ => return None,
        };
        Some(Self::Ipxe { path: build.into() })
    }

    fn release(version: &Arc<str>, file: String) -> Self {
        Self::TalosRelease { version: Arc::clone(version), file: file.into() }
    }

    fn factory(schematic: &Arc<str>, version: &Arc<str>, file: String) -> Self {
        Self::Factory { schematic: Arc::clone(schematic), version: Arc::clone(version), file: file.into() }
    }

    fn factory_or_plain(schematic: Option<&Arc<str>>, version: &Arc<str>, file: String) -> Self {
        match schematic {
            Some(schematic) => Self::factory(schematic, version, file),
            None => Self::factory(&PLAIN_SCHEMATIC.into(), version, file),
        }
    }

    /// Returns the URL at the given upstreams: that of the file, or of the archive that has it ([`Self::member`]).
    #[must_use]
    pub fn url(&self, upstreams: &Upstreams) -> String {
        let Upstreams { talos, factory, ipxe, ipxe_releases } = upstreams;
        match self {
            Self::TalosRelease { version, file } => format!("{}/{version}/{file}", base(talos)),
            Self::Factory { schematic, version, file } => {
                format!("{}/image/{schematic}/{version}/{file}", base(factory))
            }
            Self::Ipxe { path } => format!("{}/{path}", base(ipxe)),
            Self::IpxeShim { file } => format!("{}/shim/releases/latest/download/{file}", base(ipxe_releases)),
            Self::IpxeSigned { .. } => format!("{}/ipxe/releases/latest/download/ipxeboot.tar.gz", base(ipxe_releases)),
        }
    }

    /// Returns the path of the file in the archive that the URL is of, or `None` if the URL is that of the file itself.
    #[must_use]
    pub fn member(&self) -> Option<&Arc<str>> {
        if let Self::IpxeSigned { member } = self { Some(member) } else { None }
    }
}

fn base(url: &str) -> &str {
    url.trim_end_matches('/')
}

/// The addresses of the upstreams or of their mirrors: URLs below which their files have the upstreams' own paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstreams {
    /// The releases of Talos, by version (`--talos-url`).
    pub talos: Arc<str>,
    /// The Image Factory (`--factory-url`).
    pub factory: Arc<str>,
    /// The builds of iPXE (`--ipxe-url`).
    pub ipxe: Arc<str>,
    /// The releases of iPXE and of its shim, by project (`--ipxe-releases-url`).
    pub ipxe_releases: Arc<str>,
}

impl Default for Upstreams {
    fn default() -> Self {
        Self {
            talos: "https://github.com/siderolabs/talos/releases/download".into(),
            factory: "https://factory.talos.dev".into(),
            ipxe: "https://boot.ipxe.org".into(),
            ipxe_releases: "https://github.com/ipxe".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_below_the_mirror_with_or_without_a_slash() {
        let (schematic, version): (Arc<str>, Arc<str>) = ("ab12".into(), "v1.13.0".into());
        let source = ImageSource::uki(Some(&schematic), &version, Architecture::Arm64);
        for factory in ["http://mirror:8080/factory", "http://mirror:8080/factory/"] {
            let upstreams = Upstreams { factory: factory.into(), ..Upstreams::default() };
            assert_eq!(source.url(&upstreams), "http://mirror:8080/factory/image/ab12/v1.13.0/metal-arm64-uki.efi");
        }
    }

    #[test]
    fn plain_release_has_its_unified_images_from_the_factory() {
        let version: Arc<str> = "v1.13.0".into();
        let url = |source: ImageSource| source.url(&Upstreams::default());
        let factory = format!("https://factory.talos.dev/image/{PLAIN_SCHEMATIC}/v1.13.0");
        let (amd64, arm64) = (Architecture::Amd64, Architecture::Arm64);
        assert_eq!(url(ImageSource::uki(None, &version, amd64)), format!("{factory}/metal-amd64-uki.efi"));
        assert_eq!(
            url(ImageSource::secure_boot_uki(None, &version, arm64)),
            format!("{factory}/metal-arm64-secureboot-uki.efi")
        );
        let releases = "https://github.com/siderolabs/talos/releases/download/v1.13.0";
        assert_eq!(url(ImageSource::kernel(None, &version, amd64)), format!("{releases}/vmlinuz-amd64"));
        assert_eq!(url(ImageSource::initramfs(None, &version, arm64)), format!("{releases}/initramfs-arm64.xz"));
    }
}
