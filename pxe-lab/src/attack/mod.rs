//! Attackers on the boot network.

pub mod http;
