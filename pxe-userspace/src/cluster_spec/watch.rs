//! Loads a spec again when it changes. What cannot be loaded is logged, and the last good inventory stays in force.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::{
    Finding, Loaded, Loader, SpecErrors,
    files::{self, Stat},
};
use crate::{
    memory,
    model::inventory::{Inventory, SharedInventory},
};

/// An editor writes a file in several steps; this long after the last one it is read.
const QUIET: Duration = Duration::from_millis(50);
/// Something that never stops writing beside the spec cannot put a reload off for longer.
const PATIENCE: Duration = Duration::from_secs(1);
/// A file that is being written in place can be valid long before it is whole, with its last machines missing. Machines
/// leave only when the files have not changed for this long.
const CONFIRM: Duration = Duration::from_secs(1);
/// How often the files are looked at where the kernel does not tell of changes.
const POLL: Duration = Duration::from_secs(2);
/// How many findings of a failed reload are logged; `pxed validate` prints all.
const LOGGED: usize = 20;

/// Why a spec cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The kernel gives no thread.
    #[error("cannot start the thread that watches the spec: {0}")]
    Thread(#[from] std::io::Error),
}

/// What the thread wakes up for.
#[derive(Debug)]
enum Wake {
    /// Something happened in a watched directory.
    Changed,
    /// Load again, whether or not the files look different.
    Reload,
    Stop,
}

/// A spec that is being watched, until this is dropped.
#[derive(Debug)]
pub struct Watcher {
    wake: Sender<Wake>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Loads the spec again in a moment, as SIGHUP asks for. Returns at once.
    pub fn reload_now(&self) {
        // Without a receiver the thread has ended, and the process is about to.
        let _ = self.wake.send(Wake::Reload);
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

/// Watches the files and directories on a thread of its own; where inotify has no room left, as is usual on Kubernetes
/// nodes, by looking at them every two seconds. Each time the spec changes and loads without errors,
/// the inventory is stored in `shared`, then `on_change` is called with the one before and the one now in force.
///
/// Pass the loader of the first load: what it has parsed is not parsed again. What changed between that load and this
/// call is noticed.
///
/// # Errors
///
/// The kernel refuses a thread.
pub fn watch(
    loader: Loader,
    paths: Vec<PathBuf>,
    shared: SharedInventory,
    on_change: impl Fn(&Inventory, &Inventory) + Send + 'static,
) -> Result<Watcher, WatchError> {
    watch_source(cluster_spec(loader, paths, shared, on_change))
}

/// What is watched, and what is done when it has changed.
pub(super) struct Source<R> {
    pub(super) paths: Vec<PathBuf>,
    /// The files behind the paths; nothing when not all can be told.
    pub(super) files: fn(&[PathBuf]) -> Option<Vec<PathBuf>>,
    /// Loads them again. It is told how to find out whether they have rested long enough to be believed whole.
    pub(super) reload: R,
}

/// What came of loading a spec again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reloaded {
    /// It is in force, or it was wrong and said so.
    Done,
    /// It is not to be believed before its files have rested.
    PutOff,
}

/// Watches on a thread of its own, and reloads once at the beginning.
pub(super) fn watch_source<R>(source: Source<R>) -> Result<Watcher, WatchError>
where
    R: FnMut(&dyn Fn() -> bool) -> Reloaded + Send + 'static,
{
    watch_with(notifier, source)
}

/// The cluster spec, loaded and put in force.
fn cluster_spec(
    mut loader: Loader,
    paths: Vec<PathBuf>,
    shared: SharedInventory,
    on_change: impl Fn(&Inventory, &Inventory),
) -> Source<impl FnMut(&dyn Fn() -> bool) -> Reloaded> {
    let all = paths.clone();
    let reload = move |rested: &dyn Fn() -> bool| {
        let begin = Instant::now();
        match loader.load(&all) {
            Ok(Loaded { inventory, warnings }) => {
                log_all(&warnings, |finding| tracing::warn!("{finding}"));
                let gone = count_gone(&shared.load(), &inventory);
                if gone > 0 && !rested() {
                    tracing::info!(
                        machines = gone,
                        "machines are gone from the cluster spec: waiting until its files rest for {} s",
                        CONFIRM.as_secs()
                    );
                    return Reloaded::PutOff;
                }
                let old = shared.swap(Arc::clone(&inventory));
                on_change(&old, &inventory);
                tracing::info!(
                    machines = inventory.machines().len(),
                    duration_ms = begin.elapsed().as_millis(),
                    "cluster spec loaded"
                );
                drop(old);
                memory::give_back();
            }
            Err(SpecErrors { errors, warnings: _ }) => {
                log_all(&errors, |finding| tracing::error!("{finding}"));
                tracing::error!(errors = errors.len(), "cluster spec not loaded: the last good one stays in force");
            }
        }
        Reloaded::Done
    };
    Source { paths, files: files::of_spec, reload }
}

fn notifier(changed: Sender<Wake>) -> notify::Result<RecommendedWatcher> {
    notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading the files is an event as well.
        if !matches!(event, Ok(notify::Event { kind: EventKind::Access(_), .. })) {
            let _ = changed.send(Wake::Changed);
        }
    })
}

fn watch_with<R>(
    notifier: impl FnOnce(Sender<Wake>) -> notify::Result<RecommendedWatcher>,
    source: Source<R>,
) -> Result<Watcher, WatchError>
where
    R: FnMut(&dyn Fn() -> bool) -> Reloaded + Send + 'static,
{
    let (wake, woken) = mpsc::channel();
    let notifier = notifier(wake.clone()).inspect_err(|error| {
        tracing::warn!(
            %error,
            "no inotify instance to be had: looking at the spec every {} s instead (the limit is \
             fs.inotify.max_user_instances in sysctl)",
            POLL.as_secs()
        );
    });
    let mut task = Task::new(source, notifier.ok());
    task.watch_directories();
    // What happened before the directories were watched.
    let _ = wake.send(Wake::Changed);
    let thread = thread::Builder::new().name("spec-watch".to_owned()).spawn(move || task.run(&woken))?;
    Ok(Watcher { wake, thread: Some(thread) })
}

struct Task<R> {
    source: Source<R>,
    notifier: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    /// The kernel does not tell of every change.
    polling: bool,
    /// The files as they were when they were last read.
    last_seen: Option<Look>,
    /// How the files looked when what they say was put off, and since when they look so.
    unconfirmed: Option<(Look, Instant)>,
}

impl<R: FnMut(&dyn Fn() -> bool) -> Reloaded> Task<R> {
    fn new(source: Source<R>, notifier: Option<RecommendedWatcher>) -> Self {
        Self { source, notifier, watched: BTreeSet::new(), polling: false, last_seen: None, unconfirmed: None }
    }

    fn run(mut self, woken: &Receiver<Wake>) {
        loop {
            let first = match self.look_again_in(Instant::now()) {
                Some(patience) => woken.recv_timeout(patience),
                None => woken.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let wake = match first {
                Ok(first) => settle(first, woken),
                Err(RecvTimeoutError::Timeout) => Wake::Changed,
                Err(RecvTimeoutError::Disconnected) => Wake::Stop,
            };
            match wake {
                Wake::Stop => return,
                Wake::Reload => self.last_seen = None,
                Wake::Changed => {}
            }
            self.reload(Instant::now());
            // The spec may have moved behind its links.
            self.watch_directories();
        }
    }

    /// After how long the files are looked at without being told to.
    fn look_again_in(&self, now: Instant) -> Option<Duration> {
        match &self.unconfirmed {
            Some((_, since)) => Some((*since + CONFIRM).saturating_duration_since(now)),
            None => self.polling.then_some(POLL),
        }
    }

    fn reload(&mut self, now: Instant) {
        // Looked at before the files are read: what is written meanwhile looks different next time.
        let Source { paths, files, reload } = &mut self.source;
        let (look, settled) = look_at(paths, *files);
        let since = self.unconfirmed.take().filter(|(before, _)| *before == look).map(|(_, since)| since);
        match since {
            Some(since) if now < since + CONFIRM => {
                self.unconfirmed = Some((look, since));
                return;
            }
            None if self.last_seen.as_ref() == Some(&look) => return,
            _ => {}
        }
        self.last_seen = settled.then(|| look.clone());
        // What was read at the beginning of the second may have been half a file, and what is read now counts only if
        // nothing was written meanwhile.
        let rested = || since.is_some() && look_at(paths, *files).0 == look;
        if reload(&rested) == Reloaded::PutOff {
            self.unconfirmed = Some((look, now));
        }
    }

    fn watch_directories(&mut self) {
        let Some(notifier) = &mut self.notifier else {
            self.polling = true;
            return;
        };
        let wanted: BTreeSet<PathBuf> =
            self.source.paths.iter().flat_map(|path| directories_of(path, self.source.files)).collect();
        for gone in self.watched.difference(&wanted) {
            let _ = notifier.unwatch(gone);
        }
        let mut watched = BTreeSet::new();
        let mut blind = false;
        for directory in wanted {
            // Also those that are watched already: behind a link that moved, the same path is another directory.
            match notifier.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => _ = watched.insert(directory),
                Err(error) if self.watched.contains(&directory) => {
                    tracing::debug!(directory = %directory.display(), %error, "no longer watched");
                }
                Err(error) => {
                    let directory = directory.display();
                    if !self.polling {
                        tracing::warn!(%directory, %error, "cannot be watched: looking every {} s", POLL.as_secs());
                    }
                    blind = true;
                }
            }
        }
        self.watched = watched;
        self.polling = blind;
    }
}

/// How many machines the new inventory lacks.
fn count_gone(old: &Inventory, new: &Inventory) -> usize {
    old.machines().iter().filter(|machine| new.by_mac(machine.mac).is_none()).count()
}

pub(super) fn log_all(findings: &[Finding], log: impl Fn(&Finding)) {
    findings.iter().take(LOGGED).for_each(log);
    if let Some(more @ 1..) = findings.len().checked_sub(LOGGED) {
        tracing::warn!("and {more} more: `pxed validate` prints all");
    }
}

/// Waits until nothing has happened for a moment. What was asked for most urgently is what comes of it.
fn settle(first: Wake, woken: &Receiver<Wake>) -> Wake {
    let deadline = Instant::now() + PATIENCE;
    let mut wake = first;
    loop {
        if matches!(wake, Wake::Stop) {
            return wake;
        }
        let wait = QUIET.min(deadline.saturating_duration_since(Instant::now()));
        match woken.recv_timeout(wait) {
            Ok(Wake::Changed) if !wait.is_zero() => {}
            Ok(Wake::Changed) | Err(RecvTimeoutError::Timeout) => return wake,
            Ok(more) => wake = more,
            Err(RecvTimeoutError::Disconnected) => return Wake::Stop,
        }
    }
}

/// The files of the spec as they look from outside, or what kept them from being looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Look(Vec<Result<Stat, String>>);

/// Every file of the spec, and whether all have settled.
fn look_at(paths: &[PathBuf], files: fn(&[PathBuf]) -> Option<Vec<PathBuf>>) -> (Look, bool) {
    let now = SystemTime::now();
    let mut settled = true;
    let mut stat = |path: PathBuf| {
        let (stat, file_settled) = Stat::of(&path, now).map_err(|error| format!("{}: {error}", path.display()))?;
        settled &= file_settled;
        Ok(stat)
    };
    let look = match files(paths) {
        Some(files) => files.into_iter().map(&mut stat).collect(),
        None => vec![Err("not every file can be told".to_owned())],
    };
    // What could not be looked at is tried again each time.
    settled &= look.iter().all(Result::is_ok);
    (Look(look), settled)
}

/// The directories in which something happens when the path comes to mean something else: that of each link on the way
/// (Kubernetes swaps `..data` beside the files of a ConfigMap volume), that of the file (editors put a new file in the
/// place of the old), and the directory itself where the path is one, along with those of the links in it.
fn directories_of(path: &Path, files: fn(&[PathBuf]) -> Option<Vec<PathBuf>>) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    follow(path, &mut directories);
    if path.is_dir() {
        directories.insert(path.to_owned());
        for file in files(&[path.to_owned()]).unwrap_or_default() {
            if file.is_symlink() {
                follow(&file, &mut directories);
            }
        }
    }
    directories
}

/// Walks the components of a path, and those of every link among them.
fn follow(path: &Path, directories: &mut BTreeSet<PathBuf>) {
    /// As many as the kernel follows.
    const MAX_LINKS: usize = 40;
    let Ok(absolute) = std::path::absolute(path) else { return };
    if let Some(parent) = absolute.parent() {
        directories.insert(parent.to_owned());
    }
    let mut links = 0;
    let mut left: Vec<PathBuf> = components(&absolute);
    let mut walked = PathBuf::from("/");
    while let Some(component) = left.pop() {
        if component == Path::new("..") {
            walked.pop();
            continue;
        }
        let here = walked.join(&component);
        match std::fs::read_link(&here) {
            Ok(target) if links < MAX_LINKS => {
                links += 1;
                directories.insert(walked.clone());
                if target.is_absolute() {
                    walked = PathBuf::from("/");
                }
                left.extend(components(&target));
            }
            _ => {
                // The last component of all is the file itself.
                if left.is_empty() && !here.is_dir() {
                    directories.insert(walked.clone());
                }
                walked = here;
            }
        }
    }
}

/// The components of a path, the first last.
fn components(path: &Path) -> Vec<PathBuf> {
    let named = |component: Component<'_>| match component {
        Component::Normal(name) => Some(PathBuf::from(name)),
        Component::ParentDir => Some(PathBuf::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(named).collect()
}

#[cfg(test)]
mod tests;
