//! Boot events: what every machine did and when, kept in memory per machine.
//!
//! DHCP, TFTP and HTTP hand [`BootEvent`]s to an [`EventSink`], which never blocks. [`run`] takes them
//! from the other end: it keeps each machine's [`Stage`] and last events, concludes what the
//! [`policy`] has to know, saves that, and passes the events on to the log and to whoever follows
//! them. Everything that it decides is a function of values; only `service` and `log` do I/O.

pub mod describe;
pub mod diagnosis;
#[cfg(test)]
mod every_event;
mod fleet;
mod interner;
pub mod json;
mod log;
mod machine_record;
mod metrics;
pub mod policy;
mod record;
#[cfg(test)]
pub(crate) mod samples;
mod service;
pub mod stage;
mod state;

pub use diagnosis::{Diagnosis, diagnose};
pub use machine_record::MachineRecord;
pub use service::{Journal, run};
pub use stage::Stage;
pub use state::StateError;
