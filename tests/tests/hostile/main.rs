//! One host of the boot network attacks, and every other machine boots on.

mod dhcp;
mod neighbours;
mod scene;
mod tftp;

use std::process::ExitCode;

use pxe_lab::{Datapath, suite};

fn main() -> ExitCode {
    suite::main(vec![
        suite::test("forged_dhcp_frames_do_not_delay_a_boot_by_xdp", || dhcp::flood(Datapath::Xdp)),
        suite::test("forged_dhcp_frames_do_not_delay_a_boot_by_socket", || dhcp::flood(Datapath::Socket)),
        suite::test("forged_tftp_requests_do_not_delay_a_boot", tftp::requests),
        suite::test("blind_tftp_acknowledgements_draw_less_than_they_cost", tftp::acknowledgements),
        suite::test("address_of_another_network_is_no_neighbours", neighbours::of_another_network),
    ])
}
