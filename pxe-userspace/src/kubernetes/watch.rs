//! Keeps the objects in step with the API server: lists each kind, then follows its changes.
//!
//! A fault never takes an object away. Objects go when the server tells of their deletion, or when a whole list lacks them. A list that is
//! empty all at once is looked at twice, since a proxy that answers for a server which is gone, or a server with the wrong data, shows
//! itself so.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use prometheus_client::registry::Registry;
use tokio::{sync::watch, task::JoinHandle, time};

use super::{
    backoff::Backoff,
    client::ApiServer,
    fault::{Fault, FaultReason},
    monitor::{ApiMetrics, Monitor, Progress, WatchId},
    objects::{Full, Objects},
    parse::{Event, event},
    request::{Limits, Listing, Source},
    room::Room,
};
use crate::{
    mistakes,
    model::{api_object::ApiKind, api_state::SharedApiState},
};

/// The pause before an empty list is looked at again.
const CONFIRM: Duration = Duration::from_secs(2);
/// A watch that lasted this long, or told of something, worked.
const WORKED: Duration = Duration::from_secs(5);
/// The failures after which the settings are read again before each attempt: certificates or addresses may have changed.
const RENEWED_FROM: u32 = 6;

/// The watches of all kinds, until this is dropped.
#[derive(Debug)]
pub struct Watches {
    objects: Arc<Objects>,
    monitor: Arc<Monitor>,
    /// The number of times that somebody has asked for new lists.
    asked: watch::Sender<u64>,
    tasks: Vec<JoinHandle<()>>,
}

impl Watches {
    /// Begins to watch every kind. `is_from_disk` tells that the objects are those that the last run left. It must be called within a
    /// tokio runtime.
    #[must_use]
    pub fn start(server: &Arc<ApiServer>, objects: &Arc<Objects>, is_from_disk: bool) -> Self {
        Self::start_with(server, objects, is_from_disk, Limits::default())
    }

    /// Begins likewise, with limits for waiting.
    pub(super) fn start_with(
        server: &Arc<ApiServer>,
        objects: &Arc<Objects>,
        is_from_disk: bool,
        limits: Limits,
    ) -> Self {
        let namespaces = server.watched_namespaces();
        let scopes: Vec<Option<String>> =
            if namespaces.is_empty() { vec![None] } else { namespaces.iter().cloned().map(Some).collect() };
        let scopes = ApiKind::ALL.into_iter().flat_map(|kind| scopes.iter().map(move |scope| (kind, scope.clone())));
        let monitor = Arc::new(Monitor::new(Arc::clone(server), scopes.clone(), is_from_disk));
        let asked = watch::Sender::default();
        let room = Arc::new(Room::default());
        let begin = |(id, (kind, namespace)): (WatchId, (ApiKind, Option<String>))| {
            let task = Task {
                id,
                source: Source { server: Arc::clone(server), kind, namespace, limits, room: Arc::clone(&room) },
                objects: Arc::clone(objects),
                monitor: Arc::clone(&monitor),
                asked: asked.subscribe(),
                recovered: monitor.progress(),
                backoff: Backoff::default(),
                failures: 0,
                has_seen_empty: false,
                has_told_shapeless: false,
            };
            tokio::spawn(task.run())
        };
        let tasks = monitor.ids().zip(scopes).map(begin).collect();
        Self { objects: Arc::clone(objects), monitor, asked, tasks }
    }

    /// Reads all lists again, as SIGHUP asks for.
    pub fn list_again(&self) {
        self.asked.send_modify(|asked| *asked += 1);
    }

    /// Returns the state of the connection.
    #[must_use]
    pub fn state(&self) -> SharedApiState {
        self.monitor.state()
    }

    /// Registers the metrics.
    pub fn register(&self, registry: &mut Registry) {
        ApiMetrics { monitor: Arc::clone(&self.monitor), objects: Arc::clone(&self.objects) }.register(registry);
    }

    /// Returns a future that is ready once each list has been read or has failed.
    pub fn settled(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut progress = self.monitor.progress();
        async move {
            // An error means that this was dropped.
            let _ = progress.wait_for(|progress| progress.has_settled).await;
        }
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn too_much(full: Full) -> Fault {
    Fault::new(FaultReason::TooMuch, full.to_string())
}

/// The watch of one kind, in a namespace or in all.
struct Task {
    id: WatchId,
    source: Source,
    objects: Arc<Objects>,
    monitor: Arc<Monitor>,
    asked: watch::Receiver<u64>,
    recovered: watch::Receiver<Progress>,
    backoff: Backoff,
    /// The failures since something worked.
    failures: u32,
    /// Set if the last list was empty, and should not have been.
    has_seen_empty: bool,
    /// Set once objects without a usable name have been told of. There may be any number of them.
    has_told_shapeless: bool,
}

impl Task {
    async fn run(mut self) {
        // After a panic, the list is read again.
        loop {
            mistakes::turn("watching the API server", self.list_and_follow()).await;
        }
    }

    async fn list_and_follow(&mut self) {
        self.asked.mark_unchanged();
        match self.list().await {
            Ok(version) => {
                self.monitor.listed(self.id);
                self.follow(version).await;
            }
            Err(fault) => self.failed(fault).await,
        }
    }

    /// Reads the whole list, and puts it in the place of what was known. Returns its version.
    async fn list(&mut self) -> Result<String, Fault> {
        let Listing { observed: all, shapeless, version, taken } = self.source.list().await?;
        self.report_shapeless(shapeless);
        let (kind, namespace) = (self.source.kind, self.source.namespace.as_deref());
        let known = self.objects.count(kind, namespace);
        if all.is_empty() && known > 0 && !self.has_seen_empty {
            self.has_seen_empty = true;
            let detail = format!("{known} were known, so that it is looked at again");
            let retry_after = Some(CONFIRM);
            return Err(Fault { retry_after, ..Fault::new(FaultReason::Emptied, detail) });
        }
        self.has_seen_empty = false;
        self.objects.replace(kind, namespace, all).map_err(too_much)?;
        drop(taken);
        Ok(version)
    }

    /// Follows the changes from a version on, until a new list is needed.
    async fn follow(&mut self, mut version: String) {
        loop {
            let begun = Instant::now();
            let mut asked = self.asked.clone();
            let result = tokio::select! {
                result = self.follow_once(&mut version) => result,
                // The sender lives as long as this task.
                _ = asked.changed() => return,
            };
            let has_lasted = begun.elapsed() >= WORKED;
            if has_lasted {
                self.worked();
            }
            match result {
                Ok(()) if has_lasted => {}
                // A server that ends each watch at once is not asked all the time.
                Ok(()) => self.pause(None).await,
                Err(fault) if fault.reason == FaultReason::Expired => return self.pause(fault.retry_after).await,
                Err(fault) => {
                    let is_lost = !matches!(
                        fault.reason,
                        FaultReason::Unreachable | FaultReason::Silent | FaultReason::Busy | FaultReason::Credentials
                    );
                    // A connection that breaks after a while is not yet an outage: the next attempt tells.
                    if has_lasted && fault.reason == FaultReason::Unreachable {
                        continue;
                    }
                    self.failed(fault).await;
                    if is_lost {
                        return;
                    }
                }
            }
        }
    }

    /// Follows the changes until the server ends the watch, or another request gets no answer: if the server is gone, a new watch gets
    /// none either, which shows sooner than in one that is open.
    async fn follow_once(&mut self, version: &mut String) -> Result<(), Fault> {
        let mut lines = self.source.watch(version).await?;
        let mut doubts = self.source.server.doubts();
        self.monitor.works(self.id);
        loop {
            let next = tokio::select! {
                line = lines.next() => line?,
                _ = doubts.changed() => None,
            };
            let Some(line) = next else { return Ok(()) };
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let reached = match event(&line, self.source.kind) {
                Event::Applied(observed, version) => {
                    self.objects.insert(*observed).map_err(too_much)?;
                    version
                }
                Event::Deleted(key, version) => {
                    self.objects.remove(&key);
                    version
                }
                Event::Bookmark(version) => Some(version),
                Event::Shapeless(version) => {
                    self.report_shapeless(1);
                    version
                }
                Event::Failed(fault) => return Err(fault),
            };
            if let Some(reached) = reached.filter(|version| !version.is_empty()) {
                *version = reached;
            }
            self.worked();
        }
    }

    fn worked(&mut self) {
        self.failures = 0;
        self.backoff.reset();
    }

    fn report_shapeless(&mut self, count: usize) {
        if count > 0 && !std::mem::replace(&mut self.has_told_shapeless, true) {
            let (kind, url) = (self.source.kind, self.source.server.url());
            tracing::warn!(
                "the API server {url} has objects of kind {kind} without a usable name ({count} at first): left out"
            );
        }
    }

    async fn failed(&mut self, mut fault: Fault) {
        self.failures = self.failures.saturating_add(1);
        let is_renewed = fault.reason == FaultReason::Credentials || self.failures >= RENEWED_FROM;
        if is_renewed && let Err(error) = self.source.server.renew().await {
            let detail = format!("{}; {error}", fault.detail);
            fault = Fault { retry_after: fault.retry_after, ..Fault::new(fault.reason, detail) };
        }
        let retry_after = fault.retry_after;
        self.monitor.failed(self.id, fault, SystemTime::now());
        self.pause(retry_after).await;
    }

    /// Waits before the next attempt. A watch that recovers, or somebody who asks, ends the pause.
    async fn pause(&mut self, wanted: Option<Duration>) {
        let pause = self.backoff.pause(rand::random(), wanted);
        let recoveries = self.recovered.borrow_and_update().recoveries;
        // A copy, so that the list is read again after the pause, too.
        let mut asked = self.asked.clone();
        tokio::select! {
            () = time::sleep(pause) => {}
            _ = self.recovered.wait_for(|progress| progress.recoveries != recoveries) => {}
            _ = asked.changed() => {}
        }
    }
}
