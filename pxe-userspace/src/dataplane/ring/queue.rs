//! The AF_XDP socket of one receive queue: its memory, its rings, and the loop that waits for frames.
//!
//! The rings hand out frames of a memory area that is shared with the kernel. This file hides that: the [pump](super::pump)
//! sees byte slices.
#![expect(unsafe_code, reason = "the rings hand out frames of a memory area whose lifetime the compiler cannot see")]

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd},
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
    socket::{SocketError, XdpSocket, XdpSocketBuilder},
    umem::{FrameSize, UmemCfgBuilder},
};

use super::{
    ledger::Ledger,
    pump::{Pump, Turn},
    refusal::reason,
    rings::{BATCH, REPLIES, Rings},
};
use crate::net::{frame::Reply, pulse::Pulse};

/// The time for frames to gather after an idle turn, before the loop waits to be woken.
const NAP: Duration = Duration::from_millis(1);

/// Under a flood, the loop checks for `stop` once in this many turns.
const TURNS_WITHOUT_A_LOOK: u64 = 64;

/// The most frames that replies may occupy: a card sends this many in a few milliseconds.
const REPLY_FRAMES: u32 = 4_096;

/// The largest MTU whose frames fit into 2 KiB with the kernel's headroom.
const SMALL_FRAME_MTU: u16 = 1700;

/// An error in opening an AF_XDP socket.
#[derive(Debug, thiserror::Error)]
#[error("queue {queue}: {what}: {reason}")]
pub struct QueueError {
    /// The receive queue.
    pub queue: u32,
    /// The step that failed.
    pub what: &'static str,
    /// The reason that the kernel gave.
    pub reason: String,
    /// Set if the queue has another socket, which may be closing.
    pub busy: bool,
}

/// Returns `true` if the kernel copies no frames of a bound AF_XDP socket.
fn is_zero_copy(socket: RawFd) -> bool {
    let mut options = libc::xdp_options { flags: 0 };
    let mut length = size_of::<libc::xdp_options>() as libc::socklen_t;
    // SAFETY: both pointers are to values of this function, and the second says how many bytes the first one has.
    let answer = unsafe {
        libc::getsockopt(socket, libc::SOL_XDP, libc::XDP_OPTIONS, (&raw mut options).cast(), &raw mut length)
    };
    answer == 0 && options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0
}

/// Counts of the frames that a queue lost.
#[derive(Debug, Default)]
pub struct QueueStats {
    /// Frames for which the receive or the fill ring had no room, from `XDP_STATISTICS`.
    pub overrun: AtomicU64,
    /// Replies that found no free frame.
    pub unsent: AtomicU64,
    /// Set if the card and the socket share memory, so that the kernel copies no frame.
    pub zero_copy: bool,
}

/// An AF_XDP socket bound to one receive queue.
pub struct Queue {
    socket: Socket,
    ledger: Ledger,
    stats: Arc<QueueStats>,
}

struct Socket {
    // Declared first, so that it closes before its memory is freed.
    socket: XdpSocket,
    rx: RxRing,
    tx: WakableTxRing,
    fill: WakableFillRing,
    completion: CompletionRing,
    umem: Umem,
}

impl Queue {
    /// Opens a socket with rings of `depth` frames each way, a power of two, and binds it.
    ///
    /// # Errors
    ///
    /// If the kernel or the driver refuses, for example because `CAP_NET_RAW` is missing. Without `CAP_IPC_LOCK` the memory of all
    /// queues of this user counts against `RLIMIT_MEMLOCK`, which is 8 MiB by default.
    pub fn open(interface_index: u32, mtu: u16, queue: u32, depth: u32) -> Result<Self, QueueError> {
        let failed = |what: &'static str| {
            move |error: &dyn std::fmt::Display| QueueError { queue, what, reason: error.to_string(), busy: false }
        };
        // At most the capacity of the transmit and the completion ring, so that every reply with a frame can be sent.
        let budget = depth.min(REPLY_FRAMES);
        let (frame_size, frame_bytes) =
            if mtu <= SMALL_FRAME_MTU { (FrameSize::TwoK, 2_048) } else { (FrameSize::FourK, 4_096) };
        let frame_count = depth + budget;
        let umem = UmemCfgBuilder { frame_size, frame_count, ..UmemCfgBuilder::default() }
            .build()
            .map_err(|error| failed("planning its memory")(&error))?;
        let umem = Umem::map(umem).map_err(|error| failed("mapping its memory")(&error))?;
        let rings = RingConfigBuilder { rx_count: depth, tx_count: depth, fill_count: depth, completion_count: depth }
            .build()
            .map_err(|error| failed("planning its rings")(&error))?;

        let memory = u64::from(frame_count) * frame_bytes;
        let refused = |what| move |error: SocketError| failed(what)(&reason(&error, memory));
        let mut builder = XdpSocketBuilder::new().map_err(refused("creating an AF_XDP socket"))?;
        let (rings, flags) = builder.build_wakable_rings(&umem, rings).map_err(refused("mapping its rings"))?;
        let (Some(rx), Some(tx)) = (rings.rx_ring, rings.tx_ring) else {
            return Err(failed("mapping its rings")(&"a ring is missing"));
        };
        let (fill, completion) = (rings.fill_ring, rings.completion_ring);
        let socket = builder.bind(NicIndex::new(interface_index), queue, flags).map_err(|error| {
            let busy = matches!(&error, SocketError::Bind(error) if error.kind() == io::ErrorKind::ResourceBusy);
            QueueError { busy, ..refused("binding an AF_XDP socket")(error) }
        })?;
        let mut socket = Socket { socket, rx, tx, fill, completion, umem };
        let mut ledger = Ledger::new(depth as usize, budget as usize);
        ledger.filled(socket.fill(ledger.owed()));
        let stats = QueueStats { zero_copy: is_zero_copy(socket.socket.as_raw_fd()), ..QueueStats::default() };
        Ok(Self { socket, ledger, stats: Arc::new(stats) })
    }

    /// Returns another descriptor of the socket, for the socket maps of XDP programs.
    ///
    /// # Errors
    ///
    /// If the process has no descriptor left.
    pub fn duplicate_fd(&self) -> io::Result<OwnedFd> {
        // SAFETY: the descriptor is the socket's own, which lives as long as `self`.
        unsafe { BorrowedFd::borrow_raw(self.socket.socket.as_raw_fd()) }.try_clone_to_owned()
    }

    /// Returns the counts of lost frames, which [`serve`](Self::serve) keeps up to date.
    #[must_use]
    pub fn stats(&self) -> Arc<QueueStats> {
        Arc::clone(&self.stats)
    }

    /// Answers frames until `stop` becomes readable. `respond` gets a received frame and a buffer for the reply, and returns
    /// the reply's length and copies. `pulse` counts the waits, also those for no time under a flood.
    ///
    /// # Errors
    ///
    /// If waiting fails, which cannot be recovered from.
    pub fn serve(
        &mut self,
        stop: BorrowedFd<'_>,
        pulse: &Pulse,
        mut respond: impl FnMut(&[u8], &mut [u8]) -> Option<Reply>,
    ) -> io::Result<()> {
        let Self { socket, ledger, stats } = self;
        let mut pump = Pump::new(SocketRings::new(socket), ledger);
        let mut turns = 0_u64;
        let mut napped = false;
        loop {
            let Turn { received, lost, kick_pending } = pump.turn(&mut respond);
            if lost > 0 {
                stats.unsent.fetch_add(lost as u64, Ordering::Relaxed);
            }
            turns += 1;
            if received == 0 && !kick_pending && !napped {
                // More frames may follow soon, and a wake-up for each single frame costs more than answering it.
                napped = true;
                thread::sleep(NAP);
                continue;
            }
            napped = false;
            let timeout = match received {
                // Check for `stop` even under a flood.
                1.. if turns.is_multiple_of(TURNS_WITHOUT_A_LOOK) => PollTimeout::ZERO,
                1.. => continue,
                0 if kick_pending => PollTimeout::from(1_u8),
                0 => Pulse::longest_wait(),
            };
            pulse.beat();
            match pump.rings().socket.wait(stop, timeout, stats)? {
                Waited::Woken => {}
                // Nothing came, so nothing more will follow soon.
                Waited::InVain => napped = received == 0,
                Waited::Stopped => return Ok(()),
            }
        }
    }
}

/// The end of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waited {
    Woken,
    InVain,
    Stopped,
}

impl Socket {
    /// Moves free frames to the fill ring. Returns their number.
    fn fill(&mut self, frames: usize) -> usize {
        // SAFETY: the memory area lives in the same value as the socket and is dropped after it. Waking the driver is left to
        // `poll`, which does it when there is nothing else to do.
        unsafe { self.fill.enqueue(&mut self.umem, frames, false) }.unwrap_or(0)
    }

    /// Sleeps until a frame arrives, `stop` becomes readable or the timeout expires.
    fn wait(&self, stop: BorrowedFd<'_>, timeout: PollTimeout, stats: &QueueStats) -> io::Result<Waited> {
        if let Ok(statistics) = self.socket.statistics() {
            // In copy mode, a frame that found the fill ring empty counts as dropped too.
            let unfilled = statistics.rx_dropped.max(statistics.rx_fill_ring_empty_descs);
            stats.overrun.store(statistics.rx_ring_full.saturating_add(unfilled), Ordering::Relaxed);
        }
        // SAFETY: the descriptor is the socket's own, which lives as long as `self`.
        let socket = unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) };
        let mut descriptors = [PollFd::new(socket, PollFlags::POLLIN), PollFd::new(stop, PollFlags::POLLIN)];
        match poll(&mut descriptors, timeout) {
            Ok(_) if descriptors[1].any().unwrap_or(false) => Ok(Waited::Stopped),
            Ok(0) => Ok(Waited::InVain),
            Ok(_) | Err(Errno::EINTR) => Ok(Waited::Woken),
            Err(error) => Err(error.into()),
        }
    }
}

/// The rings with one batch in each direction. They cannot move to another thread.
struct SocketRings<'s> {
    socket: &'s mut Socket,
    incoming: HeapSlab,
    outgoing: HeapSlab,
}

impl<'s> SocketRings<'s> {
    fn new(socket: &'s mut Socket) -> Self {
        let (incoming, outgoing) = (HeapSlab::with_capacity(BATCH), HeapSlab::with_capacity(REPLIES));
        Self { socket, incoming, outgoing }
    }
}

impl Rings for SocketRings<'_> {
    type Frame = Packet;

    fn complete(&mut self) -> usize {
        let Socket { completion, umem, .. } = &mut *self.socket;
        completion.dequeue(umem, u32::MAX as usize)
    }

    fn receive(&mut self) -> usize {
        let Socket { rx, umem, .. } = &mut *self.socket;
        // SAFETY: the pump frees every packet of the slab within its turn, during which the memory area lives.
        unsafe { rx.recv(umem, &mut self.incoming) }
    }

    fn next_received(&mut self) -> Option<Packet> {
        self.incoming.pop_back()
    }

    fn allocate(&mut self) -> Option<Packet> {
        let umem = &mut self.socket.umem;
        // SAFETY: the packet goes to the transmit ring or back to the free list, both of this socket.
        let mut packet = unsafe { umem.alloc() }?;
        let opened = i32::try_from(packet.capacity()).is_ok_and(|room| packet.adjust_tail(room).is_ok());
        if opened {
            Some(packet)
        } else {
            umem.free_packet(packet);
            None
        }
    }

    fn free(&mut self, packet: Packet) {
        self.socket.umem.free_packet(packet);
    }

    fn stage(&mut self, mut packet: Packet, length: usize) -> Result<(), Packet> {
        let cut = packet.len().checked_sub(length).and_then(|cut| i32::try_from(cut).ok());
        if cut.is_none_or(|cut| packet.adjust_tail(-cut).is_err()) {
            return Err(packet);
        }
        self.outgoing.push_front(packet).map_or(Ok(()), Err)
    }

    fn transmit(&mut self) -> usize {
        // SAFETY: the descriptors point into the memory area of this socket, which is dropped after it.
        unsafe { self.socket.tx.send(&mut self.outgoing, false) }.unwrap_or(0)
    }

    fn unstage(&mut self) -> Option<Packet> {
        self.outgoing.pop_back()
    }

    fn fill(&mut self, frames: usize) -> usize {
        self.socket.fill(frames)
    }

    fn kick(&mut self) -> Result<(), Errno> {
        send(self.socket.socket.as_raw_fd(), &[], MsgFlags::MSG_DONTWAIT).map(drop)
    }
}
