//! A model of the maps on the host.

use core::{cell::RefCell, net::Ipv4Addr};
use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use super::constants::{KNOWN, OURS, VLANS};
use crate::{
    classify::Tables,
    layout::{MachineKey, MachineState, Settings},
};

/// The state of the world that a case requires.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// The value of the settings map.
    pub settings: Settings,
    /// Set if no socket is bound to the receive queue.
    pub no_socket: bool,
}

/// The maps, with [`KNOWN`], [`OURS`] and [`VLANS`] in them.
#[derive(Debug)]
pub struct World {
    rules: Rules,
    addresses: HashSet<Ipv4Addr>,
    machines: RefCell<HashMap<MachineKey, MachineState>>,
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
            machines: RefCell::new(HashMap::from([(KNOWN.into(), MachineState::default())])),
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

impl Tables for World {
    fn settings(&self) -> Settings {
        self.rules.settings
    }

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

    fn update_machine<R>(
        &self,
        machine: MachineKey,
        step: impl FnOnce(MachineState) -> (MachineState, R),
    ) -> Option<R> {
        let mut machines = self.machines.borrow_mut();
        let state = machines.get_mut(&machine)?;
        let (after, result) = step(*state);
        *state = after;
        Some(result)
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn redirect(&self) -> bool {
        !self.rules.no_socket
    }
}
