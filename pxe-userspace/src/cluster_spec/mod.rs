//! The cluster spec: `TalosCluster`, `TalosControlPlane`, `TalosWorker` and `TalosMachine` documents
//! become an [`Inventory`] of all machines without errors, and a list of every error with file, line and field.
//!
//! ```text
//! paths ─ files ─► text ─ split ─► documents ─ tree, field, read ─► typed resources, each value with its place
//!                                              (once for each text, in parallel)
//!                  resources of all files ─ last_good ─► those with errors in their last good version
//!                                         ─ resolve ─► machines ─ check, contest ─► Inventory, without those with errors
//! ```
//!
//! Objects of the API of Kubernetes go the same way: each is a document whose place is its name, such as `TalosCluster ns/name`.
//!
//! # Annotations of pxed
//!
//! The operator's resources have no field for some facts about a machine, and the API server drops fields that it does not know. So
//! annotations carry them: `pxed.dev/boot-policy`, `disk-route`, `boot`, `loader`, `talos-config`, `vlans`, `hostname` and
//! `additional-mac-addresses`, on a `TalosMachine`; on a `TalosControlPlane`, a `TalosWorker` or a `TalosCluster` all but the last two, for
//! all their machines.
//!
//! Such a resource selects one of its machines by MAC or IP address in `pxed.dev/machines`, whose text is a mapping in YAML:
//!
//! ```yaml
//! pxed.dev/machines: |
//!   52:54:00:12:34:56: {additionalMacAddresses: [52:54:00:12:34:57], loader: snponly}
//!   10.0.0.12: {bootPolicy: hold, hostname: storage-1}
//! ```
//!
//! For one setting, `pxed.dev/boot-policy.52-54-00-12-34-56: hold` does the same. The nearest annotation counts: that of the machine's
//! `TalosMachine`; that for the machine on its role, then on its cluster; that for all machines of its role, then of its cluster. A
//! difference between two annotations for the machine itself is pointed out.
//!
//! # Host names
//!
//! All machines of a role share one `machineSpec.meta`. DHCP hands out its host name only if exactly one machine of the cluster
//! would get it. Otherwise no machine gets it, with a warning. An annotation with a host name takes precedence over `meta`.

mod annotations;
mod apply_settings;
mod assemble;
mod boot_check;
mod candidate;
mod check;
mod contest;
mod documents;
mod faults;
mod field;
mod files;
mod finding;
mod json_tree;
mod keys;
mod last_good;
mod loader;
mod machine_settings;
pub mod matchbox;
pub(crate) mod misspelling;
mod objects;
mod placed;
mod read;
mod read_loader;
mod read_role;
mod read_settings;
mod reload;
mod report;
mod resolve;
mod settings;
mod split;
#[cfg(test)]
mod tests;
mod tree;
mod unique;
mod unused_settings;
mod values;
mod vlans;
mod watch;

use std::path::PathBuf;

pub use self::{
    apply_settings::TalosConfigs,
    finding::{Finding, SpecErrors},
    loader::{Loaded, Loader},
    objects::Objects,
    reload::{Watched, watch},
    values::machine_mac,
    watch::{UntilLoaded, WatchError, Watcher},
};

/// Reads files and directories once, strictly.
///
/// # Errors
///
/// All mistakes in them, in the order of files and lines.
pub fn load(paths: &[PathBuf]) -> Result<Loaded, SpecErrors> {
    Loader::new().load(paths).strictly()
}
