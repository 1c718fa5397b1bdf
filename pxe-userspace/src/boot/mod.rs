//! The boot instructions for a machine: loaders, iPXE scripts and Talos kernel arguments. Pure.

pub mod ipxe;
pub mod script;
pub mod talos;
