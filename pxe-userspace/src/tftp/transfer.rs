//! One transfer, as seen by the server: a state machine without I/O and without a clock.
//!
//! ```text
//!    request ──► options acknowledged ──ACK 0──► window sent ──ACK of the last block──► done
//!            └─(no options)──────────────────────►   │   ▲
//!                                                    └───┘ ACK within the window: the next window follows that block
//! ```
//!
//! Blocks are counted from 1 in 64 bits here; on the wire the number wraps from 65535 to 0, so that files have no limit.

use std::time::{Duration, Instant};

use super::{
    options::Terms,
    packet::{ErrorCode, Packet},
};

/// How long to wait for the first acknowledgement, until its round trip was seen.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The least that an acknowledgement is waited for. Firmware that writes to its screen or decompresses is slow at times,
/// however quick the network is.
const LEAST_WAIT: Duration = Duration::from_millis(200);
/// The most that an acknowledgement is waited for before the window is sent again.
const MOST_WAIT: Duration = Duration::from_secs(5);
/// How often an answer is sent again to somebody who has not acknowledged anything: who asks in another's name must gain
/// little. A client that waits still asks again itself, and is answered.
const UNANSWERED_REPEATS: u32 = 3;
/// How long a client may be silent. EDK2 repeats its packets after 4 s, PXE ROMs up to 16 s.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a client may be silent that has been sent everything: some never acknowledge the last block.
const SILENCE_AT_END: Duration = Duration::from_secs(10);
/// How long a client is borne with that gives signs of life and gets no further.
const NO_PROGRESS: Duration = Duration::from_secs(120);
/// An acknowledgement that is repeated so long after we have sent something comes from the client's own timer: what we sent was
/// lost. Sooner, it only tells that something came twice or that a block is missing.
const REPEATED_AFTER: Duration = Duration::from_secs(1);
/// A request repeated sooner than this after a sign of life was delayed or doubled by the network; later, the client has
/// begun anew (PXE ROMs use the same port after every reset).
const RESTART_AFTER: Duration = Duration::from_secs(2);

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing: wait for the next packet, or the [`deadline`](Transfer::deadline).
    Wait,
    /// Send the option acknowledgement.
    SendOptions,
    /// Send the blocks `first..first + count`.
    SendBlocks {
        /// The number of the first, counted from 1.
        first: u64,
        /// How many, at least one.
        count: u16,
    },
    /// The transfer is over. Nothing is sent any more.
    End(Outcome),
}

/// How a transfer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The last block was acknowledged.
    Done,
    /// The client only wanted to know the length of the file (EDK2 and PXE ROMs ask twice).
    Probed,
    /// The client broke off.
    Aborted {
        /// The error code.
        code: u16,
        /// What it said, made printable.
        message: String,
    },
    /// The client was silent for too long.
    Silent,
    /// Everything was sent, but the last block was not acknowledged. Some firmware never does.
    LastUnacknowledged,
}

/// What a request means that comes again from the port of a running transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repeated {
    /// The first answer was lost or is under way: do this.
    Again(Action),
    /// The client begins anew: replace the transfer.
    Anew,
}

/// One transfer.
#[derive(Clone, Debug)]
pub struct Transfer {
    terms: Terms,
    /// The client has not acknowledged the options yet.
    offering: bool,
    /// Every block up to this one has arrived.
    acknowledged: u64,
    /// Every block up to this one was sent at least once since `acknowledged` last moved.
    sent: u64,
    /// How often the timer has repeated the first answer.
    unanswered_repeats: u32,
    wait: Wait,
}

impl Transfer {
    /// Begins a transfer on these terms, and says what is sent first.
    #[must_use]
    pub fn new(now: Instant, terms: Terms) -> (Self, Action) {
        let wait = Wait::new(now, terms.timeout);
        let offering = terms.has_options();
        let mut transfer = Self { terms, offering, acknowledged: 0, sent: 0, unanswered_repeats: 0, wait };
        let action = if transfer.offering { Action::SendOptions } else { transfer.next_window() };
        (transfer, action)
    }

    /// The terms that it began with.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// When [`on_timer`](Self::on_timer) wants to be called.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        let end = self.end();
        let is_quiet = self.is_unanswered() && self.unanswered_repeats == UNANSWERED_REPEATS;
        if is_quiet { end } else { self.wait.until.min(end) }
    }

    /// Bytes of the file that the client has for certain.
    #[must_use]
    pub fn bytes_acknowledged(&self) -> u64 {
        self.terms.length.min(self.acknowledged.saturating_mul(self.terms.block_size.into()))
    }

    /// A datagram came from the client.
    #[must_use]
    pub fn on_packet(&mut self, now: Instant, datagram: &[u8]) -> Action {
        match Packet::parse(datagram) {
            Ok(Packet::Ack(block)) => self.on_acknowledgement(now, block),
            Ok(Packet::Error { code, message }) => Action::End(self.on_error(code, message)),
            // What does not belong to a transfer does not end it: anybody can send it.
            Ok(Packet::Read(_) | Packet::Write { .. }) | Err(_) => Action::Wait,
        }
    }

    /// The deadline may have passed.
    #[must_use]
    pub fn on_timer(&mut self, now: Instant) -> Action {
        if now < self.deadline() {
            return Action::Wait;
        }
        if now >= self.end() {
            return Action::End(if self.everything_sent() { Outcome::LastUnacknowledged } else { Outcome::Silent });
        }
        self.wait.back_off(now);
        self.unanswered_repeats += u32::from(self.is_unanswered());
        self.repeat()
    }

    /// The request that began the transfer came once more.
    #[must_use]
    pub fn on_repeated_request(&mut self, now: Instant) -> Repeated {
        if self.is_unanswered() {
            // It may have crossed our answer, so this is no reason to trust the next round trip.
            self.wait.ambiguous = true;
            return Repeated::Again(self.repeat());
        }
        if now.saturating_duration_since(self.wait.progress) >= RESTART_AFTER {
            return Repeated::Anew;
        }
        Repeated::Again(Action::Wait)
    }

    fn on_acknowledgement(&mut self, now: Instant, block: u16) -> Action {
        if self.offering {
            if block != 0 {
                return Action::Wait;
            }
            self.offering = false;
            self.wait.progressed(now, true);
            return self.next_window();
        }
        let in_flight = self.sent - self.acknowledged;
        let newly = u64::from(block.wrapping_sub(self.acknowledged as u16));
        // A repeated acknowledgement is not answered: its data is under way, and firmware that acknowledges every block
        // it did not expect (EDK2) would from then on get and acknowledge everything twice (the Sorcerer's Apprentice,
        // RFC 1123 §4.2.3.1). Where it means that the first block of a window was lost, the timer helps, or the client's own.
        if newly == 0 && in_flight > 0 {
            self.wait.heard = now;
            if now >= self.wait.sent() + REPEATED_AFTER {
                self.wait.sent_again(now);
                return self.next_window();
            }
        }
        if newly == 0 || newly > in_flight {
            return Action::Wait;
        }
        self.acknowledged += newly;
        self.wait.progressed(now, newly == in_flight);
        if self.acknowledged == self.terms.blocks() { Action::End(Outcome::Done) } else { self.next_window() }
    }

    fn on_error(&self, code: u16, message: &[u8]) -> Outcome {
        let satisfied = [ErrorCode::OptionsRefused as u16, ErrorCode::Undefined as u16].contains(&code);
        if self.offering && self.terms.tells_length() && satisfied {
            return Outcome::Probed;
        }
        let message = message.get(..MESSAGE_LIMIT).unwrap_or(message).escape_ascii().to_string();
        Outcome::Aborted { code, message }
    }

    /// RFC 7440 §4: the window begins after the last block that arrived, wherever the previous one ended.
    fn next_window(&mut self) -> Action {
        let count = u64::from(self.terms.window).min(self.terms.blocks() - self.acknowledged);
        self.sent = self.acknowledged + count;
        Action::SendBlocks { first: self.acknowledged + 1, count: count as u16 }
    }

    fn repeat(&mut self) -> Action {
        if self.offering { Action::SendOptions } else { self.next_window() }
    }

    /// Whether the client has not acknowledged anything: it may never have asked, and somebody else in its name.
    fn is_unanswered(&self) -> bool {
        self.acknowledged == 0 && (self.offering || !self.terms.has_options())
    }

    fn everything_sent(&self) -> bool {
        !self.offering && self.sent == self.terms.blocks()
    }

    /// When the transfer is given up.
    fn end(&self) -> Instant {
        (self.wait.heard + self.patience()).min(self.wait.progress + NO_PROGRESS.max(self.patience()))
    }

    /// How long the client may go without a sign of life.
    fn patience(&self) -> Duration {
        let silence = if self.everything_sent() { SILENCE_AT_END } else { SILENCE };
        match self.terms.timeout {
            // A place is kept longer only for those who show that they are there.
            Some(timeout) if !self.is_unanswered() => silence.max(timeout * 3),
            _ => silence,
        }
    }
}

/// What is kept of a client's error message, in bytes.
const MESSAGE_LIMIT: usize = 100;

/// The retransmission timer, after RFC 6298: it follows the round trip, and backs off when nothing comes.
#[derive(Clone, Debug)]
struct Wait {
    /// When to send again.
    until: Instant,
    /// When the client last moved the transfer forward.
    progress: Instant,
    /// When the client last gave a sign of life.
    heard: Instant,
    /// The wait in force.
    current: Duration,
    /// Smoothed round trip and its variation, once one was seen.
    round_trip: Option<(Duration, Duration)>,
    /// Something was sent twice, so that the next acknowledgement says nothing about the round trip (Karn).
    ambiguous: bool,
    /// The client's own wish (RFC 2349), which then holds throughout.
    fixed: Option<Duration>,
}

impl Wait {
    fn new(now: Instant, fixed: Option<Duration>) -> Self {
        let current = fixed.unwrap_or(FIRST_WAIT);
        Self { until: now + current, progress: now, heard: now, current, round_trip: None, ambiguous: false, fixed }
    }

    /// An acknowledgement came, of all that was in flight or of a part.
    fn progressed(&mut self, now: Instant, whole: bool) {
        if whole && !self.ambiguous {
            let sample = now.saturating_duration_since(self.progress);
            self.round_trip = Some(match self.round_trip {
                None => (sample, sample / 2),
                Some((smoothed, variation)) => {
                    ((smoothed * 7 + sample) / 8, (variation * 3 + smoothed.abs_diff(sample)) / 4)
                }
            });
        }
        self.ambiguous = !whole;
        (self.progress, self.heard) = (now, now);
        self.current = self.fixed.unwrap_or_else(|| match self.round_trip {
            Some((smoothed, variation)) => (smoothed + variation * 4).clamp(LEAST_WAIT, MOST_WAIT),
            None => FIRST_WAIT,
        });
        self.until = now + self.current;
    }

    /// When something was sent last.
    fn sent(&self) -> Instant {
        self.until.checked_sub(self.current).unwrap_or(self.progress)
    }

    /// The same was sent again for another reason than the timer.
    fn sent_again(&mut self, now: Instant) {
        self.ambiguous = true;
        self.until = now + self.current;
    }

    /// Nothing came in time.
    fn back_off(&mut self, now: Instant) {
        self.ambiguous = true;
        self.current = self.fixed.unwrap_or_else(|| (self.current * 2).min(MOST_WAIT));
        self.until = now + self.current;
    }
}

#[cfg(test)]
mod tests;
