//! The events that a question and its answer make for the journal.

use std::{net::Ipv4Addr, sync::Arc};

use arrayvec::ArrayVec;
use pxe_common::bootp::BOOT_SERVER_PORT;

use super::{
    answer::{BootFile, Question, Reply, other_server},
    arrival::{Mode, Server},
    client::Client,
    wire::MessageType,
};
use crate::{
    model::{
        event::{BootFileName, ClientKind, EventKind},
        inventory::Machine,
        policy::Disposition,
    },
    net::prefix,
};

/// The events of one packet, in the order in which they happened. No packet makes more than five.
pub type Events = ArrayVec<EventKind, 5>;

/// Adds an event. One beyond the limit is dropped, since the answer matters more.
pub(super) fn push(events: &mut Events, event: EventKind) {
    let pushed = events.try_push(event);
    debug_assert!(pushed.is_ok(), "no packet makes more events");
}

/// Adds the events of a question.
pub(super) fn asked(
    question: &Question<'_>,
    machine: &Machine,
    server: &Server,
    disposition: Disposition,
    events: &mut Events,
) {
    let Question { query, client: Client { kind, architecture, signs, .. }, arrival, .. } = *question;
    match query.message() {
        MessageType::Discover => {
            push(events, EventKind::Discover { client: *kind, client_architecture: *architecture });
            // Firmware repeats its architecture in every message; one event for each boot is enough.
            if let Some(client_architecture) = *architecture
                && question.client.contradicts(machine)
            {
                push(events, EventKind::WrongArchitecture { client_architecture });
            }
            if let Some(relay) = foreign_relay(question.client, machine, server) {
                push(events, EventKind::ForeignRelay { relay });
            }
            if disposition == Disposition::Disk && is_sent_by_dhcp(question.client) {
                push(events, EventKind::SentToDisk);
            }
        }
        MessageType::Request | MessageType::Inform => {
            // On port 4011 the client asks our boot server.
            let of_other_server = server.mode == Mode::Proxy && arrival.destination.port() != BOOT_SERVER_PORT;
            // A server on this host has our address, too.
            let other_server = if of_other_server { query.server_id() } else { other_server(question, server) };
            let (client, client_architecture, signs) = (*kind, *architecture, *signs);
            let request = EventKind::Request { client, client_architecture, of_other_server, other_server, signs };
            push(events, request);
        }
        MessageType::Decline => {
            let address = query.requested_address().unwrap_or(query.ciaddr());
            push(events, EventKind::Decline { address });
        }
        MessageType::Release => push(events, EventKind::Release),
        MessageType::Offer | MessageType::Ack | MessageType::Nak | MessageType::Other(_) => {}
    }
}

/// Returns the relay if it is outside the network of the machine's address: the machine may have been moved to another rack.
/// It is answered all the same, because a relay may use any of its addresses. A relay that names the link (RFC 3527) is
/// believed, see [`Reason::WrongNetwork`](super::Reason::WrongNetwork).
fn foreign_relay(client: &Client, machine: &Machine, server: &Server) -> Option<Ipv4Addr> {
    let prefix_length = server.prefix_length(machine);
    let is_foreign = |&relay: &Ipv4Addr| !prefix::same(relay, machine.address, prefix_length);
    let relay = client.relay.address.filter(is_foreign)?;
    (server.mode == Mode::Server && client.relay.link_selection.is_none()).then_some(relay)
}

/// Returns `true` if the DHCP reply sends this client to its disk. iPXE learns that from its script.
fn is_sent_by_dhcp(client: &Client) -> bool {
    match client.kind {
        ClientKind::Pxe | ClientKind::HttpBoot => true,
        ClientKind::Ipxe => !client.http,
        ClientKind::Plain => false,
    }
}

/// Adds the event of an answer.
pub(super) fn answered(reply: &Reply<'_>, client: &Client, events: &mut Events) {
    let Client { kind: client, signs, .. } = *client;
    let address = (!reply.yiaddr.is_unspecified()).then_some(reply.yiaddr);
    let boot_file = reply.boot.file.and_then(|file| match file {
        BootFile::Tftp(loader) | BootFile::Http(loader) => Some(loader.into()),
        BootFile::Script => Some(BootFileName::Script),
        BootFile::Uki => Some(BootFileName::Uki),
        BootFile::LoaderOfUki(name) => Some(BootFileName::OwnLoader(Arc::clone(name))),
        BootFile::Disk => None,
    });
    match reply.message {
        MessageType::Offer => push(events, EventKind::Offer { address, boot_file }),
        MessageType::Nak => push(events, EventKind::Nak { reason: reply.reason.unwrap_or_default() }),
        _ => push(events, EventKind::Ack { address, client, signs, boot_file }),
    }
}
