//! Becoming root, for what cannot be done without.

use std::{
    env,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use anyhow::{Context, bail};
use pxe_lab::{
    build::{self, Binary},
    requires,
};

/// Keeps cargo and rustup findable, their caches where they are, and our settings.
const KEEP: &str = "--preserve-env=PATH,HOME,CARGO,CARGO_HOME,CARGO_TARGET_DIR,RUSTUP_HOME,RUSTUP_TOOLCHAIN,\
                    PXED_BINARY,PXED_TESTS_QUICK,PXED_TESTS_REQUIRE_ALL";

/// Returns when we are root. When we are not, says why it is needed and goes on as the same command
/// under sudo, whose password prompt a person then sees; does not return in that case.
///
/// What sudo starts finds the binary in `PXED_BINARY`, and builds nothing as root.
///
/// # Errors
///
/// When there is no sudo.
pub(crate) fn become_root(why: &str, binary: &Binary) -> anyhow::Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    if requires::find("sudo").is_none() {
        bail!("this needs root ({why}), and there is no sudo: run it as root");
    }
    eprintln!("xtask: root is needed: {why}. Asking sudo.");
    let mut sudo = Command::new("sudo");
    sudo.arg(KEEP).arg(env::current_exe()?).args(env::args_os().skip(1)).env(build::BINARY, &binary.path);
    Err(sudo.exec()).context("cannot start sudo")
}

/// What runs the test programs as root: nothing when we are root, else sudo. Without sudo nothing
/// either, and the tests that need root are skipped.
pub(crate) fn test_runner() -> Option<Vec<&'static str>> {
    if nix::unistd::geteuid().is_root() {
        return None;
    }
    if requires::find("sudo").is_none() {
        eprintln!("xtask: neither root nor sudo: the tests that need root will be skipped");
        return None;
    }
    eprintln!("xtask: the tests make network namespaces and attach BPF programs, which takes root. Asking sudo.");
    Some(vec!["sudo", KEEP])
}

/// The exit code of a child, 1 where a signal ended it.
pub(crate) fn exit_code(status: std::process::ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
