//! Admission control: limits for each source and for hosts outside the fleet, so that one host cannot use up the fleet's places.
//!
//! A request costs its sender one datagram, which may be forged, and takes a place for 30 s. So where a limit is reached, the oldest
//! transfer that no acknowledgement has answered yet makes room: an acknowledgement comes within milliseconds, and nobody can send a valid one
//! who does not read our answers ([`super::ports`]). Transfers that were answered are interrupted in two cases only. One of a source that
//! has reached its limit ends if its client has been silent, since guessing may have answered it. And if all places are taken, the source that
//! has most of them gives one to a source that has fewer: one host has only the addresses at which it reads our answers.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::Ipv4Addr,
};

use super::key::Key;

/// Transfers of one address that may run at once. A machine needs one or two; a site behind NAT shares one address. Of requests that somebody
/// forges in a machine's name, as many have to come before the machine acknowledges its own.
pub(super) const LIMIT_PER_SOURCE: u32 = 1024;

/// The places of one worker's transfers.
#[derive(Debug)]
pub(super) struct Admission {
    limit: usize,
    machines: Group,
    /// The clients whose address belongs to no machine.
    strangers: Group,
}

/// The places of machines or of strangers.
#[derive(Debug, Default)]
struct Group {
    taken: usize,
    /// The transfers that are not answered yet, by age.
    unanswered: BTreeMap<u64, Key>,
    /// The transfers of each source by age.
    transfers: BTreeMap<(Ipv4Addr, u64), Key>,
    /// The unanswered transfers of each source by age.
    unanswered_by_source: BTreeSet<(Ipv4Addr, u64)>,
    by_source: HashMap<Ipv4Addr, u32>,
    /// The sources by the number of their transfers.
    by_load: BTreeSet<(u32, Ipv4Addr)>,
}

/// A place that a transfer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    key: Key,
    /// The transfer's serial number: the lower, the older.
    serial: u64,
    is_machine: bool,
    is_answered: bool,
}

impl Place {
    /// Returns `true` if it is a machine's.
    pub(super) fn is_machine(&self) -> bool {
        self.is_machine
    }
}

/// The answer to the question for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// There is a free place.
    Free,
    /// There is a place if this transfer ends.
    InPlaceOf(Key),
    /// There is none: all places are taken by transfers in progress.
    None,
}

impl Admission {
    /// Makes `limit` places, all free.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, machines: Group::default(), strangers: Group::default() }
    }

    /// Looks for a place for this address, which is or is not a machine's. Half of all places are kept for machines, and a machine
    /// goes before strangers. A stranger takes a place from a machine only if machines have more than their half.
    ///
    /// `is_silent` says that the client of a transfer has not moved it forward for a while.
    pub(super) fn room(&self, source: Ipv4Addr, is_machine: bool, is_silent: impl Fn(&Key) -> bool) -> Room {
        let Self { limit, machines, strangers } = self;
        let own = if is_machine { machines } else { strangers };
        let or_none = |key: Option<Key>| key.map_or(Room::None, Room::InPlaceOf);
        let load = own.by_source.get(&source).copied().unwrap_or_default();
        if load >= LIMIT_PER_SOURCE {
            return or_none(own.oldest_of(source).or_else(|| own.silent_of(source, is_silent)));
        }
        if !is_machine && strangers.taken >= limit / 2 {
            return or_none(strangers.oldest().or_else(|| strangers.of_heaviest(load)));
        }
        if machines.taken + strangers.taken >= *limit {
            let unanswered = strangers.oldest().or_else(|| machines.oldest());
            let heaviest = || strangers.of_heaviest(load).or_else(|| is_machine.then(|| machines.of_heaviest(load))?);
            return or_none(unanswered.or_else(heaviest));
        }
        Room::Free
    }

    /// Takes a place for a transfer, whether there is [room](Self::room) or not. Serial numbers grow.
    pub(super) fn take(&mut self, key: Key, serial: u64, is_machine: bool) -> Place {
        let group = self.group(is_machine);
        let source = *key.client.ip();
        group.taken += 1;
        group.unanswered.insert(serial, key);
        group.unanswered_by_source.insert((source, serial));
        group.transfers.insert((source, serial), key);
        group.add_load(source, 1);
        Place { key, serial, is_machine, is_answered: false }
    }

    /// Records that the client has acknowledged something.
    pub(super) fn answered(&mut self, place: &mut Place) {
        if !std::mem::replace(&mut place.is_answered, true) {
            self.group(place.is_machine).forget_unanswered(place);
        }
    }

    /// Returns a place.
    pub(super) fn give_back(&mut self, place: &Place) {
        let source = *place.key.client.ip();
        let group = self.group(place.is_machine);
        group.forget_unanswered(place);
        group.transfers.remove(&(source, place.serial));
        group.taken -= 1;
        group.add_load(source, -1);
    }

    fn group(&mut self, is_machine: bool) -> &mut Group {
        if is_machine { &mut self.machines } else { &mut self.strangers }
    }
}

impl Group {
    /// Returns the oldest transfer that is not answered yet.
    fn oldest(&self) -> Option<Key> {
        self.unanswered.first_key_value().map(|(_, key)| *key)
    }

    /// The same of one source.
    fn oldest_of(&self, source: Ipv4Addr) -> Option<Key> {
        let name = self.unanswered_by_source.range((source, 0)..=(source, u64::MAX)).next()?;
        self.transfers.get(name).copied()
    }

    /// Returns the oldest transfer of a source whose client is silent.
    fn silent_of(&self, source: Ipv4Addr, is_silent: impl Fn(&Key) -> bool) -> Option<Key> {
        let mut transfers = self.transfers.range((source, 0)..=(source, u64::MAX)).map(|(_, key)| *key);
        transfers.find(|key| is_silent(key))
    }

    /// Returns the oldest transfer of the source that has most, if it has more even after giving one to a source with this many.
    fn of_heaviest(&self, load: u32) -> Option<Key> {
        let &(_, source) = self.by_load.last().filter(|(most, _)| *most >= load.saturating_add(2))?;
        self.transfers.range((source, 0)..=(source, u64::MAX)).next().map(|(_, key)| *key)
    }

    fn add_load(&mut self, source: Ipv4Addr, change: i32) {
        let load = self.by_source.entry(source).or_default();
        self.by_load.remove(&(*load, source));
        *load = load.saturating_add_signed(change);
        if *load == 0 {
            self.by_source.remove(&source);
        } else {
            self.by_load.insert((*load, source));
        }
    }

    fn forget_unanswered(&mut self, place: &Place) {
        self.unanswered.remove(&place.serial);
        self.unanswered_by_source.remove(&(*place.key.client.ip(), place.serial));
    }
}

#[cfg(test)]
mod tests;
