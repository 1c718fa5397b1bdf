//! The lab: network namespaces, veth pairs, bridges, QEMU guests, and their parts.
//!
//! Everything cleans up after itself when it is dropped, even by a panic: a [`Namespace`] deletes
//! itself, a [`Process`] ends its child. The next run removes what a killed run left behind.
//!
//! A test whose requirements are missing (root, a tool, the network) is skipped and says so; with
//! `PXED_TESTS_REQUIRE_ALL=1` it fails instead. See [`requires`] and [`suite`].

mod access;
mod apt;
pub mod artifacts;
pub mod assets;
pub mod attack;
pub mod bad_link;
pub mod browser;
pub mod build;
pub mod capture;
pub mod chance;
pub mod classifier;
pub mod cluster;
pub mod container;
pub mod cpio;
pub mod datapath;
pub mod deb;
pub mod disk;
pub mod dist;
pub mod dnsmasq;
pub mod efi_variables;
pub mod guest;
pub mod initramfs;
pub mod kubernetes;
pub mod memory_limit;
pub mod mirror;
pub mod namespace;
pub mod packages;
pub mod process;
pub mod pxed;
pub mod python;
pub mod requires;
pub mod signing;
pub mod soak;
pub mod storm;
pub mod suite;
pub mod tcp;
pub mod terminal;
pub mod topology;
pub mod uki;

pub use access::USER;
pub use artifacts::Artifacts;
pub use bad_link::BadLink;
pub use browser::Browser;
pub use capture::Capture;
pub use datapath::Datapath;
pub use disk::Disk;
pub use dnsmasq::Dnsmasq;
pub use guest::{Firmware, Guest};
pub use memory_limit::MemoryLimit;
pub use mirror::Mirror;
pub use namespace::Namespace;
pub use process::Process;
pub use pxed::Pxed;
pub use terminal::Terminal;
pub use topology::Bridged;
