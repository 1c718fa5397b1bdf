//! The files that machines boot from: their names, where they lie, what is missing.

pub mod store;

pub use store::{OpenArtifact, Refusal, Store, StoreError};
