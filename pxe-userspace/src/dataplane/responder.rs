//! Turns a received frame into the frame that answers it.

use std::{
    collections::{HashMap, HashSet},
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::{Instant, SystemTime},
};

use arc_swap::{ArcSwap, Cache};
use pxe_common::{
    Counter, MacAddr,
    classify::{client_address, is_for_us},
    frame,
    layout::{MachineState, Settings},
};

use super::{
    addressing::Served,
    context::Context,
    counters::ReplyCounters,
    duplicate_answers::DuplicateAnswers,
    plan::Answered,
    sharing::{Circumstances, Sharing},
};
use crate::{
    dhcp::{self, Arrival, Reason, ReplyRoute, Server, answer::Question},
    guard,
    model::{
        event::{EventKind, EventSink},
        inventory::Inventory,
        nodes::{Nodes, SharedNodes},
        origin::Origin,
        own_sites::OwnAddress,
        policy_book::PolicyBook,
    },
    net::{
        frame::{Headers, Reply},
        interface::Interface,
        networks::Networks,
    },
};

/// Our servers on one interface, and the addresses at which they are asked.
#[derive(Debug, Default)]
pub struct Servers {
    by_site: HashMap<Ipv4Addr, Server>,
    asked_at: HashSet<Ipv4Addr>,
    /// Addresses of machines in the spec that nodes have; usually none.
    taken: Arc<[Ipv4Addr]>,
}

impl Servers {
    /// Creates the servers of these sites. `server` returns the one at an address of ours, given the networks of its interface.
    #[must_use]
    pub fn new(answered: &Answered, server: impl Fn(&OwnAddress, Networks) -> Server) -> Self {
        let Answered { servers, addresses, asked_at, taken } = answered;
        let server = |Served { site, own }: &Served| (*site, server(own, Networks::around(own.address, addresses)));
        let (by_site, taken) = (servers.iter().map(server).collect(), Arc::clone(taken));
        Self { by_site, asked_at: asked_at.iter().copied().collect(), taken }
    }

    /// Returns the server of the site that has this address in the spec.
    #[must_use]
    pub fn of_site(&self, address: Ipv4Addr) -> Option<&Server> {
        self.by_site.get(&address)
    }

    /// Returns `true` if a machine must not get this address, because a node has it.
    #[must_use]
    pub fn is_taken(&self, address: Ipv4Addr) -> bool {
        self.taken.contains(&address)
    }

    /// Returns `true` if requests to this address are for one of the servers. It need not be a server's own address.
    #[must_use]
    pub fn are_asked_at(&self, address: Ipv4Addr) -> bool {
        self.asked_at.contains(&address)
    }
}

type NodesCache = Cache<SharedNodes, Arc<Nodes>>;

/// The packet logic of a worker. It has its own view of all shared state, so that no packet takes a lock.
pub struct Responder {
    mac: MacAddr,
    servers: Cache<Arc<ArcSwap<Servers>>, Arc<Servers>>,
    /// Not cached: a worker that receives no packets would keep an old inventory alive.
    inventory: Arc<ArcSwap<Inventory>>,
    policies: Cache<Arc<ArcSwap<PolicyBook>>, Arc<PolicyBook>>,
    events: EventSink,
    counters: Arc<ReplyCounters>,
    gate: Option<Gate>,
    duplicate_answers: Arc<DuplicateAnswers>,
    /// The turns that several nodes take, and their present members.
    sharing: Option<(Arc<Sharing>, NodesCache)>,
}

/// The rate limit of the XDP program, applied to frames that do not pass through it.
struct Gate {
    settings: Settings,
    /// The token buckets of machines in the spec that have asked. Unknown machines get none, so that they take no memory.
    machines: HashMap<MacAddr, MachineState>,
    begun: Instant,
}

impl Responder {
    /// Creates the packet logic of one worker on an interface. Without XDP in front of it, it limits the rate of each
    /// machine itself.
    #[must_use]
    pub fn new(interface: &Interface, servers: Arc<ArcSwap<Servers>>, behind_xdp: bool, context: &Context) -> Self {
        let gate = Gate { settings: context.settings, machines: HashMap::new(), begun: Instant::now() };
        Self {
            gate: (!behind_xdp).then_some(gate),
            duplicate_answers: Arc::clone(&context.duplicate_answers),
            sharing: context
                .sharing
                .as_ref()
                .map(|sharing| (Arc::clone(sharing), Cache::new(Arc::clone(&sharing.nodes)))),
            mac: interface.mac,
            servers: Cache::new(servers),
            inventory: Arc::clone(&context.inventory),
            policies: Cache::new(Arc::clone(&context.policies)),
            events: context.events.clone(),
            counters: Arc::clone(&context.counters),
        }
    }

    /// Writes the answer to a frame into `reply`. Returns its length and copies, or `None` if the frame is not answered.
    pub fn respond(&mut self, frame: &[u8], reply: &mut [u8]) -> Option<Reply> {
        let read = frame::Headers::parse(frame).and_then(|headers| Ok((client_address(frame, &headers)?, headers)));
        let (mac, headers) = match read {
            Ok(read) => read,
            Err(reason) => return self.counters.refuse(reason),
        };
        // A packet socket receives every frame on the wire, on a bridge or a router also those for other hosts.
        let servers = self.servers.load();
        let reached_us = headers.ethernet_destination.is_group() || headers.ethernet_destination == self.mac;
        if !reached_us || !is_for_us(&headers, |address| servers.are_asked_at(address)) {
            return self.counters.refuse(Counter::OtherServer);
        }
        // Neither case is an error: frames of unknown machines arrive too, and a machine may just have left the spec.
        let inventory = self.inventory.load();
        let machine = inventory.by_mac(mac)?;
        let server = servers.of_site(machine.site.address)?;
        if let Some(gate) = &mut self.gate
            && !gate.admits(mac, Instant::now())
        {
            return self.counters.refuse(Counter::RateLimited);
        }
        // The program in front asks the same, but it knows the VLANs of all machines together.
        if let Some(vlan) = headers.tags.unserved(|vlan| machine.vlans.contains(&vlan)) {
            self.events.send(mac, SystemTime::now(), Origin::Machine, EventKind::OtherVlan { vlan });
            return self.counters.refuse(Counter::OtherVlan);
        }
        if servers.is_taken(machine.address) {
            self.counters.count(&Err(Reason::OurAddress));
            let reason = Reason::OurAddress.text();
            self.events.send(mac, SystemTime::now(), Origin::Machine, EventKind::Ignored { reason });
            return None;
        }
        let disposition = self.policies.load().disposition(machine);

        let now = SystemTime::now();
        let arrival = Arrival {
            source: SocketAddrV4::new(headers.source, headers.source_port),
            destination: SocketAddrV4::new(headers.destination, headers.destination_port),
            sender: headers.ethernet_source,
            at: guard::seconds(now),
        };
        let tags = headers.tags.as_slice();
        let offset = Headers::payload_offset(tags.len());
        let payload = frame.get(headers.payload.clone())?;
        let lookup = |_| Some((machine.as_ref(), disposition));
        let reply_payload = reply.get_mut(offset..)?;
        let outcome = match &mut self.sharing {
            None => dhcp::respond(payload, &arrival, lookup, server, reply_payload),
            Some((sharing, nodes)) => {
                let circumstances = Circumstances { nodes: nodes.load(), machine, server, now };
                let is_ours = |address| servers.are_asked_at(address);
                let turn = |question: &Question<'_>, named| sharing.turn(question, named, &circumstances, is_ours);
                dhcp::respond_among(payload, &arrival, lookup, server, turn, reply_payload)
            }
        };
        self.counters.count(&outcome.verdict);
        for event in outcome.events {
            self.events.send(mac, now, Origin::Machine, event);
        }
        let sent = outcome.verdict.ok()?;
        let ethernet_destination = match sent.route {
            ReplyRoute::Broadcast => MacAddr::BROADCAST,
            ReplyRoute::Hardware { mac, .. } => mac,
            // Back through the router that forwarded the query.
            ReplyRoute::Relay(_) | ReplyRoute::Client(_) | ReplyRoute::Source(_) => headers.ethernet_source,
        };
        let mut tag_bytes = [[0; 4]; 2];
        for (bytes, tag) in tag_bytes.iter_mut().zip(tags) {
            let ([a, b], [c, d]) = (tag.protocol.to_be_bytes(), tag.control.to_be_bytes());
            *bytes = [a, b, c, d];
        }
        let xid = u32::from_be_bytes(*payload.get(4..)?.first_chunk()?);
        let twice = self.duplicate_answers.wants_two(mac, xid, headers.source, sent.message);
        let headers = Headers {
            ethernet_source: self.mac,
            ethernet_destination,
            tags: tag_bytes.get(..tags.len())?,
            source: sent.source,
            destination: sent.route.destination(),
        };
        Some(Reply { length: headers.write(reply, sent.length)?, twice })
    }
}

impl Gate {
    /// Takes a token from a machine's bucket. Returns `false` if the bucket is empty.
    fn admits(&mut self, mac: MacAddr, now: Instant) -> bool {
        let since_begun = now.saturating_duration_since(self.begun);
        let now_ns = u64::try_from(since_begun.as_nanos()).unwrap_or(u64::MAX);
        let state = self.machines.entry(mac).or_default();
        let (after, admitted) = state.take(now_ns, &self.settings);
        *state = after;
        admitted
    }
}
