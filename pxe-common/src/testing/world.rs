//! A model of the maps on the host.

use core::{
    cell::{Cell, RefCell},
    net::Ipv4Addr,
};
use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use super::constants::{KNOWN, OTHER, OURS, VLANS};
use crate::{
    classify::{Buckets, Tables},
    layout::{Bucket, MachineKey, SenderKey, Settings},
};

/// The state of the world that a case requires.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// The value of the settings map.
    pub settings: Settings,
    /// Set if no socket is bound to the receive queue.
    pub no_socket: bool,
}

/// The maps, with [`KNOWN`], [`OTHER`], [`OURS`] and [`VLANS`] in them.
#[derive(Debug)]
pub struct World {
    rules: Rules,
    addresses: HashSet<Ipv4Addr>,
    machines: RefCell<HashMap<MachineKey, Bucket>>,
    senders: RefCell<HashMap<SenderKey, Bucket>>,
    elsewhere: Cell<Bucket>,
    strays: RefCell<HashMap<MachineKey, u16>>,
    start: Instant,
}

impl World {
    /// Creates a world in which nothing has been received yet.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            addresses: HashSet::from(OURS),
            machines: RefCell::new(HashMap::from([KNOWN, OTHER].map(|mac| (mac.into(), Bucket::default())))),
            senders: RefCell::default(),
            elsewhere: Cell::default(),
            strays: RefCell::default(),
            start: Instant::now(),
        }
    }

    /// Returns the known machines that asked on a VLAN that is not served, and that VLAN.
    #[must_use]
    pub fn strays(&self) -> HashMap<MachineKey, u16> {
        self.strays.borrow().clone()
    }
}

impl Buckets for World {
    fn settings(&self) -> Settings {
        self.rules.settings
    }

    fn is_known(&self, machine: MachineKey) -> bool {
        self.machines.borrow().contains_key(&machine)
    }

    fn sender(&self, key: SenderKey) -> Bucket {
        self.senders.borrow().get(&key).copied().unwrap_or_default()
    }

    fn set_sender(&self, key: SenderKey, bucket: Bucket) {
        self.senders.borrow_mut().insert(key, bucket);
    }

    fn elsewhere(&self) -> Bucket {
        self.elsewhere.get()
    }

    fn set_elsewhere(&self, bucket: Bucket) {
        self.elsewhere.set(bucket);
    }

    fn update_machine<R>(&self, machine: MachineKey, step: impl FnOnce(Bucket) -> (Bucket, R)) -> Option<R> {
        let mut machines = self.machines.borrow_mut();
        let state = machines.get_mut(&machine)?;
        let (after, result) = step(*state);
        *state = after;
        Some(result)
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Tables for World {
    fn is_ours(&self, address: Ipv4Addr) -> bool {
        self.addresses.contains(&address)
    }

    fn serves_vlan(&self, vlan: u16) -> bool {
        VLANS.contains(&vlan)
    }

    fn note_stray(&self, machine: MachineKey, vlan: u16) {
        if self.machines.borrow().contains_key(&machine) {
            self.strays.borrow_mut().insert(machine, vlan);
        }
    }

    fn redirect(&self) -> bool {
        !self.rules.no_socket
    }
}
