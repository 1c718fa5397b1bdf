//! The machine configurations of `--talos-config`.

use std::{path::Path, sync::Arc};

use crate::{
    artifacts::{TalosConfigs, config_place},
    cluster_spec,
    model::{inventory::Inventory, talos_config::ConfigPlace},
};

/// The place of the machine configurations, if there is one.
pub(super) struct Configs(Option<ConfigPlace>);

impl Configs {
    /// Finds the place that the options name.
    ///
    /// # Errors
    ///
    /// It is not there, or where anybody may read it.
    pub(super) fn find(path: Option<&Path>, artifacts: &Path, http_port: u16) -> Result<Self, String> {
        path.map(|path| config_place(path, Some(artifacts), http_port)).transpose().map(Self)
    }

    /// Returns what the spec may name.
    pub(super) fn of_spec(&self) -> cluster_spec::TalosConfigs {
        self.0.clone().map_or(cluster_spec::TalosConfigs::Nowhere, cluster_spec::TalosConfigs::At)
    }

    /// Returns what HTTP serves them from.
    pub(super) fn store(&self) -> Option<Arc<TalosConfigs>> {
        self.0.as_ref().map(TalosConfigs::at).map(Arc::new)
    }
}

/// Logs an error for each file that machines need and that cannot be served. They boot all the same.
pub(super) fn log_missing_configs(configs: Option<&TalosConfigs>, inventory: &Inventory) {
    let missing = configs.map(|configs| configs.missing(inventory)).unwrap_or_default();
    missing.iter().for_each(|missing| tracing::error!("{missing}"));
}
