//! The demands of the inventory on each interface.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use pxe_common::MacAddr;

use crate::model::inventory::Inventory;

/// A map from the name of an interface.
pub type ByInterface<T> = BTreeMap<Arc<str>, T>;

/// The demands of the inventory on one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Our addresses there, sorted.
    pub addresses: Vec<Ipv4Addr>,
    /// The machines to answer, sorted. A list that has not changed keeps its allocation, so that comparing it is free.
    pub machines: Arc<[MacAddr]>,
}

/// Computes the demands of an inventory. Lists that have not changed since `before` are taken over from there.
#[must_use]
pub fn wanted(inventory: &Inventory, before: &ByInterface<Wanted>) -> ByInterface<Wanted> {
    let mut interfaces = ByInterface::<(BTreeSet<Ipv4Addr>, Vec<MacAddr>)>::new();
    for machine in inventory.machines() {
        let (addresses, machines) = match interfaces.get_mut(&machine.site.interface) {
            Some(wanted) => wanted,
            None => interfaces.entry(Arc::clone(&machine.site.interface)).or_default(),
        };
        addresses.insert(machine.site.address);
        machines.push(machine.mac);
    }
    let finish = |(name, (addresses, mut machines)): (Arc<str>, (BTreeSet<_>, Vec<_>))| {
        machines.sort_unstable();
        let machines = match before.get(&name) {
            Some(known) if *known.machines == *machines => Arc::clone(&known.machines),
            _ => machines.into(),
        };
        (name, Wanted { addresses: addresses.into_iter().collect(), machines })
    };
    interfaces.into_iter().map(finish).collect()
}
