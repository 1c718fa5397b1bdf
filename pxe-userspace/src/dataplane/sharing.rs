//! Decides which questions this node answers if several nodes share the fleet. Each node sees most questions and decides for itself,
//! from the question, the [`Nodes`] and what it has seen of the machine.
//!
//! | question | this node |
//! |---|---|
//! | of a machine that it owns | answers |
//! | of another node's machine, for the first time | stays silent |
//! | the same, repeated | answers: the owner is dead, or a packet was lost |
//! | one that chooses this node's offer | answers |
//! | one that chooses another node's offer | stays silent. If it is repeated, or that node is known to be dead, it answers under that node's server identifier, since clients wait for that node alone and some abort at a DHCPNAK |
//! | one that was sent to this node's own address | answers |
//!
//! The owner is the node with the machine's highest rank ([`Nodes::peer_that_owns`]). For ten minutes the node that the machine chose
//! takes its place, and one that left a question unanswered loses it. So a dead node costs a machine one retry in a boot, and not
//! one at each step.
//!
//! # Repetitions
//!
//! A question is repeated if the same client sent the same kind of message to the same server at most a minute ago, in the same
//! transaction. What programs do was captured, or is in their sources:
//!
//! | program | asks after seconds | transaction | `secs` |
//! |---|---|---|---|
//! | EDK2 | 0, 4, 12, 28 | same | 0, 4, 12, 28 |
//! | iPXE | 0, 1, 3, … | same | 4, 10, 18, …, whatever the time |
//! | U-Boot | 0, ¼, ¾, … 2 | new each time | 0 |
//! | udhcpc | 0, 3, 6 | same | 0 |
//!
//! For U-Boot the transaction may differ if the last question is at most ten seconds old. No program asks again within a fifth of a second, but a
//! relay or a switch may bring one frame on two ways. `secs` tells something to nodes that did not receive the first question. iPXE and the ROMs of BIOS begin with 4, and nothing begins with 8, so
//! a DISCOVER with that or more counts as repeated. UEFI begins with 0, so there 4 suffices.

mod sightings;

use std::{net::Ipv4Addr, time::SystemTime};

use pxe_common::bootp::BOOT_SERVER_PORT;

use self::sightings::{Asker, Choice, Sightings, digest};
use crate::{
    dhcp::{Mode, Server, answer::Question, relay::is_host, turn::Turn, wire::MessageType},
    model::{
        client_architecture::ClientArchitecture,
        event::ClientKind,
        inventory::Machine,
        nodes::{Nodes, SharedNodes},
        origin::Origin,
    },
};

/// The `secs` with which no first DISCOVER comes.
const REPEATED_SECS: u16 = 8;
/// The same for UEFI.
const REPEATED_SECS_OF_UEFI: u16 = 4;

/// The nodes, and what this one has seen of the machines. All workers use it, and none waits for another.
#[derive(Debug)]
pub struct Sharing {
    /// The nodes.
    pub nodes: SharedNodes,
    sightings: Sightings,
}

/// The circumstances of a question.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// The nodes in force.
    pub nodes: &'a Nodes,
    /// The machine that asks.
    pub machine: &'a Machine,
    /// This node's server for it.
    pub server: &'a Server,
    /// The sender of the question. What another host asks in the machine's name is answered as if it came for the first time, and is not remembered.
    pub origin: Origin,
    /// The time.
    pub now: SystemTime,
}

impl Circumstances<'_> {
    fn asker(&self) -> Asker {
        Asker::of(self.machine.mac, self.origin)
    }
}

impl Sharing {
    /// Creates it with nothing seen so far.
    #[must_use]
    pub fn new(nodes: SharedNodes) -> Self {
        Self { nodes, sightings: Sightings::default() }
    }

    /// Returns the node whose turn it is, and remembers the question. `named` is the identifier of another server that the question
    /// names. `is_ours` returns `true` for every address at which this node is asked.
    pub fn turn(
        &self,
        question: &Question<'_>,
        named: Option<Ipv4Addr>,
        circumstances: &Circumstances<'_>,
        is_ours: impl Fn(Ipv4Addr) -> bool,
    ) -> Turn {
        let Circumstances { nodes, server, .. } = *circumstances;
        let asker = circumstances.asker();
        if nodes.peers().is_empty() {
            return if named.is_some() { Turn::Foreign } else { Turn::Ours };
        }
        let Question { query, client, arrival, .. } = *question;
        if let Some(id) = named {
            // This node offered under another address of its own, before its server address moved.
            if is_ours(id) {
                return Turn::InPlaceOf(id);
            }
            return self.turn_at(id, question, circumstances);
        }
        let spoken_to = *arrival.destination.ip();
        let to_this_node = is_host(spoken_to) && !server.networks.has_edge(spoken_to) && client.relay.address.is_none();
        if query.server_id().is_some_and(|id| server.is_at(id)) {
            self.sightings.choose(asker, Choice::Took(digest(server.address)), circumstances.now);
            return Turn::Ours;
        }
        if to_this_node {
            return Turn::Ours;
        }
        let Some(owner) = self.owner(circumstances) else { return Turn::Ours };
        let is_between_others = server.mode == Mode::Proxy
            && query.message() != MessageType::Discover
            && arrival.destination.port() != BOOT_SERVER_PORT;
        if is_between_others || !self.is_repeated(question, None, circumstances) {
            return Turn::Peers(owner);
        }
        // A DISCOVER is followed by the machine's choice, except in ProxyDHCP.
        if server.mode == Mode::Proxy || query.message() != MessageType::Discover {
            self.sightings.choose(asker, Choice::Missed(digest(owner)), circumstances.now);
        }
        Turn::Ours
    }

    /// Returns the turn for a question that names another server.
    fn turn_at(&self, id: Ipv4Addr, question: &Question<'_>, circumstances: &Circumstances<'_>) -> Turn {
        let Circumstances { nodes, machine, now, .. } = *circumstances;
        let asker = circumstances.asker();
        // Any node may have had the spec's address when it answered.
        if nodes.peer_at(id).is_none() && id != machine.site.address {
            return Turn::Foreign;
        }
        if question.query.message() != MessageType::Request {
            return Turn::Peers(id);
        }
        if self.is_repeated(question, Some(id), circumstances) {
            self.sightings.choose(asker, Choice::Missed(digest(id)), now);
            return Turn::InPlaceOf(id);
        }
        if nodes.servers_of(machine.site.address).any(|server| server == id) {
            self.sightings.choose(asker, Choice::Took(digest(id)), now);
            return Turn::Peers(id);
        }
        self.owner(circumstances).map_or(Turn::InPlaceOf(id), Turn::Peers)
    }

    /// Returns the server address of the peer that answers a machine first; `None` if this node does.
    fn owner(&self, circumstances: &Circumstances<'_>) -> Option<Ipv4Addr> {
        let Circumstances { nodes, machine, server, now, .. } = *circumstances;
        let (site, mac) = (machine.site.address, machine.mac);
        let by_rank = |without: u64| {
            let owner = nodes.peer_that_owns_without(site, server.address, mac, |peer| digest(peer) == without);
            owner.map(|(_, address)| address)
        };
        match self.sightings.choice(circumstances.asker(), now) {
            None => by_rank(u64::MAX),
            Some(Choice::Missed(node)) => by_rank(node),
            Some(Choice::Took(node)) if node == digest(server.address) => None,
            Some(Choice::Took(node)) => {
                nodes.servers_of(site).find(|&peer| digest(peer) == node).or_else(|| by_rank(u64::MAX))
            }
        }
    }

    /// Remembers a question and returns `true` if it is repeated.
    fn is_repeated(&self, question: &Question<'_>, named: Option<Ipv4Addr>, circumstances: &Circumstances<'_>) -> bool {
        let Some(asker) = circumstances.asker().of_card(question.query.mac()) else { return false };
        let Question { query, client, arrival, .. } = *question;
        let kind =
            (*arrival.source.ip(), arrival.destination.port(), u8::from(query.message()), client.kind as u8, named);
        let is_known = self.sightings.asked_again(asker, &kind, query.xid(), circumstances.now);
        let is_uefi = matches!(client.kind, ClientKind::Pxe | ClientKind::HttpBoot)
            && !client.u_boot
            && client.architecture.is_some_and(|number| !ClientArchitecture::of(number).is_bios());
        let repeated_secs = if is_uefi { REPEATED_SECS_OF_UEFI } else { REPEATED_SECS };
        is_known || query.message() == MessageType::Discover && query.secs() >= repeated_secs
    }
}

#[cfg(test)]
mod tests;
