//! The plan of a load.

use std::time::Duration;

use pxe_common::MacAddr;

use crate::firmware::Firmware;

/// The pace at which exchanges begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// An open loop: this many begin each second, whatever becomes of them.
    PerSecond(f64),
    /// A closed loop: this many are under way at any time.
    Outstanding(usize),
}

/// A load: which machines make exchanges, at which pace, and for how long.
#[derive(Clone, Debug)]
pub struct Load {
    /// The interface that the simulated machines are on.
    pub interface: String,
    /// Their hardware addresses and classes. Only the first client of each is used.
    pub machines: Vec<(MacAddr, Firmware)>,
    /// The pace.
    pub pace: Pace,
    /// The time in which exchanges begin.
    pub duration: Duration,
    /// The seed of the transaction identifiers.
    pub seed: u64,
}
