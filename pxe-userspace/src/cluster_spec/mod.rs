//! The cluster spec: `TalosCluster`, `TalosControlPlane`, `TalosWorker` and `TalosMachine` documents
//! become an [`Inventory`], or a list of every error with file, line and field.
//!
//! ```text
//! paths ─ files ─► text ─ split ─► documents ─ tree, field, read ─► typed resources, each value with its place
//!                                              (once for each text, in parallel)
//!                  resources of all files ─ resolve ─► machines ─ check ─► Inventory
//! ```
//!
//! # What pxed adds to the resources
//!
//! The annotation `pxed.dev/boot-policy: auto | always | once | hold` on a `TalosMachine`, a `TalosControlPlane` or
//! `TalosWorker`, or a `TalosCluster`: the machine's own goes before its role's, the role's before the cluster's. One
//! machine of a `machines[]` list is meant by its MAC address, on the role or the cluster:
//! `pxed.dev/boot-policy.52-54-00-12-34-56: hold`.
//!
//! The annotation `pxed.dev/disk-route: auto | exit | sanboot | not-found`, in the same places: which way a machine that
//! does not boot from the network is sent to its disk, for firmware that needs one or the other
//! ([`DiskRoute`](crate::model::policy::DiskRoute)).
//!
//! # Host names
//!
//! `machineSpec.meta` is one for all machines of a role. Its host name is handed out by DHCP only where exactly one
//! machine of the cluster would get it; otherwise nobody does, with a warning.

mod candidate;
mod check;
mod documents;
mod field;
mod files;
mod finding;
mod loader;
pub mod matchbox;
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
/// Everything that is wrong with them, in the order of files and lines.
pub fn load(paths: &[PathBuf]) -> Result<Loaded, SpecErrors> {
    Loader::new().load(paths)
}
