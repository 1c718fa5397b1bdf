//! The files that a cluster spec needs.

use std::path::PathBuf;

use crate::{
    artifacts::{self, Store, Wanted},
    cli::api_spec,
    cluster_spec::{self, Finding, Loaded},
    kubernetes, logging,
};

/// The files that a cluster spec needs, and its errors.
#[derive(Debug, Default)]
pub(super) struct Spec {
    pub(super) plan: Vec<Wanted>,
    pub(super) errors: Vec<Finding>,
}

impl Spec {
    /// Reads a spec. What has errors is left out, as `pxed run` leaves it out.
    pub(super) fn load(cluster: &[PathBuf], store: &Store) -> anyhow::Result<Self> {
        Self::of(cluster_spec::Loader::new().load(cluster), store)
    }

    /// Reads the spec from the API, likewise.
    pub(super) fn of_api(settings: kubernetes::Settings, store: &Store) -> anyhow::Result<Self> {
        Self::of(api_spec::load(settings, cluster_spec::Loader::new())?, store)
    }

    fn of(mut loaded: Loaded, store: &Store) -> anyhow::Result<Self> {
        if loaded.inventory.machines().is_empty() {
            loaded = loaded.strictly()?;
        }
        anyhow::ensure!(
            !loaded.inventory.machines().is_empty(),
            "the cluster spec has no machines, so that no file is needed"
        );
        loaded.warnings.iter().for_each(|warning| logging::say(&format!("warning: {warning}")));
        let errors: Vec<_> = loaded.faults.faults.into_iter().map(|fault| fault.finding).collect();
        errors.iter().for_each(|error| logging::say(&format!("error: {error}")));
        Ok(Self { plan: artifacts::plan(&loaded.inventory, store.stubs()), errors })
    }
}
