//! What `cargo xtask dist` makes, as it is installed: the container image in runc, and the Debian package in a system that a real systemd
//! runs.

mod image;
mod life;
mod package;
mod system;

use std::process::ExitCode;

use pxe_lab::suite;

fn main() -> ExitCode {
    let mut tests = image::tests();
    tests.extend([
        suite::test("package_has_no_faults_and_the_same_bytes_each_time", package::is_sound),
        suite::test("package_is_installed_upgraded_in_mid_boot_removed_and_purged", life::of_a_package),
    ]);
    suite::main_at_once(tests)
}
