//! The real kernel: XDP programs by aya, sockets, threads.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{
    context::Context,
    error::DataplaneError,
    kernel::{Entry, Kernel, SharedServers, Source, Worker},
    plan::Answered,
    responder::{Responder, Servers},
    ring::{Queue, QueueError, QueueStats},
    xdp::{AttachMode, XdpProgram},
};
use crate::{
    dhcp::Server,
    model::{event::EventKind, origin::Origin, own_sites::OwnAddress},
    net::{
        interface::{Interface, InterfaceError},
        packet_socket::PacketSocket,
        pulse::Pulse,
        xdp_programs,
    },
};

/// The frames in the ring of an interface's only queue, in each direction: a burst of 10,000 machines fits.
const RING_FRAMES: u32 = 16_384;

/// The minimum for each queue, however many there are. An interface with the largest number of queues that we serve takes
/// 256 MiB; one with up to 64 queues takes 64 MiB.
const RING_FRAMES_MINIMUM: u32 = 256;

/// The time that the kernel gets to release a queue whose socket was closed. It does so in the background, after close(2)
/// has returned.
const RELEASE_TIME: Duration = Duration::from_millis(500);

/// The interval between attempts to open the queue meanwhile.
const RELEASE_INTERVAL: Duration = Duration::from_millis(5);

/// The Linux kernel, with the context that the workers answer from.
pub struct Linux {
    context: Context,
}

impl Linux {
    /// Returns the kernel for ports that answer from this context.
    #[must_use]
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    fn responder(&self, interface: &Interface, servers: &SharedServers, behind_xdp: bool) -> Responder {
        Responder::new(interface, Arc::clone(servers), behind_xdp, &self.context)
    }
}

impl Kernel for Linux {
    type Program = XdpProgram;
    type Worker = WorkerThread;

    fn interface(&mut self, name: &str) -> Result<Interface, InterfaceError> {
        Interface::read(name)
    }

    fn programs(&mut self, interface: &Interface) -> Result<Vec<u32>, InterfaceError> {
        let what = "asking rtnetlink for its XDP programs";
        xdp_programs::programs(interface.index).map_err(|error| InterfaceError::Unreadable {
            name: interface.name.clone(),
            what,
            error,
        })
    }

    fn servers(&self, answered: &Answered) -> Servers {
        let Context { http_port, lease_seconds, mode, guard, .. } = &self.context;
        Servers::new(answered, |own, networks| {
            let OwnAddress { address, also } = own.clone();
            let (http_port, lease_seconds, mode, guard) = (*http_port, *lease_seconds, *mode, guard.clone());
            Server { address, also, networks, http_port, lease_seconds, mode, guard }
        })
    }

    fn load(&mut self, interface: &Interface, machines: usize) -> Result<XdpProgram, DataplaneError> {
        let mut program = XdpProgram::load(interface, machines)?;
        program.set_settings(self.context.settings)?;
        let Context { tap, dropped_strangers, events, .. } = &self.context;
        program.start_tracing(tap, dropped_strangers, events);
        Ok(program)
    }

    fn id(&self, program: &XdpProgram) -> u32 {
        program.id()
    }

    fn room(&self, program: &XdpProgram) -> usize {
        program.room()
    }

    fn write(&mut self, program: &mut XdpProgram, entry: Entry) -> Result<(), DataplaneError> {
        let written = match entry {
            Entry::AddMachine(mac) => program.add_machine(mac),
            Entry::RemoveMachine(mac) => program.remove_machine(mac),
            Entry::AddAddress(address) => program.add_address(address),
            Entry::RemoveAddress(address) => program.remove_address(address),
            Entry::AddVlan(vlan) => program.set_vlan(vlan, true),
            Entry::RemoveVlan(vlan) => program.set_vlan(vlan, false),
        };
        Ok(written?)
    }

    fn report_strays(&mut self, program: &mut XdpProgram) {
        for (mac, vlan) in program.take_strays() {
            self.context.events.send(mac, SystemTime::now(), Origin::Machine, EventKind::OtherVlan { vlan });
        }
    }

    fn attach(&mut self, program: &mut XdpProgram, mode: AttachMode) -> Result<(), DataplaneError> {
        Ok(program.attach(mode)?)
    }

    fn replace(&mut self, program: &mut XdpProgram, successor: XdpProgram) -> Result<(), DataplaneError> {
        Ok(program.replace_by(successor)?)
    }

    fn start(
        &mut self,
        interface: &Interface,
        source: Source,
        servers: &SharedServers,
    ) -> Result<WorkerThread, DataplaneError> {
        let name = &interface.name;
        match source {
            Source::Queue { index, of } => {
                let mut queue = open_queue(interface, index, of)
                    .map_err(|error| DataplaneError::Queue { interface: name.clone(), error })?;
                let socket = queue.duplicate_fd().map_err(|error| DataplaneError::system(name, "dup", error))?;
                let queue_worker = QueueWorker { index, socket, stats: queue.stats() };
                let mut responder = self.responder(interface, servers, true);
                WorkerThread::start(name, &format!("{name}/{index}"), Some(queue_worker), move |stop, pulse| {
                    queue.serve(stop.as_fd(), pulse, |frame, reply| responder.respond(frame, reply))
                })
            }
            Source::Packets => {
                let what = "opening a packet socket (it needs CAP_NET_RAW)";
                let mut socket =
                    PacketSocket::open(interface.index).map_err(|error| DataplaneError::system(name, what, error))?;
                let mut responder = self.responder(interface, servers, false);
                WorkerThread::start(name, name, None, move |stop, pulse| {
                    socket.serve(stop.as_fd(), pulse, |frame, reply| responder.respond(frame, reply))
                })
            }
        }
    }

    fn register(&mut self, program: &mut XdpProgram, worker: &WorkerThread) -> Result<(), DataplaneError> {
        if let Some(QueueWorker { index, socket, .. }) = &worker.queue {
            program.set_socket(*index, socket.as_raw_fd())?;
        }
        Ok(())
    }
}

/// Opens the socket of a queue. If the queue still has another socket, waits a little for its release.
fn open_queue(interface: &Interface, index: u32, of: u32) -> Result<Queue, QueueError> {
    let depth = (RING_FRAMES / of.next_power_of_two()).max(RING_FRAMES_MINIMUM);
    let deadline = Instant::now() + RELEASE_TIME;
    loop {
        match Queue::open(interface.index, interface.mtu, index, depth) {
            Err(error) if error.busy && Instant::now() < deadline => thread::sleep(RELEASE_INTERVAL),
            opened => return opened,
        }
    }
}

/// A thread that answers frames until it is told to end.
pub struct WorkerThread {
    label: String,
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
    pulse: Pulse,
    queue: Option<QueueWorker>,
}

/// A worker's AF_XDP socket, as far as others need it.
struct QueueWorker {
    index: u32,
    /// A second descriptor, for the socket maps of later programs. The socket closes when the worker's own descriptor is
    /// closed too.
    socket: OwnedFd,
    stats: Arc<QueueStats>,
}

impl WorkerThread {
    fn start(
        interface: &str,
        label: &str,
        queue: Option<QueueWorker>,
        serve: impl FnOnce(&EventFd, &Pulse) -> io::Result<()> + Send + 'static,
    ) -> Result<Self, DataplaneError> {
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC)
            .map_err(|error| DataplaneError::system(interface, "eventfd", error.into()))?;
        let stop = Arc::new(stop);
        let pulse = Pulse::default();
        let (seen, beating, worker) = (Arc::clone(&stop), pulse.clone(), label.to_owned());
        let thread = thread::Builder::new()
            .name(label.to_owned())
            .spawn(move || {
                if let Err(error) = serve(&seen, &beating) {
                    tracing::error!(worker, "a worker ended: {error}");
                }
            })
            .map_err(|error| DataplaneError::system(interface, "starting a worker thread", error))?;
        Ok(Self { label: label.to_owned(), stop, thread: Some(thread), pulse, queue })
    }

    /// Returns the index of its receive queue and the losses there, or `None` if it has a packet socket.
    #[must_use]
    pub fn queue_stats(&self) -> Option<(u32, &QueueStats)> {
        self.queue.as_ref().map(|queue| (queue.index, &*queue.stats))
    }
}

impl Worker for WorkerThread {
    fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn pulse(&self) -> u64 {
        self.pulse.count()
    }

    fn ask_to_end(&self) {
        // This fails only if the counter is full, and then the worker has already been asked.
        let _ = self.stop.write(1);
    }
}

impl Drop for WorkerThread {
    fn drop(&mut self) {
        self.ask_to_end();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(worker = self.label, "a worker panicked");
        }
    }
}
