//! The operations that a port needs of the kernel, as a trait, so that tests can replace the kernel.

use std::{net::Ipv4Addr, sync::Arc};

use arc_swap::ArcSwap;
use pxe_common::MacAddr;

use super::{error::DataplaneError, plan::Answered, responder::Servers, xdp::AttachMode};
use crate::net::interface::{Interface, InterfaceError};

/// The servers that the workers of a port answer as. They can be replaced while the workers run.
pub type SharedServers = Arc<ArcSwap<Servers>>;

/// The source of a worker's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// An AF_XDP socket on one receive queue.
    Queue {
        /// The queue.
        index: u32,
        /// The number of queues that are served, among which memory is divided.
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
    /// Requests to the address become ours.
    AddAddress(Ipv4Addr),
    /// Requests to the address are no longer ours.
    RemoveAddress(Ipv4Addr),
    /// Requests on the VLAN become ours.
    AddVlan(u16),
    /// Requests on the VLAN are no longer ours.
    RemoveVlan(u16),
}

/// A thread that answers frames. Dropping it waits until it has ended.
pub trait Worker {
    /// Returns `true` if it has ended by itself.
    fn has_ended(&self) -> bool;

    /// Returns the number of signs of life that it has given. A worker gives one every second at least, unless it is stuck.
    fn pulse(&self) -> u64;

    /// Asks it to end, without waiting for it.
    fn ask_to_end(&self);
}

/// The kernel, as far as ports need it.
pub trait Kernel {
    /// A loaded XDP program. When it is dropped, it leaves its interface.
    type Program;
    /// A thread with its socket.
    type Worker: Worker;

    /// Reads an interface.
    ///
    /// # Errors
    ///
    /// If there is none of this name, if it cannot be served, or if the kernel does not tell.
    fn interface(&mut self, name: &str) -> Result<Interface, InterfaceError>;

    /// Returns the identifiers of the XDP programs that are attached to an interface, ours or others.
    ///
    /// # Errors
    ///
    /// If the kernel does not tell.
    fn programs(&mut self, interface: &Interface) -> Result<Vec<u32>, InterfaceError>;

    /// Returns the servers at these addresses.
    fn servers(&self, answered: &Answered) -> Servers;

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

    /// Reports the known machines that asked on a VLAN that is not served since the last call. It is no problem if that fails.
    fn report_strays(&mut self, program: &mut Self::Program);

    /// Attaches a program. From then on it sees every frame; until a socket is registered, it passes all of them on.
    ///
    /// # Errors
    ///
    /// If the driver does not support it, or another program is attached.
    fn attach(&mut self, program: &mut Self::Program, mode: AttachMode) -> Result<(), DataplaneError>;

    /// Replaces an attached program by one that is not attached, in one step.
    ///
    /// # Errors
    ///
    /// If the kernel refuses. Then the program is still attached, or none is.
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
