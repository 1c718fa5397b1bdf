//! What works and what does not, of all watches together: for the log, for people and for probes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, registry::Registry};
use tokio::sync::watch;

use super::{
    client::ApiServer,
    fault::{Fault, FaultReason},
    objects::Objects,
};
use crate::{
    metrics::{Counters, Families, Label as _},
    model::{
        api_object::ApiKind,
        api_state::{ApiState, ApiTrouble, SharedApiState},
    },
};

/// A watch, by its place among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WatchId(usize);

/// The state of all watches.
#[derive(Debug)]
pub(super) struct Monitor {
    server: Arc<ApiServer>,
    watches: Mutex<Watches>,
    state: SharedApiState,
    faults: Counters<FaultReason>,
    progress: watch::Sender<Progress>,
}

#[derive(Debug)]
struct Watches {
    all: Vec<Watched>,
    /// The troubles that have been logged.
    logged: BTreeSet<TroubleKey>,
}

#[derive(Debug)]
struct Watched {
    kind: ApiKind,
    namespace: Option<String>,
    has_listed: bool,
    /// Set if its objects are those that the last run left on disk.
    is_from_disk: bool,
    fault: Option<Failing>,
}

#[derive(Debug)]
struct Failing {
    fault: Fault,
    since: SystemTime,
}

/// The identity of a trouble: those of the server have no watch.
type TroubleKey = (&'static str, Option<WatchId>);

/// The progress of all watches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Set once each has been answered or has failed.
    pub(super) has_settled: bool,
    /// The number of times that one succeeded after it had failed.
    pub(super) recoveries: u64,
}

impl Monitor {
    pub(super) fn new(
        server: Arc<ApiServer>,
        scopes: impl Iterator<Item = (ApiKind, Option<String>)>,
        is_from_disk: bool,
    ) -> Self {
        let watched = |(kind, namespace)| Watched { kind, namespace, has_listed: false, is_from_disk, fault: None };
        let all = scopes.map(watched).collect();
        let monitor = Self {
            server,
            watches: Mutex::new(Watches { all, logged: BTreeSet::new() }),
            state: SharedApiState::default(),
            faults: Counters::default(),
            progress: watch::Sender::default(),
        };
        monitor.publish(&monitor.lock().all);
        monitor
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = WatchId> + use<> {
        (0..self.lock().all.len()).map(WatchId)
    }

    pub(super) fn state(&self) -> SharedApiState {
        Arc::clone(&self.state)
    }

    pub(super) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Notes that a watch has read the whole list of its objects.
    pub(super) fn listed(&self, id: WatchId) {
        self.change(id, |watched| {
            (watched.has_listed, watched.is_from_disk) = (true, false);
            watched.fault = None;
        });
    }

    /// Notes that a watch gets an answer again.
    pub(super) fn works(&self, id: WatchId) {
        if self.lock().all.get(id.0).is_some_and(|watched| watched.fault.is_some()) {
            self.change(id, |watched| watched.fault = None);
        }
    }

    /// Notes that a watch has failed.
    pub(super) fn failed(&self, id: WatchId, fault: Fault, now: SystemTime) {
        self.faults.increment(fault.reason);
        self.change(id, |watched| {
            let since = watched.fault.as_ref().map_or(now, |failing| failing.since);
            watched.fault = Some(Failing { fault, since });
        });
    }

    fn change(&self, id: WatchId, change: impl FnOnce(&mut Watched)) {
        let mut watches = self.lock();
        let Some(watched) = watches.all.get_mut(id.0) else { return };
        let was_failing = watched.fault.is_some();
        change(watched);
        let has_recovered = was_failing && watched.fault.is_none();
        self.publish(&watches.all);
        self.log(&mut watches);
        let has_settled = watches.all.iter().all(|watched| watched.has_listed || watched.fault.is_some());
        drop(watches);
        self.progress.send_if_modified(|progress| {
            let before = *progress;
            progress.has_settled |= has_settled;
            progress.recoveries += u64::from(has_recovered);
            *progress != before
        });
    }

    fn publish(&self, all: &[Watched]) {
        let url = self.server.url();
        // Faults of the server meet all watches, and are told once.
        let mut troubles: BTreeMap<String, ApiTrouble> = BTreeMap::new();
        for Watched { kind, namespace, has_listed, is_from_disk, fault } in all {
            let nothing_known = !has_listed && !is_from_disk;
            let (message, since) = match fault {
                Some(Failing { fault, since }) => (fault.words(&url, *kind, namespace.as_deref()), *since),
                None if nothing_known => (format!("waiting for the objects of the API server {url}"), UNIX_EPOCH),
                None => continue,
            };
            let since = since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let trouble = troubles.entry(message.clone()).or_insert(ApiTrouble { message, since, nothing_known });
            trouble.nothing_known |= nothing_known;
            trouble.since = trouble.since.min(since);
        }
        self.state.store(Arc::new(ApiState {
            server: url.to_string(),
            namespaces: self.server.watched_namespaces().to_vec(),
            synced: all.iter().all(|watched| watched.has_listed),
            from_disk: all.iter().any(|watched| watched.is_from_disk),
            troubles: troubles.into_values().collect(),
        }));
    }

    /// Logs each trouble once when it begins, and the end of all.
    fn log(&self, Watches { all, logged }: &mut Watches) {
        let url = self.server.url();
        let mut now = BTreeSet::new();
        for (index, Watched { kind, namespace, has_listed, is_from_disk, fault }) in all.iter().enumerate() {
            let Some(Failing { fault, .. }) = fault else { continue };
            let key = (fault.reason.value(), fault.is_of_kind().then_some(WatchId(index)));
            now.insert(key);
            if logged.insert(key) {
                let words = fault.words(&url, *kind, namespace.as_deref());
                if *has_listed || *is_from_disk {
                    tracing::warn!("{words}; what is known of the spec stays in force");
                } else {
                    tracing::error!("{words}; nothing is known of the spec yet, and pxed goes on trying");
                }
            }
        }
        if !logged.is_empty() && now.is_empty() {
            tracing::info!("the API server {url} answers again");
        }
        // A server that fails in several ways by turns has one outage.
        let is_server_well = now.iter().all(|(_, watch)| watch.is_some());
        logged.retain(|key| now.contains(key) || key.1.is_none() && !is_server_well);
    }

    fn lock(&self) -> MutexGuard<'_, Watches> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The metrics of the API.
#[derive(Clone, Debug)]
pub(super) struct ApiMetrics {
    pub(super) monitor: Arc<Monitor>,
    pub(super) objects: Arc<Objects>,
}

impl ApiMetrics {
    pub(super) fn register(self, registry: &mut Registry) {
        let help = "Requests to the API server that failed";
        registry.register("kubernetes_failures", help, self.monitor.faults.clone());
        registry.register_collector(Box::new(self));
    }
}

impl Collector for ApiMetrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families::new(encoder);
        let state = self.monitor.state.load();
        let help = "1 while the API server answers and lets pxed read every kind";
        families.gauge("kubernetes_up", help, u64::from(state.troubles.is_empty()))?;
        let help = "1 while some objects are those that the last run left on disk";
        families.gauge("kubernetes_from_disk", help, u64::from(state.from_disk))?;
        let mut objects = families.gauges("kubernetes_objects", "Objects of the API by kind")?;
        let count = |kind| self.objects.count(kind, None) as u64;
        ApiKind::ALL.into_iter().try_for_each(|kind| objects.member(&[("kind", kind.name())], count(kind)))
    }
}
