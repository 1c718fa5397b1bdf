//! A kernel in memory: interfaces, programs with their maps, sockets, and the workers that answer a frame. Operations fail
//! on demand.

use std::{
    cell::{RefCell, RefMut},
    collections::{BTreeMap, BTreeSet},
    io,
    net::Ipv4Addr,
    rc::Rc,
    thread,
};

use pxe_common::MacAddr;

use super::super::{
    error::DataplaneError,
    kernel::{Entry, Kernel, SharedServers, Source, Worker},
    plan::{Answered, Present},
    responder::Servers,
    xdp::{AttachMode, XdpError},
};
use crate::{
    dhcp::{Mode, Server},
    model::own_sites::OwnAddress,
    net::interface::{Interface, InterfaceError},
};

/// The capacity of a map, unless a larger one is requested.
pub(super) const ROOM: usize = 4;

/// An operation of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Look,
    LookForProgram,
    Load,
    Write(Entry),
    Attach(AttachMode),
    Replace,
    /// A replacement that detaches both programs when it is refused.
    ReplaceOrDetach,
    Start(Source),
    Register(u32),
}

/// A handle on the kernel.
#[derive(Clone, Default)]
pub(super) struct Fake(Rc<RefCell<World>>);

#[derive(Default)]
pub(super) struct World {
    pub(super) devices: BTreeMap<String, Device>,
    /// The operations that fail, by interface.
    pub(super) refused: Vec<(String, Operation)>,
    /// The operations since the list was taken.
    pub(super) done: Vec<Operation>,
    /// Questions that must have exactly one answer after every operation, unless the kernel itself detaches the program.
    pub(super) watched: Vec<Question>,
    programs: BTreeMap<u32, Maps>,
    workers: BTreeMap<u32, Listening>,
    last_id: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Device {
    pub(super) interface: Interface,
    pub(super) attached: Option<Attached>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attached {
    Foreign,
    Ours(u32),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Maps {
    pub(super) room: usize,
    pub(super) machines: BTreeSet<MacAddr>,
    pub(super) addresses: BTreeSet<Ipv4Addr>,
    pub(super) vlans: BTreeSet<u16>,
    sockets: BTreeMap<u32, u32>,
    /// The index of the interface that the program was attached to, even if it no longer is.
    attached_to: Option<u32>,
}

struct Listening {
    interface: Interface,
    source: Source,
    servers: SharedServers,
    has_ended: bool,
    is_stuck: bool,
    pulse: u64,
}

/// A frame of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) interface: String,
    pub(super) queue: u32,
    pub(super) mac: MacAddr,
    /// The address of ours that serves the machine.
    pub(super) site: Ipv4Addr,
    /// The address that it is sent to.
    pub(super) to: Ipv4Addr,
}

impl World {
    /// Adds an interface that is up and has these addresses.
    pub(super) fn plug_in(&mut self, name: &str, queues: u32, addresses: &[Present]) {
        self.last_id += 1;
        let interface = Interface {
            name: name.to_owned(),
            index: self.last_id,
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            addresses: addresses.to_vec(),
            up: true,
            running: true,
            queues,
            aggregate: false,
            strips_tags: false,
            has_vlans: false,
        };
        self.devices.insert(name.to_owned(), Device { interface, attached: None });
    }

    pub(super) fn device(&mut self, name: &str) -> &mut Device {
        self.devices.get_mut(name).expect("the test names an existing interface")
    }

    /// Returns the number of workers that answer a frame.
    pub(super) fn answers(&self, question: &Question) -> usize {
        let Some(Device { interface, attached }) = self.devices.get(&question.interface) else { return 0 };
        if !interface.up {
            return 0;
        }
        let answers = |worker: &Listening| {
            let is_ours = (worker.interface.index, worker.interface.mac) == (interface.index, interface.mac);
            let servers = worker.servers.load();
            let is_for_us = question.to.is_broadcast() || servers.are_asked_at(question.to);
            usize::from(!worker.has_ended && is_ours && is_for_us && servers.of_site(question.site).is_some())
        };
        let redirected = match attached {
            Some(Attached::Ours(program)) => {
                let Maps { machines, addresses, sockets, .. } = &self.programs[program];
                let is_for_us = question.to.is_broadcast() || addresses.contains(&question.to);
                let socket = sockets.get(&question.queue).filter(|_| is_for_us && machines.contains(&question.mac));
                socket.and_then(|worker| self.workers.get(worker))
            }
            Some(Attached::Foreign) | None => None,
        };
        match redirected {
            Some(worker) => answers(worker),
            None => self.workers.values().filter(|worker| worker.source == Source::Packets).map(answers).sum(),
        }
    }

    /// Returns the maps of our program on an interface.
    pub(super) fn maps(&self, name: &str) -> Option<&Maps> {
        match self.devices.get(name)?.attached? {
            Attached::Ours(program) => self.programs.get(&program),
            Attached::Foreign => None,
        }
    }

    /// Ends those workers of an interface whose place satisfies `which`.
    pub(super) fn end_workers(&mut self, name: &str, which: impl Fn(u32) -> bool) {
        for worker in self.workers.values_mut().filter(|worker| worker.interface.name == name) {
            let place = match worker.source {
                Source::Queue { index, .. } => index,
                Source::Packets => 0,
            };
            worker.has_ended |= which(place);
        }
    }

    /// Lets the workers of an interface get stuck, or free again.
    pub(super) fn stick_workers(&mut self, name: &str, are_stuck: bool) {
        for worker in self.workers.values_mut().filter(|worker| worker.interface.name == name) {
            worker.is_stuck = are_stuck;
        }
    }

    /// Returns the signs of life of a worker, which gives another one at each question unless it is stuck.
    fn beat(&mut self, worker: u32) -> u64 {
        let Some(worker) = self.workers.get_mut(&worker) else { return 0 };
        worker.pulse += u64::from(!worker.is_stuck);
        worker.pulse
    }

    fn is_refused(&self, name: &str, operation: Operation) -> bool {
        self.refused.iter().any(|(interface, refused)| interface == name && *refused == operation)
    }

    fn is_here(&self, interface: &Interface) -> bool {
        self.devices.get(&interface.name).is_some_and(|device| device.interface.index == interface.index)
    }

    /// Records an operation and checks that the watched questions are still answered.
    fn changed(&mut self, operation: Option<Operation>) {
        self.done.extend(operation);
        for question in &self.watched {
            let answers = self.answers(question);
            assert!(answers == 1, "{answers} answers after {:?} to {question:?}", self.done);
        }
    }
}

impl Fake {
    pub(super) fn world(&self) -> RefMut<'_, World> {
        self.0.borrow_mut()
    }

    fn refuses(&self, name: &str, operation: Operation) -> Result<(), DataplaneError> {
        if self.world().is_refused(name, operation) { Err(refusal(name, libc::EIO)) } else { Ok(()) }
    }
}

fn refusal(name: &str, errno: i32) -> DataplaneError {
    DataplaneError::system(name, "a test", io::Error::from_raw_os_error(errno))
}

fn unreadable(name: &str) -> InterfaceError {
    let error = io::Error::from_raw_os_error(libc::EMFILE);
    InterfaceError::Unreadable { name: name.to_owned(), what: "a test", error }
}

/// A loaded program, identified by its number.
pub(super) struct FakeProgram {
    id: u32,
    interface: Interface,
    kernel: Fake,
}

impl Drop for FakeProgram {
    fn drop(&mut self) {
        let mut world = self.kernel.world();
        world.programs.remove(&self.id);
        for device in world.devices.values_mut() {
            if device.attached == Some(Attached::Ours(self.id)) {
                device.attached = None;
            }
        }
        if !thread::panicking() {
            world.changed(None);
        }
    }
}

/// A worker, identified by its number.
pub(super) struct FakeWorker {
    id: u32,
    kernel: Fake,
}

impl Worker for FakeWorker {
    fn has_ended(&self) -> bool {
        self.kernel.world().workers[&self.id].has_ended
    }

    fn pulse(&self) -> u64 {
        self.kernel.world().beat(self.id)
    }

    fn ask_to_end(&self) {}
}

impl Drop for FakeWorker {
    fn drop(&mut self) {
        let mut world = self.kernel.world();
        world.workers.remove(&self.id);
        if !thread::panicking() {
            world.changed(None);
        }
    }
}

impl Kernel for Fake {
    type Program = FakeProgram;
    type Worker = FakeWorker;

    fn interface(&mut self, name: &str) -> Result<Interface, InterfaceError> {
        let world = self.world();
        if world.is_refused(name, Operation::Look) {
            return Err(unreadable(name));
        }
        let missing = || InterfaceError::Missing { name: name.to_owned(), present: String::new() };
        world.devices.get(name).map(|device| device.interface.clone()).ok_or_else(missing)
    }

    fn programs(&mut self, interface: &Interface) -> Result<Vec<u32>, InterfaceError> {
        let world = self.world();
        if world.is_refused(&interface.name, Operation::LookForProgram) {
            return Err(unreadable(&interface.name));
        }
        let id = |attached| match attached {
            Attached::Foreign => 0,
            Attached::Ours(id) => id,
        };
        Ok(world.devices[&interface.name].attached.map(id).into_iter().collect())
    }

    fn servers(&self, answered: &Answered) -> Servers {
        let (http_port, lease_seconds, mode) = (8000, 3600, Mode::Server);
        Servers::new(answered, |own, networks| {
            let OwnAddress { address, also } = own.clone();
            Server { address, also, networks, http_port, lease_seconds, mode, guard: None }
        })
    }

    fn load(&mut self, interface: &Interface, machines: usize) -> Result<FakeProgram, DataplaneError> {
        self.refuses(&interface.name, Operation::Load)?;
        let mut world = self.world();
        world.last_id += 1;
        let id = world.last_id;
        world.programs.insert(id, Maps { room: ROOM.max(2 * machines), ..Maps::default() });
        world.changed(Some(Operation::Load));
        Ok(FakeProgram { id, interface: interface.clone(), kernel: self.clone() })
    }

    fn id(&self, program: &FakeProgram) -> u32 {
        program.id
    }

    fn room(&self, program: &FakeProgram) -> usize {
        self.world().programs[&program.id].room
    }

    fn write(&mut self, program: &mut FakeProgram, entry: Entry) -> Result<(), DataplaneError> {
        let name = &program.interface.name;
        self.refuses(name, Operation::Write(entry))?;
        let mut world = self.world();
        let Maps { room, machines, addresses, vlans, .. } = world.programs.get_mut(&program.id).unwrap();
        match entry {
            Entry::AddMachine(mac) if machines.len() == *room && !machines.contains(&mac) => {
                return Err(refusal(name, libc::E2BIG));
            }
            Entry::AddMachine(mac) => drop(machines.insert(mac)),
            Entry::RemoveMachine(mac) => drop(machines.remove(&mac)),
            Entry::AddAddress(address) => drop(addresses.insert(address)),
            Entry::RemoveAddress(address) => drop(addresses.remove(&address)),
            Entry::AddVlan(vlan) => drop(vlans.insert(vlan)),
            Entry::RemoveVlan(vlan) => drop(vlans.remove(&vlan)),
        }
        world.changed(Some(Operation::Write(entry)));
        Ok(())
    }

    fn report_strays(&mut self, _: &mut FakeProgram) {}

    fn attach(&mut self, program: &mut FakeProgram, mode: AttachMode) -> Result<(), DataplaneError> {
        let name = &program.interface.name;
        self.refuses(name, Operation::Attach(mode))?;
        let mut world = self.world();
        if !world.is_here(&program.interface) {
            return Err(refusal(name, libc::ENODEV));
        }
        let device = world.device(name);
        if device.attached.is_some() {
            return Err(XdpError::Occupied { interface: name.clone(), by: None }.into());
        }
        device.attached = Some(Attached::Ours(program.id));
        world.programs.get_mut(&program.id).unwrap().attached_to = Some(program.interface.index);
        world.changed(Some(Operation::Attach(mode)));
        Ok(())
    }

    fn replace(&mut self, program: &mut FakeProgram, successor: FakeProgram) -> Result<(), DataplaneError> {
        let name = &program.interface.name;
        self.refuses(name, Operation::Replace)?;
        let mut world = self.world();
        if !world.is_here(&program.interface) {
            return Err(refusal(name, libc::ENOLINK));
        }
        let may_detach = world.is_refused(name, Operation::ReplaceOrDetach);
        let device = world.device(name);
        if device.attached != Some(Attached::Ours(program.id)) {
            return Err(refusal(name, libc::ENOLINK));
        }
        if may_detach {
            device.attached = None;
            world.watched.retain(|question| question.interface != *name);
            return Err(refusal(name, libc::EIO));
        }
        device.attached = Some(Attached::Ours(successor.id));
        world.programs.get_mut(&successor.id).unwrap().attached_to = Some(program.interface.index);
        world.changed(Some(Operation::Replace));
        drop(world);
        *program = successor;
        Ok(())
    }

    fn start(
        &mut self,
        interface: &Interface,
        source: Source,
        servers: &SharedServers,
    ) -> Result<FakeWorker, DataplaneError> {
        let name = &interface.name;
        self.refuses(name, Operation::Start(source))?;
        let mut world = self.world();
        if !world.is_here(interface) {
            return Err(refusal(name, libc::ENODEV));
        }
        let now = world.device(name).interface.clone();
        if !now.up {
            return Err(refusal(name, libc::ENETDOWN));
        }
        if let Source::Queue { index, of } = source {
            let was_attached = world.programs.values().any(|maps| maps.attached_to == Some(interface.index));
            assert!(was_attached, "bound before the program was attached");
            assert!(of <= 256 && index < of, "queue {index} of {of}");
            if index >= now.queues {
                return Err(refusal(name, libc::EINVAL));
            }
            let is_bound = |worker: &Listening| (worker.interface.index, worker.source) == (interface.index, source);
            if world.workers.values().any(is_bound) {
                return Err(refusal(name, libc::EBUSY));
            }
        }
        world.last_id += 1;
        let id = world.last_id;
        let (interface, servers) = (interface.clone(), SharedServers::clone(servers));
        world.workers.insert(id, Listening { interface, source, servers, has_ended: false, is_stuck: false, pulse: 0 });
        world.changed(Some(Operation::Start(source)));
        Ok(FakeWorker { id, kernel: self.clone() })
    }

    fn register(&mut self, program: &mut FakeProgram, worker: &FakeWorker) -> Result<(), DataplaneError> {
        let mut world = self.world();
        let Source::Queue { index, .. } = world.workers[&worker.id].source else { return Ok(()) };
        let name = &program.interface.name;
        if world.is_refused(name, Operation::Register(index)) {
            return Err(refusal(name, libc::EIO));
        }
        world.programs.get_mut(&program.id).unwrap().sockets.insert(index, worker.id);
        world.changed(Some(Operation::Register(index)));
        Ok(())
    }
}
