//! The dataplane on a kernel in memory: every fault by name, and random sequences of them against a model.

mod bench;
mod fake;
mod faults;
mod model;
