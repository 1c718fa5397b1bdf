//! Firmware, kernels and loaders of two Debian releases: installed packages, and newer ones.
//!
//! The newer ones are fetched with a private apt configuration and unpacked into a cache below the
//! target directory, not installed on the system.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use crate::{
    apt::{Apt, Release},
    build, requires,
    requires::Skip,
};

/// The Debian release whose packages are fetched.
const RELEASE: Release = Release { name: "trixie", architectures: &["amd64", "arm64"], sources: false };

/// The edition of firmware and loaders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edition {
    /// Debian 12 as installed: OVMF 2022.11, iPXE 1.0.0 of 2019.
    Installed,
    /// From Debian 13: OVMF 2025.02, iPXE 1.21.1.
    Newer,
}

/// A processor architecture, as Debian and Talos spell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// AArch64.
    Arm64,
}

impl Architecture {
    /// Returns `amd64` or `arm64`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}

/// Returns the directory of fetched packages.
#[must_use]
pub fn cache() -> PathBuf {
    build::target().join("lab-cache")
}

/// Returns the path of a file of an installed Debian package.
///
/// # Errors
///
/// Fails with [`Skip`], which names the package, if the file is missing.
pub fn installed(package: &str, path: &str) -> Result<PathBuf, Skip> {
    let path = PathBuf::from(path);
    if path.is_file() { Ok(path) } else { Err(Skip(format!("{} is missing (package {package})", path.display()))) }
}

/// Returns the unpacked files of a package of the newer release, which the first call fetches.
///
/// # Errors
///
/// Fails with [`Skip`] if it cannot be fetched: no apt, no network.
pub fn unpacked(package: &str, architecture: Architecture) -> anyhow::Result<PathBuf> {
    let architecture = architecture.name();
    let cache = cache();
    let done = cache.join(RELEASE.name).join(format!("{package}_{architecture}"));
    let _lock = lock(&cache)?;
    if !done.exists() {
        requires::tools(&["apt-get", "apt-cache", "dpkg"])?;
        let fetched = Apt::new(&cache.join("apt"), RELEASE)?.unpack(package, architecture, &done);
        fetched.map_err(|error| Skip(format!("cannot fetch {package}/{}: {error:#}", RELEASE.name)))?;
    }
    Ok(done)
}

/// Locks the cache, so that only one of all test programs fetches at a time.
fn lock(cache: &Path) -> anyhow::Result<File> {
    fs::create_dir_all(cache.join(RELEASE.name))?;
    let file = File::create(cache.join("lock"))?;
    file.lock()?;
    Ok(file)
}
