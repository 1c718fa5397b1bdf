//! The options of `pxed run`. The command line takes precedence over `PXED_…` in the environment, then comes the file of
//! `--config`, then the default.

use std::{
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::ValueEnum;
use serde::Deserialize;

use super::{
    admin_address::AdminAddress,
    download_args::DownloadArgs,
    fetch_values::{BaseUrl, Rate},
};
use crate::{fetch::FetchConfig, model::image_source::Upstreams};

/// The port of boot HTTP.
const DEFAULT_HTTP_PORT: u16 = 8000;
/// The shortest lease. A client renews it after one half and rebinds after seven eighths of it (RFC 2131 §4.4.5).
const SHORTEST_LEASE_SECONDS: u32 = 10;
/// The shortest lease for a fleet. Tests of clients use less, to see a renewal soon.
pub const USUAL_LEASE_SECONDS: u32 = 60;

/// The artifacts directory unless another one is named.
const ARTIFACTS: &str = "/var/lib/pxed/artifacts";

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
    /// Address of the API, metrics and dashboard; keep it off the boot network. http://ADDRESS:PORT works too
    /// [default: 127.0.0.1:8001]
    #[arg(long, env = "PXED_ADMIN", value_name = "ADDRESS:PORT")]
    admin: Option<AdminAddress>,
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
    /// TOML file with any of these options
    #[arg(long, env = "PXED_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    config: Option<PathBuf>,
}

/// The options in force.
#[derive(Clone, Debug)]
pub struct Options {
    /// The files and directories of the cluster spec. At least one if there is no `matchbox`.
    pub cluster: Vec<PathBuf>,
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
    /// The address of the admin listener.
    pub admin: SocketAddr,
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
            artifacts: artifacts.or(file.artifacts).or_else(assets).unwrap_or_else(|| ARTIFACTS.into()),
            matchbox,
            strict: strict.or(file.strict).unwrap_or(false),
            state: state.or(file.state).unwrap_or_else(|| "/var/lib/pxed/state".into()),
            talos_config: talos_config.or(file.talos_config),
            mode: mode.or(file.mode).unwrap_or(Mode::Server),
            unknown: unknown.or(file.unknown).unwrap_or(Unknown::Pass),
            datapath: datapath.or(file.datapath).unwrap_or(Datapath::Auto),
            http_port: http_port.or(file.http_port).unwrap_or(DEFAULT_HTTP_PORT),
            admin: admin.or(file.admin).unwrap_or_default().to_listen()?,
            lease_seconds: lease_seconds.or(file.lease_seconds).unwrap_or(3600),
            machine_rate: NonZeroU32::new(machine_rate.or(file.machine_rate).unwrap_or(8)),
            offline: offline.or(file.offline).unwrap_or(false),
            fetch: FetchConfig {
                upstreams,
                ca_certificates: ca_certificates.or(file.ca_certificates),
                bandwidth_limit: bandwidth_limit.or(file.bandwidth_limit).map(|Rate(rate)| rate),
                ..FetchConfig::default()
            },
            secure_boot: secure_boot(
                secure_boot_key.or(file.secure_boot_key),
                secure_boot_cert.or(file.secure_boot_cert),
            )?,
            log_format: log_format.or(file.log_format).unwrap_or(LogFormat::Text),
        };
        anyhow::ensure!(
            !options.cluster.is_empty() || options.matchbox.is_some(),
            "no cluster spec: name its files or directories with --cluster PATH, or a Matchbox directory with --matchbox DIR"
        );
        anyhow::ensure!(
            options.lease_seconds >= SHORTEST_LEASE_SECONDS,
            "--lease-seconds {}: a lease of less than {SHORTEST_LEASE_SECONDS} seconds ends before a client has renewed it",
            options.lease_seconds
        );
        anyhow::ensure!(options.http_port != 0, "--http-port 0: machines must know the port, so choose one");
        anyhow::ensure!(
            options.unknown != Unknown::Drop || options.datapath != Datapath::Socket,
            "--unknown drop with --datapath socket: only XDP can drop packets"
        );
        Ok(options)
    }
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

/// Returns the address of the admin listener of a running pxed: the given one, or that of its `--config` file, or the default.
///
/// # Errors
///
/// If the file cannot be read or understood.
pub(super) fn admin_of_server(given: Option<AdminAddress>, config: Option<&Path>) -> anyhow::Result<AdminAddress> {
    Ok(match (given, config) {
        (Some(given), _) => given,
        (None, Some(path)) => read(path)?.admin.unwrap_or_default(),
        (None, None) => AdminAddress::default(),
    })
}

/// The part of the options that `pxed validate` checks.
#[derive(Debug)]
pub(super) struct Served {
    /// The files and directories of the cluster spec.
    pub(super) cluster: Vec<PathBuf>,
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
    matchbox: Option<PathBuf>,
    talos_config: Option<PathBuf>,
    config: Option<&Path>,
) -> anyhow::Result<Served> {
    let file = config.map_or_else(|| Ok(Args::default()), read)?;
    Ok(Served {
        cluster: if cluster.is_empty() { file.cluster } else { cluster },
        matchbox: matchbox.or(file.matchbox),
        talos_config: talos_config.or(file.talos_config),
        http_port: file.http_port.unwrap_or(DEFAULT_HTTP_PORT),
    })
}

/// Returns the cluster specs and the artifacts directory that `pxed run` would use with these options.
///
/// # Errors
///
/// If the file cannot be read or understood.
pub(super) fn fetched(
    cluster: Vec<PathBuf>,
    artifacts: Option<PathBuf>,
    config: Option<&Path>,
) -> anyhow::Result<(Vec<PathBuf>, PathBuf)> {
    let file = config.map_or_else(|| Ok(Args::default()), read)?;
    let assets = || file.matchbox.as_ref().map(|directory| directory.join("assets"));
    let artifacts = artifacts.or(file.artifacts).or_else(assets).unwrap_or_else(|| ARTIFACTS.into());
    Ok((if cluster.is_empty() { file.cluster } else { cluster }, artifacts))
}

/// Returns whether nothing may be downloaded, and the settings of downloads, with those of the `--config` file.
///
/// # Errors
///
/// If the file cannot be read or understood.
pub(super) fn downloads(given: DownloadArgs, config: Option<&Path>) -> anyhow::Result<(bool, FetchConfig)> {
    let file = config.map_or_else(|| Ok(Args::default()), read)?;
    let DownloadArgs { offline, talos_url, factory_url, ipxe_url, ipxe_releases_url, ca_certificates, bandwidth_limit } =
        given;
    let given = Args {
        offline,
        talos_url,
        factory_url,
        ipxe_url,
        ipxe_releases_url,
        ca_certificates,
        bandwidth_limit,
        ..Args::default()
    };
    let cluster = vec![PathBuf::new()];
    let Options { offline, fetch, .. } = Args { cluster, ..given }.over(file)?;
    Ok((offline, fetch))
}

fn read(path: &Path) -> anyhow::Result<Args> {
    let text = std::fs::read_to_string(path).with_context(|| format!("--config {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("--config {}", path.display()))
}

#[cfg(test)]
mod tests {
    use clap::Args as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn line(words: &[&str]) -> Args {
        let words = std::iter::once("pxed").chain(words.iter().copied());
        <Line as clap::Parser>::try_parse_from(words).unwrap().args
    }

    #[test]
    fn command_line_wins_over_the_file_and_the_file_over_the_default() {
        let file =
            toml::from_str("cluster = [\"a.yaml\"]\nhttp-port = 8080\nlease-seconds = 600\nmode = \"proxy\"").unwrap();
        let options = line(&["--lease-seconds", "900"]).over(file).unwrap();
        assert_eq!(options.cluster, [PathBuf::from("a.yaml")]);
        assert_eq!((options.lease_seconds, options.http_port, options.mode), (900, 8080, Mode::Proxy));
        assert_eq!((options.unknown, options.datapath), (Unknown::Pass, Datapath::Auto));
    }

    #[test]
    fn key_and_certificate_are_named_together() {
        let options = |words: &[&str]| line(&[&["--cluster", "a"], words].concat()).resolve();
        let both = options(&["--secure-boot-key", "k", "--secure-boot-cert", "c"]).unwrap();
        assert_eq!(both.secure_boot, Some(("k".into(), "c".into())));
        assert_eq!(options(&[]).unwrap().secure_boot, None);
        for (given, missing) in
            [("--secure-boot-key", "--secure-boot-cert"), ("--secure-boot-cert", "--secure-boot-key")]
        {
            let error = options(&[given, "f"]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{given} f: ")) && error.contains(missing), "{error}");
        }
        let file = toml::from_str("secure-boot-key = \"k\"").unwrap();
        let mixed = line(&["--cluster", "a", "--secure-boot-cert", "c"]).over(file).unwrap();
        assert_eq!(mixed.secure_boot, Some(("k".into(), "c".into())));
    }

    #[test]
    fn admin_listener_is_found_where_the_server_finds_it() {
        let mut config = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut config, b"admin = \"http://127.0.0.1:9001/\"\nstate = \"/s\"").unwrap();
        let url = |admin: Option<&str>, config| -> anyhow::Result<String> {
            Ok(admin_of_server(admin.map(|admin| admin.parse().unwrap()), config)?.to_url())
        };
        let config = config.path();
        assert_eq!(url(None, None).unwrap(), "http://127.0.0.1:8001");
        assert_eq!(url(None, Some(config)).unwrap(), "http://127.0.0.1:9001");
        assert_eq!(url(Some("127.0.0.1:7001"), Some(config)).unwrap(), "http://127.0.0.1:7001");
        assert!(url(None, Some(Path::new("/nowhere.toml"))).unwrap_err().to_string().contains("/nowhere.toml"));
        let path = config.display().to_string();
        let server = |words: &[&str]| line(&[&["--cluster", "a"], words].concat()).resolve().unwrap().admin.to_string();
        assert_eq!(server(&[]), "127.0.0.1:8001");
        assert_eq!(server(&["--config", &path]), "127.0.0.1:9001");
        assert_eq!(server(&["--config", &path, "--admin", "127.0.0.1:7001"]), "127.0.0.1:7001");
        let refused =
            line(&["--cluster", "a", "--admin", "http://pxed.example:8001"]).resolve().unwrap_err().to_string();
        assert!(refused.contains("ADDRESS:PORT"), "{refused}");
        assert!(toml::from_str::<Args>("admin = \"here\"").unwrap_err().to_string().contains("ADDRESS:PORT"));
    }

    /// The rule for every option is --the-name, PXED_THE_NAME, and the key the-name in the file.
    #[test]
    fn options_have_their_variable_and_their_key() {
        let mut options = 0;
        for argument in Args::augment_args(clap::Command::new("run")).get_arguments() {
            let name = argument.get_long().unwrap();
            let variable = format!("PXED_{}", name.replace('-', "_").to_uppercase());
            assert_eq!(argument.get_env().and_then(|name| name.to_str()), Some(&*variable), "--{name}");
            let unknown = toml::from_str::<Args>(&format!("{name} = {{}}")).unwrap_err().to_string();
            // A file cannot name another file.
            assert_eq!(unknown.contains("unknown field"), name == "config", "{name}: {unknown}");
            options += 1;
        }
        assert_eq!(options, 24);
    }

    #[test]
    fn readme_has_every_option() {
        let readme = include_str!("../../../README.md");
        let mut rows: Vec<_> = readme.lines().filter(|line| line.starts_with("| `--")).collect();
        for argument in Args::augment_args(clap::Command::new("run")).get_arguments() {
            let name = argument.get_long().unwrap();
            let variable = argument.get_env().unwrap().to_str().unwrap();
            let key = if name == "config" { String::new() } else { format!("`{name}` ") };
            let values = argument.get_possible_values();
            let values: Vec<_> = values.iter().map(clap::builder::PossibleValue::get_name).collect();
            let many = if argument.get_num_args().is_some_and(|number| number.max_values() > 1) { "…" } else { "" };
            let value = match argument.get_value_names() {
                Some(names) if values.is_empty() => names.iter().map(ToString::to_string).collect(),
                _ => values.join("\\|"),
            };
            // A switch needs no value.
            let is_switch = argument.get_num_args().is_some_and(|number| number.min_values() == 0);
            let value = if is_switch { String::new() } else { format!(" {value}{many}") };
            let row = format!("| `--{name}{value}` | `{variable}` | {key}| ");
            let found = rows.iter().position(|line| line.starts_with(&row));
            let line = rows.swap_remove(found.unwrap_or_else(|| panic!("no row {row}…")));
            let default = line[row.len()..].split('`').nth(1).filter(|_| line[row.len()..].starts_with('`'));
            let help = argument.get_help().unwrap().to_string();
            let in_help = help.split_once("[default: ").map(|(_, default)| default);
            match (default, in_help) {
                (None, None) => {}
                (Some(default), Some(in_help)) if in_help.starts_with(default) => {}
                _ => panic!("--{name}: the README says {default:?}, the help says {in_help:?}"),
            }
        }
        assert!(rows.is_empty(), "there is no such option: {rows:?}");
    }

    #[test]
    fn strictness_is_a_switch() {
        let strict =
            |words: &[&str]| line(&[&["--cluster", "a"], words].concat()).over(Args::default()).unwrap().strict;
        assert_eq!([strict(&[]), strict(&["--strict"])], [false, true]);
        assert_eq!([strict(&["--strict=false"]), strict(&["--strict=1"])], [false, true]);
        let file = || toml::from_str("cluster = [\"a\"]\nstrict = true").unwrap();
        assert!(line(&[]).over(file()).unwrap().strict && !line(&["--strict=false"]).over(file()).unwrap().strict);
    }

    #[test]
    fn downloads_are_configured_from_either_place() {
        let file = "offline = true\nipxe-releases-url = \"http://mirror.example/gh\"\nbandwidth-limit = \"20M\"\ntalos-url = \"http://mirror.example/talos/\"\nca-certificates = \"/ca.pem\"";
        let file = || toml::from_str(file).unwrap();
        let options = line(&["--cluster", "a", "--ipxe-url", "https://mirror.example/ipxe"]).over(file()).unwrap();
        assert!(options.offline);
        assert_eq!(options.fetch.bandwidth_limit.map(std::num::NonZeroU64::get), Some(20_000_000));
        assert_eq!(options.fetch.ca_certificates, Some(PathBuf::from("/ca.pem")));
        let Upstreams { talos, factory, ipxe, ipxe_releases } = options.fetch.upstreams;
        let usual = Upstreams::default();
        assert_eq!(
            (&*talos, factory, &*ipxe, &*ipxe_releases),
            ("http://mirror.example/talos", usual.factory, "https://mirror.example/ipxe", "http://mirror.example/gh")
        );
        let given =
            ["--cluster", "a", "--offline=false", "--bandwidth-limit", "500k", "--talos-url", "http://other.example"];
        let options = line(&given).over(file()).unwrap();
        assert!(!options.offline && &*options.fetch.upstreams.talos == "http://other.example");
        assert_eq!(options.fetch.bandwidth_limit.map(std::num::NonZeroU64::get), Some(500_000));
        let plain = line(&["--cluster", "a"]).over(Args::default()).unwrap();
        assert!(
            !plain.offline && plain.fetch.upstreams == Upstreams::default() && plain.fetch.bandwidth_limit.is_none()
        );
        for wrong in
            ["talos-url = \"ftp://a\"", "factory-url = \"mirror\"", "bandwidth-limit = \"fast\"", "bandwidth-limit = 0"]
        {
            assert!(toml::from_str::<Args>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn paths_may_follow_one_flag() {
        assert_eq!(line(&["--cluster", "a", "b", "--cluster", "c"]).over(Args::default()).unwrap().cluster.len(), 3);
    }

    #[test]
    fn matchbox_directory_is_enough_and_brings_its_assets() {
        let options = |words: &[&str]| line(words).over(Args::default()).unwrap();
        let alone = options(&["--matchbox", "/m"]);
        assert_eq!((alone.cluster.len(), alone.artifacts), (0, PathBuf::from("/m/assets")));
        assert_eq!(options(&["--matchbox", "/m", "--artifacts", "/a"]).artifacts, PathBuf::from("/a"));
        assert_eq!(options(&["--cluster", "a"]).artifacts, PathBuf::from("/var/lib/pxed/artifacts"));
    }

    #[test]
    fn options_that_make_no_sense_are_refused_with_a_reason() {
        let refused = |words: &[&str]| line(words).over(Args::default()).unwrap_err().to_string();
        assert!(refused(&[]).contains("--cluster"));
        assert!(refused(&["--cluster", "a", "--lease-seconds", "9"]).contains("10 seconds"));
        assert!(refused(&["--cluster", "a", "--http-port", "0"]).contains("port"));
        assert!(refused(&["--cluster", "a", "--unknown", "drop", "--datapath", "socket"]).contains("XDP"));
        assert!(toml::from_str::<Args>("http_port = 1").unwrap_err().to_string().contains("unknown field"));
    }
}
