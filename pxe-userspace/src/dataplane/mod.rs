//! Frames in, frames out: XDP attach, map sync, AF_XDP workers, the kernel-socket fallback.
//!
//! [`Dataplane`] keeps one [`Port`] for each interface that the inventory names. [`plan`](plan::plan) works out the changes,
//! and the ports execute them. A port's workers run [`responder`] on every frame; nothing here decides the content of an
//! answer.

use std::{sync::Arc, time::Instant};

use pxe_common::layout::UnknownMachines;

use crate::{
    dhcp::Mode,
    model::inventory::{Inventory, SharedInventory},
    net::interface::{Interface, InterfaceError},
};

pub mod context;
pub mod counters;
pub mod datapath;
pub mod difference;
pub mod duplicate_answers;
pub mod error;
pub mod kernel;
pub mod linux;
pub mod metrics;
pub mod plan;
pub mod port;
pub mod reach;
pub mod responder;
pub mod ring;
pub mod sharing;
#[cfg(test)]
mod tests;
pub mod wanted;
pub mod xdp;

pub use context::Context;
pub use datapath::Datapath;
pub use error::DataplaneError;

use kernel::Kernel;
use linux::Linux;
use plan::{Look, Plan, Step, Warning};
use port::Port;
use reach::Reach;
use wanted::{ByInterface, Wanted, wanted};

/// Every interface that we serve on.
pub struct Dataplane<K: Kernel = Linux> {
    kernel: K,
    policy: Policy,
    inventory: SharedInventory,
    ports: ByInterface<Port<K>>,
    reach: ByInterface<Reach>,
    /// The inventory in force, and what it wants.
    wanted: (Arc<Inventory>, ByInterface<Wanted>),
}

/// The options that decide what is done and what is warned of.
#[derive(Clone, Copy, Debug)]
struct Policy {
    datapath: Datapath,
    mode: Mode,
    unknown: UnknownMachines,
}

/// The findings of a look.
#[derive(Debug, Default)]
pub struct Report {
    /// Problems: something is not served as wanted.
    pub problems: Vec<DataplaneError>,
    /// Warnings: everything is served, but could be better.
    pub warnings: Vec<Warning>,
}

impl Dataplane {
    /// Returns a dataplane that serves no interface yet.
    #[must_use]
    pub fn new(context: Context) -> Self {
        let Context { datapath, settings, mode, ref inventory, .. } = context;
        let (inventory, policy) = (Arc::clone(inventory), Policy { datapath, mode, unknown: settings.unknown() });
        Self::with_kernel(Linux::new(context), inventory, policy)
    }

    /// Checks that every interface in the inventory exists, is up, and has its addresses. Returns the errors of all interfaces
    /// that fail the check.
    #[must_use]
    pub fn check(inventory: &Inventory) -> Vec<InterfaceError> {
        let mut errors = Vec::new();
        for (name, Wanted { addresses, .. }) in wanted(inventory, &ByInterface::new()) {
            match Interface::read(&name) {
                Err(error) => errors.push(error),
                Ok(interface) => {
                    errors.extend(addresses.into_iter().filter_map(|address| interface.serves(address).err()));
                }
            }
        }
        errors
    }
}

impl<K: Kernel> Dataplane<K> {
    fn with_kernel(kernel: K, inventory: SharedInventory, policy: Policy) -> Self {
        Self {
            kernel,
            policy,
            inventory,
            ports: ByInterface::new(),
            reach: ByInterface::new(),
            wanted: Default::default(),
        }
    }

    /// Opens, changes and closes ports until they are what the inventory in force wants, as far as the kernel allows it. What
    /// is already as wanted is not touched, and what failed before is tried again, so it can be called at any time. It must be
    /// called within a tokio runtime.
    ///
    /// Returns everything that is not served as wanted. The rest is served.
    pub fn reconcile(&mut self, now: Instant) -> Report {
        self.take_inventory();
        let looks = self.wanted.1.keys().map(|name| (Arc::clone(name), look(&mut self.kernel, &self.ports, name)));
        let looks = looks.collect();
        for port in self.ports.values_mut() {
            port.look_after_workers();
            port.report_strays(&mut self.kernel);
        }
        let have = self.ports.iter().map(|(name, port)| (Arc::clone(name), port.state())).collect();
        let Plan { steps, problems, mut warnings } =
            plan::plan(&have, &self.wanted.1, looks, self.policy.datapath, now);

        let mut problems: Vec<DataplaneError> = problems.into_iter().map(Into::into).collect();
        for (name, step) in steps {
            problems.extend(self.execute(name, step, now).err());
        }
        warnings.append(&mut self.warnings());
        Report { problems, warnings }
    }

    fn warnings(&mut self) -> Vec<Warning> {
        let Self { policy, ports, reach, wanted: (_, wanted), .. } = self;
        let drop_unknown = policy.unknown == UnknownMachines::Drop;
        let mut warnings: Vec<_> = ports.values().flat_map(|port| plan::warnings(port.state(), drop_unknown)).collect();
        // In proxy mode, another server gives the masks.
        if policy.mode == Mode::Server {
            // The machines of an old inventory must not be kept.
            reach.retain(|name, _| ports.contains_key(name));
            for (name, port) in ports {
                let Some(Wanted { without_gateway, .. }) = wanted.get(name) else { continue };
                let servers = port.servers();
                if !reach.get(name).is_some_and(|known| known.is_of(without_gateway, &servers)) {
                    let addresses = &port.state().answered.addresses;
                    let reached = Reach::of(name, addresses, without_gateway, servers);
                    reach.insert(Arc::clone(name), reached);
                }
                warnings.extend(reach.get(name).and_then(Reach::warning).cloned());
            }
        }
        warnings
    }

    fn take_inventory(&mut self) {
        let inventory = self.inventory.load_full();
        if !Arc::ptr_eq(&inventory, &self.wanted.0) {
            let wanted = wanted(&inventory, &self.wanted.1);
            self.wanted = (inventory, wanted);
        }
    }

    fn execute(&mut self, name: Arc<str>, step: Step, now: Instant) -> Result<(), DataplaneError> {
        match step {
            Step::Close(reason) => {
                tracing::warn!(interface = &*name, "{reason}: no longer serving it");
                self.ports.remove(&name);
            }
            Step::Open(opening) => {
                let port = Port::open(&mut self.kernel, opening, now)?;
                tracing::info!(
                    interface = &*name,
                    path = port.path().name(),
                    workers = port.workers(),
                    machines = port.state().machines.len(),
                    "serving"
                );
                self.ports.insert(name, port);
            }
            step => {
                if let Some(port) = self.ports.get_mut(&name) {
                    port.execute(&mut self.kernel, step, now)?;
                }
            }
        }
        Ok(())
    }

    /// Stops serving: detaches the programs and ends the workers.
    pub fn close(&mut self) {
        self.ports.clear();
    }

    /// Returns the interfaces that are served.
    pub fn ports(&self) -> impl Iterator<Item = &Port<K>> {
        self.ports.values()
    }
}

/// Asks the kernel about an interface, and about its XDP programs if the plan needs to know them.
fn look<K: Kernel>(kernel: &mut K, ports: &ByInterface<Port<K>>, name: &Arc<str>) -> Look {
    let interface = kernel.interface(name);
    let has_or_wants_one = |state: &plan::State| state.program.is_some() || state.fallback.is_some();
    let programs = match (&interface, ports.get(name)) {
        (Ok(interface), Some(port)) if has_or_wants_one(port.state()) => kernel.programs(interface).map(Some),
        _ => Ok(None),
    };
    Look { interface, programs }
}
