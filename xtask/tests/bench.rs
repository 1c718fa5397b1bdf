//! `cargo xtask bench` measures only release builds.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path, process::Command};

/// Writes a shell script that can be executed.
fn script(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, format!("#!/bin/sh\n{text}\n"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

#[test]
fn debug_build_is_not_measured() {
    let directory = tempfile::tempdir().unwrap();
    let (cargo, debug) = (directory.path().join("cargo"), directory.path().join("pxed"));
    // Stands in for cargo: records its arguments, and builds nothing.
    script(&cargo, &format!("echo \"$@\" > {}", directory.path().join("told").display())).unwrap();
    script(&debug, "printf 'pxed 0.0.0\\nprofile: debug\\n'").unwrap();
    fs::create_dir(directory.path().join("release")).unwrap();
    fs::copy(&debug, directory.path().join("release/pxed")).unwrap();
    let bench = |binary: Option<&Path>| {
        let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
        // No sudo is needed: the binary is checked before the privilege.
        xtask.args(["bench", "--quick"]).env("CARGO", &cargo).env("CARGO_TARGET_DIR", directory.path());
        match binary {
            Some(binary) => xtask.env("PXED_BINARY", binary),
            None => xtask.env_remove("PXED_BINARY"),
        };
        let output = xtask.output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };

    let (success, error) = bench(Some(&debug));
    assert!(!success && error.contains("pxed (debug build) is not measured"), "{error}");
    assert!(!directory.path().join("told").exists());

    let (success, error) = bench(None);
    assert!(!success && error.contains("release/pxed (debug build) is not measured"), "{error}");
    let told = fs::read_to_string(directory.path().join("told")).unwrap();
    assert!(told.contains("--bin pxed") && told.contains("--release"), "{told}");
}
