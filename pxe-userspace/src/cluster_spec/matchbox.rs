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
//! selector that is not a MAC address, a misspelt field. Two features of Matchbox are missing: Butane is not translated to Ignition,
//! and of Go's templates only `{{.name}}` is supported.

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

/// Returns `true` if a path looks like a data directory of Matchbox.
#[must_use]
pub fn is_directory(path: &Path) -> bool {
    path.join("groups").is_dir() && path.join("profiles").is_dir()
}

/// Reads a data directory once.
///
/// # Errors
///
/// All mistakes in it, in the order of files and lines.
pub fn load(directory: &Path) -> Result<LoadedCatalog, SpecErrors> {
    read::directory(directory)
}

/// Watches the directory on a thread of its own. Each time it changes and loads without errors, the catalog is stored in `shared`.
/// If it has errors, they are logged, and the last good catalog stays in force.
///
/// # Errors
///
/// The kernel refuses a thread.
pub fn watch(directory: PathBuf, shared: SharedCatalog) -> Result<Watcher, WatchError> {
    watch::watch_source(source(directory, shared))
}

/// Returns the source that loads the directory and puts it in force.
fn source(directory: PathBuf, shared: SharedCatalog) -> Source<impl FnMut(&dyn Fn() -> bool) -> Reloaded> {
    let paths = read::SUBDIRECTORIES.map(|name| directory.join(name)).to_vec();
    let reload = move |_: &dyn Fn() -> bool| {
        reload(&directory, &shared);
        Reloaded::Done
    };
    Source { paths, files: files::all, reload }
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
