//! DHCP (RFC 2131, 2132) and PXE as values: decode, classify, answer, encode. No I/O, no clock, no
//! allocation.
//!
//! A packet is five calls, which [`respond`] makes in order:
//!
//! 1. [`decode::decode`]: bytes → [`decode::Query`]. The one door for bytes from outside.
//! 2. [`client::classify`]: what is asking → [`client::Client`].
//! 3. [`answer::answer`]: what to say → [`answer::Reply`] or silence with a [`Reason`].
//! 4. [`encode::encode`]: the reply as bytes, in place.
//! 5. [`delivery::deliver`]: where it goes → [`Delivery`].
//!
//! The parser is our own. dhcproto, the crate for DHCP in Rust, is made for clients and servers that meet
//! well-formed peers: it reads `hlen` bytes of hardware address whatever `hlen` says and panics above 16,
//! ignores the magic cookie, drops every option behind the first malformed one without a word, keeps one
//! architecture of option 93, and neither joins split options (RFC 3396) nor follows option 52. It also
//! allocates for every option. So it is the tests' independent witness instead: each reply that is
//! encoded here must decode there to the same meaning.

pub mod answer;
pub mod client;
pub mod decode;
pub mod delivery;
pub mod encode;
pub mod reason;
pub mod relay;
#[cfg(test)]
mod testing;
pub mod text;
pub mod wire;

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    ops::Deref,
};

use pxe_common::MacAddr;
use pxe_common::bootp::{BOOT_SERVER_PORT, SERVER_PORT};

use self::{
    answer::{Answer, BootFile, Question, Reply},
    client::Client,
    wire::MessageType,
};
pub use self::{delivery::Delivery, reason::Reason};
use crate::{
    model::{
        event::{BootFileName, ClientKind, EventKind},
        inventory::Machine,
        policy::Disposition,
    },
    net::prefix,
};

/// Whether addresses are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Full DHCP: reservations and boot files.
    Server,
    /// ProxyDHCP: boot files, beside another server that gives the addresses.
    Proxy,
}

/// Ourselves on one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// Our address: server identifier, TFTP server, host of every URL.
    pub address: Ipv4Addr,
    /// Bits in the interface's network mask; machines without one of their own use it.
    pub prefix_length: u8,
    /// The port of the boot HTTP listener.
    pub http_port: u16,
    /// Seconds of a lease.
    pub lease_seconds: u32,
    /// Whether addresses are given.
    pub mode: Mode,
}

/// From where to where a query travelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The sender's IP address, unspecified where it has none, and its UDP port.
    pub source: SocketAddrV4,
    /// The address that it spoke to, ours or a broadcast address, and port 67 or 4011.
    pub destination: SocketAddrV4,
}

/// What came of a packet.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The machine that asked; `None` where the packet is no DHCP or nobody's.
    pub mac: Option<MacAddr>,
    /// The reply, or why there is none.
    pub verdict: Result<Sent, Reason>,
    /// What the journal should know, in the order in which it happened.
    pub events: Events,
}

/// A reply that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Bytes written.
    pub length: usize,
    /// The address and port that it must leave from: where the client spoke to.
    pub source: SocketAddrV4,
    /// Where it goes.
    pub delivery: Delivery,
    /// DHCPOFFER, DHCPACK or DHCPNAK.
    pub message: MessageType,
}

/// The events of one packet: at most five.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Events([Option<EventKind>; 5]);

impl Events {
    fn push(&mut self, event: EventKind) {
        if let Some(free) = self.0.iter_mut().find(|slot| slot.is_none()) {
            *free = Some(event);
        }
    }
}

impl IntoIterator for Events {
    type Item = EventKind;
    type IntoIter = std::iter::Flatten<std::array::IntoIter<Option<EventKind>, 5>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().flatten()
    }
}

/// Answers one UDP payload that came to port 67 or 4011. `lookup` finds the machine and where it is sent;
/// the reply is written to the beginning of `out`, which should hold [`encode::MAXIMUM_LENGTH`] bytes.
pub fn respond<M: Deref<Target = Machine>>(
    payload: &[u8],
    arrival: &Arrival,
    lookup: impl FnOnce(MacAddr) -> Option<(M, Disposition)>,
    server: &Server,
    out: &mut [u8],
) -> Outcome {
    let silent = |mac, reason| Outcome { mac, verdict: Err(reason), events: Events::default() };
    let query = match decode::decode(payload) {
        Ok(query) => query,
        Err(reason) => return silent(None, reason),
    };
    let Some((machine, disposition)) = lookup(query.mac()) else {
        return silent(None, Reason::UnknownMachine);
    };
    let client = client::classify(&query);
    let question = Question { query: &query, client: &client, arrival };
    let mut events = Events::default();
    asked(&question, &machine, server, disposition, &mut events);
    let verdict = match answer::answer(question, &machine, server, disposition) {
        Answer::Silence(reason) => Err(reason),
        Answer::Reply(reply) => encode::encode(&reply, &query, out).map(|length| {
            answered(&reply, client.kind, &mut events);
            Sent {
                length,
                source: reply_source(arrival, server),
                delivery: delivery::deliver(reply.message, reply.yiaddr, &query, arrival),
                message: reply.message,
            }
        }),
    };
    if let Err(reason) = verdict
        && !matches!(reason, Reason::NoReplyDue | Reason::NothingToSay | Reason::SentToDisk)
    {
        events.push(EventKind::Ignored { reason: reason.text() });
    }
    Outcome { mac: Some(query.mac()), verdict, events }
}

/// What the question says about the machine.
fn asked(question: &Question<'_>, machine: &Machine, server: &Server, disposition: Disposition, events: &mut Events) {
    let Question { query, client: Client { kind, architecture, .. }, arrival } = *question;
    match query.message() {
        MessageType::Discover => {
            events.push(EventKind::Discover { client: *kind, client_architecture: *architecture });
            // Firmware repeats itself in every message; once for each boot is enough.
            if let Some(client_architecture) = *architecture
                && question.client.contradicts(machine)
            {
                events.push(EventKind::WrongArchitecture { client_architecture });
            }
            if let Some(relay) = foreign_relay(question.client, machine, server) {
                events.push(EventKind::ForeignRelay { relay });
            }
            if disposition == Disposition::Disk && is_sent_by_dhcp(question.client) {
                events.push(EventKind::SentToDisk);
            }
        }
        MessageType::Request | MessageType::Inform => {
            // On port 4011 it is our boot server that is asked.
            let of_other_server = server.mode == Mode::Proxy && arrival.destination.port() != BOOT_SERVER_PORT;
            let (client, client_architecture) = (*kind, *architecture);
            events.push(EventKind::Request { client, client_architecture, of_other_server });
        }
        MessageType::Decline => {
            let address = query.requested_address().unwrap_or(query.ciaddr());
            events.push(EventKind::Decline { address });
        }
        MessageType::Release => events.push(EventKind::Release),
        MessageType::Offer | MessageType::Ack | MessageType::Nak | MessageType::Other(_) => {}
    }
}

/// The relay, where it is outside the network of the address that we offer: the machine may have moved to another rack.
/// It is answered all the same, for a relay may speak from any of its addresses; one that names the link (RFC 3527) is
/// believed, see [`Reason::WrongNetwork`].
fn foreign_relay(client: &Client, machine: &Machine, server: &Server) -> Option<Ipv4Addr> {
    let prefix_length = machine.prefix_length.unwrap_or(server.prefix_length);
    let is_foreign = |&relay: &Ipv4Addr| !prefix::same(relay, machine.address, prefix_length);
    let relay = client.relay.address.filter(is_foreign)?;
    (server.mode == Mode::Server && client.relay.link_selection.is_none()).then_some(relay)
}

/// Whether the DHCP reply is what sends this client to its disk. iPXE learns it from its script.
fn is_sent_by_dhcp(client: &Client) -> bool {
    match client.kind {
        ClientKind::Pxe | ClientKind::HttpBoot => true,
        ClientKind::Ipxe => !client.http,
        ClientKind::Plain => false,
    }
}

fn answered(reply: &Reply<'_>, client: ClientKind, events: &mut Events) {
    let address = (!reply.yiaddr.is_unspecified()).then_some(reply.yiaddr);
    let boot_file = reply.boot.file.and_then(|file| match file {
        BootFile::Tftp(loader) | BootFile::Http(loader) => Some(BootFileName::Loader(loader)),
        BootFile::Script => Some(BootFileName::Script),
        BootFile::Disk => None,
    });
    match reply.message {
        MessageType::Offer => events.push(EventKind::Offer { address, boot_file }),
        MessageType::Nak => events.push(EventKind::Nak { reason: reply.reason.unwrap_or_default() }),
        _ => events.push(EventKind::Ack { address, client, boot_file }),
    }
}

/// A reply leaves from the address and port that the client spoke to; a broadcast spoke to all of ours.
fn reply_source(arrival: &Arrival, server: &Server) -> SocketAddrV4 {
    let spoken_to = *arrival.destination.ip();
    let to_all = !relay::is_host(spoken_to)
        || prefix::same(spoken_to, server.address, server.prefix_length)
            && prefix::is_edge(spoken_to, server.prefix_length);
    let port = if arrival.destination.port() == BOOT_SERVER_PORT { BOOT_SERVER_PORT } else { SERVER_PORT };
    SocketAddrV4::new(if to_all { server.address } else { spoken_to }, port)
}
