//! How thoroughly everything is measured.

/// How thoroughly it is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// How often each thing is measured.
    pub(crate) rounds: u32,
    /// The most telling figures only.
    pub(crate) quick: bool,
}
