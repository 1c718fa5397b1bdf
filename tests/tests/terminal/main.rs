//! The clients of a running pxed, as people use them.

mod desk;
mod unread;

use std::process::ExitCode;

use pxe_lab::suite;

fn main() -> ExitCode {
    suite::main_interleaved(vec![
        suite::test("output_that_nobody_reads_any_more_ends_a_client_that_waits", unread::waiting),
        suite::test("output_that_nobody_reads_any_more_ends_a_client_that_prints", unread::printing),
    ])
}
