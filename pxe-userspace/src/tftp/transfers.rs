//! The running transfers of one worker: begun by requests, moved on by datagrams and timers, ended once.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    ops::Range,
    sync::Arc,
    time::{Instant, SystemTime},
};

use pxe_common::MacAddr;
use tokio::runtime::Handle;

use super::{
    admission::Admission,
    blocks::Patience,
    context::Context,
    delivery::{Delivery, End},
    files::OpenFiles,
    mailbox::{Mailbox, Message},
    metrics::{RefusedReason, TransferResult},
    options::Terms,
    packet::{ErrorCode, Packet, Request, error_packet},
    refusal::{Refused, WRITE, open},
    sender::{Flow, Interrupted, Sender},
    timers::{Due, Timers},
    transfer::{Action, Outcome, Repeated, Transfer},
};
use crate::{
    artifacts::OpenArtifact,
    model::{artifact_names::is_optional, event::short_path, failure::FELL_SILENT},
};

/// A running transfer and what belongs to it.
struct Running {
    client: SocketAddrV4,
    transfer: Transfer,
    flow: Flow,
    delivery: Delivery,
    /// The request that began it, as it came.
    request: Box<[u8]>,
    /// Tells it from earlier transfers of the same client.
    serial: u64,
    due: Due,
    /// The blocks that wait for the disk.
    cold: Option<Range<u64>>,
}

/// Why a transfer does not simply go on.
enum Stop {
    /// The disk has to be read first, from here on.
    Read {
        /// In bytes from the beginning of the file.
        offset: u64,
    },
    /// It is over.
    Over(Outcome),
    /// The file cannot be sent, for this reason.
    Unsendable(String),
}

/// The transfers of one worker, by client.
pub(super) struct Transfers {
    context: Context,
    address: Ipv4Addr,
    sender: Sender,
    running: HashMap<SocketAddrV4, Running>,
    admission: Admission,
    timers: Timers,
    files: OpenFiles,
    serial: u64,
    /// Where the disk's threads report to.
    mailbox: Arc<Mailbox>,
    /// The runtime whose threads wait for the disk.
    disk: Handle,
}

/// A read request and who sent it.
struct Asked<'a> {
    now: Instant,
    client: SocketAddrV4,
    machine: Option<MacAddr>,
    request: Request<'a>,
    datagram: &'a [u8],
}

impl Running {
    /// Carries an action out.
    fn perform(&mut self, sender: &mut Sender, action: Action) -> Result<(), Stop> {
        match action {
            Action::Wait => Ok(()),
            Action::SendOptions => {
                sender.send(self.client, &self.transfer.terms().option_acknowledgement());
                Ok(())
            }
            // What waits for the disk will be sent; whatever was asked since, the timer repeats.
            Action::SendBlocks { .. } if self.cold.is_some() => Ok(()),
            Action::SendBlocks { first, count } => {
                self.send_blocks(sender, first..first + u64::from(count), Patience::CacheOnly)
            }
            Action::End(outcome) => Err(Stop::Over(outcome)),
        }
    }

    fn send_blocks(&mut self, sender: &mut Sender, blocks: Range<u64>, patience: Patience) -> Result<(), Stop> {
        let end = blocks.end;
        sender.send_blocks(&mut self.flow, blocks, patience).map_err(|interrupted| match interrupted {
            Interrupted::Cold { first, offset } => {
                self.cold = Some(first..end);
                Stop::Read { offset }
            }
            Interrupted::Unsendable(reason) => Stop::Unsendable(reason),
        })
    }
}

impl Transfers {
    /// Makes an empty table, of which at most `limit` transfers run at once.
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
            admission: Admission::new(limit),
            timers: Timers::default(),
            files: OpenFiles::default(),
            serial: 0,
            mailbox,
            disk,
        }
    }

    /// Returns the socket of all transfers.
    pub(super) fn socket(&self) -> &UdpSocket {
        self.sender.socket()
    }

    /// Returns `true` if another request can be answered without flushing.
    pub(super) fn has_room(&self) -> bool {
        self.sender.has_room()
    }

    /// Sends everything that is queued.
    pub(super) fn flush(&mut self) {
        self.sender.flush();
    }

    /// Returns `true` if no transfer waits for a timer.
    pub(super) fn is_idle(&self) -> bool {
        self.timers.is_empty()
    }

    /// Takes a datagram that came to the socket of all transfers.
    pub(super) fn on_datagram(&mut self, now: Instant, client: SocketAddrV4, datagram: &[u8]) {
        let Some(running) = self.running.get_mut(&client) else {
            self.context.metrics.strays.inc();
            return;
        };
        let action = running.transfer.on_packet(now, datagram);
        self.timers.set(&mut running.due, running.transfer.deadline(), client, running.serial);
        let performed = running.perform(&mut self.sender, action);
        self.settle(now, client, performed);
    }

    /// Looks at the transfers whose timers are due.
    pub(super) fn on_tick(&mut self, now: Instant) {
        while let Some((client, serial, due)) = self.timers.next(now) {
            let is_in_force = |running: &&mut Running| running.serial == serial && running.due == due;
            let Some(running) = self.running.get_mut(&client).filter(is_in_force) else { continue };
            let action = running.transfer.on_timer(now);
            if matches!(action, Action::SendOptions | Action::SendBlocks { .. }) {
                self.context.metrics.timeouts.inc();
                running.flow.avoid_shortcut();
            }
            running.due = Due::default();
            self.timers.set(&mut running.due, running.transfer.deadline(), client, serial);
            let performed = running.perform(&mut self.sender, action);
            self.settle(now, client, performed);
        }
    }

    /// Takes a message from the mailbox.
    pub(super) fn on_message(&mut self, now: Instant, message: Message) {
        match message {
            Message::Request { client, datagram } => self.on_request(now, client, &datagram),
            Message::Warmed { client, serial } => {
                let running = self.running.get_mut(&client).filter(|running| running.serial == serial);
                let Some((running, cold)) = running.and_then(|running| running.cold.take().map(|cold| (running, cold)))
                else {
                    return;
                };
                let performed = running.send_blocks(&mut self.sender, cold, Patience::Disk);
                self.settle(now, client, performed);
            }
        }
    }

    fn on_request(&mut self, now: Instant, client: SocketAddrV4, datagram: &[u8]) {
        if let Some(running) = self.running.get_mut(&client) {
            let repeated =
                if *running.request == *datagram { running.transfer.on_repeated_request(now) } else { Repeated::Anew };
            match repeated {
                Repeated::Again(action) => {
                    let performed = running.perform(&mut self.sender, action);
                    return self.settle(now, client, performed);
                }
                Repeated::Anew => {
                    let end = End::Failed("the client began anew".to_owned());
                    self.end(now, client, TransferResult::restarted, end);
                }
            }
        }
        match Packet::parse(datagram) {
            Ok(Packet::Read(request)) => self.on_read(now, client, request, datagram),
            Ok(Packet::Write { path }) => {
                tracing::debug!(%client, path = %path.escape_ascii(), "TFTP write refused: the server is read-only");
                self.tell_refusal(client, WRITE);
            }
            // Never answered: an error about an error could go on for ever.
            Ok(Packet::Ack(_) | Packet::Error { .. }) | Err(_) => self.context.metrics.refuse(RefusedReason::malformed),
        }
    }

    fn on_read(&mut self, now: Instant, client: SocketAddrV4, request: Request<'_>, datagram: &[u8]) {
        let machine = self.context.inventory.load().by_address(*client.ip()).map(|machine| machine.mac);
        if machine.is_none() {
            self.context.metrics.unknown_clients.inc();
        }
        let asked = Asked { now, client, machine, request, datagram };
        match open(&self.context.store, &asked.request) {
            Err(refused) => self.refuse(&asked, refused),
            Ok(file) if self.admission.take(*client.ip(), machine.is_some()) => self.begin(&asked, file),
            // Silence makes the client ask again, when there may be room.
            Ok(_) => self.context.metrics.refuse(RefusedReason::busy),
        }
    }

    /// Begins the transfer of a file, for which a place was taken.
    fn begin(&mut self, asked: &Asked<'_>, file: OpenArtifact) {
        let &Asked { now, client, machine, ref request, datagram } = asked;
        let terms = Terms::negotiate(request.options, file.length, self.sender.mtu(client));
        let (transfer, action) = Transfer::new(now, terms);
        self.serial += 1;
        let (serial, mut due) = (self.serial, Due::default());
        self.timers.set(&mut due, transfer.deadline(), client, serial);
        let mut running = Running {
            client,
            transfer,
            flow: Flow::new(client, terms, self.files.share(file), SystemTime::now()),
            delivery: Delivery::begin(&self.context.events, now, machine, request.path),
            request: datagram.into(),
            serial,
            due,
            cold: None,
        };
        self.context.metrics.active.inc();
        let performed = running.perform(&mut self.sender, action);
        self.running.insert(client, running);
        self.settle(now, client, performed);
    }

    /// Refuses a read request, and tells everybody.
    fn refuse(&mut self, asked: &Asked<'_>, refused: Refused) {
        let &Asked { now, client, machine, ref request, .. } = asked;
        // Nobody expects these to be there: no reason to worry about the machine, nor a line that holds back another.
        if !(refused.reason == RefusedReason::not_found && is_optional(request.path)) {
            let Context { events, refusals, .. } = &self.context;
            refusals.log(client, machine, &short_path(request.path), refused.text);
            Delivery::begin(events, now, machine, request.path).end(
                events,
                now,
                0,
                End::Failed(refused.text.to_owned()),
            );
        }
        self.tell_refusal(client, refused);
    }

    fn tell_refusal(&mut self, client: SocketAddrV4, refused: Refused) {
        let Refused { reason, code, text } = refused;
        self.context.metrics.refuse(reason);
        self.sender.send(client, &error_packet(code, text));
    }

    /// Does what a transfer calls for that does not simply go on.
    fn settle(&mut self, now: Instant, client: SocketAddrV4, performed: Result<(), Stop>) {
        match performed {
            Ok(()) => {}
            Err(Stop::Read { offset }) => self.read_ahead(client, offset),
            Err(Stop::Over(outcome)) => self.conclude(now, client, outcome),
            Err(Stop::Unsendable(reason)) => {
                self.sender.send(client, &error_packet(ErrorCode::Undefined, &reason));
                self.end(now, client, TransferResult::file_error, End::Failed(reason));
            }
        }
    }

    /// Has another thread wait for the disk.
    fn read_ahead(&self, client: SocketAddrV4, offset: u64) {
        let Some(running) = self.running.get(&client) else { return };
        let (file, serial, mailbox) = (running.flow.file(), running.serial, Arc::clone(&self.mailbox));
        self.disk.spawn_blocking(move || {
            file.read_ahead(offset);
            mailbox.tell(Message::Warmed { client, serial });
        });
    }

    fn conclude(&mut self, now: Instant, client: SocketAddrV4, outcome: Outcome) {
        let (result, end) = match outcome {
            Outcome::Done => (TransferResult::done, End::Done),
            Outcome::Probed => (TransferResult::probed, End::Unwanted),
            Outcome::Aborted { code, message } => {
                let reason = format!("the client broke off with error {code}: {message}");
                (TransferResult::aborted, End::Failed(reason))
            }
            Outcome::Silent => (TransferResult::silent, End::Failed(FELL_SILENT.to_owned())),
            Outcome::LastUnacknowledged => {
                let reason =
                    "the last block was sent but never acknowledged (some firmware does not; harmless if it goes on)";
                (TransferResult::silent, End::Failed(reason.to_owned()))
            }
        };
        self.end(now, client, result, end);
    }

    /// Forgets a transfer, counts it, and tells the journal.
    fn end(&mut self, now: Instant, client: SocketAddrV4, result: TransferResult, end: End) {
        let Some(Running { transfer, delivery, .. }) = self.running.remove(&client) else { return };
        self.admission.give_back(*client.ip(), delivery.is_to_machine());
        let Context { metrics, events, .. } = &self.context;
        let bytes = transfer.bytes_acknowledged();
        metrics.active.dec();
        metrics.end(result);
        metrics.bytes.inc_by(bytes);
        delivery.log(self.address, client, now, bytes, &end);
        delivery.end(events, now, bytes, end);
    }
}
