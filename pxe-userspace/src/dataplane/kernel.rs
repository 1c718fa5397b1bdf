//! The kernel operations that a port needs, as a trait that tests can implement.

use std::{net::Ipv4Addr, sync::Arc};

use arc_swap::ArcSwap;
use pxe_common::MacAddr;

use super::{error::DataplaneError, plan::Served, responder::Servers, xdp::AttachMode};
use crate::net::interface::{Interface, InterfaceError};

/// The servers in whose name the workers of a port answer. They can be exchanged while the workers run.
pub type SharedServers = Arc<ArcSwap<Servers>>;

/// The source of a worker's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// An AF_XDP socket on one receive queue.
    Queue {
        /// The queue.
        index: u32,
        /// The number of queues that are served; they share the memory.
        of: u32,
    },
    /// A packet socket.
    Packets,
}

/// One change to a map. Applying it twice is harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The machine becomes known.
    AddMachine(MacAddr),
    /// The machine becomes unknown.
    RemoveMachine(MacAddr),
    /// The address becomes ours.
    AddServer(Ipv4Addr),
    /// The address is no longer ours.
    RemoveServer(Ipv4Addr),
}

/// A thread that answers frames. Dropping it ends the thread.
pub trait Worker {
    /// Returns `true` if it has ended by itself.
    fn has_ended(&self) -> bool;

    /// Asks it to end, without waiting for it.
    fn ask_to_end(&self);
}

/// The kernel.
pub trait Kernel {
    /// A loaded XDP program. Dropping it detaches it from its interface.
    type Program;
    /// A thread with its socket.
    type Worker: Worker;

    /// Reads an interface.
    ///
    /// # Errors
    ///
    /// If there is no interface of this name, if it cannot be served, or if the kernel could not be asked.
    fn interface(&mut self, name: &str) -> Result<Interface, InterfaceError>;

    /// Returns the identifiers of the XDP programs that are attached to an interface, ours or others.
    ///
    /// # Errors
    ///
    /// If the kernel could not be asked.
    fn programs(&mut self, interface: &Interface) -> Result<Vec<u32>, InterfaceError>;

    /// Returns the servers for these addresses.
    fn servers(&self, addresses: &[Served]) -> Servers;

    /// Loads a program with room for at least this many machines. It is not attached yet, and its maps are empty.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the program or its maps.
    fn load(&mut self, interface: &Interface, machines: usize) -> Result<Self::Program, DataplaneError>;

    /// Returns the identifier of a program.
    fn id(&self, program: &Self::Program) -> u32;

    /// Returns the number of machines that fit into the program's map.
    fn room(&self, program: &Self::Program) -> usize;

    /// Writes an entry of a map.
    ///
    /// # Errors
    ///
    /// If the kernel refuses, for example because the map is full.
    fn write(&mut self, program: &mut Self::Program, entry: Entry) -> Result<(), DataplaneError>;

    /// Attaches a program. From then on it sees every frame, and passes all of them on until a socket is registered.
    ///
    /// # Errors
    ///
    /// If the driver does not support it, or another program is attached.
    fn attach(&mut self, program: &mut Self::Program, mode: AttachMode) -> Result<(), DataplaneError>;

    /// Replaces an attached program by another one, atomically.
    ///
    /// # Errors
    ///
    /// If the kernel refuses. The old program is then either still attached or off the interface.
    fn replace(&mut self, program: &mut Self::Program, successor: Self::Program) -> Result<(), DataplaneError>;

    /// Opens a socket and starts a worker on it.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the socket or the thread.
    fn start(
        &mut self,
        interface: &Interface,
        source: Source,
        servers: &SharedServers,
    ) -> Result<Self::Worker, DataplaneError>;

    /// Lets a program redirect the frames of a worker's queue to it.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the map entry.
    fn register(&mut self, program: &mut Self::Program, worker: &Self::Worker) -> Result<(), DataplaneError>;
}
