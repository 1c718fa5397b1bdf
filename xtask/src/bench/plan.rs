//! The scope of a benchmark run.

/// The scope of a benchmark run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// The number of rounds of each measurement.
    pub(crate) rounds: u32,
    /// Only the most important figures.
    pub(crate) quick: bool,
}
