//! The task that fetches what is missing.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    task::{AbortHandle, JoinError, JoinSet, spawn_blocking},
    time::MissedTickBehavior,
};

use super::{
    board::{Ended, Task},
    keeper::Keeper,
    metrics::FetchMetrics,
};
use crate::{
    artifacts::{Records, Verdict},
    daemon::supervision::supervise,
    fetch::{FetchError, Fetched, Fetcher, Progress, bytes_text},
    journal::Journal,
};

/// The files that are fetched at the same time. More would not come sooner, and the most needed would come later.
const AT_ONCE: usize = 4;

/// The interval at which the files are looked at, and the progress is published.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The last step of each running download.
type Steps = Arc<Mutex<HashMap<Arc<str>, Progress>>>;

/// Fetches what is missing, for ever. Dropping the future ends all downloads in a way that can be resumed.
pub(in crate::daemon) async fn run(
    keeper: Arc<Keeper>,
    fetcher: Option<Arc<Fetcher>>,
    journal: Arc<Journal>,
    metrics: FetchMetrics,
) {
    let start = || fetch(Arc::clone(&keeper), fetcher.clone(), Arc::clone(&journal), metrics.clone());
    // Otherwise machines would wait for files that nobody fetches, and everything else would go on as if nothing had happened.
    supervise("looking after the files of the artifacts directory", start, || keeper.forget_running()).await;
}

/// Fetches what is missing.
///
/// # Errors
///
/// If a look at the files or a download panics.
async fn fetch(
    keeper: Arc<Keeper>,
    fetcher: Option<Arc<Fetcher>>,
    journal: Arc<Journal>,
    metrics: FetchMetrics,
) -> Result<(), JoinError> {
    let steps = Steps::default();
    let mut running = JoinSet::new();
    let mut handles: HashMap<Arc<str>, AbortHandle> = HashMap::new();
    let mut changed = keeper.records().subscribe();
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    if let Some(fetcher) = &fetcher {
        let (fetcher, keeper) = (Arc::clone(fetcher), Arc::clone(&keeper));
        spawn_blocking(move || fetcher.clean(|path| keeper.is_wanted(path))).await?;
    }
    loop {
        let mut is_ended = false;
        tokio::select! {
            _ = look.tick() => {}
            Ok(()) = changed.changed() => {}
            () = keeper.woken.notified() => {}
            Some(ended) = running.join_next() => {
                let (path, ended): (Arc<str>, Ended) = match ended {
                    Err(error) if error.is_cancelled() => continue,
                    ended => ended?,
                };
                handles.remove(&path);
                steps.lock().unwrap_or_else(PoisonError::into_inner).remove(&path);
                conclude(&keeper, &path, ended, &metrics);
                is_ended = true;
            }
        }
        let now: Vec<_> = steps.lock().unwrap_or_else(PoisonError::into_inner).clone().into_iter().collect();
        let of_look = Arc::clone(&keeper);
        spawn_blocking(move || {
            of_look.look();
            if is_ended || !now.is_empty() {
                of_look.steps(now);
            }
        })
        .await?;
        let Some(fetcher) = &fetcher else { continue };
        // Downloads that no machine needs any more would hold the places of those that machines wait for.
        handles.retain(|path, handle| {
            let is_wanted = keeper.is_wanted(path);
            if !is_wanted {
                tracing::info!(
                    "{path}: no machine of the spec needs it any more; its download ends, and can be resumed"
                );
                handle.abort();
                steps.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
            }
            is_wanted
        });
        for task in keeper.begin(&journal, AT_ONCE) {
            let (fetcher, steps, metrics) = (Arc::clone(fetcher), Arc::clone(&steps), metrics.clone());
            let records = Arc::clone(keeper.records());
            let path = Arc::clone(&task.job().path);
            let has_failed = keeper.has_failed(&path);
            let handle = running.spawn(async move {
                (Arc::clone(&task.job().path), carry_out(task, &fetcher, records, &steps, &metrics, has_failed).await)
            });
            // The spec may have been without the file for a moment.
            if let Some(before) = handles.insert(path, handle) {
                before.abort();
            }
        }
    }
}

/// Takes in the end of a task.
fn conclude(keeper: &Keeper, path: &str, ended: Ended, metrics: &FetchMetrics) {
    let reason = match &ended {
        Ended::Failed { reason, .. } => Some(reason.clone()),
        Ended::Done => None,
    };
    let next = keeper.end(path, ended);
    if let (Some(reason), Some((pause, is_repeated))) = (reason, next) {
        metrics.failures.inc();
        let pause = pause_text(pause);
        // A version that is nowhere is asked for until it is out of the spec, and status shows it all the time.
        if is_repeated {
            tracing::debug!("{path}: {reason}; next attempt in {pause}");
        } else {
            tracing::warn!("{path}: {reason}; next attempt in {pause}");
        }
    }
}

/// Returns a pause in whole seconds, rounded up: the first pauses are shorter than one.
fn pause_text(pause: Duration) -> String {
    format!("{} s", pause.as_millis().div_ceil(1_000))
}

async fn carry_out(
    task: Task,
    fetcher: &Fetcher,
    records: Arc<Records>,
    steps: &Steps,
    metrics: &FetchMetrics,
    has_failed: bool,
) -> Ended {
    let failed = |error: FetchError| Ended::Failed { reason: error.reason(), retry_after: error.retry_after() };
    match task {
        Task::Fetch(job) => {
            let begun = Instant::now();
            let (before, is_quiet) = (AtomicU64::new(u64::MAX), AtomicBool::new(has_failed));
            let observer = |step: Progress| {
                match &step {
                    Progress::Receiving { done, .. } => {
                        let before = before.swap(*done, Ordering::Relaxed);
                        if before == u64::MAX {
                            tracing::info!("{}: downloading", job.path);
                        }
                        metrics.bytes.inc_by(done.saturating_sub(before));
                    }
                    Progress::Pausing { reason, pause } => {
                        metrics.failures.inc();
                        let pause = pause_text(*pause);
                        // The end of the round tells the rest.
                        if is_quiet.swap(true, Ordering::Relaxed) {
                            tracing::debug!("{}: {reason}; next attempt in {pause}", job.path);
                        } else {
                            tracing::warn!("{}: {reason}; next attempt in {pause}", job.path);
                        }
                    }
                    Progress::Asked | Progress::Elsewhere | Progress::Queued => {}
                }
                steps.lock().unwrap_or_else(PoisonError::into_inner).insert(Arc::clone(&job.path), step);
            };
            match fetcher.fetch(&job, &observer).await {
                Ok(Fetched { url, length, proof, .. }) => {
                    let (size, took) = (bytes_text(length), begun.elapsed().as_secs_f64());
                    tracing::info!("{}: downloaded from {url}: {size} in {took:.1} s ({proof})", job.path);
                    Ended::Done
                }
                Err(error) => failed(error),
            }
        }
        Task::Compare(job) => {
            let (published, url) = match fetcher.published(&job).await {
                Ok(Some(published)) => published,
                Ok(None) => return Ended::Done,
                Err(error) => return failed(error),
            };
            let path = Arc::clone(&job.path);
            let compare = spawn_blocking(move || {
                let verdict = records.compare(&path, published, url, SystemTime::now());
                let full = records.store().root().join(&*path);
                verdict.map(|verdict| (verdict.complaint(&full), verdict == Verdict::Verified))
            });
            match compare.await {
                Ok(Ok((Some(complaint), _))) => {
                    tracing::error!("{complaint}");
                    Ended::Done
                }
                Ok(Ok((None, is_verified))) => {
                    if is_verified {
                        tracing::info!("{}: put there by hand, and it has its published checksum", job.path);
                    }
                    Ended::Done
                }
                Ok(Err(error)) => Ended::Failed { reason: error.to_string(), retry_after: None },
                Err(error) => Ended::Failed { reason: error.to_string(), retry_after: None },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_is_rounded_up() {
        for (milliseconds, text) in
            [(0, "0 s"), (1, "1 s"), (500, "1 s"), (1_000, "1 s"), (1_001, "2 s"), (9_999, "10 s")]
        {
            assert_eq!(pause_text(Duration::from_millis(milliseconds)), text);
        }
    }
}
