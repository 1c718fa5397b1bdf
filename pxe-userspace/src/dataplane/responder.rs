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
    classify::{BootClient, Sender, is_for_us},
    frame,
};

use super::{
    addressing::Served,
    context::Context,
    counters::ReplyCounters,
    duplicate_answers::{Copies, DuplicateAnswers},
    gate::Gate,
    plan::Answered,
    rate_notes::RateNotes,
    sharing::{Circumstances, Sharing},
};
use crate::{
    capture::{Decision, Point, Verdict},
    dhcp::{self, Arrival, Reason, ReplyRoute, Server, answer::Question, wire::MessageType},
    guard,
    model::{
        event::{EventKind, EventSink},
        inventory::{Inventory, Machine},
        nodes::{Nodes, SharedNodes},
        origin::Origin,
        own_sites::OwnAddress,
        policy_book::PolicyBook,
    },
    net::{
        frame::{Headers, Reply, Second},
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
    rate_notes: RateNotes,
    duplicate_answers: Arc<DuplicateAnswers>,
    /// The turns that several nodes take, and their present members.
    sharing: Option<(Arc<Sharing>, NodesCache)>,
    /// The MAC addresses of relays and routers that are believed.
    trusted_relays: Arc<[MacAddr]>,
    /// Shows the frames to those who capture.
    tap: Point,
    /// The number of frames, for the sample of them whose time is measured.
    frames: u32,
}

/// The latency of one frame in this many is measured.
const SAMPLE: u32 = 64;

impl Responder {
    /// Creates the packet logic of one worker on an interface. Without XDP in front of it, it limits the rate of each
    /// machine itself.
    #[must_use]
    pub fn new(interface: &Interface, servers: Arc<ArcSwap<Servers>>, behind_xdp: bool, context: &Context) -> Self {
        Self {
            gate: (!behind_xdp).then(|| Gate::new(context.settings, Instant::now())),
            rate_notes: RateNotes::default(),
            trusted_relays: Arc::clone(&context.trusted_relays),
            frames: 0,
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
            tap: context.tap.point(interface, behind_xdp),
        }
    }

    /// Writes the answer to a frame into `reply`. Returns its length and copies, or `None` if the frame is not answered. The time of one frame in
    /// [`SAMPLE`] is measured: a clock for each would cost more than counting does.
    pub fn respond(&mut self, frame: &[u8], reply: &mut [u8]) -> Option<Reply> {
        self.frames = self.frames.wrapping_add(1);
        if !self.frames.is_multiple_of(SAMPLE) {
            return self.show(frame, reply);
        }
        let begun = Instant::now();
        let answer = self.show(frame, reply)?;
        self.counters.answered_within(begun.elapsed());
        Some(answer)
    }

    /// Answers a frame, and shows it to those who capture.
    fn show(&mut self, frame: &[u8], reply: &mut [u8]) -> Option<Reply> {
        if !self.tap.is_on() {
            return self.answer(frame, reply, None);
        }
        let mut decision = Decision::default();
        let answer = self.answer(frame, reply, Some(&mut decision));
        self.tap.show(frame, reply, answer, &decision);
        answer
    }

    /// Does the same, and notes the decision for those who capture.
    fn answer(&mut self, frame: &[u8], reply: &mut [u8], mut decision: Option<&mut Decision>) -> Option<Reply> {
        let mut note = |verdict| {
            if let Some(decision) = &mut decision {
                decision.verdict = verdict;
            }
        };
        let read = frame::Headers::parse(frame).and_then(|headers| Ok((BootClient::read(frame, &headers)?, headers)));
        let (BootClient { mac, giaddr }, headers) = match read {
            Ok(read) => read,
            Err(reason) => {
                note(Verdict::Refused(reason));
                return self.counters.refuse(reason);
            }
        };
        // A packet socket receives every frame on the wire, on a bridge or a router also those for other hosts.
        let servers = self.servers.load();
        let reached_us = headers.ethernet_destination.is_group() || headers.ethernet_destination == self.mac;
        if !reached_us || !is_for_us(&headers, |address| servers.are_asked_at(address)) {
            note(Verdict::Refused(Counter::OtherServer));
            return self.counters.refuse(Counter::OtherServer);
        }
        // Neither case is an error: frames of unknown machines arrive too, and a machine may just have left the spec.
        let inventory = self.inventory.load();
        let machine = inventory.by_mac(mac)?;
        note(Verdict::OtherInterface);
        let server = servers.of_site(machine.site.address)?;
        let sender = Sender::of(mac, giaddr, headers.ethernet_source);
        if let Some(gate) = &self.gate
            && let Err(counter) = gate.admit(mac, sender, &inventory, Instant::now())
        {
            note(Verdict::Refused(counter));
            if counter == Counter::RateLimited
                && let Some(event) = self.rate_notes.note(mac, Instant::now())
            {
                self.events.send(mac, SystemTime::now(), Origin::Machine, event);
            }
            return self.counters.refuse(counter);
        }
        let origin = origin(sender, headers.source, machine, server, &self.trusted_relays);
        // The program in front asks the same, but it knows the VLANs of all machines together.
        if let Some(vlan) = headers.tags.unserved(|vlan| machine.vlans.contains(&vlan)) {
            note(Verdict::OtherVlan(vlan));
            self.events.send(mac, SystemTime::now(), origin, EventKind::OtherVlan { vlan });
            return self.counters.refuse(Counter::OtherVlan);
        }
        if servers.is_taken(machine.address) {
            note(Verdict::Silent(Reason::OurAddress));
            self.counters.count(&Err(Reason::OurAddress));
            let reason = Reason::OurAddress.text();
            self.events.send(mac, SystemTime::now(), origin, EventKind::Ignored { reason });
            return None;
        }
        let disposition = self.policies.load().disposition(machine);

        let now = SystemTime::now();
        let arrival = Arrival {
            source: SocketAddrV4::new(headers.source, headers.source_port),
            destination: SocketAddrV4::new(headers.destination, headers.destination_port),
            sender: headers.ethernet_source,
            by_trusted_relay: matches!(sender, Sender::Relay(relay) if self.trusted_relays.contains(&relay)),
            at: guard::seconds(now),
        };
        let tags = headers.tags.as_slice();
        let offset = Headers::payload_offset(tags.len());
        let payload = frame.get(headers.payload.clone())?;
        let lookup = |_| Some((machine.as_ref(), disposition));
        let reply_payload = reply.get_mut(offset..)?;
        let mut outcome = match &mut self.sharing {
            None => dhcp::respond(payload, &arrival, lookup, server, reply_payload),
            Some((sharing, nodes)) => {
                let circumstances = Circumstances { nodes: nodes.load(), machine, server, origin, now };
                let is_ours = |address| servers.are_asked_at(address);
                let turn = |question: &Question<'_>, named| sharing.turn(question, named, &circumstances, is_ours);
                dhcp::respond_among(payload, &arrival, lookup, server, turn, reply_payload)
            }
        };
        // A DHCPNAK would end the exchange of the machine itself, which has not asked for it.
        if matches!(origin, Origin::Other(_)) && outcome.verdict.is_ok_and(|sent| sent.message == MessageType::Nak) {
            outcome.verdict = Err(Reason::FromElsewhere);
        }
        self.counters.count(&outcome.verdict);
        // Nothing of such a message was read, so that it has no event of its own.
        if outcome.mac.is_none()
            && let Err(reason) = outcome.verdict
        {
            let _ = outcome.events.try_push(EventKind::Ignored { reason: reason.text() });
        }
        if let Some(decision) = decision {
            decision.verdict = outcome.verdict.map_or_else(Verdict::Silent, |sent| Verdict::Answered(sent.message));
            decision.events = outcome.events.clone();
            decision.boots = Some((disposition, self.policies.load().policy(machine)));
            decision.origin = origin;
        }
        // What another host sent is one event, whatever it says.
        let counted = if matches!(origin, Origin::Other(_)) { 1 } else { outcome.events.len() };
        for event in outcome.events.into_iter().take(counted) {
            self.events.send(mac, now, origin, event);
        }
        let sent = outcome.verdict.ok()?;
        let ethernet_destination = match sent.route {
            ReplyRoute::Broadcast => MacAddr::BROADCAST,
            ReplyRoute::AllByHardware(mac) | ReplyRoute::Hardware { mac, .. } => mac,
            // Back through the router that forwarded the query.
            ReplyRoute::Relay(_) | ReplyRoute::Client(_) | ReplyRoute::Source(_) => headers.ethernet_source,
        };
        let mut tag_bytes = [[0; 4]; 2];
        for (bytes, tag) in tag_bytes.iter_mut().zip(tags) {
            let ([a, b], [c, d]) = (tag.protocol.to_be_bytes(), tag.control.to_be_bytes());
            *bytes = [a, b, c, d];
        }
        let xid = u32::from_be_bytes(*payload.get(4..)?.first_chunk()?);
        let copies = self.duplicate_answers.copies((mac, origin), xid, headers.source, sent.message);
        let second = match (copies, sent.route) {
            (Copies::One, _) => Second::None,
            (Copies::OneToAll, ReplyRoute::AllByHardware(_) | ReplyRoute::Hardware { .. })
                if headers.ethernet_source == mac && !sent.has_token =>
            {
                Second::ToAll { tags: tags.len() }
            }
            (Copies::Two | Copies::OneToAll, _) => Second::Same,
        };
        let headers = Headers {
            ethernet_source: self.mac,
            ethernet_destination,
            tags: tag_bytes.get(..tags.len())?,
            source: sent.source,
            destination: sent.route.destination(),
        };
        Some(Reply { length: headers.write(reply, sent.length)?, second })
    }
}

/// Returns the origin of a request that names a machine, from its sender on the link and its IPv4 source.
fn origin(sender: Sender, source: Ipv4Addr, machine: &Machine, server: &Server, trusted_relays: &[MacAddr]) -> Origin {
    match sender {
        Sender::Itself => Origin::Machine,
        Sender::Card(card) if machine.macs().any(|mac| mac == card) => Origin::Machine,
        Sender::Card(from) | Sender::Relay(from) if trusted_relays.contains(&from) => Origin::Machine,
        Sender::Relay(relay) => Origin::Relay(relay),
        // A machine behind a relay renews its lease by unicast, which a router brings.
        Sender::Card(router) if source == machine.address && server.networks.holding(source).is_none() => {
            Origin::Relay(router)
        }
        Sender::Card(from) => Origin::Other(from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dhcp::testing::{SERVER, machine, server},
        model::inventory::Machine,
    };

    #[test]
    fn frame_is_the_machines_own_by_the_address_that_it_came_from() {
        let [first, second, other, relay] = [1, 2, 3, 4].map(|last| MacAddr([0x52, 0x54, 0, 0, 9, last]));
        let of = |machine: &Machine, giaddr: Ipv4Addr, source: MacAddr, address: Ipv4Addr| {
            let sender = Sender::of(machine.mac, giaddr, source);
            origin(sender, address, machine, &server(), &[relay])
        };
        let bonded = Machine { mac: first, additional_macs: [second].into(), ..machine() };
        let (nobody, giaddr) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(192, 0, 2, 1));
        for (source, relayed, expected) in [
            (first, nobody, Origin::Machine),
            (second, nobody, Origin::Machine),
            (other, nobody, Origin::Other(other)),
            (other, giaddr, Origin::Relay(other)),
            (first, giaddr, Origin::Relay(first)),
            (relay, giaddr, Origin::Machine),
            (relay, nobody, Origin::Machine),
        ] {
            assert_eq!(of(&bonded, relayed, source, nobody), expected, "{source} by {relayed}");
        }
        // It has its address by now.
        assert_eq!(of(&bonded, nobody, other, bonded.address), Origin::Other(other), "it is on this link");
        let far = Machine { address: Ipv4Addr::new(172, 31, 9, 9), ..bonded };
        assert_eq!(of(&far, nobody, other, far.address), Origin::Relay(other), "a router brings its renewal");
        assert_eq!(of(&far, nobody, other, SERVER), Origin::Other(other));
    }
}
