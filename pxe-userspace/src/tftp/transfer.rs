//! The state machine of one transfer, on the server's side: without I/O, and with the clock as a parameter.
//!
//! ```text
//!    request ──► options sent ──ACK 0──► window sent ──ACK of the last block──► done
//!            └─(no options)──────────────►   │   ▲
//!                                            └───┘ ACK within the window: the next window follows that block
//! ```
//!
//! Blocks are counted from 1 in 64 bits here; on the wire the number wraps from 65535 to 0, so that files have no limit.
//!
//! A file is delivered when its last block is acknowledged, and in no other case. An acknowledgement counts only for blocks that were
//! handed to the kernel. Blocks that wait for the disk have not been sent, so that their acknowledgement is wrong or forged.

use std::time::{Duration, Instant};

use super::{
    options::Terms,
    packet::{ErrorCode, Packet},
};

/// The wait for an acknowledgement before any round trip was measured.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The shortest wait for an acknowledgement. Firmware that writes to its screen or decompresses is slow at times, however fast the
/// network is.
const LEAST_WAIT: Duration = Duration::from_millis(200);
/// The longest wait for an acknowledgement before the window is sent again.
const MOST_WAIT: Duration = Duration::from_secs(5);
/// Repeats of the first answer to a client that has not acknowledged anything: a forged request must not cause much traffic. A client
/// that still waits repeats its request, which is answered.
const UNANSWERED_REPEATS: u32 = 3;
/// The silence after which a client is given up. EDK2 repeats its packets after 4 s, PXE ROMs up to 16 s.
const SILENCE: Duration = Duration::from_secs(30);
/// The same for a client that has been sent everything: some never acknowledge the last block.
const SILENCE_AT_END: Duration = Duration::from_secs(10);
/// The time after which a client is given up that keeps sending packets without making progress.
const NO_PROGRESS: Duration = Duration::from_secs(120);
/// A repeated acknowledgement that comes this long after we sent something is due to the client's own timer: what we sent was lost.
/// One that comes sooner only says that something arrived twice or that a block is missing.
const REPEATED_AFTER: Duration = Duration::from_secs(1);
/// The silence after which a transfer is given up whose client has sent another request from the same port. Usually the client has started
/// over; but the request may also be forged, and the client goes on.
const SILENCE_AFTER_ANOTHER: Duration = Duration::from_secs(10);
/// A request that is repeated sooner than this after the last progress was delayed or duplicated by the network. Later, the client
/// has started over (PXE ROMs use the same port after every reset).
const RESTART_AFTER: Duration = Duration::from_secs(2);

/// The next thing to do.
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
        /// Their number, at least one.
        count: u16,
    },
    /// End the transfer, and send nothing any more.
    End(Outcome),
}

/// The outcome of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The client acknowledged the last block, hence the whole file.
    Done,
    /// The client asked for the length of the file, and not for the file (EDK2 and PXE ROMs ask twice).
    Probed,
    /// Every block was sent, and the last was not acknowledged. Some firmware never does; or the acknowledgement was lost and the
    /// client is gone; or the client is gone without the file.
    Unconfirmed,
    /// The client sent an error.
    Aborted {
        /// The error code.
        code: u16,
        /// The client's message, made printable.
        message: String,
    },
    /// The client was silent for too long.
    Silent,
    /// The client sent another request from the same port, and nothing more for this transfer.
    Restarted,
    /// The client's host said that nothing listens at the client's port.
    Unreachable,
    /// The disk did not deliver the next blocks for too long.
    DiskStalled,
}

/// The meaning of a request that is repeated from the port of a running transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repeated {
    /// The first answer was lost or is still on its way: do this.
    Again(Action),
    /// The client starts over: begin another transfer, and [supersede](Transfer::supersede) this one.
    Anew,
}

/// One transfer.
#[derive(Clone, Debug)]
pub struct Transfer {
    terms: Terms,
    /// The number of blocks; in netascii, the largest possible number until [`ends_with`](Self::ends_with) is called.
    blocks: u64,
    /// The client has not acknowledged the options yet.
    offering: bool,
    /// Every block up to this one has arrived.
    acknowledged: u64,
    /// Every block up to this one was sent at least once since `acknowledged` last moved.
    sent: u64,
    /// The rest of the window waits for the disk.
    withheld: bool,
    /// The client has sent another request from the same port, and nothing for this transfer since.
    superseded: bool,
    /// The timer has repeated the first answer this many times.
    unanswered_repeats: u32,
    wait: Wait,
}

impl Transfer {
    /// Begins a transfer on these terms. Returns it with its first action.
    #[must_use]
    pub fn new(now: Instant, terms: Terms) -> (Self, Action) {
        let wait = Wait::new(now, terms.timeout);
        let (offering, blocks) = (terms.has_options(), terms.blocks());
        let mut transfer = Self {
            terms,
            blocks,
            offering,
            acknowledged: 0,
            sent: 0,
            withheld: false,
            superseded: false,
            unanswered_repeats: 0,
            wait,
        };
        let action = if transfer.offering { Action::SendOptions } else { transfer.next_window() };
        (transfer, action)
    }

    /// Returns the terms that it began with.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Returns `true` if the client has not acknowledged anything: the request may be forged.
    #[must_use]
    pub fn is_unanswered(&self) -> bool {
        self.acknowledged == 0 && (self.offering || !self.terms.has_options())
    }

    /// Returns the time at which [`on_timer`](Self::on_timer) wants to be called.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        let end = self.end();
        let is_quiet = self.superseded || self.is_unanswered() && self.unanswered_repeats == UNANSWERED_REPEATS;
        if is_quiet { end } else { self.wait.until.min(end) }
    }

    /// Returns the number of bytes of the file that the client has acknowledged. In netascii, where some bytes are two on the wire,
    /// returns the most that it may be until all of them are.
    #[must_use]
    pub fn bytes_acknowledged(&self) -> u64 {
        self.terms.length.min(self.acknowledged.saturating_mul(self.terms.block_size.into()))
    }

    /// Returns the time at which the client last moved the transfer forward.
    #[must_use]
    pub fn last_progress(&self) -> Instant {
        self.wait.progress
    }

    /// Takes a datagram from the client.
    #[must_use]
    pub fn on_packet(&mut self, now: Instant, datagram: &[u8]) -> Action {
        match Packet::parse(datagram) {
            Ok(Packet::Ack(block)) => self.on_acknowledgement(now, block),
            Ok(Packet::Error { code, message }) => Action::End(self.on_error(code, message)),
            // A packet that has no place in a transfer does not end it: anybody can send one.
            Ok(Packet::Read(_) | Packet::Write { .. }) | Err(_) => Action::Wait,
        }
    }

    /// Checks the deadline.
    #[must_use]
    pub fn on_timer(&mut self, now: Instant) -> Action {
        if now < self.deadline() {
            return Action::Wait;
        }
        if now >= self.end() {
            return Action::End(if self.superseded {
                self.outcome_of_superseded()
            } else if self.withheld {
                Outcome::DiskStalled
            } else if self.everything_sent() {
                Outcome::Unconfirmed
            } else {
                Outcome::Silent
            });
        }
        self.wait.back_off(now);
        self.unanswered_repeats += u32::from(self.is_unanswered() && !self.withheld);
        self.repeat()
    }

    /// Takes a repetition of the request that began the transfer.
    #[must_use]
    pub fn on_repeated_request(&mut self, now: Instant) -> Repeated {
        if self.is_unanswered() {
            // It may have crossed our answer, so the next round trip says nothing.
            self.wait.ambiguous = true;
            return Repeated::Again(self.repeat());
        }
        if now.saturating_duration_since(self.wait.progress) >= RESTART_AFTER {
            return Repeated::Anew;
        }
        Repeated::Again(Action::Wait)
    }

    /// Records that the client sent another request from the same port. A client that has started over does not want to hear of this transfer
    /// any more. But anybody can send such a request, so that the transfer goes on as soon as its client does.
    pub fn supersede(&mut self) {
        self.superseded = true;
    }

    /// Returns the outcome for a client that has started over.
    fn outcome_of_superseded(&self) -> Outcome {
        if self.offering && self.terms.tells_length() {
            Outcome::Probed
        } else if self.everything_sent() {
            Outcome::Unconfirmed
        } else {
            Outcome::Restarted
        }
    }

    /// Records that the blocks from `first` on could not be sent yet because they have to be read from the disk. Nothing is sent
    /// until [`on_readable`](Self::on_readable), and acknowledgements of these blocks do not count.
    pub fn withhold(&mut self, first: u64) {
        self.withheld = true;
        self.sent = first.saturating_sub(1).max(self.acknowledged);
    }

    /// Records that this block ends the file, and that no block after it was sent. In netascii this turns out when it is encoded.
    pub fn ends_with(&mut self, block: u64) {
        self.blocks = block.max(self.acknowledged);
        self.sent = self.sent.min(self.blocks);
    }

    /// Continues after the disk was read, with the rest of the window as it is by then.
    #[must_use]
    pub fn on_readable(&mut self, now: Instant) -> Action {
        if !std::mem::take(&mut self.withheld) {
            return Action::Wait;
        }
        self.wait.sent_again(now);
        self.send_after(self.sent)
    }

    fn on_acknowledgement(&mut self, now: Instant, block: u16) -> Action {
        if self.offering {
            if block != 0 {
                return Action::Wait;
            }
            self.offering = false;
            self.superseded = false;
            self.wait.progressed(now, true);
            return self.next_window();
        }
        let in_flight = self.sent - self.acknowledged;
        let newly = u64::from(block.wrapping_sub(self.acknowledged as u16));
        // A repeated acknowledgement is not answered: its data is under way, and firmware that acknowledges every block
        // it did not expect (EDK2) would from then on get and acknowledge everything twice (the Sorcerer's Apprentice,
        // RFC 1123 §4.2.3.1). If it means that the first block of a window was lost, our timer or the client's repairs that.
        if newly == 0 {
            self.superseded = false;
            self.wait.heard = now;
            if now >= self.wait.sent() + REPEATED_AFTER {
                self.wait.sent_again(now);
                return self.next_window();
            }
        }
        // Blocks that were not sent cannot have arrived.
        if newly == 0 || newly > in_flight {
            return Action::Wait;
        }
        self.acknowledged += newly;
        self.superseded = false;
        self.wait.progressed(now, newly == in_flight);
        if self.acknowledged == self.blocks { Action::End(Outcome::Done) } else { self.next_window() }
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
        if self.withheld { Action::Wait } else { self.send_after(self.acknowledged) }
    }

    /// Sends the blocks of the window after this one.
    fn send_after(&mut self, last: u64) -> Action {
        let end = (self.acknowledged + u64::from(self.terms.window)).min(self.blocks);
        self.sent = end;
        Action::SendBlocks { first: last + 1, count: (end - last) as u16 }
    }

    fn repeat(&mut self) -> Action {
        if self.offering { Action::SendOptions } else { self.next_window() }
    }

    /// Returns `true` if every block was sent and the last window is not acknowledged yet.
    fn everything_sent(&self) -> bool {
        !self.offering && self.sent == self.blocks
    }

    /// Returns the time at which the transfer is given up.
    fn end(&self) -> Instant {
        (self.wait.heard + self.patience()).min(self.wait.progress + NO_PROGRESS.max(self.patience()))
    }

    /// Returns the longest silence that the client is allowed.
    fn patience(&self) -> Duration {
        if self.superseded {
            return SILENCE_AFTER_ANOTHER;
        }
        let silence = if self.everything_sent() { SILENCE_AT_END } else { SILENCE };
        match self.terms.timeout {
            // Only a client that has shown that it is there keeps its place for longer.
            Some(timeout) if !self.is_unanswered() => silence.max(timeout * 3),
            _ => silence,
        }
    }
}

/// The bytes that are kept of a client's error message.
const MESSAGE_LIMIT: usize = 100;

/// The retransmission timer, modelled on RFC 6298: it follows the round trip, and backs off when nothing comes.
#[derive(Clone, Debug)]
struct Wait {
    /// The time to send again.
    until: Instant,
    /// The client last moved the transfer forward.
    progress: Instant,
    /// The client last sent anything.
    heard: Instant,
    /// The wait in force.
    current: Duration,
    /// The smoothed round trip and its variation, once one was measured.
    round_trip: Option<(Duration, Duration)>,
    /// Something was sent twice, so that the next acknowledgement says nothing about the round trip (Karn).
    ambiguous: bool,
    /// The wait that the client asked for (RFC 2349), which then never changes.
    fixed: Option<Duration>,
}

impl Wait {
    fn new(now: Instant, fixed: Option<Duration>) -> Self {
        let current = fixed.unwrap_or(FIRST_WAIT);
        Self { until: now + current, progress: now, heard: now, current, round_trip: None, ambiguous: false, fixed }
    }

    /// Records an acknowledgement of all that was in flight (`whole`), or of a part.
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

    /// Returns the time of the last send.
    fn sent(&self) -> Instant {
        self.until.checked_sub(self.current).unwrap_or(self.progress)
    }

    /// Records that something was sent for another reason than the timer.
    fn sent_again(&mut self, now: Instant) {
        self.ambiguous = true;
        self.until = now + self.current;
    }

    /// Records that nothing came in time.
    fn back_off(&mut self, now: Instant) {
        self.ambiguous = true;
        self.current = self.fixed.unwrap_or_else(|| (self.current * 2).min(MOST_WAIT));
        self.until = now + self.current;
    }
}

#[cfg(test)]
mod tests;
