//! Keeps the inventory in force in step with the objects of the API.

use std::{sync::Arc, time::Instant};

use super::{
    finding::Finding,
    loader::{Loaded, Loader},
    report::Reported,
};
use crate::{
    memory,
    model::{
        api_object::ApiObject,
        finding::SharedSpecFaults,
        inventory::{self, Inventory, SharedInventory},
    },
};

/// The cluster spec in the API.
#[derive(Debug)]
pub struct Objects {
    loader: Loader,
    inventory: SharedInventory,
    faults: SharedSpecFaults,
    is_strict: bool,
    reported: Reported,
}

impl Objects {
    /// Begins with nothing in force. With `is_strict`, a spec with any error leaves the one in force as it is.
    #[must_use]
    pub fn new(loader: Loader, inventory: SharedInventory, faults: SharedSpecFaults, is_strict: bool) -> Self {
        Self { loader, inventory, faults, is_strict, reported: Reported::new("cluster spec", Vec::<Finding>::new()) }
    }

    /// Puts the objects in force. If that changes how machines are served, `on_change` is called with the former and the new inventory.
    /// Returns `false` if they were in force already.
    ///
    /// Unlike files, objects are never half written: what is gone was deleted, and everything comes into force at once.
    pub fn reload(&mut self, objects: &[ApiObject], on_change: impl FnOnce(&Inventory, &Inventory)) -> bool {
        let begin = Instant::now();
        let Some(loaded) = self.loader.load_objects(objects) else { return false };
        self.reported.warnings(&loaded.warnings);
        let before = self.faults.swap(Arc::new(loaded.faults.clone()));
        self.reported.faults(&before, &loaded.faults);
        if self.is_strict && !loaded.faults.faults.is_empty() {
            tracing::error!(
                errors = loaded.faults.faults.len(),
                "cluster spec not loaded: with --strict, the last one without errors stays in force"
            );
            return true;
        }
        let Loaded { inventory, .. } = &loaded;
        let old = self.inventory.swap(Arc::clone(inventory));
        if !inventory::diff(&old, inventory).is_empty() {
            on_change(&old, inventory);
        }
        tracing::info!(
            objects = objects.len(),
            machines = inventory.machines().len(),
            errors = loaded.faults.faults.len(),
            duration_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX),
            "cluster spec loaded"
        );
        drop(old);
        self.loader.put_in_force(loaded);
        memory::give_back();
        true
    }
}

#[cfg(test)]
mod tests;
