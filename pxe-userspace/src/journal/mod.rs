//! Boot events: what every machine did and when, kept in memory per machine.
//!
//! DHCP, TFTP and HTTP hand [`BootEvent`]s to an [`EventSink`], which never blocks. [`run`] takes them
//! from the other end: it keeps each machine's [`Stage`] and last events, concludes what the
//! [`policy`] has to know, saves that, and passes the events on to the log and to whoever follows
//! them. Everything that it decides is a function of values; only `service` and `log` do I/O.

use std::{sync::Arc, time::SystemTime};

use crate::model::{
    event::BootEvent,
    inventory::Machine,
    policy::{BootPolicy, Disposition},
};

pub mod describe;
pub mod diagnosis;
mod fleet;
mod interner;
pub mod json;
mod log;
mod metrics;
pub mod policy;
mod record;
#[cfg(test)]
pub(crate) mod samples;
mod service;
pub mod stage;
mod state;

pub use diagnosis::{Diagnosis, diagnose};
pub use service::{Journal, run};
pub use stage::Stage;
pub use state::StateError;

/// Everything known of one machine, at one instant.
#[derive(Clone, Debug)]
pub struct MachineRecord {
    /// The machine as the spec has it.
    pub machine: Arc<Machine>,
    /// The policy in force: a person's, else the spec's.
    pub policy: BootPolicy,
    /// Where it is sent when it asks to boot.
    pub boots_from: Disposition,
    /// How far it has come.
    pub stage: Stage,
    /// Since when.
    pub stage_since: SystemTime,
    /// How often it loaded an initramfs to the end.
    pub boots: u32,
    /// When something last went wrong, and what.
    pub last_error: Option<(SystemTime, Arc<str>)>,
    /// The last events, oldest first.
    pub events: Vec<BootEvent>,
}
