//! A share of the running transfers: one socket, one table, one loop.
//!
//! All transfers of a worker use one socket, hence one port of ours; the client's address and port tell them apart (RFC 1350
//! §4 wants the pair to be unique, no more). So acknowledgements of many clients come in, and blocks for many clients go
//! out, with one system call, and a transfer costs an entry in a table instead of a socket.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    ops::Range,
    os::fd::AsFd as _,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant, SystemTime},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pxe_common::MacAddr;
use tokio::runtime::Handle;

use super::{
    blocks::{Patience, ReadError, Run},
    chunks::{Chunk, Chunks, Cursor},
    door::Door,
    files::OpenFiles,
    linger::Linger,
    metrics::{RefusedReason, TransferResult},
    options::Terms,
    packet::{ErrorCode, HEADER_LENGTH, Mode, Packet, Request, error_packet},
    places::Places,
    server::Context,
    socket::{Destination, Inbox, Outbox, path_mtu},
    timers::{Due, Timers},
    transfer::{Action, Outcome, Repeated, Transfer},
};
use crate::{
    artifacts::{OpenArtifact, Refusal, is_optional, kind_of},
    dataplane::direct::Direct,
    journal::{
        EventKind,
        event::{ArtifactKind, Transport, short_path},
        failure::{FELL_SILENT, NO_SUCH_FILE, OUTSIDE, UNREADABLE},
    },
};

/// The longest acknowledgement or error that is read whole, in bytes.
const REPLY_LIMIT: usize = 256;
/// How finely timers are kept: well below the shortest wait for an acknowledgement.
const TICK: Duration = Duration::from_millis(50);
/// Batches taken from the socket before timers and new requests have their turn.
const BATCHES_A_TURN: usize = 16;
/// Ethernet's, where the kernel does not tell.
const USUAL_MTU: u16 = 1500;

/// What a worker is told.
#[derive(Debug)]
pub(super) enum Message {
    /// A datagram came to the listening socket.
    Request {
        /// The client, whose port names the transfer.
        client: SocketAddrV4,
        /// As it came.
        datagram: Box<[u8]>,
    },
    /// What a transfer wanted to send is in the page cache now.
    Warmed {
        /// The client.
        client: SocketAddrV4,
        /// The transfer.
        serial: u64,
    },
}

/// How single blocks go to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    /// To be found out.
    Unknown,
    /// As the host's IP stack sees fit.
    Stack,
    /// To this neighbour, past the IP stack.
    Direct(MacAddr),
}

/// A running transfer and what belongs to it.
struct Running {
    transfer: Transfer,
    file: Arc<OpenArtifact>,
    /// Its place in the chunks that are kept of the file, if any are.
    cursor: Option<Cursor>,
    route: Route,
    /// The request that began it, as it came.
    request: Box<[u8]>,
    path: Arc<str>,
    kind: ArtifactKind,
    machine: Option<MacAddr>,
    started: Instant,
    /// Tells it from earlier transfers of the same client.
    serial: u64,
    due: Due,
    /// The blocks that wait for the disk.
    cold: Option<(u64, u16)>,
}

/// One worker.
pub(super) struct Worker {
    context: Context,
    address: Ipv4Addr,
    socket: UdpSocket,
    /// Connected to one client after another, to ask the kernel for the path's MTU.
    probe: UdpSocket,
    outbox: Outbox,
    transfers: HashMap<SocketAddrV4, Running>,
    places: Places,
    timers: Timers,
    files: OpenFiles,
    chunks: Chunks,
    serial: u64,
    door: Arc<Door>,
    disk: Handle,
}

/// What a worker needs of its own.
pub(super) struct Parts {
    pub(super) address: Ipv4Addr,
    pub(super) socket: UdpSocket,
    pub(super) probe: UdpSocket,
    /// How many transfers may run.
    pub(super) limit: usize,
    /// Where it is told things.
    pub(super) door: Arc<Door>,
    /// Whose threads wait for the disk.
    pub(super) disk: Handle,
    /// A way past the IP stack, and the socket's own address.
    pub(super) direct: Option<(Direct, SocketAddrV4)>,
}

impl Worker {
    pub(super) fn new(context: Context, parts: Parts) -> Self {
        let Parts { address, socket, probe, limit, door, disk, direct } = parts;
        Self {
            context,
            address,
            socket,
            probe,
            outbox: Outbox::new(direct),
            transfers: HashMap::new(),
            places: Places::new(limit),
            timers: Timers::default(),
            files: OpenFiles::default(),
            chunks: Chunks::default(),
            serial: 0,
            door,
            disk,
        }
    }

    /// Serves until the door is closed.
    pub(super) fn run(mut self, messages: &mpsc::Receiver<Message>) {
        let mut inbox = Inbox::new(REPLY_LIMIT);
        let mut linger = Linger::default();
        let mut next_tick = Instant::now();
        while self.door.is_open() {
            let received = self.receive(&mut inbox);
            let mut told = false;
            // The next ones when there is room for what they call for.
            while self.outbox.has_room(0)
                && let Ok(message) = messages.try_recv()
            {
                told = true;
                self.on_message(message);
            }
            let now = Instant::now();
            if now >= next_tick {
                next_tick = now + TICK;
                self.on_tick(now);
            }
            self.flush();
            if received || told {
                linger.worked();
            } else if linger.again(now) {
                // Whoever shares the processor may be who is waited for.
                thread::yield_now();
            } else {
                self.wait();
            }
        }
    }

    /// Sleeps until a datagram or a message comes, or a timer may be due.
    fn wait(&self) {
        let timeout =
            if self.timers.is_empty() { PollTimeout::NONE } else { PollTimeout::from(TICK.as_millis() as u16) };
        let mut sources =
            [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN), PollFd::new(self.door.as_fd(), PollFlags::POLLIN)];
        // An error here comes back from the next receive.
        let _ = poll(&mut sources, timeout);
        if sources[1].any().unwrap_or(false) {
            self.door.has_woken();
        }
    }

    fn flush(&mut self) {
        self.outbox.flush(&self.socket);
        let errors = self.outbox.take_errors();
        if errors > 0 {
            self.context.metrics.send_errors.inc_by(errors);
        }
    }

    /// Answers what has come, for a while. Says whether anything had.
    fn receive(&mut self, inbox: &mut Inbox) -> bool {
        for turn in 0..BATCHES_A_TURN {
            if inbox.receive(&self.socket).is_err() {
                return turn > 0;
            }
            let now = Instant::now();
            for index in 0..inbox.len() {
                let Some((client, datagram)) = inbox.datagram(index) else { continue };
                let Some(running) = self.transfers.get_mut(&client) else {
                    self.context.metrics.strays.inc();
                    continue;
                };
                let action = running.transfer.on_packet(now, datagram);
                self.timers.set(&mut running.due, running.transfer.deadline(), client, running.serial);
                self.perform(client, action);
            }
            self.flush();
        }
        true
    }

    fn on_tick(&mut self, now: Instant) {
        while let Some((client, serial, due)) = self.timers.next(now) {
            let is_in_force = |running: &&mut Running| running.serial == serial && running.due == due;
            let Some(running) = self.transfers.get_mut(&client).filter(is_in_force) else { continue };
            let action = running.transfer.on_timer(now);
            if matches!(action, Action::SendOptions | Action::SendBlocks { .. }) {
                self.context.metrics.timeouts.inc();
                // What was lost may have gone astray: the stack asks for the neighbour anew.
                running.route = Route::Stack;
            }
            running.due = Due::default();
            self.timers.set(&mut running.due, running.transfer.deadline(), client, serial);
            self.perform(client, action);
        }
    }

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Request { client, datagram } => self.on_request(client, &datagram),
            Message::Warmed { client, serial } => {
                let running = self.transfers.get_mut(&client).filter(|running| running.serial == serial);
                if let Some((first, count)) = running.and_then(|running| running.cold.take()) {
                    self.send_blocks(client, first, count, Patience::Disk);
                }
            }
        }
    }

    fn on_request(&mut self, client: SocketAddrV4, datagram: &[u8]) {
        let now = Instant::now();
        if let Some(running) = self.transfers.get_mut(&client) {
            let repeated =
                if *running.request == *datagram { running.transfer.on_repeated_request(now) } else { Repeated::Anew };
            match repeated {
                Repeated::Again(action) => return self.perform(client, action),
                Repeated::Anew => self.end(client, TransferResult::restarted, Some("the client began anew")),
            }
        }
        match Packet::parse(datagram) {
            Ok(Packet::Read(request)) => self.on_read(now, client, &request, datagram),
            Ok(Packet::Write { path }) => {
                tracing::debug!(%client, path = %path.escape_ascii(), "TFTP write refused: the server is read-only");
                self.refuse(client, RefusedReason::write, ErrorCode::AccessViolation, "this server is read-only");
            }
            // Never answered: an error about an error could go on for ever.
            Ok(Packet::Ack(_) | Packet::Error { .. }) | Err(_) => self.context.metrics.refuse(RefusedReason::malformed),
        }
    }

    fn on_read(&mut self, now: Instant, client: SocketAddrV4, request: &Request<'_>, datagram: &[u8]) {
        let machine = self.context.inventory.load().by_address(*client.ip()).map(|machine| machine.mac);
        if machine.is_none() {
            self.context.metrics.unknown_clients.inc();
        }
        let path = short_path(request.path);
        let kind = kind_of(request.path);
        let opened = if request.mode == Mode::Other { None } else { Some(self.context.store.open(request.path)) };
        let refusal = match opened {
            Some(Ok(_)) if !self.places.take(*client.ip(), machine.is_some()) => {
                // Silence makes the client ask again, when there may be room.
                return self.context.metrics.refuse(RefusedReason::busy);
            }
            Some(Ok(file)) => {
                let terms = Terms::negotiate(request.options, file.length, self.mtu(client));
                let (transfer, action) = Transfer::new(now, terms);
                self.serial += 1;
                let serial = self.serial;
                let mut due = Due::default();
                self.timers.set(&mut due, transfer.deadline(), client, serial);
                // Of windows, each a send of many datagrams, the stack's share is small.
                let route = if terms.window == 1 { Route::Unknown } else { Route::Stack };
                let cursor = Cursor::new(&file, &terms, SystemTime::now());
                let (request, file) = (datagram.into(), self.files.share(file));
                let path = Arc::clone(&path);
                self.event(
                    machine,
                    EventKind::Requested { artifact: kind, transport: Transport::Tftp, path: Arc::clone(&path) },
                );
                let running = Running {
                    transfer,
                    file,
                    cursor,
                    route,
                    request,
                    path,
                    kind,
                    machine,
                    started: now,
                    serial,
                    due,
                    cold: None,
                };
                self.transfers.insert(client, running);
                self.context.metrics.active.inc();
                return self.perform(client, action);
            }
            None => Refused {
                reason: RefusedReason::mode,
                code: ErrorCode::IllegalOperation,
                text: "only mode octet is served",
            },
            Some(Err(refusal)) => refusal.into(),
        };
        let Refused { reason, code, text } = refusal;
        // Nobody expects these to be there: no reason to worry about the machine, nor a line that holds back another.
        if !(reason == RefusedReason::not_found && is_optional(request.path)) {
            self.context.refusals.log(client, machine, &path, text);
            let requested =
                EventKind::Requested { artifact: kind, transport: Transport::Tftp, path: Arc::clone(&path) };
            self.event(machine, requested);
            let (transport, reason) = (Transport::Tftp, text.into());
            self.event(machine, EventKind::Failed { artifact: kind, transport, path, bytes: 0, reason });
        }
        self.refuse(client, reason, code, text);
    }

    fn mtu(&self, client: SocketAddrV4) -> u16 {
        path_mtu(&self.probe, client).unwrap_or(USUAL_MTU)
    }

    fn refuse(&mut self, client: SocketAddrV4, reason: RefusedReason, code: ErrorCode, text: &str) {
        self.context.metrics.refuse(reason);
        self.send(client, &error_packet(code, text));
    }

    fn perform(&mut self, client: SocketAddrV4, action: Action) {
        match action {
            Action::Wait => {}
            Action::SendOptions => {
                let Some(running) = self.transfers.get(&client) else { return };
                let packet = running.transfer.terms().option_acknowledgement();
                self.send(client, &packet);
            }
            Action::SendBlocks { first, count } => self.send_blocks(client, first, count, Patience::CacheOnly),
            Action::End(outcome) => self.conclude(client, &outcome),
        }
    }

    fn send(&mut self, client: SocketAddrV4, packet: &[u8]) {
        if !self.outbox.has_room(packet.len()) {
            self.flush();
        }
        if let Some(space) = self.outbox.space(packet.len()).get_mut(..packet.len()) {
            space.copy_from_slice(packet);
            self.outbox.push(client.into(), packet.len(), packet.len());
        }
    }

    fn send_blocks(&mut self, client: SocketAddrV4, first: u64, count: u16, patience: Patience) {
        let Some(running) = self.transfers.get_mut(&client) else { return };
        if running.cold.is_some() {
            // What waits for the disk will be sent; whatever was asked since, the timer repeats.
            return;
        }
        let (terms, file) = (*running.transfer.terms(), Arc::clone(&running.file));
        let end = first + u64::from(count);
        if end > terms.blocks() && !file.is_unchanged() {
            return self.break_off(client, "the file changed while it was sent");
        }
        let mut next = first;
        while next < end {
            if !self.outbox.has_room(0) {
                self.flush();
            }
            match self.queue_blocks(client, &terms, &file, next..end, patience) {
                Ok(queued) => next += queued as u64,
                Err(ReadError::Cold) => {
                    return self.warm(client, next, (end - next) as u16, Run::new(&terms, next, 1).offset());
                }
                Err(ReadError::Shrunk) => return self.break_off(client, "the file shrank while it was sent"),
                Err(ReadError::Io(error)) => return self.break_off(client, &format!("{UNREADABLE}: {error}")),
            }
        }
    }

    /// Queues as many of these blocks as go into one send, and says how many.
    fn queue_blocks(
        &mut self,
        client: SocketAddrV4,
        terms: &Terms,
        file: &OpenArtifact,
        blocks: Range<u64>,
        patience: Patience,
    ) -> Result<usize, ReadError> {
        let datagram = HEADER_LENGTH + usize::from(terms.block_size);
        let Some(running) = self.transfers.get_mut(&client) else { return Ok((blocks.end - blocks.start) as usize) };
        if running.route == Route::Unknown {
            running.route = self.outbox.neighbour(&self.probe, client).map_or(Route::Stack, Route::Direct);
        }
        let mac = if let Route::Direct(mac) = running.route { Some(mac) } else { None };
        let to = Destination { client, mac };
        let mut count = Outbox::segments(datagram).min((blocks.end - blocks.start) as usize);
        if let Some(cursor) = &mut running.cursor {
            let piece = cursor.piece(terms, blocks.start, blocks.end);
            let mut chunk = cursor.find(&self.chunks, terms, &piece);
            if chunk.is_none() && piece.begins_chunk() {
                let run = Run::new(terms, piece.chunk_start, piece.chunk_blocks);
                let mut bytes = vec![0; run.length()];
                run.read(&file.file, &mut bytes, patience)?;
                chunk = Some(self.chunks.keep(cursor.key(terms, &piece), Chunk(bytes)));
            }
            if let Some(chunk) = chunk {
                let range = piece.range(&chunk, datagram);
                self.outbox.push_chunk(to, chunk, range, datagram);
                return Ok(piece.count);
            }
            count = piece.count;
        }
        let run = Run::new(terms, blocks.start, count);
        if !self.outbox.has_room(run.length()) {
            self.flush();
        }
        run.read(&file.file, self.outbox.space(run.length()), patience)?;
        self.outbox.push(to, run.length(), datagram);
        Ok(count)
    }

    /// Has somebody else wait for the disk.
    fn warm(&mut self, client: SocketAddrV4, first: u64, count: u16, offset: u64) {
        let Some(running) = self.transfers.get_mut(&client) else { return };
        running.cold = Some((first, count));
        let (file, serial, door) = (Arc::clone(&running.file), running.serial, Arc::clone(&self.door));
        self.disk.spawn_blocking(move || {
            file.read_ahead(offset);
            door.tell(Message::Warmed { client, serial });
        });
    }

    /// Tells the client that its transfer is over, and why.
    fn break_off(&mut self, client: SocketAddrV4, reason: &str) {
        self.end(client, TransferResult::file_error, Some(reason));
        self.send(client, &error_packet(ErrorCode::Undefined, reason));
    }

    fn conclude(&mut self, client: SocketAddrV4, outcome: &Outcome) {
        match outcome {
            Outcome::Done => self.end(client, TransferResult::done, None),
            Outcome::Probed => self.end(client, TransferResult::probed, None),
            Outcome::Aborted { code, message } => {
                let reason = format!("the client broke off with error {code}: {message}");
                self.end(client, TransferResult::aborted, Some(&reason));
            }
            Outcome::Silent => self.end(client, TransferResult::silent, Some(FELL_SILENT)),
            Outcome::LastUnacknowledged => {
                let reason =
                    "the last block was sent but never acknowledged (some firmware does not; harmless if it goes on)";
                self.end(client, TransferResult::silent, Some(reason));
            }
        }
    }

    /// Forgets a transfer, counts it, and tells the journal: of a failure where there is a reason.
    fn end(&mut self, client: SocketAddrV4, result: TransferResult, failure: Option<&str>) {
        let Some(running) = self.transfers.remove(&client) else { return };
        let Running { transfer, path, kind: artifact, machine, started, .. } = running;
        self.places.give_back(*client.ip(), machine.is_some());
        let metrics = &self.context.metrics;
        metrics.active.dec();
        metrics.end(result);
        let (bytes, took, transport) = (transfer.bytes_acknowledged(), started.elapsed(), Transport::Tftp);
        metrics.bytes.inc_by(bytes);
        tracing::debug!(server = %self.address, %client, %path, bytes, ?took, ?result, failure, "TFTP transfer ended");
        match failure {
            Some(reason) => {
                self.event(machine, EventKind::Failed { artifact, transport, path, bytes, reason: reason.into() });
            }
            None if result == TransferResult::done => {
                self.event(machine, EventKind::Done { artifact, transport, path, bytes, took });
            }
            None => {}
        }
    }

    fn event(&self, machine: Option<MacAddr>, kind: EventKind) {
        if let Some(mac) = machine {
            self.context.events.send(mac, SystemTime::now(), kind);
        }
    }
}

/// How a refusal is told.
struct Refused {
    reason: RefusedReason,
    code: ErrorCode,
    text: &'static str,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let (reason, code, text) = match refusal {
            Refusal::NotFound => (RefusedReason::not_found, ErrorCode::NotFound, NO_SUCH_FILE),
            Refusal::Outside => (RefusedReason::outside, ErrorCode::AccessViolation, OUTSIDE),
            Refusal::Unreadable => (RefusedReason::unreadable, ErrorCode::AccessViolation, UNREADABLE),
        };
        Self { reason, code, text }
    }
}
