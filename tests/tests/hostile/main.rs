//! One host of the boot network attacks, and every other machine boots on.

mod tftp;

use std::process::ExitCode;

use pxe_lab::suite;

fn main() -> ExitCode {
    suite::main(vec![
        suite::test("forged_tftp_requests_do_not_delay_a_boot", tftp::requests),
        suite::test("blind_tftp_acknowledgements_draw_less_than_they_cost", tftp::acknowledgements),
    ])
}
