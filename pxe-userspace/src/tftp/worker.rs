//! A worker: one thread, its ports, a share of the transfers.

use std::{
    os::fd::AsFd as _,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    key::{Key, PortId},
    mailbox::{Mailbox, Message},
    ports::Ready,
    socket::{Inbox, after_error, receive_one},
    spin::Spin,
    transfers::Transfers,
};

/// The longest acknowledgement or error that is read whole, in bytes.
const REPLY_LIMIT: usize = 256;
/// The resolution of timers, well below the shortest wait for an acknowledgement.
const TICK: Duration = Duration::from_millis(50);
/// The datagrams that are taken at a time from a socket that transfers share.
const BATCH: usize = 16;
/// The calls that receive from a socket before an error of it is looked at: its buffer holds about as many datagrams.
const BEFORE_ERROR: usize = 64;
/// The looks at the sockets before timers and new requests have their turn.
const LOOKS_A_TURN: usize = 16;

/// A worker and its transfers.
pub(super) struct Worker {
    mailbox: Arc<Mailbox>,
    transfers: Transfers,
}

impl Worker {
    /// Makes a worker that ends when the mailbox is closed.
    pub(super) fn new(mailbox: Arc<Mailbox>, transfers: Transfers) -> Self {
        Self { mailbox, transfers }
    }

    /// Serves until the mailbox is closed, or until nothing is under way when it is to finish.
    pub(super) fn run(mut self, messages: &mpsc::Receiver<Message>) {
        let (mut space, mut inbox) = ([0; REPLY_LIMIT], Inbox::new(REPLY_LIMIT, BATCH));
        let mut ready = Ready::default();
        let mut spin = Spin::default();
        let mut next_tick = Instant::now();
        while self.mailbox.is_open() {
            let received = self.receive((&mut space, &mut inbox), &mut ready);
            let mut told = false;
            // Requests are taken only while their answers have room.
            while self.transfers.has_room()
                && let Ok(message) = messages.try_recv()
            {
                told = true;
                self.transfers.on_message(Instant::now(), message);
            }
            let now = Instant::now();
            if now >= next_tick {
                next_tick = now + TICK;
                self.transfers.on_tick(now);
            }
            self.transfers.flush();
            if self.mailbox.is_finishing() && !told && !self.transfers.are_running() {
                return;
            }
            if received || told {
                spin.worked();
            } else if spin.again(now) {
                // The client may be running on the same processor.
                thread::yield_now();
            } else {
                self.wait();
            }
        }
    }

    /// Sleeps until a datagram or a message comes, or a timer may be due.
    fn wait(&self) {
        let timeout =
            if self.transfers.is_idle() { PollTimeout::NONE } else { PollTimeout::from(TICK.as_millis() as u16) };
        let sources = [self.transfers.ports().as_fd(), self.mailbox.as_fd()];
        let mut sources = sources.map(|source| PollFd::new(source, PollFlags::POLLIN));
        // The next receive reports any error.
        let _ = poll(&mut sources, timeout);
        if sources[1].any().unwrap_or(false) {
            self.mailbox.has_woken();
        }
    }

    /// Answers the datagrams that have come, up to a limit. Returns `true` if there were any.
    fn receive(&mut self, (space, inbox): (&mut [u8], &mut Inbox), ready: &mut Ready) -> bool {
        for look in 0..LOOKS_A_TURN {
            if !self.transfers.ports().look(ready) {
                return look > 0;
            }
            let now = Instant::now();
            for (port, has_error) in ready.ports() {
                self.receive_at(now, (port, has_error), (space, inbox));
            }
            self.transfers.flush();
        }
        true
    }

    /// Answers what has come to a port. `has_error`: the host of a client has sent an error, too. All that came before it counts first, since a
    /// client that has everything may close its port before its last acknowledgement is read.
    fn receive_at(&mut self, now: Instant, (port, has_error): (PortId, bool), (space, inbox): (&mut [u8], &mut Inbox)) {
        let most = if has_error { BEFORE_ERROR } else { 1 };
        for _ in 0..most {
            if !self.receive_some(now, port, (space, inbox)) {
                break;
            }
        }
        if has_error {
            self.transfers.on_unreachable(now, port);
        }
    }

    /// Answers what is received from a port by one call. Returns `false` if that is nothing.
    fn receive_some(&mut self, now: Instant, port: PortId, (space, inbox): (&mut [u8], &mut Inbox)) -> bool {
        let ports = self.transfers.ports();
        let Some(socket) = ports.socket(port) else { return false };
        if ports.client(port).is_some() {
            let Ok((client, datagram)) = receive_one(socket, space) else { return false };
            self.transfers.on_datagram(now, Key { client, port }, datagram);
            return true;
        }
        let received = after_error(|| inbox.receive(socket)).is_ok();
        if received {
            for (client, datagram) in (0..inbox.len()).filter_map(|index| inbox.datagram(index)) {
                self.transfers.on_datagram(now, Key { client, port }, datagram);
            }
        }
        received
    }
}
