//! Frames in, frames out: XDP attach, map sync, AF_XDP workers, the kernel-socket fallback.
