//! Tasks that go on after a mistake in pxed: a panic ends one boot's part of the work, not the work.

use std::time::Duration;

use tokio::{
    task::{JoinError, JoinSet},
    time::sleep,
};

/// The pause before a task starts again after a panic.
const RESTART_PAUSE: Duration = Duration::from_secs(10);

/// Runs a task until it ends by itself, and starts it again whenever a panic has ended it, after `clear`. `what` names its work in the log.
pub(super) async fn supervise<T>(what: &str, start: impl Fn() -> T, clear: impl Fn())
where
    T: Future<Output = Result<(), JoinError>> + Send + 'static,
{
    loop {
        // Dropping the set ends its task.
        let mut task = JoinSet::new();
        task.spawn(start());
        let Some(Err(error)) = task.join_next().await.map(Result::flatten) else { return };
        tracing::error!(
            "{what} failed by a mistake in pxed: {error}; it starts again in {} s; please report this line and the one about the panic",
            RESTART_PAUSE.as_secs()
        );
        sleep(RESTART_PAUSE).await;
        clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
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
}
