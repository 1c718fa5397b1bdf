//! An artifacts directory as pxed expects it, with real files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use tempfile::TempDir;

use crate::{
    assets::{self, Architecture, Edition},
    initramfs,
};

/// A directory with loaders, and with a kernel and an initramfs for each version and architecture, under the
/// names that talos-operator uses. It is deleted when it is dropped.
#[derive(Debug)]
pub struct Artifacts {
    directory: TempDir,
}

impl Artifacts {
    /// Creates the directory: the loaders of one edition (the installed one has none for ARM64), and the
    /// tiny test system for each pair of Talos version and architecture.
    ///
    /// # Errors
    ///
    /// Fails with [`crate::requires::Skip`] if something is not installed or cannot be fetched.
    pub fn lay_out(loaders: Edition, systems: &[(&str, Architecture)]) -> anyhow::Result<Self> {
        fs::create_dir_all(assets::cache())?;
        let artifacts = Self { directory: TempDir::new_in(assets::cache())? };
        artifacts.add("ipxe-efi-x86_64.efi", &loader(loaders, "ipxe.efi")?)?;
        artifacts.add("undionly.kpxe", &loader(loaders, "undionly.kpxe")?)?;
        for &(version, architecture) in systems {
            if architecture == Architecture::Arm64 {
                artifacts.add("ipxe-efi-arm64.efi", &loader(Edition::Newer, "ipxe-arm64.efi")?)?;
            }
            let name = architecture.name();
            artifacts.add(&format!("vmlinuz-{version}-{name}"), &initramfs::kernel(architecture)?)?;
            initramfs::write(architecture, &artifacts.path().join(format!("initramfs-{version}-{name}.xz")))?;
        }
        Ok(artifacts)
    }

    /// Adds shim and GRUB with Debian's signatures, which are not installed: `shimx64.efi` and `grubx64.efi`, by which shim starts it.
    ///
    /// # Errors
    ///
    /// Fails with [`crate::requires::Skip`] if they cannot be fetched.
    pub fn add_grub(&self) -> anyhow::Result<()> {
        let of = |package| assets::unpacked(package, Architecture::Amd64);
        self.add("shimx64.efi", &of("shim-signed")?.join("usr/lib/shim/shimx64.efi.signed"))?;
        let grub = "usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed";
        self.add("grubx64.efi", &of("grub-efi-amd64-signed")?.join(grub))
    }

    /// Adds GRUB for 32-bit UEFI, `grubnetia32.efi`, which has no signature.
    ///
    /// # Errors
    ///
    /// Fails with [`crate::requires::Skip`] if it cannot be fetched.
    pub fn add_grub_ia32(&self) -> anyhow::Result<()> {
        let unpacked = assets::unpacked("grub-efi-ia32-unsigned", Architecture::Amd64)?;
        self.add("grubnetia32.efi", &unpacked.join("usr/lib/grub/i386-efi/monolithic/grubnetia32.efi"))
    }

    /// Creates files with the right names and meaningless content, for tests that boot nothing. Each
    /// file holds its own name, repeated up to this length in bytes.
    ///
    /// # Errors
    ///
    /// Fails if they cannot be written.
    pub fn stand_ins(versions: &[&str], length: usize) -> anyhow::Result<Self> {
        let artifacts = Self { directory: TempDir::new()? };
        let mut names: Vec<_> =
            ["ipxe-efi-x86_64.efi", "ipxe-efi-arm64.efi", "undionly.kpxe"].map(str::to_owned).into();
        for version in versions {
            for architecture in ["amd64", "arm64"] {
                names.push(format!("vmlinuz-{version}-{architecture}"));
                names.push(format!("initramfs-{version}-{architecture}.xz"));
            }
        }
        for name in names {
            let content: Vec<_> = name.bytes().cycle().take(length).collect();
            fs::write(artifacts.path().join(&name), content)?;
        }
        Ok(artifacts)
    }

    /// Returns the directory's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Adds a copy of the file under this name, since pxed refuses links out of the directory.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be copied.
    pub fn add(&self, name: &str, file: &Path) -> anyhow::Result<()> {
        let destination = self.path().join(name);
        let file = fs::canonicalize(file).with_context(|| format!("no {}", file.display()))?;
        if destination.exists() || fs::hard_link(&file, &destination).is_ok() {
            return Ok(());
        }
        fs::copy(&file, destination).with_context(|| format!("cannot copy {}", file.display())).map(drop)
    }
}

/// Returns a file of iPXE's package.
fn loader(edition: Edition, name: &str) -> anyhow::Result<PathBuf> {
    Ok(match edition {
        Edition::Installed => assets::installed("ipxe", &format!("/usr/lib/ipxe/{name}"))?,
        Edition::Newer => assets::unpacked("ipxe", Architecture::Amd64)?.join("usr/lib/ipxe").join(name),
    })
}
