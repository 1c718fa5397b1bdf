//! Records of one machine, for tests of other modules.

use std::sync::Arc;

use super::{fact::Fact, fleet::Fleet, machine_record::MachineRecord, remembered::State, samples::*};
use crate::model::{event::EventKind, inventory::Machine};

/// The journal's records of the machine [`MAC`].
pub(crate) struct Records(Fleet);

impl Records {
    /// Creates records without a memory.
    pub(crate) fn new() -> Self {
        Self(Fleet::new(&State::new(), at(-60.0), 1))
    }

    /// Applies events, one after the other.
    pub(crate) fn apply(&mut self, events: &[EventKind]) {
        timed(MAC, events.iter().cloned()).iter().for_each(|event| _ = self.0.apply(event));
    }

    /// Takes over what another node knows.
    pub(crate) fn learn(&mut self, fact: Fact) {
        self.0.learn(&fact);
    }

    /// Returns the record.
    pub(crate) fn record(&self, machine: &Arc<Machine>) -> MachineRecord {
        self.0.machine(machine, usize::MAX)
    }
}
