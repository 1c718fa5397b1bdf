//! Attackers on the boot network, as tests and the soak run let them loose.
//!
//! An attacker is a host of its own, which sends frames with its own MAC address and with whatever IP addresses it likes.

pub mod dhcp;
pub mod frames;
pub mod http;
pub mod tftp;
