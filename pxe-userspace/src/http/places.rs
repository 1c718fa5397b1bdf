//! The places of all connections of the process: who gets one, and who makes room when all are taken.
//!
//! A connection takes up to two descriptors, its socket and the file that it sends, and the process has a limited number. Machines of
//! the inventory come first: strangers have half of the places at most, and a stranger's connection that waits for a request goes when
//! another is wanted.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;

/// The most connections served at once, however many descriptors there are.
const CONNECTION_LIMIT: usize = 32_768;

/// The most connections served at once for one address. A machine needs two or three, but a whole site may share one
/// translated address.
const CONNECTION_LIMIT_PER_SOURCE: usize = 2_048;

/// The number of seats that a search for one that can be vacated looks at, at most.
const SEARCH: usize = 4_096;

/// The places, shared by all servers. Its clones are the same places.
#[derive(Clone, Debug)]
pub struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    room: Mutex<Room>,
    /// Signalled when a seat has become free.
    freed: Notify,
}

impl Default for Places {
    fn default() -> Self {
        let room = Room { limit: CONNECTION_LIMIT, machines: Crowd::default(), strangers: Crowd::default() };
        Self(Arc::new(Shared { room: Mutex::new(room), freed: Notify::new() }))
    }
}

impl Places {
    /// Changes the number of places. Connections that are served keep theirs.
    pub fn set_limit(&self, limit: usize) {
        self.lock().limit = limit.clamp(1, CONNECTION_LIMIT);
        self.0.freed.notify_waiters();
    }

    /// Returns the number of places.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.lock().limit
    }

    /// Returns the number of connections that are served.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.lock().taken()
    }

    /// Returns a seat for a connection of this client, as soon as there is one, or `None` if the client is refused.
    pub(super) async fn seat(&self, peer: IpAddr, client: Client) -> Option<Seated> {
        let mut leaving: Option<Weak<Seat>> = None;
        loop {
            let freed = self.0.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            // One that was asked to leave is enough.
            let waits = leaving.as_ref().is_some_and(|seat| seat.strong_count() > 0);
            match self.lock().admit(peer, client, waits) {
                Verdict::Seat(seat) => return Some(Seated { places: self.clone(), seat }),
                Verdict::Refuse => return None,
                Verdict::Vacate(seat) => leaving = Some(Arc::downgrade(&seat)),
                Verdict::Wait => {}
            }
            freed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Room> {
        self.0.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A kind of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// A machine of the inventory.
    Machine,
    /// A client that is no machine of the inventory.
    Stranger,
    /// A client where machines cannot be told from strangers, because the addresses are not ours to know.
    Anybody,
}

/// The place of one connection.
#[derive(Debug)]
pub(super) struct Seat {
    peer: IpAddr,
    client: Client,
    is_busy: AtomicBool,
    is_told: AtomicBool,
    told: Notify,
}

impl Seat {
    /// Notes that the connection answers a request, or waits for the next one.
    pub(super) fn set_busy(&self, is_busy: bool) {
        self.is_busy.store(is_busy, Ordering::Relaxed);
    }

    /// Waits until the connection is told to make room.
    pub(super) async fn told_to_leave(&self) {
        while !self.is_told.load(Ordering::Acquire) {
            self.told.notified().await;
        }
    }

    fn tell_to_leave(&self) {
        self.is_told.store(true, Ordering::Release);
        // Remembered if the connection does not wait yet.
        self.told.notify_one();
    }
}

/// A seat that is taken. Dropping it frees the seat.
#[derive(Debug)]
pub(super) struct Seated {
    places: Places,
    pub(super) seat: Arc<Seat>,
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.places.lock().leave(&self.seat);
        self.places.0.freed.notify_waiters();
    }
}

/// The decision about a client that wants a seat.
#[derive(Debug)]
enum Verdict {
    /// It gets this one.
    Seat(Arc<Seat>),
    /// It waits for this one, whose connection was told to leave.
    Vacate(Arc<Seat>),
    /// It waits until any becomes free.
    Wait,
    /// It gets none.
    Refuse,
}

/// The seats that are taken. Pure: no clock, no I/O.
#[derive(Debug)]
struct Room {
    limit: usize,
    machines: Crowd,
    strangers: Crowd,
}

impl Room {
    fn taken(&self) -> usize {
        self.machines.taken + self.strangers.taken
    }

    /// Decides about a client. With `waits`, it already waits for a seat whose connection was told to leave.
    fn admit(&mut self, peer: IpAddr, client: Client, waits: bool) -> Verdict {
        let is_full = self.taken() >= self.limit;
        let (is_machine, share) = match client {
            Client::Machine => (true, self.limit),
            Client::Stranger => (false, self.limit.div_ceil(2)),
            Client::Anybody => (false, self.limit),
        };
        let crowd = if is_machine { &mut self.machines } else { &mut self.strangers };
        let own = crowd.of_source(peer);
        if own >= CONNECTION_LIMIT_PER_SOURCE {
            return Verdict::Refuse;
        }
        if !is_full && crowd.taken < share {
            return Verdict::Seat(crowd.enter(peer, client));
        }
        if waits {
            return Verdict::Wait;
        }
        let mut vacated = self.strangers.vacate(Seat::is_idle, |_| true);
        if is_machine {
            // A machine that waits between two requests connects again, one that has several does not notice.
            vacated = vacated
                .or_else(|| self.machines.vacate(Seat::is_idle, |connections| connections > 1))
                .or_else(|| if own == 0 { self.strangers.vacate(|_| true, |_| true) } else { None });
        }
        match vacated {
            Some(seat) => Verdict::Vacate(seat),
            None if is_machine => Verdict::Wait,
            None => Verdict::Refuse,
        }
    }

    fn leave(&mut self, seat: &Arc<Seat>) {
        match seat.client {
            Client::Machine => self.machines.leave(seat),
            Client::Stranger | Client::Anybody => self.strangers.leave(seat),
        }
    }
}

/// The seats of one kind of clients.
#[derive(Debug, Default)]
struct Crowd {
    taken: usize,
    by_source: HashMap<IpAddr, usize>,
    /// In the order in which they were taken, or last looked at. Some are free again.
    seats: VecDeque<Weak<Seat>>,
}

impl Crowd {
    fn of_source(&self, peer: IpAddr) -> usize {
        self.by_source.get(&peer).copied().unwrap_or_default()
    }

    fn enter(&mut self, peer: IpAddr, client: Client) -> Arc<Seat> {
        let (is_busy, is_told) = Default::default();
        let seat = Arc::new(Seat { peer, client, is_busy, is_told, told: Notify::new() });
        self.taken += 1;
        *self.by_source.entry(peer).or_default() += 1;
        if self.seats.len() > 2 * self.taken + 64 {
            self.seats.retain(|seat| seat.strong_count() > 0);
        }
        self.seats.push_back(Arc::downgrade(&seat));
        seat
    }

    fn leave(&mut self, seat: &Seat) {
        self.taken -= 1;
        if let Some(count) = self.by_source.get_mut(&seat.peer) {
            *count -= 1;
            if *count == 0 {
                self.by_source.remove(&seat.peer);
            }
        }
    }

    /// Tells the connection to leave that came first of those that may be told. `of_many` gets the number of connections of its
    /// address.
    fn vacate(&mut self, may: impl Fn(&Seat) -> bool, of_many: impl Fn(usize) -> bool) -> Option<Arc<Seat>> {
        for _ in 0..self.seats.len().min(SEARCH) {
            let next = self.seats.pop_front()?;
            let Some(seat) = next.upgrade() else { continue };
            self.seats.push_back(next);
            if !seat.is_told.load(Ordering::Relaxed) && may(&seat) && of_many(self.of_source(seat.peer)) {
                seat.tell_to_leave();
                return Some(seat);
            }
        }
        None
    }
}

impl Seat {
    fn is_idle(&self) -> bool {
        !self.is_busy.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
