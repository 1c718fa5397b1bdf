//! The `pxed` binary. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    pxe_userspace::cli::main()
}
