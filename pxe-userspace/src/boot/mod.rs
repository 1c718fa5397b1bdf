//! What a machine is told to boot: loaders, iPXE scripts and Talos kernel arguments. Pure.

pub mod ipxe;
pub mod script;
pub mod talos;
