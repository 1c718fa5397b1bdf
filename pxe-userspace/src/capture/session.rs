//! One capture: its machine, its bounded queue, and its counts.

use std::{
    io,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use pxe_common::{Headers, MacAddr, classify::BootClient, layout};
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::record::Record;

/// The captures at the same time.
pub(super) const MOST_CAPTURES: usize = 4;
/// The network cards that are captured at the same time.
pub(super) const MOST_CARDS: usize = layout::TRACED_CAPACITY as usize;
/// The frames that wait to be written, and their bytes.
const MOST_RECORDS: usize = 16_384;
const MOST_BYTES: usize = 8 << 20;
/// The bytes that a frame takes besides its own.
const OVERHEAD: usize = 128;

/// The machine of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The MAC addresses of its cards; at least one.
    pub macs: Arc<[MacAddr]>,
    /// Its address, if the spec has it.
    pub address: Option<Ipv4Addr>,
}

impl Target {
    /// Returns `true` if a frame with a DHCP request names the machine, or comes from one of its cards and names none.
    fn is_in(&self, frame: &[u8]) -> bool {
        let read = |headers| BootClient::read(frame, &headers).map(|client| client.mac);
        let mac = Headers::parse(frame).and_then(read).ok();
        let mac = mac.or_else(|| Some(MacAddr(*frame.get(6..)?.first_chunk()?)));
        mac.is_some_and(|mac| self.macs.contains(&mac))
    }
}

/// A capture cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There are too many.
    #[error("{MOST_CAPTURES} captures run already; end one (Ctrl-C in its `pxed capture`)")]
    TooMany,
    /// The machines have too many cards together.
    #[error(
        "the captured machines have {0} network cards together, and at most {MOST_CARDS} can be captured at once; end another capture"
    )]
    TooManyCards(usize),
    /// An interface cannot be observed.
    #[error("interface {interface}: cannot open a packet socket: {error}")]
    Observer {
        /// The interface.
        interface: String,
        /// The kernel's error.
        error: io::Error,
    },
    /// The kernel refuses a thread.
    #[error("cannot start the thread of a capture: {0}")]
    Thread(io::Error),
}

/// The side of a capture that takes frames.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) target: Target,
    sender: Sender<Record>,
    /// The bytes in the queue.
    waiting: AtomicUsize,
    taken: AtomicU64,
    dropped: AtomicU64,
    ended: AtomicBool,
}

impl Session {
    /// Returns the capture of a machine, and the end of its queue.
    pub(super) fn of(target: Target) -> (Arc<Self>, Receiver<Record>) {
        let (sender, receiver) = mpsc::channel(MOST_RECORDS);
        let (waiting, taken, dropped, ended) = Default::default();
        (Arc::new(Self { target, sender, waiting, taken, dropped, ended }), receiver)
    }

    /// Returns `true` if a frame with a DHCP request belongs to the capture.
    pub(super) fn wants(&self, frame: &[u8]) -> bool {
        self.target.is_in(frame)
    }

    /// Queues a frame. It never waits: a frame without room is counted and dropped.
    pub(super) fn offer(&self, record: Record) {
        let bytes = size_of_record(&record);
        let has_room = self.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes <= MOST_BYTES;
        if has_room && self.sender.try_send(record).is_ok() {
            self.taken.fetch_add(1, Ordering::Relaxed);
        } else {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts frames that were lost on the way here.
    pub(super) fn lost(&self, frames: u64) {
        self.dropped.fetch_add(frames, Ordering::Relaxed);
    }

    /// Makes room for as much as a frame that has left the queue.
    pub(super) fn left(&self, record: &Record) {
        self.waiting.fetch_sub(size_of_record(record), Ordering::Relaxed);
    }

    /// Returns the number of frames that were taken, and of those that were dropped.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.taken.load(Ordering::Relaxed), self.dropped.load(Ordering::Relaxed))
    }

    /// Lets its thread end.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

/// Returns the bytes that a frame takes in the queue.
fn size_of_record(record: &Record) -> usize {
    record.bytes.len() + record.comment.len() + OVERHEAD
}

#[cfg(test)]
mod tests;
