//! Keeps the inventory in force in step with the cluster spec. What cannot be loaded is logged, and the last good inventory stays in
//! force.

use std::{path::PathBuf, sync::Arc, time::Instant};

use super::{
    files,
    finding::SpecErrors,
    loader::{Loaded, Loader},
    watch::{CONFIRM, Reloaded, Source, WatchError, Watcher, log_all, watch_source},
};
use crate::{
    memory,
    model::inventory::{Inventory, SharedInventory},
};

/// Watches the files and directories of a cluster spec on a thread of its own. Each time the spec changes and loads without errors,
/// the inventory is stored in `shared`, then `on_change` is called with the former and the new inventory.
///
/// Pass the loader of the first load: what it has parsed is not parsed again. Changes between that load and this call are noticed.
///
/// # Errors
///
/// The kernel refuses a thread.
pub fn watch(
    loader: Loader,
    paths: Vec<PathBuf>,
    shared: SharedInventory,
    on_change: impl Fn(&Inventory, &Inventory) + Send + 'static,
) -> Result<Watcher, WatchError> {
    watch_source(cluster_spec(loader, paths, shared, on_change))
}

/// Returns the source that loads the cluster spec and puts it in force.
fn cluster_spec(
    mut loader: Loader,
    paths: Vec<PathBuf>,
    shared: SharedInventory,
    on_change: impl Fn(&Inventory, &Inventory),
) -> Source<impl FnMut(&dyn Fn() -> bool) -> Reloaded> {
    let all = paths.clone();
    let reload = move |have_rested: &dyn Fn() -> bool| {
        let begin = Instant::now();
        match loader.load(&all) {
            Ok(Loaded { inventory, warnings }) => {
                log_all(&warnings, |finding| tracing::warn!("{finding}"));
                // A file that is being written in place can be valid long before it is whole, with its last machines missing.
                let gone = count_gone(&shared.load(), &inventory);
                if gone > 0 && !have_rested() {
                    tracing::info!(
                        machines = gone,
                        "machines are gone from the cluster spec: waiting until its files have not changed for {} s",
                        CONFIRM.as_secs()
                    );
                    return Reloaded::PutOff;
                }
                let old = shared.swap(Arc::clone(&inventory));
                on_change(&old, &inventory);
                tracing::info!(
                    machines = inventory.machines().len(),
                    duration_ms = begin.elapsed().as_millis(),
                    "cluster spec loaded"
                );
                drop(old);
                memory::give_back();
            }
            Err(SpecErrors { errors, warnings: _ }) => {
                log_all(&errors, |finding| tracing::error!("{finding}"));
                tracing::error!(errors = errors.len(), "cluster spec not loaded: the last good one stays in force");
            }
        }
        Reloaded::Done
    };
    Source { paths, files: files::of_spec, reload }
}

/// Returns the number of machines that the new inventory lacks.
fn count_gone(old: &Inventory, new: &Inventory) -> usize {
    old.machines().iter().filter(|machine| new.by_mac(machine.mac).is_none()).count()
}

#[cfg(test)]
mod tests;
