//! The machine configurations of Talos: one file for all machines, or a directory in which the spec names files. They contain secrets,
//! so they are never below the artifacts directory, which anybody may read.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use pxe_common::MacAddr;

use super::{
    refusal::Refusal,
    store::{OpenArtifact, Store, open_host},
};
use crate::model::{
    failure::CHANGED,
    inventory::Inventory,
    talos_config::{ConfigPlace, TalosConfig},
};

/// The longest machine configuration, in bytes. Talos' own examples have 20 kB.
pub const CONFIG_LIMIT: u64 = 4 << 20;

/// The machine configurations of `--talos-config`.
#[derive(Debug)]
pub enum TalosConfigs {
    /// One file for all machines.
    File(PathBuf),
    /// A directory in which the spec names files.
    Directory(Store),
}

/// The reason why a machine configuration is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigRefusal {
    /// The refusal of the file system, if it is one.
    pub refusal: Option<Refusal>,
    /// The reason for a client, which need not know our directories. Talos logs its first 32 bytes.
    pub told: &'static str,
    /// The reason for a person, with the path.
    pub reason: String,
}

/// Looks at the path of `--talos-config`. `artifacts` is the directory that it must not be in.
///
/// # Errors
///
/// Returns what is wrong with it and what to do, if it is neither a file nor a directory, or in the artifacts directory.
pub fn config_place(path: &Path, artifacts: Option<&Path>, http_port: u16) -> Result<ConfigPlace, String> {
    let option = format!("--talos-config {}", path.display());
    let failed = |error: io::Error| format!("{option}: {error}: name an existing file or directory");
    let canonical = path.canonicalize().map_err(failed)?;
    let kind = canonical.metadata().map_err(failed)?.file_type();
    if !kind.is_file() && !kind.is_dir() {
        return Err(format!("{option} is neither a file nor a directory: name one of the two"));
    }
    if let Some(artifacts) = artifacts
        && let Ok(root) = artifacts.canonicalize()
        && canonical.starts_with(&root)
    {
        return Err(format!(
            "{option} is in the artifacts directory {}, which every machine may read: machine configurations contain secrets, so move it \
             elsewhere",
            artifacts.display()
        ));
    }
    Ok(ConfigPlace { path: path.into(), is_directory: kind.is_dir(), http_port })
}

impl TalosConfigs {
    /// Returns the configurations at a place.
    #[must_use]
    pub fn at(place: &ConfigPlace) -> Self {
        let path = place.path.to_path_buf();
        if place.is_directory { Self::Directory(Store::without_stand_ins(path)) } else { Self::File(path) }
    }

    /// Returns the path of a machine's configuration.
    #[must_use]
    pub fn path(&self, config: &TalosConfig) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Directory(store) => store.root().join(name(config)),
        }
    }

    /// Opens a machine's configuration. Each request opens it, so that a file that was replaced counts at once.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigRefusal`] if it cannot be opened, or if no machine configuration has its length.
    pub fn open(&self, config: &TalosConfig) -> Result<OpenArtifact, ConfigRefusal> {
        let opened = match self {
            // The path is the operator's, so symbolic links may lead anywhere.
            Self::File(path) => open_host(path).map_err(|refusal| (refusal, refusal.reason().into())),
            Self::Directory(store) => {
                let name = name(config).as_bytes();
                store.open(name).map_err(|refusal| (refusal, reason(store, name, refusal)))
            }
        };
        let refused = |refusal, told, reason: Cow<'_, str>| {
            Err(ConfigRefusal { refusal, told, reason: format!("{}: {reason}", self.path(config).display()) })
        };
        match opened {
            Err((refusal, reason)) => refused(Some(refusal), "no machine configuration", reason),
            Ok(file) if file.length == 0 => refused(None, "empty machine configuration", "the file is empty".into()),
            Ok(file) if file.length > CONFIG_LIMIT => {
                let reason = format!("the file has {} bytes, and {CONFIG_LIMIT} are allowed", file.length);
                refused(None, "machine configuration too long", reason.into())
            }
            Ok(file) => Ok(file),
        }
    }

    /// Reads a machine's configuration that was opened before, waiting for the disk.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigRefusal`] if it cannot be read, or somebody wrote to it meanwhile.
    pub fn read(&self, config: &TalosConfig, file: &OpenArtifact) -> Result<Vec<u8>, ConfigRefusal> {
        let bytes = file.read_all().map_err(|error| error.to_string());
        match bytes {
            Ok(bytes) if file.is_unchanged() && bytes.len() as u64 == file.length => Ok(bytes),
            read => {
                let why = read.err().map_or(CHANGED.into(), Cow::from);
                let reason = format!("{}: {why}", self.path(config).display());
                let refusal = Some(Refusal::Unreadable);
                Err(ConfigRefusal { refusal, told: "machine configuration unreadable", reason })
            }
        }
    }

    /// Returns a message for each file that machines of the inventory need and that cannot be served.
    #[must_use]
    pub fn missing(&self, inventory: &Inventory) -> Vec<String> {
        let mut needed: BTreeMap<&TalosConfig, (MacAddr, usize)> = BTreeMap::new();
        for machine in inventory.machines() {
            if let Some(config) = &machine.talos_config {
                needed.entry(config).or_insert((machine.mac, 0)).1 += 1;
            }
        }
        let problem = |(config, (first, machines)): (&TalosConfig, (MacAddr, usize))| {
            let ConfigRefusal { reason, .. } = self.open(config).err()?;
            let others = if machines > 1 { format!(" and {} more", machines - 1) } else { String::new() };
            Some(format!(
                "{reason} (the machine configuration of {first}{others}): without it, Talos asks again and again. No restart is needed \
                 when it is there"
            ))
        };
        needed.into_iter().filter_map(problem).collect()
    }
}

/// Returns the reason of a refusal in the words for this directory.
fn reason(store: &Store, name: &[u8], refusal: Refusal) -> Cow<'static, str> {
    const OUTSIDE: &str = "the path leads out of the directory of --talos-config";
    match (refusal, store.last_link(name)) {
        (Refusal::Outside, Some(link)) => format!("{OUTSIDE}: {link}").into(),
        (Refusal::Outside, None) => OUTSIDE.into(),
        _ => store.reason(name, refusal),
    }
}

/// Returns the name of a file below the directory.
fn name(config: &TalosConfig) -> &str {
    config.file.as_deref().unwrap_or_default()
}

#[cfg(test)]
#[path = "talos_configs/tests.rs"]
mod tests;
