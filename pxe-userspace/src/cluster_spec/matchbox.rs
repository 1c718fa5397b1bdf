//! A data directory of Matchbox as a second kind of spec: groups select machines by what these say of themselves, and
//! name the profile that they boot.
//!
//! ```text
//! groups/*.json      {"profile": "talos", "selector": {"mac": "52:54:00:00:00:01"}, "metadata": {…}}
//! profiles/*.json    {"id": "talos", "boot": {"kernel": …, "initrd": […], "args": […]}, "ignition_id": …, "generic_id": …}
//! ignition/ generic/ cloud/    what profiles name by these ids
//! assets/            the files below /assets/
//! ```
//!
//! A group says nothing of addresses, so its machines are no [`Machine`](crate::model::inventory::Machine)s: DHCP is left to
//! the server that they have, which points them at our HTTP instead of Matchbox's. They become a [`Catalog`], a value
//! of its own that HTTP asks for machines that the inventory does not have.
//!
//! Where Matchbox finds a mistake when a machine asks, it is found here when the directory is read: a profile or a
//! template that is not there, a selector that is no MAC address, a misspelt field. Two things it does are not done:
//! Butane is not translated to Ignition, and of Go's templates only `{{.name}}` is understood.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    files,
    finding::SpecErrors,
    watch::{self, Reloaded, Source, WatchError, Watcher},
};

mod catalog;
mod json;
mod read;
mod template;

pub use self::{
    catalog::{Catalog, Group, Labels, LoadedCatalog, NetBoot, Profile, SharedCatalog},
    template::{Template, text_of},
};

/// Whether a path looks like a data directory of Matchbox.
#[must_use]
pub fn is_directory(path: &Path) -> bool {
    path.join("groups").is_dir() && path.join("profiles").is_dir()
}

/// Reads a data directory once.
///
/// # Errors
///
/// Everything that is wrong with it, in the order of files and lines.
pub fn load(directory: &Path) -> Result<LoadedCatalog, SpecErrors> {
    read::directory(directory)
}

/// Watches the directory on a thread of its own. Each time it changes and loads without errors, the catalog is stored in
/// `shared`; else what is wrong is logged, and the last good one stays in force.
///
/// # Errors
///
/// The kernel refuses a thread.
pub fn watch(directory: PathBuf, shared: SharedCatalog) -> Result<Watcher, WatchError> {
    let paths = read::SUBDIRECTORIES.map(|name| directory.join(name)).to_vec();
    let reload = move |_: &dyn Fn() -> bool| {
        reload(&directory, &shared);
        Reloaded::Done
    };
    watch::watch_source(Source { paths, files: files::all, reload })
}

fn reload(directory: &Path, shared: &SharedCatalog) {
    match load(directory) {
        Ok(LoadedCatalog { catalog, warnings }) => {
            watch::log_all(&warnings, |finding| tracing::warn!("{finding}"));
            let (groups, profiles) = (catalog.groups().len(), catalog.profiles().len());
            shared.store(Arc::new(catalog));
            tracing::info!(groups, profiles, "Matchbox directory loaded");
        }
        Err(SpecErrors { errors, warnings: _ }) => {
            watch::log_all(&errors, |finding| tracing::error!("{finding}"));
            tracing::error!(errors = errors.len(), "Matchbox directory not loaded: the last good one stays in force");
        }
    }
}

#[cfg(test)]
mod tests;
