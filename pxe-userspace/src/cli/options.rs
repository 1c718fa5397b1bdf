//! The options of `pxed run`. The command line takes precedence over `PXED_…` in the environment, then comes the file of
//! `--config`, then the default.

use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use clap::ValueEnum;
use pxe_common::MacAddr;
use serde::Deserialize;

use super::{
    admin_args::AdminListenArgs,
    confine_args::ConfineArgs,
    download_args::{DownloadArgs, MirrorArgs},
    fetch_values::{BaseUrl, Rate},
    history_args::HistoryArgs,
    kubernetes_args::KubernetesArgs,
    node_args::{NodeArgs, NodeOptions},
    peer_args::PeerArgs,
    relay_args::RelayArgs,
    telemetry_args::TelemetryArgs,
    tftp_args::TftpArgs,
    up_args::UpArgs,
};
use crate::{
    admin::AdminConfig,
    confine::UserName,
    daemon::NodeConfig,
    fetch::FetchConfig,
    kubernetes,
    model::{history_limits::HistoryLimits, image_source::Upstreams, port_range::PortRange},
    named_file,
    telemetry::Endpoint,
};

/// The port of boot HTTP.
const DEFAULT_HTTP_PORT: u16 = 8000;
/// The shortest lease. A client renews it after one half and rebinds after seven eighths of it (RFC 2131 §4.4.5).
const SHORTEST_LEASE_SECONDS: u32 = 10;
/// The shortest lease for a fleet. Tests of clients use less, to see a renewal soon.
pub const USUAL_LEASE_SECONDS: u32 = 60;

/// The artifacts directory unless another one is named.
const ARTIFACTS: &str = "/var/lib/pxed/artifacts";
/// The state directory unless another one is named.
const STATE: &str = "/var/lib/pxed/state";

/// The kind of DHCP service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Full DHCP: addresses and boot files
    Server,
    /// ProxyDHCP: boot files only, beside another DHCP server that gives the addresses
    Proxy,
}

/// The treatment of DHCP packets of machines that are not in the spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unknown {
    /// They continue up the network stack, untouched
    Pass,
    /// They are dropped at the interface
    Drop,
}

/// The path on which frames reach pxed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Datapath {
    /// XDP in the driver, or else generic XDP, or else a packet socket
    Auto,
    /// XDP in the driver, or fail
    Xdp,
    /// Generic XDP, or fail
    Generic,
    /// A packet socket, without XDP
    Socket,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object per line
    Json,
}

/// The arguments of `pxed run`. The TOML file of `--config` has the same names.
#[derive(Debug, Default, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Args {
    /// Cluster spec: files, or directories of *.yaml, *.yml and *.json
    #[arg(long, env = "PXED_CLUSTER", value_name = "PATH", num_args = 1.., value_delimiter = ',')]
    cluster: Vec<PathBuf>,
    /// Data directory of a Matchbox. Its groups and profiles are served by HTTP to machines that are in no cluster. Without
    /// --cluster, pxed serves HTTP only, on every address of this host, and another server does DHCP
    #[arg(long, env = "PXED_MATCHBOX", value_name = "DIR")]
    matchbox: Option<PathBuf>,
    /// Only specs without any error come into force: at start they are fatal, later the last spec without errors stays. By
    /// default, only the objects with errors are left out, or stay as they were [default: false]
    #[arg(
        long,
        env = "PXED_STRICT",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = clap::builder::BoolishValueParser::new(),
        hide_possible_values = true
    )]
    strict: Option<bool>,
    /// Directory of loaders, kernels and initramfs images [default: /var/lib/pxed/artifacts, or assets in the directory
    /// of --matchbox]
    #[arg(long, env = "PXED_ARTIFACTS", value_name = "DIR")]
    artifacts: Option<PathBuf>,
    /// Directory of the state that survives a restart [default: /var/lib/pxed/state]
    #[arg(long, env = "PXED_STATE", value_name = "DIR")]
    state: Option<PathBuf>,
    /// Machine configurations of Talos: a file that every machine gets, or the directory in which the annotation
    /// pxed.dev/talos-config names files. Each machine alone gets its own
    #[arg(long, env = "PXED_TALOS_CONFIG", value_name = "PATH")]
    talos_config: Option<PathBuf>,
    /// Full DHCP, or ProxyDHCP beside another server [default: server]
    #[arg(long, env = "PXED_MODE")]
    mode: Option<Mode>,
    /// Treatment of DHCP packets of machines that are not in the spec [default: pass]
    #[arg(long, env = "PXED_UNKNOWN")]
    unknown: Option<Unknown>,
    /// Path on which frames reach pxed [default: auto]
    #[arg(long, env = "PXED_DATAPATH")]
    datapath: Option<Datapath>,
    /// TCP port of boot HTTP, on each cluster's pxeServerSpec.address [default: 8000]
    #[arg(long, env = "PXED_HTTP_PORT", value_name = "PORT")]
    http_port: Option<u16>,
    #[command(flatten)]
    #[serde(flatten)]
    admin: AdminListenArgs,
    /// Lease time in seconds [default: 3600]
    #[arg(long, env = "PXED_LEASE_SECONDS", value_name = "SECONDS")]
    lease_seconds: Option<u32>,
    /// DHCP requests per second that one machine may send, with bursts of four times as many; 0 sets no limit [default: 8]
    #[arg(long, env = "PXED_MACHINE_RATE", value_name = "PER_SECOND")]
    machine_rate: Option<u32>,
    /// Never touch the network to get files. What is missing has to be put into the artifacts directory by hand, or by pxed fetch
    /// --from [default: false]
    #[arg(
        long,
        env = "PXED_OFFLINE",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = clap::builder::BoolishValueParser::new(),
        hide_possible_values = true
    )]
    offline: Option<bool>,
    /// Talos releases, or a mirror with the same paths [default: https://github.com/siderolabs/talos/releases/download]
    #[arg(long, env = "PXED_TALOS_URL", value_name = "URL")]
    talos_url: Option<BaseUrl>,
    /// The Image Factory, or a mirror with the same paths [default: https://factory.talos.dev]
    #[arg(long, env = "PXED_FACTORY_URL", value_name = "URL")]
    factory_url: Option<BaseUrl>,
    /// Builds of iPXE, or a mirror with the same paths [default: https://boot.ipxe.org]
    #[arg(long, env = "PXED_IPXE_URL", value_name = "URL")]
    ipxe_url: Option<BaseUrl>,
    /// Signed releases of iPXE and its shim, or a mirror with the same paths [default: https://github.com/ipxe]
    #[arg(long, env = "PXED_IPXE_RELEASES_URL", value_name = "URL")]
    ipxe_releases_url: Option<BaseUrl>,
    /// Certificates in PEM of authorities to trust for these addresses, besides the host's own
    #[arg(long, env = "PXED_CA_CERTIFICATES", value_name = "FILE")]
    ca_certificates: Option<PathBuf>,
    /// Bytes per second that all downloads together may use, as in 500k, 20M or 1.5G; without it there is no limit
    #[arg(long, env = "PXED_BANDWIDTH_LIMIT", value_name = "RATE")]
    bandwidth_limit: Option<Rate>,
    /// Private key (RSA, PEM) that signs the unified kernel images of machines with pxed.dev/boot: uki for Secure Boot
    #[arg(long, env = "PXED_SECURE_BOOT_KEY", value_name = "FILE")]
    secure_boot_key: Option<PathBuf>,
    /// Certificate (PEM) of --secure-boot-key, which the machines' firmware or shim trusts
    #[arg(long, env = "PXED_SECURE_BOOT_CERT", value_name = "FILE")]
    secure_boot_cert: Option<PathBuf>,
    /// Form of log lines [default: text]
    #[arg(long, env = "PXED_LOG_FORMAT")]
    log_format: Option<LogFormat>,
    #[command(flatten)]
    #[serde(flatten)]
    kubernetes: KubernetesArgs,
    #[command(flatten)]
    #[serde(flatten)]
    confine: ConfineArgs,
    #[command(flatten)]
    #[serde(flatten)]
    mirror: MirrorArgs,
    #[command(flatten)]
    #[serde(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    #[serde(flatten)]
    peers: PeerArgs,
    #[command(flatten)]
    #[serde(flatten)]
    relays: RelayArgs,
    #[command(flatten)]
    #[serde(flatten)]
    telemetry: TelemetryArgs,
    #[command(flatten)]
    #[serde(flatten)]
    tftp: TftpArgs,
    #[command(flatten)]
    #[serde(flatten)]
    history: HistoryArgs,
    #[command(flatten)]
    #[serde(flatten)]
    up: UpArgs,
    /// TOML file with any of these options
    #[arg(long, env = "PXED_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    config: Option<PathBuf>,
}

/// The options in force.
#[derive(Clone, Debug)]
pub struct Options {
    /// The files and directories of the cluster spec. At least one if there is neither `kubernetes` nor `matchbox`.
    pub cluster: Vec<PathBuf>,
    /// The API server that has the cluster spec.
    pub kubernetes: Option<kubernetes::Settings>,
    /// The data directory of a Matchbox.
    pub matchbox: Option<PathBuf>,
    /// Set if only specs without errors come into force.
    pub strict: bool,
    /// The artifacts directory.
    pub artifacts: PathBuf,
    /// The state directory.
    pub state: PathBuf,
    /// The file or directory of machine configurations.
    pub talos_config: Option<PathBuf>,
    /// The kind of DHCP service.
    pub mode: Mode,
    /// The treatment of unknown machines.
    pub unknown: Unknown,
    /// The path on which frames reach pxed.
    pub datapath: Datapath,
    /// The port of boot HTTP.
    pub http_port: u16,
    /// The ways into the admin API.
    pub admin: AdminConfig,
    /// The lease time in seconds.
    pub lease_seconds: u32,
    /// The DHCP requests per second that one machine may send. `None` means no limit.
    pub machine_rate: Option<NonZeroU32>,
    /// Set if files are never downloaded.
    pub offline: bool,
    /// The settings of downloads.
    pub fetch: FetchConfig,
    /// The files of the private key and the certificate that sign unified kernel images.
    pub secure_boot: Option<(PathBuf, PathBuf)>,
    /// The addresses of a node among several.
    pub node: NodeOptions,
    /// This node and the others of the fleet.
    pub peers: NodeConfig,
    /// The relays whose frames count as the machines' own.
    pub trusted_relays: Arc<[MacAddr]>,
    /// The collector of traces.
    pub otlp_endpoint: Option<Endpoint>,
    /// The user to become.
    pub user: Option<UserName>,
    /// The ports of TFTP transfers, if they are not the kernel's choice.
    pub tftp_ports: Option<PortRange>,
    /// The limits of the history on disk, if one is kept.
    pub history: Option<HistoryLimits>,
    /// Set if the Talos API of machines is tried.
    pub verify_up: bool,
    /// The form of log lines.
    pub log_format: LogFormat,
}

impl Args {
    /// Returns the options in force, with those of the `--config` file.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or understood, or an option makes no sense.
    pub fn resolve(self) -> anyhow::Result<Options> {
        let file = match &self.config {
            Some(path) => read(path)?,
            None => Self::default(),
        };
        self.over(file)
    }

    fn over(self, file: Self) -> anyhow::Result<Options> {
        let Self {
            cluster,
            matchbox,
            strict,
            artifacts,
            state,
            talos_config,
            mode,
            unknown,
            datapath,
            http_port,
            admin,
            lease_seconds,
            machine_rate,
            offline,
            talos_url,
            factory_url,
            ipxe_url,
            ipxe_releases_url,
            ca_certificates,
            bandwidth_limit,
            secure_boot_key,
            secure_boot_cert,
            log_format,
            kubernetes,
            node,
            peers,
            relays,
            telemetry,
            confine,
            mirror,
            tftp,
            history,
            up,
            config: _,
        } = self;
        let matchbox = matchbox.or(file.matchbox);
        let usual = Upstreams::default();
        let url = |given: Option<BaseUrl>, of_file: Option<BaseUrl>, usual| {
            given.or(of_file).map_or(usual, |BaseUrl(url)| url)
        };
        let upstreams = Upstreams {
            talos: url(talos_url, file.talos_url, usual.talos),
            factory: url(factory_url, file.factory_url, usual.factory),
            ipxe: url(ipxe_url, file.ipxe_url, usual.ipxe),
            ipxe_releases: url(ipxe_releases_url, file.ipxe_releases_url, usual.ipxe_releases),
        };
        let assets = || matchbox.as_ref().map(|directory| directory.join("assets"));
        let options = Options {
            cluster: if cluster.is_empty() { file.cluster } else { cluster },
            kubernetes: kubernetes.over(file.kubernetes)?,
            artifacts: artifacts.or(file.artifacts).or_else(assets).unwrap_or_else(|| ARTIFACTS.into()),
            matchbox,
            strict: strict.or(file.strict).unwrap_or(false),
            state: state.or(file.state).unwrap_or_else(|| STATE.into()),
            talos_config: talos_config.or(file.talos_config),
            mode: mode.or(file.mode).unwrap_or(Mode::Server),
            unknown: unknown.or(file.unknown).unwrap_or(Unknown::Pass),
            datapath: datapath.or(file.datapath).unwrap_or(Datapath::Auto),
            http_port: http_port.or(file.http_port).unwrap_or(DEFAULT_HTTP_PORT),
            admin: admin.over(file.admin)?,
            lease_seconds: lease_seconds.or(file.lease_seconds).unwrap_or(3600),
            machine_rate: NonZeroU32::new(machine_rate.or(file.machine_rate).unwrap_or(8)),
            offline: offline.or(file.offline).unwrap_or(false),
            fetch: FetchConfig {
                upstreams,
                peers: mirror.over(file.mirror),
                ca_certificates: ca_certificates.or(file.ca_certificates),
                bandwidth_limit: bandwidth_limit.or(file.bandwidth_limit).map(|Rate(rate)| rate),
                ..FetchConfig::default()
            },
            secure_boot: secure_boot(
                secure_boot_key.or(file.secure_boot_key),
                secure_boot_cert.or(file.secure_boot_cert),
            )?,
            log_format: log_format.or(file.log_format).unwrap_or(LogFormat::Text),
            node: node.over(file.node)?,
            peers: peers.over(file.peers)?,
            trusted_relays: relays.over(file.relays)?,
            otlp_endpoint: telemetry.over(file.telemetry),
            user: confine.over(file.confine),
            tftp_ports: tftp.over(&file.tftp),
            history: history.over(file.history),
            verify_up: up.over(&file.up),
        };
        anyhow::ensure!(
            !options.cluster.is_empty() || options.kubernetes.is_some() || options.matchbox.is_some(),
            "no cluster spec: name its files or directories with --cluster PATH, or read it from the API with --kubernetes, or name a \
             Matchbox directory with --matchbox DIR"
        );
        one_spec(&options.cluster, options.kubernetes.as_ref())?;
        anyhow::ensure!(
            options.lease_seconds >= SHORTEST_LEASE_SECONDS,
            "--lease-seconds {}: a lease of less than {SHORTEST_LEASE_SECONDS} seconds ends before a client has renewed it",
            options.lease_seconds
        );
        anyhow::ensure!(
            options.peers.peers.is_empty() || options.kubernetes.is_none(),
            "--peers and --kubernetes: there the nodes know each other by their Leases, so leave --peers away"
        );
        anyhow::ensure!(
            options.peers.peers.is_empty() || !options.cluster.is_empty(),
            "--peers without --cluster: nodes share the machines of a cluster spec"
        );
        anyhow::ensure!(options.http_port != 0, "--http-port 0: machines must know the port, so choose one");
        anyhow::ensure!(
            options.unknown != Unknown::Drop || options.datapath != Datapath::Socket,
            "--unknown drop with --datapath socket: only XDP can drop packets"
        );
        Ok(options)
    }
}

/// Checks that a spec comes from one place.
fn one_spec(cluster: &[PathBuf], kubernetes: Option<&kubernetes::Settings>) -> anyhow::Result<()> {
    anyhow::ensure!(
        cluster.is_empty() || kubernetes.is_none(),
        "--cluster and --kubernetes: the cluster spec is either in files or in the API, so leave one of the two away"
    );
    Ok(())
}

/// Returns the files of the key for Secure Boot.
fn secure_boot(key: Option<PathBuf>, certificate: Option<PathBuf>) -> anyhow::Result<Option<(PathBuf, PathBuf)>> {
    match (key, certificate) {
        (Some(key), Some(certificate)) => Ok(Some((key, certificate))),
        (Some(key), None) => anyhow::bail!(
            "--secure-boot-key {}: name its certificate, too, with --secure-boot-cert FILE",
            key.display()
        ),
        (None, Some(certificate)) => anyhow::bail!(
            "--secure-boot-cert {}: name its private key, too, with --secure-boot-key FILE",
            certificate.display()
        ),
        (None, None) => Ok(None),
    }
}

/// Returns the options of the admin API in the `--config` file, and the state directory.
///
/// # Errors
///
/// If the file cannot be read or understood.
pub(super) fn admin_of_server(config: Option<&Path>) -> anyhow::Result<(AdminListenArgs, PathBuf)> {
    let file = config.map_or_else(|| Ok(Args::default()), read)?;
    Ok((file.admin, file.state.unwrap_or_else(|| STATE.into())))
}

/// The part of the options that `pxed validate` checks.
#[derive(Debug)]
pub(super) struct Served {
    /// The files and directories of the cluster spec.
    pub(super) cluster: Vec<PathBuf>,
    /// The API server that has the cluster spec.
    pub(super) kubernetes: Option<kubernetes::Settings>,
    /// The data directory of a Matchbox.
    pub(super) matchbox: Option<PathBuf>,
    /// The file or directory of machine configurations.
    pub(super) talos_config: Option<PathBuf>,
    /// The port of boot HTTP.
    pub(super) http_port: u16,
}

/// Returns what `pxed run` would serve with these options.
///
/// # Errors
///
/// If the file cannot be read or understood.
pub(super) fn served(
    cluster: Vec<PathBuf>,
    kubernetes: KubernetesArgs,
    matchbox: Option<PathBuf>,
    talos_config: Option<PathBuf>,
    config: Option<&Path>,
) -> anyhow::Result<Served> {
    let file = config.map_or_else(|| Ok(Args::default()), read)?;
    let (cluster, kubernetes) = specs(cluster, kubernetes, file.cluster, file.kubernetes)?;
    Ok(Served {
        cluster,
        kubernetes,
        matchbox: matchbox.or(file.matchbox),
        talos_config: talos_config.or(file.talos_config),
        http_port: file.http_port.unwrap_or(DEFAULT_HTTP_PORT),
    })
}

/// Returns the place of the cluster spec. What the command line names takes precedence over the file, whichever of the two it is.
fn specs(
    cluster: Vec<PathBuf>,
    kubernetes: KubernetesArgs,
    cluster_of_file: Vec<PathBuf>,
    kubernetes_of_file: KubernetesArgs,
) -> anyhow::Result<(Vec<PathBuf>, Option<kubernetes::Settings>)> {
    if !cluster.is_empty() {
        let kubernetes = kubernetes.over(KubernetesArgs::default())?;
        one_spec(&cluster, kubernetes.as_ref())?;
        return Ok((cluster, None));
    }
    let is_asked = kubernetes.kubernetes == Some(true);
    let kubernetes = kubernetes.over(kubernetes_of_file)?;
    let cluster = if is_asked { Vec::new() } else { cluster_of_file };
    one_spec(&cluster, kubernetes.as_ref())?;
    Ok((cluster, kubernetes))
}

/// The specs and the directory that `pxed fetch` works with.
pub(super) struct Fetched {
    /// The files and directories of the cluster spec.
    pub(super) cluster: Vec<PathBuf>,
    /// The API server that has the cluster spec.
    pub(super) kubernetes: Option<kubernetes::Settings>,
    /// The artifacts directory.
    pub(super) artifacts: PathBuf,
}

/// Returns the cluster specs and the artifacts directory that `pxed run` would use with these options.
///
/// # Errors
///
/// If the file cannot be read or understood.
pub(super) fn fetched(
    cluster: Vec<PathBuf>,
    kubernetes: KubernetesArgs,
    artifacts: Option<PathBuf>,
    config: Option<&Path>,
) -> anyhow::Result<Fetched> {
    let file = config.map_or_else(|| Ok(Args::default()), read)?;
    let assets = || file.matchbox.as_ref().map(|directory| directory.join("assets"));
    let artifacts = artifacts.or(file.artifacts).or_else(assets).unwrap_or_else(|| ARTIFACTS.into());
    let (cluster, kubernetes) = specs(cluster, kubernetes, file.cluster, file.kubernetes)?;
    Ok(Fetched { cluster, kubernetes, artifacts })
}

/// Returns whether nothing may be downloaded, and the settings of downloads, with those of the `--config` file.
///
/// # Errors
///
/// If the file cannot be read or understood.
pub(super) fn downloads(given: DownloadArgs, config: Option<&Path>) -> anyhow::Result<(bool, FetchConfig)> {
    let file = config.map_or_else(|| Ok(Args::default()), read)?;
    let DownloadArgs {
        mirror,
        offline,
        talos_url,
        factory_url,
        ipxe_url,
        ipxe_releases_url,
        ca_certificates,
        bandwidth_limit,
    } = given;
    let given = Args {
        offline,
        mirror,
        talos_url,
        factory_url,
        ipxe_url,
        ipxe_releases_url,
        ca_certificates,
        bandwidth_limit,
        ..Args::default()
    };
    let cluster = vec![PathBuf::new()];
    let file = Args { cluster: Vec::new(), kubernetes: KubernetesArgs::default(), ..file };
    let Options { offline, fetch, .. } = Args { cluster, ..given }.over(file)?;
    Ok((offline, fetch))
}

fn read(path: &Path) -> anyhow::Result<Args> {
    let text = named_file::read_text(path).with_context(|| format!("--config {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("--config {}", path.display()))
}

#[cfg(test)]
mod tests;
