//! The files that machines boot from, and the check for missing ones.

mod links;
mod missing;
mod store;

pub use links::Link;
pub use missing::{Missing, Problem, Severity, is_any_complete, missing};
pub use store::{OpenArtifact, READ_AHEAD, Refusal, Store, StoreError};
