//! `cargo xtask fuzz`: runs libFuzzer against all code that reads bytes from outside.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail, ensure};
use pxe_lab::{build, packages::Purpose};

use crate::install::{self, Consent, cargo_tool::CARGO_FUZZ};

/// The options of `cargo xtask fuzz`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds that each target runs
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Install cargo-fuzz without asking, if it is missing
    #[arg(long)]
    yes: bool,
    /// Targets to run [default: all, one after the other]
    targets: Vec<String>,
}

/// Runs the targets. Interesting inputs stay below target/fuzz for the next run; an input that breaks a target is saved in
/// fuzz/artifacts.
///
/// # Errors
///
/// Fails if a target does not exist, or if one broke; the others run nevertheless.
pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let Args { seconds, yes, targets } = args;
    let fuzz = build::workspace().join("fuzz");
    let targets = chosen(&all(&fuzz)?, targets)?;
    install::prepare(&[Purpose::Fuzz], if yes { Consent::Yes } else { Consent::Ask });
    let cargo_fuzz = CARGO_FUZZ.find().context("cargo-fuzz is not installed. To install it: cargo xtask fuzz --yes")?;
    let (built, mut broken) = (build::target().join("fuzz"), Vec::new());
    for target in targets {
        eprintln!("xtask: fuzzing {target} for {seconds} s");
        let found = built.join("corpus").join(&target);
        fs::create_dir_all(&found).with_context(|| found.display().to_string())?;
        let mut command = Command::new(&cargo_fuzz);
        // libFuzzer writes new inputs to the first corpus only.
        command.args(["run", "--fuzz-dir"]).arg(&fuzz).arg("--target-dir").arg(&built).arg(&target);
        command.args([&found, &fuzz.join("corpus").join(&target)]);
        command.args(["--", &format!("-max_total_time={seconds}"), "-print_final_stats=1"]);
        // Sanitizers and coverage are unstable flags; this makes a stable compiler accept them.
        command.env("RUSTC_BOOTSTRAP", "1").current_dir(build::workspace());
        let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
        if !status.success() {
            broken.push(target);
        }
    }
    ensure!(broken.is_empty(), "failed or did not build: {}; see above", broken.join(", "));
    Ok(ExitCode::SUCCESS)
}

/// Returns the names of the targets, one per file.
fn all(fuzz: &Path) -> Result<BTreeSet<String>> {
    let directory = fuzz.join("fuzz_targets");
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
        }
    }
    Ok(names)
}

/// Returns the targets to run: the requested ones, or all.
fn chosen(all: &BTreeSet<String>, asked: Vec<String>) -> Result<Vec<String>> {
    if let Some(unknown) = asked.iter().find(|asked| !all.contains(*asked)) {
        let all: Vec<_> = all.iter().map(String::as_str).collect();
        bail!("there is no fuzz target {unknown}; there are: {}", all.join(", "));
    }
    Ok(if asked.is_empty() { all.iter().cloned().collect() } else { asked })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_target_is_refused_with_the_list_of_targets() {
        let all = BTreeSet::from(["dhcp_respond".to_owned(), "admin_api".to_owned()]);
        let choose = |asked: &[&str]| chosen(&all, asked.iter().map(|&name| name.to_owned()).collect());
        assert_eq!(choose(&[]).unwrap(), ["admin_api", "dhcp_respond"]);
        assert_eq!(choose(&["dhcp_respond"]).unwrap(), ["dhcp_respond"]);
        let error = choose(&["dhcp"]).unwrap_err().to_string();
        assert_eq!(error, "there is no fuzz target dhcp; there are: admin_api, dhcp_respond");
    }

    #[test]
    fn targets_of_the_workspace_are_found() {
        let names = all(&build::workspace().join("fuzz")).unwrap();
        assert!(names.contains("dhcp_respond"), "{names:?}");
        for name in names {
            assert!(build::workspace().join("fuzz/corpus").join(&name).is_dir(), "{name} has no corpus");
        }
    }
}
