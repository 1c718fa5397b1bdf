//! What `cargo xtask dist` makes, as it is installed.

mod image;

use std::process::ExitCode;

use pxe_lab::suite;

fn main() -> ExitCode {
    suite::main_at_once(image::tests())
}
