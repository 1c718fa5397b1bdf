//! A worker: one thread, one socket, a share of the transfers.
//!
//! All transfers of a worker use one socket, hence one port of ours; the client's address and port tell them apart (RFC 1350
//! §4 wants the pair to be unique, no more). So acknowledgements of many clients come in, and blocks for many clients go
//! out, with one system call, and a transfer costs an entry in a table instead of a socket.

use std::{
    os::fd::AsFd as _,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    mailbox::{Mailbox, Message},
    socket::Inbox,
    spin::Spin,
    transfers::Transfers,
};

/// The longest acknowledgement or error that is read whole, in bytes.
const REPLY_LIMIT: usize = 256;
/// The resolution of timers, well below the shortest wait for an acknowledgement.
const TICK: Duration = Duration::from_millis(50);
/// The batches that are taken from the socket before timers and new requests have their turn.
const BATCHES_A_TURN: usize = 16;

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
        let mut inbox = Inbox::new(REPLY_LIMIT);
        let mut spin = Spin::default();
        let mut next_tick = Instant::now();
        while self.mailbox.is_open() {
            let received = self.receive(&mut inbox);
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
        let sources = [self.transfers.socket().as_fd(), self.mailbox.as_fd()];
        let mut sources = sources.map(|source| PollFd::new(source, PollFlags::POLLIN));
        // The next receive reports any error.
        let _ = poll(&mut sources, timeout);
        if sources[1].any().unwrap_or(false) {
            self.mailbox.has_woken();
        }
    }

    /// Answers the datagrams that have come, up to a limit. Returns `true` if there were any.
    fn receive(&mut self, inbox: &mut Inbox) -> bool {
        for turn in 0..BATCHES_A_TURN {
            if inbox.receive(self.transfers.socket()).is_err() {
                return turn > 0;
            }
            let now = Instant::now();
            for (client, datagram) in (0..inbox.len()).filter_map(|index| inbox.datagram(index)) {
                self.transfers.on_datagram(now, client, datagram);
            }
            self.transfers.flush();
        }
        true
    }
}
