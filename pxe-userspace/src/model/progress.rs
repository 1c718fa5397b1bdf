//! The progress of transfers, published by those who send and read by those who explain. Nobody waits for anybody: a transfer owns a slot of a
//! table of fixed size and stores into it, and a reader takes what it finds.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
            fence,
        },
    },
    time::{Duration, Instant, SystemTime},
};

use pxe_common::MacAddr;

use super::event::{ArtifactKind, Transport};

/// The most slots of a board. More transfers at once have no progress to show.
const SLOT_LIMIT: usize = 16_384;
/// The slots in a row in which a machine's transfers are looked for.
const NEIGHBOURS: usize = 16;

/// A key that says that somebody writes into the slot.
const BUSY: u64 = 1;
const USED: u64 = 1 << 1;
/// The transfer runs. A slot without it keeps the progress of a transfer that broke off, until another needs the slot.
const LIVE: u64 = 1 << 2;
const HTTP: u64 = 1 << 3;
const ARTIFACT_SHIFT: u32 = 4;
const MAC_SHIFT: u32 = 16;

/// The progress of one transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The kind of file.
    pub artifact: ArtifactKind,
    /// The protocol.
    pub transport: Transport,
    /// The bytes that the machine has acknowledged.
    pub done: u64,
    /// The length of the file.
    pub total: u64,
    /// The bytes of file in one packet by TFTP; 0 by HTTP, where TCP decides.
    pub block: u32,
    /// The time at which the transfer began.
    pub since: SystemTime,
    /// The time at which the machine last acknowledged more of it.
    pub advanced: SystemTime,
    /// The transfer runs; otherwise it broke off.
    pub is_running: bool,
}

/// One transfer's place on the board. Its owner alone writes into it, except for the key, which is claimed by comparison.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Slot {
    key: AtomicU64,
    done: AtomicU64,
    total: AtomicU64,
    /// Milliseconds since the board was made, as the next one.
    since: AtomicU64,
    advanced: AtomicU64,
    block: AtomicU32,
}

/// The progress of all transfers.
#[derive(Debug)]
pub struct ProgressBoard {
    slots: Box<[Slot]>,
    made: (Instant, SystemTime),
}

/// The files whose progress is of interest: the large ones.
const SHOWN: [ArtifactKind; 4] =
    [ArtifactKind::Loader, ArtifactKind::Kernel, ArtifactKind::Initramfs, ArtifactKind::Uki];

impl ProgressBoard {
    /// Makes a board for about this many transfers at once.
    #[must_use]
    pub fn new(transfers: usize) -> Self {
        let slots = transfers.clamp(NEIGHBOURS, SLOT_LIMIT).next_power_of_two();
        Self {
            slots: std::iter::repeat_with(Slot::default).take(slots).collect(),
            made: (Instant::now(), SystemTime::now()),
        }
    }

    /// Begins to publish a transfer to a machine. Returns `None` for a small file, and if the board is full.
    #[must_use]
    pub fn begin(
        self: &Arc<Self>,
        mac: MacAddr,
        (artifact, transport): (ArtifactKind, Transport),
        (total, block): (u64, u32),
        now: Instant,
    ) -> Option<Meter> {
        let number = SHOWN.iter().position(|&shown| shown == artifact)? as u64;
        let is_http = if transport == Transport::Http { HTTP } else { 0 };
        let key = key_of(mac) | number << ARTIFACT_SHIFT | is_http | USED | LIVE;
        let place = self.claim(mac)?;
        let Slot { key: slot_key, done, total: slot_total, since, advanced, block: slot_block } =
            self.slots.get(place)?;
        // A reader that sees one of these sees that the slot is busy, too.
        fence(Release);
        done.store(0, Relaxed);
        slot_total.store(total, Relaxed);
        slot_block.store(block, Relaxed);
        since.store(self.millis(now), Relaxed);
        advanced.store(self.millis(now), Relaxed);
        slot_key.store(key, Release);
        Some(Meter { board: Arc::clone(self), place, key })
    }

    /// Returns the progress of the machine's transfer that advanced last: of one that runs, or else of one that broke off.
    #[must_use]
    pub fn of(&self, mac: MacAddr) -> Option<Progress> {
        self.places(mac).filter_map(|place| self.read(place, mac)).max_by_key(|read| (read.is_running, read.advanced))
    }

    /// Takes a slot for a machine: the one of its own earlier transfer, or a free one, or another's whose transfer is over. The slot is busy
    /// then.
    fn claim(&self, mac: MacAddr) -> Option<usize> {
        let is_own = |key: u64| key & USED != 0 && key >> MAC_SHIFT == key_of(mac) >> MAC_SHIFT;
        let claimable: [&dyn Fn(u64) -> bool; 3] = [&is_own, &|key| key == 0, &|_| true];
        for may_have in claimable {
            for place in self.places(mac) {
                let Some(Slot { key: slot_key, .. }) = self.slots.get(place) else { continue };
                let key = slot_key.load(Relaxed);
                if key & (LIVE | BUSY) == 0
                    && may_have(key)
                    && slot_key.compare_exchange(key, BUSY, Acquire, Relaxed).is_ok()
                {
                    return Some(place);
                }
            }
        }
        None
    }

    /// Returns the slots in which transfers of a machine are.
    fn places(&self, mac: MacAddr) -> impl Iterator<Item = usize> + use<> {
        let mask = self.slots.len() - 1;
        // Fibonacci hashing: MAC addresses of a fleet differ in their last bits.
        let first = ((key_of(mac) >> MAC_SHIFT).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize;
        (0..NEIGHBOURS).map(move |step| (first + step) & mask)
    }

    fn read(&self, place: usize, mac: MacAddr) -> Option<Progress> {
        let slot = self.slots.get(place)?;
        let key = slot.key.load(Acquire);
        if key & USED == 0 || key >> MAC_SHIFT != key_of(mac) >> MAC_SHIFT {
            return None;
        }
        let progress = Progress {
            artifact: *SHOWN.get((key >> ARTIFACT_SHIFT) as usize & (SHOWN.len() - 1))?,
            transport: if key & HTTP == 0 { Transport::Tftp } else { Transport::Http },
            done: slot.done.load(Relaxed),
            total: slot.total.load(Relaxed),
            block: slot.block.load(Relaxed),
            since: self.time(slot.since.load(Relaxed)),
            advanced: self.time(slot.advanced.load(Relaxed)),
            is_running: key & LIVE != 0,
        };
        // Another transfer may have taken the slot meanwhile.
        fence(Acquire);
        (slot.key.load(Relaxed) == key).then_some(progress)
    }

    fn note(&self, place: usize, done: u64, now: Instant) {
        let Some(slot) = self.slots.get(place) else { return };
        if slot.done.load(Relaxed) < done {
            slot.done.store(done, Relaxed);
            slot.advanced.store(self.millis(now), Relaxed);
        }
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.made.0).as_millis()).unwrap_or(u64::MAX)
    }

    fn time(&self, millis: u64) -> SystemTime {
        self.made.1.checked_add(Duration::from_millis(millis)).unwrap_or(self.made.1)
    }
}

const fn key_of(mac: MacAddr) -> u64 {
    let [a, b, c, d, e, f] = mac.0;
    u64::from_be_bytes([a, b, c, d, e, f, 0, 0])
}

/// Publishes the progress of one transfer. When it is dropped, the transfer has broken off.
#[derive(Debug)]
pub struct Meter {
    board: Arc<ProgressBoard>,
    place: usize,
    key: u64,
}

impl Meter {
    /// Publishes that the machine has acknowledged this many bytes of the file.
    pub fn note(&self, done: u64, now: Instant) {
        self.board.note(self.place, done, now);
    }

    /// Returns a gauge with which another part of the server publishes the progress as well.
    #[must_use]
    pub fn gauge(&self) -> Gauge {
        Gauge { board: Arc::clone(&self.board), place: self.place, key: self.key }
    }

    /// Ends a transfer whose file has arrived, of which nothing is kept.
    pub fn complete(mut self) {
        self.key = 0;
    }
}

/// Publishes the progress of a transfer while its [`Meter`] lives.
#[derive(Clone, Debug)]
pub struct Gauge {
    board: Arc<ProgressBoard>,
    place: usize,
    key: u64,
}

impl Gauge {
    /// Publishes that the machine has acknowledged this many bytes of the file.
    pub fn note(&self, done: u64, now: Instant) {
        let is_current = self.board.slots.get(self.place).is_some_and(|slot| slot.key.load(Relaxed) == self.key);
        if is_current {
            self.board.note(self.place, done, now);
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some(slot) = self.board.slots.get(self.place) {
            slot.key.store(self.key & !LIVE, Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(number: u32) -> MacAddr {
        let [a, b, c, d] = number.to_be_bytes();
        MacAddr([0x52, 0x54, a, b, c, d])
    }

    const KERNEL: (ArtifactKind, Transport) = (ArtifactKind::Kernel, Transport::Http);

    #[test]
    fn progress_is_that_of_the_transfer_until_its_end() {
        let board = Arc::new(ProgressBoard::new(64));
        let began = Instant::now();
        assert_eq!(board.of(mac(1)), None);
        let meter = board.begin(mac(1), (ArtifactKind::Loader, Transport::Tftp), (1_000, 512), began).unwrap();
        meter.note(512, began + Duration::from_secs(2));
        meter.note(100, began + Duration::from_secs(9));
        let progress = board.of(mac(1)).unwrap();
        assert_eq!((progress.artifact, progress.transport), (ArtifactKind::Loader, Transport::Tftp));
        assert_eq!((progress.done, progress.total, progress.block, progress.is_running), (512, 1_000, 512, true));
        assert_eq!(progress.advanced.duration_since(progress.since).unwrap(), Duration::from_secs(2));
        drop(meter);
        assert!(!board.of(mac(1)).unwrap().is_running);
        let next = board.begin(mac(1), KERNEL, (9, 0), began).unwrap();
        assert_eq!(board.of(mac(1)).map(|progress| (progress.total, progress.is_running)), Some((9, true)));
        next.complete();
        assert_eq!(board.of(mac(1)), None);
        assert!(board.begin(mac(1), (ArtifactKind::Script, Transport::Http), (9, 0), began).is_none());
    }

    #[test]
    fn transfer_that_advanced_last_is_shown_of_several() {
        let (board, began) = (Arc::new(ProgressBoard::new(64)), Instant::now());
        let kernel = board.begin(mac(1), KERNEL, (1_000, 0), began).unwrap();
        let initramfs = board.begin(mac(1), (ArtifactKind::Initramfs, Transport::Http), (2_000, 0), began).unwrap();
        initramfs.note(1, began + Duration::from_secs(1));
        assert_eq!(board.of(mac(1)).map(|progress| progress.total), Some(2_000));
        kernel.note(1, began + Duration::from_secs(3));
        assert_eq!(board.of(mac(1)).map(|progress| progress.total), Some(1_000));
        drop(kernel);
        assert_eq!(board.of(mac(1)).map(|progress| progress.total), Some(2_000));
    }

    #[test]
    fn full_board_shows_fewer_and_never_another_machines_progress() {
        let (board, began) = (Arc::new(ProgressBoard::new(16)), Instant::now());
        let meters: Vec<_> =
            (0..1_000).map(|number| board.begin(mac(number), KERNEL, (number.into(), 0), began)).collect();
        assert_eq!(meters.iter().flatten().count(), 16);
        for number in 0..1_000 {
            let expected = meters[number as usize].is_some().then_some(u64::from(number));
            assert_eq!(board.of(mac(number)).map(|progress| progress.total), expected);
        }
        drop(meters);
        assert!(board.begin(mac(5_000), KERNEL, (1, 0), began).is_some(), "those that are over make room");
    }

    #[test]
    fn ten_thousand_transfers_have_a_slot_each() {
        let (board, began) = (Arc::new(ProgressBoard::new(usize::MAX)), Instant::now());
        let meters: Vec<_> = (0..10_000).filter_map(|number| board.begin(mac(number), KERNEL, (1, 0), began)).collect();
        assert!(meters.len() > 9_900, "{}", meters.len());
    }

    #[test]
    fn readers_never_mix_two_transfers() {
        let board = Arc::new(ProgressBoard::new(16));
        let began = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..20_000_u64 {
                    let total = number % 2 + 1;
                    if let Some(meter) = board.begin(mac(total as u32), KERNEL, (total, total as u32), began) {
                        meter.note(total, began);
                        if number % 3 == 0 { meter.complete() } else { drop(meter) }
                    }
                }
            });
            for _ in 0..20_000 {
                for number in 1..3 {
                    if let Some(read) = board.of(mac(number)) {
                        assert!(read.total == u64::from(number) && read.block == number && read.done <= read.total);
                    }
                }
            }
        });
    }
}
