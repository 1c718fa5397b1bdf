//! How a worker is told things while it sleeps for datagrams.

use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
};

use nix::{
    errno::Errno,
    sys::eventfd::{EfdFlags, EventFd},
};

use super::worker::Message;

/// Messages that may wait for a worker.
const WAITING_LIMIT: usize = 16_384;

/// The way in to a worker, and the sign by which it ends.
#[derive(Debug)]
pub(super) struct Mailbox {
    messages: SyncSender<Message>,
    bell: EventFd,
    closed: AtomicBool,
}

impl Mailbox {
    /// A mailbox, and what the worker reads behind it.
    pub(super) fn new() -> Result<(Self, Receiver<Message>), Errno> {
        let (messages, receiver) = sync_channel(WAITING_LIMIT);
        let bell = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok((Self { messages, bell, closed: AtomicBool::new(false) }, receiver))
    }

    /// Leaves a message for the next [`ring`](Self::ring). Says whether there was room.
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
        // Full means that it is awake by now.
        let _ = self.bell.write(1);
    }

    /// Ends the worker.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.ring();
    }

    /// Whether the worker is to go on.
    pub(super) fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Acquire)
    }

    /// The worker has heard the bell.
    pub(super) fn has_woken(&self) {
        // Empty means that there was no reason.
        let _ = self.bell.read();
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
