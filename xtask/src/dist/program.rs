//! The static program, built so that its bytes depend on the sources and the tools alone.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use object::{Object as _, read::elf::ElfFile64};

use super::release::{EPOCH, Release};
use crate::install::cargo_tool;

/// Builds the program in this profile of cargo, and returns its path.
///
/// # Errors
///
/// Fails if it cannot be built.
pub(super) fn build(workspace: &Path, target_directory: &Path, release: &Release, profile: &str) -> Result<PathBuf> {
    let target = &release.target;
    let variable = target.replace('-', "_");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(workspace)
        .args(["build", "--locked", "--package", "pxe-userspace", "--bin", "pxed", "--profile", profile])
        .args(["--target", target, "--target-dir"])
        .arg(target_directory)
        .env("CARGO_ENCODED_RUSTFLAGS", rust_flags(workspace, target_directory)?.join("\x1f"))
        .env(format!("CFLAGS_{variable}"), c_flags(workspace, target_directory)?.join(" "))
        .env(EPOCH, release.time.to_string())
        .env("CARGO_INCREMENTAL", "0");
    // The cross compiler of Debian and its relatives. For the host's own target cargo needs none.
    if release.is_foreign() {
        let compiler = format!("{}-gcc", target.replace("-unknown-", "-"));
        cargo.env(format!("CC_{variable}"), &compiler);
        cargo.env(format!("CARGO_TARGET_{}_LINKER", variable.to_uppercase()), &compiler);
    }
    for variable in ["RUSTFLAGS", "CFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
        cargo.env_remove(variable);
    }
    let status = cargo.status().with_context(|| format!("cannot start {cargo:?}"))?;
    ensure!(status.success(), "cannot build pxed for {target}: {status}");
    let directory = if profile == "dev" { "debug" } else { profile };
    Ok(target_directory.join(target).join(directory).join("pxed"))
}

/// Fails unless the program is static and free of the places where it was built.
///
/// # Errors
///
/// Fails with the first reason.
pub(super) fn check(program: &[u8], workspace: &Path, target_directory: &Path) -> Result<()> {
    is_static(program)?;
    for (place, _) in places(workspace, target_directory)? {
        let place = place.display().to_string();
        let found = program.windows(place.len()).any(|window| window == place.as_bytes());
        ensure!(!found, "the program contains {place}, so its bytes depend on where it was built");
    }
    Ok(())
}

/// Fails unless the program is static.
///
/// # Errors
///
/// Fails if it is not an ELF program, or needs a dynamic linker.
pub(super) fn is_static(program: &[u8]) -> Result<()> {
    let file: ElfFile64<'_> = ElfFile64::parse(program).context("not an ELF program")?;
    ensure!(
        file.section_by_name(".interp").is_none(),
        "the program is linked dynamically, so it does not start in the image"
    );
    Ok(())
}

fn rust_flags(workspace: &Path, target_directory: &Path) -> Result<Vec<String>> {
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
    for (place, name) in places(workspace, target_directory)? {
        flags.push(format!("--remap-path-prefix={}={name}", place.display()));
    }
    Ok(flags)
}

fn c_flags(workspace: &Path, target_directory: &Path) -> Result<Vec<String>> {
    let places = places(workspace, target_directory)?.into_iter();
    Ok(places.map(|(place, name)| format!("-ffile-prefix-map={}={name}", place.display())).collect())
}

/// Returns the directories whose paths would get into the program, with what stands for each. The last that fits counts.
fn places(workspace: &Path, target_directory: &Path) -> Result<Vec<(PathBuf, &'static str)>> {
    let home = cargo_tool::cargo_home().context("neither CARGO_HOME nor HOME is set")?;
    let mut places = vec![(home.clone(), "/cargo")];
    if let Ok(registries) = fs::read_dir(home.join("registry/src")) {
        for registry in registries {
            places.push((registry?.path(), "/crates"));
        }
    }
    places.push((workspace.to_owned(), "/pxed"));
    places.push((target_directory.to_owned(), "/target"));
    Ok(places)
}
