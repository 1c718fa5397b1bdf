//! The running transfers of one worker: requests begin them, datagrams and timers move them on, and each ends once.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use pxe_common::MacAddr;
use tokio::runtime::Handle;

use super::{
    admission::{Admission, Place, Room},
    allowance::Allowance,
    blocks::Patience,
    context::Context,
    delivery::{Delivery, End},
    disk_queue::{DiskQueue, Read},
    files::OpenFiles,
    generated::{Generated, generate},
    key::{Key, PortId},
    mailbox::{Mailbox, Message},
    metrics::RefusedReason,
    options::Terms,
    packet::{ErrorCode, Packet, Request, TransferMode, error_packet},
    ports::{Ports, SHARED_IN_FLIGHT, SHARED_LIMIT},
    refusal::{Refused, WRITE, open},
    sender::{Flow, Interrupted, Sender},
    timers::{Due, Timers},
    transfer::{Action, Outcome, Repeated, Transfer},
};
use crate::{
    artifacts::OpenArtifact,
    model::{
        artifact_names::{is_optional, without_end_marker},
        event::{Transport, short_path},
        origin::Origin,
        progress::Meter,
    },
};

/// The time without progress after which a transfer makes room for another of the same address, if there is no other way.
const SILENT_AFTER: Duration = Duration::from_secs(15);
/// The time after which a request is not answered any more that has waited for the worker. Clients repeat theirs after a second or more.
const WAITED_TOO_LONG: Duration = Duration::from_secs(1);
/// The latest transfers of a client's port that another request from there is compared with.
const COMPARED: usize = 8;
/// The transfers of a client's port that may run if one of them is not answered. A client needs one or two. It is half of the ports that
/// transfers share, so that one at which a client has no transfer is found at once, whoever sends requests in its name.
const LIMIT_PER_CLIENT: usize = SHARED_LIMIT / 2;

/// A running transfer and its resources.
struct Running {
    key: Key,
    transfer: Transfer,
    flow: Flow,
    delivery: Delivery,
    /// The progress of a transfer to a machine that has answered.
    meter: Option<Meter>,
    /// The request that began it, as it came.
    request: Box<[u8]>,
    /// Tells it from earlier transfers with the same key.
    serial: u64,
    due: Due,
    place: Place,
}

/// An interruption of a transfer.
enum Stop {
    /// The disk has to be read first.
    Read {
        /// The place in the file to read from, in bytes.
        offset: u64,
    },
    /// The transfer is over.
    Over(End),
}

/// The transfers of one worker.
pub(super) struct Transfers {
    context: Context,
    address: Ipv4Addr,
    sender: Sender,
    running: HashMap<Key, Running>,
    /// The transfers of each client's port by age.
    by_client: BTreeMap<(SocketAddrV4, u64), PortId>,
    admission: Admission,
    allowance: Allowance,
    timers: Timers,
    files: OpenFiles,
    serial: u64,
    /// The mailbox to which the disk's threads report.
    mailbox: Arc<Mailbox>,
    /// The runtime whose blocking threads wait for the disk.
    disk: Handle,
    reads: DiskQueue,
}

/// A read request and who sent it.
struct Asked<'a> {
    now: Instant,
    client: SocketAddrV4,
    /// The machine that asks, or whose configuration is asked for.
    machine: Option<MacAddr>,
    /// The client has the address of a machine, whatever it asks for.
    is_machine: bool,
    request: Request<'a>,
    datagram: &'a [u8],
}

impl Running {
    /// Carries an action out. `patience` says whether it may wait for the disk.
    fn perform(&mut self, sender: &mut Sender, action: Action, patience: Patience) -> Result<(), Stop> {
        match action {
            Action::Wait => Ok(()),
            Action::SendOptions => {
                sender.send(self.key, &self.transfer.terms().option_acknowledgement());
                Ok(())
            }
            Action::SendBlocks { first, count } => {
                let blocks = first..first + u64::from(count);
                match sender.send_blocks(&mut self.flow, blocks, patience) {
                    Ok(None) => Ok(()),
                    Ok(Some(last)) => {
                        self.transfer.ends_with(last);
                        Ok(())
                    }
                    Err(Interrupted::Cold { first, offset }) => {
                        self.transfer.withhold(first);
                        Err(Stop::Read { offset })
                    }
                    Err(Interrupted::Unsendable(reason)) => Err(Stop::Over(End::Unsendable(reason))),
                }
            }
            Action::End(outcome) => Err(Stop::Over(End::Transferred(outcome))),
        }
    }
}

impl Transfers {
    /// Makes an empty table for at most `limit` transfers at once.
    pub(super) fn new(
        context: Context,
        address: Ipv4Addr,
        sender: Sender,
        limit: usize,
        (mailbox, disk): (Arc<Mailbox>, Handle),
    ) -> Self {
        Self {
            context,
            address,
            sender,
            running: HashMap::new(),
            by_client: BTreeMap::new(),
            admission: Admission::new(limit),
            allowance: Allowance::default(),
            timers: Timers::default(),
            files: OpenFiles::default(),
            serial: 0,
            mailbox,
            disk,
            reads: DiskQueue::default(),
        }
    }

    /// Returns the ports of the transfers.
    pub(super) fn ports(&self) -> &Ports {
        self.sender.ports()
    }

    /// Returns `true` if another request can be answered without flushing.
    pub(super) fn has_room(&self) -> bool {
        self.sender.has_room()
    }

    /// Sends everything that is queued.
    pub(super) fn flush(&mut self) {
        self.sender.flush();
    }

    /// Returns `true` if a transfer is under way.
    pub(super) fn are_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// Returns `true` if no transfer waits for a timer.
    pub(super) fn is_idle(&self) -> bool {
        self.timers.is_empty()
    }

    /// Handles a datagram that came to one of the ports.
    pub(super) fn on_datagram(&mut self, now: Instant, key: Key, datagram: &[u8]) {
        let Some(running) = self.running.get_mut(&key) else {
            self.context.metrics.strays.inc();
            return;
        };
        let action = running.transfer.on_packet(now, datagram);
        if matches!(action, Action::End(_)) || !running.transfer.is_unanswered() {
            self.admission.answered(&mut running.place);
            if let Some((machine, artifact)) = running.delivery.answered(&self.context.events) {
                let Terms { length, block_size, .. } = *running.transfer.terms();
                let file = (artifact, Transport::Tftp);
                running.meter = self.context.progress.begin(machine, file, (length, block_size.into()), now);
            }
            if let Some(meter) = &running.meter {
                meter.note(running.transfer.bytes_acknowledged(), now);
            }
        }
        self.timers.set(&mut running.due, running.transfer.deadline(), key, running.serial);
        let performed = running.perform(&mut self.sender, action, Patience::CacheOnly);
        self.settle(now, key, performed);
    }

    /// Ends the transfers from this port whose clients do not receive at theirs.
    pub(super) fn on_unreachable(&mut self, now: Instant, port: PortId) {
        for client in self.sender.ports().unreachable_clients(port) {
            self.end(now, Key { client, port }, &End::Transferred(Outcome::Unreachable));
        }
    }

    /// Handles the timers that are due.
    pub(super) fn on_tick(&mut self, now: Instant) {
        while let Some((key, serial)) = self.timers.next(now) {
            let Some(running) = self.running.get_mut(&key) else { continue };
            let action = running.transfer.on_timer(now);
            if matches!(action, Action::SendOptions | Action::SendBlocks { .. }) {
                self.context.metrics.timeouts.inc();
                running.flow.avoid_shortcut();
            }
            running.due = Due::default();
            self.timers.set(&mut running.due, running.transfer.deadline(), key, serial);
            let performed = running.perform(&mut self.sender, action, Patience::CacheOnly);
            self.settle(now, key, performed);
        }
    }

    /// Handles a message from the mailbox.
    pub(super) fn on_message(&mut self, now: Instant, message: Message) {
        match message {
            // Its client has repeated it by now, or will soon. If more come than can be answered, new ones are answered in time.
            Message::Request { received, .. } if now.saturating_duration_since(received) > WAITED_TOO_LONG => {
                self.context.metrics.refuse(RefusedReason::Busy);
            }
            Message::Request { client, datagram, .. } => self.on_request(now, client, &datagram),
            Message::Warmed { key, serial } => {
                self.reads.end();
                self.begin_reads();
                let running = self.running.get_mut(&key).filter(|running| running.serial == serial);
                let Some(running) = running else { return };
                let action = running.transfer.on_readable(now);
                self.timers.set(&mut running.due, running.transfer.deadline(), key, serial);
                let performed = running.perform(&mut self.sender, action, Patience::Disk);
                self.settle(now, key, performed);
            }
        }
    }

    fn on_request(&mut self, now: Instant, client: SocketAddrV4, datagram: &[u8]) {
        match Packet::parse(datagram) {
            Ok(Packet::Read(request)) => {
                if self.make_way(now, client, datagram) {
                    self.on_read(now, client, request, datagram);
                }
            }
            Ok(Packet::Write { path }) => {
                tracing::debug!(%client, path = %path.escape_ascii(), "TFTP write refused: the server is read-only");
                self.tell_refusal(client, WRITE);
            }
            // Never answered: an error about an error could go on for ever.
            Ok(Packet::Ack(_) | Packet::Error { .. }) | Err(_) => self.context.metrics.refuse(RefusedReason::Malformed),
        }
    }

    /// Supersedes the running transfers of a client's port from which a new request comes. Returns `false` if the request only repeats the
    /// one that began a transfer, which then goes on.
    ///
    /// Many clients use the same port for each request, and anybody can forge one. So the request ends no transfer.
    fn make_way(&mut self, now: Instant, client: SocketAddrV4, datagram: &[u8]) -> bool {
        let latest: Vec<_> = self.of_client(client).rev().take(COMPARED).collect();
        for &key in &latest {
            let Some(running) = self.running.get_mut(&key) else { continue };
            if *running.request == *datagram
                && let Repeated::Again(action) = running.transfer.on_repeated_request(now)
            {
                let performed = running.perform(&mut self.sender, action, Patience::CacheOnly);
                self.settle(now, key, performed);
                return false;
            }
        }
        for key in latest {
            let Some(running) = self.running.get_mut(&key) else { continue };
            running.transfer.supersede();
            self.timers.set(&mut running.due, running.transfer.deadline(), key, running.serial);
        }
        true
    }

    fn on_read(&mut self, now: Instant, client: SocketAddrV4, request: Request<'_>, datagram: &[u8]) {
        let machine = self.context.inventory.load().by_address(*client.ip()).map(|machine| machine.mac);
        if machine.is_none() {
            self.context.metrics.unknown_clients.inc();
        }
        let mut asked = Asked { now, client, machine, is_machine: machine.is_some(), request, datagram };
        let mut opened = open(&self.context.store, &asked.request).map(|file| self.files.share(file));
        if let Err(refused) = &opened
            && refused.reason == RefusedReason::NotFound
        {
            opened = self.generate(&mut asked, refused.clone());
        }
        match opened {
            Err(refused) => self.refuse(&asked, refused),
            Ok(file) if self.make_room(&asked) => match self.take_port(&asked) {
                Ok(port) => self.begin(&asked, port, file),
                Err(error) => self.put_off(&asked, &format!("no port is free: {error}")),
            },
            Ok(_) => self.put_off(&asked, "too many transfers are in progress"),
        }
    }

    /// Leaves a request unanswered, for this reason: the client asks again, and there may be room then.
    fn put_off(&self, asked: &Asked<'_>, reason: &str) {
        self.context.metrics.refuse(RefusedReason::Busy);
        self.context.refusals.log(asked.client, asked.machine, &short_path(asked.request.path), reason);
    }

    /// Returns what stands in for a file that the store does not have. The request becomes the machine's whose file it is.
    fn generate(&mut self, asked: &mut Asked<'_>, refused: Refused) -> Result<Arc<OpenArtifact>, Refused> {
        let path = without_end_marker(asked.request.path);
        let Generated { machine, event, file } =
            generate(&self.context, &mut self.files, (self.address, *asked.client.ip()), asked.machine, path, refused);
        asked.machine = machine;
        if let Some((machine, event)) = event
            && self.allowance.admits(asked.now, *asked.client.ip())
        {
            self.context.events.send(machine, SystemTime::now(), Origin::Unanswered, event);
        }
        file
    }

    /// Makes room for another transfer, if need be at the cost of one that was not answered yet. Returns `false` if there is no room.
    fn make_room(&mut self, asked: &Asked<'_>) -> bool {
        loop {
            let is_silent = |key: &Key| {
                let running = self.running.get(key);
                running.is_some_and(|running| {
                    asked.now.saturating_duration_since(running.transfer.last_progress()) >= SILENT_AFTER
                })
            };
            match self.admission.room(*asked.client.ip(), asked.is_machine, is_silent) {
                Room::Free => return true,
                Room::InPlaceOf(oldest) if self.running.contains_key(&oldest) => {
                    self.end(asked.now, oldest, &End::Displaced);
                }
                Room::InPlaceOf(_) | Room::None => return false,
            }
        }
    }

    /// Takes a port at which the client has no transfer yet. If it has many, or one at each port, its oldest that is not answered makes room.
    fn take_port(&mut self, asked: &Asked<'_>) -> io::Result<PortId> {
        let &Asked { now, client, .. } = asked;
        if self.of_client(client).count() >= LIMIT_PER_CLIENT {
            self.displace_unanswered(now, client);
        }
        loop {
            let running = &self.running;
            let is_free = |port| !running.contains_key(&Key { client, port });
            let taken = self.sender.take_port(client, asked.request.options.in_flight(), is_free);
            if taken.is_ok() || !self.displace_unanswered(now, client) {
                return taken;
            }
        }
    }

    /// Returns the transfers of a client's port, the oldest first.
    fn of_client(&self, client: SocketAddrV4) -> impl DoubleEndedIterator<Item = Key> {
        self.by_client.range((client, 0)..=(client, u64::MAX)).map(move |(_, &port)| Key { client, port })
    }

    /// Ends the oldest transfer of a client's port that is not answered. Returns `false` if there is none.
    fn displace_unanswered(&mut self, now: Instant, client: SocketAddrV4) -> bool {
        let is_unanswered = |key: &Key| self.running.get(key).is_some_and(|running| running.transfer.is_unanswered());
        let oldest = self.of_client(client).find(is_unanswered);
        if let Some(key) = oldest {
            self.end(now, key, &End::Displaced);
        }
        oldest.is_some()
    }

    /// Begins the transfer of a file from this port.
    fn begin(&mut self, asked: &Asked<'_>, port: PortId, file: Arc<OpenArtifact>) {
        let &Asked { now, client, machine, is_machine, ref request, datagram } = asked;
        let negotiate =
            if request.mode == TransferMode::Netascii { Terms::negotiate_netascii } else { Terms::negotiate };
        let key = Key { client, port };
        let is_shared = self.ports().client(port).is_none();
        let options = if is_shared { request.options.with_window_within(SHARED_IN_FLIGHT) } else { request.options };
        let terms = negotiate(options, file.length, self.sender.mtu(key));
        let (transfer, action) = Transfer::new(now, terms);
        self.serial += 1;
        let (serial, mut due) = (self.serial, Due::default());
        self.timers.set(&mut due, transfer.deadline(), key, serial);
        let mut running = Running {
            key,
            transfer,
            flow: Flow::new(key, terms, file, SystemTime::now()),
            delivery: Delivery::begin(now, machine, request.path),
            meter: None,
            request: datagram.into(),
            serial,
            due,
            place: self.admission.take(key, serial, is_machine),
        };
        self.context.metrics.active.inc();
        let performed = running.perform(&mut self.sender, action, Patience::CacheOnly);
        self.running.insert(key, running);
        self.by_client.insert((client, serial), port);
        self.settle(now, key, performed);
    }

    /// Refuses a read request: tells the client, the journal, the log and the metrics.
    fn refuse(&mut self, asked: &Asked<'_>, refused: Refused) {
        let &Asked { now, client, machine, ref request, .. } = asked;
        if refused.is_silent() {
            self.context.metrics.refuse(refused.reason);
            // The journal has the event.
            if refused.reason == RefusedReason::Awaited {
                return;
            }
            return self.context.refusals.log(client, machine, &short_path(request.path), &refused.text);
        }
        let is_optional = refused.reason == RefusedReason::NotFound && is_optional(request.path);
        let reason = if is_optional { RefusedReason::Optional } else { refused.reason };
        match reason {
            // Expected: no failure of the machine, and no line that would hold back another.
            RefusedReason::Optional | RefusedReason::Disk => {}
            _ => {
                let Context { events, refusals, store, .. } = &self.context;
                let by_store = refused.by_store.map(|refusal| store.reason(request.path, refusal));
                let text = by_store.as_deref().unwrap_or(&refused.text);
                refusals.log(client, machine, &short_path(request.path), text);
                let delivery = match reason {
                    // The machine itself did not ask.
                    RefusedReason::Source => Delivery::of_another(now, machine, request.path),
                    _ => Delivery::begin(now, machine, request.path),
                };
                if machine.is_some() && self.allowance.admits(now, *client.ip()) {
                    delivery.refuse(events, text);
                }
            }
        }
        self.tell_refusal(client, Refused { reason, ..refused });
    }

    fn tell_refusal(&mut self, client: SocketAddrV4, refused: Refused) {
        let Refused { reason, code, text, by_store: _ } = refused;
        self.context.metrics.refuse(reason);
        self.sender.send(Key { client, port: PortId::REFUSALS }, &error_packet(code, &text));
    }

    /// Handles the interruption of a transfer.
    fn settle(&mut self, now: Instant, key: Key, performed: Result<(), Stop>) {
        match performed {
            Ok(()) => {}
            Err(Stop::Read { offset }) => self.read_ahead(key, offset),
            Err(Stop::Over(end)) => {
                if let Some(message) = end.error_message() {
                    self.sender.send(key, &error_packet(ErrorCode::Undefined, &message));
                }
                self.end(now, key, &end);
            }
        }
    }

    /// Has another thread wait for the disk, now or when it is the transfer's turn.
    fn read_ahead(&mut self, key: Key, offset: u64) {
        let Some(running) = self.running.get(&key) else { return };
        self.reads.push(Read { key, serial: running.serial, offset }, running.place.is_machine());
        self.begin_reads();
    }

    fn begin_reads(&mut self) {
        while let Some(Read { key, serial, offset }) = self.reads.begin() {
            let Some(running) = self.running.get(&key).filter(|running| running.serial == serial) else {
                self.reads.end();
                continue;
            };
            let (file, mailbox) = (running.flow.file(), Arc::clone(&self.mailbox));
            self.disk.spawn_blocking(move || {
                file.read_ahead(offset);
                mailbox.tell(Message::Warmed { key, serial });
            });
        }
    }

    /// Forgets a transfer, counts it, and tells the journal.
    fn end(&mut self, now: Instant, key: Key, end: &End) {
        let Some(Running { transfer, delivery, meter, serial, due, place, .. }) = self.running.remove(&key) else {
            return;
        };
        let client = key.client;
        self.by_client.remove(&(client, serial));
        self.reads.forget(serial);
        self.timers.remove(due, serial);
        self.admission.give_back(&place);
        self.sender.give_back(key.port);
        let Context { metrics, events, .. } = &self.context;
        let bytes = transfer.bytes_acknowledged();
        if let Some(meter) = meter
            && *end == End::Transferred(Outcome::Done)
        {
            meter.complete();
        }
        metrics.active.dec();
        metrics.end(end.result());
        metrics.bytes.inc_by(bytes);
        tracing::debug!(server = %self.address, %client, ?delivery, bytes, ?end, "TFTP transfer ended");
        delivery.end(events, now, bytes, end, || self.allowance.admits(now, *client.ip()));
    }
}
