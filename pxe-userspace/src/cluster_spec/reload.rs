//! Keeps the inventory in force in step with the cluster spec. What has errors stays as it was, or is left out; the rest comes into
//! force.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    files,
    finding::Finding,
    loader::{Loaded, Loader},
    report::{Reported, has_new},
    watch::{CONFIRM, Reloaded, Request, Source, WatchError, Watcher, watch_source},
};
use crate::{
    memory,
    model::{
        finding::SharedSpecFaults,
        inventory::{self, Inventory, SharedInventory},
    },
};

/// A cluster spec that is to be watched.
#[derive(Debug)]
pub struct Watched {
    /// The loader of the first load: what it has parsed is not parsed again. Changes between that load and the watch are noticed.
    pub loader: Loader,
    /// The files and directories.
    pub paths: Vec<PathBuf>,
    /// The inventory in force.
    pub inventory: SharedInventory,
    /// Its errors.
    pub faults: SharedSpecFaults,
    /// The warnings that have been logged.
    pub warnings: Vec<Finding>,
    /// Set if a spec with any error leaves the one in force as it is.
    pub is_strict: bool,
}

/// Watches the files and directories of a cluster spec on a thread of its own. Each time their content changes, the inventory and its
/// errors are stored. If it changes how machines are served, `on_change` is called with the former and the new inventory.
///
/// # Errors
///
/// The kernel refuses a thread.
pub fn watch(
    watched: Watched,
    on_change: impl Fn(&Inventory, &Inventory) + Send + 'static,
) -> Result<Watcher, WatchError> {
    watch_source(cluster_spec(watched, on_change))
}

/// Returns the source that loads the cluster spec and puts it in force.
fn cluster_spec(
    mut watched: Watched,
    on_change: impl Fn(&Inventory, &Inventory),
) -> Source<impl FnMut(&Request<'_>) -> Reloaded> {
    let (paths, warnings) = (watched.paths.clone(), std::mem::take(&mut watched.warnings));
    let mut reloader = Reloader { watched, reported: Reported::new("cluster spec", warnings) };
    let reload = move |request: &Request<'_>| reloader.reload(request, &on_change);
    Source { what: "loading the spec", paths, files: files::of_spec, reload }
}

struct Reloader {
    watched: Watched,
    reported: Reported,
}

impl Reloader {
    fn reload(&mut self, request: &Request<'_>, on_change: impl Fn(&Inventory, &Inventory)) -> Reloaded {
        let begin = Instant::now();
        let Self { watched: Watched { loader, paths, inventory: shared, faults, is_strict, warnings: _ }, reported } =
            self;
        // Files that never rest must not keep the changes of others from coming into force.
        let restless_for = if request.is_resting { Duration::ZERO } else { CONFIRM };
        let Some(loaded) = loader.load_changed(paths, restless_for) else {
            if request.is_asked {
                tracing::info!("cluster spec is unchanged");
            }
            return Reloaded::Done;
        };
        // A file that is being written in place can be valid long before it is whole, with its last machines missing, and what will
        // be correct may look wrong.
        let gone = count_gone(&shared.load(), &loaded.inventory);
        let is_doubtful = gone > 0 || request.is_resting && has_new(&loaded.faults, &faults.load());
        if is_doubtful && !(request.have_rested)() {
            if gone > 0 {
                tracing::info!(
                    machines = gone,
                    "machines are gone from the cluster spec: waiting until its files have not changed for {} s",
                    CONFIRM.as_secs()
                );
            }
            return Reloaded::PutOff;
        }
        reported.warnings(&loaded.warnings);
        let before = faults.swap(Arc::new(loaded.faults.clone()));
        reported.faults(&before, &loaded.faults);
        if *is_strict && !loaded.faults.faults.is_empty() {
            tracing::error!(
                errors = loaded.faults.faults.len(),
                "cluster spec not loaded: with --strict, the last one without errors stays in force"
            );
            return Reloaded::Done;
        }
        let Loaded { inventory, .. } = &loaded;
        let old = shared.swap(Arc::clone(inventory));
        if !inventory::diff(&old, inventory).is_empty() {
            on_change(&old, inventory);
        }
        tracing::info!(
            machines = inventory.machines().len(),
            errors = loaded.faults.faults.len(),
            duration_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX),
            "cluster spec loaded"
        );
        drop(old);
        loader.put_in_force(loaded);
        memory::give_back();
        Reloaded::Done
    }
}

/// Returns the number of machines that the new inventory lacks.
fn count_gone(old: &Inventory, new: &Inventory) -> usize {
    old.machines().iter().filter(|machine| new.by_mac(machine.mac).is_none()).count()
}

#[cfg(test)]
mod tests;
