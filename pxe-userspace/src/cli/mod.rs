//! The command line. Each subcommand has a file with its `Args` and its `run`.

use std::{env, process::ExitCode, time::Duration};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use nix::sys::signal::{SigSet, Signal};

use crate::logging;

mod admin_address;
mod admin_args;
mod api_spec;
pub mod capture;
mod confine_args;
mod download_args;
mod ending;
mod environment;
mod exit;
pub mod fetch;
mod fetch_values;
mod generate;
mod history_args;
mod kubernetes_args;
mod node_args;
pub mod options;
mod peer_args;
pub mod rehearse;
mod relay_args;
pub mod report;
pub mod run;
mod shown;
pub mod status;
mod telemetry_args;
mod tftp_args;
mod up_args;
pub mod validate;

/// The text of `pxed --version`. It names the build profile, since benchmarks of a debug build are meaningless.
const LONG_VERSION: &str = if cfg!(debug_assertions) {
    concat!(env!("CARGO_PKG_VERSION"), "\nprofile: debug")
} else {
    concat!(env!("CARGO_PKG_VERSION"), "\nprofile: release")
};

/// The time that the last log lines get to be written.
const LAST_LINES: Duration = Duration::from_millis(300);

/// Network-boots a fleet of bare-metal machines from its cluster spec.
#[derive(Debug, Parser)]
#[command(name = "pxed", version, long_version = LONG_VERSION)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer DHCP, TFTP and HTTP for the machines of a cluster spec
    Run(Box<run::Args>),
    /// Look after the files that machines boot from: what the spec needs, what is there, and what was verified
    Fetch(fetch::Args),
    /// Check a cluster spec and print every error with file, line and field
    Validate(validate::Args),
    /// Show the fleet by stage, as a running pxed sees it
    Status(status::StatusArgs),
    /// Follow boot events as they happen
    Watch(status::WatchArgs),
    /// Explain how far a machine came, what it waits for and what to do
    Explain(status::MachineArgs),
    /// List who asks by DHCP without being in the spec, with the machine that is probably meant
    Strangers(status::StrangersArgs),
    /// Print the YAML that makes a stranger a machine of a cluster
    Adopt(status::AdoptArgs),
    /// Keep machines from booting over the network; they boot from their disks
    Hold(status::DecideArgs),
    /// End holds, and let even installed machines boot over the network again
    Release(status::DecideArgs),
    /// Write what pxed receives from one machine and sends to it into a pcapng file, with pxed's decisions
    Capture(capture::Args),
    /// Write what is known of one machine into a file that can be attached to a bug, without secrets
    Report(report::Args),
    /// Boot simulated machines against a running responder and report every step
    Rehearse(rehearse::Args),
    /// Write the manual pages and the completions of shells into a directory, for packages
    #[command(hide = true)]
    Generate(generate::Args),
}

/// Returns the definition of the command line, with all subcommands that a person uses.
#[must_use]
pub fn command() -> clap::Command {
    let whole = Cli::command();
    let used: Vec<_> = whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned().collect();
    let bare = clap::Command::new("pxed").version(env!("CARGO_PKG_VERSION"));
    let about = whole.get_about().cloned().unwrap_or_default();
    bare.about(about).subcommand_required(true).arg_required_else_help(true).subcommands(used)
}

/// Parses the command line and runs the subcommand. An error is written to standard error, with all its causes in one line.
#[must_use]
pub fn main() -> ExitCode {
    // The parent may have blocked these signals for itself, and a child inherits that.
    let _ = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]).thread_unblock();
    let whole = environment::without_empty_variables(Cli::command(), |name| env::var_os(name));
    let cli = Cli::from_arg_matches(&whole.get_matches()).unwrap_or_else(|error| error.exit());
    let result = match cli.command {
        Command::Run(args) => run::run(*args),
        Command::Fetch(args) => fetch::run(args),
        Command::Validate(args) => validate::run(args),
        Command::Status(args) => status::status(args),
        Command::Watch(args) => status::watch(args),
        Command::Explain(args) => status::explain(args),
        Command::Strangers(args) => status::strangers(args),
        Command::Adopt(args) => status::adopt(args),
        Command::Hold(args) => status::hold(args),
        Command::Release(args) => status::release(args),
        Command::Capture(args) => capture::run(args),
        Command::Report(args) => report::run(args),
        Command::Rehearse(args) => rehearse::run(args),
        Command::Generate(args) => generate::run(args, &command()),
    };
    let code = result.unwrap_or_else(|error| {
        if !ending::is_unread_output(&error) {
            // The name of a machine or a file must not control the terminal.
            let text = ending::text_of(&error);
            logging::say(&format!("pxed: {}", text.lines().map(shown::harmless).collect::<Vec<_>>().join("\n")));
        }
        exit::status_of(&error).into()
    });
    logging::flush(LAST_LINES);
    code
}
