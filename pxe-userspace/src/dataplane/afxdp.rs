//! One AF_XDP socket on one receive queue, with the loop that owns its rings.
//!
//! Every frame of the queue's own memory is in exactly one place: the fill ring (the kernel may write into it), the
//! receive ring, the transmit or completion ring, or the free list. [`Queue::serve`] moves frames between them and
//! hands packet logic plain byte slices, so that nothing else needs to know that the memory is shared with the kernel.
#![expect(unsafe_code, reason = "the rings hand out frames of a memory area whose lifetime the compiler cannot see")]

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, send},
};
use xdp::{
    CompletionRing, Packet, RingConfigBuilder, RxRing, Umem, WakableFillRing, WakableTxRing,
    nic::NicIndex,
    slab::{HeapSlab, Slab as _},
    socket::{XdpSocket, XdpSocketBuilder},
    umem::{FrameSize, UmemCfgBuilder},
};

use crate::net::frame::Reply;

/// Packets taken from the ring before their replies are sent.
const BATCH: usize = 64;

/// Replies to them, each of which may be sent twice.
const REPLIES: usize = 2 * BATCH;

/// The kernel sends at most 32 frames of a copy-mode socket for one system call.
const KICKS: usize = REPLIES / 32 + 1;

/// How long the loop lets frames gather after it has answered some, before it waits to be woken: what has come is answered
/// at once, what comes within this time a little later.
const NAP: Duration = Duration::from_millis(1);

/// Batches in a row after which the loop looks whether it is to stop.
const TURNS_WITHOUT_A_LOOK: u64 = 64;

/// Frames that replies may occupy, beside those of the fill ring: what a card sends in a few milliseconds.
const REPLY_FRAMES: u32 = 4_096;

/// The largest MTU whose frames fit into 2 KiB beside the kernel's head room.
const SMALL_FRAME_MTU: u16 = 1700;

/// What an AF_XDP socket could not do.
#[derive(Debug, thiserror::Error)]
#[error("queue {queue}: {what}: {reason}")]
pub struct QueueError {
    /// The receive queue.
    pub queue: u32,
    /// The step that failed.
    pub what: &'static str,
    /// What the kernel said.
    pub reason: String,
}

/// What the kernel dropped before we saw it, from `XDP_STATISTICS`, and what we could not send.
#[derive(Debug, Default)]
pub struct QueueStats {
    /// Frames that found no room in the receive or fill ring.
    pub overrun: AtomicU64,
    /// Replies that found no free frame.
    pub unsent: AtomicU64,
}

/// An AF_XDP socket bound to one receive queue.
pub struct Queue {
    // Declared first, so that it closes before the memory that it was given goes.
    socket: XdpSocket,
    rx: RxRing,
    tx: WakableTxRing,
    fill: WakableFillRing,
    completion: CompletionRing,
    umem: Umem,
    /// Frames that the fill ring lacks.
    owed: usize,
    stats: Arc<QueueStats>,
}

impl Queue {
    /// Opens a socket with rings of `depth` frames each way, a power of two, and binds it.
    ///
    /// # Errors
    ///
    /// When the kernel or the driver refuses; memory for the rings counts against `RLIMIT_MEMLOCK` before kernel 5.11.
    pub fn open(interface_index: u32, mtu: u16, queue: u32, depth: u32) -> Result<Self, QueueError> {
        let failed = |what: &'static str| {
            move |error: &dyn std::fmt::Display| QueueError { queue, what, reason: error.to_string() }
        };
        let frame_size = if mtu <= SMALL_FRAME_MTU { FrameSize::TwoK } else { FrameSize::FourK };
        let umem =
            UmemCfgBuilder { frame_size, frame_count: depth + depth.min(REPLY_FRAMES), ..UmemCfgBuilder::default() }
                .build()
                .map_err(|error| failed("planning its memory")(&error))?;
        let mut umem = Umem::map(umem).map_err(|error| failed("mapping its memory")(&error))?;
        let rings = RingConfigBuilder { rx_count: depth, tx_count: depth, fill_count: depth, completion_count: depth }
            .build()
            .map_err(|error| failed("planning its rings")(&error))?;

        let mut builder = XdpSocketBuilder::new().map_err(|error| failed("creating an AF_XDP socket")(&error))?;
        let (rings, flags) =
            builder.build_wakable_rings(&umem, rings).map_err(|error| failed("mapping its rings")(&error))?;
        let (Some(rx), Some(tx)) = (rings.rx_ring, rings.tx_ring) else {
            return Err(failed("mapping its rings")(&"a ring is missing"));
        };
        let (mut fill, completion) = (rings.fill_ring, rings.completion_ring);
        let socket = builder
            .bind(NicIndex::new(interface_index), queue, flags)
            .map_err(|error| failed("binding an AF_XDP socket")(&error))?;
        // SAFETY: the memory area lives in the same `Queue` as the socket and is dropped after it.
        unsafe { fill.enqueue(&mut umem, depth as usize, true) }.map_err(|error| failed("filling its ring")(&error))?;
        Ok(Self { socket, rx, tx, fill, completion, umem, owed: 0, stats: Arc::default() })
    }

    /// Returns another descriptor of the socket, for the socket maps of XDP programs.
    ///
    /// # Errors
    ///
    /// When there is no descriptor left.
    pub fn duplicate_fd(&self) -> io::Result<OwnedFd> {
        // SAFETY: the descriptor is the socket's own, which lives as long as `self`.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }.try_clone_to_owned()
    }

    /// What this queue lost, for whoever reports it.
    #[must_use]
    pub fn stats(&self) -> Arc<QueueStats> {
        Arc::clone(&self.stats)
    }

    /// Answers frames until `stop` becomes readable. `respond` gets a received frame and a buffer, and returns what
    /// it has written there.
    ///
    /// # Errors
    ///
    /// When waiting fails, which leaves nothing to do.
    pub fn serve(
        &mut self,
        stop: BorrowedFd<'_>,
        mut respond: impl FnMut(&[u8], &mut [u8]) -> Option<Reply>,
    ) -> io::Result<()> {
        let mut incoming = HeapSlab::with_capacity(BATCH);
        let mut outgoing = HeapSlab::with_capacity(REPLIES);
        let mut unkicked = false;
        let mut turns = 0_u64;
        let mut napped = false;
        loop {
            self.completion.dequeue(&mut self.umem, usize::try_from(u32::MAX).unwrap_or(usize::MAX));
            let received = if outgoing.is_empty() {
                // SAFETY: the packets are taken out of the slab below, within the life of the memory area.
                unsafe { self.rx.recv(&self.umem, &mut incoming) }
            } else {
                0
            };
            while let Some(query) = incoming.pop_back() {
                match self.frame() {
                    Some(mut reply) => match respond(&query, &mut reply) {
                        Some(Reply { length, twice }) => {
                            let copy = twice.then(|| self.copy(&reply, length)).flatten();
                            self.send_later(&mut outgoing, reply, length);
                            if let Some(copy) = copy {
                                self.send_later(&mut outgoing, copy, length);
                            }
                        }
                        None => self.umem.free_packet(reply),
                    },
                    None => {
                        self.stats.unsent.fetch_add(1, Ordering::Relaxed);
                    }
                }
                self.umem.free_packet(query);
            }
            self.owed += received;

            if !outgoing.is_empty() {
                // SAFETY: as above; the descriptors point into the memory area of this socket.
                unkicked |= unsafe { self.tx.send(&mut outgoing, false) }.is_ok();
            }
            if unkicked {
                unkicked = !self.kick();
            }
            if self.owed > 0 {
                // SAFETY: the memory area outlives the socket. Waking the driver is left to `poll`, which does it when
                // there is nothing else to do.
                self.owed -= unsafe { self.fill.enqueue(&mut self.umem, self.owed, false) }.unwrap_or(0);
            }
            turns += 1;
            if received == 0 && !unkicked && outgoing.is_empty() && !napped {
                // More may follow soon, and being woken for each frame alone costs more than answering it.
                napped = true;
                thread::sleep(NAP);
                continue;
            }
            napped = false;
            let timeout = match received {
                // A flood must not keep `stop` from being seen.
                1.. if turns.is_multiple_of(TURNS_WITHOUT_A_LOOK) => PollTimeout::ZERO,
                1.. => continue,
                0 if unkicked || !outgoing.is_empty() => PollTimeout::from(1_u8),
                0 => PollTimeout::NONE,
            };
            if !self.wait(stop, timeout)? {
                return Ok(());
            }
        }
    }

    /// A free frame, open to its capacity.
    fn frame(&mut self) -> Option<Packet> {
        // SAFETY: the packet goes to the transmit ring or back to the free list, both of this `Queue`.
        let mut packet = unsafe { self.umem.alloc() }?;
        let opened = i32::try_from(packet.capacity()).is_ok_and(|room| packet.adjust_tail(room).is_ok());
        if opened {
            Some(packet)
        } else {
            self.umem.free_packet(packet);
            None
        }
    }

    /// Another frame that begins with the same bytes. Without a free one there is no second answer.
    fn copy(&mut self, packet: &Packet, length: usize) -> Option<Packet> {
        let mut copy = self.frame()?;
        if let (Some(room), Some(bytes)) = (copy.get_mut(..length), packet.get(..length)) {
            room.copy_from_slice(bytes);
            return Some(copy);
        }
        self.umem.free_packet(copy);
        None
    }

    /// Cuts the frame to the bytes written and puts it where the loop sends from, or frees it.
    fn send_later(&mut self, outgoing: &mut HeapSlab, mut packet: Packet, length: usize) {
        let cut = packet.len().checked_sub(length).and_then(|cut| i32::try_from(cut).ok());
        let is_cut = cut.is_some_and(|cut| packet.adjust_tail(-cut).is_ok());
        let refused = if is_cut { outgoing.push_front(packet) } else { Some(packet) };
        if let Some(refused) = refused {
            self.umem.free_packet(refused);
        }
    }

    /// Asks the kernel to send what the transmit ring holds. Returns whether all of it has gone.
    fn kick(&mut self) -> bool {
        for _ in 0..KICKS {
            match send(self.socket.as_raw_fd(), &[], MsgFlags::MSG_DONTWAIT) {
                Ok(_) => return true,
                // The batch limit, or a full completion ring or device queue: the descriptors stay queued.
                Err(Errno::EAGAIN | Errno::EBUSY | Errno::ENOBUFS) => {
                    self.completion.dequeue(&mut self.umem, BATCH * 2);
                }
                // The interface is down. What is queued goes along with the next reply.
                Err(_) => return true,
            }
        }
        false
    }

    /// Sleeps until a frame arrives or the time is over. Returns false to stop.
    fn wait(&self, stop: BorrowedFd<'_>, timeout: PollTimeout) -> io::Result<bool> {
        if let Ok(statistics) = self.socket.statistics() {
            let overrun = statistics.rx_ring_full.saturating_add(statistics.rx_fill_ring_empty_descs);
            self.stats.overrun.store(overrun.saturating_add(statistics.rx_dropped), Ordering::Relaxed);
        }
        // SAFETY: the descriptor is the socket's own, which lives as long as `self`.
        let socket = unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) };
        let mut descriptors = [PollFd::new(socket, PollFlags::POLLIN), PollFd::new(stop, PollFlags::POLLIN)];
        match poll(&mut descriptors, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(!descriptors[1].any().unwrap_or(false)),
            Err(error) => Err(error.into()),
        }
    }
}
