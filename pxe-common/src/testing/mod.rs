//! Test support that the host's and the kernel's tests of the classifier share: named frames with their expected verdicts,
//! and a model of the maps.

mod build;
mod cases;
mod constants;
mod world;

pub use build::FrameBuilder;
pub use cases::{Case, cases};
pub use constants::{KNOWN, OURS, SERVER, SMALL_BURST, UNKNOWN, VLANS, small_bucket};
pub use world::{Rules, World};
