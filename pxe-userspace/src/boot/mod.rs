//! The boot instructions for a machine: iPXE scripts, configurations of GRUB and U-Boot, Talos kernel arguments, and what a machine is
//! told while its files are not there. Pure.

pub mod config;
mod follow;
pub mod grub;
pub mod ipxe;
pub mod script;
pub mod talos;
pub mod u_boot;
pub mod uki_script;
pub mod waiting;
