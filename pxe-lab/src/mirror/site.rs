//! What a mirror publishes, what is wrong with it, and what was asked.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    net::TcpStream,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::bail;

use super::{content::Published, fault::Fault, log::Request};

/// The state that a mirror's connections share.
#[derive(Debug, Default)]
pub(super) struct Site {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) files: BTreeMap<String, Published>,
    faults: HashMap<String, Armed>,
    pub(super) log: Vec<Request>,
    pub(super) most_at_once: usize,
    sending: usize,
    streams: Vec<TcpStream>,
    /// Counts the faults that were set, so that a stalled answer notices that its own is gone.
    generation: u64,
    stopped: bool,
}

#[derive(Clone, Debug)]
struct Armed {
    fault: Fault,
    times: u32,
    generation: u64,
}

/// A fault that hits one request, and the number by which it was set.
#[derive(Clone, Debug)]
pub(super) struct Hit {
    pub(super) fault: Fault,
    generation: u64,
}

impl State {
    /// Returns the two checksum files of a directory.
    pub(super) fn checksums(&self, directory: &str) -> (String, String) {
        let (mut sha256, mut sha512) = (String::new(), String::new());
        for (path, file) in self.files.range(directory.to_owned()..) {
            let Some(name) = path.strip_prefix(directory) else { break };
            if !["sha256sum.txt", "sha512sum.txt"].contains(&name) {
                let _ = writeln!(sha256, "{}  {name}", file.sha256);
                let _ = writeln!(sha512, "{}  {name}", file.sha512);
            }
        }
        (sha256, sha512)
    }
}

impl Site {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn arm(&self, path: &str, fault: Fault, times: u32) {
        let mut state = self.lock();
        state.generation += 1;
        let generation = state.generation;
        state.faults.insert(path.to_owned(), Armed { fault, times, generation });
        self.changed.notify_all();
    }

    pub(super) fn disarm(&self, path: &str) {
        self.lock().faults.remove(path);
        self.changed.notify_all();
    }

    /// Returns the fault of a request for this path that `applies`, and counts it.
    pub(super) fn hit(&self, path: &str, applies: impl Fn(&Fault) -> bool) -> Option<Hit> {
        let mut state = self.lock();
        let armed = state.faults.get_mut(path).filter(|armed| armed.times > 0 && applies(&armed.fault))?;
        if armed.times < u32::MAX {
            armed.times -= 1;
        }
        Some(Hit { fault: armed.fault.clone(), generation: armed.generation })
    }

    /// Returns whether a fault has neither been taken away nor replaced.
    pub(super) fn is_in_force(&self, path: &str, hit: &Hit) -> bool {
        self.lock().faults.get(path).is_some_and(|armed| armed.generation == hit.generation)
    }

    /// Waits until the fault has been taken away or replaced, or the mirror ends. Returns whether the answer goes on.
    pub(super) fn wait_for_the_end_of(&self, path: &str, hit: &Hit) -> bool {
        let mut state = self.lock();
        while !state.stopped && state.faults.get(path).is_some_and(|armed| armed.generation == hit.generation) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.stopped
    }

    /// Keeps a connection, to break it off in the end. Returns `false` if the end has come.
    pub(super) fn admit(&self, stream: TcpStream) -> bool {
        let mut state = self.lock();
        state.streams.push(stream);
        !state.stopped
    }

    /// Ends everything that waits, and returns the connections.
    pub(super) fn stop(&self) -> Vec<TcpStream> {
        let mut state = self.lock();
        state.stopped = true;
        self.changed.notify_all();
        std::mem::take(&mut state.streams)
    }

    /// Logs a request and returns its number.
    pub(super) fn begin(&self, request: Request) -> usize {
        let mut state = self.lock();
        state.log.push(request);
        self.changed.notify_all();
        state.log.len() - 1
    }

    /// Notes something of a request.
    pub(super) fn note(&self, number: usize, change: impl FnOnce(&mut Request)) {
        let mut state = self.lock();
        if let Some(request) = state.log.get_mut(number) {
            change(request);
        }
        self.changed.notify_all();
    }

    /// Counts an answer with content that begins.
    pub(super) fn sending(&self) {
        let mut state = self.lock();
        state.sending += 1;
        state.most_at_once = state.most_at_once.max(state.sending);
    }

    /// Counts one that has ended.
    pub(super) fn sent(&self) {
        self.lock().sending -= 1;
    }

    pub(super) fn wait_for<T>(
        &self,
        what: &str,
        within: Duration,
        found: impl Fn(&[Request]) -> Option<T>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + within;
        let mut state = self.lock();
        loop {
            if let Some(found) = found(&state.log) {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let asked: Vec<_> = state
                    .log
                    .iter()
                    .map(|request| format!("{} {}: {}", request.method, request.path, request.status))
                    .collect();
                bail!("{what}: not within {} s. The mirror was asked:\n{}", within.as_secs(), asked.join("\n"));
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
