//! The places of all connections of the process: who gets one, and who makes room when all are taken.
//!
//! A connection takes up to two descriptors, its socket and the file that it sends, and the process has a limited number. [`Room`] decides,
//! without clock or I/O:
//!
//! - Strangers have a share, so that places for machines of the inventory are left however many strangers come.
//! - An address has a limit. Beyond it, its own idle connections make room, so whoever takes the address of a machine harms that machine
//!   alone.
//! - Where a place is wanted and none is left, the least deserving connection goes: a stranger's before a machine's; of the address that has
//!   most; one that waits for a request before one whose client does not read.
//! - A machine's reader is given up for another machine only after it has read nothing for [`PATIENCE`]. Without that need it is waited for.
//! - If nothing else helps, the address of a machine that has [`MANY`] connections more gives one, whatever it does. So whoever takes the addresses of
//!   machines that are off, and reads slowly at all of them, keeps nobody waiting.
//!
//! A connection that was told to leave no longer counts, so nobody waits for its end.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time::timeout};

use super::room::{Crowd, Occupant, Victim};

/// The most connections served at once, however many descriptors there are.
const CONNECTION_LIMIT: usize = 32_768;

/// The most connections of strangers, where machines can be told from them.
const STRANGER_LIMIT: usize = 4_096;

/// The most connections served at once for one address that is not a machine's. A whole site may share one translated address.
const LIMIT_PER_SOURCE: usize = 2_048;

/// The most connections of one machine, which needs two or three.
const LIMIT_PER_MACHINE: usize = 64;

/// The number of connections, beyond those of a machine that waits, with which another machine has more than it needs.
const MANY: usize = 4;

/// The most connections that were told to leave and have not ended yet. They still have their descriptors, so a small number of places has
/// fewer of them.
const LEAVING_LIMIT: usize = 512;
const LEAST_LEAVING: usize = 16;

/// The seconds for which a machine's client may read nothing while another machine wants its place.
const PATIENCE: u32 = 20;

/// The time between looks at who can make room, while a machine waits.
const AGAIN: Duration = Duration::from_secs(1);

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
        Self(Arc::new(Shared { room: Mutex::new(Room::new(CONNECTION_LIMIT)), freed: Notify::new() }))
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

    /// Returns the number of connections that are served, or have not ended yet.
    #[must_use]
    pub fn taken(&self) -> usize {
        let room = self.lock();
        room.taken() + room.leaving
    }

    /// Returns a seat for a connection of this client, or `None` if the client is refused. Only a machine waits, and only while nobody can
    /// make room for it.
    pub(super) async fn seat(&self, peer: IpAddr, client: Client) -> Option<Seated> {
        loop {
            let freed = self.0.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            match self.lock().admit(peer, client, now()) {
                Verdict::Seat(seat) => return Some(Seated { places: self.clone(), seat }),
                Verdict::Refuse => return None,
                Verdict::Wait => {}
            }
            let _ = timeout(AGAIN, freed).await;
        }
    }

    /// Tells an idle connection to leave, because no descriptor is free.
    pub(super) fn relieve(&self) {
        self.lock().relieve();
    }

    fn lock(&self) -> MutexGuard<'_, Room> {
        self.0.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the seconds since the first call.
fn now() -> u32 {
    static START: OnceLock<Instant> = OnceLock::new();
    u32::try_from(START.get_or_init(Instant::now).elapsed().as_secs()).unwrap_or(u32::MAX - 1)
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
    /// The second in which its client's socket took no more, plus one; zero if the client reads.
    stalled: AtomicU32,
    is_told: AtomicBool,
    told: Notify,
}

impl Seat {
    fn new(peer: IpAddr, client: Client) -> Self {
        let (is_busy, stalled, is_told) = Default::default();
        Self { peer, client, is_busy, stalled, is_told, told: Notify::new() }
    }

    /// Returns the kind of the client.
    pub(super) fn client(&self) -> Client {
        self.client
    }

    /// Notes that the connection answers a request, or waits for the next one.
    pub(super) fn set_busy(&self, is_busy: bool) {
        self.is_busy.store(is_busy, Ordering::Relaxed);
    }

    /// Notes that the client takes no more.
    pub(super) fn set_stalled(&self) {
        if self.stalled_since().is_none() {
            self.stall(now());
        }
    }

    /// Notes that the client takes more.
    pub(super) fn set_reading(&self) {
        self.stalled.store(0, Ordering::Relaxed);
    }

    fn stall(&self, since: u32) {
        self.stalled.store(since.saturating_add(1), Ordering::Relaxed);
    }

    /// Waits until the connection is told to make room.
    pub(super) async fn told_to_leave(&self) {
        while !self.is_told.load(Ordering::Acquire) {
            self.told.notified().await;
        }
    }
}

impl Occupant for Seat {
    fn is_idle(&self) -> bool {
        !self.is_busy.load(Ordering::Relaxed)
    }

    fn stalled_since(&self) -> Option<u32> {
        self.stalled.load(Ordering::Relaxed).checked_sub(1)
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
    /// It waits until any becomes free.
    Wait,
    /// It gets none.
    Refuse,
}

/// The seats that are taken. Pure: no clock, no I/O.
#[derive(Debug)]
struct Room {
    limit: usize,
    machines: Crowd<Seat>,
    strangers: Crowd<Seat>,
    /// The connections that were told to leave and have not ended.
    leaving: usize,
}

impl Room {
    fn new(limit: usize) -> Self {
        Self { limit, machines: Crowd::default(), strangers: Crowd::default(), leaving: 0 }
    }

    fn taken(&self) -> usize {
        self.machines.taken() + self.strangers.taken()
    }

    fn leaving_limit(&self) -> usize {
        (self.limit / 8).clamp(LEAST_LEAVING, LEAVING_LIMIT)
    }

    /// Returns the number of places that this kind of client may have together.
    fn share(&self, client: Client) -> usize {
        match client {
            Client::Machine | Client::Anybody => self.limit,
            Client::Stranger => self.limit.div_ceil(2).min(STRANGER_LIMIT),
        }
    }

    fn admit(&mut self, peer: IpAddr, client: Client, now: u32) -> Verdict {
        let is_machine = client == Client::Machine;
        let refused = if is_machine { Verdict::Wait } else { Verdict::Refuse };
        if self.leaving >= self.leaving_limit() {
            return refused;
        }
        let (share, taken) = (self.share(client), self.taken());
        let limit = if is_machine { LIMIT_PER_MACHINE } else { LIMIT_PER_SOURCE };
        let crowd = if is_machine { &mut self.machines } else { &mut self.strangers };
        let own = crowd.of(peer);
        if own >= limit {
            // It has enough: what it has left behind makes room.
            let Some(seat) = crowd.vacate_of(peer, Victim::Idle) else { return Verdict::Refuse };
            self.tell(&seat);
        } else if crowd.taken() >= share || taken >= self.limit {
            match self.make_room(is_machine, own, now) {
                Some(seat) => self.tell(&seat),
                None => return refused,
            }
        }
        let seat = Arc::new(Seat::new(peer, client));
        if is_machine { &mut self.machines } else { &mut self.strangers }.enter(peer, &seat);
        Verdict::Seat(seat)
    }

    /// Takes its place from the least deserving connection, for a client that has `own` others.
    fn make_room(&mut self, is_machine: bool, own: usize, now: u32) -> Option<Arc<Seat>> {
        let Self { machines, strangers, .. } = self;
        let of_strangers = strangers.vacate(Victim::Idle, 1).or_else(|| {
            // A stranger that reads slowly goes for any machine, and for a stranger that has less.
            let least = if is_machine { 1 } else { own + 2 };
            strangers.vacate(Victim::Stalled { until: now }, least)
        });
        if !is_machine || of_strangers.is_some() {
            return of_strangers;
        }
        let patience = now.checked_sub(PATIENCE).map(|until| Victim::Stalled { until });
        strangers
            .vacate(Victim::Any, 1)
            // A machine that waits between two requests connects again, one that has several does not notice.
            .or_else(|| machines.vacate(Victim::Idle, own.max(1) + 1))
            .or_else(|| machines.vacate(patience?, own + 1))
            .or_else(|| machines.vacate(Victim::Any, own + MANY))
    }

    /// Tells an idle connection to leave: a stranger's, or one of a machine that has several.
    fn relieve(&mut self) {
        if self.leaving < self.leaving_limit() {
            let idle = self.strangers.vacate(Victim::Idle, 1).or_else(|| self.machines.vacate(Victim::Idle, 2));
            if let Some(seat) = idle {
                self.tell(&seat);
            }
        }
    }

    fn tell(&mut self, seat: &Seat) {
        self.leaving += 1;
        seat.is_told.store(true, Ordering::Release);
        // Remembered if the connection does not wait yet.
        seat.told.notify_one();
    }

    /// Takes note of the end of a connection.
    fn leave(&mut self, seat: &Arc<Seat>) {
        if seat.is_told.load(Ordering::Acquire) {
            self.leaving = self.leaving.saturating_sub(1);
            return;
        }
        match seat.client {
            Client::Machine => self.machines.leave(seat.peer, seat),
            Client::Stranger | Client::Anybody => self.strangers.leave(seat.peer, seat),
        }
    }
}

#[cfg(test)]
mod tests;
