//! The lab: network namespaces, veth pairs, bridges, QEMU guests, and what they are made of.

pub mod classifier;
