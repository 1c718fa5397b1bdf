//! The log of boot events, written by a thread of its own: a standard error that nobody reads must not
//! hold up the journal, much less a machine.

use std::{
    io,
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread::JoinHandle,
};

use prometheus_client::metrics::counter::Counter;
use tracing::Level;

use super::json::FleetEvent;
use crate::{logging, model::event::EventKind};

/// Batches of lines that wait to be written: a storm's burst.
const CAPACITY: usize = 32;

/// A line of the log.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) event: FleetEvent,
    pub(super) level: Level,
    /// Lines of this machine before this one that were left out.
    pub(super) suppressed: u32,
}

/// The log's thread.
#[derive(Debug)]
pub(super) struct Logger {
    sender: SyncSender<Vec<Line>>,
    /// What is handed over next.
    batch: Vec<Line>,
    thread: JoinHandle<()>,
    /// Lines that were dropped because the log lagged.
    dropped: Counter,
}

impl Logger {
    /// Starts the thread.
    pub(super) fn start(dropped: Counter) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(CAPACITY);
        // Whoever set a subscriber for this thread alone (tests do) means the log's as well.
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

    /// Hands over what was logged since the last time: the thread wakes up once for all of it. Never blocks.
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

    /// Waits until everything is written.
    pub(super) fn finish(self) {
        drop(self.sender);
        if self.thread.join().is_err() {
            tracing::error!("the log's thread panicked");
        }
    }
}

fn write(receiver: &Receiver<Vec<Line>>) {
    for batch in receiver {
        logging::gather(|| batch.into_iter().for_each(write_line));
    }
}

fn write_line(Line { event: FleetEvent { machine, stage, event }, level, suppressed }: Line) {
    if suppressed > 0 {
        let mac = machine.mac;
        tracing::warn!(%mac, suppressed, "events of this machine were not logged: it repeats itself too fast");
    }
    // One macro a level: tracing fixes the level at the place of the call.
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                mac = %machine.mac,
                address = %machine.address,
                cluster = %machine.cluster,
                stage = stage.name(),
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

/// Failures warn. A line for each stage that a machine comes to says how far it is; the steps in between are in the
/// journal, and logging all of them costs more than answering does.
pub(super) fn level(event: &EventKind, moved: bool) -> Level {
    match event {
        event if event.is_failure() => Level::WARN,
        EventKind::Ignored { .. } | EventKind::Failed { .. } => Level::DEBUG,
        EventKind::ForeignRelay { .. } | EventKind::Release => Level::INFO,
        _ if moved => Level::INFO,
        _ => Level::DEBUG,
    }
}

/// Whether anybody reads lines of this level.
pub(super) fn is_wanted(level: Level) -> bool {
    match level {
        Level::WARN => tracing::enabled!(Level::WARN),
        Level::DEBUG => tracing::enabled!(Level::DEBUG),
        _ => tracing::enabled!(Level::INFO),
    }
}
