//! The files that machines boot from: which ones the inventory needs, and the one door to those that are there.

mod links;
mod missing;
mod plan;
mod store;

pub use links::Link;
pub use missing::{Missing, Problem, missing};
pub use plan::{Content, NeededBy, Severity, Wanted, is_any_complete, plan, quoted};
pub use store::{OpenArtifact, READ_AHEAD, Refusal, Store, StoreError};
