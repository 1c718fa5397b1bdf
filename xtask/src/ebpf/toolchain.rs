//! The search for this machine's BPF toolchain.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::install::cargo_tool::BPF_LINKER;

/// The little-endian BPF target. pxed runs on little-endian machines only.
pub(super) const TARGET: &str = "bpfel-unknown-none";

const INSTALL: &str = "\
no compiler for the BPF target was found. Either of the two will do:
  1. the reference: rustup toolchain install <the channel in pxe-ebpf/rust-toolchain.toml> --component rust-src
  2. Debian's:      cargo xtask install
     (PXED_BPF_RUSTC=<path> names another rustc that has a `core` for bpfel-unknown-none)";

const INSTALL_LINKER: &str = "\
no bpf-linker was found in PATH or in cargo's bin directory. To install it: cargo xtask install";

/// A compiler for the BPF target, and the linker.
pub(super) struct Toolchain {
    compiler: Compiler,
    linker: PathBuf,
    identity: String,
}

enum Compiler {
    /// rustup's nightly of this name, which compiles `core` itself.
    Reference { channel: String },
    /// A stable compiler with a prebuilt `core`.
    Prebuilt { rustc: PathBuf },
}

impl Toolchain {
    /// Returns the reference compiler if it is installed, else another one.
    ///
    /// # Errors
    ///
    /// Fails if something is missing; the error says how to install it.
    pub(super) fn find(root: &Path) -> Result<Self> {
        let compiler = match reference(root)? {
            Some(channel) => Compiler::Reference { channel },
            None => Compiler::Prebuilt { rustc: prebuilt().context(INSTALL)? },
        };
        let linker = BPF_LINKER.find().context(INSTALL_LINKER)?;
        let version = compiler.rustc_version()?;
        let of = |key: &str| version.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("unknown").trim();
        let linker_version = output(Command::new(&linker).arg("--version"))?;
        let identity = format!(
            "rustc {} ({})\nLLVM {}\n{}\n",
            of("release:"),
            of("commit-hash:"),
            of("LLVM version:"),
            linker_version.trim()
        );
        Ok(Self { compiler, linker, identity })
    }

    /// Returns the versions of all parts, one per line.
    pub(super) fn identity(&self) -> &str {
        &self.identity
    }

    /// Returns the linker's path.
    pub(super) fn linker(&self) -> &Path {
        &self.linker
    }

    /// Returns a cargo command for this toolchain, unaffected by the caller's environment.
    pub(super) fn cargo(&self) -> Command {
        let mut cargo = match &self.compiler {
            Compiler::Reference { channel } => {
                let mut rustup = Command::new("rustup");
                rustup.args(["run", channel, "cargo", "-Zbuild-std=core"]);
                // The cargo that runs xtask set these for its own compiler.
                rustup.env_remove("RUSTC").env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
                rustup
            }
            Compiler::Prebuilt { rustc } => {
                let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
                // aya-ebpf uses inline assembly, which is unstable for BPF.
                cargo.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
                cargo
            }
        };
        for variable in [
            "RUSTFLAGS",
            "CARGO_BUILD_RUSTFLAGS",
            "CARGO_BUILD_TARGET",
            "CARGO_INCREMENTAL",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
        ] {
            cargo.env_remove(variable);
        }
        cargo
    }
}

impl Compiler {
    fn rustc_version(&self) -> Result<String> {
        match self {
            Self::Reference { channel } => output(Command::new("rustup").args(["run", channel, "rustc", "-vV"])),
            Self::Prebuilt { rustc } => output(Command::new(rustc).arg("-vV")),
        }
    }
}

/// Returns the channel in rust-toolchain.toml, if rustup has it installed with the source of `core`.
fn reference(root: &Path) -> Result<Option<String>> {
    let path = root.join("pxe-ebpf/rust-toolchain.toml");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let Some(channel) = text.lines().find_map(|line| line.strip_prefix("channel = ")) else {
        bail!("{}: no line `channel = \"…\"`", path.display());
    };
    let channel = channel.trim().trim_matches('"').to_owned();
    // `rustup run` would download a missing toolchain; the list does not.
    let Ok(installed) = output(Command::new("rustup").args(["toolchain", "list"])) else { return Ok(None) };
    if !installed.lines().any(|line| line.starts_with(&channel)) {
        return Ok(None);
    }
    let sysroot = output(Command::new("rustup").args(["run", &channel, "rustc", "--print", "sysroot"]))?;
    let has_source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core").is_dir();
    Ok(has_source.then_some(channel))
}

/// Returns a rustc whose sysroot has `core` for the target.
fn prebuilt() -> Option<PathBuf> {
    let candidates = env::var_os("PXED_BPF_RUSTC").map(PathBuf::from).into_iter().chain(["/usr/bin/rustc".into()]);
    candidates.into_iter().find(|rustc: &PathBuf| {
        let directory = output(Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]));
        let Ok(libraries) = fs::read_dir(directory.unwrap_or_default().trim()) else { return false };
        libraries.flatten().any(|library| library.file_name().to_string_lossy().starts_with("libcore-"))
    })
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8(output.stdout)?)
}
