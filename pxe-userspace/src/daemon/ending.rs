//! The end of the process within a few seconds of SIGTERM, whatever hangs: a look at an interface, a transfer, the disk.
//!
//! Each step has its time and is then left behind, so that the next ones still happen. If the process is still there when all of the time
//! is up, a thread that depends on nothing else ends it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::logging;

/// The time from the first signal to the end of the process, at most.
const LIMIT: Duration = Duration::from_millis(4_700);
/// The time at the end of [`LIMIT`] in which no step runs any more, but threads and the log come to their ends.
const REST: Duration = Duration::from_millis(600);
/// The time that the log gets to say what hangs.
const LAST_LINE: Duration = Duration::from_millis(100);

/// A step on the way to the end, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// No signal has come, or pxed has not begun to stop.
    Running,
    /// The interfaces and servers are closed, and the watchers stopped.
    Closing,
    /// Running transfers may finish.
    Transfers,
    /// The journal takes the last events and saves the state.
    Saving,
    /// Threads end.
    Threads,
}

impl Step {
    /// Returns how long after the beginning of the stop the step may last.
    const fn until(self) -> Duration {
        Duration::from_millis(match self {
            Self::Running => 0,
            Self::Closing => 1_000,
            Self::Transfers => 3_000,
            Self::Saving | Self::Threads => 4_000,
        })
    }
}

/// Names what hangs.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "the start of pxed, or a change of the spec",
            Self::Closing => "closing the interfaces and servers",
            Self::Transfers => "transfers that are still running",
            Self::Saving => "saving the state",
            Self::Threads => "a thread that waits for the disk or the kernel",
        })
    }
}

/// The end of the process. Clones stand for the same.
#[derive(Clone)]
pub(super) struct Ending(Arc<Mutex<Progress>>);

struct Progress {
    step: Step,
    /// The first signal.
    asked: Option<Instant>,
    /// The beginning of the stop.
    stopping: Option<Instant>,
}

impl Ending {
    /// Creates it for a process that nobody has asked to end.
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Progress { step: Step::Running, asked: None, stopping: None })))
    }

    /// Starts the time that the process has to end. Only the first call does something.
    pub(super) fn begin(&self) {
        let now = Instant::now();
        if self.lock().asked.replace(now).is_some() {
            return;
        }
        let ending = self.clone();
        let end = move || {
            thread::sleep(LIMIT.saturating_sub(now.elapsed()));
            ending.force();
        };
        // Without the thread, only what hangs for good keeps the process.
        if let Err(error) = thread::Builder::new().name("pxed-ending".to_owned()).spawn(end) {
            tracing::warn!("the end of pxed is not enforced: the kernel refuses a thread: {error}");
        }
    }

    /// Waits for a step, but no longer than it may last. Returns `None` if it was left behind.
    pub(super) async fn wait<T>(&self, step: Step, work: impl Future<Output = T>) -> Option<T> {
        let deadline = self.enter(step);
        let done = tokio::time::timeout_at(deadline.into(), work).await;
        if done.is_err() {
            tracing::warn!("stopping without waiting any longer for {step}");
        }
        done.ok()
    }

    /// Enters a step. Returns the time at which it is left behind.
    pub(super) fn enter(&self, step: Step) -> Instant {
        let now = Instant::now();
        let mut progress = self.lock();
        progress.step = step;
        let stopping = *progress.stopping.get_or_insert(now);
        let asked = *progress.asked.get_or_insert(now);
        (stopping + step.until()).min(asked + LIMIT - REST)
    }

    /// Ends the process now.
    fn force(&self) {
        let step = self.lock().step;
        tracing::error!("ending {} s after the signal without {step}, which hangs", LIMIT.as_secs());
        logging::flush(LAST_LINE);
        // Everything that must not be lost is saved before the threads end.
        std::process::exit(i32::from(step != Step::Threads));
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn step_that_hangs_is_left_behind_and_the_next_ones_still_happen() {
        let ending = Ending::new();
        let begun = tokio::time::Instant::now();
        for step in [Step::Closing, Step::Transfers, Step::Saving] {
            assert_eq!(ending.wait(step, std::future::pending::<()>()).await, None);
            assert!(ending.wait(step, std::future::ready(())).await.is_some());
        }
        assert!(begun.elapsed() <= LIMIT - REST, "{:?}", begun.elapsed());
    }

    #[test]
    fn steps_fit_into_the_limit_in_their_order() {
        let steps = [Step::Running, Step::Closing, Step::Transfers, Step::Saving];
        assert!(steps.is_sorted_by(|one, next| one.until() < next.until()));
        assert!(Step::Saving.until() + REST <= LIMIT && LIMIT + LAST_LINE < Duration::from_secs(5));
    }

    #[test]
    fn time_counts_from_the_signal_if_the_stop_begins_late() {
        let ending = Ending::new();
        let asked = Instant::now().checked_sub(LIMIT - REST).unwrap();
        ending.lock().asked = Some(asked);
        assert_eq!(ending.enter(Step::Saving), asked + LIMIT - REST);
    }
}
