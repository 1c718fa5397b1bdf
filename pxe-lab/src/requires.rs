//! The requirements of a test on its machine.

use std::{env, fmt, path::PathBuf};

use crate::packages::package_of;

/// The error of a test that cannot run on this machine. [`crate::suite`] counts such a test as skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip(pub String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// Requires root, for namespaces, taps and BPF programs.
///
/// # Errors
///
/// Fails with [`Skip`] without root.
pub fn root() -> Result<(), Skip> {
    if nix::unistd::geteuid().is_root() {
        Ok(())
    } else {
        Err(Skip("needs root: network namespaces, XDP; `cargo xtask test` asks for it".to_owned()))
    }
}

/// Requires programs in PATH, or in the sbin directories that some users' PATH lacks.
///
/// # Errors
///
/// Fails with [`Skip`], which names every missing program and its Debian package.
pub fn tools(programs: &[&str]) -> Result<(), Skip> {
    let missing: Vec<_> = programs.iter().filter(|program| find(program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list: Vec<_> = missing.iter().map(|program| format!("{program} (package {})", package_of(program))).collect();
    Err(Skip(format!("not installed: {}", list.join(", "))))
}

/// Returns the path of a program.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/lib/systemd"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_tool_is_named_with_its_package() {
        assert_eq!(tools(&["sh"]), Ok(()));
        let Skip(reason) = tools(&["sh", "no-such-tool"]).unwrap_err();
        assert_eq!(reason, "not installed: no-such-tool (package no-such-tool)");
    }
}
