//! One DHCP exchange of one client, from its first DISCOVER to its lease: no I/O, no clock.
//!
//! ```text
//! DISCOVER ──(offers collected until the timer runs out)──► REQUEST ──ACK──► [BOOT SERVER 4011 ──ACK──►] lease
//!    ▲ again, with back-off                                    │ NAK
//!    └─────────────────────────────────────────────────────────┘
//! ```

use std::{net::Ipv4Addr, time::Duration};

use dhcproto::v4::MessageType;
use pxe_common::MacAddr;

use crate::{
    dhcp::Reply,
    firmware::{Client, Purpose},
    report::Again,
};

/// The lease that a client was given, and the boot file that it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) address: Ipv4Addr,
    pub(crate) prefix_length: u8,
    pub(crate) router: Option<Ipv4Addr>,
    pub(crate) server: Ipv4Addr,
    pub(crate) boot_file: Option<String>,
    pub(crate) next_server: Option<Ipv4Addr>,
    pub(crate) dns: Option<Ipv4Addr>,
    pub(crate) hostname: Option<String>,
    pub(crate) domain: Option<String>,
    pub(crate) seconds: Option<u32>,
}

/// An instruction or a message to the owner of an exchange. Texts are empty unless somebody watches.
#[derive(Debug)]
pub(crate) enum Event {
    /// Broadcast this payload.
    Broadcast(Vec<u8>, String),
    /// Send this payload to port 4011 of the boot server. The lease is valid by now.
    ToBootServer(Ipv4Addr, Vec<u8>, String),
    /// The first usable offer came, this long after the first DISCOVER.
    Offered(Duration),
    /// The REQUEST was acknowledged, this long after it was first sent.
    Acknowledged(Duration),
    /// A message was repeated.
    Again(Again),
    /// The machine has this address from now on.
    Bound(Lease),
    /// The exchange is complete.
    Done(Lease),
    /// An answer, or why one was ignored, for people.
    Heard(String),
    /// The exchange failed for this reason.
    Failed(String),
    /// The exchange failed because the server that was chosen fell silent.
    Lost(String),
}

#[derive(Debug)]
enum Phase {
    Discovering,
    Requesting { offer: Reply, server: Ipv4Addr },
    AskingBootServer { server: Ipv4Addr, lease: Lease },
    Over,
}

/// The options of an exchange.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner {
    /// Takes the first usable offer instead of waiting as the firmware does.
    pub(crate) hurry: bool,
    /// Somebody reads the texts, so they must be made.
    pub(crate) watched: bool,
}

/// An exchange.
#[derive(Debug)]
pub(crate) struct Exchange {
    client: Client,
    mac: MacAddr,
    uuid: [u8; 16],
    xid: u32,
    manner: Manner,
    phase: Phase,
    started: Duration,
    /// The time at which the first message of this phase was sent.
    asked: Duration,
    deadline: Duration,
    /// The number of messages sent in this phase.
    attempt: usize,
    /// The number of messages sent altogether.
    sent: usize,
    refusals: u32,
    offers: Vec<Reply>,
    /// The reason that no offer was usable so far.
    complaint: Option<String>,
}

/// The number of offers that EDK2 keeps.
const MAX_OFFERS: usize = 16;
const BOOT_SERVER_WAITS: &[u64] = &[1000, 2000, 4000, 8000];

impl Exchange {
    /// Begins an exchange of the machine with this hardware address and this SMBIOS identifier.
    pub(crate) fn begin(
        now: Duration,
        client: Client,
        (mac, uuid): (MacAddr, [u8; 16]),
        xid: u32,
        manner: Manner,
    ) -> (Self, Vec<Event>) {
        let mut exchange = Self {
            client,
            mac,
            uuid,
            xid,
            manner,
            phase: Phase::Discovering,
            started: now,
            asked: now,
            deadline: now,
            attempt: 0,
            sent: 0,
            refusals: 0,
            offers: Vec::new(),
            complaint: None,
        };
        let events = exchange.transmit(now);
        (exchange, events)
    }

    /// Returns when [`Self::on_timer`] must be called.
    pub(crate) const fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Returns how long each message of this phase waits for its answer, in milliseconds.
    fn waits(&self) -> &'static [u64] {
        match self.phase {
            Phase::Discovering => self.client.timing().discover,
            Phase::Requesting { .. } => self.client.timing().request,
            Phase::AskingBootServer { .. } | Phase::Over => BOOT_SERVER_WAITS,
        }
    }

    fn text(&self, text: impl FnOnce() -> String) -> String {
        if self.manner.watched { text() } else { String::new() }
    }

    fn heard(&self, text: impl FnOnce() -> String) -> Event {
        Event::Heard(self.text(text))
    }

    /// Sends the message of the phase, for the first time or again.
    fn transmit(&mut self, now: Duration) -> Vec<Event> {
        let mut events = Vec::with_capacity(2);
        if self.attempt == 0 {
            self.asked = now;
        } else {
            events.push(Event::Again(match self.phase {
                Phase::Discovering | Phase::Over => Again::Discover,
                Phase::Requesting { .. } => Again::Request,
                Phase::AskingBootServer { .. } => Again::BootServer,
            }));
        }
        events.push(self.message(now));
        events
    }

    /// Makes the message of the phase and starts its timer.
    fn message(&mut self, now: Duration) -> Event {
        let wait = self.waits().get(self.attempt).copied().unwrap_or_default();
        self.deadline = now + Duration::from_millis(wait);
        let purpose = match &self.phase {
            Phase::Requesting { offer, server } => Purpose::Select { server: *server, address: offer.yiaddr },
            Phase::AskingBootServer { lease, .. } => Purpose::BootServer { ciaddr: lease.address },
            Phase::Discovering | Phase::Over => Purpose::Discover,
        };
        let secs = self.client.secs(self.sent, now.saturating_sub(self.started));
        let payload = match self.client.request(purpose, (self.mac, self.uuid), self.xid, secs).encode() {
            Ok(payload) => payload,
            Err(error) => {
                self.phase = Phase::Over;
                return Event::Failed(format!("cannot encode a request: {error}"));
            }
        };
        let again = if self.attempt == 0 { "" } else { " again" };
        self.attempt += 1;
        self.sent += 1;
        let name = self.client.name();
        match (&self.phase, purpose) {
            (Phase::AskingBootServer { server, .. }, _) => {
                let text = self.text(|| format!("{name} REQUEST{again} to boot server {server}:4011"));
                Event::ToBootServer(*server, payload, text)
            }
            (_, Purpose::Select { server, address }) => {
                let text = self.text(|| format!("{name} REQUEST{again} {address} from {server}"));
                Event::Broadcast(payload, text)
            }
            _ => {
                let architecture =
                    || self.client.architecture().map_or_else(String::new, |number| format!(", architecture {number}"));
                let text = self.text(|| format!("{name} DISCOVER{again}{}", architecture()));
                Event::Broadcast(payload, text)
            }
        }
    }

    /// Handles the passing of time.
    pub(crate) fn on_timer(&mut self, now: Duration) -> Vec<Event> {
        if now < self.deadline || matches!(self.phase, Phase::Over) {
            return Vec::new();
        }
        if matches!(self.phase, Phase::Discovering) && now.saturating_sub(self.started) >= self.client.timing().listen {
            let events = self.choose(now);
            if !events.is_empty() {
                return events;
            }
        }
        if self.attempt < self.waits().len() {
            return self.transmit(now);
        }
        let tries = self.attempt;
        let event = match &self.phase {
            Phase::Requesting { server, .. } => {
                Event::Lost(format!("{server} offered, then did not answer {tries} REQUESTs"))
            }
            Phase::AskingBootServer { server, .. } => {
                Event::Lost(format!("boot server {server} did not answer {tries} REQUESTs on port 4011"))
            }
            _ => {
                let silence = || format!("no server answered {tries} DISCOVERs");
                Event::Failed(self.complaint.take().unwrap_or_else(silence))
            }
        };
        self.phase = Phase::Over;
        vec![event]
    }

    /// Handles a reply. One with another hardware address or transaction identifier is ignored.
    pub(crate) fn on_reply(&mut self, now: Duration, reply: &Reply) -> Vec<Event> {
        if reply.xid != self.xid || reply.chaddr != self.mac {
            return Vec::new();
        }
        let kind = reply.message_type;
        match (&self.phase, kind) {
            (Phase::Discovering, Some(MessageType::Offer)) => self.on_offer(now, reply),
            (Phase::Requesting { server, .. }, Some(MessageType::Ack)) => {
                // RFC 2131 §4.3.2: only the server that was chosen answers.
                if reply.server.is_some_and(|address| address != *server) {
                    return vec![self.heard(|| format!("ACK from a server that was not asked: {}", reply.describe()))];
                }
                self.on_acknowledgement(now, reply)
            }
            (Phase::Requesting { .. }, Some(MessageType::Nak)) => {
                let heard = self.heard(|| format!("NAK {}", reply.describe()));
                self.refusals += 1;
                if self.refusals > 2 {
                    self.phase = Phase::Over;
                    return vec![heard, Event::Failed("the server offers an address and then refuses it".to_owned())];
                }
                self.offers.clear();
                self.enter(Phase::Discovering);
                self.started = now;
                std::iter::once(heard).chain(self.transmit(now)).collect()
            }
            (Phase::AskingBootServer { lease, .. }, Some(MessageType::Ack)) => {
                let mut lease = lease.clone();
                lease.boot_file = reply.boot_file.clone();
                lease.next_server = reply.next_server;
                self.phase = Phase::Over;
                vec![self.heard(|| format!("boot server ACK {}", reply.describe())), Event::Done(lease)]
            }
            _ => Vec::new(),
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.attempt = 0;
    }

    fn on_offer(&mut self, now: Duration, reply: &Reply) -> Vec<Event> {
        let is_proxy = reply.yiaddr.is_unspecified();
        let mut events =
            vec![self.heard(|| format!("{}OFFER {}", if is_proxy { "proxy " } else { "" }, reply.describe()))];
        if let Some(complaint) = self.complaint_about(reply) {
            events.push(self.heard(|| format!("offer ignored: {complaint}")));
            self.complaint = Some(format!("no offer is usable: {complaint}"));
            return events;
        }
        let duplicate = |known: &Reply| known.server == reply.server && known.yiaddr == reply.yiaddr;
        if self.offers.is_empty() && !is_proxy {
            events.push(Event::Offered(now.saturating_sub(self.asked)));
        }
        if self.offers.len() < MAX_OFFERS && !self.offers.iter().any(duplicate) {
            self.offers.push(reply.clone());
        }
        // iPXE only waited for the offer of a proxy.
        let is_complete = matches!(self.client, Client::Ipxe(_)) && self.proxy().is_some();
        if self.manner.hurry || self.client.timing().takes_first || is_complete {
            events.extend(self.choose(now));
        }
        events
    }

    /// Returns why this client ignores an offer, or `None` if it does not.
    fn complaint_about(&self, reply: &Reply) -> Option<String> {
        let is_proxy = reply.yiaddr.is_unspecified();
        match self.client {
            _ if reply.server.is_none() => Some("it lacks option 54, the server identifier".to_owned()),
            Client::EdkHttp { .. } if !reply.vendor_class_is("HTTPClient") => {
                Some("UEFI HTTP boot wants option 60 to be HTTPClient".to_owned())
            }
            Client::EdkHttp { .. } if !reply.boot_file.as_ref().is_some_and(|file| file.starts_with("http")) => {
                Some("UEFI HTTP boot wants a URL in option 67".to_owned())
            }
            Client::System if is_proxy => Some("it gives no address".to_owned()),
            _ if is_proxy && !reply.vendor_class_is("PXEClient") => {
                Some("it gives no address, and option 60 is not PXEClient".to_owned())
            }
            _ => None,
        }
    }

    /// Returns the offer of a ProxyDHCP server: it gives no address.
    fn proxy(&self) -> Option<&Reply> {
        self.offers.iter().find(|offer| offer.yiaddr.is_unspecified())
    }

    /// Requests the best of the offers. Returns nothing if no offer will do.
    fn choose(&mut self, now: Duration) -> Vec<Event> {
        let addressed = || self.offers.iter().filter(|offer| !offer.yiaddr.is_unspecified());
        let complete = addressed().find(|offer| offer.boot_file.is_some());
        let is_content = matches!(self.client, Client::System | Client::Ipxe(_)) || self.proxy().is_some();
        let Some(offer) = complete.or_else(|| addressed().next().filter(|_| is_content)).cloned() else {
            if let Some(offer) = addressed().next() {
                let server = offer.server.unwrap_or(Ipv4Addr::UNSPECIFIED);
                self.complaint = Some(format!("{server} offers {} without a boot file", offer.yiaddr));
            }
            return Vec::new();
        };
        let server = offer.server.unwrap_or(offer.siaddr);
        self.enter(Phase::Requesting { offer, server });
        self.transmit(now)
    }

    fn on_acknowledgement(&mut self, now: Duration, reply: &Reply) -> Vec<Event> {
        let Phase::Requesting { offer, server } = &self.phase else { return Vec::new() };
        let took = Event::Acknowledged(now.saturating_sub(self.asked));
        let mut events = vec![self.heard(|| format!("ACK {}", reply.describe())), took];
        if reply.yiaddr != offer.yiaddr {
            let reason = format!("{server} offered {} and acknowledged {}", offer.yiaddr, reply.yiaddr);
            self.phase = Phase::Over;
            events.push(Event::Failed(reason));
            return events;
        }
        let source = if reply.boot_file.is_some() { reply } else { offer };
        let mut lease = Lease {
            address: reply.yiaddr,
            prefix_length: reply.subnet_mask.map_or(24, |mask| mask.to_bits().leading_ones() as u8),
            router: reply.router,
            server: *server,
            boot_file: source.boot_file.clone(),
            next_server: source.next_server,
            dns: reply.dns,
            hostname: reply.host_name.clone(),
            domain: reply.domain_name.clone(),
            seconds: reply.lease_seconds,
        };
        events.push(Event::Bound(lease.clone()));
        if lease.boot_file.is_none()
            && self.client != Client::System
            && let Some(proxy) = self.proxy()
        {
            let is_direct =
                proxy.boot_file.is_some() && (matches!(self.client, Client::Ipxe(_)) || proxy.skips_discovery());
            if !is_direct {
                let server = proxy.server.unwrap_or(proxy.siaddr);
                self.enter(Phase::AskingBootServer { server, lease });
                events.extend(self.transmit(now));
                return events;
            }
            lease.boot_file = proxy.boot_file.clone();
            lease.next_server = proxy.next_server;
        }
        self.phase = Phase::Over;
        events.push(Event::Done(lease));
        events
    }
}
