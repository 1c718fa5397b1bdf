//! Keeps the files that the inventory needs: looks at what is there, fetches what is missing, and publishes the state of each.

mod board;
mod bootable;
mod keeper;
mod metrics;
mod tasks;

pub(super) use keeper::{Keeper, Setup};
pub(super) use metrics::FetchMetrics;
pub(super) use tasks::run;
