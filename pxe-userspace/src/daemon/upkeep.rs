//! Keeps the servers and the ports in line with the inventory: at start, after each reload, and every few seconds, since
//! interfaces come and go and what failed before may work now.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::task::JoinHandle;

use super::{
    budget::Budget,
    listeners::{Listeners, Scope},
    service_manager::{ServiceManager, StatusLine},
};
use crate::{
    admin::{self, Health},
    dataplane::{Dataplane, Report, shortfall::Service},
    journal::Journal,
    model::{
        api_state::{ApiTrouble, SharedApiState},
        finding::SharedSpecFaults,
        inventory::SharedInventory,
        own_sites::{OwnSites, SharedOwnSites},
    },
};

/// The reason why pxed is not ready while the directories of the spec are empty.
const SPEC_IS_AWAITED: &str = "there is no cluster spec yet: its directories are empty";

/// The servers and the dataplane, with their current problems.
pub(super) struct Upkeep {
    inventory: SharedInventory,
    spec_faults: SharedSpecFaults,
    /// The sites that this node serves, as the last look found them.
    own_sites: SharedOwnSites,
    /// Locked for a whole check, so that checks from several threads run one after the other.
    serving: Mutex<Serving>,
    dataplane: Arc<Mutex<Dataplane>>,
    budget: Budget,
    journal: Arc<Journal>,
    audience: Audience,
    /// With a spec in the API.
    api: Option<SharedApiState>,
}

/// Those who are told about each look.
pub(super) struct Audience {
    /// Readers of probes and of the API.
    pub(super) health: Arc<Health>,
    pub(super) service_manager: Arc<ServiceManager>,
}

struct Serving {
    listeners: Listeners,
    found: Findings,
}

/// The findings of a look. Each is logged once when it appears, and the end of all problems once.
#[derive(Default)]
struct Findings {
    problems: BTreeSet<String>,
    warnings: BTreeSet<String>,
    has_stuck_workers: bool,
}

impl Upkeep {
    /// Creates it with nothing served yet. Each look adjusts the budget and sets the health.
    pub(super) fn new(
        (inventory, own_sites): (SharedInventory, SharedOwnSites),
        spec_faults: SharedSpecFaults,
        listeners: Listeners,
        dataplane: Arc<Mutex<Dataplane>>,
        budget: Budget,
        journal: Arc<Journal>,
        audience: Audience,
    ) -> Self {
        let serving = Mutex::new(Serving { listeners, found: Findings::default() });
        Self { inventory, spec_faults, own_sites, serving, dataplane, budget, journal, audience, api: None }
    }

    /// Adds the state of the API to the health.
    pub(super) fn with_api(self, api: Option<SharedApiState>) -> Self {
        Self { api, ..self }
    }

    /// Serves for the first time. Returns what is not served and why, without logging it, except for the `passing` problems, which
    /// are logged instead. It must be called within a tokio runtime.
    pub(super) fn start(&self, passing: &[String]) -> Vec<String> {
        let serving = &mut *lock(&self.serving);
        serving.found = self.reconcile(&mut serving.listeners);
        let Findings { problems, warnings, .. } = &serving.found;
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let (passing, fatal): (Vec<_>, Vec<_>) =
            problems.iter().cloned().partition(|problem| passing.contains(problem));
        passing.iter().for_each(|problem| tracing::error!("{problem}"));
        fatal
    }

    /// Logs a warning if fewer machines than there are can load at the same time.
    pub(super) fn warn_of_few_places(&self, machines: usize) {
        if let Some(warning) = self.budget.warning_for(machines) {
            tracing::warn!("{warning}");
        }
    }

    /// Brings everything in step with the inventory, and logs what has become wrong or right since the last time. It must be
    /// called within a tokio runtime. Returns `true` if no worker is stuck.
    pub(super) fn look_after(&self) -> bool {
        let serving = &mut *lock(&self.serving);
        let found = self.reconcile(&mut serving.listeners);
        for problem in found.problems.difference(&serving.found.problems) {
            tracing::error!("{problem}");
        }
        for warning in found.warnings.difference(&serving.found.warnings) {
            tracing::warn!("{warning}");
        }
        if found.problems.is_empty() && !serving.found.problems.is_empty() {
            tracing::info!("everything is served again");
        }
        serving.found = found;
        !serving.found.has_stuck_workers
    }

    fn reconcile(&self, listeners: &mut Listeners) -> Findings {
        // Files before packets: a machine that gets an answer asks for its loader at once.
        let inventory = self.inventory.load_full();
        let of_listeners = listeners.reconcile(&inventory);
        let (report, mut served, interfaces, datapath) = {
            let mut dataplane = lock(&self.dataplane);
            let report = dataplane.reconcile(Instant::now());
            let interfaces = dataplane.ports().map(|port| port.interface().name.clone()).collect();
            let datapath = Service::of(&dataplane).iter().map(ToString::to_string).collect();
            (report, dataplane.sites(), interfaces, datapath)
        };
        let has_stuck_workers = report.has_stuck_workers();
        let Report { problems, warnings } = report;
        // A machine that gets an address asks for files at once.
        served.retain(|_, own| listeners.are_running_at(own.address));
        // Both may report the same problem of an interface.
        let problems: BTreeSet<_> = of_listeners.into_iter().chain(problems.iter().map(ToString::to_string)).collect();
        let warnings: BTreeSet<_> = warnings.iter().map(ToString::to_string).chain(self.budget.adjust()).collect();
        self.publish(OwnSites { served, problems: problems.iter().cloned().collect() });
        let faults = self.spec_faults.load();
        let awaited = faults.is_awaited.then(|| SPEC_IS_AWAITED.to_owned());
        // Whoever watches the API has logged these. Without any spec from there, machines may be missing; otherwise the last one serves on.
        let troubles = self.api.as_ref().map(|api| api.load().troubles.clone()).unwrap_or_default();
        let (unknown, passing): (Vec<_>, Vec<_>) = troubles.into_iter().partition(|trouble| trouble.nothing_known);
        let words = |troubles: Vec<ApiTrouble>| troubles.into_iter().map(|trouble| trouble.message);
        let of_health: Vec<_> = problems.iter().cloned().chain(awaited).chain(words(unknown)).collect();
        self.audience.service_manager.status(&StatusLine {
            inventory: &inventory,
            interfaces: &interfaces,
            is_matchbox_alone: listeners.scope() == Scope::HttpEverywhere,
            // A spec that is not there yet is one problem, not a mistake as well.
            mistakes: if faults.is_awaited { 0 } else { faults.faults.len() },
            problems: &of_health,
        });
        self.audience.health.set(admin::Findings {
            is_serving: true,
            problems: of_health,
            // The journal has logged its own.
            warnings: warnings.iter().cloned().chain(self.journal.warnings()).chain(words(passing)).collect(),
            datapath,
        });
        Findings { problems, warnings, has_stuck_workers }
    }

    /// Publishes what this node serves, if it has changed, and logs where a site is served at another address than before.
    fn publish(&self, now: OwnSites) {
        let before = self.own_sites.load();
        if **before == now {
            return;
        }
        for (site, own) in now.served.iter().filter(|(site, own)| before.of(site) != Some(own)) {
            let is_of_spec = own.address == site.address;
            if !is_of_spec || before.of(site).is_some() {
                let (interface, site, also) = (&*site.interface, site.address, &own.also);
                tracing::info!(interface, %site, address = %own.address, ?also, "serving the site at this address");
            }
        }
        self.own_sites.store(Arc::new(now));
    }

    /// Detaches the XDP programs and stops the servers. Returns the tasks of transfers that may still finish.
    pub(super) fn stop(&self) -> Vec<JoinHandle<()>> {
        // At once, even if a look hangs.
        self.audience.health.set(admin::Findings::default());
        let serving = &mut *lock(&self.serving);
        self.audience.health.set(admin::Findings::default());
        lock(&self.dataplane).close();
        serving.listeners.stop()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
