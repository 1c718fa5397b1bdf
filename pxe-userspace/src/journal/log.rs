//! The log of boot events. A thread of its own formats it, which takes longer than the journal takes for an event, and waits a moment for
//! standard error in a burst.

use std::{
    io,
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread::JoinHandle,
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;
use serde::Deserialize;
use tracing::Level;

use super::{fleet::Applied, json::FleetEvent};
use crate::{logging, mistakes, model::event::EventKind};

/// The number of batches that may wait to be written: the burst of a storm.
const CAPACITY: usize = 32;

/// A line of the log.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) event: FleetEvent,
    pub(super) level: Level,
    /// The number of lines of this machine that were suppressed before this one.
    pub(super) suppressed: u32,
    /// The time that the machine spent at the stage before, if it has moved to another.
    pub(super) took: Option<Duration>,
}

/// The fields of an event that a line has as JSON. In a line for people the sentence says the same.
#[derive(Debug, Default, Deserialize)]
struct Fields {
    event: Option<String>,
    artifact: Option<String>,
    transport: Option<String>,
    path: Option<String>,
    bytes: Option<u64>,
    took_ms: Option<u64>,
}

impl Fields {
    fn of(event: &EventKind) -> Self {
        logging::is_json().then(|| Self::read(event)).flatten().unwrap_or_default()
    }

    fn read(event: &EventKind) -> Option<Self> {
        serde_json::from_value(serde_json::to_value(event).ok()?).ok()
    }
}

/// The handle of the log's thread.
#[derive(Debug)]
pub(super) struct Logger {
    sender: SyncSender<Vec<Line>>,
    /// The lines that are handed over next.
    batch: Vec<Line>,
    thread: JoinHandle<()>,
    /// Counts the lines that were dropped because the log lagged.
    dropped: Counter,
}

impl Logger {
    /// Starts the thread.
    pub(super) fn start(dropped: Counter) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(CAPACITY);
        // A subscriber of the calling thread alone, as in tests, applies to the log's thread too.
        let dispatch = tracing::dispatcher::get_default(Clone::clone);
        let thread = std::thread::Builder::new()
            .name("pxed-log".to_owned())
            .spawn(move || tracing::dispatcher::with_default(&dispatch, || write(&receiver)))?;
        Ok(Self { sender, batch: Vec::new(), thread, dropped })
    }

    /// Keeps a line for [`Self::hand_over`].
    pub(super) fn log(&mut self, line: Line) {
        self.batch.push(line);
    }

    /// Hands the kept lines over to the thread, which wakes up once for all of them. Never blocks.
    pub(super) fn hand_over(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if let Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) =
            self.sender.try_send(std::mem::take(&mut self.batch))
        {
            self.dropped.inc_by(batch.len() as u64);
        }
    }

    /// Waits until all lines are written.
    pub(super) fn finish(self) {
        drop(self.sender);
        if self.thread.join().is_err() {
            tracing::error!("the log's thread panicked");
        }
    }
}

fn write(receiver: &Receiver<Vec<Line>>) {
    for batch in receiver {
        // A panic costs one line. Its own line is among those that are gathered.
        let write = |line| _ = mistakes::outlive("writing log lines of boots", || write_line(line));
        logging::gather(|| batch.into_iter().for_each(write));
    }
}

fn write_line(Line { event: FleetEvent { machine, stage, event }, level, suppressed, took }: Line) {
    if suppressed > 0 {
        let mac = machine.mac;
        tracing::warn!(%mac, suppressed, "events of this machine were not logged: it sends too many");
    }
    let card = (event.mac != machine.mac).then_some(event.mac);
    let Fields { event: name, artifact, transport, path, bytes, took_ms } = Fields::of(&event.kind);
    let stage_took_ms =
        took.filter(|_| logging::is_json()).map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    // tracing needs a constant level at each call.
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                mac = %machine.mac,
                card = card.map(tracing::field::display),
                address = %machine.address,
                cluster = %machine.cluster,
                stage = stage.name(),
                event = name,
                artifact,
                transport,
                path,
                bytes,
                took_ms,
                stage_took_ms,
                "{}",
                event.kind
            )
        };
    }
    match level {
        Level::WARN => line!(warn),
        Level::DEBUG => line!(debug),
        _ => line!(info),
    }
}

/// Returns the level at which an event is logged. Failures are warnings, unless they repeat. Each new stage of a machine is one line; the steps in
/// between are in the journal, since logging all of them costs more than answering them.
pub(super) fn level(event: &EventKind, applied: &Applied) -> Level {
    match event {
        _ if applied.repeats => Level::DEBUG,
        event if event.is_failure() => Level::WARN,
        EventKind::Ignored { .. } | EventKind::Failed { .. } => Level::DEBUG,
        // The acknowledgement follows at once, or the diagnosis tells of it.
        EventKind::Offer { .. } => Level::DEBUG,
        EventKind::ForeignRelay { .. } | EventKind::OtherVlan { .. } | EventKind::Release => Level::INFO,
        _ if applied.moved => Level::INFO,
        _ => Level::DEBUG,
    }
}

/// Returns whether lines of this level are written.
pub(super) fn is_wanted(level: Level) -> bool {
    match level {
        Level::WARN => tracing::enabled!(Level::WARN),
        Level::DEBUG => tracing::enabled!(Level::DEBUG),
        _ => tracing::enabled!(Level::INFO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{every_event::every_event, samples};

    #[test]
    fn fields_of_a_line_are_those_of_the_event() {
        for (name, event) in every_event() {
            let fields = Fields::read(&event).unwrap_or_else(|| panic!("{name}"));
            assert!(fields.event.is_some_and(|event| !event.is_empty()), "{name}");
        }
        let fields = Fields::read(&samples::done(samples::Kernel)).unwrap();
        let texts = [fields.event, fields.artifact, fields.transport].map(Option::unwrap_or_default);
        assert_eq!(texts, ["done", "kernel", "http"]);
        assert_eq!((fields.bytes, fields.took_ms), (Some(1_000_000), Some(750)));
    }
}
