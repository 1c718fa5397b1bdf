//! Tasks that go on after a mistake in pxed: a panic ends one boot's part of the work, not the work.

use tokio::{
    task::{JoinError, JoinHandle, JoinSet},
    time::sleep,
};

use crate::mistakes;

/// Runs a task until it ends by itself, and starts it again whenever a panic has ended it, after `clear`. `what` names its work in the log.
pub(super) async fn supervise<T>(what: &'static str, start: impl Fn() -> T, clear: impl Fn())
where
    T: Future<Output = Result<(), JoinError>> + Send + 'static,
{
    loop {
        // Dropping the set ends its task.
        let mut task = JoinSet::new();
        task.spawn(start());
        let Some(Err(error)) = task.join_next().await.map(Result::flatten) else { return };
        tracing::error!("{what} starts again in {} s: {error}", mistakes::PAUSE.as_secs());
        mistakes::end(what, false);
        sleep(mistakes::PAUSE).await;
        mistakes::end(what, true);
        clear();
    }
}

/// Waits until a task ends that runs as long as pxed does, and returns the reason why pxed ends, too: without it, pxed would look well and be half
/// alive, and the service manager starts another one.
pub(super) async fn until_lost<T>(what: &str, task: &mut JoinHandle<std::io::Result<T>>) -> anyhow::Error {
    let reason = match task.await {
        Ok(Ok(_)) => "it ended by itself".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    anyhow::anyhow!(
        "{what} ended by a mistake in pxed, which cannot go on without: {reason}; please report this line and those before"
    )
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering},
        },
        time::Duration,
    };

    use tokio::task::spawn_blocking;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn task_that_a_panic_ends_is_started_again_until_it_ends_by_itself() {
        let (starts, clears) = (Arc::new(AtomicU64::new(0)), AtomicU64::new(0));
        let start = || {
            let starts = Arc::clone(&starts);
            async move {
                match starts.fetch_add(1, Ordering::Relaxed) {
                    0 => panic!("the first time"),
                    1 => spawn_blocking(|| panic!("the second time")).await,
                    2 => {
                        sleep(Duration::from_secs(600)).await;
                        Ok(())
                    }
                    _ => unreachable!("it has ended"),
                }
            }
        };
        let clear = || _ = clears.fetch_add(1, Ordering::Relaxed);
        let begun = tokio::time::Instant::now();
        supervise("a test", start, clear).await;
        assert_eq!((starts.load(Ordering::Relaxed), clears.load(Ordering::Relaxed)), (3, 2));
        assert!(begun.elapsed() >= Duration::from_secs(600));
    }

    #[tokio::test]
    async fn task_that_is_lost_ends_pxed_with_the_reason() {
        let mut panicked = tokio::spawn(async { panic!("on purpose") });
        let error = until_lost::<()>("the journal", &mut panicked).await.to_string();
        assert!(error.starts_with("the journal ended") && error.contains("panic"), "{error}");
        let mut refused = tokio::spawn(async { Err::<(), _>(std::io::Error::other("no thread")) });
        let error = until_lost("the journal", &mut refused).await.to_string();
        assert!(error.contains("no thread"), "{error}");
    }
}
