//! `pxed fetch`: gets the files that machines boot from, and shows what is known of them.

mod accept;
mod board;
mod bundling;
mod download;
mod downloads;
mod inspect;
mod output;
mod report;
mod spec;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::SystemTime,
};

use self::{output::Output, report::Report, spec::Spec};
use super::{
    download_args::DownloadArgs,
    exit::{Ended, Exit},
    kubernetes_args::{KubernetesArgs, as_typed},
    options::{self, Fetched},
};
use crate::{
    artifacts::{self, Records, Store},
    logging,
};

/// The arguments of `pxed fetch`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("action").args(["plan", "verify", "accept", "downloads_only", "bundle", "from"]))]
pub struct Args {
    /// Cluster spec, as after --cluster
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Cluster spec: files, or directories of *.yaml, *.yml and *.json
    #[arg(long, env = "PXED_CLUSTER", value_name = "PATH", num_args = 1.., value_delimiter = ',')]
    cluster: Vec<PathBuf>,
    /// Directory of loaders, kernels and initramfs images [default: /var/lib/pxed/artifacts, or assets in the directory
    /// of --matchbox]
    #[arg(long, env = "PXED_ARTIFACTS", value_name = "DIR")]
    artifacts: Option<PathBuf>,
    /// TOML file of `pxed run`, which may name both
    #[arg(long, env = "PXED_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Show each file that the spec needs, where it comes from, how it is verified, and whether it is there. Fails if one is missing or is
    /// not served
    #[arg(long)]
    plan: bool,
    /// Read every file and compare it with what is recorded. Fails if something is wrong. With --cluster, also looks for what the spec needs
    #[arg(long)]
    verify: bool,
    /// Record what these files are now, so that they are served as they are. For one that was deleted, forget what was recorded, so that
    /// the next download is taken as it comes
    #[arg(long, value_name = "PATH", num_args = 1..)]
    accept: Vec<PathBuf>,
    /// List the files that pxed has downloaded itself and nobody has changed since, one a line
    #[arg(long = "downloads")]
    downloads_only: bool,
    /// Download what is missing, then write everything that the spec needs into one file for a host without a way to the upstreams.
    /// - is standard output
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Take what the spec needs out of such a file, and download nothing. - is standard input
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    #[command(flatten)]
    kubernetes: KubernetesArgs,
    #[command(flatten)]
    downloads: DownloadArgs,
    /// Form of what is printed
    #[arg(long, value_name = "FORM", default_value = "text")]
    output: Output,
}

/// Downloads, shows, verifies, accepts or bundles files. Fails if something that the spec needs is missing.
///
/// # Errors
///
/// If there is no spec where one is needed, nothing of it is left, or the artifacts directory cannot be used.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args {
        mut paths,
        cluster,
        artifacts,
        config,
        plan,
        verify,
        accept,
        downloads_only,
        bundle,
        from,
        kubernetes,
        downloads,
        output,
    } = args;
    paths.extend(cluster);
    let Fetched { cluster, kubernetes, artifacts: root } =
        options::fetched(paths, kubernetes, artifacts, config.as_deref())?;
    let (is_offline, settings) = options::downloads(downloads, config.as_deref())?;
    // As `pxed run` does. A report of a directory that is not there has to say so.
    let fills = !(plan || verify || downloads_only || is_offline && from.is_none()) && accept.is_empty();
    let records = Arc::new(open(&root, fills)?);
    if !accept.is_empty() {
        let report = accept::Report::of(&records, &accept, SystemTime::now());
        return output.print(&report, report.is_right());
    }
    if downloads_only {
        return output.print(&downloads::Report(records.downloads()), true);
    }
    if !verify && cluster.is_empty() && kubernetes.is_none() {
        let message = "no cluster spec: name its files or directories with --cluster PATH, or read it from the API with --kubernetes; \
                       what machines need is in it";
        return Err(Ended::new(Exit::Usage, message).into());
    }
    let spec = match (&kubernetes, cluster.is_empty()) {
        (Some(settings), _) => Spec::of_api(settings.clone(), records.store())?,
        (None, true) => Spec::default(),
        (None, false) => Spec::load(&cluster, records.store())?,
    };
    if verify {
        let report = inspect::Report::of(&records, spec, &root);
        return output.print(&report, report.is_right);
    }
    if plan {
        let (upstreams, authorities) = (&settings.upstreams, settings.ca_certificates.as_deref());
        let command = match &kubernetes {
            Some(settings) => artifacts::FetchCommand::of_spec(&as_typed(settings), &root, upstreams, authorities),
            None => artifacts::FetchCommand::new(&cluster, &root, upstreams, authorities),
        };
        let report = Report::of(&records, spec, &command, &settings.upstreams);
        return output.print(&report, report.is_complete);
    }
    // Files that the spec does not need make way for those that it needs when room is short.
    let needed: Vec<&str> = spec.plan.iter().map(|wanted| &*wanted.path).collect();
    if let Err(error) = records.needed(&needed, SystemTime::now()) {
        logging::say(&format!("warning: {error}"));
    }
    if let Some(from) = from {
        let unbundled = bundling::read(&records, &spec, &from)?;
        let (missing, warnings) = bundling::missing(&records, &spec);
        return Ok(conclude(unbundled.taken.len(), unbundled.there.len(), &missing, &warnings));
    }
    if is_offline {
        let Some(bundle) = bundle else {
            anyhow::bail!(
                "--offline: nothing may be downloaded. pxed fetch --from FILE takes files out of a bundle, and pxed fetch --plan shows \
                 what is missing"
            );
        };
        let (missing, warnings) = bundling::missing(&records, &spec);
        if missing.is_empty() {
            bundling::write(&records, &spec, &bundle)?;
        }
        return Ok(conclude(0, spec.plan.len() - missing.len() - warnings.len(), &missing, &warnings));
    }
    let outcome = download::run(&records, &spec, settings)?;
    if outcome.is_interrupted {
        logging::say("interrupted: what came is kept, and the same command goes on from there");
        return Ok(ExitCode::from(INTERRUPTED));
    }
    // A bundle that lacks something would be found out where nothing can be done about it.
    if let Some(bundle) = bundle.filter(|_| outcome.missing.is_empty()) {
        bundling::write(&records, &spec, &bundle)?;
    }
    Ok(conclude(outcome.fetched, outcome.there, &outcome.missing, &outcome.warnings))
}

/// The exit status after a signal, as a shell has it.
const INTERRUPTED: u8 = 130;

/// Says what came of it, and returns the exit status.
fn conclude(fetched: usize, there: usize, missing: &[String], warnings: &[String]) -> ExitCode {
    logging::say(&format!("{fetched} fetched, {there} there already, {} missing", missing.len() + warnings.len()));
    warnings.iter().for_each(|line| logging::say(&format!("warning: {line}")));
    missing.iter().for_each(|line| logging::say(&format!("missing: {line}")));
    if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Opens the artifacts directory with its records, and says what is wrong with these. If it is going to be filled, it is created.
fn open(root: &Path, fills: bool) -> anyhow::Result<Records> {
    if fills && !root.exists() && std::fs::create_dir_all(root).is_ok() {
        logging::say(&format!("created the artifacts directory {}", root.display()));
    }
    let store = Arc::new(Store::new(root.to_owned()));
    store.check()?;
    let (records, trouble) = Records::open(store);
    if let Some(trouble) = trouble {
        logging::say(&format!("warning: {trouble}"));
    }
    Ok(records)
}

#[cfg(test)]
mod tests;
