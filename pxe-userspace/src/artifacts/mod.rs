//! The files that machines boot from: where they lie, and what is missing.

mod missing;
mod store;

pub use missing::{Missing, Problem, Severity, missing};
pub use store::{OpenArtifact, READ_AHEAD, Refusal, Store, StoreError};
