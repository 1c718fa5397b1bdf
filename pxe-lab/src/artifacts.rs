//! An artifacts directory as pxed wants it, with real files.

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

/// A directory with loaders, and for each version and architecture a kernel and an initramfs, by the
/// names that talos-operator uses. Deleted when dropped.
#[derive(Debug)]
pub struct Artifacts {
    directory: TempDir,
}

impl Artifacts {
    /// Lays it out: the loaders of one edition (the installed one has none for ARM64), and for each
    /// pair of Talos version and architecture our tiny system.
    ///
    /// # Errors
    ///
    /// [`crate::requires::Skip`] when something is not installed or cannot be fetched.
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

    /// Stand-ins of the right names whose content is of no matter, for tests that boot nothing. Each
    /// file holds its own name, repeated to this length in bytes.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
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

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Adds a file under this name: a real file, for links out of the directory are refused.
    ///
    /// # Errors
    ///
    /// When it cannot be copied.
    pub fn add(&self, name: &str, file: &Path) -> anyhow::Result<()> {
        let destination = self.path().join(name);
        let file = fs::canonicalize(file).with_context(|| format!("no {}", file.display()))?;
        if destination.exists() || fs::hard_link(&file, &destination).is_ok() {
            return Ok(());
        }
        fs::copy(&file, destination).with_context(|| format!("cannot copy {}", file.display())).map(drop)
    }
}

/// A file of iPXE's package.
fn loader(edition: Edition, name: &str) -> anyhow::Result<PathBuf> {
    Ok(match edition {
        Edition::Installed => assets::installed("ipxe", &format!("/usr/lib/ipxe/{name}"))?,
        Edition::Newer => assets::unpacked("ipxe", Architecture::Amd64)?.join("usr/lib/ipxe").join(name),
    })
}
