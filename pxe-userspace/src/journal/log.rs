//! The log of boot events, written by a thread of its own: a standard error that nobody reads must not
//! hold up the journal, much less a machine.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
};

use super::{
    event::{ClientKind, EventKind},
    json::FleetEvent,
    stage::Stage,
};

/// Batches of lines that wait to be written: a storm's burst.
const CAPACITY: usize = 32;

#[derive(Debug)]
struct Line {
    event: FleetEvent,
    suppressed: u32,
}

/// The log's thread.
#[derive(Debug)]
pub(super) struct Logger {
    sender: SyncSender<Vec<Line>>,
    /// What is handed over next.
    batch: Vec<Line>,
    thread: JoinHandle<()>,
    /// Lines that were dropped because the log lagged.
    dropped: Arc<AtomicU64>,
}

impl Logger {
    /// Starts the thread.
    pub(super) fn start(dropped: Arc<AtomicU64>) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(CAPACITY);
        // Whoever set a subscriber for this thread alone (tests do) means the log's as well.
        let dispatch = tracing::dispatcher::get_default(Clone::clone);
        let thread = std::thread::Builder::new()
            .name("pxed-log".to_owned())
            .spawn(move || tracing::dispatcher::with_default(&dispatch, || write(&receiver)))?;
        Ok(Self { sender, batch: Vec::new(), thread, dropped })
    }

    /// Keeps a line for [`Self::hand_over`], unless nobody wants it.
    pub(super) fn log(&mut self, event: FleetEvent, suppressed: u32) {
        let wanted = match level(&event.event.kind, event.stage) {
            tracing::Level::WARN => tracing::enabled!(tracing::Level::WARN),
            tracing::Level::DEBUG => tracing::enabled!(tracing::Level::DEBUG),
            _ => tracing::enabled!(tracing::Level::INFO),
        };
        if wanted || suppressed > 0 {
            self.batch.push(Line { event, suppressed });
        }
    }

    /// Hands over what was logged since the last time: the thread wakes up once for all of it. Never blocks.
    pub(super) fn hand_over(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if let Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) =
            self.sender.try_send(std::mem::take(&mut self.batch))
        {
            self.dropped.fetch_add(batch.len() as u64, Ordering::Relaxed);
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
    for Line { event: FleetEvent { machine, stage, event }, suppressed } in receiver.iter().flatten() {
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
        match level(&event.kind, stage) {
            tracing::Level::WARN => line!(warn),
            tracing::Level::DEBUG => line!(debug),
            _ => line!(info),
        }
    }
}

/// Failures warn; what a healthy fleet does all day long (renewals) is for debugging only.
fn level(event: &EventKind, stage: Stage) -> tracing::Level {
    let renewing = stage == Stage::Running || stage == Stage::OnDisk;
    match event {
        event if event.is_failure() => tracing::Level::WARN,
        EventKind::Request { client: ClientKind::Plain, .. } if renewing => tracing::Level::DEBUG,
        EventKind::Ignored { .. } | EventKind::Failed { .. } => tracing::Level::DEBUG,
        _ => tracing::Level::INFO,
    }
}
