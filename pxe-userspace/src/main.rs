//! The `pxed` binary. Everything is in the library.

fn main() {}
