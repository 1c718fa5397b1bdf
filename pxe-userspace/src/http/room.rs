//! The connections of one kind of clients, by address, and the search for the one that deserves its place least. Pure.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

/// The number of addresses that a search looks at, at most. Those with most connections come first; of equals, the one that was looked at
/// longest ago.
const SEARCH: usize = 64;

/// The number of an address's connections that a search looks at, at most, beginning with the oldest.
const SEARCH_OF_ONE: usize = 256;

/// A connection, as far as a search asks about it.
pub(super) trait Occupant {
    /// Returns whether it waits for a request.
    fn is_idle(&self) -> bool;

    /// Returns the second since when its client takes no more, if that is so.
    fn stalled_since(&self) -> Option<u32>;
}

/// The connections that a search is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Victim {
    /// One that waits for a request.
    Idle,
    /// One whose client has taken nothing since this second or longer; the one that has waited longest.
    Stalled {
        /// The second.
        until: u32,
    },
    /// Any; one of those that have not come last, if it can be.
    Any,
}

impl Victim {
    /// Returns how well a connection suits, the lowest first, or `None` if it does not.
    fn rank(self, occupant: &impl Occupant) -> Option<u32> {
        match self {
            Self::Idle => occupant.is_idle().then_some(0),
            Self::Stalled { until } => occupant.stalled_since().filter(|&since| since <= until),
            Self::Any => Some(occupant.stalled_since().unwrap_or(u32::MAX)),
        }
    }
}

/// The connections of one kind of clients.
#[derive(Debug)]
pub(super) struct Crowd<T> {
    taken: usize,
    sources: HashMap<IpAddr, Source<T>>,
    /// Every address of `sources`, by the number of its connections and its turn.
    order: BTreeSet<(usize, Reverse<u64>, IpAddr)>,
    turns: u64,
}

/// The connections of one address, the oldest first.
#[derive(Debug)]
struct Source<T> {
    occupants: Vec<Arc<T>>,
    turn: u64,
}

impl<T> Default for Crowd<T> {
    fn default() -> Self {
        Self { taken: 0, sources: HashMap::new(), order: BTreeSet::new(), turns: 0 }
    }
}

impl<T: Occupant> Crowd<T> {
    /// Returns the number of all connections.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// Returns the number of connections of an address.
    pub(super) fn of(&self, peer: IpAddr) -> usize {
        self.sources.get(&peer).map_or(0, |source| source.occupants.len())
    }

    /// Adds a connection.
    pub(super) fn enter(&mut self, peer: IpAddr, occupant: &Arc<T>) {
        self.taken += 1;
        self.change(peer, |occupants| occupants.push(Arc::clone(occupant)));
    }

    /// Removes a connection, if it is there.
    pub(super) fn leave(&mut self, peer: IpAddr, occupant: &Arc<T>) {
        let has = |source: &Source<T>| source.occupants.iter().position(|other| Arc::ptr_eq(other, occupant));
        if let Some(index) = self.sources.get(&peer).and_then(has) {
            self.take(peer, index);
        }
    }

    /// Takes its place from a connection of this address.
    pub(super) fn vacate_of(&mut self, peer: IpAddr, victim: Victim) -> Option<Arc<T>> {
        let (_, index) = Self::best(self.sources.get(&peer)?, victim)?;
        self.take(peer, index)
    }

    /// Takes its place from a connection of an address that has at least this many.
    pub(super) fn vacate(&mut self, victim: Victim, least: usize) -> Option<Arc<T>> {
        let mut looked_at = [None; SEARCH];
        let candidates = self.order.iter().rev().take_while(|(count, ..)| *count >= least);
        let mut found: Option<(usize, u32, IpAddr, usize)> = None;
        for (&(count, _, peer), slot) in candidates.zip(&mut looked_at) {
            // Only an address with as many connections can have one that suits better.
            if found.is_some_and(|(most, ..)| most > count) {
                break;
            }
            *slot = Some(peer);
            let Some(source) = self.sources.get(&peer) else { continue };
            if let Some((rank, index)) = Self::best(source, victim)
                && found.is_none_or(|(_, best, ..)| rank < best)
            {
                found = Some((count, rank, peer, index));
                // None suits better.
                if rank == 0 {
                    break;
                }
            }
        }
        // The next search looks at others first.
        for peer in looked_at.into_iter().flatten() {
            self.change(peer, |_| {});
        }
        let (_, _, peer, index) = found?;
        self.take(peer, index)
    }

    fn best(source: &Source<T>, victim: Victim) -> Option<(u32, usize)> {
        let ranks = source.occupants.iter().take(SEARCH_OF_ONE).enumerate();
        ranks.filter_map(|(index, occupant)| Some((victim.rank(&**occupant)?, index))).min()
    }

    fn take(&mut self, peer: IpAddr, index: usize) -> Option<Arc<T>> {
        let mut taken = None;
        self.change(peer, |occupants| taken = (index < occupants.len()).then(|| occupants.remove(index)));
        self.taken -= usize::from(taken.is_some());
        taken
    }

    /// Changes the connections of an address, and gives it its new place in the order.
    fn change(&mut self, peer: IpAddr, change: impl FnOnce(&mut Vec<Arc<T>>)) {
        let Self { sources, order, turns, .. } = self;
        *turns += 1;
        let source = sources.entry(peer).or_insert(Source { occupants: Vec::new(), turn: 0 });
        order.remove(&(source.occupants.len(), Reverse(source.turn), peer));
        change(&mut source.occupants);
        source.turn = *turns;
        match source.occupants.len() {
            0 => drop(sources.remove(&peer)),
            count => drop(order.insert((count, Reverse(*turns), peer))),
        }
    }

    /// Checks that the indexes agree with each other.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let counts = self.sources.iter().map(|(&peer, source)| (source.occupants.len(), Reverse(source.turn), peer));
        assert_eq!(counts.collect::<BTreeSet<_>>(), self.order);
        assert_eq!(self.sources.values().map(|source| source.occupants.len()).sum::<usize>(), self.taken);
        assert!(self.sources.values().all(|source| !source.occupants.is_empty()));
    }
}
