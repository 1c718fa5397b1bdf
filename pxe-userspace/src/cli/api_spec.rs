//! Reads the cluster spec from the API once.

use anyhow::Context as _;

use crate::{
    cluster_spec::{Loaded, Loader},
    kubernetes::{self, Settings},
};

/// Reads every object and resolves them.
///
/// # Errors
///
/// If the API server cannot be reached, or does not let pxed read something.
pub(super) fn load(settings: Settings, mut loader: Loader) -> anyhow::Result<Loaded> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let objects = runtime.block_on(kubernetes::read_all(settings))?;
    loader.load_objects(&objects).context("nothing was read")
}
