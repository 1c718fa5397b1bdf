//! `cargo xtask ebpf`: the XDP program's object. It is checked in so that pxed builds with stable Rust alone.

mod object;
mod toolchain;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail, ensure};

use self::{object::Program, toolchain::Toolchain};
use crate::install::cargo_tool;

/// The arguments of `cargo xtask ebpf`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Clone, Copy, Debug, clap::Subcommand)]
enum Task {
    /// Compile pxe-ebpf and write the object, and the compiler's versions, beside its source.
    Build,
    /// Fail if the checked-in object does not match the source.
    ///
    /// With the compiler that built it, the instructions, maps and relocations must be the same. With another
    /// one, the new object must pass the in-kernel tests (needs root) and have the same maps.
    Check,
}

/// Builds or checks the object.
///
/// # Errors
///
/// Fails without a BPF toolchain, if the build fails, or if the object does not match its source.
pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let Args { task } = args;
    let root = workspace()?;
    let toolchain = Toolchain::find(&root)?;
    println!("compiler: {}", toolchain.identity().lines().collect::<Vec<_>>().join(", "));
    let fresh = object::without_debug_sections(&compile(&toolchain, &root)?)?;
    let checked_in = Files::of(&root);
    match task {
        Task::Build => checked_in.write(&fresh, toolchain.identity())?,
        Task::Check => checked_in.check(&fresh, &toolchain, &root)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The object, and the text beside it with the compiler's versions.
struct Files {
    object: PathBuf,
    compiler: PathBuf,
}

impl Files {
    fn of(root: &Path) -> Self {
        Self { object: root.join("pxe-ebpf/pxed.bpf.o"), compiler: root.join("pxe-ebpf/pxed.bpf.txt") }
    }

    fn write(&self, fresh: &[u8], identity: &str) -> Result<()> {
        Program::read(fresh)?;
        fs::write(&self.object, fresh).with_context(|| self.object.display().to_string())?;
        fs::write(&self.compiler, identity).with_context(|| self.compiler.display().to_string())?;
        println!("wrote {} ({} bytes)", self.object.display(), fresh.len());
        Ok(())
    }

    fn check(&self, fresh: &[u8], toolchain: &Toolchain, root: &Path) -> Result<()> {
        let object = fs::read(&self.object).with_context(|| self.object.display().to_string())?;
        let compiler = fs::read_to_string(&self.compiler).with_context(|| self.compiler.display().to_string())?;
        let (checked_in, fresh_program) = (Program::read(&object)?, Program::read(fresh)?);
        let differences = checked_in.differences(&fresh_program);
        if differences.is_empty() {
            println!("{} matches the source", self.object.display());
            return Ok(());
        }
        ensure!(
            compiler != toolchain.identity(),
            "{} does not match the source; they differ in {}.\nRun `cargo xtask ebpf build` and commit the result.",
            self.object.display(),
            differences.join(", "),
        );
        println!(
            "another compiler built the checked-in object:\n{compiler}The in-kernel tests decide about the new one."
        );
        ensure!(
            checked_in.maps() == fresh_program.maps(),
            "the maps of {} do not match the source. Run `cargo xtask ebpf build` and commit the result.",
            self.object.display(),
        );
        test_in_kernel(fresh, root)
    }
}

/// Runs the in-kernel tests of the classifier against this object.
fn test_in_kernel(object: &[u8], root: &Path) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("pxed.bpf.o");
    fs::write(&path, object)?;
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["test", "--package", "pxe-tests", "--test", "classifier"])
        .current_dir(root)
        .env("PXED_BPF_OBJECT", &path)
        .env("PXED_TESTS_REQUIRE_ALL", "1")
        .status()
        .context("cargo test")?;
    ensure!(status.success(), "the object built from the source does not pass the in-kernel tests");
    println!("the object built from the source passes the in-kernel tests");
    Ok(())
}

/// Compiles pxe-ebpf and returns the object as the linker wrote it.
fn compile(toolchain: &Toolchain, root: &Path) -> Result<Vec<u8>> {
    let target = root.join("target/ebpf");
    let mut cargo = toolchain.cargo();
    // Run in the root, not beside rust-toolchain.toml: rustup would try to download the toolchain named there.
    cargo
        .current_dir(root)
        .args(["build", "--release", "--locked", "--target", toolchain::TARGET, "--manifest-path"])
        .arg(root.join("pxe-ebpf/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(toolchain, root)?.join("\x1f"));
    let status = cargo.status().with_context(|| format!("{cargo:?}"))?;
    if !status.success() {
        bail!("the XDP program does not compile");
    }
    let path = target.join(toolchain::TARGET).join("release/pxed");
    fs::read(&path).with_context(|| path.display().to_string())
}

/// Returns flags that add BTF for the verifier's log and remove this machine's paths.
fn rustflags(toolchain: &Toolchain, root: &Path) -> Result<Vec<String>> {
    let mut flags = vec![
        format!("-Clinker={}", toolchain.linker().display()),
        "-Clink-arg=--btf".to_owned(),
        format!("--remap-path-prefix={}=.", root.display()),
    ];
    let home = cargo_tool::cargo_home().context("neither CARGO_HOME nor HOME is set")?;
    if let Ok(registries) = fs::read_dir(home.join("registry/src")) {
        for registry in registries {
            flags.push(format!("--remap-path-prefix={}=registry", registry?.path().display()));
        }
    }
    Ok(flags)
}

fn workspace() -> Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).context("xtask is not in a workspace")
}
