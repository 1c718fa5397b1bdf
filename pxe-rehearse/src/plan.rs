//! What a rehearsal is asked to do.

use std::time::Duration;

use pxe_common::MacAddr;

use crate::{arrival::Arrival, firmware::Firmware, losses::Losses, report::Milestone};

/// What is rehearsed.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    /// The interface that the simulated machines are on.
    pub interface: String,
    /// Who they are.
    pub machines: Vec<(MacAddr, Firmware)>,
    /// When they are powered on.
    pub arrival: Arrival,
    /// How long it takes until all are, unless all are at once.
    pub over: Duration,
    /// How far they go.
    pub until: Milestone,
    /// How bad their link is for DHCP and TFTP. ARP and HTTP, which is the kernel's TCP, are spared.
    pub losses: Losses,
    /// What chance follows from: transaction identifiers, arrivals, losses.
    pub seed: u64,
    /// Take the first good offer instead of waiting for others as the firmware does.
    pub hurry: bool,
    /// What is not there after this time has failed.
    pub limit: Duration,
    /// Somebody looks at the steps, so they are worth being put into words.
    pub watched: bool,
}
