//! A dataplane on the fake kernel, with the invariants that are checked after every look.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use pxe_common::{
    MacAddr,
    layout::{QUEUES_CAPACITY, UnknownMachines},
};

use super::{
    super::{
        Dataplane, Policy, Report,
        addressing::Addressing,
        datapath::{Datapath, Path},
        plan::{Retry, State},
    },
    fake::{Fake, Operation, Question, World},
};
use crate::{
    dhcp::Mode,
    model::{
        architecture::Architecture,
        inventory::{Inventory, Machine, SharedInventory, Site},
        testing,
    },
};

/// The interfaces, each with its first address and a second one.
pub(super) const SITES: [(&str, [Ipv4Addr; 2]); 2] = [
    ("eth0", [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)]),
    ("eth1", [Ipv4Addr::new(10, 1, 0, 1), Ipv4Addr::new(10, 1, 0, 2)]),
];

pub(super) const ETH0: &str = SITES[0].0;
pub(super) const ETH1: &str = SITES[1].0;

pub(super) fn mac(number: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 1, number])
}

/// The spec, the kernel and the clock, with the dataplane that they drive.
pub(super) struct Bench {
    pub(super) kernel: Fake,
    pub(super) machines: BTreeMap<MacAddr, Site>,
    pub(super) dataplane: Dataplane<Fake>,
    pub(super) now: Instant,
    /// The VLANs of machines that have any.
    pub(super) vlans: BTreeMap<MacAddr, Vec<u16>>,
    addressing: Addressing,
    inventory: SharedInventory,
}

impl Bench {
    /// Creates both interfaces with two queues and their first addresses, and an empty spec.
    pub(super) fn new(datapath: Datapath) -> Self {
        Self::addressed(datapath, Addressing::OfSpec)
    }

    /// Creates the same with this choice of addresses.
    pub(super) fn addressed(datapath: Datapath, addressing: Addressing) -> Self {
        let kernel = Fake::default();
        for (name, [address, _]) in SITES {
            kernel.world().plug_in(name, 2, &[(address, 24)]);
        }
        let inventory = SharedInventory::default();
        let policy =
            Policy { datapath, addressing: addressing.clone(), mode: Mode::Server, unknown: UnknownMachines::Pass };
        let dataplane = Dataplane::with_kernel(kernel.clone(), Arc::clone(&inventory), policy);
        let (machines, vlans, now) = (BTreeMap::new(), BTreeMap::new(), Instant::now());
        Self { kernel, machines, dataplane, now, vlans, addressing, inventory }
    }

    /// Creates the same with machines on both interfaces, and serves them.
    pub(super) fn serving(datapath: Datapath) -> Self {
        let mut bench = Self::new(datapath);
        bench.put(1, ETH0);
        bench.put(2, ETH0);
        bench.put(3, ETH1);
        bench.reconcile_well();
        bench
    }

    /// Adds a machine to the spec, at the first address of an interface.
    pub(super) fn put(&mut self, number: u8, interface: &str) {
        let (_, [address, _]) = SITES.into_iter().find(|(name, _)| *name == interface).unwrap();
        self.put_at(number, interface, address);
    }

    /// Adds a machine to the spec, at an address of an interface.
    pub(super) fn put_at(&mut self, number: u8, interface: &str, address: Ipv4Addr) {
        self.machines.insert(mac(number), Site { interface: interface.into(), address });
    }

    pub(super) fn state(&self, interface: &str) -> &State {
        self.dataplane.ports[interface].state()
    }

    /// Returns `true` if there is a port on the interface.
    pub(super) fn has(&self, interface: &str) -> bool {
        self.dataplane.ports.contains_key(interface)
    }

    /// Returns `true` if every frame of a machine is answered.
    pub(super) fn serves(&self, number: u8) -> bool {
        let world = self.kernel.world();
        self.questions(&world).iter().filter(|question| question.mac == mac(number)).all(|q| world.answers(q) == 1)
    }

    /// Makes an operation on an interface fail.
    pub(super) fn refuse(&self, interface: &str, operation: Operation) {
        self.kernel.world().refused.push((interface.to_owned(), operation));
    }

    /// Makes all operations succeed again.
    pub(super) fn allow_all(&self) {
        self.kernel.world().refused.clear();
    }

    /// Reconciles the dataplane and checks the invariants: whatever should be served is served exactly once, or a problem
    /// names the interface; whatever was served stays so at every moment, unless the kernel removed the interface or the
    /// address; the maps contain what the state says.
    ///
    /// Returns the problems and the warnings.
    pub(super) fn reconcile(&mut self) -> (Vec<String>, Vec<String>) {
        self.put_in_force();
        {
            let mut world = self.kernel.world();
            let served = self.questions(&world).into_iter().filter(|question| {
                let port = &self.dataplane.ports.get(&*question.interface);
                let device = &world.devices.get(&question.interface);
                let is_the_same = port.zip(*device).is_some_and(|(port, device)| {
                    !port.interface().is_replaced_by(&device.interface)
                        && device.interface.prefix_length(question.site).is_some()
                });
                is_the_same && world.answers(question) == 1
            });
            world.watched = served.collect();
        }
        self.reconcile_unwatched()
    }

    /// Does the same as [`Self::reconcile`], but allows an interruption.
    pub(super) fn reconcile_unwatched(&mut self) -> (Vec<String>, Vec<String>) {
        self.now += Duration::from_secs(2);
        self.put_in_force();
        self.kernel.world().done.clear();
        let Report { problems, warnings } = self.dataplane.reconcile(self.now);
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();

        let mut world = self.kernel.world();
        world.watched.clear();
        for question in self.questions(&world) {
            let answers = world.answers(&question);
            let is_reported = problems.iter().any(|problem| problem.contains(&question.interface));
            let is_right = answers == 1 || answers == 0 && is_reported;
            assert!(is_right, "{answers} answers to {question:?}, {problems:?}, after {:?}", world.done);
        }
        for question in self.questions_to_others(&world) {
            let is_reported = problems.iter().any(|problem| problem.contains(&question.interface));
            assert!(is_reported || world.answers(&question) == 0, "answer to {question:?}, after {:?}", world.done);
        }
        for (name, port) in &self.dataplane.ports {
            let State { machines, asked_at, vlans, room, path, .. } = port.state();
            let Some(maps) = world.maps(name) else { continue };
            assert_ne!(*path, Path::Socket);
            assert!(maps.machines.iter().eq(machines.iter()), "{name}: {maps:?}, expected {machines:?}");
            assert!(maps.addresses.iter().eq(asked_at.iter()), "{name}: {maps:?}, expected {asked_at:?}");
            assert!(maps.vlans.iter().eq(vlans.iter()), "{name}: {maps:?}, expected {vlans:?}");
            assert_eq!(maps.room, *room);
        }
        (problems, warnings.iter().map(ToString::to_string).collect())
    }

    /// Does the same as [`Self::reconcile`], but allows no problem or warning. Returns the operations that were executed.
    pub(super) fn reconcile_well(&mut self) -> Vec<Operation> {
        let (problems, _) = self.reconcile();
        assert_eq!(problems, Vec::<String>::new());
        std::mem::take(&mut self.kernel.world().done)
    }

    /// Advances the clock until everything that failed is due for another attempt.
    pub(super) fn wait(&mut self) {
        self.now += Retry::LONGEST;
    }

    fn put_in_force(&self) {
        let template = testing::machine(1, Architecture::Amd64, "v1.13.0", None);
        let machine = |(&mac, site): (&MacAddr, &Site)| {
            let vlans = self.vlans.get(&mac).into_iter().flatten().copied().collect();
            Arc::new(Machine { mac, vlans, site: Arc::new(site.clone()), ..Machine::clone(&template) })
        };
        let inventory = Inventory::new(self.machines.iter().map(machine).collect());
        if *inventory.machines() != *self.inventory.load().machines() {
            self.inventory.store(Arc::new(inventory));
        }
    }

    /// Returns every frame that must be answered: from each machine, to everybody, to the site's address, and to whatever
    /// else its interface is reached at, on each queue that can be served.
    fn questions(&self, world: &World) -> Vec<Question> {
        let mut questions = Vec::new();
        for (&mac, site) in &self.machines {
            let device = world.devices.get(&*site.interface);
            let queues = device.map_or(1, |device| device.interface.queues);
            let mut asked_at = device.map_or_else(Vec::new, |device| device.interface.reached_at());
            asked_at.push(Ipv4Addr::BROADCAST);
            // Another node may have it, if there are several.
            asked_at.extend((self.addressing == Addressing::OfSpec).then_some(site.address));
            asked_at.sort_unstable();
            asked_at.dedup();
            for queue in 0..queues.min(QUEUES_CAPACITY) {
                for &to in &asked_at {
                    let interface = site.interface.to_string();
                    questions.push(Question { interface, queue, mac, site: site.address, to });
                }
            }
        }
        questions
    }

    /// Returns every frame that must not be answered: from each machine, to an address that its interface does not have.
    fn questions_to_others(&self, world: &World) -> Vec<Question> {
        let known = SITES.into_iter().flat_map(|(_, addresses)| addresses);
        let near = known.flat_map(|address| [address, Ipv4Addr::from(address.to_bits() | 0xff)]);
        let to: BTreeSet<_> = near.chain([Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(10, 0, 0, 77)]).collect();
        let mut questions = Vec::new();
        for (&mac, site) in &self.machines {
            let Some(device) = world.devices.get(&*site.interface) else { continue };
            let reached_at = device.interface.reached_at();
            for &to in to.iter().filter(|to| !reached_at.contains(to)) {
                let interface = site.interface.to_string();
                questions.push(Question { interface, queue: 0, mac, site: site.address, to });
            }
        }
        questions
    }
}
