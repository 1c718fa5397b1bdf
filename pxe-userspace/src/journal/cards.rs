//! The network cards beside the first of each machine. Events come from any of a machine's cards and belong to one record.

use std::collections::HashMap;

use pxe_common::MacAddr;

use crate::model::inventory::{AddressHashBuilder, Inventory};

/// The first card of each machine by its other cards.
#[derive(Debug, Default)]
pub(super) struct Cards(HashMap<MacAddr, MacAddr, AddressHashBuilder>);

/// A move of everything remembered from one card to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) from: MacAddr,
    pub(super) to: MacAddr,
    /// It is not added to what is remembered there.
    pub(super) only_if_new: bool,
}

impl Cards {
    pub(super) fn of(inventory: &Inventory) -> Self {
        let others = inventory.machines().iter().flat_map(|machine| {
            let first = machine.mac;
            machine.additional_macs.iter().map(move |&other| (other, first))
        });
        Self(others.collect())
    }

    /// Returns the first card of the machine that has this one.
    pub(super) fn first(&self, mac: MacAddr) -> MacAddr {
        self.0.get(&mac).copied().unwrap_or(mac)
    }

    /// Returns what moves if these are the cards from now on.
    pub(super) fn moves<'a>(&'a self, now: &'a Self, inventory: &'a Inventory) -> impl Iterator<Item = Move> + 'a {
        let now_others = now.0.iter().map(|(&from, &to)| Move { from, to, only_if_new: false });
        // A machine whose first card has left the spec is recognised by another.
        let replaced = self.0.iter().filter_map(|(&other, &first)| {
            let machine = inventory.by_mac(other).filter(|_| inventory.by_mac(first).is_none())?;
            Some(Move { from: first, to: machine.mac, only_if_new: true })
        });
        now_others.chain(replaced)
    }
}

#[cfg(test)]
mod tests;
