//! What the journal tells of one machine.

use std::{sync::Arc, time::SystemTime};

use super::stage::Stage;
use crate::model::{
    event::BootEvent,
    inventory::Machine,
    policy::{BootPolicy, Disposition},
};

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
