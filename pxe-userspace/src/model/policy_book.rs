//! Decisions of a person and facts about the machines. With the spec's policies they determine where a machine boots from.

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

/// The book in force. Readers load it for each packet or request, and the journal stores each new one.
pub type SharedPolicies = Arc<ArcSwap<PolicyBook>>;

/// An immutable snapshot of the decisions and facts, which survive a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyBook {
    /// Policies that a person set. They take precedence over the spec.
    pub overrides: HashMap<MacAddr, BootPolicy>,
    /// Machines that were given their kernel since they were last released.
    pub booted: HashSet<MacAddr>,
    /// Machines that were seen to run from their own disk since they were last released.
    pub reached_disk: HashSet<MacAddr>,
}

impl PolicyBook {
    /// Returns the policy of a machine: the one that a person set, or the spec's.
    #[must_use]
    pub fn policy(&self, machine: &Machine) -> BootPolicy {
        machine.macs().find_map(|mac| self.overrides.get(&mac)).copied().unwrap_or(machine.policy)
    }

    /// Returns where a machine boots from now. What is known of any of its cards counts: a spec may have begun to name another of
    /// them first.
    #[must_use]
    pub fn disposition(&self, machine: &Machine) -> Disposition {
        let to_disk = match self.policy(machine) {
            BootPolicy::Always => false,
            BootPolicy::Auto => machine.macs().any(|mac| self.reached_disk.contains(&mac)),
            BootPolicy::Once => machine.macs().any(|mac| self.booted.contains(&mac)),
            BootPolicy::Hold => true,
        };
        if to_disk { Disposition::Disk } else { Disposition::Network }
    }
}
