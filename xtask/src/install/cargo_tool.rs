//! Programs that cargo installs for the user who runs xtask.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use pxe_lab::packages::Purpose;

/// A program from cargo's registry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CargoTool {
    /// The name of the crate and its program.
    pub(crate) name: &'static str,
    version: &'static str,
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
    /// A file required for building it, and the Debian package that contains the file.
    needs: Option<(&'static str, &'static str)>,
    pub(super) purpose: Purpose,
    pub(super) why: &'static str,
}

/// Links the XDP program. Its LLVM must not be older than the compiler's.
pub(crate) const BPF_LINKER: CargoTool = CargoTool {
    name: "bpf-linker",
    version: "0.13.0",
    arguments: &["--no-default-features", "--features", "llvm-22"],
    environment: &[("LLVM_PREFIX", "/usr/lib/llvm-22")],
    needs: Some(("/usr/lib/llvm-22/bin/llvm-config", "llvm-22-dev")),
    purpose: Purpose::Ebpf,
    why: "linker of the XDP program",
};

/// Checks licences and sources of the dependencies.
pub(crate) const CARGO_DENY: CargoTool = CargoTool {
    name: "cargo-deny",
    version: "0.20.2",
    // The debug build compiles in half the time, and is still fast enough: a check takes a second.
    arguments: &["--debug"],
    environment: &[],
    needs: None,
    purpose: Purpose::Lint,
    why: "check of the dependencies' licences and sources",
};

/// Builds the Debian package.
pub(crate) const CARGO_DEB: CargoTool = CargoTool {
    name: "cargo-deb",
    version: "3.8.0",
    arguments: &["--debug"],
    environment: &[],
    needs: None,
    purpose: Purpose::Tests,
    why: "builds the Debian package",
};

/// Builds fuzz targets with libFuzzer, and runs them.
pub(crate) const CARGO_FUZZ: CargoTool = CargoTool {
    name: "cargo-fuzz",
    version: "0.13.2",
    arguments: &["--debug"],
    environment: &[],
    needs: None,
    purpose: Purpose::Fuzz,
    why: "runs the fuzz targets",
};

/// All of these programs.
pub(super) const CARGO_TOOLS: &[CargoTool] = &[BPF_LINKER, CARGO_DEB, CARGO_DENY, CARGO_FUZZ];

impl CargoTool {
    /// Returns the path: in PATH, or in cargo's bin directory, which may not be in PATH.
    pub(crate) fn find(&self) -> Option<PathBuf> {
        env::split_paths(&env::var_os("PATH").unwrap_or_default())
            .chain(cargo_home().map(|home| home.join("bin")))
            .map(|directory| directory.join(self.name))
            .find(|program| program.is_file())
    }

    /// Returns the command that installs it, as a user would type it.
    pub(crate) fn to_type(&self) -> String {
        let environment: String = self.environment.iter().map(|(key, value)| format!("{key}={value} ")).collect();
        format!("{environment}cargo {}", self.cargo_arguments().join(" "))
    }

    /// Returns `true` if it cannot be built before a Debian package is installed.
    pub(super) fn needs_package(&self) -> bool {
        self.needs.is_some()
    }

    /// Installs the program.
    ///
    /// # Errors
    ///
    /// Fails if a file required for the build is missing, or if the build fails.
    pub(super) fn install(&self) -> anyhow::Result<()> {
        if let Some((file, package)) = self.needs {
            ensure!(Path::new(file).exists(), "{} needs {file} (package {package})", self.name);
        }
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(self.cargo_arguments()).arg("--quiet").envs(self.environment.iter().copied());
        let status = cargo.status().with_context(|| format!("cannot start {cargo:?}"))?;
        ensure!(status.success(), "{} could not be installed. To see why: {}", self.name, self.to_type());
        Ok(())
    }

    fn cargo_arguments(&self) -> Vec<&'static str> {
        ["install", self.name, "--version", self.version, "--locked"].iter().chain(self.arguments).copied().collect()
    }
}

/// Returns cargo's home directory of the user.
pub(crate) fn cargo_home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_to_type_is_complete() {
        assert_eq!(
            BPF_LINKER.to_type(),
            "LLVM_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker --version 0.13.0 --locked --no-default-features --features llvm-22"
        );
    }
}
