//! `pxed run`: the options become a [`Config`], and the daemon runs with it.

use std::{num::NonZeroU32, process::ExitCode};

use pxe_common::layout::{Settings, UnknownMachines};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

pub use super::options::Args;
use super::options::{self, LogFormat, Options};
use crate::{
    daemon::{self, Config},
    dataplane::Datapath,
    dhcp::Mode,
    logging,
};

/// A machine may send at once what its rate allows in this time.
const BURST_SECONDS: NonZeroU32 = NonZeroU32::new(4).unwrap();

/// Answers DHCP, TFTP and HTTP until SIGINT or SIGTERM asks it to stop; SIGHUP reads the spec again.
///
/// # Errors
///
/// An option that makes no sense, and what keeps the daemon from serving.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let options = args.resolve()?;
    start_logging(options.log_format);
    if options.lease_seconds < options::USUAL_LEASE_SECONDS {
        let seconds = options.lease_seconds;
        tracing::warn!(
            "--lease-seconds {seconds} is for tests: every machine renews its lease every {} seconds",
            seconds / 2
        );
    }
    daemon::run(&config(options))?;
    Ok(ExitCode::SUCCESS)
}

fn config(options: Options) -> Config {
    let (mode, datapath, settings) = (mode(options.mode), datapath(&options), settings(&options));
    let Options { cluster, matchbox, artifacts, state, http_port, admin, lease_seconds, .. } = options;
    Config { cluster, matchbox, artifacts, state, mode, datapath, settings, http_port, admin, lease_seconds }
}

/// Another DHCP server on this host must see what XDP would take away from it, and in proxy mode the addresses are its
/// to give: a packet socket only listens in.
fn datapath(options: &Options) -> Datapath {
    match (options.datapath, options.mode) {
        (options::Datapath::Auto, options::Mode::Server) => Datapath::Auto,
        (options::Datapath::Auto, options::Mode::Proxy) | (options::Datapath::Socket, _) => Datapath::Socket,
        (options::Datapath::Xdp, _) => Datapath::Xdp,
        (options::Datapath::Generic, _) => Datapath::Generic,
    }
}

fn settings(options: &Options) -> Settings {
    let unknown = match options.unknown {
        options::Unknown::Pass => UnknownMachines::Pass,
        options::Unknown::Drop => UnknownMachines::Drop,
    };
    match options.machine_rate {
        Some(per_second) => {
            let burst = per_second.saturating_mul(BURST_SECONDS);
            Settings::new(unknown, burst, per_second)
        }
        None => Settings::unlimited(unknown),
    }
}

fn mode(mode: options::Mode) -> Mode {
    match mode {
        options::Mode::Server => Mode::Server,
        options::Mode::Proxy => Mode::Proxy,
    }
}

/// Info and above, unless `RUST_LOG` says otherwise; to standard error.
fn start_logging(format: LogFormat) {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| logging::Stderr);
    match format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}
