//! The demands of the inventory on each interface.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use pxe_common::MacAddr;

use crate::model::inventory::{Inventory, Machine};

/// A map from the name of an interface.
pub type ByInterface<T> = BTreeMap<Arc<str>, T>;

/// The demands of the inventory on one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Our addresses there, sorted.
    pub addresses: Vec<Ipv4Addr>,
    /// The MAC addresses of the machines to answer, sorted. A list that has not changed keeps its allocation, so that comparing it is free.
    pub machines: Arc<[MacAddr]>,
    /// The VLANs on which machines are to be answered, sorted.
    pub vlans: Arc<[u16]>,
    /// The machines that the spec gives no gateway, in the order of the spec.
    pub without_gateway: Arc<[Arc<Machine>]>,
}

/// The demands on one interface while they are collected.
#[derive(Default)]
struct Lists {
    addresses: BTreeSet<Ipv4Addr>,
    machines: Vec<MacAddr>,
    vlans: BTreeSet<u16>,
    without_gateway: Vec<Arc<Machine>>,
}

/// Computes the demands of an inventory. Lists that have not changed since `before` are taken over from there.
#[must_use]
pub fn wanted(inventory: &Inventory, before: &ByInterface<Wanted>) -> ByInterface<Wanted> {
    let mut interfaces = ByInterface::<Lists>::new();
    for machine in inventory.machines() {
        let lists = match interfaces.get_mut(&machine.site.interface) {
            Some(lists) => lists,
            None => interfaces.entry(Arc::clone(&machine.site.interface)).or_default(),
        };
        lists.addresses.insert(machine.site.address);
        lists.machines.extend(machine.macs());
        lists.vlans.extend(&*machine.vlans);
        if machine.gateway.is_none() {
            lists.without_gateway.push(Arc::clone(machine));
        }
    }
    let finish = |(name, Lists { addresses, mut machines, vlans, without_gateway }): (Arc<str>, Lists)| {
        machines.sort_unstable();
        let machines = match before.get(&name) {
            Some(known) if *known.machines == *machines => Arc::clone(&known.machines),
            _ => machines.into(),
        };
        let (addresses, vlans) = (addresses.into_iter().collect(), vlans.into_iter().collect());
        (name, Wanted { addresses, machines, vlans, without_gateway: without_gateway.into() })
    };
    interfaces.into_iter().map(finish).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{architecture::Architecture, inventory::Machine, testing::machine};

    #[test]
    fn vlans_of_all_machines_are_wanted() {
        let with = |number, vlans: &[u16]| {
            let template = machine(number, Architecture::Amd64, "v1.13.0", None);
            Arc::new(Machine { vlans: vlans.into(), ..Machine::clone(&template) })
        };
        let inventory = Inventory::new(vec![with(1, &[200]), with(2, &[]), with(3, &[7, 200])]);
        assert_eq!(*wanted(&inventory, &ByInterface::default())["lo"].vlans, [7, 200]);
    }

    #[test]
    fn every_card_of_a_machine_is_wanted() {
        let mac = |number| MacAddr([2, 0, 0, 0, 0, number]);
        let several = Machine {
            additional_macs: [mac(9), mac(1)].into(),
            ..Machine::clone(&machine(5, Architecture::Amd64, "v1.13.0", None))
        };
        let inventory =
            |several| Inventory::new(vec![machine(7, Architecture::Amd64, "v1.13.0", None), Arc::new(several)]);
        let first = wanted(&inventory(several.clone()), &ByInterface::default());
        assert_eq!(*first["lo"].machines, [1, 5, 7, 9].map(mac));
        let swapped = Machine { mac: mac(9), additional_macs: [mac(5), mac(1)].into(), ..several };
        let second = wanted(&inventory(swapped), &first);
        assert!(Arc::ptr_eq(&first["lo"].machines, &second["lo"].machines));
    }
}
