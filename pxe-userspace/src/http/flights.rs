//! Decides when an answer has arrived and when it is lost. Pure: the acknowledged position and the time are parameters.
//!
//! An answer that was written is in the send queue of our socket, and up to several megabytes of it have not been sent yet.
//! If the client resets the connection, they never will be. So an answer has arrived only when the client has acknowledged
//! its last byte.
//!
//! ```text
//!              last byte acknowledged
//!  in flight ──────────────────────────────────────────────► delivered
//!      └────── connection broken, nothing acknowledged ────► lost, with the bytes acknowledged so far
//!              for a minute, or server stopped
//! ```
//!
//! The kernel does not report when the send queue is empty. So the connection checks the queue after events that make an
//! empty queue likely (the next request, the client's FIN), and by a timer that backs off. A request alone proves nothing: a
//! pipelining client may have sent it before the answer arrived.

use std::{collections::VecDeque, ops::Range, time::Duration};

use tokio::time::Instant;

/// The time that a client may acknowledge nothing. Firmware that writes its download to slow memory pauses, but not for this
/// long.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// The pause before the first check of the send queue. It doubles with each check; most answers arrive within a round trip.
const FIRST_PAUSE: Duration = Duration::from_millis(2);

/// The longest pause between checks.
const LONGEST_PAUSE: Duration = Duration::from_millis(256);

/// The most answers in flight on one connection. Only a client that pipelines has more than one.
const FLIGHT_LIMIT: usize = 16;

/// An event on a connection after which the send queue was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The timer for a check has expired.
    Timer,
    /// The client has sent another request.
    Request,
    /// The client has sent its FIN. It may still read.
    Fin,
    /// The connection is broken: the client has reset it, or we have given it up.
    Broken,
    /// The server stops.
    Stopped,
}

/// The fate of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The client has acknowledged all of it.
    Delivered,
    /// The rest will not arrive.
    Lost {
        /// The acknowledged bytes of the body, counted from its beginning.
        acknowledged: u64,
    },
}

/// The answers in flight on one connection, in the order of sending; each carries a `T`.
#[derive(Debug)]
pub(super) struct Flights<T> {
    flights: VecDeque<Flight<T>>,
    /// The position up to which the client has acknowledged the stream.
    acknowledged: u64,
    /// The time at which that position last advanced, or the first flight began.
    advanced: Instant,
    look: Instant,
    pause: Duration,
}

#[derive(Debug)]
struct Flight<T> {
    cargo: T,
    /// The range of the body in the connection's stream of bytes.
    body: Range<u64>,
}

impl<T> Flights<T> {
    pub(super) fn new(now: Instant) -> Self {
        Self { flights: VecDeque::new(), acknowledged: 0, advanced: now, look: now, pause: FIRST_PAUSE }
    }

    /// Adds an answer that begins now.
    pub(super) fn depart(&mut self, cargo: T, body: Range<u64>, now: Instant) {
        if self.flights.is_empty() {
            self.advanced = now;
        }
        self.flights.push_back(Flight { cargo, body });
        self.pause = FIRST_PAUSE;
        self.look = now + self.pause;
    }

    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }

    /// Returns `true` if no further answer may be sent before one of them has its verdict.
    pub(super) fn is_full(&self) -> bool {
        self.flights.len() >= FLIGHT_LIMIT
    }

    /// Returns the time of the next check of the send queue, or `None` if nothing is in flight.
    pub(super) fn next_look(&self) -> Option<Instant> {
        (!self.flights.is_empty()).then_some(self.look)
    }

    /// Returns the verdicts that follow from an event and from the acknowledged position.
    pub(super) fn observe(&mut self, event: Event, acknowledged: u64, now: Instant) -> Vec<(T, Verdict)> {
        if acknowledged > self.acknowledged {
            self.acknowledged = acknowledged;
            self.advanced = now;
        }
        let mut verdicts = Vec::new();
        while let Some(flight) = self.flights.pop_front_if(|flight| flight.body.end <= self.acknowledged) {
            verdicts.push((flight.cargo, Verdict::Delivered));
        }
        let is_lost = match event {
            Event::Request | Event::Fin => false,
            Event::Broken | Event::Stopped => true,
            Event::Timer => {
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                self.look = now + self.pause;
                now.duration_since(self.advanced) >= PATIENCE
            }
        };
        if is_lost {
            let acknowledged = self.acknowledged;
            let lost = |flight: Flight<T>| {
                let acknowledged = acknowledged.saturating_sub(flight.body.start);
                (flight.cargo, Verdict::Lost { acknowledged })
            };
            verdicts.extend(self.flights.drain(..).map(lost));
        }
        verdicts
    }
}

#[cfg(test)]
mod tests;
