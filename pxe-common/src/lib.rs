//! What pxed's XDP program and its userspace must agree on: addresses, header offsets, the
//! classifier, and the layouts of the BPF maps. No allocation, no I/O, no `std`.
#![no_std]

pub mod layout;
pub mod mac;

pub use mac::MacAddr;
