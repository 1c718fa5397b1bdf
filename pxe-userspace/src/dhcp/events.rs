//! What a question and its answer tell the journal.

use std::net::Ipv4Addr;

use arrayvec::ArrayVec;
use pxe_common::bootp::BOOT_SERVER_PORT;

use super::{
    answer::{BootFile, Question, Reply},
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

/// The events of one packet, in the order in which they happened. No packet makes more.
pub type Events = ArrayVec<EventKind, 5>;

/// Adds an event. One beyond the limit would be left out, since answering matters more.
pub(super) fn push(events: &mut Events, event: EventKind) {
    let pushed = events.try_push(event);
    debug_assert!(pushed.is_ok(), "no packet makes more events");
}

/// What the question says about the machine.
pub(super) fn asked(
    question: &Question<'_>,
    machine: &Machine,
    server: &Server,
    disposition: Disposition,
    events: &mut Events,
) {
    let Question { query, client: Client { kind, architecture, .. }, arrival } = *question;
    match query.message() {
        MessageType::Discover => {
            push(events, EventKind::Discover { client: *kind, client_architecture: *architecture });
            // Firmware repeats itself in every message; once for each boot is enough.
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
            // On port 4011 it is our boot server that is asked.
            let of_other_server = server.mode == Mode::Proxy && arrival.destination.port() != BOOT_SERVER_PORT;
            let (client, client_architecture) = (*kind, *architecture);
            push(events, EventKind::Request { client, client_architecture, of_other_server });
        }
        MessageType::Decline => {
            let address = query.requested_address().unwrap_or(query.ciaddr());
            push(events, EventKind::Decline { address });
        }
        MessageType::Release => push(events, EventKind::Release),
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

pub(super) fn answered(reply: &Reply<'_>, client: ClientKind, events: &mut Events) {
    let address = (!reply.yiaddr.is_unspecified()).then_some(reply.yiaddr);
    let boot_file = reply.boot.file.and_then(|file| match file {
        BootFile::Tftp(loader) | BootFile::Http(loader) => Some(BootFileName::Loader(loader)),
        BootFile::Script => Some(BootFileName::Script),
        BootFile::Disk => None,
    });
    match reply.message {
        MessageType::Offer => push(events, EventKind::Offer { address, boot_file }),
        MessageType::Nak => push(events, EventKind::Nak { reason: reply.reason.unwrap_or_default() }),
        _ => push(events, EventKind::Ack { address, client, boot_file }),
    }
}
