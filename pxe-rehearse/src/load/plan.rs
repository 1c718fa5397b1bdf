//! What a load is asked to do.

use std::time::Duration;

use pxe_common::MacAddr;

use crate::firmware::Firmware;

/// What keeps the exchanges going.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// So many begin in a second, whatever becomes of them (an open loop).
    PerSecond(f64),
    /// So many are under way at any time (a closed loop).
    Outstanding(usize),
}

/// The load.
#[derive(Clone, Debug)]
pub struct Load {
    /// The interface that the simulated machines are on.
    pub interface: String,
    /// Who they are. Only their first client counts.
    pub machines: Vec<(MacAddr, Firmware)>,
    /// How fast.
    pub pace: Pace,
    /// How long exchanges are begun.
    pub duration: Duration,
    /// The transaction identifiers follow from it.
    pub seed: u64,
}
