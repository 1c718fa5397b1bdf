//! Messages to a worker, which may be asleep waiting for datagrams.

use std::{
    net::SocketAddrV4,
    os::fd::{AsFd, BorrowedFd},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::Instant,
};

use nix::{
    errno::Errno,
    sys::eventfd::{EfdFlags, EventFd},
};

use super::key::Key;

/// Messages that may wait for a worker.
const WAITING_LIMIT: usize = 16_384;

/// A message to a worker.
#[derive(Debug)]
pub(super) enum Message {
    /// A datagram came to the listening socket.
    Request {
        /// The client, whose port names the transfer.
        client: SocketAddrV4,
        /// The datagram as it came.
        datagram: Box<[u8]>,
        /// The time at which it came.
        received: Instant,
    },
    /// The blocks that a transfer waits for have been read into the page cache.
    Warmed {
        /// The transfer.
        key: Key,
        /// Tells it from others that had the same key.
        serial: u64,
    },
}

/// The sending side of a worker's queue of messages. Closing it ends the worker.
#[derive(Debug)]
pub(super) struct Mailbox {
    messages: SyncSender<Message>,
    bell: EventFd,
    /// Set when the worker has to end as soon as nothing is under way.
    finishing: AtomicBool,
    closed: AtomicBool,
}

impl Mailbox {
    /// Makes a mailbox and the queue that its worker reads.
    pub(super) fn new() -> Result<(Self, Receiver<Message>), Errno> {
        let (messages, receiver) = sync_channel(WAITING_LIMIT);
        let bell = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok((Self { messages, bell, finishing: AtomicBool::new(false), closed: AtomicBool::new(false) }, receiver))
    }

    /// Leaves a message for the next [`ring`](Self::ring). Returns `false` if there was no room.
    pub(super) fn leave(&self, message: Message) -> bool {
        self.messages.try_send(message).is_ok()
    }

    /// Leaves a message, waiting for room, and wakes the worker.
    pub(super) fn tell(&self, message: Message) {
        if let Err(TrySendError::Full(message)) = self.messages.try_send(message) {
            self.ring();
            // An error means that the worker has ended.
            let _ = self.messages.send(message);
        }
        self.ring();
    }

    /// Wakes the worker.
    pub(super) fn ring(&self) {
        // An error means that the counter is full, so the worker is awake by now.
        let _ = self.bell.write(1);
    }

    /// Ends the worker when its transfers have ended.
    pub(super) fn finish(&self) {
        self.finishing.store(true, Ordering::Release);
        self.ring();
    }

    /// Returns `true` if the worker is to end when its transfers have ended.
    pub(super) fn is_finishing(&self) -> bool {
        self.finishing.load(Ordering::Acquire)
    }

    /// Ends the worker.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.ring();
    }

    /// Returns `false` once the worker is to end.
    pub(super) fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Acquire)
    }

    /// Resets the bell, which the worker has heard.
    pub(super) fn has_woken(&self) {
        // An error means that nobody has rung.
        let _ = self.bell.read();
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
