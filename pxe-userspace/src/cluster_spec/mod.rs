//! The cluster spec: `TalosCluster`, `TalosControlPlane`, `TalosWorker` and `TalosMachine` documents
//! become an [`Inventory`], or a list of every error with file, line and field.
//!
//! ```text
//! paths ─ files ─► text ─ split ─► documents ─ tree, field, read ─► typed resources, each value with its place
//!                                              (once for each text, in parallel)
//!                  resources of all files ─ resolve ─► machines ─ check ─► Inventory
//! ```
//!
//! # Annotations of pxed
//!
//! `pxed.dev/boot-policy: auto | always | once | hold` on a `TalosMachine`, a `TalosControlPlane` or `TalosWorker`, or a
//! `TalosCluster`. The machine's own takes precedence over its role's, and the role's over the cluster's. On a role or cluster, one
//! machine of a `machines[]` list is selected by its MAC address: `pxed.dev/boot-policy.52-54-00-12-34-56: hold`.
//!
//! `pxed.dev/disk-route: auto | exit | sanboot | not-found`, in the same places: the way in which a machine that does not boot from
//! the network is sent to its disk, for firmware that needs one or the other ([`DiskRoute`](crate::model::policy::DiskRoute)).
//!
//! # Host names
//!
//! All machines of a role share one `machineSpec.meta`. DHCP hands out its host name only if exactly one machine of the cluster
//! would get it. Otherwise no machine gets it, with a warning.

mod annotations;
mod candidate;
mod check;
mod documents;
mod field;
mod files;
mod finding;
mod keys;
mod loader;
pub mod matchbox;
mod misspelling;
mod read;
mod read_role;
mod reload;
mod resolve;
mod split;
#[cfg(test)]
mod tests;
mod tree;
mod values;
mod watch;

use std::path::PathBuf;

pub use self::{
    finding::{Finding, SpecErrors},
    loader::{Loaded, Loader},
    reload::watch,
    watch::{WatchError, Watcher},
};

/// Reads files and directories once.
///
/// # Errors
///
/// All mistakes in them, in the order of files and lines.
pub fn load(paths: &[PathBuf]) -> Result<Loaded, SpecErrors> {
    Loader::new().load(paths)
}
