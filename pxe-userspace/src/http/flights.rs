//! Decides when an answer has arrived and when it is lost. Pure: what the client has acknowledged and the time are parameters.
//!
//! An answer that was written is in the send queue of our socket: up to several megabytes of it have not even left. If the client
//! resets the connection now, they never will. So an answer has arrived only when the client has acknowledged its last byte.
//!
//! ```text
//!              last byte acknowledged
//!  in flight ──────────────────────────────────────────────► delivered
//!      └────── connection broken, nothing acknowledged ────► lost, with the bytes acknowledged so far
//!              for a minute, or server stopped
//! ```
//!
//! The kernel does not tell when the send queue is empty. So the connection looks at it when something happens that makes an
//! empty queue likely (the next request, the client's FIN), and by a timer that backs off. A request alone proves nothing: it may have
//! been sent before the answer came (pipelining).

use std::{collections::VecDeque, ops::Range, time::Duration};

use tokio::time::Instant;

/// How long a client may acknowledge nothing. Firmware that writes its download to slow memory pauses, but not for that long.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// The pause before the first look at the send queue. It doubles with each look: most answers arrive within a round trip.
const FIRST_PAUSE: Duration = Duration::from_millis(2);

/// The longest pause between looks.
const LONGEST_PAUSE: Duration = Duration::from_millis(256);

/// The most answers in flight on one connection. Only a client that pipelines has more than one.
const FLIGHT_LIMIT: usize = 16;

/// Something that happened on a connection, at which the send queue was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The time for a look has come.
    Timer,
    /// The client has sent another request.
    Request,
    /// The client has sent its FIN. It may still read.
    Fin,
    /// The connection is broken: reset by the client or given up by us.
    Broken,
    /// The server stops.
    Stopped,
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The client has acknowledged all of it.
    Delivered,
    /// The rest will not arrive.
    Lost {
        /// The bytes of the body that were acknowledged, counted from its beginning.
        acknowledged: u64,
    },
}

/// The answers in flight on one connection, in the order in which they are sent; each carries a `T`.
#[derive(Debug)]
pub(super) struct Flights<T> {
    flights: VecDeque<Flight<T>>,
    /// The position up to which the client has acknowledged the stream.
    acknowledged: u64,
    /// When that position last advanced, or the first of the flights began.
    advanced: Instant,
    look: Instant,
    pause: Duration,
}

#[derive(Debug)]
struct Flight<T> {
    cargo: T,
    /// Where the body is in the stream of bytes that the connection sends.
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

    /// Returns `true` if no further answer may depart before one has its verdict.
    pub(super) fn is_full(&self) -> bool {
        self.flights.len() >= FLIGHT_LIMIT
    }

    /// Returns when to look at the send queue next, or `None` if nothing is in flight.
    pub(super) fn next_look(&self) -> Option<Instant> {
        (!self.flights.is_empty()).then_some(self.look)
    }

    /// Returns the verdicts that follow from an event, with the stream acknowledged up to this position.
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
