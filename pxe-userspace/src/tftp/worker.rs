//! A share of the running transfers: one socket, one table, one loop.
//!
//! All transfers of a worker use one socket, hence one port of ours; the client's address and port tell them apart (RFC 1350
//! §4 wants the pair to be unique, no more). So acknowledgements of many clients come in, and blocks for many clients go
//! out, with one system call, and a transfer costs an entry in a table instead of a socket.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::AsFd as _,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant, SystemTime},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pxe_common::MacAddr;
use tokio::runtime::Handle;

use super::{
    admission::Admission,
    blocks::Patience,
    chunks::{Chunks, Cursor},
    files::OpenFiles,
    mailbox::Mailbox,
    metrics::TransferResult,
    server::Context,
    socket::{Inbox, Outbox},
    spin::Spin,
    timers::{Due, Timers},
    transfer::{Action, Outcome, Transfer},
};
use crate::{
    artifacts::OpenArtifact,
    model::{
        event::{ArtifactKind, EventKind, Transport},
        failure::FELL_SILENT,
    },
    net::raw_udp::RawUdp,
};

mod requests;
mod sending;

/// The longest acknowledgement or error that is read whole, in bytes.
const REPLY_LIMIT: usize = 256;
/// How finely timers are kept: well below the shortest wait for an acknowledgement.
const TICK: Duration = Duration::from_millis(50);
/// Batches taken from the socket before timers and new requests have their turn.
const BATCHES_A_TURN: usize = 16;

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
    admission: Admission,
    timers: Timers,
    files: OpenFiles,
    chunks: Chunks,
    serial: u64,
    mailbox: Arc<Mailbox>,
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
    pub(super) mailbox: Arc<Mailbox>,
    /// Whose threads wait for the disk.
    pub(super) disk: Handle,
    /// A way past the IP stack, and the socket's own address.
    pub(super) direct: Option<(RawUdp, SocketAddrV4)>,
}

impl Worker {
    pub(super) fn new(context: Context, parts: Parts) -> Self {
        let Parts { address, socket, probe, limit, mailbox, disk, direct } = parts;
        Self {
            context,
            address,
            socket,
            probe,
            outbox: Outbox::new(direct),
            transfers: HashMap::new(),
            admission: Admission::new(limit),
            timers: Timers::default(),
            files: OpenFiles::default(),
            chunks: Chunks::default(),
            serial: 0,
            mailbox,
            disk,
        }
    }

    /// Serves until the mailbox is closed.
    pub(super) fn run(mut self, messages: &mpsc::Receiver<Message>) {
        let mut inbox = Inbox::new(REPLY_LIMIT);
        let mut spin = Spin::default();
        let mut next_tick = Instant::now();
        while self.mailbox.is_open() {
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
                spin.worked();
            } else if spin.again(now) {
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
            [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN), PollFd::new(self.mailbox.as_fd(), PollFlags::POLLIN)];
        // An error here comes back from the next receive.
        let _ = poll(&mut sources, timeout);
        if sources[1].any().unwrap_or(false) {
            self.mailbox.has_woken();
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
        self.admission.give_back(*client.ip(), machine.is_some());
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
