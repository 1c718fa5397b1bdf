//! The plan of a rehearsal.

use std::time::Duration;

use pxe_common::MacAddr;

use crate::{arrival::Arrival, firmware::Firmware, losses::Losses, report::Milestone};

/// A rehearsal: which machines boot, when, how far, and over which link.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    /// The interface that the simulated machines are on.
    pub interface: String,
    /// Their hardware addresses and classes.
    pub machines: Vec<(MacAddr, Firmware)>,
    /// The distribution of their power-ons.
    pub arrival: Arrival,
    /// The time until all of them are on, unless they are powered on at once.
    pub over: Duration,
    /// The milestone at which their boots end.
    pub until: Milestone,
    /// The faults of their link, for DHCP and TFTP. ARP is spared, and so is HTTP, which is TCP of the kernel.
    pub losses: Losses,
    /// The seed of transaction identifiers, arrivals and losses.
    pub seed: u64,
    /// Takes the first usable offer instead of waiting for others as the firmware does.
    pub hurry: bool,
    /// The time after which machines that are not done have failed.
    pub limit: Duration,
    /// Somebody watches the steps, so their texts must be made.
    pub watched: bool,
}
