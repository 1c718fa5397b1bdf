//! A worker's decision about a DHCP frame, and its words in a capture.

use std::{borrow::Cow, fmt::Write as _};

use pxe_common::{Action, Counter};

use crate::{
    dhcp::{Events, Reason, wire::MessageType},
    model::{
        event::{BootFileName, ClientKind, EventKind},
        origin::Origin,
        policy::{BootPolicy, Disposition},
    },
    net::frame::Second,
};

/// The outcome of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its headers or the settings forbid an answer.
    Refused(Counter),
    /// No machine of the spec has the MAC address.
    Stranger,
    /// The interface serves no site of the machine: its cluster is on another one.
    OtherInterface,
    /// It came on a VLAN on which the machine is not served.
    OtherVlan(u16),
    /// DHCP decides for silence.
    Silent(Reason),
    /// It is answered.
    Answered(MessageType),
}

/// A worker's decision about a frame, for those who capture it.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The outcome.
    pub verdict: Verdict,
    /// The events that the journal was told.
    pub events: Events,
    /// The place that the machine boots from, and the policy that says so.
    pub boots: Option<(Disposition, BootPolicy)>,
    /// The sender.
    pub origin: Origin,
}

impl Default for Decision {
    fn default() -> Self {
        Self { verdict: Verdict::Stranger, events: Events::new(), boots: None, origin: Origin::Machine }
    }
}

impl Decision {
    /// Returns the words for the frame that was received.
    #[must_use]
    pub fn about_question(&self) -> String {
        let mut words = match self.verdict {
            Verdict::Answered(_) => String::new(),
            Verdict::Refused(counter) => format!("left unanswered: {}", of_counter(counter)),
            Verdict::Stranger => {
                "left unanswered: no machine in the spec has this MAC; the frame is left to other servers".to_owned()
            }
            Verdict::OtherInterface => "left unanswered: the spec expects the machine on another interface".to_owned(),
            Verdict::OtherVlan(vlan) => {
                format!("left unanswered: the machine is not served on VLAN {vlan} (pxed.dev/vlans)")
            }
            Verdict::Silent(reason) => match self.events.iter().find_map(peer) {
                Some(address) => format!("left unanswered: the pxed at {address} answers"),
                None => format!("left unanswered: {}", reason.text()),
            },
        };
        let sender = match self.origin {
            Origin::Machine | Origin::Unproven | Origin::Unanswered => return words,
            Origin::Relay(relay) => format!("through the relay or router {relay}"),
            Origin::Other(host) => format!("sent by another host, {host}"),
        };
        if !words.is_empty() {
            words.push_str("; ");
        }
        words + &sender
    }

    /// Returns the words for the answer.
    #[must_use]
    pub fn about_answer(&self) -> String {
        let Verdict::Answered(message) = self.verdict else { return String::new() };
        let mut words = name(message).to_owned();
        let (mut asker, mut file) = (None, None);
        for event in &self.events {
            match event {
                EventKind::Discover { client, .. } | EventKind::Request { client, .. } => asker = Some(*client),
                EventKind::Offer { address, boot_file } | EventKind::Ack { address, boot_file, .. } => {
                    file = boot_file.as_ref();
                    if let Some(address) = address {
                        // Writing to a string cannot fail, here and below.
                        let _ = write!(words, " {address}");
                    }
                }
                EventKind::Nak { reason } => return format!("{words}: {reason}"),
                _ => {}
            }
        }
        if let Some(file) = file {
            let _ = write!(words, ", {}", of_file(file));
        }
        if asker == Some(ClientKind::Plain) {
            return words + ": no boot file, since the client does not ask to boot";
        }
        let Some((disposition, policy)) = self.boots else { return words };
        let _ = match disposition {
            Disposition::Network if file.is_some() => {
                write!(words, ": machine boots from the network (policy {})", of_policy(policy))
            }
            Disposition::Network => {
                write!(words, ": no boot file, since there is no loader for the architecture of its firmware")
            }
            Disposition::Disk => write!(words, ": machine boots from its disk (policy {})", of_policy(policy)),
        };
        words
    }
}

/// Returns the words for the second copy of an answer.
#[must_use]
pub fn about_copy(second: Second) -> &'static str {
    match second {
        Second::None => "",
        Second::Same => "the same answer once more, because the question was repeated",
        Second::ToAll { .. } => "the same answer to every host of the link, because the question was repeated",
    }
}

fn peer(event: &EventKind) -> Option<std::net::Ipv4Addr> {
    match event {
        EventKind::LeftToPeer { address, .. } => Some(*address),
        _ => None,
    }
}

fn name(message: MessageType) -> &'static str {
    match message {
        MessageType::Offer => "OFFER",
        MessageType::Ack => "ACK",
        MessageType::Nak => "NAK",
        _ => "answer",
    }
}

fn of_file(file: &BootFileName) -> Cow<'static, str> {
    match file {
        BootFileName::Script | BootFileName::Uki => file.to_string().into(),
        BootFileName::Loader(_) | BootFileName::OwnLoader(_) => format!("loader {file}").into(),
    }
}

const fn of_policy(policy: BootPolicy) -> &'static str {
    match policy {
        BootPolicy::Auto => "auto",
        BootPolicy::Always => "always",
        BootPolicy::Once => "once",
        BootPolicy::Hold => "hold",
    }
}

/// Returns the decision of the XDP program about a frame in words.
#[must_use]
pub fn about_trace(counter: Counter, queue: u32) -> String {
    // The fate of the frame stands in front.
    let reason = of_counter(counter).split("; the frame is ").next().unwrap_or_default();
    match counter.action() {
        Action::Pass => format!("xdp: passed: {reason}"),
        Action::Drop => format!("xdp: dropped: {reason}"),
        Action::Redirect => format!("xdp: redirected to queue {queue}"),
    }
}

/// Returns a verdict of the classifier in words.
#[must_use]
pub const fn of_counter(counter: Counter) -> &'static str {
    match counter {
        Counter::NotIpv4 => "it is not IPv4",
        Counter::TooManyTags => "it has more than two VLAN tags",
        Counter::NotUdp => "it is not UDP",
        Counter::Fragment => "it is a fragment",
        Counter::OtherPort => "it is for a port other than 67 and 4011",
        Counter::NotRequest => "it is not a request of a client",
        Counter::NotEthernet => "the client's hardware is not Ethernet",
        Counter::OtherServer => {
            "it is for another server: neither its IPv4 destination nor a broadcast address is ours"
        }
        Counter::TruncatedEthernet => "it ends within the Ethernet header",
        Counter::TruncatedIpv4 => "it ends before its IPv4 length does",
        Counter::BadIpv4Header => "its IPv4 header is malformed",
        Counter::BadIpv4Length => "its IPv4 length has no room for UDP",
        Counter::BadUdpLength => "its UDP length is impossible",
        Counter::TruncatedBootp => "it ends within the fixed fields of BOOTP",
        Counter::BadHardwareLength => "its hardware address does not have six bytes",
        Counter::UnknownPassed => {
            "no machine in the spec has this MAC (--unknown pass); the frame is left to other servers"
        }
        Counter::UnknownDropped => "no machine in the spec has this MAC (--unknown drop); the frame is dropped",
        Counter::RateLimited => "the machine asks too often (--machine-rate); the frame is dropped",
        Counter::NoSocket => "pxed has no socket on this receive queue yet; the frame is left to the host",
        Counter::Redirected => "it was given to the worker",
        Counter::OtherVlan => "nobody is served on its VLAN (pxed.dev/vlans); the frame is left to the host",
        Counter::OthersRateLimited => "other hosts ask too often in the machine's name; the frame is dropped",
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use pxe_common::MacAddr;

    use super::*;
    use crate::model::{event::Signs, loader::LoaderFile};

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);

    fn discover(client: ClientKind) -> EventKind {
        EventKind::Discover { client, client_architecture: None }
    }

    fn offer(boot_file: Option<BootFileName>) -> EventKind {
        EventKind::Offer { address: Some(ADDRESS), boot_file }
    }

    fn answered(message: MessageType, events: impl IntoIterator<Item = EventKind>) -> Decision {
        let boots = Some((Disposition::Network, BootPolicy::Auto));
        let (verdict, events) = (Verdict::Answered(message), events.into_iter().collect());
        Decision { verdict, events, boots, origin: Origin::Machine }
    }

    #[test]
    fn answer_says_what_the_machine_gets_and_why() {
        let own = BootFileName::OwnLoader("snponly.efi".into());
        let usual = BootFileName::Loader(LoaderFile::EfiX64);
        let ack = |client, boot_file| {
            let signs = Signs::None;
            let request = EventKind::Request {
                client,
                client_architecture: None,
                of_other_server: false,
                other_server: None,
                signs,
            };
            [request, EventKind::Ack { address: Some(ADDRESS), client, signs, boot_file }]
        };
        let (pxe, ipxe, plain) = (ClientKind::Pxe, ClientKind::Ipxe, ClientKind::Plain);
        let at_disk = |decision: Decision| Decision { boots: Some((Disposition::Disk, BootPolicy::Hold)), ..decision };
        for (decision, expected) in [
            (
                answered(MessageType::Offer, [discover(pxe), offer(Some(own))]),
                "OFFER 10.0.0.5, loader snponly.efi: machine boots from the network (policy auto)",
            ),
            (
                answered(MessageType::Ack, ack(pxe, Some(usual))),
                "ACK 10.0.0.5, loader ipxe-efi-x86_64.efi: machine boots from the network (policy auto)",
            ),
            (
                answered(MessageType::Ack, ack(ipxe, Some(BootFileName::Script))),
                "ACK 10.0.0.5, its script: machine boots from the network (policy auto)",
            ),
            (
                at_disk(answered(MessageType::Offer, [discover(pxe), EventKind::SentToDisk, offer(None)])),
                "OFFER 10.0.0.5: machine boots from its disk (policy hold)",
            ),
            (
                answered(MessageType::Offer, [discover(pxe), offer(None)]),
                "OFFER 10.0.0.5: no boot file, since there is no loader for the architecture of its firmware",
            ),
            (
                at_disk(answered(MessageType::Ack, ack(plain, None))),
                "ACK 10.0.0.5: no boot file, since the client does not ask to boot",
            ),
            (answered(MessageType::Nak, [EventKind::Nak { reason: "another address" }]), "NAK: another address"),
        ] {
            assert_eq!(decision.about_answer(), expected);
            assert_eq!(decision.about_question(), "", "{expected}");
        }
    }

    #[test]
    fn silence_says_its_reason_and_the_sender() {
        let host = MacAddr([2, 0, 0, 0, 0, 9]);
        let of = |verdict| Decision { verdict, ..Decision::default() };
        let peer = EventKind::LeftToPeer { client: ClientKind::Pxe, address: ADDRESS, chosen: false };
        let left = Decision { events: [peer].into_iter().collect(), ..of(Verdict::Silent(Reason::LeftToPeer)) };
        for (decision, expected) in [
            (of(Verdict::Stranger), "left unanswered: no machine in the spec has this MAC"),
            (of(Verdict::OtherInterface), "left unanswered: the spec expects the machine on another interface"),
            (of(Verdict::OtherVlan(100)), "left unanswered: the machine is not served on VLAN 100"),
            (of(Verdict::Refused(Counter::RateLimited)), "left unanswered: the machine asks too often"),
            (of(Verdict::Silent(Reason::NoAddress)), "left unanswered: the machine requested a lease without"),
            (left, "left unanswered: the pxed at 10.0.0.5 answers"),
            (
                Decision { origin: Origin::Other(host), ..of(Verdict::Silent(Reason::FromElsewhere)) },
                "left unanswered: another host sent the packet in the machine's name, and the reply would end the \
                 machine's own exchange; sent by another host, 02:00:00:00:00:09",
            ),
            (
                Decision { origin: Origin::Relay(host), ..answered(MessageType::Offer, []) },
                "through the relay or router 02:00:00:00:00:09",
            ),
        ] {
            let words = decision.about_question();
            assert!(words.starts_with(expected), "{words}");
        }
        let every: Vec<_> = Counter::ALL.iter().map(|&counter| of_counter(counter)).collect();
        assert!(every.iter().all(|words| every.iter().filter(|other| *other == words).count() == 1));
    }
}
