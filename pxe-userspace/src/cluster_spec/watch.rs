//! Notices changes of files by looking at them, and loads them again.
//!
//! Each file is looked at several times a second (`stat`, and the listing of directories), or less often if a look takes long. inotify would be quicker and wrong too often: it
//! watches inodes, while a path comes to mean another file when a link on the way moves (a ConfigMap volume swaps `..data`), when a
//! directory is deleted and made again, or when something is mounted over it. It hears nothing of other hosts' writes on NFS, and its
//! instances run out on Kubernetes nodes, so that looking would be needed all the same.

use std::{
    path::PathBuf,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::files::{self, Stat};
use crate::{descriptors, mistakes};

/// The time between two looks at files that do not change, if looking takes next to no time.
const LEAST_INTERVAL: Duration = Duration::from_millis(200);
/// The time between two looks, however long they take.
const MOST_INTERVAL: Duration = Duration::from_secs(2);
/// The time between two looks, in times that one takes: looking needs 2 % of a processor at most, up to [`MOST_INTERVAL`].
const INTERVAL_FOR_COST: u32 = 50;
/// Files are loaded once they have not changed for this long: an editor writes a file in several steps. What is written later is
/// certain to look different, since the file system's clock has moved on.
const QUIET: Duration = files::CLOCK_STEP;
/// Files that never stop changing are loaded after this long all the same.
const PATIENCE: Duration = Duration::from_secs(1);
/// A load that was put off is repeated once the files have not changed for this long.
pub(super) const CONFIRM: Duration = Duration::from_secs(1);
/// Files cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The kernel refuses a thread.
    #[error("cannot start the thread that watches the spec: {0}")]
    Thread(#[from] std::io::Error),
}

/// A guard that is dropped when a load that was asked for has taken place.
pub type UntilLoaded = Box<dyn Send>;

/// A reason to wake the thread before its time.
enum Wake {
    /// Load again, whether or not the files look different.
    Reload(UntilLoaded),
    Stop,
}

/// Files that are being watched, until this is dropped.
#[derive(Debug)]
pub struct Watcher {
    wake: Sender<Wake>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Loads the files again in a moment, as SIGHUP asks for. Returns at once, and drops `until_loaded` when they are in force, or their
    /// mistakes were reported.
    pub fn reload_now(&self, until_loaded: UntilLoaded) {
        // An error means that the thread has ended, and the process is about to.
        let _ = self.wake.send(Wake::Reload(until_loaded));
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.wake.send(Wake::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Files to watch, and what to do when they have changed.
pub(super) struct Source<R> {
    /// The load, as the log names it: "loading the spec".
    pub(super) what: &'static str,
    pub(super) paths: Vec<PathBuf>,
    /// Returns the files behind the paths, and what keeps others from being listed.
    pub(super) files: fn(&[PathBuf]) -> Vec<Result<PathBuf, String>>,
    /// Loads the files.
    pub(super) reload: R,
}

/// The circumstances of a load.
pub(super) struct Request<'a> {
    /// Returns `true` if the files have rested for [`CONFIRM`], the time of loading included.
    pub(super) have_rested: &'a dyn Fn() -> bool,
    /// Set if the files have rested for [`QUIET`]. Otherwise they never do, and are loaded all the same.
    pub(super) is_resting: bool,
    /// Set if somebody asked for it.
    pub(super) is_asked: bool,
}

/// The result of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reloaded {
    /// The files are in force, or their mistakes were reported.
    Done,
    /// The files are not to be believed before they have rested.
    PutOff,
}

/// Watches files on a thread of its own, and loads them once at the beginning.
pub(super) fn watch_source<R>(source: Source<R>) -> Result<Watcher, WatchError>
where
    R: FnMut(&Request<'_>) -> Reloaded + Send + 'static,
{
    let (wake, woken) = mpsc::channel();
    let task = Task::new(source);
    let thread = thread::Builder::new().name("spec-watch".to_owned()).spawn(move || task.run(&woken))?;
    Ok(Watcher { wake, thread: Some(thread) })
}

/// Returns the time until the next look, after one that took this long and found nothing to do.
fn interval(cost: Duration) -> Duration {
    (cost * INTERVAL_FOR_COST).clamp(LEAST_INTERVAL, MOST_INTERVAL)
}

/// The files as they look from outside, or what kept them from being looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Look(Vec<Result<Stat, String>>);

impl Look {
    fn at(paths: &[PathBuf], files: fn(&[PathBuf]) -> Vec<Result<PathBuf, String>>) -> Self {
        let stat = |path: PathBuf| Stat::of(&path).map_err(|error| format!("{}: {error}", path.display()));
        Self(files(paths).into_iter().map(|file| file.and_then(stat)).collect())
    }
}

/// Files that look different from those that were loaded last.
struct Changed {
    look: Look,
    /// They have looked like this since then.
    since: Instant,
    /// They have kept changing since then.
    begun: Instant,
    /// They were loaded, and that was put off.
    put_off: bool,
}

/// The work of the thread, with the clock as an argument and without waiting.
pub(super) struct Task<R> {
    source: Source<R>,
    /// The files that were loaded last; `None` to load whatever there is.
    loaded: Option<Look>,
    changed: Option<Changed>,
    /// Not empty if somebody asked to load them.
    asked: Vec<UntilLoaded>,
    /// No descriptor was free for the load.
    waits: bool,
}

impl<R: FnMut(&Request<'_>) -> Reloaded> Task<R> {
    pub(super) fn new(source: Source<R>) -> Self {
        Self { source, loaded: None, changed: None, asked: Vec::new(), waits: false }
    }

    fn run(mut self, woken: &Receiver<Wake>) {
        loop {
            let now = Instant::now();
            let wait = self.look(now).unwrap_or_else(|| interval(now.elapsed()));
            match woken.recv_timeout(wait) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Wake::Reload(until_loaded)) => self.forget(until_loaded),
                Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Loads the files again, whatever they look like.
    fn forget(&mut self, until_loaded: UntilLoaded) {
        (self.loaded, self.changed) = (None, None);
        self.asked.push(until_loaded);
    }

    /// Looks at the files, and loads them if they have changed and rest. Returns the time until the next look; `None` if nothing is
    /// pending.
    pub(super) fn look(&mut self, now: Instant) -> Option<Duration> {
        let Source { what, paths, files, reload } = &mut self.source;
        // Before the files are read: what is written meanwhile looks different next time.
        let look = Look::at(paths, *files);
        if self.loaded.as_ref() == Some(&look) {
            self.changed = None;
            return None;
        }
        let changed = match self.changed.take() {
            Some(changed) if changed.look == look => changed,
            Some(Changed { begun, put_off: false, .. }) => Changed { look, since: now, begun, put_off: false },
            _ => Changed { look, since: now, begun: now, put_off: false },
        };
        let rested = now.saturating_duration_since(changed.since);
        let needed = if changed.put_off { CONFIRM } else { QUIET };
        let is_overdue = !changed.put_off && now.saturating_duration_since(changed.begun) >= PATIENCE;
        if rested < needed && !is_overdue {
            self.changed = Some(changed);
            return Some(needed - rested);
        }
        // Files that cannot be opened now would not be tried again until they change.
        if !descriptors::is_one_free() {
            if !std::mem::replace(&mut self.waits, true) {
                tracing::warn!(
                    "the spec has changed, and is loaded when a file descriptor is free; {}",
                    descriptors::REMEDY
                );
            }
            self.changed = Some(changed);
            return Some(MOST_INTERVAL);
        }
        self.waits = false;
        let have_rested = || rested >= CONFIRM && Look::at(paths, *files) == changed.look;
        let is_asked = !self.asked.is_empty();
        let request = Request { have_rested: &have_rested, is_resting: rested >= QUIET, is_asked };
        let reloaded = mistakes::outlive(what, || reload(&request));
        match reloaded {
            // The last good content stays in force until the files change or loading succeeds.
            None => {
                self.asked.clear();
                self.changed = Some(changed);
                Some(mistakes::PAUSE)
            }
            Some(Reloaded::PutOff) => {
                self.changed = Some(Changed { put_off: true, ..changed });
                Some(CONFIRM.saturating_sub(rested).max(QUIET))
            }
            // A file that did not rest may have been read in part.
            Some(Reloaded::Done) if rested < QUIET => {
                self.loaded = None;
                self.asked.clear();
                Some(QUIET)
            }
            Some(Reloaded::Done) => {
                self.asked.clear();
                self.loaded = Some(changed.look);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
