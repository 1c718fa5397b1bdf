//! The dataplane on a kernel in memory: one test for each fault, and random sequences of faults against a model.

mod bench;
mod fake;
mod faults;
mod model;
mod own_addresses;
