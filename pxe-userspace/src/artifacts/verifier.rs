//! The thread that reads files which are not as they were recorded, so that nobody who serves them has to.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::mistakes;

use super::{gate::Gate, records::Records};

/// The interval at which the manifest is looked at, which another process may have changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The running thread. Dropping it ends the thread after the file that it is reading.
#[derive(Debug)]
pub struct Verifier {
    records: Arc<Records>,
    is_stopped: Arc<AtomicBool>,
}

impl Verifier {
    /// Starts the thread. It begins with the files that were changed while pxed did not run.
    ///
    /// # Errors
    ///
    /// If the thread cannot be started.
    pub fn start(records: Arc<Records>) -> io::Result<Self> {
        let is_stopped = Arc::new(AtomicBool::new(false));
        let verifier = Self { records: Arc::clone(&records), is_stopped: Arc::clone(&is_stopped) };
        thread::Builder::new().name("pxed-verify".to_owned()).spawn(move || {
            let pause = |pause| {
                thread::sleep(pause);
                is_stopped.load(Ordering::Acquire)
            };
            mistakes::persist("reading files that were changed", pause, || run(&records, &is_stopped));
        })?;
        Ok(verifier)
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Release);
        self.gate().wake();
    }
}

impl Verifier {
    fn gate(&self) -> &Gate {
        self.records.store().gate()
    }
}

fn run(records: &Records, is_stopped: &AtomicBool) {
    let store = records.store();
    for path in records.manifest().files.keys() {
        // Only for what the gate says of it.
        let _ = store.open(path.as_bytes());
    }
    let mut told = HashMap::new();
    loop {
        let suspects = store.gate().wait_for_suspects(LOOK_EVERY);
        if is_stopped.load(Ordering::Acquire) {
            return;
        }
        if let Some(trouble) = records.refresh() {
            tracing::warn!("{trouble}");
        }
        for path in suspects.iter().filter_map(|path| std::str::from_utf8(path).ok()) {
            // Another process may have put it there and recorded it.
            if !records.is_as_recorded(path) {
                verify(records, path, &mut told);
            }
            if is_stopped.load(Ordering::Acquire) {
                return;
            }
        }
    }
}

/// Reads a file and logs what comes out, the same thing once.
fn verify(records: &Records, path: &str, told: &mut HashMap<String, String>) {
    let full = records.store().root().join(path);
    match records.verify(path).complaint(&full) {
        None => {
            told.remove(path);
            tracing::info!("{}: replaced or touched, and its content is what was verified", full.display());
        }
        Some(complaint) => {
            if told.get(path) != Some(&complaint) {
                tracing::error!("{complaint}");
                told.insert(path.to_owned(), complaint);
            }
        }
    }
}
