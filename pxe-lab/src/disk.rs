//! Small file systems, which become full, read-only and larger on demand.

use std::{fs, path::Path, process::Command};

use anyhow::ensure;
use tempfile::TempDir;

use crate::{namespace::output, requires::Skip};

/// The file that fills a disk.
const FILLING: &str = "filling";

/// A file system of its own, in memory. It is unmounted when it is dropped.
#[derive(Debug)]
pub struct Disk(TempDir);

impl Disk {
    /// Mounts a file system of this size (`256k`).
    ///
    /// # Errors
    ///
    /// Fails with [`Skip`] if nothing can be mounted.
    pub fn new(size: &str) -> anyhow::Result<Self> {
        let disk = Self(TempDir::new()?);
        output(
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "pxed-test"]).arg(disk.path()),
        )
        .map_err(|error| Skip(format!("needs to mount a tmpfs: {error:#}")))?;
        Ok(disk)
    }

    /// Returns its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    fn remount(&self, options: &str) -> anyhow::Result<()> {
        output(Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(self.path())).map(drop)
    }

    /// Lets nobody write to it.
    ///
    /// # Errors
    ///
    /// Fails while a file on it is open for writing.
    pub fn make_read_only(&self) -> anyhow::Result<()> {
        self.remount("ro")
    }

    /// Lets everybody write to it again.
    ///
    /// # Errors
    ///
    /// Fails with the output of `mount`.
    pub fn make_writable(&self) -> anyhow::Result<()> {
        self.remount("rw")
    }

    /// Changes its size.
    ///
    /// # Errors
    ///
    /// Fails with the output of `mount`.
    pub fn resize(&self, size: &str) -> anyhow::Result<()> {
        self.remount(&format!("size={size}"))
    }

    /// Leaves no room on it.
    ///
    /// # Errors
    ///
    /// Fails if it is larger than 64 MiB.
    pub fn fill(&self) -> anyhow::Result<()> {
        let filled = fs::write(self.path().join(FILLING), vec![0; 64 << 20]);
        ensure!(filled.is_err(), "the disk is too large");
        Ok(())
    }

    /// Makes room again.
    ///
    /// # Errors
    ///
    /// Fails if it is not full.
    pub fn empty(&self) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.path().join(FILLING))?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = output(Command::new("umount").arg("--lazy").arg(self.path())) {
            eprintln!("lab: {error:#}");
        }
    }
}
