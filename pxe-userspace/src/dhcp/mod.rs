//! DHCP (RFC 2131, 2132) and PXE as values: decode, classify, answer, encode. No I/O, no clock, no
//! allocation.
//!
//! [`respond`] handles a packet with five calls:
//!
//! 1. [`decode::decode`]: bytes → [`decode::Query`]. The only parser of bytes from outside.
//! 2. [`client::classify`]: who asks → [`client::Client`].
//! 3. [`answer::answer`]: the decision → [`answer::Reply`], or silence with a [`Reason`].
//! 4. [`encode::encode`]: the reply as bytes, in place.
//! 5. [`reply_route::reply_route`]: the destination of the reply → [`ReplyRoute`].
//!
//! The parser is our own. dhcproto, the DHCP crate for Rust, is made for well-formed peers: it reads `hlen` bytes of hardware
//! address whatever `hlen` says and panics above 16, ignores the magic cookie, silently drops every option after the first
//! malformed one, keeps one architecture of option 93, and neither joins split options (RFC 3396) nor follows option 52. It also
//! allocates for every option. So it serves as the tests' independent witness: every reply that is encoded here must decode
//! there to the same meaning.

pub mod answer;
pub mod arrival;
pub mod client;
pub mod decode;
pub mod encode;
pub mod events;
pub mod reason;
pub mod relay;
pub mod reply_route;
mod signs;
#[cfg(test)]
pub(crate) mod testing;
pub mod turn;
pub mod wire;

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    ops::Deref,
};

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
    turn::Turn,
};
use crate::model::{
    dhcp_answers::DhcpAnswers,
    event::{ClientKind, EventKind},
    inventory::Machine,
    policy::Disposition,
};

/// The result of a packet.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The machine that asked; `None` if the packet is not DHCP or belongs to no machine.
    pub mac: Option<MacAddr>,
    /// The reply, or the reason for silence.
    pub verdict: Result<Sent, Reason>,
    /// The events for the journal, in the order in which they happened.
    pub events: Events,
}

/// A reply that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The number of bytes written.
    pub length: usize,
    /// The address and port that it must come from: those that the client spoke to.
    pub source: SocketAddrV4,
    /// Its destination.
    pub route: ReplyRoute,
    /// DHCPOFFER, DHCPACK or DHCPNAK.
    pub message: MessageType,
    /// It has the unguessable part of a URL, so that nobody but the machine may get it.
    pub has_token: bool,
}

/// Answers one UDP payload that came to port 67 or 4011. `lookup` finds the machine and its disposition. The reply is written to
/// the beginning of `out`, which should hold [`encode::MAXIMUM_LENGTH`] bytes.
pub fn respond<M: Deref<Target = Machine>>(
    payload: &[u8],
    arrival: &Arrival,
    lookup: impl FnOnce(MacAddr) -> Option<(M, Disposition)>,
    server: &Server,
    out: &mut [u8],
) -> Outcome {
    respond_among(payload, arrival, lookup, server, turn::alone, out)
}

/// Does the same as one of several nodes. `turn` says for which questions it is this node's turn; it is called for those that have
/// an answer, and for those that name another server, with that server's identifier.
pub fn respond_among<M: Deref<Target = Machine>>(
    payload: &[u8],
    arrival: &Arrival,
    lookup: impl FnOnce(MacAddr) -> Option<(M, Disposition)>,
    server: &Server,
    turn: impl FnOnce(&Question<'_>, Option<Ipv4Addr>) -> Turn,
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
    let server = &*server.as_known_by(&query, arrival);
    let client = client::classify(&query);
    let mut question = Question { query: &query, client: &client, arrival, in_place_of: None };
    let mut answer = answer::answer(question, &machine, server, disposition);
    let named = match &answer {
        Answer::Silence(Reason::OtherServer) => query.server_id(),
        _ => None,
    };
    let is_shared = match &answer {
        Answer::Reply(_) | Answer::Silence(Reason::OtherServer) => true,
        // ProxyDHCP sees the steps of those whom it answers, and nothing of the others.
        Answer::Silence(reason) => *reason == Reason::NothingToSay && client.kind != ClientKind::Plain,
    };
    match if is_shared { turn(&question, named) } else { Turn::Ours } {
        Turn::Ours | Turn::Foreign => {}
        Turn::InPlaceOf(id) => {
            question.in_place_of = Some(id);
            answer = answer::answer(question, &machine, server, disposition);
        }
        Turn::Peers(address) => {
            let mut events = Events::new();
            let chosen = named.is_some();
            events::push(&mut events, EventKind::LeftToPeer { client: client.kind, address, chosen });
            let reason = if chosen { Reason::ChosePeer } else { Reason::LeftToPeer };
            return Outcome { mac: Some(query.mac()), verdict: Err(reason), events };
        }
    }
    let mut events = Events::new();
    events::asked(&question, &machine, server, disposition, &mut events);
    let verdict = match answer {
        Answer::Silence(reason) => Err(reason),
        Answer::Reply(reply) => encode::encode(&reply, &query, out).map(|length| {
            events::answered(&reply, &client, &mut events);
            // Nobody else may see a token, and the programs that get one take unicast frames.
            let answers = if reply.boot.has_token { DhcpAnswers::Unicast } else { machine.answers };
            Sent {
                length,
                source: reply_source(arrival, server),
                route: reply_route::reply_route(reply.message, reply.yiaddr, &query, &client.relay, arrival, answers),
                message: reply.message,
                has_token: reply.boot.has_token,
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

/// Returns the source of a reply: the address and port that the client spoke to, or the server's address after a broadcast.
///
/// A relay may have asked another address of the interface than the server's. It gets its answer from there, as from any UDP
/// server: a relay accepts either, but a firewall between the two lets only the address pass that was asked.
fn reply_source(arrival: &Arrival, server: &Server) -> SocketAddrV4 {
    let spoken_to = *arrival.destination.ip();
    let to_all = !relay::is_host(spoken_to) || server.networks.has_edge(spoken_to);
    let port = if arrival.destination.port() == BOOT_SERVER_PORT { BOOT_SERVER_PORT } else { SERVER_PORT };
    SocketAddrV4::new(if to_all { server.address } else { spoken_to }, port)
}
