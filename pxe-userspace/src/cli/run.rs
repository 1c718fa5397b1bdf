//! `pxed run`: converts the options to a [`Config`] and runs the daemon with it.

use std::{net::SocketAddr, num::NonZeroU32, path::Path, process::ExitCode, sync::Arc};

use anyhow::Context as _;
use pxe_common::layout::{Settings, UnknownMachines};
use tracing_subscriber::EnvFilter;

pub use super::options::Args;
use super::{
    kubernetes_args::as_typed,
    options::{self, LogFormat, Options},
};
use crate::{
    admin::{self, AdminConfig},
    capabilities, confine,
    daemon::{self, Config, Kubernetes, SecureBoot},
    dataplane::Datapath,
    dhcp::Mode,
    kubernetes, logging,
    model::confinement::Confinement,
};

/// The burst of a machine, as the time in which its rate would allow as many requests.
const BURST_SECONDS: NonZeroU32 = NonZeroU32::new(4).unwrap();

/// Answers DHCP, TFTP and HTTP until SIGINT or SIGTERM arrives. SIGHUP reads the spec again.
///
/// # Errors
///
/// If an option makes no sense, or the daemon cannot serve.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    // Before the first thread, since each has a set of its own.
    capabilities::raise();
    let options = args.resolve()?;
    // Before the first thread, too, and after the file of options, which may be root's.
    let confinement = confine::enter(&plan(&options))?;
    start_logging(options.log_format)?;
    tracing::info!("confined: {confinement}");
    confinement.lacking().for_each(|measure| tracing::warn!("not confined by {}: {}", measure.name, measure.detail));
    if options.lease_seconds < options::USUAL_LEASE_SECONDS {
        let seconds = options.lease_seconds;
        tracing::warn!(
            "--lease-seconds {seconds} is for tests: every machine renews its lease every {} seconds",
            seconds / 2
        );
    }
    daemon::run(&config(options, confinement))?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the things that pxed needs with these options.
fn plan(options: &Options) -> confine::Plan {
    let AdminConfig { socket, tcp, probes, token } = &options.admin;
    let socket = socket.as_deref().unwrap_or(Path::new(admin::SOCKET));
    let secure_boot = options.secure_boot.iter().flat_map(|(key, certificate)| [key, certificate]);
    let of_kubernetes = options.kubernetes.as_ref().map(kubernetes::Settings::needs).unwrap_or_default();
    let named = options.matchbox.iter().chain(&options.talos_config).chain(&options.fetch.ca_certificates).chain(token);
    let named = options.cluster.iter().chain(named).chain(secure_boot);
    confine::Plan {
        user: options.user.clone(),
        capabilities: match datapath(options) {
            Datapath::Socket => capabilities::WITHOUT_XDP,
            Datapath::Auto | Datapath::Xdp | Datapath::Generic => capabilities::WITH_XDP,
        },
        state: options.state.clone(),
        artifacts: options.artifacts.clone(),
        fetches: !options.offline,
        read: named.cloned().chain(of_kubernetes.files).collect(),
        sockets: socket.parent().map(Path::to_owned).into_iter().collect(),
        tcp_ports: tcp.iter().chain(probes).map(SocketAddr::port).chain([options.http_port]).collect(),
        runs_programs: of_kubernetes.runs_programs,
    }
}

fn config(options: Options, confinement: Confinement) -> Config {
    let (mode, datapath, settings) = (mode(options.mode), datapath(&options), settings(&options));
    let Options {
        cluster,
        kubernetes,
        matchbox,
        strict,
        artifacts,
        state,
        talos_config,
        http_port,
        admin,
        lease_seconds,
        offline,
        fetch,
        secure_boot,
        node,
        peers,
        trusted_relays,
        otlp_endpoint,
        tftp_ports,
        history,
        verify_up,
        ..
    } = options;
    let secure_boot = secure_boot.map(|(key, certificate)| SecureBoot { key, certificate });
    // Of several nodes, one has the address of the spec at most.
    let is_among_nodes = kubernetes.is_some() || !peers.peers.is_empty();
    let addressing = if is_among_nodes { node.addressing.among_nodes() } else { node.addressing };
    let kubernetes = kubernetes.map(|settings| Kubernetes { typed: as_typed(&settings), settings });
    Config {
        cluster,
        kubernetes,
        matchbox,
        strict,
        artifacts,
        state,
        talos_config,
        mode,
        datapath,
        settings,
        addressing,
        http_port,
        admin,
        lease_seconds,
        secure_boot,
        offline,
        fetch,
        node: peers,
        trusted_relays,
        otlp_endpoint,
        confinement: Arc::new(confinement),
        tftp_ports,
        history,
        verify_up,
    }
}

/// Returns the datapath. In proxy mode, another DHCP server on this host gives the addresses and must see packets that XDP would
/// take away, so the default is a packet socket, which gets copies.
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

/// Returns the filter of the log for `RUST_LOG`. kube warns with whole answers of the API server, which pxed tells in short lines of its own.
fn log_filter(of_environment: &str) -> String {
    format!("kube_client=off,{}", if of_environment.is_empty() { "info" } else { of_environment })
}

/// Starts the log on standard error, at level info unless `RUST_LOG` says otherwise.
fn start_logging(format: LogFormat) -> anyhow::Result<()> {
    logging::start().context("starting the log")?;
    logging::log_panics();
    let filter =
        EnvFilter::builder().parse_lossy(log_filter(&std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default()));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| logging::Stderr);
    match format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => {
            logging::set_json();
            builder.json().flatten_event(true).init();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_is_quiet_about_kube_unless_asked() {
        let filter = |text: &str| EnvFilter::builder().parse_lossy(log_filter(text)).to_string();
        let parts = |text: &str| filter(text).split(',').map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(parts(""), ["info", "kube_client=off"].map(str::to_owned).into());
        assert_eq!(parts("debug"), ["debug", "kube_client=off"].map(str::to_owned).into());
        assert_eq!(
            parts("pxed=trace,kube_client=debug"),
            ["pxed=trace", "kube_client=debug"].map(str::to_owned).into()
        );
    }
}
