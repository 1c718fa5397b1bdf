//! One interface that we serve on: its XDP program, its sockets and its worker threads.

use std::{io, sync::Arc, time::Instant};

use arc_swap::ArcSwap;
use pxe_common::{Counter, MacAddr, layout::QUEUES_CAPACITY};

use super::{
    datapath::Path,
    difference::Difference,
    error::DataplaneError,
    kernel::{Entry, Kernel, SharedServers, Source, Worker},
    linux::Linux,
    plan::{Changes, Fallback, Opening, Retry, State, Step},
    responder::Servers,
    ring::QueueStats,
    stillness::Stillness,
    xdp::XdpProgram,
};
use crate::net::interface::Interface;

/// An interface with everything that runs on it. It executes the steps of a plan and decides nothing. When it is dropped, the
/// program leaves the interface and the workers end.
pub struct Port<K: Kernel = Linux> {
    state: State,
    servers: SharedServers,
    machinery: Machinery<K>,
    /// The silence of the worker in each place, as of the last look.
    stillness: Vec<Stillness>,
    looked_at: Instant,
}

/// The program and the workers of one path.
struct Machinery<K: Kernel> {
    program: Option<K::Program>,
    /// The worker of each place; `None` if it has ended and no other could be started. With XDP a place is a queue.
    workers: Vec<Option<K::Worker>>,
}

impl<K: Kernel> Port<K> {
    /// Starts serving by the best path that works.
    ///
    /// # Errors
    ///
    /// If no path works; the error is that of the best one.
    pub fn open(kernel: &mut K, opening: Opening, now: Instant) -> Result<Self, DataplaneError> {
        let Opening { interface, paths, answered, vlans, machines } = opening;
        if !interface.running {
            tracing::warn!(interface = interface.name, "no carrier: is the cable plugged in?");
        }
        let servers = Arc::new(ArcSwap::from_pointee(kernel.servers(&answered)));
        let mut state = State {
            path: Path::Socket,
            program: None,
            fallback: None,
            room: 0,
            asked_at: Arc::clone(&answered.asked_at),
            interface,
            answered,
            vlans,
            machines,
            ended: Vec::new(),
        };
        let machinery = Machinery::open_best(kernel, &mut state, paths, &servers, now)?;
        Ok(Self { state, servers, machinery, stillness: Vec::new(), looked_at: now })
    }

    /// Executes a step that leaves the interface open.
    ///
    /// # Errors
    ///
    /// If the kernel refuses. The state records what was done before the failure.
    pub fn execute(&mut self, kernel: &mut K, step: Step, now: Instant) -> Result<(), DataplaneError> {
        match step {
            // The dataplane does both.
            Step::Close(_) | Step::Open(_) => Ok(()),
            Step::Answer(answered) => {
                self.servers.store(Arc::new(kernel.servers(&answered)));
                self.state.answered = answered;
                Ok(())
            }
            Step::WriteAddresses(changes) => {
                let program = self.machinery.program.as_mut();
                let known = &mut self.state.asked_at;
                write(kernel, program, changes, known, Entry::RemoveAddress, Entry::AddAddress)
            }
            Step::WriteVlans(changes) => {
                let program = self.machinery.program.as_mut();
                let known = &mut self.state.vlans;
                write(kernel, program, changes, known, Entry::RemoveVlan, Entry::AddVlan)
            }
            Step::WriteMachines(changes) => {
                let program = self.machinery.program.as_mut();
                let known = &mut self.state.machines;
                let (added, removed) = (changes.difference.added.len(), changes.difference.removed.len());
                write(kernel, program, changes, known, Entry::RemoveMachine, Entry::AddMachine)?;
                tracing::info!(interface = self.state.interface.name, added, removed, "machines changed");
                Ok(())
            }
            Step::RestartWorker(place) => self.restart_worker(kernel, place),
            Step::Enlarge(machines) => self.enlarge(kernel, machines),
            Step::Improve(paths) => {
                self.improve(kernel, paths, now);
                Ok(())
            }
        }
    }

    fn restart_worker(&mut self, kernel: &mut K, place: u32) -> Result<(), DataplaneError> {
        let Self { state, servers, machinery, .. } = self;
        let Some(slot) = usize::try_from(place).ok().and_then(|place| machinery.workers.get_mut(place)) else {
            return Ok(());
        };
        // The old socket must be closed before another one can be bound to the queue.
        *slot = None;
        let source = source(&state.interface, state.path, place);
        let worker = kernel.start(&state.interface, source, servers)?;
        if let Some(program) = &mut machinery.program {
            kernel.register(program, &worker)?;
        }
        *slot = Some(worker);
        tracing::warn!(interface = state.interface.name, place, "a worker ended: started another one");
        Ok(())
    }

    /// Replaces the program. The sockets and their workers stay.
    fn enlarge(&mut self, kernel: &mut K, machines: Arc<[MacAddr]>) -> Result<(), DataplaneError> {
        let Self { state, machinery: Machinery { program, workers }, .. } = self;
        let Some(program) = program else { return Ok(()) };
        let mut successor = load(kernel, state, &machines)?;
        for worker in workers.iter().flatten() {
            kernel.register(&mut successor, worker)?;
        }
        let (id, room) = (kernel.id(&successor), kernel.room(&successor));
        kernel.replace(program, successor)?;
        state.program = Some(id);
        state.room = room;
        state.asked_at = Arc::clone(&state.answered.asked_at);
        state.machines = machines;
        tracing::info!(
            interface = state.interface.name,
            machines = state.machines.len(),
            room,
            "the map of machines was too small: replaced the program by one with a larger map"
        );
        Ok(())
    }

    /// Moves to a better path. Meanwhile a frame reaches one of the two paths, never both: the packet socket does not see what
    /// the program redirects, and it alone sees what the program passes on while no socket is registered for the queue.
    fn improve(&mut self, kernel: &mut K, paths: &[Path], now: Instant) {
        let Some(mut fallback) = self.state.fallback.take() else { return };
        match Machinery::open_best(kernel, &mut self.state, paths, &self.servers, now) {
            Ok(machinery) => {
                self.machinery = machinery;
                let path = self.state.path.name();
                tracing::info!(interface = self.state.interface.name, path, "moved to a better path");
            }
            Err(error) => {
                tracing::debug!("no better path works yet: {error}");
                fallback.retry.postpone(now);
                self.state.fallback = Some(fallback);
            }
        }
    }

    /// Lets the kernel report the machines that asked on a VLAN that is not served. Without a program, the workers do.
    pub fn report_strays(&mut self, kernel: &mut K) {
        if let Some(program) = &mut self.machinery.program {
            kernel.report_strays(program);
        }
    }

    /// Notes in the state which workers have ended, and which have given no sign of life since the last look.
    pub fn look_after_workers(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(std::mem::replace(&mut self.looked_at, now));
        self.stillness.resize(self.machinery.workers.len(), Stillness::default());
        for (stillness, worker) in self.stillness.iter_mut().zip(&self.machinery.workers) {
            match worker.as_ref().filter(|worker| !worker.has_ended()) {
                Some(worker) => stillness.observe(worker.pulse(), passed),
                None => *stillness = Stillness::default(),
            }
        }
        let is_idle = |worker: &Option<K::Worker>| worker.as_ref().is_none_or(Worker::has_ended);
        let places = (0_u32..).zip(&self.machinery.workers);
        self.state.ended = places.filter(|(_, worker)| is_idle(worker)).map(|(place, _)| place).collect();
    }

    /// Returns the workers that were stuck at the last look.
    pub fn stuck_workers(&self) -> impl Iterator<Item = DataplaneError> {
        let places = self.stillness.iter().enumerate().filter(|(_, stillness)| stillness.is_stuck());
        places.map(|(place, _)| DataplaneError::Stuck { interface: self.state.interface.name.clone(), place })
    }

    /// Returns what runs, as the plan needs it.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Returns the servers that its workers answer as.
    #[must_use]
    pub fn servers(&self) -> Arc<Servers> {
        self.servers.load_full()
    }

    /// Returns the interface as it was when the port was opened.
    #[must_use]
    pub fn interface(&self) -> &Interface {
        &self.state.interface
    }

    /// Returns the path by which its frames reach us.
    #[must_use]
    pub fn path(&self) -> Path {
        self.state.path
    }

    /// Returns the number of workers.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.machinery.workers.len()
    }
}

impl Port<Linux> {
    /// Returns the XDP program's counts of frames; none without a program.
    #[must_use]
    pub fn counters(&self) -> Vec<(Counter, u64)> {
        self.machinery.program.as_ref().map(XdpProgram::counters).unwrap_or_default()
    }

    /// Returns the counts of the frames that each receive queue lost.
    pub fn queues(&self) -> impl Iterator<Item = (u32, &QueueStats)> {
        self.machinery.workers.iter().flatten().filter_map(|worker| worker.queue_stats())
    }
}

impl<K: Kernel> Machinery<K> {
    /// Opens the first path that works, and notes in the state which one that is, what its maps have, and what kept the best
    /// path from working.
    fn open_best(
        kernel: &mut K,
        state: &mut State,
        paths: &[Path],
        servers: &SharedServers,
        now: Instant,
    ) -> Result<Self, DataplaneError> {
        let mut reason = None;
        for &path in paths {
            match Self::open(kernel, state, path, servers) {
                Ok(machinery) => {
                    state.path = path;
                    state.program = machinery.program.as_ref().map(|program| kernel.id(program));
                    state.room = machinery.program.as_ref().map_or(usize::MAX, |program| kernel.room(program));
                    state.asked_at = Arc::clone(&state.answered.asked_at);
                    state.fallback = reason.map(|error: DataplaneError| Fallback {
                        reason: error.to_string(),
                        retry: Retry::after_failure(now),
                    });
                    return Ok(machinery);
                }
                Err(error) => {
                    tracing::debug!(path = path.name(), "{error}");
                    // The error of the best path is the one that a person can do something about.
                    reason.get_or_insert(error);
                }
            }
        }
        let none =
            || DataplaneError::system(&state.interface.name, "choosing a path", io::ErrorKind::Unsupported.into());
        Err(reason.unwrap_or_else(none))
    }

    fn open(kernel: &mut K, state: &State, path: Path, servers: &SharedServers) -> Result<Self, DataplaneError> {
        let mut machinery = Self { program: None, workers: Vec::new() };
        if let Some(mode) = path.attach_mode() {
            let mut program = load(kernel, state, &state.machines)?;
            // Before the sockets: some drivers reset their queues when a program is attached, which unbinds sockets.
            kernel.attach(&mut program, mode)?;
            machinery.program = Some(program);
        }
        for place in 0..places(&state.interface, path) {
            let worker = kernel.start(&state.interface, source(&state.interface, path, place), servers)?;
            if let Some(program) = &mut machinery.program {
                kernel.register(program, &worker)?;
            }
            machinery.workers.push(Some(worker));
        }
        Ok(machinery)
    }
}

impl<K: Kernel> Drop for Machinery<K> {
    fn drop(&mut self) {
        // The program goes first, so that the kernel passes frames on while the workers end.
        self.program = None;
        self.workers.iter().flatten().for_each(Worker::ask_to_end);
        self.workers.clear();
    }
}

/// Loads a program whose maps contain our addresses and VLANs, and these machines.
fn load<K: Kernel>(kernel: &mut K, state: &State, machines: &[MacAddr]) -> Result<K::Program, DataplaneError> {
    let mut program = kernel.load(&state.interface, machines.len())?;
    for &mac in machines {
        kernel.write(&mut program, Entry::AddMachine(mac))?;
    }
    for &address in &*state.answered.asked_at {
        kernel.write(&mut program, Entry::AddAddress(address))?;
    }
    for &vlan in &*state.vlans {
        kernel.write(&mut program, Entry::AddVlan(vlan))?;
    }
    Ok(program)
}

/// Writes the entries of a map, going on after failures, and keeps track of the map's content.
fn write<K: Kernel, T: Copy + Ord>(
    kernel: &mut K,
    mut program: Option<&mut K::Program>,
    changes: Changes<T>,
    known: &mut Arc<[T]>,
    remove: fn(T) -> Entry,
    add: fn(T) -> Entry,
) -> Result<(), DataplaneError> {
    let Changes { difference: Difference { mut added, mut removed }, result } = changes;
    let mut errors = Vec::new();
    let mut is_written = |entry| match &mut program {
        Some(program) => kernel.write(program, entry).map_err(|error| errors.push(error)).is_ok(),
        None => true,
    };
    removed.retain(|&entry| is_written(remove(entry)));
    added.retain(|&entry| is_written(add(entry)));
    let mut errors = errors.into_iter();
    let Some(first) = errors.next() else {
        *known = result;
        return Ok(());
    };
    *known = Difference { added, removed }.applied_to(known);
    match errors.len() {
        0 => Err(first),
        others => Err(DataplaneError::Entries { first: Box::new(first), others }),
    }
}

/// Returns the number of workers for a path.
fn places(interface: &Interface, path: Path) -> u32 {
    match path {
        Path::Driver | Path::Generic => interface.queues.min(QUEUES_CAPACITY),
        Path::Socket => 1,
    }
}

fn source(interface: &Interface, path: Path, place: u32) -> Source {
    match path {
        Path::Driver | Path::Generic => Source::Queue { index: place, of: places(interface, path) },
        Path::Socket => Source::Packets,
    }
}

#[cfg(test)]
mod tests;
