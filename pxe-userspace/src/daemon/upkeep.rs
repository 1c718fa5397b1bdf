//! Keeps what serves in step with what is wanted: at start, after each reload, and every few seconds, since interfaces come
//! and go and what failed may work by now.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use tokio::task::JoinHandle;

use super::listeners::Listeners;
use crate::{dataplane::Dataplane, model::inventory::SharedInventory};

/// The servers and the dataplane, with what is wrong with them at the moment.
pub(super) struct Upkeep {
    inventory: SharedInventory,
    listeners: Mutex<Listeners>,
    dataplane: Arc<Mutex<Dataplane>>,
    /// What the last look found wrong: each is told once when it comes, and once when all are gone.
    complaints: Mutex<Vec<String>>,
    ready: Arc<AtomicBool>,
}

impl Upkeep {
    /// Nothing serves yet. `ready` follows whether everything does.
    pub(super) fn new(
        inventory: SharedInventory,
        listeners: Listeners,
        dataplane: Arc<Mutex<Dataplane>>,
        ready: Arc<AtomicBool>,
    ) -> Self {
        Self { inventory, listeners: Mutex::new(listeners), dataplane, complaints: Mutex::default(), ready }
    }

    /// Brings everything in step with the inventory. Returns what is not served and why. To be called within the runtime.
    pub(super) fn reconcile(&self) -> Vec<String> {
        // Files before packets: a machine that gets an answer asks for its loader at once.
        let listeners = lock(&self.listeners).apply(&self.inventory.load()).err().unwrap_or_default();
        let ports = lock(&self.dataplane).reconcile().err().unwrap_or_default();
        let listeners = listeners.into_iter().map(|error| format!("{error:#}"));
        let problems: Vec<_> = listeners.chain(ports.into_iter().map(|error| error.to_string())).collect();
        self.ready.store(problems.is_empty(), Ordering::Relaxed);
        problems
    }

    /// As [`Self::reconcile`], and logs what has become wrong or right since the last time.
    pub(super) fn look_after(&self) {
        let problems = self.reconcile();
        let mut complaints = lock(&self.complaints);
        for problem in problems.iter().filter(|problem| !complaints.contains(problem)) {
            tracing::error!("{problem}");
        }
        if problems.is_empty() && !complaints.is_empty() {
            tracing::info!("everything is served again");
        }
        *complaints = problems;
    }

    /// The XDP programs leave, the servers stop. What is returned are the transfers that may still end.
    pub(super) fn stop(&self) -> Vec<JoinHandle<()>> {
        self.ready.store(false, Ordering::Relaxed);
        lock(&self.dataplane).close();
        lock(&self.listeners).stop()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
