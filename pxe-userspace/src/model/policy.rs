//! Where a machine boots from: the spec's policy, what a person said since, and what the machine has done.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use arc_swap::ArcSwap;
use pxe_common::MacAddr;
use serde::Serialize;

use super::inventory::Machine;

/// Whether a machine boots from the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum BootPolicy {
    /// Until it has been seen to run from its own disk.
    #[default]
    Auto,
    /// At every power-on.
    Always,
    /// Until it was given its kernel once; afterwards it is sent to its disk.
    Once,
    /// Not at all: it is sent to its disk.
    Hold,
}

/// Which way a machine is sent to its own disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum DiskRoute {
    /// UEFI leaves iPXE with an error, so that the firmware tries its next boot entry; a BIOS starts the
    /// first disk itself, and leaves where it cannot.
    #[default]
    Auto,
    /// Leaves iPXE with an error, for firmware that goes on with its boot order then.
    Exit,
    /// Starts the first disk out of iPXE, for firmware that would try the network again.
    Sanboot,
    /// There is no script: 404, after which iPXE gives up by itself.
    NotFound,
}

/// Where a machine that asks to boot is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Disposition {
    /// It gets its loader, script, kernel.
    Network,
    /// It gets its address, and is told to boot from its own disk.
    Disk,
}

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
