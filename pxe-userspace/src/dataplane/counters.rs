//! Counts of the replies that the workers sent and of the frames that they left unanswered.

use std::time::Duration;

use prometheus_client::registry::Registry;
use pxe_common::Counter;

use crate::{
    dhcp::{Reason, Sent, wire::MessageType},
    metrics::{Counters, Label, histogram::Histogram, label},
};

label! {
    /// The message type of a reply.
    enum Message: "message" {
        /// DHCPOFFER.
        Offer = "offer",
        /// DHCPACK.
        Ack = "ack",
        /// DHCPNAK.
        Nak = "nak",
    }
}

impl Label for Reason {
    const NAME: &'static str = "reason";
    const ALL: &'static [Self] = &Self::ALL;

    fn value(self) -> &'static str {
        self.name()
    }

    fn index(self) -> usize {
        self.index()
    }
}

impl Label for Counter {
    const NAME: &'static str = "reason";
    const ALL: &'static [Self] = Self::ALL;

    fn value(self) -> &'static str {
        self.name()
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// Counts of replies by message type, and of unanswered frames by reason. All workers share them.
#[derive(Debug)]
pub struct ReplyCounters {
    replies: Counters<Message>,
    silences: Counters<Reason>,
    refused: Counters<Counter>,
    answers: Histogram,
}

/// Bounds in seconds of the time that an answer takes.
const ANSWER: &[f64] = &[1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 5e-4, 1e-3, 1e-2, 0.1];

impl Default for ReplyCounters {
    fn default() -> Self {
        let (replies, silences, refused) = Default::default();
        Self { replies, silences, refused, answers: Histogram::new(ANSWER) }
    }
}

impl ReplyCounters {
    /// Registers the counters under names that begin with `dhcp_` and `socket_`.
    pub fn register(&self, registry: &mut Registry) {
        let Self { replies, silences, refused, answers } = self;
        registry.register("dhcp_replies", "DHCP replies sent, by message type", replies.clone());
        let help = "DHCP packets left unanswered, by reason";
        registry.register("dhcp_silences", help, silences.clone());
        let help = "Frames that reached the packet socket without XDP and were not answered, by reason";
        registry.register("socket_frames_refused", help, refused.clone());
        let help = "Time from a frame in the receive queue to the answer to it, of one frame in 64";
        registry.register("dhcp_answer_duration_seconds", help, answers.clone());
    }

    /// Counts the time of one answer.
    pub fn answered_within(&self, time: Duration) {
        self.answers.observe(time);
    }

    /// Counts the outcome of one DHCP packet.
    pub fn count(&self, verdict: &Result<Sent, Reason>) {
        match verdict {
            Ok(Sent { message: MessageType::Offer, .. }) => self.replies.increment(Message::Offer),
            Ok(Sent { message: MessageType::Nak, .. }) => self.replies.increment(Message::Nak),
            Ok(_) => self.replies.increment(Message::Ack),
            Err(reason) => self.silences.increment(*reason),
        }
    }

    /// Counts a frame that is left unanswered because of its headers or its rate, and returns `None`. Behind XDP there are
    /// no such frames: the program has already counted them.
    pub fn refuse<T>(&self, reason: Counter) -> Option<T> {
        self.refused.increment(reason);
        None
    }
}
