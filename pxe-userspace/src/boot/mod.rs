//! The boot instructions for a machine: iPXE scripts, configurations of GRUB and U-Boot, Talos kernel arguments. Pure.

pub mod config;
pub mod grub;
pub mod ipxe;
pub mod script;
pub mod talos;
pub mod u_boot;
