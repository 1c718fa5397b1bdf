//! Root privileges for commands that need them.

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

/// Keeps cargo and rustup in PATH, their caches in place, and pxed's own settings.
const KEEP: &str = "--preserve-env=PATH,HOME,CARGO,CARGO_HOME,CARGO_TARGET_DIR,RUSTUP_HOME,RUSTUP_TOOLCHAIN,\
                    PXED_BINARY,PXED_TESTS_QUICK,PXED_TESTS_REQUIRE_ALL";

/// Returns if the process is root. Otherwise prints the reason and replaces the process by the same command
/// under sudo, which may prompt for a password.
///
/// The process under sudo finds the binary in `PXED_BINARY`, so nothing is built as root.
///
/// # Errors
///
/// Fails if there is no sudo.
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

/// Returns the command that runs the test programs as root: none if the process is root, else sudo. Without sudo
/// there is none either, and the tests that need root are skipped.
pub(crate) fn test_runner() -> Option<Vec<&'static str>> {
    if nix::unistd::geteuid().is_root() {
        return None;
    }
    if requires::find("sudo").is_none() {
        eprintln!("xtask: neither root nor sudo: the tests that need root will be skipped");
        return None;
    }
    eprintln!("xtask: the tests create network namespaces and attach BPF programs, which needs root. Asking sudo.");
    Some(vec!["sudo", KEEP])
}

/// Returns the exit code of a child, or 1 if a signal ended it.
pub(crate) fn exit_code(status: std::process::ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
