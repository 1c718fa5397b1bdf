//! `pxed validate`: checks specs without serving them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use serde::Serialize;

use super::{
    api_spec,
    exit::{Ended, Exit},
    kubernetes_args::KubernetesArgs,
    options::{self, Served},
};
use crate::{
    artifacts,
    cluster_spec::{
        self, Finding, Loaded, SpecErrors, TalosConfigs,
        matchbox::{self, LoadedCatalog},
    },
    model::{
        inventory::{Inventory, Site},
        talos_config::ConfigPlace,
    },
};

/// The arguments of `pxed validate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Cluster spec: files, or directories of *.yaml, *.yml and *.json. A directory with groups and profiles is a Matchbox.
    /// By default, the paths of --config are checked
    #[arg(value_name = "PATH", env = "PXED_CLUSTER", value_delimiter = ',')]
    paths: Vec<PathBuf>,
    /// Data directory of a Matchbox
    #[arg(long, env = "PXED_MATCHBOX", value_name = "DIR")]
    matchbox: Option<PathBuf>,
    #[command(flatten)]
    kubernetes: KubernetesArgs,
    /// Machine configurations of Talos: the file or directory that `pxed run` gets. Without it, machines must not name any
    #[arg(long, env = "PXED_TALOS_CONFIG", value_name = "PATH")]
    talos_config: Option<PathBuf>,
    /// TOML file of `pxed run`, which may name all of them
    #[arg(long, env = "PXED_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one JSON document instead of text
    #[arg(long)]
    json: bool,
}

/// Checks the spec and prints every finding and a summary. Errors are a failure; warnings are not.
///
/// # Errors
///
/// If there is nothing to check, the `--config` file cannot be read, or standard output cannot be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { paths, matchbox, kubernetes, talos_config, config, json } = args;
    let served = options::served(paths, kubernetes, matchbox, talos_config, config.as_deref())?;
    if served.cluster.is_empty() && served.kubernetes.is_none() && served.matchbox.is_none() {
        let message =
            "nothing to check: name files or directories, as in pxed validate PATH, or the API with --kubernetes";
        return Err(Ended::new(Exit::Usage, message).into());
    }
    let report = Report::of(served)?;
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        out.write_all(report.to_text().as_bytes())?;
    }
    Ok(if report.valid { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The result of a check. `--json` prints its JSON form.
#[derive(Debug, Serialize)]
struct Report {
    valid: bool,
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
    sites: Vec<SiteReport>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    matchbox: Vec<MatchboxReport>,
}

/// The content of a data directory of Matchbox.
#[derive(Debug, Serialize)]
struct MatchboxReport {
    directory: PathBuf,
    groups: usize,
    profiles: usize,
}

/// The machines that one server address would serve.
#[derive(Debug, Serialize)]
struct SiteReport {
    interface: Arc<str>,
    address: std::net::Ipv4Addr,
    clusters: BTreeSet<Arc<str>>,
    machines: usize,
}

impl Report {
    fn of(Served { cluster, kubernetes, matchbox, talos_config, http_port }: Served) -> anyhow::Result<Self> {
        let place = talos_config.map(|path| artifacts::config_place(&path, None, http_port));
        let place = place.transpose().map_err(anyhow::Error::msg)?;
        let (mut directories, clusters): (Vec<_>, Vec<_>) =
            cluster.into_iter().partition(|path| matchbox::is_directory(path));
        directories.extend(matchbox);
        let mut report =
            Self { valid: true, errors: Vec::new(), warnings: Vec::new(), sites: Vec::new(), matchbox: Vec::new() };
        let configs = place.clone().map_or(TalosConfigs::Nowhere, TalosConfigs::At);
        let mut loader = cluster_spec::Loader::new().with_talos_configs(configs);
        let loaded = match kubernetes {
            Some(settings) => Some(api_spec::load(settings, loader)?),
            None => (!clusters.is_empty()).then(|| loader.load(&clusters)),
        };
        if let Some(loaded) = loaded {
            match loaded.strictly() {
                Ok(Loaded { inventory, warnings, .. }) => {
                    report.warnings.extend(warnings);
                    report.sites = sites(&inventory);
                    report.missing(place.as_ref(), &inventory);
                }
                Err(errors) => report.invalid(errors),
            }
        }
        for directory in directories {
            match matchbox::load(&directory) {
                Ok(LoadedCatalog { catalog, warnings, .. }) => {
                    report.warnings.extend(warnings);
                    let (groups, profiles) = (catalog.groups().len(), catalog.profiles().len());
                    report.matchbox.push(MatchboxReport { directory, groups, profiles });
                }
                Err(errors) => report.invalid(errors),
            }
        }
        Ok(report)
    }

    /// Adds an error for each machine configuration that is not there.
    fn missing(&mut self, place: Option<&ConfigPlace>, inventory: &Inventory) {
        let Some(place) = place else { return };
        for message in artifacts::TalosConfigs::at(place).missing(inventory) {
            self.valid = false;
            self.errors.push(Finding::about_file(&place.path, message));
        }
    }

    fn invalid(&mut self, SpecErrors { errors, warnings }: SpecErrors) {
        self.valid = false;
        self.errors.extend(errors);
        self.warnings.extend(warnings);
    }

    fn to_text(&self) -> String {
        let Self { valid, errors, warnings, sites, matchbox } = self;
        let mut text = String::new();
        for warning in warnings {
            text.push_str(&format!("warning: {warning}\n"));
        }
        for error in errors {
            text.push_str(&format!("error: {error}\n"));
        }
        for SiteReport { interface, address, clusters, machines } in sites {
            let (clusters, machines) = (count(clusters.len(), "cluster"), count(*machines, "machine"));
            text.push_str(&format!("{clusters}, {machines} on {interface} ({address})\n"));
        }
        for MatchboxReport { directory, groups, profiles } in matchbox {
            let (groups, profiles) = (count(*groups, "group"), count(*profiles, "profile"));
            text.push_str(&format!("{groups}, {profiles} of Matchbox in {}\n", directory.display()));
        }
        if !valid {
            text.push_str(&format!("{}, {}\n", count(errors.len(), "error"), count(warnings.len(), "warning")));
        }
        text
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn sites(inventory: &Inventory) -> Vec<SiteReport> {
    let mut sites: BTreeMap<&Site, SiteReport> = BTreeMap::new();
    for machine in inventory.machines() {
        let Site { interface, address } = &*machine.site;
        let report = sites.entry(&machine.site).or_insert_with(|| SiteReport {
            interface: Arc::clone(interface),
            address: *address,
            clusters: BTreeSet::new(),
            machines: 0,
        });
        report.clusters.insert(Arc::clone(&machine.cluster));
        report.machines += 1;
    }
    sites.into_values().collect()
}
