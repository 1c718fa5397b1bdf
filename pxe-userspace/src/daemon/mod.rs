//! Runs `pxed run`: [`start`] assembles the parts, [`parts`] keeps them in step with the inventory and stops them.

mod budget;
mod cluster;
mod config;
mod configs;
mod ending;
mod images;
mod limits;
mod listeners;
mod listeners_plan;
mod membership;
mod metrics;
mod neighbour;
mod parts;
mod preflight;
mod reload;
mod secrets_line;
mod secure_boot;
mod service_manager;
mod signals;
mod specs;
mod start;
mod supervision;
mod up_check;
mod upkeep;
mod url_key;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use self::{
    ending::{Ending, Step},
    service_manager::ServiceManager,
    signals::Signals,
};
use crate::descriptors;

pub use cluster::Kubernetes;
pub use config::Config;
pub use membership::NodeConfig;
pub use secure_boot::SecureBoot;

/// The time that blocking tasks get to finish when the daemon ends.
const FAREWELL: Duration = Duration::from_millis(500);

/// Answers DHCP, TFTP and HTTP until SIGINT or SIGTERM. SIGHUP reloads the spec. It must be called on the main thread, before others are
/// started that do not block these signals.
///
/// # Errors
///
/// If pxed cannot serve, or could not save its state at the end. The message lists every problem of the spec, the artifacts and the
/// interfaces.
pub fn run(config: &Config) -> anyhow::Result<()> {
    let ending = Ending::new();
    // From here on signals end or reload pxed in order; before, they would kill it.
    let mut signals = Signals::listen(ending.clone())?;
    descriptors::raise_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let service_manager = Arc::new(ServiceManager::of_process());
    let result = runtime.block_on(async {
        let start = start::start(config, Arc::clone(&service_manager)).await;
        let mut daemon = start.inspect_err(|error| service_manager.failed(error))?;
        daemon.look_after(&mut signals).await?;
        daemon.stop(&mut signals, &ending).await
    });
    // A read from a hanging disk must not keep pxed from ending.
    let deadline = ending.enter(Step::Threads);
    runtime.shutdown_timeout(deadline.saturating_duration_since(Instant::now()).min(FAREWELL));
    result
}
