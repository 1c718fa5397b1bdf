//! Frames in, frames out: XDP attach, map sync, AF_XDP workers, the kernel-socket fallback.
//!
//! [`Dataplane`] keeps one [`Port`](port::Port) for each interface that the inventory names, and changes them when the
//! inventory does. A port's workers run [`responder`] on every frame; nothing here decides what an answer says.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::Ipv4Addr,
    sync::Arc,
};

use pxe_common::{MacAddr, layout::Settings};

use crate::{
    dhcp::{Mode, Server},
    model::{
        event::EventSink,
        inventory::{Inventory, SharedInventory},
        policy_book::SharedPolicies,
    },
    net::interface::{Interface, InterfaceError},
};

pub mod counters;
pub mod duplicate_answers;
pub mod metrics;
pub mod port;
pub mod responder;
pub mod ring;
pub mod xdp;

use counters::ReplyCounters;
use duplicate_answers::DuplicateAnswers;
use port::Port;

/// How frames are to reach us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datapath {
    /// XDP in the driver, else generic XDP, else a packet socket.
    Auto,
    /// XDP in the driver, or fail.
    Xdp,
    /// Generic XDP, or fail.
    Generic,
    /// A packet socket.
    Socket,
}

/// What every port needs to know.
#[derive(Clone)]
pub struct Context {
    /// How frames are to reach us.
    pub datapath: Datapath,
    /// What the XDP program does with unknown machines, and the rate that it holds each machine to.
    pub settings: Settings,
    /// Server or proxy.
    pub mode: Mode,
    /// The port of boot HTTP.
    pub http_port: u16,
    /// The lease time in seconds.
    pub lease_seconds: u32,
    /// The machines.
    pub inventory: SharedInventory,
    /// Where each machine is sent.
    pub policies: SharedPolicies,
    /// Where events go.
    pub events: EventSink,
    /// What is counted about replies.
    pub counters: Arc<ReplyCounters>,
    /// What was asked last.
    pub duplicate_answers: Arc<DuplicateAnswers>,
}

/// Why an interface is not served.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// The interface is not fit for it.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// No XDP program.
    #[error(transparent)]
    Xdp(#[from] xdp::XdpError),
    /// No AF_XDP socket.
    #[error("interface {interface}: {error}")]
    Queue {
        /// The interface.
        interface: String,
        /// What failed.
        error: ring::QueueError,
    },
    /// A system call failed.
    #[error("interface {interface}: {what}: {error}")]
    System {
        /// The interface.
        interface: String,
        /// What was asked of the kernel.
        what: &'static str,
        /// What it said.
        error: io::Error,
    },
}

impl DataplaneError {
    fn system(interface: &str, what: &'static str, error: io::Error) -> Self {
        Self::System { interface: interface.to_owned(), what, error }
    }
}

/// Every interface that we serve on.
pub struct Dataplane {
    context: Context,
    ports: BTreeMap<Arc<str>, Port>,
    /// What the inventory wants, worked out once for each inventory.
    wanted: (Arc<Inventory>, BTreeMap<Arc<str>, Wanted>),
}

/// What the inventory wants of one interface; both sorted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    addresses: Vec<Ipv4Addr>,
    machines: Vec<MacAddr>,
}

impl Dataplane {
    /// No interface yet.
    #[must_use]
    pub fn new(context: Context) -> Self {
        Self { context, ports: BTreeMap::new(), wanted: Default::default() }
    }

    /// Every interface that the inventory names must be there, up, and have its addresses.
    ///
    /// # Errors
    ///
    /// All that are not.
    pub fn check(inventory: &Inventory) -> Result<(), Vec<InterfaceError>> {
        let mut errors = Vec::new();
        for (name, wanted) in wanted(inventory) {
            match Interface::read(&name) {
                Err(error) => errors.push(error),
                Ok(interface) => {
                    errors.extend(wanted.addresses.into_iter().filter_map(|address| interface.serves(address).err()));
                }
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Makes the ports what the inventory in force wants and the kernel's interfaces allow: opens, closes and reopens
    /// ports, and tells their programs of machines that came and went. Where nothing has changed nothing is touched, so it
    /// can be called at any time, and what failed is tried again.
    ///
    /// # Errors
    ///
    /// Everything that is not served as wanted. The rest is.
    pub fn reconcile(&mut self) -> Result<(), Vec<DataplaneError>> {
        let inventory = self.context.inventory.load_full();
        if !Arc::ptr_eq(&inventory, &self.wanted.0) {
            let wanted = wanted(&inventory);
            self.wanted = (inventory, wanted);
        }
        let Self { context, ports, wanted: (_, wanted) } = self;
        ports.retain(|name, _| {
            let keep = wanted.contains_key(name);
            if !keep {
                tracing::info!(interface = &**name, "no cluster is served here any more");
            }
            keep
        });
        let mut errors = Vec::new();
        for (name, wanted) in &*wanted {
            context.reconcile(ports, name, wanted, &mut errors);
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Stops to serve: the programs leave their interfaces, the workers end.
    pub fn close(&mut self) {
        self.ports.clear();
    }

    /// The interfaces that are served.
    pub fn ports(&self) -> impl Iterator<Item = &Port> {
        self.ports.values()
    }
}

impl Context {
    fn reconcile(
        &self,
        ports: &mut BTreeMap<Arc<str>, Port>,
        name: &Arc<str>,
        wanted: &Wanted,
        errors: &mut Vec<DataplaneError>,
    ) {
        let interface = match Interface::read(name) {
            Ok(interface) => interface,
            Err(error) => {
                ports.remove(name);
                errors.push(error.into());
                return;
            }
        };
        let why_anew = ports.get(name).and_then(|port| match port {
            port if port.interface().is_replaced_by(&interface) => Some("the interface was set up anew"),
            port if !port.is_alive() => Some("a worker ended"),
            port if !port.has_room_for(wanted.machines.len()) => Some("the fleet has outgrown the map of its machines"),
            _ => None,
        });
        if let Some(why) = why_anew {
            tracing::warn!(interface = &**name, "{why}: starting again");
            ports.remove(name);
        }
        let (servers, lacking) = self.servers(&interface, &wanted.addresses);
        errors.extend(lacking.into_iter().map(Into::into));
        let result = match ports.get_mut(name) {
            None => self.open(interface, &servers, wanted).map(|port| drop(ports.insert(Arc::clone(name), port))),
            Some(port) => {
                // One that fails does not keep the other from being done.
                let same = port.servers().is(&servers);
                let addressed = if same { Ok(()) } else { port.set_servers(servers) };
                port.set_machines(&wanted.machines).and(addressed)
            }
        };
        errors.extend(result.err());
    }

    fn open(
        &self,
        interface: Interface,
        servers: &HashMap<Ipv4Addr, Server>,
        wanted: &Wanted,
    ) -> Result<Port, DataplaneError> {
        if !interface.running {
            tracing::warn!(interface = interface.name, "no carrier: is the cable plugged in?");
        }
        let port = Port::open(interface, servers, &wanted.machines, self)?;
        tracing::info!(
            interface = port.interface().name,
            path = port.path().name(),
            queues = port.queues().len(),
            machines = wanted.machines.len(),
            "serving"
        );
        Ok(port)
    }

    /// Who we are at each address that the interface has, and the addresses that it lacks.
    fn servers(
        &self,
        interface: &Interface,
        addresses: &[Ipv4Addr],
    ) -> (HashMap<Ipv4Addr, Server>, Vec<InterfaceError>) {
        let (mut servers, mut lacking) = (HashMap::new(), Vec::new());
        for &address in addresses {
            match interface.prefix_length(address) {
                None => lacking.push(interface.lacks(address)),
                Some(prefix_length) => {
                    let Self { http_port, lease_seconds, mode, .. } = *self;
                    servers.insert(address, Server { address, prefix_length, http_port, lease_seconds, mode });
                }
            }
        }
        (servers, lacking)
    }
}

/// What each interface is wanted for.
fn wanted(inventory: &Inventory) -> BTreeMap<Arc<str>, Wanted> {
    let mut interfaces = BTreeMap::<Arc<str>, Wanted>::new();
    for machine in inventory.machines() {
        let wanted = match interfaces.get_mut(&machine.site.interface) {
            Some(wanted) => wanted,
            None => interfaces.entry(Arc::clone(&machine.site.interface)).or_default(),
        };
        if !wanted.addresses.contains(&machine.site.address) {
            wanted.addresses.push(machine.site.address);
        }
        wanted.machines.push(machine.mac);
    }
    for wanted in interfaces.values_mut() {
        wanted.addresses.sort_unstable();
        wanted.machines.sort_unstable();
    }
    interfaces
}
