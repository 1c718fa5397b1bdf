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

use arc_swap::ArcSwap;
use pxe_common::{MacAddr, layout::Settings};

use crate::{
    dhcp::{Mode, Server},
    inventory::{Inventory, SharedInventory},
    journal::{EventSink, policy::PolicyBook},
};

pub mod afxdp;
pub mod counters;
pub mod frame;
pub mod interface;
pub mod packet_socket;
pub mod port;
pub mod responder;
pub mod xdp;

use counters::ReplyCounters;
use interface::{Interface, InterfaceError};
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
    pub policies: Arc<ArcSwap<PolicyBook>>,
    /// Where events go.
    pub events: EventSink,
    /// What is counted about replies.
    pub counters: Arc<ReplyCounters>,
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
        error: afxdp::QueueError,
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
}

/// What the inventory wants of one interface.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    addresses: Vec<Ipv4Addr>,
    machines: Vec<MacAddr>,
}

impl Dataplane {
    /// No interface yet.
    #[must_use]
    pub fn new(context: Context) -> Self {
        Self { context, ports: BTreeMap::new() }
    }

    /// The MTU of every interface that the inventory names, by our address on it.
    ///
    /// # Errors
    ///
    /// Every interface that is missing, down, or without its address.
    pub fn check(inventory: &Inventory) -> Result<HashMap<Ipv4Addr, u16>, Vec<InterfaceError>> {
        let (mut mtus, mut errors) = (HashMap::new(), Vec::new());
        for (name, wanted) in wanted(inventory) {
            match Interface::read(&name) {
                Err(error) => errors.push(error),
                Ok(interface) => {
                    for address in wanted.addresses {
                        match interface.serves(address) {
                            Ok(_) => drop(mtus.insert(address, interface.mtu)),
                            Err(error) => errors.push(error),
                        }
                    }
                }
            }
        }
        if errors.is_empty() { Ok(mtus) } else { Err(errors) }
    }

    /// Makes the ports what `after` wants, given that they are what `before` wanted: opens and closes ports, and tells
    /// the programs of the others of the machines that came and went, touching no other entry.
    ///
    /// # Errors
    ///
    /// Every interface that cannot be served. The others are, all the same.
    pub fn apply(&mut self, before: &Inventory, after: &Inventory) -> Result<(), Vec<DataplaneError>> {
        let mut errors = Vec::new();
        let mut had = wanted(before);
        let want = wanted(after);
        self.ports.retain(|name, _| {
            let keep = want.contains_key(name);
            if !keep {
                tracing::info!(interface = &**name, "no cluster is served here any more");
            }
            keep
        });
        for (name, wanted) in want {
            let result = match self.ports.get_mut(&name) {
                Some(port) => self.context.change(port, &had.remove(&name).unwrap_or_default(), &wanted),
                None => self.context.open(&name, &wanted).map(|port| {
                    self.ports.insert(Arc::clone(&name), port);
                }),
            };
            errors.extend(result.err());
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
    fn open(&self, name: &str, wanted: &Wanted) -> Result<Port, DataplaneError> {
        let interface = Interface::read(name)?;
        let servers = self.servers(&interface, &wanted.addresses)?;
        if !interface.running {
            tracing::warn!(interface = name, "no carrier: is the cable plugged in?");
        }
        let port = Port::open(interface, &servers, &wanted.machines, self)?;
        tracing::info!(
            interface = name,
            path = port.path().name(),
            queues = port.queues().len(),
            machines = wanted.machines.len(),
            "serving"
        );
        Ok(port)
    }

    fn change(&self, port: &mut Port, had: &Wanted, wanted: &Wanted) -> Result<(), DataplaneError> {
        if had.addresses != wanted.addresses {
            let interface = Interface::read(&port.interface().name)?;
            port.set_servers(self.servers(&interface, &wanted.addresses)?)?;
        }
        let (added, removed) = difference(&had.machines, &wanted.machines);
        port.change_machines(&added, &removed)
    }

    fn servers(
        &self,
        interface: &Interface,
        addresses: &[Ipv4Addr],
    ) -> Result<HashMap<Ipv4Addr, Server>, DataplaneError> {
        let server = |&address: &Ipv4Addr| {
            let server = Server {
                address,
                prefix_length: interface.serves(address)?,
                http_port: self.http_port,
                lease_seconds: self.lease_seconds,
                mode: self.mode,
            };
            Ok((address, server))
        };
        addresses.iter().map(server).collect()
    }
}

/// What each interface is wanted for; addresses and machines sorted.
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

/// What is in `after` alone, and in `before` alone; both sorted.
fn difference(before: &[MacAddr], after: &[MacAddr]) -> (Vec<MacAddr>, Vec<MacAddr>) {
    let lacks = |list: &[MacAddr], mac: &&MacAddr| list.binary_search(mac).is_err();
    let added = after.iter().filter(|mac| lacks(before, mac)).copied().collect();
    let removed = before.iter().filter(|mac| lacks(after, mac)).copied().collect();
    (added, removed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_comes_and_goes_makes_the_one_the_other(
            before: BTreeSet<u8>, after: BTreeSet<u8>,
        ) {
            let macs = |set: &BTreeSet<u8>| set.iter().map(|&n| MacAddr([2, 0, 0, 0, 0, n])).collect::<Vec<_>>();
            let (before, after) = (macs(&before), macs(&after));
            let (added, removed) = difference(&before, &after);
            let mut changed: BTreeSet<_> = before.iter().copied().collect();
            for mac in &removed {
                prop_assert!(changed.remove(mac));
            }
            for mac in added {
                prop_assert!(changed.insert(mac));
            }
            prop_assert_eq!(changed.into_iter().collect::<Vec<_>>(), after);
        }
    }
}
