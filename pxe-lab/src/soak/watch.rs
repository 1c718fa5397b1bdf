//! The memory and the descriptors of a process, looked at twice a second.

use std::{
    fs,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// The time between two looks.
const EVERY: Duration = Duration::from_millis(500);
/// The growth between the first and the last third of the time that the allocator and the page tables of a busy process explain, in KiB.
const ALLOWED_KIB: u64 = 24 << 10;

/// The memory and descriptors that were seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Growth {
    /// The most memory, in KiB.
    pub most_kib: u64,
    /// The most descriptors.
    pub most_descriptors: usize,
    /// The memory of the process that was left alone, in KiB, look by look.
    pub calm_kib: Vec<u64>,
}

impl Growth {
    /// Returns the most memory in the first and in the last third of the time in which the process was left alone, in KiB.
    #[must_use]
    pub fn thirds_kib(&self) -> [u64; 2] {
        let third = (self.calm_kib.len() / 3).max(1);
        let most = |part: &[u64]| part.iter().copied().max().unwrap_or(0);
        let (first, last) = (self.calm_kib.chunks(third).next(), self.calm_kib.rchunks(third).next());
        [most(first.unwrap_or_default()), most(last.unwrap_or_default())]
    }

    /// Returns `true` if the memory grew by more than a process that has come to its full load.
    #[must_use]
    pub fn is_unbounded(&self) -> bool {
        let [first, last] = self.thirds_kib();
        last > first + first / 4 + ALLOWED_KIB
    }
}

/// The watch. It ends when it is dropped.
pub(super) struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    process: AtomicU32,
    is_calm: AtomicBool,
    is_over: AtomicBool,
    seen: Mutex<Growth>,
}

impl Watch {
    pub(super) fn start(process: u32) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { process: process.into(), ..Shared::default() });
        let watched = Arc::clone(&shared);
        let look_on = move || {
            while !watched.is_over.load(Ordering::Relaxed) {
                watched.look();
                thread::park_timeout(EVERY);
            }
        };
        Ok(Self { shared, thread: Some(thread::Builder::new().name("watch".to_owned()).spawn(look_on)?) })
    }

    /// Watches another process from now on.
    pub(super) fn follow(&self, process: u32) {
        self.shared.process.store(process, Ordering::Relaxed);
    }

    /// Notes that the process is left alone from now on.
    pub(super) fn begin_calm(&self) {
        self.shared.is_calm.store(true, Ordering::Relaxed);
    }

    pub(super) fn end(self) -> Growth {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn look(&self) {
        let process = self.process.load(Ordering::Relaxed);
        // A process that has just been killed has neither.
        let Some(kib) = resident_kib(process) else { return };
        let descriptors = fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.most_kib = seen.most_kib.max(kib);
        seen.most_descriptors = seen.most_descriptors.max(descriptors);
        if self.is_calm.load(Ordering::Relaxed) {
            seen.calm_kib.push(kib);
        }
    }
}

/// Returns the resident memory of a process in KiB, or `None` if there is none.
#[must_use]
pub fn resident_kib(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_told_from_a_load_that_comes_and_goes() {
        let grows =
            |of: fn(u64) -> u64| Growth { calm_kib: (0..120).map(of).collect(), ..Growth::default() }.is_unbounded();
        assert!(!grows(|at| 50_000 + at % 7 * 1_000));
        assert!(!grows(|at| 50_000 + (at * 1_000).min(30_000)), "it comes to its full load");
        assert!(grows(|at| 50_000 + at * 1_000));
        assert!(!Growth::default().is_unbounded());
    }

    #[test]
    fn own_memory_is_seen() {
        let watch = Watch::start(std::process::id()).unwrap();
        crate::suite::eventually("a look", Duration::from_secs(10), || {
            let seen = watch.shared.seen.lock().unwrap().clone();
            Ok(seen.most_kib > 1000 && seen.most_descriptors > 2)
        })
        .unwrap();
        assert_eq!(resident_kib(0), None);
    }
}
