//! Whether a machine boots from the network now: the spec's policy, what a person said since, and
//! what the machine has done.

use std::collections::{HashMap, HashSet};

use pxe_common::MacAddr;

use crate::inventory::{BootPolicy, Machine};

/// Where a machine that asks to boot is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It gets its loader, script, kernel.
    Network,
    /// It gets its address, and is told to boot from its own disk.
    Disk,
}

/// What a restart must not forget, as an immutable snapshot.
#[derive(Clone, Debug, Default)]
pub struct PolicyBook {
    /// Policies set by a person; they win over the spec.
    pub overrides: HashMap<MacAddr, BootPolicy>,
    /// Machines that were given their kernel since they were last released.
    pub booted: HashSet<MacAddr>,
    /// Machines that were seen to run from their own disk since they were last released.
    pub reached_disk: HashSet<MacAddr>,
}

impl PolicyBook {
    /// Where this machine is sent now.
    #[must_use]
    pub fn disposition(&self, machine: &Machine) -> Disposition {
        let policy = self.overrides.get(&machine.mac).copied().unwrap_or(machine.policy);
        let to_disk = match policy {
            BootPolicy::Always => false,
            BootPolicy::Auto => self.reached_disk.contains(&machine.mac),
            BootPolicy::Once => self.booted.contains(&machine.mac),
            BootPolicy::Hold => true,
        };
        if to_disk { Disposition::Disk } else { Disposition::Network }
    }
}
