//! Admission control: limits for each source and for hosts outside the fleet, so that one host cannot use up the fleet's places.
//!
//! A request costs its sender one datagram, which may be forged, and takes a place for 30 s. So where a limit is reached, the oldest
//! transfer that no acknowledgement has answered yet makes room. A transfer that was answered is never interrupted.

use std::{
    collections::{BTreeMap, HashMap},
    net::{Ipv4Addr, SocketAddrV4},
};

/// Transfers of one address that may run at once. A machine needs one or two; a site behind NAT shares one address.
pub(super) const LIMIT_PER_SOURCE: u32 = 512;

/// The places of one worker's transfers.
#[derive(Debug)]
pub(super) struct Admission {
    limit: usize,
    machines: Group,
    /// The clients whose address belongs to no machine.
    strangers: Group,
    by_source: HashMap<Ipv4Addr, u32>,
    /// The unanswered transfers of each source by age, with the client's port.
    unanswered: BTreeMap<(Ipv4Addr, u64), u16>,
}

/// The places of machines or of strangers.
#[derive(Debug, Default)]
struct Group {
    taken: usize,
    /// The transfers that are not answered yet, by age.
    unanswered: BTreeMap<u64, SocketAddrV4>,
}

/// A place that a transfer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    client: SocketAddrV4,
    /// The transfer's serial number: the lower, the older.
    serial: u64,
    is_machine: bool,
    is_answered: bool,
}

/// The answer to the question for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// There is a free place.
    Free,
    /// There is a place if the transfer of this client ends.
    InPlaceOf(SocketAddrV4),
    /// There is none: all places are taken by transfers in progress.
    None,
}

impl Admission {
    /// Makes `limit` places, all free.
    pub(super) fn new(limit: usize) -> Self {
        let (machines, strangers) = (Group::default(), Group::default());
        Self { limit, machines, strangers, by_source: HashMap::new(), unanswered: BTreeMap::new() }
    }

    /// Looks for a place for this address, which is or is not a machine's. Half of all places are kept for machines, and a machine
    /// goes before strangers. A stranger takes a place from a machine only if machines have more than their half.
    pub(super) fn room(&self, source: Ipv4Addr, is_machine: bool) -> Room {
        let Self { limit, machines, strangers, by_source, unanswered } = self;
        let or_none = |oldest: Option<SocketAddrV4>| oldest.map_or(Room::None, Room::InPlaceOf);
        if by_source.get(&source).is_some_and(|taken| *taken >= LIMIT_PER_SOURCE) {
            let oldest = unanswered.range((source, 0)..=(source, u64::MAX)).next();
            return or_none(oldest.map(|(_, port)| SocketAddrV4::new(source, *port)));
        }
        if !is_machine && strangers.taken >= limit / 2 {
            return or_none(strangers.oldest());
        }
        if machines.taken + strangers.taken >= *limit {
            return or_none(strangers.oldest().or_else(|| machines.oldest()));
        }
        Room::Free
    }

    /// Takes a place for a transfer, whether there is [room](Self::room) or not. Serial numbers grow.
    pub(super) fn take(&mut self, client: SocketAddrV4, serial: u64, is_machine: bool) -> Place {
        let group = self.group(is_machine);
        group.taken += 1;
        group.unanswered.insert(serial, client);
        self.unanswered.insert((*client.ip(), serial), client.port());
        *self.by_source.entry(*client.ip()).or_default() += 1;
        Place { client, serial, is_machine, is_answered: false }
    }

    /// Records that the client has acknowledged something. Its transfer keeps its place from now on.
    pub(super) fn answered(&mut self, place: &mut Place) {
        if !std::mem::replace(&mut place.is_answered, true) {
            self.forget_unanswered(place);
        }
    }

    /// Returns a place.
    pub(super) fn give_back(&mut self, place: &Place) {
        self.forget_unanswered(place);
        self.group(place.is_machine).taken -= 1;
        if let Some(taken) = self.by_source.get_mut(place.client.ip()) {
            *taken -= 1;
            if *taken == 0 {
                self.by_source.remove(place.client.ip());
            }
        }
    }

    fn forget_unanswered(&mut self, place: &Place) {
        self.group(place.is_machine).unanswered.remove(&place.serial);
        self.unanswered.remove(&(*place.client.ip(), place.serial));
    }

    fn group(&mut self, is_machine: bool) -> &mut Group {
        if is_machine { &mut self.machines } else { &mut self.strangers }
    }
}

impl Group {
    /// Returns the client of the oldest transfer that is not answered yet.
    fn oldest(&self) -> Option<SocketAddrV4> {
        self.unanswered.first_key_value().map(|(_, client)| *client)
    }
}

#[cfg(test)]
mod tests;
