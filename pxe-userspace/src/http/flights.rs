//! Decides when an answer has arrived and when it is lost. Pure: the acknowledged position and the time are parameters.
//!
//! An answer that was written is in the send queue of our socket, and up to several megabytes of it have not been sent yet.
//! If the client resets the connection, they never will be. So an answer has arrived only when the client has acknowledged
//! its last byte.
//!
//! ```text
//!              last byte acknowledged
//!  in flight ──────────────────────────────────────────────► delivered
//!      │       connection broken, client too slow ([`super::pace`]),
//!      └────── or server stopped ──────────────────────────► lost, with the bytes acknowledged so far
//!                └─ all sent and nearly all acknowledged ──► unconfirmed
//! ```
//!
//! Unconfirmed is for loaders that do not wait for the acknowledgement. iPXE on UEFI takes a dozen packets from the card and
//! acknowledges them together in its next step. If they contain the end of the initramfs, it starts the kernel without
//! another step. The server cannot distinguish this from a machine that lost power at the last moment, so the answer is
//! neither delivered nor lost.
//!
//! The kernel does not report when the send queue is empty. So the connection checks the queue after events that make an
//! empty queue likely (the next request, the client's FIN), and by a timer that backs off. A request alone proves nothing: a
//! pipelining client may have sent it before the answer arrived.

use std::{collections::VecDeque, ops::Range, time::Duration};

use tokio::time::Instant;

use super::pace::{Pace, TooSlow};

/// The pause before the first check of the send queue. It doubles with each check; most answers arrive within a round trip.
const FIRST_PAUSE: Duration = Duration::from_millis(2);

/// The longest pause between checks.
const LONGEST_PAUSE: Duration = Duration::from_millis(256);

/// The most bytes at the end of an answer that count as unconfirmed instead of lost: a loader may take this many from its
/// card at once.
const UNCONFIRMED_LIMIT: u64 = 128 * 1024;

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

/// The progress of a connection's bytes, as positions in the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reach {
    /// The position up to which the bytes have left this host.
    pub(super) sent: u64,
    /// The position up to which the client has acknowledged the bytes.
    pub(super) acknowledged: u64,
}

/// The fate of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The client has acknowledged all of it.
    Delivered,
    /// All of it was sent, and the client has acknowledged all but an end that it may also have.
    Unconfirmed {
        /// The acknowledged bytes of the body, counted from its beginning.
        acknowledged: u64,
    },
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
    /// The client's progress, since the first flight began.
    pace: Pace,
    look: Instant,
    pause: Duration,
    too_slow: Option<TooSlow>,
}

#[derive(Debug)]
struct Flight<T> {
    cargo: T,
    /// The range of the body in the connection's stream of bytes.
    body: Range<u64>,
}

impl<T> Flights<T> {
    pub(super) fn new(now: Instant) -> Self {
        Self { flights: VecDeque::new(), pace: Pace::new(0, now), look: now, pause: FIRST_PAUSE, too_slow: None }
    }

    /// Adds an answer that begins now.
    pub(super) fn depart(&mut self, cargo: T, body: Range<u64>, now: Instant) {
        if self.flights.is_empty() {
            self.pace = Pace::new(self.pace.acknowledged(), now);
        }
        self.flights.push_back(Flight { cargo, body });
        self.pause = FIRST_PAUSE;
        self.look = now + self.pause;
    }

    /// Returns the answer that arrives next, the bytes of its body that the client has acknowledged, and since when no more.
    pub(super) fn first(&self) -> Option<(&T, u64, Instant)> {
        let Flight { cargo, body } = self.flights.front()?;
        Some((cargo, self.pace.acknowledged().saturating_sub(body.start), self.pace.advanced()))
    }

    /// Returns the answer that departed last, and the position of its body.
    pub(super) fn last(&self) -> Option<(&T, u64)> {
        self.flights.back().map(|flight| (&flight.cargo, flight.body.start))
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

    /// Returns the reason to give the client up, if the last check found one.
    pub(super) fn too_slow(&self) -> Option<TooSlow> {
        self.too_slow
    }

    /// Returns the verdicts that follow from an event.
    pub(super) fn observe(&mut self, event: Event, reach: Reach, now: Instant) -> Vec<(T, Verdict)> {
        self.pace.note(reach.acknowledged, now);
        let acknowledged = self.pace.acknowledged();
        let mut verdicts = Vec::new();
        while let Some(flight) = self.flights.pop_front_if(|flight| flight.body.end <= acknowledged) {
            verdicts.push((flight.cargo, Verdict::Delivered));
        }
        let is_over = match event {
            Event::Request | Event::Fin => false,
            Event::Broken | Event::Stopped => true,
            Event::Timer => {
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                self.look = now + self.pause;
                self.too_slow = self.pace.too_slow(now);
                self.too_slow.is_some()
            }
        };
        if is_over {
            let reach = Reach { acknowledged, ..reach };
            verdicts.extend(self.flights.drain(..).map(|flight| (flight.cargo, undelivered(&flight.body, reach))));
        }
        verdicts
    }
}

/// Returns the verdict on a body whose last byte is not acknowledged and will not be.
fn undelivered(body: &Range<u64>, reach: Reach) -> Verdict {
    let acknowledged = reach.acknowledged.saturating_sub(body.start);
    let rest = body.end.saturating_sub(reach.acknowledged);
    // A client that has acknowledged none of it may never have been there.
    if acknowledged > 0 && rest <= UNCONFIRMED_LIMIT && body.end <= reach.sent {
        Verdict::Unconfirmed { acknowledged }
    } else {
        Verdict::Lost { acknowledged }
    }
}

#[cfg(test)]
mod tests;
