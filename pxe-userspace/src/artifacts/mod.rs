//! The files that machines boot from: which ones the inventory needs, the one door to those that are there, and what is recorded of them.

mod gate;
mod hash;
mod links;
mod manifest;
mod manifest_file;
mod missing;
mod plan;
mod plausible;
mod presence;
mod prune;
mod records;
mod refusal;
mod store;
mod talos_configs;
mod verifier;

pub use links::Link;
pub use manifest::{Entry, Identity, Manifest, NotSha256, Proof, Sha256};
pub use manifest_file::{ManifestError, OWN_DIRECTORY};
pub use missing::{Missing, Problem, missing};
pub use plan::{Content, FetchCommand, NeededBy, Severity, Wanted, is_any_complete, plan, quoted};
pub use plausible::{HEAD, implausible};
pub use presence::Presence;
pub use prune::Removed;
pub use records::{AcceptError, Accepted, Download, Records, Verdict};
pub use refusal::Refusal;
pub use store::{OpenArtifact, READ_AHEAD, Store, StoreError};
pub use talos_configs::{CONFIG_LIMIT, ConfigRefusal, TalosConfigs, config_place};
pub use verifier::Verifier;
