//! Frames in, frames out: XDP attach, map sync, AF_XDP workers, the kernel-socket fallback.
//!
//! [`Dataplane`] keeps one [`Port`] for each interface that the inventory names. [`plan`](plan::plan) works out the changes,
//! and the ports execute them. A port's workers run [`responder`] on every frame; nothing here decides the content of an
//! answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
    time::Instant,
};

use pxe_common::layout::UnknownMachines;

use crate::{
    dhcp::Mode,
    model::{
        inventory::{Inventory, SharedInventory, Site},
        nodes::SharedNodes,
        own_sites::OwnAddress,
    },
    net::interface::{Interface, InterfaceError},
};

pub mod addressing;
pub mod context;
pub mod counters;
pub mod datapath;
pub mod difference;
pub mod duplicate_answers;
pub mod error;
mod gate;
pub mod kernel;
pub mod linux;
pub mod metrics;
pub mod plan;
pub mod port;
mod rate_notes;
pub mod reach;
pub mod responder;
pub mod ring;
pub mod sharing;
pub mod shortfall;
mod stillness;
#[cfg(test)]
mod tests;
pub mod trace_reader;
pub mod wanted;
pub mod xdp;

pub use addressing::Addressing;
pub use context::Context;
pub use datapath::Datapath;
pub use error::DataplaneError;

use addressing::Served;
use kernel::Kernel;
use linux::Linux;
use plan::{Look, Plan, Step, Taken, Warning};
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
    /// The interfaces on which frames can arrive now, as far as anybody knows.
    connected: BTreeSet<Arc<str>>,
    /// The other nodes of the fleet.
    nodes: SharedNodes,
    /// The choices among several addresses of this host, which have been logged.
    choices: BTreeSet<String>,
    /// The inventory in force, and what it wants.
    wanted: (Arc<Inventory>, ByInterface<Wanted>),
}

/// The options that decide what is done and what is warned of.
#[derive(Clone, Debug)]
struct Policy {
    datapath: Datapath,
    addressing: Addressing,
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

impl Report {
    /// Returns `true` if some worker neither answers nor waits.
    #[must_use]
    pub fn has_stuck_workers(&self) -> bool {
        self.problems.iter().any(|problem| matches!(problem, DataplaneError::Stuck { .. }))
    }
}

impl Dataplane {
    /// Returns a dataplane that serves no interface yet.
    #[must_use]
    pub fn new(context: Context) -> Self {
        let Context { datapath, settings, mode, ref addressing, ref inventory, ref sharing, .. } = context;
        let nodes = sharing.as_ref().map(|sharing| Arc::clone(&sharing.nodes)).unwrap_or_default();
        let policy = Policy { datapath, addressing: addressing.clone(), mode, unknown: settings.unknown() };
        let inventory = Arc::clone(inventory);
        Self { nodes, ..Self::with_kernel(Linux::new(context), inventory, policy) }
    }

    /// Checks that every interface in the inventory exists, is up, and has an address for each of its sites. Returns the errors of all
    /// interfaces that fail the check.
    #[must_use]
    pub fn check(inventory: &Inventory, addressing: &Addressing) -> Vec<InterfaceError> {
        let mut errors = Vec::new();
        for (name, Wanted { addresses, .. }) in wanted(inventory, &ByInterface::new()) {
            match Interface::read(&name) {
                Err(error) => errors.push(error),
                Ok(interface) if !interface.up => errors.push(interface.is_down()),
                Ok(interface) => errors.append(&mut addressing.on(&interface, &addresses).1),
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
            connected: BTreeSet::new(),
            nodes: SharedNodes::default(),
            choices: BTreeSet::new(),
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
        let mut looks = ByInterface::new();
        let names: Vec<_> = self.wanted.1.keys().cloned().collect();
        for name in &names {
            let mut look = look(&mut self.kernel, &self.ports, name);
            self.note_connection(name, &look);
            look.taken = self.taken(&look);
            looks.insert(Arc::clone(name), look);
        }
        self.connected.retain(|name| looks.contains_key(name));
        let mut warnings = self.unused_addresses(&looks);
        self.tell_choices(&looks);
        for port in self.ports.values_mut() {
            port.look_after_workers(now);
            port.report_strays(&mut self.kernel);
        }
        let have = self.ports.iter().map(|(name, port)| (Arc::clone(name), port.state())).collect();
        let choice = (self.policy.datapath, &self.policy.addressing);
        let Plan { steps, problems, warnings: mut of_plan } = plan::plan(&have, &self.wanted.1, looks, choice, now);
        warnings.append(&mut of_plan);

        let mut problems: Vec<DataplaneError> = problems.into_iter().map(Into::into).collect();
        problems.extend(self.ports.values().flat_map(Port::stuck_workers));
        for (name, step) in steps {
            problems.extend(self.execute(name, step, now).err());
        }
        warnings.append(&mut self.warnings());
        Report { problems, warnings }
    }

    /// Returns the sites that are served now, each with this node's addresses on it. An interface without a carrier serves nobody.
    #[must_use]
    pub fn sites(&self) -> BTreeMap<Site, OwnAddress> {
        let ports = self.ports.iter().filter(|(name, _)| self.connected.contains(*name));
        let served =
            ports.flat_map(|(name, port)| port.state().answered.servers.iter().map(move |served| (name, served)));
        served
            .map(|(name, Served { site, own })| (Site { interface: Arc::clone(name), address: *site }, own.clone()))
            .collect()
    }

    /// Notes whether frames can arrive on an interface. If the kernel does not tell, it stays as it was.
    fn note_connection(&mut self, name: &Arc<str>, look: &Look) {
        let is_connected = match &look.interface {
            Ok(interface) => interface.up && interface.running,
            Err(error) if error.is_gone() => false,
            Err(_) => return,
        };
        if is_connected {
            self.connected.insert(Arc::clone(name));
        } else {
            self.connected.remove(name);
        }
    }

    /// Returns the machines of the spec that have an address of the interface, or of another node. Where only the spec's addresses are served, the spec alone
    /// tells of such machines, and they are not in the inventory.
    fn taken(&self, look: &Look) -> Vec<Taken> {
        let (Ok(interface), Addressing::OfNode { .. }) = (&look.interface, &self.policy.addressing) else {
            return Vec::new();
        };
        let taken = |address: Ipv4Addr, owner: String| {
            let machine = self.wanted.0.by_address(address)?;
            (*machine.site.interface == *interface.name).then(|| Taken { mac: machine.mac, address, owner })
        };
        let ours = interface.addresses.iter();
        let ours =
            ours.filter_map(|&(address, _)| taken(address, format!("interface {} of this host", interface.name)));
        let nodes = self.nodes.load();
        let peers = nodes.peers().iter().flat_map(|peer| peer.sites.values().map(move |&address| (peer, address)));
        ours.chain(peers.filter_map(|(peer, address)| taken(address, format!("the node {}", peer.name)))).collect()
    }

    /// Logs each choice among several addresses of this host once.
    fn tell_choices(&mut self, looks: &ByInterface<Look>) {
        let mut choices = BTreeSet::new();
        for (name, look) in looks {
            let (Ok(interface), Some(wanted)) = (&look.interface, self.wanted.1.get(name)) else { continue };
            choices.extend(self.policy.addressing.choices(interface, &wanted.addresses));
        }
        choices.difference(&self.choices).for_each(|choice| tracing::info!("{choice}"));
        self.choices = choices;
    }

    fn unused_addresses(&self, looks: &ByInterface<Look>) -> Vec<Warning> {
        let found = looks
            .iter()
            .filter_map(|(name, look)| Some((look.interface.as_ref().ok()?, &*self.wanted.1.get(name)?.addresses)));
        self.policy.addressing.unused(found).into_iter().map(Warning::NotAdvertised).collect()
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
                    mac_addresses = port.state().machines.len(),
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
    Look { interface, programs, taken: Vec::new() }
}
