//! DHCP (RFC 2131, 2132) and PXE as values: decode, classify, answer, encode. No I/O, no clock, no
//! allocation.
//!
//! A packet is five calls, which [`respond`] makes in order:
//!
//! 1. [`decode::decode`]: bytes → [`decode::Query`]. The one door for bytes from outside.
//! 2. [`client::classify`]: what is asking → [`client::Client`].
//! 3. [`answer::answer`]: what to say → [`answer::Reply`] or silence with a [`Reason`].
//! 4. [`encode::encode`]: the reply as bytes, in place.
//! 5. [`reply_route::reply_route`]: where it goes → [`ReplyRoute`].
//!
//! The parser is our own. dhcproto, the crate for DHCP in Rust, is made for clients and servers that meet
//! well-formed peers: it reads `hlen` bytes of hardware address whatever `hlen` says and panics above 16,
//! ignores the magic cookie, drops every option behind the first malformed one without a word, keeps one
//! architecture of option 93, and neither joins split options (RFC 3396) nor follows option 52. It also
//! allocates for every option. So it is the tests' independent witness instead: each reply that is
//! encoded here must decode there to the same meaning.

pub mod answer;
pub mod arrival;
pub mod client;
pub mod decode;
pub mod encode;
pub mod events;
pub mod reason;
pub mod relay;
pub mod reply_route;
#[cfg(test)]
mod testing;
pub mod wire;

use std::{net::SocketAddrV4, ops::Deref};

use pxe_common::MacAddr;
use pxe_common::bootp::{BOOT_SERVER_PORT, SERVER_PORT};

use self::{
    answer::{Answer, Question},
    wire::MessageType,
};
pub use self::{
    arrival::{Arrival, Mode, Server},
    events::Events,
    reason::Reason,
    reply_route::ReplyRoute,
};
use crate::{
    model::{event::EventKind, inventory::Machine, policy::Disposition},
    net::prefix,
};

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
    pub route: ReplyRoute,
    /// DHCPOFFER, DHCPACK or DHCPNAK.
    pub message: MessageType,
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
    let mut events = Events::new();
    events::asked(&question, &machine, server, disposition, &mut events);
    let verdict = match answer::answer(question, &machine, server, disposition) {
        Answer::Silence(reason) => Err(reason),
        Answer::Reply(reply) => encode::encode(&reply, &query, out).map(|length| {
            events::answered(&reply, client.kind, &mut events);
            Sent {
                length,
                source: reply_source(arrival, server),
                route: reply_route::reply_route(reply.message, reply.yiaddr, &query, arrival),
                message: reply.message,
            }
        }),
    };
    if let Err(reason) = verdict
        && !matches!(reason, Reason::NoReplyDue | Reason::NothingToSay | Reason::SentToDisk)
    {
        events::push(&mut events, EventKind::Ignored { reason: reason.text() });
    }
    Outcome { mac: Some(query.mac()), verdict, events }
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
