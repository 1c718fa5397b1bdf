//! The history on disk: the events of all machines, in segments that only grow, below the state directory.
//!
//! A thread of its own writes them, so that nobody waits for the disk; what it cannot take is dropped and counted. The kernel keeps what was
//! written although the process ends, so SIGKILL loses what was not handed over yet: a few milliseconds. At a start the last events of each
//! machine are read back. Nothing about the boot policy follows from them: the state file is the authority on that.

mod format;
mod segments;
mod weight;

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use prometheus_client::metrics::counter::Counter;
use pxe_common::MacAddr;
use rustix::fs::fstatvfs;

use self::{
    format::{Encoder, HEADER, Statics},
    segments::Segment,
    weight::Weigher,
};
use crate::{
    mistakes,
    model::{event::BootEvent, history_limits::HistoryLimits},
    own_file::NONBLOCK,
    shut_out::{self, Wanted},
};

/// The name of the directory below the state directory.
const DIRECTORY: &str = "history";
/// The batches of events that may wait for the disk.
const CAPACITY: usize = 64;
/// The events that are written at once.
const AT_ONCE: usize = 8_192;
/// The parts of the limits that a segment has at most: one of them at least is deleted at a time.
const PARTS: u32 = 8;
/// The time after which a disk that refused is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// The time that the disk has to take the last events at the end.
const FINISH: Duration = Duration::from_secs(1);

/// The room that the history leaves on its disk for the state files, unless a quarter of the disk is less.
const RESERVE: u64 = 8 << 20;

/// The fault, for the health of pxed.
#[derive(Clone, Debug, Default)]
pub(super) struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    fn set(&self, problem: Option<String>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*known, &problem) {
            (None, Some(problem)) => tracing::error!("{problem}"),
            (Some(_), None) => tracing::info!("the history is written again"),
            _ => {}
        }
        *known = problem;
    }

    /// Returns the problem, in words.
    pub(super) fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The end of the history that the journal has.
#[derive(Debug)]
pub(super) struct History {
    sender: Mutex<Option<SyncSender<Vec<BootEvent>>>>,
    is_done: Mutex<Receiver<()>>,
    dropped: Counter,
    pub(super) trouble: Trouble,
}

impl History {
    /// Starts the thread that writes, after what is in the directory.
    ///
    /// # Errors
    ///
    /// If the thread cannot be started.
    pub(super) fn start(state: &Path, limits: HistoryLimits, counts: &Counts) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(CAPACITY);
        let (done, is_done) = sync_channel(1);
        let trouble = Trouble::default();
        let writer = Writer {
            directory: state.join(DIRECTORY),
            limits,
            current: None,
            retry: None,
            counts: counts.clone(),
            trouble: trouble.clone(),
        };
        thread::Builder::new().name("pxed-history".to_owned()).spawn(move || {
            writer.run(&receiver);
            // Nobody may wait by now.
            let _ = done.send(());
        })?;
        Ok(Self {
            sender: Mutex::new(Some(sender)),
            is_done: Mutex::new(is_done),
            dropped: counts.dropped.clone(),
            trouble,
        })
    }

    /// Hands over events. Never blocks.
    pub(super) fn write(&self, events: Vec<BootEvent>) {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = &*sender else { return };
        if let Err(TrySendError::Full(events) | TrySendError::Disconnected(events)) = sender.try_send(events) {
            self.dropped.inc_by(events.len() as u64);
            self.trouble.set(Some(
                "the disk of the state directory is too slow for the history: events are missing in it, and a restart will not know \
                 them (pxed_history_events_dropped_total counts them)"
                    .to_owned(),
            ));
        }
    }

    /// Lets the thread write what it has, and waits for a moment.
    pub(super) fn finish(&self) {
        drop(self.sender.lock().unwrap_or_else(PoisonError::into_inner).take());
        let is_done = self.is_done.lock().unwrap_or_else(PoisonError::into_inner);
        if is_done.recv_timeout(FINISH).is_err() {
            tracing::error!("the disk did not take the last events of the history in time");
        }
    }
}

/// The counters of the history.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) written: Counter,
    pub(super) bytes: Counter,
    pub(super) dropped: Counter,
}

/// The segment that is being written.
#[derive(Debug)]
struct Current {
    path: PathBuf,
    length: u64,
    begun: Instant,
    encoder: Encoder,
}

#[derive(Debug)]
struct Writer {
    directory: PathBuf,
    limits: HistoryLimits,
    current: Option<Current>,
    retry: Option<Instant>,
    counts: Counts,
    trouble: Trouble,
}

impl Writer {
    fn run(mut self, receiver: &Receiver<Vec<BootEvent>>) {
        while let Ok(mut events) = receiver.recv() {
            while events.len() < AT_ONCE
                && let Ok(more) = receiver.try_recv()
            {
                events.extend(more);
            }
            if mistakes::outlive("writing the history", || self.take(&events)).is_none() {
                // The part that was written is cut off when it is read.
                self.current = None;
                self.counts.dropped.inc_by(events.len() as u64);
            }
        }
    }

    fn take(&mut self, events: &[BootEvent]) {
        let is_resting = self.retry.is_some_and(|at| Instant::now() < at);
        let written = if is_resting { Ok(false) } else { self.append(events).map(|()| true) };
        match written {
            Ok(true) => {
                self.retry = None;
                self.counts.written.inc_by(events.len() as u64);
                self.trouble.set(None);
            }
            Ok(false) => _ = self.counts.dropped.inc_by(events.len() as u64),
            Err(error) => {
                // The part that was written is cut off when it is read.
                self.current = None;
                self.retry = Some(Instant::now() + RETRY);
                self.counts.dropped.inc_by(events.len() as u64);
                // The directory around it, if somebody has deleted that of the history.
                let around = self.directory.parent().filter(|_| !self.directory.exists()).unwrap_or(&self.directory);
                let error = shut_out::explained(around, Wanted::Write, error);
                self.trouble.set(Some(format!(
                    "the history cannot be written to {}: {error}. A restart will not know what machines did since; boots go on",
                    self.directory.display()
                )));
            }
        }
    }

    fn append(&mut self, events: &[BootEvent]) -> io::Result<()> {
        let most = self.limits.bytes / u64::from(PARTS);
        let longest = self.limits.age / PARTS;
        let is_over = |current: &Current| {
            current.length >= most || current.begun.elapsed() >= longest || current.encoder.is_full()
        };
        if self.current.as_ref().is_some_and(|current| is_over(current) || !current.path.exists()) {
            self.current = None;
        }
        let mut current = match self.current.take() {
            Some(current) => current,
            None => self.begin(most)?,
        };
        events.iter().for_each(|event| current.encoder.add(event));
        let Some(block) = current.encoder.take_block() else { return Ok(()) };
        // Opened for each block: a file that is open for writing would keep its disk from being made read-only.
        let written = File::options()
            .append(true)
            .custom_flags(NONBLOCK)
            .open(&current.path)
            .and_then(|file| leave_room(&file).map(|()| file))
            .and_then(|mut file| file.write_all(&block).inspect_err(|_| take_back(&file, &current)));
        written?;
        self.counts.bytes.inc_by(block.len() as u64);
        current.length += block.len() as u64;
        self.current = Some(current);
        Ok(())
    }

    /// Begins a segment, after it has made room for it.
    fn begin(&self, room: u64) -> io::Result<Current> {
        fs::create_dir_all(&self.directory)?;
        leave_room(&File::open(&self.directory)?)?;
        let segments = segments::list(&self.directory)?;
        let HistoryLimits { bytes, age } = self.limits;
        for segment in segments::surplus(&segments, bytes, room, age, SystemTime::now()) {
            fs::remove_file(&segment.path)?;
        }
        let number = segments.last().map_or(1, |last| last.number.saturating_add(1));
        let path = segments::path(&self.directory, number);
        let mut file = File::options().write(true).create_new(true).custom_flags(NONBLOCK).open(&path)?;
        let length = HEADER.len() as u64;
        let current = Current { path, length, begun: Instant::now(), encoder: Encoder::default() };
        file.write_all(&HEADER).inspect_err(|_| take_back(&file, &current))?;
        Ok(current)
    }
}

/// Returns an error if the disk has no more room than the state files may need. Without them, boots would be forgotten.
fn leave_room(file: &File) -> io::Result<()> {
    let disk = fstatvfs(file)?;
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    let (left, reserve) = (bytes(disk.f_bavail), RESERVE.min(bytes(disk.f_blocks) / 4));
    if left < reserve {
        let what = format!(
            "no room: {} KiB are free on its disk, and {} KiB stay free for the state files",
            left >> 10,
            reserve >> 10
        );
        return Err(io::Error::new(io::ErrorKind::StorageFull, what));
    }
    Ok(())
}

/// Takes back a block that the disk broke off, and a segment without a block: a full disk is tried every second.
fn take_back(file: &File, current: &Current) {
    // The part that stays is cut off when it is read.
    let _ = if current.length == HEADER.len() as u64 {
        fs::remove_file(&current.path)
    } else {
        file.set_len(current.length)
    };
}

/// Calls `each` with the last events of each machine that the history has, oldest first: as many as it takes for the journal to keep `limit` of
/// them. `machine` returns the machine of a network card, if it is wanted. Returns what was lost, in words. No damage is more than the loss of
/// what is damaged.
pub(super) fn recall(
    state: &Path,
    limit: usize,
    machine: impl Fn(MacAddr) -> Option<MacAddr>,
    mut each: impl FnMut(BootEvent),
) -> Vec<String> {
    let directory = state.join(DIRECTORY);
    let segments = match segments::list(&directory) {
        Ok(segments) => segments,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => return vec![format!("the history in {} cannot be read: {error}", directory.display())],
    };
    let mut losses = Vec::new();
    let mut statics = Statics::default();
    let mut found: HashMap<MacAddr, usize> = HashMap::new();
    // The segments that are needed, the newest first, each with the weight of each machine's events that are skipped in it.
    let mut needed: Vec<(&Segment, HashMap<MacAddr, Skipped>)> = Vec::new();
    for segment in segments.iter().rev() {
        let mut here: HashMap<MacAddr, Skipped> = HashMap::new();
        let mut count = |event: BootEvent| {
            if let Some(mac) = machine(event.mac) {
                let Skipped { weigher, weight } = here.entry(mac).or_default();
                *weight += weigher.weigh(&event.kind);
            }
        };
        losses.extend(look(&directory, segment, &mut statics, &mut count));
        let mut is_needed = false;
        for (mac, skipped) in &mut here {
            let known = found.entry(*mac).or_default();
            // Events without weight may be the newest.
            is_needed |= *known < limit;
            let wanted = limit.saturating_sub(*known).min(skipped.weight);
            *known += wanted;
            *skipped = Skipped { weigher: Weigher::default(), weight: skipped.weight - wanted };
        }
        if is_needed {
            needed.push((segment, here));
        }
    }
    for (segment, mut skipped) in needed.into_iter().rev() {
        let apply = |event: BootEvent| match machine(event.mac).and_then(|mac| skipped.get_mut(&mac)) {
            Some(Skipped { weight: 0, .. }) => each(event),
            Some(Skipped { weigher, weight }) => *weight = weight.saturating_sub(weigher.weigh(&event.kind)),
            None => {}
        };
        // An error was told of already.
        if let Ok(bytes) = segments::content(segment) {
            format::read(&bytes, &mut statics, apply);
        }
    }
    losses
}

/// The events of a machine in a segment that are skipped, or those that are counted for that.
#[derive(Debug, Default)]
struct Skipped {
    weigher: Weigher,
    weight: usize,
}

/// Reads a segment and puts right what is wrong with it. Returns the loss.
fn look(directory: &Path, segment: &Segment, statics: &mut Statics, each: impl FnMut(BootEvent)) -> Option<String> {
    let path = segment.path.display();
    let bytes = match segments::content(segment) {
        Ok(bytes) => bytes,
        Err(error) => return Some(format!("{path} of the history cannot be read: {error}")),
    };
    match format::read(&bytes, statics, each) {
        Some(whole) if whole == bytes.len() => None,
        Some(whole) => {
            let lost = bytes.len() - whole;
            // If the disk refuses it, it is told of once more at the next start.
            let _ = segments::cut(segment, whole);
            Some(format!(
                "{path} of the history is damaged: its last {lost} bytes are lost, what comes before is in force"
            ))
        }
        // The power failed before it was written.
        None if bytes.len() < HEADER.len() && HEADER.starts_with(&bytes) => {
            let _ = fs::remove_file(&segment.path);
            None
        }
        None => {
            let kept = match segments::set_aside(directory, segment) {
                Ok(aside) => format!("it is kept as {}", aside.display()),
                Err(error) => format!("it cannot be renamed: {error}"),
            };
            Some(format!("{path} is no segment of the history that this version of pxed can read; {kept}"))
        }
    }
}

#[cfg(test)]
mod tests;
