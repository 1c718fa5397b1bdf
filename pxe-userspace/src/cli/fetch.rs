//! `pxed fetch`: the files that machines boot from, and what is known of them.

mod accept;
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
use super::options;
use crate::{
    artifacts::{self, Records, Store},
    logging,
    model::image_source::Upstreams,
};

/// The arguments of `pxed fetch`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("action").args(["plan", "verify", "accept"]).required(true))]
pub struct Args {
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
    /// Form of what is printed
    #[arg(long, value_name = "FORM", default_value = "text")]
    output: Output,
}

/// Shows, verifies or accepts files.
///
/// # Errors
///
/// If there is no spec where one is needed, nothing of it is left, or the artifacts directory cannot be used.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { cluster, artifacts, config, plan, verify, accept, output } = args;
    let (cluster, root) = options::fetched(cluster, artifacts, config.as_deref())?;
    let records = open(&root)?;
    if !accept.is_empty() {
        let report = accept::Report::of(&records, &accept, SystemTime::now());
        return output.print(&report, report.is_right());
    }
    let spec = match cluster.is_empty() {
        true => Spec::default(),
        false => Spec::load(&cluster, records.store())?,
    };
    if verify {
        let report = inspect::Report::of(&records, spec, &root);
        return output.print(&report, report.is_right);
    }
    anyhow::ensure!(
        plan && !cluster.is_empty(),
        "no cluster spec: name its files or directories with --cluster PATH; what machines need is in it"
    );
    let report = Report::of(&records, spec, &artifacts::fetch_command(&cluster, &root), &Upstreams::default());
    output.print(&report, report.is_complete)
}

/// Opens the artifacts directory with its records, and says what is wrong with these.
fn open(root: &Path) -> anyhow::Result<Records> {
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
