mod boots;
mod questions;

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::SystemTime,
};

use arc_swap::ArcSwap;
use pxe_common::{MacAddr, bootp::field};

use super::*;
use crate::{
    dhcp::{
        Arrival, Outcome,
        encode::MAXIMUM_LENGTH,
        respond_among,
        testing::{Message, SERVER, Seen, machine},
    },
    model::{
        inventory::Machine,
        nodes::{Node, Sites},
        origin::Origin,
        policy::Disposition,
    },
    net::networks::Networks,
};

/// The server address of a node of the tests. The spec names `SERVER`, which no node has.
fn address(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, 100 + node as u8)
}

/// The machine with this number.
fn machine_number(number: u32) -> Machine {
    let [_, _, c, d] = number.to_be_bytes();
    Machine { mac: MacAddr([0x52, 0x54, 0, 0, c, d]), address: Ipv4Addr::new(10, 0, c, d), ..machine() }
}

/// A node under test.
struct Pxed {
    sharing: Sharing,
    server: Server,
    is_running: bool,
}

/// The nodes of a fleet, each with its own view of the others.
struct Fleet(Vec<Pxed>);

impl Fleet {
    fn new(count: usize, mode: Mode) -> Self {
        let pxed = |node| {
            let networks = Networks::around(address(node), &[(address(node), 16)]);
            Pxed {
                sharing: Sharing::new(Arc::new(ArcSwap::default())),
                server: Server {
                    address: address(node),
                    also: Arc::default(),
                    networks,
                    http_port: 8000,
                    lease_seconds: 3600,
                    mode,
                    guard: None,
                },
                is_running: true,
            }
        };
        let fleet = Self((0..count).map(pxed).collect());
        fleet.announce(|_| true);
        fleet
    }

    /// Tells every node which nodes live.
    fn announce(&self, is_alive: impl Fn(usize) -> bool) {
        let node = |number: usize| Node {
            name: format!("node-{number}").into(),
            sites: Sites::from([(SERVER, address(number))]),
            is_alive: is_alive(number),
            ..Node::default()
        };
        for (this, pxed) in self.0.iter().enumerate() {
            let peers = (0..self.0.len()).filter(|&peer| peer != this).map(node);
            pxed.sharing.nodes.store(Arc::new(Nodes::new(node(this), peers)));
        }
    }

    /// Sends a question to one node. Returns its outcome and its reply.
    fn ask(
        &self,
        node: usize,
        machine: &Machine,
        bytes: &[u8],
        arrival: &Arrival,
        now: SystemTime,
    ) -> (Outcome, Option<Seen>) {
        self.ask_from(Origin::Machine, node, machine, bytes, arrival, now)
    }

    /// Sends a question from this origin to one node.
    fn ask_from(
        &self,
        origin: Origin,
        node: usize,
        machine: &Machine,
        bytes: &[u8],
        arrival: &Arrival,
        now: SystemTime,
    ) -> (Outcome, Option<Seen>) {
        let Pxed { sharing, server, .. } = &self.0[node];
        let mut out = [0; MAXIMUM_LENGTH];
        let nodes = sharing.nodes.load();
        let circumstances = Circumstances { nodes: &nodes, machine, server, origin, now };
        let turn = |question: &Question<'_>, named| {
            sharing.turn(question, named, &circumstances, |asked| asked == address(node) || asked == former(node))
        };
        let lookup = |_| Some((machine, Disposition::Network));
        let outcome = respond_among(bytes, arrival, lookup, server, turn, &mut out);
        let seen = outcome.verdict.ok().map(|sent| Seen::new(&out[..sent.length]));
        (outcome, seen)
    }

    /// Returns the owner of a machine by its rank.
    fn owner(&self, machine: &Machine) -> usize {
        let first = &self.0[0].sharing.nodes.load();
        match first.peer_that_owns(SERVER, address(0), machine.mac) {
            None => 0,
            Some((_, owner)) => usize::from(owner.octets()[3]) - 100,
        }
    }
}

/// A second address of each node's interface.
fn former(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, 200 + node as u8)
}

/// A message of this machine in this transaction.
fn message(machine: &Machine, kind: u8, xid: u32, secs: u16) -> Message {
    Message::new(kind)
        .field(field::CHADDR, &machine.mac.0)
        .field(field::XID, &xid.to_be_bytes())
        .field(field::SECS, &secs.to_be_bytes())
}

fn broadcast() -> Arrival {
    Arrival::between(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68), SocketAddrV4::new(Ipv4Addr::BROADCAST, 67))
}
