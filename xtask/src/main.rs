//! `cargo xtask`: what a person types to work on pxed.

mod ebpf;

use std::process::ExitCode;

use clap::Parser;

/// What a person types to work on pxed.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", max_term_width = 100)]
enum Command {
    /// The XDP program: build the checked-in object, or check that it is what the source gives.
    Ebpf(ebpf::Args),
}

fn main() -> anyhow::Result<ExitCode> {
    match Command::parse() {
        Command::Ebpf(args) => ebpf::run(args),
    }
}
