//! What nodes that serve the same fleet tell each other of a machine.

use pxe_common::MacAddr;

/// Something that another node knows of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fact {
    /// One of its network cards.
    pub mac: MacAddr,
    /// The knowledge.
    pub known: Known,
}

/// A fact about a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It was given its kernel.
    Booted,
    /// It was seen to run from its own disk.
    ReachedDisk {
        /// It was given its kernel, too.
        booted: bool,
    },
    /// A person released it. The mark distinguishes this release from others, so that it is applied once.
    Released(u64),
}
