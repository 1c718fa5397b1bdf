//! Puts changes of the objects in force, on a thread of its own.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, sync::watch, time};

use crate::{
    cluster_spec,
    kubernetes::{Changes, Objects},
    mistakes,
    model::{api_object::ApiObject, inventory::Inventory},
};

/// The time without a further change after which a burst is over. Events of one `kubectl apply` are closer together.
const QUIET: Duration = Duration::from_millis(20);
/// The longest time that a burst is waited for, and with it the first of its changes.
const LONGEST_BURST: Duration = Duration::from_millis(60);

/// Returns the objects as the spec needs them.
pub(super) fn spec_of(objects: &Objects) -> Vec<ApiObject> {
    objects.all(None).iter().map(|observed| observed.object.clone()).collect()
}

/// The thread, until this is dropped.
pub(super) struct Reader {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Starts the thread. Nothing is put in force before all lists have been read or have failed, since an object may refer to one of
    /// another list. It must be called within a tokio runtime.
    pub(super) fn start(
        objects: Arc<Objects>,
        settled: impl Future<Output = ()> + Send + 'static,
        mut spec: cluster_spec::Objects,
        on_change: impl Fn(&Inventory, &Inventory) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (stop, mut stopped) = watch::channel(false);
        let runtime = Handle::current();
        let thread = thread::Builder::new().name("spec-watch".to_owned()).spawn(move || {
            let mut changes = objects.changes();
            let mut pace = Pace::default();
            runtime.block_on(until(&mut stopped, settled));
            // Changes between the first reading and this receiver are noticed by their content.
            while !*stopped.borrow() {
                let seen = changes.borrow_and_update().spec;
                let begun = Instant::now();
                let reload = || spec.reload(&spec_of(&objects), &on_change);
                if mistakes::outlive("loading the spec of the API server", reload).is_none() {
                    runtime.block_on(until(&mut stopped, time::sleep(mistakes::PAUSE)));
                    continue;
                }
                pace.loaded(begun.elapsed());
                runtime.block_on(until(&mut stopped, pace.next_burst(seen, &mut changes)));
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits until the future is ready, or until it is time to stop.
async fn until(stopped: &mut watch::Receiver<bool>, future: impl Future<Output = ()>) {
    tokio::select! {
        () = future => {}
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
}

/// The pace of reloads: a single change is put in force at once, and a stream of changes takes half of a processor at most.
#[derive(Debug, Default)]
struct Pace {
    rest: Duration,
}

impl Pace {
    /// Notes the time that a reload took.
    fn loaded(&mut self, cost: Duration) {
        /// The longest pause between two reloads.
        const MOST: Duration = Duration::from_secs(2);
        self.rest = cost.min(MOST);
    }

    /// Waits for a change of the spec since the one that was seen, and for the end of the burst that it begins.
    async fn next_burst(&self, seen: u64, changes: &mut watch::Receiver<Changes>) {
        let loaded = time::Instant::now();
        // An error means that the objects are gone, and pxed is about to end.
        if changes.wait_for(|changes| changes.spec != seen).await.is_err() {
            return std::future::pending().await;
        }
        let begun = time::Instant::now();
        let mut known = changes.borrow_and_update().spec;
        while begun.elapsed() < LONGEST_BURST {
            let more = changes.wait_for(|changes| changes.spec != known);
            match time::timeout(QUIET, more).await {
                Ok(Ok(changes)) => known = changes.spec,
                Ok(Err(_)) | Err(_) => break,
            }
        }
        time::sleep_until(loaded + self.rest).await;
    }
}

#[cfg(test)]
mod tests;
