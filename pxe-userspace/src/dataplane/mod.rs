//! Frames in, frames out: XDP attach, map sync, AF_XDP workers, the kernel-socket fallback.

pub mod afxdp;
pub mod frame;
pub mod interface;
pub mod packet_socket;
