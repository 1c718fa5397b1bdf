//! `pxed fetch`: downloads what the spec needs and lacks, and verifies what a person put there.

use std::{
    path::Path,
    sync::Arc,
    time::{Instant, SystemTime},
};

use anyhow::Context as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};

use super::{board::Board, spec::Spec};
use crate::{
    artifacts::{Presence, Records, Severity, Verdict, Wanted},
    fetch::{FetchConfig, Fetcher, Job},
};

/// The result of downloading what a spec needs.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The number of files that were downloaded.
    pub(super) fetched: usize,
    /// The number of files that were there already.
    pub(super) there: usize,
    /// The missing files, a line for each.
    pub(super) missing: Vec<String>,
    /// The files that may be missing, a line for each.
    pub(super) warnings: Vec<String>,
    /// Set if a signal ended it.
    pub(super) is_interrupted: bool,
}

/// Downloads what is missing.
///
/// # Errors
///
/// If there is no runtime, or the settings cannot be used.
pub(super) fn run(records: &Arc<Records>, spec: &Spec, config: FetchConfig) -> anyhow::Result<Outcome> {
    let fetcher = Arc::new(Fetcher::new(config, Arc::clone(records))?);
    fetcher.clean(|path| spec.plan.iter().any(|wanted| *wanted.path == *path));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    // Dropping the runtime waits until what came of unfinished downloads is on disk.
    runtime.block_on(download(&fetcher, records, &spec.plan))
}

async fn download(fetcher: &Arc<Fetcher>, records: &Arc<Records>, plan: &[Wanted]) -> anyhow::Result<Outcome> {
    let (mut interrupt, mut end) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut outcome = Outcome::default();
    let mut jobs = Vec::new();
    let root = records.store().root().to_owned();
    let examined = async {
        for wanted in plan {
            match examine(fetcher, records, wanted, &root).await {
                State::There => outcome.there += 1,
                State::Fetch(job) => jobs.push((job, wanted.severity)),
                State::Missing(line) if wanted.severity == Severity::Error => outcome.missing.push(line),
                State::Missing(line) => outcome.warnings.push(line),
                State::Wrong(line) => outcome.missing.push(line),
            }
        }
    };
    let is_examined = tokio::select! {
        () = examined => true,
        _ = interrupt.recv() => false,
        _ = end.recv() => false,
    };
    if !is_examined {
        outcome.is_interrupted = true;
        return Ok(outcome);
    }
    let board = Arc::new(Board::new(jobs.len()));
    let mut downloads = JoinSet::new();
    for (job, _) in jobs {
        let (fetcher, board) = (Arc::clone(fetcher), Arc::clone(&board));
        downloads.spawn(async move {
            let observer = |step| board.show(&job.path, &step, Instant::now());
            let result = fetcher.fetch(&job, &observer).await;
            board.end(&job.path, result.as_ref().ok().map(|fetched| fetched.length), Instant::now());
            result
        });
    }
    loop {
        let ended = tokio::select! {
            ended = downloads.join_next() => ended,
            _ = interrupt.recv() => { outcome.is_interrupted = true; break }
            _ = end.recv() => { outcome.is_interrupted = true; break }
        };
        match ended {
            None => break,
            Some(Ok(Ok(_))) => outcome.fetched += 1,
            Some(Ok(Err(error))) => {
                board.say(&format!("error: {error}"));
                outcome.missing.push(error.to_string());
            }
            Some(Err(error)) => outcome.missing.push(format!("a download ended: {error}")),
        }
    }
    board.finish();
    downloads.shutdown().await;
    Ok(outcome)
}

/// The next step for a file.
enum State {
    There,
    Fetch(Job),
    /// It is not there, and no upstream has it.
    Missing(String),
    /// It is there, and is not what it should be.
    Wrong(String),
}

async fn examine(fetcher: &Fetcher, records: &Arc<Records>, wanted: &Wanted, root: &Path) -> State {
    let path = root.join(&*wanted.path);
    let job = Job::of(wanted);
    let fetch_or = |reason: String| match &job {
        _ if records.is_a_persons(&wanted.path) => State::Wrong(reason),
        Some(job) => State::Fetch(job.clone()),
        None => State::Missing(format!("{}: {reason} (needed by {})", path.display(), wanted.needed_by)),
    };
    match Presence::of(wanted, records) {
        Presence::Verified(_) | Presence::StandIn(_) | Presence::Unknown => State::There,
        Presence::ByHand { implausible } => match by_hand(fetcher, records, job.as_ref()).await {
            Some(verdict) => match verdict.complaint(&path) {
                Some(complaint) => State::Wrong(complaint),
                None => State::There,
            },
            None => match implausible {
                Some(reason) => State::Wrong(format!("{}: {reason}; delete it, so that it is fetched", path.display())),
                None => State::There,
            },
        },
        Presence::Changed => match verify(records, &wanted.path).await {
            Verdict::Verified => State::There,
            verdict => fetch_or(verdict.complaint(&path).unwrap_or_default()),
        },
        Presence::Altered(verdict) => fetch_or(verdict.complaint(&path).unwrap_or_default()),
        Presence::Missing(problem) => fetch_or(problem.to_string()),
    }
}

/// Compares a file that a person put there with its published checksum. Returns `None` if there is none, or none can be had.
async fn by_hand(fetcher: &Fetcher, records: &Arc<Records>, job: Option<&Job>) -> Option<Verdict> {
    let job = job?;
    let (published, source) = match fetcher.published(job).await {
        Ok(published) => published?,
        Err(error) => {
            crate::logging::say(&format!(
                "warning: {}: put there by hand, and not verified: {}",
                job.path,
                error.reason()
            ));
            return None;
        }
    };
    let (records, path) = (Arc::clone(records), Arc::clone(&job.path));
    let compared = move || records.compare(&path, published, source, SystemTime::now());
    match tokio::task::spawn_blocking(compared).await {
        Ok(Ok(verdict)) => Some(verdict),
        Ok(Err(error)) => Some(Verdict::Failed(error.to_string())),
        Err(error) => Some(Verdict::Failed(error.to_string())),
    }
}

async fn verify(records: &Arc<Records>, path: &Arc<str>) -> Verdict {
    let (records, path) = (Arc::clone(records), Arc::clone(path));
    let verified = tokio::task::spawn_blocking(move || records.verify(&path)).await;
    verified.unwrap_or_else(|error| Verdict::Failed(error.to_string()))
}
