//! What a person said since, and what the machines have done: with the spec's policy it decides where a machine boots from.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use arc_swap::ArcSwap;
use pxe_common::MacAddr;

use super::{
    inventory::Machine,
    policy::{BootPolicy, Disposition},
};

/// The book in force. Readers load it for each packet or request; the journal stores the next one.
pub type SharedPolicies = Arc<ArcSwap<PolicyBook>>;

/// What a restart must not forget, as an immutable snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyBook {
    /// Policies set by a person; they win over the spec.
    pub overrides: HashMap<MacAddr, BootPolicy>,
    /// Machines that were given their kernel since they were last released.
    pub booted: HashSet<MacAddr>,
    /// Machines that were seen to run from their own disk since they were last released.
    pub reached_disk: HashSet<MacAddr>,
}

impl PolicyBook {
    /// The policy of this machine: a person's, else the spec's.
    #[must_use]
    pub fn policy(&self, machine: &Machine) -> BootPolicy {
        self.overrides.get(&machine.mac).copied().unwrap_or(machine.policy)
    }

    /// Where this machine is sent now.
    #[must_use]
    pub fn disposition(&self, machine: &Machine) -> Disposition {
        let to_disk = match self.policy(machine) {
            BootPolicy::Always => false,
            BootPolicy::Auto => self.reached_disk.contains(&machine.mac),
            BootPolicy::Once => self.booted.contains(&machine.mac),
            BootPolicy::Hold => true,
        };
        if to_disk { Disposition::Disk } else { Disposition::Network }
    }
}
