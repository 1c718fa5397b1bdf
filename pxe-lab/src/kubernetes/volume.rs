//! The volume by which a kubelet gives a pod its service account.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use tempfile::TempDir;

use super::{identity::Identity, kubeconfig::Account};

/// The link to the files that are in force, which the kubelet replaces by another.
const DATA: &str = "..data";

/// The files `token`, `ca.crt` and `namespace`, all of which change at once.
#[derive(Debug)]
pub struct ServiceAccountVolume {
    directory: TempDir,
    files: [(&'static str, String); 3],
    /// The number of changes, and the directory of the last.
    changes: usize,
    in_force: Option<PathBuf>,
}

impl ServiceAccountVolume {
    /// Makes the volume of an account.
    ///
    /// # Errors
    ///
    /// Fails if its files cannot be read or written.
    pub fn new(account: &Account) -> anyhow::Result<Self> {
        let authority = fs::read_to_string(account.kubeconfig.with_file_name("authority.pem"))?;
        let token = fs::read_to_string(&account.token)?;
        let files = [("token", token), ("ca.crt", authority), ("namespace", account.namespace.clone())];
        let mut volume = Self { directory: TempDir::new()?, files, changes: 0, in_force: None };
        volume.publish()?;
        for (name, _) in &volume.files {
            symlink(Path::new(DATA).join(name), volume.path().join(name))?;
        }
        Ok(volume)
    }

    /// Returns the directory that a pod has at `/var/run/secrets/kubernetes.io/serviceaccount`.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Replaces the token.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be written.
    pub fn set_token(&mut self, token: &str) -> anyhow::Result<()> {
        self.files[0].1 = token.to_owned();
        self.publish()
    }

    /// Replaces the authority by another, and returns the one of before.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be made or written.
    pub fn set_foreign_authority(&mut self) -> anyhow::Result<String> {
        let other = TempDir::new()?;
        let foreign = fs::read_to_string(Identity::new(other.path(), "192.0.2.1")?.file("authority.pem"))?;
        let before = std::mem::replace(&mut self.files[1].1, foreign);
        self.publish()?;
        Ok(before)
    }

    /// Replaces the authority.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be written.
    pub fn set_authority(&mut self, authority: String) -> anyhow::Result<()> {
        self.files[1].1 = authority;
        self.publish()
    }

    fn publish(&mut self) -> anyhow::Result<()> {
        self.changes += 1;
        let name = format!("..{}", self.changes);
        let directory = self.path().join(&name);
        fs::create_dir(&directory)?;
        for (name, text) in &self.files {
            fs::write(directory.join(name), text)?;
        }
        let next = self.path().join("..data_tmp");
        symlink(&name, &next)?;
        fs::rename(&next, self.path().join(DATA)).context("cannot replace the files")?;
        match self.in_force.replace(directory) {
            Some(before) => fs::remove_dir_all(before).context("cannot delete the files of before"),
            None => Ok(()),
        }
    }
}
