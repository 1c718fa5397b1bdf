//! Frames in, frames out: XDP attach, map sync, AF_XDP workers, the kernel-socket fallback.
//!
//! [`Dataplane`] keeps one [`Port`] for each interface that the inventory names. [`plan`](plan::plan) works out the changes,
//! and the ports execute them. A port's workers run [`responder`] on every frame; nothing here decides the content of an
//! answer.

use std::{sync::Arc, time::Instant};

use pxe_common::layout::UnknownMachines;

use crate::{
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
pub mod responder;
pub mod ring;
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
use wanted::{ByInterface, Wanted, wanted};

/// Every interface that we serve on.
pub struct Dataplane<K: Kernel = Linux> {
    kernel: K,
    datapath: Datapath,
    drop_unknown: bool,
    inventory: SharedInventory,
    ports: ByInterface<Port<K>>,
    /// The inventory in force, and what it wants.
    wanted: (Arc<Inventory>, ByInterface<Wanted>),
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
        let Context { datapath, settings, ref inventory, .. } = context;
        let (inventory, drop_unknown) = (Arc::clone(inventory), settings.unknown() == UnknownMachines::Drop);
        Self::with_kernel(Linux::new(context), inventory, datapath, drop_unknown)
    }

    /// Checks that every interface in the inventory exists, is up, and has its addresses.
    ///
    /// # Errors
    ///
    /// The errors of all interfaces that fail the check.
    pub fn check(inventory: &Inventory) -> Result<(), Vec<InterfaceError>> {
        let mut errors = Vec::new();
        for (name, Wanted { addresses, .. }) in wanted(inventory, &ByInterface::new()) {
            match Interface::read(&name) {
                Err(error) => errors.push(error),
                Ok(interface) => {
                    errors.extend(addresses.into_iter().filter_map(|address| interface.serves(address).err()));
                }
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }
}

impl<K: Kernel> Dataplane<K> {
    fn with_kernel(kernel: K, inventory: SharedInventory, datapath: Datapath, drop_unknown: bool) -> Self {
        let (ports, wanted) = (ByInterface::new(), Default::default());
        Self { kernel, datapath, drop_unknown, inventory, ports, wanted }
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
        self.ports.values_mut().for_each(Port::look_after_workers);
        let have = self.ports.iter().map(|(name, port)| (Arc::clone(name), port.state())).collect();
        let Plan { steps, problems } = plan::plan(&have, &self.wanted.1, looks, self.datapath, now);

        let mut problems: Vec<DataplaneError> = problems.into_iter().map(Into::into).collect();
        for (name, step) in steps {
            problems.extend(self.execute(name, step, now).err());
        }
        let states = self.ports.values().map(Port::state);
        let warnings = states.flat_map(|state| plan::warnings(state, self.drop_unknown)).collect();
        Report { problems, warnings }
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
