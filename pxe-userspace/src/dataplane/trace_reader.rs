//! Reads the ring of an XDP program: the frames that it traces for captures, and some of the requests that it
//! drops: of strangers, and of machines that ask too often.

use std::{
    io,
    os::fd::AsFd as _,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray, RingBuf};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::{EfdFlags, EventFd},
};
use pxe_common::{Counter, MacAddr, MachineKey, Traced};
use rustix::time::{ClockId, clock_gettime};

use super::rate_notes::RateNotes;
use crate::{
    capture::{Tap, TracePoint},
    mistakes,
    model::{event::EventSink, origin::Origin},
    net::pulse::is_told_to_end,
};

/// The most records that are read before the thread rests. A flood in the name of a captured machine costs no more than a few percent of a
/// processor, and the program counts what finds no room.
const RECORDS_A_TURN: usize = 256;
/// The rest after this number of records.
const REST: Duration = Duration::from_millis(50);

/// Is told of each request of a stranger that a program dropped and still tells of: the interface, the frame and the time.
pub type DroppedStrangers = Arc<dyn Fn(&Arc<str>, &[u8], SystemTime) + Send + Sync>;

/// The maps of a program that trace.
pub struct TraceMaps {
    /// The cards whose frames are traced.
    pub traced: HashMap<MapData, MachineKey, u8>,
    /// Their number.
    pub tracing: Array<MapData, u32>,
    /// The ring.
    pub traces: RingBuf<MapData>,
    /// The number of frames for which the ring had no room, on each processor.
    pub lost: PerCpuArray<MapData, u64>,
}

/// The thread that reads the ring of a program. It ends when this is dropped.
pub struct Tracing {
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Tracing {
    /// Starts to read, and lets captures choose the cards.
    ///
    /// # Errors
    ///
    /// If the kernel refuses a descriptor or the thread.
    pub fn start(
        interface: &str,
        maps: TraceMaps,
        tap: &Tap,
        strangers: DroppedStrangers,
        events: EventSink,
    ) -> io::Result<Self> {
        let TraceMaps { mut traced, mut tracing, traces, lost } = maps;
        let stop = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?);
        let seen = Arc::clone(&stop);
        let point = tap.trace_point(interface, move |cards| Ok(choose(&mut traced, &mut tracing, cards)?));
        let told = Told { interface: interface.into(), point, strangers, events, notes: RateNotes::default() };
        let mut reader = Reader { traces, lost, told_lost: 0, told };
        let thread = thread::Builder::new().name("pxed-trace".to_owned()).spawn(move || {
            let run = || {
                if let Err(error) = reader.run(&seen) {
                    let interface = &*reader.told.interface;
                    tracing::warn!(interface, "captures lack the decisions of the XDP program from now on: {error}");
                }
            };
            mistakes::persist("reading what the XDP program traces", |pause| is_told_to_end(&seen, pause), run);
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Tracing {
    fn drop(&mut self) {
        // This fails only if the counter is full, and then the thread has already been asked.
        let _ = self.stop.write(1);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that reads the frames that the XDP program traces panicked");
        }
    }
}

/// Writes the cards into the maps. Those that were there already go on being traced meanwhile.
fn choose(
    traced: &mut HashMap<MapData, MachineKey, u8>,
    tracing: &mut Array<MapData, u32>,
    cards: &[MacAddr],
) -> Result<(), MapError> {
    for known in traced.keys().collect::<Result<Vec<_>, _>>()? {
        if !cards.contains(&known.into()) {
            traced.remove(&known)?;
        }
    }
    for &card in cards {
        traced.insert(MachineKey::from(card), 1, 0)?;
    }
    tracing.set(0, u32::try_from(cards.len()).unwrap_or(u32::MAX), 0)
}

struct Reader {
    traces: RingBuf<MapData>,
    lost: PerCpuArray<MapData, u64>,
    /// The number of lost frames that captures were told of.
    told_lost: u64,
    told: Told,
}

/// Those who are told of what the program hands over.
struct Told {
    interface: Arc<str>,
    point: TracePoint,
    strangers: DroppedStrangers,
    events: EventSink,
    notes: RateNotes,
}

impl Reader {
    fn run(&mut self, stop: &EventFd) -> Result<(), Errno> {
        loop {
            let mut ready =
                [PollFd::new(stop.as_fd(), PollFlags::POLLIN), PollFd::new(self.traces.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ready, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error),
            }
            if ready[0].any() == Some(true) {
                return Ok(());
            }
            let Self { traces, lost, told_lost, told } = self;
            let mut read = 0;
            while read < RECORDS_A_TURN
                && let Some(record) = traces.next()
            {
                read += 1;
                if let Some(traced) = Traced::read(&record) {
                    told.tell(&traced);
                }
            }
            let now_lost = lost.get(&0, 0).map_or(*told_lost, |values| values.iter().sum());
            told.point.lost(now_lost.saturating_sub(*told_lost));
            *told_lost = now_lost;
            if read == RECORDS_A_TURN {
                thread::sleep(REST);
            }
        }
    }
}

impl Told {
    fn tell(&mut self, traced: &Traced<'_>) {
        let Self { interface, point, strangers, events, notes } = self;
        let at = wall_time(traced.at_ns);
        if traced.is_captured {
            let words = point.show(traced, at);
            tracing::debug!(interface = &**interface, mac = %traced.mac, "{words}");
        }
        match traced.counter {
            // The machine's own bucket is empty, which only what came from its MAC address takes tokens of.
            Counter::RateLimited => {
                if let Some(event) = notes.note(traced.mac, Instant::now()) {
                    events.send(traced.mac, at, Origin::Machine, event);
                }
            }
            // Captured or not.
            Counter::UnknownDropped => strangers(interface, traced.bytes, at),
            _ => {}
        }
    }
}

/// Returns the time of day at a time of `CLOCK_MONOTONIC`.
fn wall_time(at_ns: u64) -> SystemTime {
    let (now, wall) = (clock_gettime(ClockId::Monotonic), SystemTime::now());
    let now = Duration::try_from(now).unwrap_or_default();
    wall.checked_sub(now.saturating_sub(Duration::from_nanos(at_ns))).unwrap_or(wall)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// The program tells of a captured frame once, whoever sent it.
    #[test]
    fn stranger_whose_requests_are_dropped_is_listed_although_it_is_captured() {
        let (stranger, known) = (MacAddr([2, 0, 0, 0, 0, 9]), MacAddr([2, 0, 0, 0, 0, 1]));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let strangers: DroppedStrangers = {
            let heard = Arc::clone(&heard);
            Arc::new(move |interface: &Arc<str>, bytes: &[u8], _| {
                heard.lock().unwrap().push((Arc::clone(interface), bytes.to_vec()));
            })
        };
        let (events, mut journal) = EventSink::channel(8);
        let point = Tap::default().trace_point("eth1", |_| Ok(()));
        let mut told = Told { interface: "eth1".into(), point, strangers, events, notes: RateNotes::default() };
        let mut tell = |counter, mac, is_captured, bytes| {
            told.tell(&Traced { at_ns: 0, counter, queue: 0, length: 1, mac, is_captured, bytes });
        };
        tell(Counter::UnknownDropped, stranger, false, b"a");
        tell(Counter::UnknownDropped, stranger, true, b"b");
        // Those that pass are heard by a socket, and the others are no strangers.
        tell(Counter::UnknownPassed, stranger, true, b"c");
        tell(Counter::Redirected, known, true, b"d");
        tell(Counter::RateLimited, known, true, b"e");
        let heard: Vec<_> = heard.lock().unwrap().iter().map(|(_, bytes)| bytes.clone()).collect();
        assert_eq!(heard, [b"a", b"b"]);
        assert_eq!(journal.try_recv().map(|event| event.mac), Ok(known));
        assert!(journal.try_recv().is_err());
    }
}
