//! Test support that the host's and the kernel's tests of the classifier share: named frames with their expected verdicts,
//! and a model of the maps.

mod build;
mod cases;
mod constants;
mod stories;
mod world;

pub use build::FrameBuilder;
pub use cases::{Case, cases};
pub use constants::{KNOWN, OTHER, OURS, SERVER, SMALL_BURST, UNKNOWN, VLANS, small_bucket};
pub use stories::{Step, Story, stories};
pub use world::{Rules, World};
