//! Output of log lines to standard error, which may be a pipe that nobody reads.
//!
//! A thread of its own writes them. Whoever logs a line copies it into a bounded [`Queue`] and goes on, so a line may be logged anywhere,
//! under a lock too. Lines that find the queue full, or that cannot be written, are counted, and a line says how many they were as
//! soon as writing works again.

mod panics;
mod queue;
mod stderr;
mod writer;

use std::{
    cell::RefCell,
    io::{self, Write as _},
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use nix::sys::signal::SigSet;
pub use panics::log_panics;
use prometheus_client::metrics::counter::Counter;
use queue::{Batch, Queue};
use writer::Writer;

/// The bytes that may wait to be written: a burst of about 5,000 lines.
const CAPACITY: usize = 1 << 20;

/// The time that gathered lines wait for room.
const PATIENCE: Duration = Duration::from_millis(250);

/// The line that says how many lines are missing.
const MISSING: &str = "log lines were dropped: standard error was not read or not writable";

/// Gathered lines are passed on when they reach this many bytes.
const GATHERED_BYTES: usize = 64 * 1024;

static QUEUE: LazyLock<Queue> = LazyLock::new(|| Queue::new(CAPACITY));

/// Set if lines are JSON, which have the details of an event as fields.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// Set once the queue has a thread that writes its lines.
static IS_STARTED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The lines of this thread, while it gathers them.
    static GATHERED: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Starts the thread that writes. Before that, lines are written by the threads that log them.
///
/// # Errors
///
/// If the kernel refuses the thread.
pub fn start() -> io::Result<()> {
    let write = || {
        // Signals are for the threads that wait for them.
        let _ = SigSet::all().thread_block();
        let mut writer = Writer::new(stderr::Raw::default());
        let mut batch = Batch::default();
        loop {
            QUEUE.take(&mut batch);
            let unwritten = writer.write(&batch, |lost| {
                gathered(|| {
                    tracing::warn!(lines = lost, "{MISSING}");
                })
            });
            QUEUE.dropped().inc_by(unwritten);
        }
    };
    thread::Builder::new().name("pxed-stderr".to_owned()).spawn(write)?;
    IS_STARTED.store(true, Ordering::Release);
    Ok(())
}

/// Says that lines are JSON.
pub fn set_json() {
    IS_JSON.store(true, Ordering::Relaxed);
}

/// Returns `true` if lines are JSON.
pub fn is_json() -> bool {
    IS_JSON.load(Ordering::Relaxed)
}

/// Writes a line that is not part of the log, such as the error that ends the process. Waits for nobody if the log has started.
pub fn say(line: &str) {
    write(format!("{line}\n").as_bytes());
}

/// Waits until all lines are written. Returns `false` if the time is up before.
pub fn flush(within: Duration) -> bool {
    !IS_STARTED.load(Ordering::Acquire) || QUEUE.wait_until_written(within)
}

/// Returns the counter of lines that were never written.
pub fn dropped() -> Counter {
    QUEUE.dropped().clone()
}

/// Gathers the lines that `work` logs on this thread, and passes them on together. Waking the writer for each line costs more than the
/// line itself. For a thread that others do not wait for: it waits a moment for room, so that a burst is not lost because it comes
/// faster than it can be read.
pub fn gather(work: impl FnOnce()) {
    write_within(PATIENCE, &gathered(work));
}

/// Returns the lines that `work` logged and that were not passed on in between.
fn gathered(work: impl FnOnce()) -> Vec<u8> {
    GATHERED.set(Some(Vec::new()));
    work();
    GATHERED.take().unwrap_or_default()
}

/// Passes whole lines on.
fn write(lines: &[u8]) {
    write_within(Duration::ZERO, lines);
}

fn write_within(patience: Duration, lines: &[u8]) {
    if IS_STARTED.load(Ordering::Acquire) {
        QUEUE.push_within(patience, lines);
    } else {
        // There is nowhere to report that standard error cannot be written.
        let _ = io::stderr().write_all(lines);
    }
}

/// Standard error, for a subscriber of `tracing`, which writes whole lines.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stderr;

impl io::Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gather = |gathered: &RefCell<Option<Vec<u8>>>| {
            let mut gathered = gathered.try_borrow_mut().ok()?;
            let lines = gathered.as_mut()?;
            lines.extend_from_slice(bytes);
            if lines.len() >= GATHERED_BYTES {
                write_within(PATIENCE, lines);
                lines.clear();
            }
            Some(())
        };
        // A thread that is ending has no such list any more.
        if GATHERED.try_with(gather).ok().flatten().is_none() {
            write(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_one_thread_gather_and_those_of_others_do_not() {
        let subscriber = tracing_subscriber::fmt().with_writer(|| Stderr).without_time().with_ansi(false).finish();
        let dispatch = tracing::Dispatch::new(subscriber);
        let log = |text: &str| tracing::dispatcher::with_default(&dispatch, || tracing::info!("{text}"));
        let lines = gathered(|| {
            log("one");
            thread::scope(|scope| {
                scope.spawn(|| log("elsewhere"));
            });
            log("two");
        });
        let lines = String::from_utf8(lines).unwrap();
        let words: Vec<_> = lines.lines().filter_map(|line| line.rsplit(' ').next()).collect();
        assert_eq!(words, ["one", "two"]);
    }
}
