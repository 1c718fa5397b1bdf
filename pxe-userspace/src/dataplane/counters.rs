//! Counts of the replies that the workers sent and of the frames that they left unanswered.

use prometheus_client::registry::Registry;
use pxe_common::Counter;

use crate::{
    dhcp::{Reason, Sent, wire::MessageType},
    metrics::{Counters, Label, label},
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
#[derive(Debug, Default)]
pub struct ReplyCounters {
    replies: Counters<Message>,
    silences: Counters<Reason>,
    refused: Counters<Counter>,
}

impl ReplyCounters {
    /// Registers the counters under names that begin with `dhcp_` and `socket_`.
    pub fn register(&self, registry: &mut Registry) {
        let Self { replies, silences, refused } = self;
        registry.register("dhcp_replies", "DHCP replies sent, by message type", replies.clone());
        let help = "DHCP packets left unanswered, by reason";
        registry.register("dhcp_silences", help, silences.clone());
        let help = "Frames that reached the packet socket without XDP and were not answered, by reason";
        registry.register("socket_frames_refused", help, refused.clone());
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
