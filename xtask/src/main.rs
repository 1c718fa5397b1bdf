//! `cargo xtask`: what a person types to work on pxed.

fn main() {}
