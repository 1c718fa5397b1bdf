//! `cargo xtask`: what a person types to work on pxed. One file a subcommand.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod ebpf;
mod fuzz;
mod install;
mod lab;
mod lint;
mod privilege;
mod run;
mod test;

/// What a person types to work on pxed.
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
    /// Install what the tests and the other commands use: Debian's packages and programs of crates.io
    Install(install::Args),
    /// Measure pxed beside dnsmasq, Kea, nginx and TFTP servers, and write BENCHMARKS.md
    Bench(bench::Args),
    /// Check format, lints, and the dependencies' licences and sources
    Lint(lint::Args),
    /// Throw bytes at everything that reads them from outside, with libFuzzer
    Fuzz(fuzz::Args),
    /// The XDP program: build the checked-in object, or check that it is what the source gives
    Ebpf(ebpf::Args),
    /// Wire up namespaces, a bridge and clients, and open a shell in them
    Lab(lab::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(args),
        Command::Test(args) => test::run(args),
        Command::Install(args) => install::run(args),
        Command::Bench(args) => bench::run(args),
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
