//! Mistakes of pxed's own: a panic costs the work that it is in. It is counted and told of, and the work goes on.
//!
//! Without this a panic would end a thread or a task for good while everything else goes on and looks well.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, Location, catch_unwind},
    pin::pin,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use prometheus_client::metrics::counter::Counter;

/// The pause before work that a panic has ended is begun again: what causes one is often still there.
pub const PAUSE: Duration = Duration::from_secs(10);

/// The panics since the start.
static PANICS: LazyLock<Counter> = LazyLock::new(Counter::default);
/// The place of the last one.
static LAST: ArcSwapOption<String> = ArcSwapOption::const_empty();
/// The work that a panic has ended and that has not succeeded since.
static FAILING: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// Counts a panic. For the hook, which sees all of them.
pub fn note(thread: &str, at: Option<&Location<'_>>) {
    let place = at.map_or_else(String::new, |at| format!(" at {at}"));
    LAST.store(Some(format!("in the thread {thread}{place}").into()));
    PANICS.inc();
}

/// Does some work, and survives a panic in it: returns `None` then. `what` names the work, such as "loading the spec".
pub fn outlive<T>(what: &'static str, work: impl FnOnce() -> T) -> Option<T> {
    // The caller starts the work again from the beginning.
    let done = catch_unwind(AssertUnwindSafe(work)).ok();
    end(what, done.is_some());
    done
}

/// The same for work that waits.
pub async fn outlive_waiting<T>(what: &'static str, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let done = std::future::poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        polled.map_or(Poll::Ready(None), |polled| polled.map(Some))
    });
    let done = done.await;
    end(what, done.is_some());
    done
}

/// Does work that ends only when it was told to, and does it again after each panic. `pause` waits for that time, and returns `true` if it
/// is time to end.
pub fn persist(what: &'static str, pause: impl Fn(Duration) -> bool, mut work: impl FnMut()) {
    while outlive(what, &mut work).is_none() && !pause(PAUSE) {
        // The work runs again. Another panic would report it as failing once more.
        end(what, true);
    }
}

/// Does work that waits and is begun again whenever it ends. After a panic, it is time for that after a pause.
pub async fn turn(what: &'static str, work: impl Future<Output = ()>) {
    if outlive_waiting(what, work).await.is_none() {
        tokio::time::sleep(PAUSE).await;
        end(what, true);
    }
}

/// Notes the end of some work: it failed by a panic, or it succeeded.
pub fn end(what: &'static str, has_succeeded: bool) {
    let is_new = match has_succeeded {
        true => {
            failing().remove(what);
            false
        }
        false => failing().insert(what),
    };
    if is_new {
        tracing::error!("{what} failed by a mistake in pxed; please report this line and the one about the panic");
    }
}

/// Returns what people should know, as sentences: none if nothing ever panicked.
pub fn warnings() -> Vec<String> {
    let failing = failing();
    let failing = failing.iter().map(|what| format!("{what} fails by a mistake in pxed, and is tried again"));
    let panics = PANICS.get();
    let last = LAST.load();
    let counted = last.as_deref().map(|last| {
        let times = if panics == 1 { "once" } else { &*format!("{panics} times") };
        format!(
            "pxed has panicked {times} since it started, last {last}: the log says what that cost. This is a defect of pxed: please report it \
             (`pxed report` collects what is needed)"
        )
    });
    failing.chain(counted).collect()
}

/// Returns the counter of panics.
pub fn panics() -> Counter {
    PANICS.clone()
}

fn failing() -> MutexGuard<'static, BTreeSet<&'static str>> {
    FAILING.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn work_that_panics_is_told_of_until_it_succeeds() {
        const WHAT: &str = "a test of mistakes";
        let is_told = || warnings().iter().any(|warning| warning.starts_with(WHAT));
        assert_eq!(outlive(WHAT, || 1), Some(1));
        assert!(!is_told());
        assert_eq!(outlive(WHAT, || -> u8 { panic!("on purpose") }), None);
        assert!(is_told());
        assert_eq!(outlive(WHAT, || 2), Some(2));
        assert!(!is_told());
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_waits_is_survived_too() {
        const WHAT: &str = "a test of mistakes that waits";
        let work = |is_mistaken: bool| async move {
            tokio::time::sleep(PAUSE).await;
            assert!(!is_mistaken, "on purpose");
            7
        };
        assert_eq!(outlive_waiting(WHAT, work(true)).await, None);
        assert!(warnings().iter().any(|warning| warning.starts_with(WHAT)));
        assert_eq!(outlive_waiting(WHAT, work(false)).await, Some(7));
        assert!(!warnings().iter().any(|warning| warning.starts_with(WHAT)));
    }

    #[test]
    fn work_begins_again_after_a_panic_until_it_ends_or_nobody_wants_it() {
        let (begun, paused) = (Cell::new(0), Cell::new(0));
        let work = |good: u32| {
            begun.set(begun.get() + 1);
            assert!(begun.get() == good, "on purpose");
        };
        let pause = |_| {
            paused.set(paused.get() + 1);
            paused.get() == 5
        };
        persist("a test that persists", pause, || work(3));
        assert_eq!((begun.get(), paused.get()), (3, 2));
        persist("a test that nobody wants", pause, || work(100));
        assert_eq!((begun.get(), paused.get()), (6, 5));
    }

    #[test]
    fn panic_is_counted_with_its_place() {
        let before = panics().get();
        note("spec-watch", Some(Location::caller()));
        assert!(panics().get() > before);
        let warnings = warnings();
        let counted = warnings.iter().find(|warning| warning.contains("has panicked")).unwrap();
        assert!(counted.contains("mistakes.rs") && counted.contains("spec-watch"), "{counted}");
    }
}
