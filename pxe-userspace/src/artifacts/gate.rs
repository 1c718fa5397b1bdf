//! The gate in front of recorded files: one that is not as it was recorded is not served before it was read again.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;

use super::{
    manifest::{Identity, Manifest},
    refusal::Refusal,
};

/// The recorded files, as the store looks them up for each request. The seed of the hashes is fixed: the names come from the manifest.
#[derive(Debug, Default)]
pub(super) struct Gate {
    recorded: ArcSwap<HashMap<Box<[u8]>, Recorded, foldhash::fast::FixedState>>,
    suspects: Suspects,
}

#[derive(Clone, Copy, Debug)]
struct Recorded {
    /// The file that has the recorded hash.
    verified: Option<Identity>,
    /// The file that was read and has another one.
    refused: Option<Identity>,
}

/// Files that are not as they were recorded, and wait for being read.
#[derive(Debug, Default)]
struct Suspects {
    waiting: Mutex<Waiting>,
    woken: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    paths: BTreeSet<Box<[u8]>>,
    is_woken: bool,
}

impl Gate {
    /// Puts the records of a manifest in force. `refused` has the files that were read and do not have the recorded hash.
    pub(super) fn set(&self, manifest: &Manifest, refused: &HashMap<Arc<str>, Identity>) {
        let recorded = manifest.files.iter().map(|(path, entry)| {
            let recorded = Recorded { verified: entry.file, refused: refused.get(path).copied() };
            (path.as_bytes().into(), recorded)
        });
        self.recorded.store(Arc::new(recorded.collect()));
    }

    /// Decides about a file that was found under this path, which has no symbolic links. If it has to be read first, whoever waits
    /// for suspects is woken.
    pub(super) fn check(&self, path: &[u8], found: Identity) -> Result<(), Refusal> {
        match self.recorded.load().get(path) {
            None => Ok(()),
            Some(recorded) if recorded.verified == Some(found) => Ok(()),
            Some(recorded) if recorded.refused == Some(found) => Err(Refusal::Altered),
            Some(_) => {
                self.suspects.add(path);
                Err(Refusal::Unverified)
            }
        }
    }

    /// Waits for suspects, or until this time has passed, or [`Gate::wake`]. Returns them, each once.
    pub(super) fn wait_for_suspects(&self, at_most: Duration) -> BTreeSet<Box<[u8]>> {
        let Suspects { waiting, woken } = &self.suspects;
        let is_idle = |waiting: &mut Waiting| waiting.paths.is_empty() && !waiting.is_woken;
        let (mut waiting, _) =
            woken.wait_timeout_while(lock(waiting), at_most, is_idle).unwrap_or_else(PoisonError::into_inner);
        waiting.is_woken = false;
        std::mem::take(&mut waiting.paths)
    }

    /// Ends a wait for suspects.
    pub(super) fn wake(&self) {
        lock(&self.suspects.waiting).is_woken = true;
        self.suspects.woken.notify_all();
    }
}

impl Suspects {
    /// Adds a path. A machine that asks again and again costs no memory.
    fn add(&self, path: &[u8]) {
        let mut waiting = lock(&self.waiting);
        if !waiting.paths.contains(path) {
            waiting.paths.insert(path.into());
            self.woken.notify_all();
        }
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
