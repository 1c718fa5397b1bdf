//! `cargo xtask`: the commands for work on pxed, one file per subcommand.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod dist;
mod ebpf;
mod fuzz;
mod install;
mod lab;
mod lint;
mod privilege;
mod run;
mod soak;
mod test;

/// The commands for work on pxed.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// See pxed at work: a lab, an example cluster, machines that boot
    Run(run::Args),
    /// Run every test: unit, property, integration, real firmware in QEMU
    Test(test::Args),
    /// Install what the tests and the other commands use: Debian's packages and programs that cargo installs
    Install(install::Args),
    /// Boot fleets while an attacker is at work and things go wrong, and report lost machines, memory and descriptors
    Soak(soak::Args),
    /// Measure pxed beside dnsmasq, Kea, nginx and TFTP servers, and write BENCHMARKS.md
    Bench(bench::Args),
    /// Build what is distributed: the static program, the container image, the Debian package, the bill of materials, checksums
    Dist(dist::Args),
    /// Check format, lints, and the dependencies' licences and sources
    Lint(lint::Args),
    /// Fuzz all code that reads bytes from outside, with libFuzzer
    Fuzz(fuzz::Args),
    /// Build the checked-in object of the XDP program, or check that it matches the source
    Ebpf(ebpf::Args),
    /// Create namespaces, a bridge and clients, and open a shell in them
    Lab(lab::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(args),
        Command::Test(args) => test::run(args),
        Command::Install(args) => install::run(args),
        Command::Soak(args) => soak::run(&args),
        Command::Bench(args) => bench::run(args),
        Command::Dist(args) => dist::run(args),
        Command::Lint(args) => lint::run(args),
        Command::Fuzz(args) => fuzz::run(args),
        Command::Ebpf(args) => ebpf::run(args),
        Command::Lab(args) => lab::run(args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
