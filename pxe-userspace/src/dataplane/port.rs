//! One interface that we serve on: its XDP program, its sockets, its worker threads.

use std::{
    collections::HashMap,
    io,
    net::Ipv4Addr,
    os::fd::AsFd as _,
    sync::Arc,
    thread::{self, JoinHandle},
};

use arc_swap::ArcSwap;
use nix::sys::eventfd::{EfdFlags, EventFd};
use pxe_common::{
    Counter, MacAddr,
    layout::{QUEUES_CAPACITY, UnknownMachines},
};

use super::{
    Context, Datapath, DataplaneError,
    responder::{Responder, Servers},
    ring::{Queue, QueueStats},
    xdp::{AttachMode, XdpProgram},
};
use crate::{
    dhcp::Server,
    net::{interface::Interface, packet_socket::PacketSocket},
};

/// Frames of one queue's ring each way when the interface has only one: a burst of 10,000 machines fits.
const RING_FRAMES: u32 = 16_384;

/// However many queues there are, each keeps at least this many. With the most queues that we serve that is 256 MiB for
/// an interface, and 64 MiB up to 64 queues.
const RING_FRAMES_MINIMUM: u32 = 256;

/// How frames of a port reach us, with the numbers that its kind has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// AF_XDP behind the program in the driver.
    Driver,
    /// AF_XDP behind the program in the network stack.
    Generic,
    /// A packet socket.
    Socket,
}

impl Path {
    /// For logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Driver => "xdp-driver",
            Self::Generic => "xdp-generic",
            Self::Socket => "socket",
        }
    }
}

/// An interface with everything that runs on it. Dropping it stops the workers and takes the program off.
pub struct Port {
    interface: Interface,
    path: Path,
    servers: Arc<ArcSwap<Servers>>,
    /// The machines that the program knows, sorted. Without a program, those that it would.
    machines: Vec<MacAddr>,
    // Dropped before the workers end, so that the kernel passes frames on while they do.
    program: Option<XdpProgram>,
    queues: Vec<Arc<QueueStats>>,
    stop: Arc<EventFd>,
    workers: Vec<JoinHandle<()>>,
}

impl Port {
    /// Starts to serve on an interface that [`Interface::serves`] has been asked about.
    ///
    /// # Errors
    ///
    /// When neither XDP nor a packet socket, as far as `context` allows them, can be had.
    pub fn open(
        interface: Interface,
        servers: &HashMap<Ipv4Addr, Server>,
        machines: &[MacAddr],
        context: &Context,
    ) -> Result<Self, DataplaneError> {
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC).map_err(io::Error::from);
        let stop = Arc::new(stop.map_err(|error| DataplaneError::system(&interface.name, "eventfd", error))?);
        let mut port = Self {
            path: Path::Socket,
            servers: Arc::new(ArcSwap::from_pointee(Servers::default())),
            machines: Vec::new(),
            program: None,
            queues: Vec::new(),
            stop,
            workers: Vec::new(),
            interface,
        };
        let attempts: &[Path] = match context.datapath {
            Datapath::Auto if port.interface.is_aggregate() => &[Path::Generic, Path::Socket],
            Datapath::Auto => &[Path::Driver, Path::Generic, Path::Socket],
            Datapath::Xdp => &[Path::Driver],
            Datapath::Generic => &[Path::Generic],
            Datapath::Socket => &[Path::Socket],
        };
        let mut failure = None;
        for (index, &path) in attempts.iter().enumerate() {
            match port.start(path, servers, machines, context) {
                Ok(()) => {
                    port.path = path;
                    if path == Path::Socket && context.settings.unknown() == UnknownMachines::Drop {
                        tracing::warn!(
                            interface = port.interface.name,
                            "without XDP, unknown machines are not dropped"
                        );
                    }
                    return Ok(port);
                }
                Err(error) => {
                    port.halt();
                    if index + 1 < attempts.len() {
                        tracing::warn!(interface = port.interface.name, "{error}; trying the next slower datapath");
                    }
                    // What kept the fastest path from working is what a person can mend.
                    failure.get_or_insert(error);
                }
            }
        }
        Err(failure.unwrap_or_else(|| {
            DataplaneError::system(&port.interface.name, "choosing a datapath", io::ErrorKind::Unsupported.into())
        }))
    }

    fn start(
        &mut self,
        path: Path,
        servers: &HashMap<Ipv4Addr, Server>,
        machines: &[MacAddr],
        context: &Context,
    ) -> Result<(), DataplaneError> {
        let mode = match path {
            Path::Driver => AttachMode::Driver,
            Path::Generic => AttachMode::Generic,
            Path::Socket => {
                self.set_servers(servers.clone())?;
                self.machines = machines.to_vec();
                return self.start_socket(context);
            }
        };
        let mut program = XdpProgram::load(&self.interface, machines.len())?;
        program.set_settings(context.settings)?;
        for &mac in machines {
            program.add_machine(mac)?;
        }
        self.machines = machines.to_vec();
        // Some drivers set up their queues anew when a program is attached, which would unbind sockets.
        program.attach(mode)?;
        self.program = Some(program);
        self.set_servers(servers.clone())?;
        self.start_queues(context)
    }

    fn start_queues(&mut self, context: &Context) -> Result<(), DataplaneError> {
        let count = self.interface.queues.min(QUEUES_CAPACITY);
        if count < self.interface.queues {
            let (name, queues) = (&self.interface.name, self.interface.queues);
            tracing::warn!(
                "interface {name} has {queues} receive queues, and only the first {count} are served: what arrives on the others \
                 is not answered. `ethtool -L {name} combined {count}` lets everything arrive on those"
            );
        }
        let depth = (RING_FRAMES / count.next_power_of_two()).max(RING_FRAMES_MINIMUM);
        for index in 0..count {
            let interface = &self.interface;
            let mut queue = Queue::open(interface.index, interface.mtu, index, depth)
                .map_err(|error| DataplaneError::Queue { interface: interface.name.clone(), error })?;
            if let Some(program) = &mut self.program {
                program.set_socket(index, queue.raw_fd())?;
            }
            self.queues.push(queue.stats());
            let name = format!("{}/{index}", self.interface.name);
            self.spawn(&name, context, move |stop, responder| {
                queue.serve(stop.as_fd(), |frame, reply| responder.respond(frame, reply))
            })?;
        }
        Ok(())
    }

    fn start_socket(&mut self, context: &Context) -> Result<(), DataplaneError> {
        let name = self.interface.name.clone();
        let mut socket = PacketSocket::open(self.interface.index)
            .map_err(|error| DataplaneError::system(&name, "opening a packet socket (it needs CAP_NET_RAW)", error))?;
        self.spawn(&name, context, move |stop, responder| {
            socket.serve(stop.as_fd(), |frame, reply| responder.respond(frame, reply))
        })
    }

    fn spawn(
        &mut self,
        name: &str,
        context: &Context,
        serve: impl FnOnce(&EventFd, &mut Responder) -> io::Result<()> + Send + 'static,
    ) -> Result<(), DataplaneError> {
        let mut responder = Responder::new(&self.interface, Arc::clone(&self.servers), self.program.is_some(), context);
        let stop = Arc::clone(&self.stop);
        let label = name.to_owned();
        let worker = thread::Builder::new().name(name.to_owned()).spawn(move || {
            if let Err(error) = serve(&stop, &mut responder) {
                tracing::error!(worker = label, "the worker ends: {error}");
            }
        });
        self.workers.push(worker.map_err(|error| DataplaneError::system(name, "starting a worker thread", error))?);
        Ok(())
    }

    /// Replaces the server values, by our addresses on this interface.
    ///
    /// # Errors
    ///
    /// When the kernel refuses an address in its map.
    pub fn set_servers(&mut self, servers: HashMap<Ipv4Addr, Server>) -> Result<(), DataplaneError> {
        let before = self.servers.load_full();
        // Our answers come first: a request that the kernel hands us must find them.
        let after = Arc::new(Servers::new(servers));
        self.servers.store(Arc::clone(&after));
        if let Some(program) = &mut self.program {
            for address in after.addresses() {
                program.add_server(address)?;
            }
            for address in before.addresses().filter(|&address| !after.serves(address)) {
                program.remove_server(address);
            }
        }
        Ok(())
    }

    /// Makes these machines, sorted, the ones that the program knows, touching no entry but those that differ.
    ///
    /// # Errors
    ///
    /// When the kernel refuses an entry. What was not done then is done the next time.
    pub fn set_machines(&mut self, machines: &[MacAddr]) -> Result<(), DataplaneError> {
        let (added, removed) = difference(&self.machines, machines);
        if added.is_empty() && removed.is_empty() {
            return Ok(());
        }
        if let Some(program) = &mut self.program {
            // Both are harmless when they are done twice.
            for &mac in &removed {
                program.remove_machine(mac)?;
            }
            for &mac in &added {
                program.add_machine(mac)?;
            }
        }
        self.machines = machines.to_vec();
        tracing::info!(
            interface = self.interface.name,
            added = added.len(),
            removed = removed.len(),
            "machines changed"
        );
        Ok(())
    }

    /// What is served now.
    #[must_use]
    pub fn servers(&self) -> Arc<Servers> {
        self.servers.load_full()
    }

    /// Whether the program's map has room for so many machines.
    #[must_use]
    pub fn has_room_for(&self, machines: usize) -> bool {
        self.program.as_ref().is_none_or(|program| program.has_room_for(machines))
    }

    /// Whether every worker that was started still works.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.workers.iter().all(|worker| !worker.is_finished())
    }

    /// The interface as it was when the port was opened.
    #[must_use]
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// How its frames reach us.
    #[must_use]
    pub fn path(&self) -> Path {
        self.path
    }

    /// What became of every frame in the XDP program; nothing without one.
    #[must_use]
    pub fn counters(&self) -> Vec<(Counter, u64)> {
        self.program.as_ref().map(XdpProgram::counters).unwrap_or_default()
    }

    /// What each queue lost.
    #[must_use]
    pub fn queues(&self) -> &[Arc<QueueStats>] {
        &self.queues
    }

    /// Stops what runs, so that the next attempt starts anew.
    fn halt(&mut self) {
        self.program = None;
        if self.stop.write(1).is_err() {
            return;
        }
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                tracing::error!(interface = self.interface.name, "a worker has panicked");
            }
        }
        self.queues.clear();
        // Ready for the next attempt: reading takes the counter back to zero.
        let _ = self.stop.read();
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.halt();
    }
}

/// What is in `after` alone, and in `before` alone; all sorted.
fn difference(before: &[MacAddr], after: &[MacAddr]) -> (Vec<MacAddr>, Vec<MacAddr>) {
    let (mut added, mut removed) = (Vec::new(), Vec::new());
    let (mut old, mut new) = (before.iter().copied().peekable(), after.iter().copied().peekable());
    loop {
        match (old.peek().copied(), new.peek().copied()) {
            (None, None) => return (added, removed),
            (Some(gone), next) if next.is_none_or(|next| gone < next) => {
                removed.push(gone);
                old.next();
            }
            (next, Some(came)) if next.is_none_or(|next| came < next) => {
                added.push(came);
                new.next();
            }
            _ => {
                old.next();
                new.next();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_comes_and_goes_makes_the_one_the_other(before: BTreeSet<u8>, after: BTreeSet<u8>) {
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
