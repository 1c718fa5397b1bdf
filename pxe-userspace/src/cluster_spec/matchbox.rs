//! A data directory of Matchbox as a second kind of spec. Groups select machines by the labels that they send, and name the profile
//! that they boot.
//!
//! ```text
//! groups/*.json      {"profile": "talos", "selector": {"mac": "52:54:00:00:00:01"}, "metadata": {…}}
//! profiles/*.json    {"id": "talos", "boot": {"kernel": …, "initrd": […], "args": […]}, "ignition_id": …, "generic_id": …}
//! ignition/ generic/ cloud/    the files that profiles name by these ids
//! assets/            the files below /assets/
//! ```
//!
//! A group has no addresses, so its machines are not [`Machine`](crate::model::inventory::Machine)s. Another DHCP server serves them
//! and points them at our HTTP instead of Matchbox's. Groups and profiles become a [`Catalog`], which HTTP consults for machines that
//! the inventory does not have.
//!
//! Mistakes that Matchbox finds when a machine asks are found here when the directory is read: a missing profile or template, a
//! selector that is not a MAC address, a misspelt field. They have the same consequences: a group that cannot be read is skipped, and a
//! missing profile or configuration is a 404 on the routes that need it. Two features of Matchbox are missing: Butane is not translated to Ignition,
//! and of Go's templates only `{{.name}}` is supported.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    files,
    finding::{Finding, SpecErrors},
    report::{Reported, has_new},
    watch::{self, Reloaded, Request, Source, WatchError, Watcher},
};
use crate::model::finding::SharedSpecFaults;

mod catalog;
mod json;
mod read;
mod template;

pub use self::{
    catalog::{Catalog, Group, Labels, LoadedCatalog, NetBoot, Profile, SharedCatalog},
    template::{Template, text_of},
};

/// Returns `true` if a path looks like a data directory of Matchbox.
#[must_use]
pub fn is_directory(path: &Path) -> bool {
    path.join("groups").is_dir() && path.join("profiles").is_dir()
}

/// Reads a data directory once, strictly.
///
/// # Errors
///
/// All mistakes in it, in the order of files and lines.
pub fn load(directory: &Path) -> Result<LoadedCatalog, SpecErrors> {
    read(directory, &Catalog::default()).strictly()
}

/// Reads a data directory. What has errors is left out, or stays in the version that is in force.
#[must_use]
pub fn read(directory: &Path, in_force: &Catalog) -> LoadedCatalog {
    read::directory(directory, in_force)
}

/// A data directory that is to be watched.
#[derive(Debug)]
pub struct Watched {
    directory: PathBuf,
    /// The catalog in force.
    catalog: SharedCatalog,
    /// Its errors.
    faults: SharedSpecFaults,
    /// The warnings that have been logged.
    warnings: Vec<Finding>,
    /// The content in force.
    fingerprint: Option<u64>,
    is_strict: bool,
}

impl Watched {
    /// Puts the first load in force. If `is_strict`, a later one with any error leaves the catalog as it is.
    #[must_use]
    pub fn new(
        directory: PathBuf,
        first: LoadedCatalog,
        catalog: SharedCatalog,
        faults: SharedSpecFaults,
        is_strict: bool,
    ) -> Self {
        let LoadedCatalog { catalog: loaded, faults: found, warnings, fingerprint } = first;
        catalog.store(Arc::new(loaded));
        faults.store(Arc::new(found));
        Self { directory, catalog, faults, warnings, fingerprint: Some(fingerprint), is_strict }
    }
}

/// Watches the directory on a thread of its own. Each time its content changes, the catalog and its errors are stored.
///
/// # Errors
///
/// The kernel refuses a thread.
pub fn watch(watched: Watched) -> Result<Watcher, WatchError> {
    watch::watch_source(source(watched))
}

/// Returns the source that loads the directory and puts it in force.
fn source(mut watched: Watched) -> Source<impl FnMut(&Request<'_>) -> Reloaded> {
    let paths = read::SUBDIRECTORIES.map(|name| watched.directory.join(name)).to_vec();
    let mut reported = Reported::new("Matchbox directory", std::mem::take(&mut watched.warnings));
    let reload = move |request: &Request<'_>| reload(&mut watched, &mut reported, request);
    Source { what: "loading the Matchbox directory", paths, files: files::all, reload }
}

fn reload(watched: &mut Watched, reported: &mut Reported, request: &Request<'_>) -> Reloaded {
    let Watched { directory, catalog: shared, faults: shared_faults, warnings: _, fingerprint, is_strict } = watched;
    let before = shared.load_full();
    let loaded = read::directory(directory, &before);
    if *fingerprint == Some(loaded.fingerprint) {
        if request.is_asked {
            tracing::info!("Matchbox directory is unchanged");
        }
        return Reloaded::Done;
    }
    // Files that are being replaced may look wrong, or be gone for a moment.
    let is_gone = |group: &Arc<Group>| !loaded.catalog.groups().iter().any(|now| now.id == group.id);
    let is_doubtful = has_new(&loaded.faults, &shared_faults.load()) || before.groups().iter().any(is_gone);
    if is_doubtful && request.is_resting && !(request.have_rested)() {
        return Reloaded::PutOff;
    }
    let LoadedCatalog { catalog, faults, warnings, fingerprint: now } = loaded;
    reported.warnings(&warnings);
    let errors = faults.faults.len();
    let former_faults = shared_faults.swap(Arc::new(faults));
    reported.faults(&former_faults, &shared_faults.load());
    if *is_strict && errors > 0 {
        tracing::error!(
            errors,
            "Matchbox directory not loaded: with --strict, the last one without errors stays in force"
        );
        return Reloaded::Done;
    }
    *fingerprint = Some(now);
    let (groups, profiles) = (catalog.groups().len(), catalog.profiles().len());
    shared.store(Arc::new(catalog));
    tracing::info!(groups, profiles, errors, "Matchbox directory loaded");
    Reloaded::Done
}

#[cfg(test)]
mod isolation;
#[cfg(test)]
mod tests;
