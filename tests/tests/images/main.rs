//! Files that pxed fetches while it runs, from a mirror, and machines that wait for them.

mod failures;
mod lab;
mod versions;
mod waiting;

use std::process::ExitCode;

use pxe_lab::suite;

fn main() -> ExitCode {
    let tests = [waiting::tests(), versions::tests(), failures::tests()];
    suite::main_at_once(tests.into_iter().flatten().collect())
}
