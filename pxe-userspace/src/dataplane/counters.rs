//! Counts of the replies that the workers sent, and of the frames that they did not answer.

use std::sync::atomic::{AtomicU64, Ordering};

use pxe_common::{Counter, counter::COUNTERS};

use crate::dhcp::{Reason, Sent, wire::MessageType};

/// Counts of replies by message type, and of unanswered frames by reason. All workers share them.
#[derive(Debug, Default)]
pub struct ReplyCounters {
    pub(super) offers: AtomicU64,
    pub(super) acks: AtomicU64,
    pub(super) naks: AtomicU64,
    pub(super) silences: [AtomicU64; Reason::ALL.len()],
    pub(super) refused: [AtomicU64; COUNTERS as usize],
}

impl ReplyCounters {
    /// Counts the outcome of one DHCP packet.
    pub fn count(&self, verdict: &Result<Sent, Reason>) {
        let counter = match verdict {
            Ok(Sent { message: MessageType::Offer, .. }) => &self.offers,
            Ok(Sent { message: MessageType::Nak, .. }) => &self.naks,
            Ok(_) => &self.acks,
            Err(reason) => &self.silences[reason.index()],
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a frame that is not answered because of its headers or its rate, and returns `None`. Behind XDP there are no such
    /// frames: the program has counted them.
    pub fn refuse<T>(&self, reason: Counter) -> Option<T> {
        if let Some(counter) = self.refused.get(reason as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        None
    }
}
