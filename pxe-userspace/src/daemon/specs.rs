//! Loads the cluster spec and the Matchbox directory at start.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    cluster_spec::{
        self, Loader, SpecErrors, TalosConfigs,
        matchbox::{self, Catalog, SharedCatalog},
    },
    model::{
        finding::{AllSpecFaults, SpecFaults},
        inventory::SharedInventory,
    },
};

/// The specs in force, and what is watched of them.
pub(super) struct Specs {
    pub(super) inventory: SharedInventory,
    pub(super) catalog: SharedCatalog,
    pub(super) faults: AllSpecFaults,
    pub(super) clusters: Option<cluster_spec::Watched>,
    pub(super) matchbox: Option<matchbox::Watched>,
}

impl Specs {
    /// Loads the specs. What has errors is left out, and logged.
    ///
    /// # Errors
    ///
    /// All errors, if the specs have any and must not, or if nothing else is left. A directory that is empty so far is no such error:
    /// it is filled later, for example by a volume of Kubernetes.
    pub(super) fn load(
        cluster: &[PathBuf],
        matchbox: Option<&Path>,
        configs: TalosConfigs,
        is_strict: bool,
    ) -> Result<Self, SpecErrors> {
        let mut specs = Self {
            inventory: SharedInventory::default(),
            catalog: SharedCatalog::default(),
            faults: AllSpecFaults::default(),
            clusters: None,
            matchbox: None,
        };
        let is_fatal = |faults: &SpecFaults, is_empty| !faults.faults.is_empty() && (is_strict || is_empty);
        if !cluster.is_empty() {
            let mut loader = Loader::new().with_talos_configs(configs);
            let mut loaded = loader.load(cluster);
            let is_empty = loaded.inventory.machines().is_empty() && matchbox.is_none();
            if is_fatal(&loaded.faults, is_empty && !loaded.faults.is_awaited) {
                loaded = loaded.strictly()?;
            }
            loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
            loaded.faults.faults.iter().for_each(|fault| tracing::error!("{fault}"));
            if loaded.faults.is_awaited {
                tracing::error!("no cluster spec yet: waiting for one");
            }
            specs.inventory.store(Arc::clone(&loaded.inventory));
            specs.faults.clusters.store(Arc::new(loaded.faults.clone()));
            let warnings = loaded.warnings.clone();
            loader.put_in_force(loaded);
            let (inventory, faults) = (Arc::clone(&specs.inventory), Arc::clone(&specs.faults.clusters));
            let paths = cluster.to_vec();
            specs.clusters = Some(cluster_spec::Watched { loader, paths, inventory, faults, warnings, is_strict });
        }
        if let Some(directory) = matchbox {
            let mut loaded = matchbox::read(directory, &Catalog::default());
            if is_fatal(&loaded.faults, loaded.catalog.is_empty() && cluster.is_empty()) {
                loaded = loaded.strictly()?;
            }
            loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
            loaded.faults.faults.iter().for_each(|fault| tracing::error!("{fault}"));
            let (catalog, faults) = (Arc::clone(&specs.catalog), Arc::clone(&specs.faults.matchbox));
            specs.matchbox = Some(matchbox::Watched::new(directory.to_owned(), loaded, catalog, faults, is_strict));
        }
        Ok(specs)
    }
}
