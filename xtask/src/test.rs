//! `cargo xtask test`: runs every test, and prints a summary with every skip and failure.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Command, ExitCode, Stdio},
    thread,
    time::Instant,
};

use anyhow::Context;
use pxe_lab::{
    build::{self, Profile},
    guest, kubernetes,
    packages::Purpose,
};

use crate::{
    install::{self, Consent},
    privilege,
};

/// The options of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Leave out the QEMU guests
    #[arg(long)]
    quick: bool,
    /// Install missing packages without asking
    #[arg(long, conflicts_with = "no_install")]
    yes: bool,
    /// Install nothing: tests with missing packages are skipped
    #[arg(long)]
    no_install: bool,
    /// Arguments of the test programs: a part of the names to run, or options such as `--test-threads=1`
    #[arg(last = true)]
    filter: Vec<String>,
}

/// Installs what is missing, builds pxed, runs `cargo test` over the workspace and prints a summary.
///
/// # Errors
///
/// Fails if the build fails. Failing tests only change the exit code.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { quick, yes, no_install, filter } = args;
    let consent = match (yes, no_install) {
        (true, _) => Consent::Yes,
        (_, true) => Consent::No,
        _ => Consent::Ask,
    };
    install::prepare(&[Purpose::Tests, Purpose::Ebpf], consent);
    let started = Instant::now();
    if filter.is_empty() {
        prepare_api_server();
    }
    let pxed = build::choose(Profile::Debug)?;
    let mut cargo = Command::new("cargo");
    cargo.args(["test", "--workspace", "--no-fail-fast"]).current_dir(build::workspace());
    cargo.env(build::BINARY, pxed.path);
    if quick {
        cargo.env(guest::QUICK, "1");
    }
    if let Some(runner) = privilege::test_runner() {
        // Cargo builds as the invoking user; only the test programs run as root.
        cargo.arg("--config").arg(format!("target.'cfg(all())'.runner = {runner:?}"));
    }
    cargo.arg("--").args(filter);
    let mut child = cargo
        .stdin(Stdio::inherit())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {cargo:?}"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let summary = thread::scope(|scope| {
        let errors = scope.spawn(|| follow(stderr, std::io::stderr()));
        let summary = follow(stdout, std::io::stdout());
        summary.and(errors.join().unwrap_or_default())
    });
    let status = child.wait()?;
    if !status.success() && summary.failed == 0 {
        println!("cargo test itself failed: {status}");
    }
    println!("\nthe tests took {} s", started.elapsed().as_secs());
    println!("{}", summary.report());
    Ok(privilege::exit_code(status))
}

/// Builds the API server, which takes minutes, beside what cargo builds. The tests that need it wait for it.
fn prepare_api_server() {
    thread::spawn(|| {
        if let Err(error) = kubernetes::binaries() {
            // The tests try again, with more rights perhaps, and say what they lack.
            eprintln!("xtask: {error:#}");
        }
    });
}

/// The results of the test programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Summary {
    passed: u32,
    failed: u32,
    skipped: u32,
    /// `NAME: REASON`.
    skips: Vec<String>,
    failures: Vec<String>,
}

impl Summary {
    /// Counts the result in one line.
    fn read(&mut self, line: &str) {
        if let Some(skip) = line.strip_prefix("SKIPPED ") {
            self.skips.push(skip.to_owned());
        } else if let Some((name, reason)) =
            line.strip_prefix("test ").and_then(|line| line.split_once(" ... ignored, "))
        {
            self.skips.push(format!("{name}: {reason}"));
        } else if let Some(name) = line.strip_prefix("test ").and_then(|line| line.strip_suffix("FAILED")) {
            self.failures.push(name.trim_end_matches([' ', '.']).to_owned());
        } else if let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|line| line.split_once(". ")) {
            for count in counts.split(';') {
                match count.trim().split_once(' ') {
                    Some((number, "passed")) => self.passed += number.parse::<u32>().unwrap_or_default(),
                    Some((number, "failed")) => self.failed += number.parse::<u32>().unwrap_or_default(),
                    Some((number, "ignored")) => self.skipped += number.parse::<u32>().unwrap_or_default(),
                    _ => {}
                }
            }
        }
    }

    fn and(mut self, other: Self) -> Self {
        let Self { passed, failed, skipped, skips, failures } = other;
        self.passed += passed;
        self.failed += failed;
        self.skipped += skipped;
        self.skips.extend(skips);
        self.failures.extend(failures);
        self
    }

    /// Returns the report for people and scripts: the last line has the counts.
    fn report(&self) -> String {
        let Self { passed, failed, skipped, skips, failures } = self;
        let skips = skips.iter().map(|skip| format!("skipped: {skip}\n"));
        let failures = failures.iter().map(|name| format!("failed: {name}\n"));
        let lists: String = skips.chain(failures).collect();
        format!("{lists}{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// Copies the stream to `ours`, line by line, and counts the results in it.
fn follow(stream: Option<impl Read>, mut ours: impl Write) -> Summary {
    let mut summary = Summary::default();
    let Some(stream) = stream else { return summary };
    for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        summary.read(&line);
        // If nobody reads `ours` any more, the tests still have to end.
        let _ = writeln!(ours, "{line}");
    }
    summary
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_test_programs_are_summed_up() {
        let mut summary = Summary::default();
        for line in [
            "test dhcp::answers ... ok",
            "test firmware_boots   ... FAILED",
            "SKIPPED relay: not installed: dhcrelay (package isc-dhcp-relay)",
            "test answers_in_15_us ... ignored, a measurement",
            "test result: FAILED. 5 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
        ] {
            summary.read(line);
        }
        assert_eq!(
            summary.report(),
            "skipped: relay: not installed: dhcrelay (package isc-dhcp-relay)\nskipped: answers_in_15_us: a measurement\n\
             failed: firmware_boots\n\
             8 passed, 1 failed, 2 skipped"
        );
    }
}
