//! Boot events: what every machine did and when, kept in memory per machine.

pub mod event;
pub mod policy;

pub use event::{BootEvent, EventKind, EventSink};
