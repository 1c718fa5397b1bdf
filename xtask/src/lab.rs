//! `cargo xtask lab`: the tests' network for interactive use.

use std::{io::IsTerminal, process::ExitCode};

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};
use pxe_lab::{
    Bridged,
    build::{self, Profile},
};

use crate::privilege::{become_root, exit_code};

/// The options of `cargo xtask lab`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Clients on the bridge
    #[arg(long, default_value_t = 2)]
    clients: usize,
    /// The server's address with its prefix length
    #[arg(long, default_value = "10.99.0.1/24")]
    address: String,
    /// Command to run in the server's namespace instead of a shell
    #[arg(last = true)]
    command: Vec<String>,
}

/// Builds pxed, creates the lab, runs a shell or the command in the server's namespace, and removes the lab.
///
/// # Errors
///
/// Fails without root, or if pxed cannot be built or the lab cannot be created.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let binary = build::choose(Profile::Debug)?;
    become_root("network namespaces", &binary)?;
    let Args { clients, address, command } = args;
    let lab = Bridged::new(&address, clients)?;
    println!("server   ip netns exec {} bash    eth0 {address}", lab.server.name());
    for client in &lab.clients {
        println!("client   ip netns exec {} bash    eth0", client.name());
    }
    println!("switch   ip netns exec {} bash    br0 (tcpdump -ni br0 sees everything)", lab.net.name());
    println!("pxed     {} run --cluster FILE --artifacts DIR --state DIR", binary.path.display());
    let command = if command.is_empty() { vec!["bash".to_owned()] } else { command };
    if std::io::stdin().is_terminal() {
        println!("You are in the server's namespace. The lab is removed when you leave (exit).");
    }
    // Ctrl-C is for the shell or the command; the lab is removed when that has ended.
    SigSet::from_iter([Signal::SIGINT, Signal::SIGHUP]).thread_block()?;
    let status = lab
        .server
        .command(&command[0])
        .args(&command[1..])
        .status()
        .with_context(|| format!("cannot start {}", command[0]))?;
    drop(lab);
    Ok(exit_code(status))
}
