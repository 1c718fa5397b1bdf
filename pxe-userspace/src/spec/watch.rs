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

use super::{Finding, Loaded, Loader, SpecErrors, files};
use crate::inventory::{Inventory, SharedInventory};

/// An editor writes a file in several steps; this long after the last one it is read.
const QUIET: Duration = Duration::from_millis(50);
/// Something that never stops writing beside the spec cannot put a reload off for longer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many findings of a failed reload are logged; `pxed validate` prints all.
const LOGGED: usize = 20;

/// Why a spec cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The kernel gives no inotify instance.
    #[error("cannot watch the cluster spec for changes: {0}; see fs.inotify.max_user_instances in sysctl")]
    Notify(#[from] notify::Error),
    /// The kernel gives no thread.
    #[error("cannot start the thread that watches the cluster spec: {0}")]
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

/// Watches the files and directories on a thread of its own. Each time the spec changes and loads without errors,
/// the inventory is stored in `shared`, then `on_change` is called with the one before and the one now in force.
///
/// Pass the loader of the first load: what it has parsed is not parsed again. What changed between that load and this
/// call is noticed.
///
/// # Errors
///
/// The kernel refuses an inotify instance or a thread. A single directory that cannot be watched is logged.
pub fn watch(
    loader: Loader,
    paths: Vec<PathBuf>,
    shared: SharedInventory,
    on_change: impl Fn(&Inventory, &Inventory) + Send + 'static,
) -> Result<Watcher, WatchError> {
    let reload = reload(loader, paths.clone(), shared, on_change);
    watch_source(Source { paths, files: files::of_spec, reload })
}

/// What is watched, and what is done when it has changed.
pub(super) struct Source<R> {
    pub(super) paths: Vec<PathBuf>,
    /// The files behind the paths; nothing when not all can be told.
    pub(super) files: fn(&[PathBuf]) -> Option<Vec<PathBuf>>,
    pub(super) reload: R,
}

/// Watches on a thread of its own, and reloads once at the beginning.
pub(super) fn watch_source<R: FnMut() + Send + 'static>(source: Source<R>) -> Result<Watcher, WatchError> {
    let (wake, woken) = mpsc::channel();
    let changed = wake.clone();
    let notifier = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading the files is an event as well.
        if !matches!(event, Ok(notify::Event { kind: EventKind::Access(_), .. })) {
            let _ = changed.send(Wake::Changed);
        }
    })?;
    let mut task = Task { source, notifier, watched: BTreeSet::new(), last_seen: None };
    task.watch_directories();
    // What happened before the directories were watched.
    let _ = wake.send(Wake::Changed);
    let thread = thread::Builder::new().name("spec-watch".to_owned()).spawn(move || task.run(&woken))?;
    Ok(Watcher { wake, thread: Some(thread) })
}

/// Loads the cluster spec and puts it in force.
fn reload(
    mut loader: Loader,
    paths: Vec<PathBuf>,
    shared: SharedInventory,
    on_change: impl Fn(&Inventory, &Inventory),
) -> impl FnMut() {
    move || {
        let begin = Instant::now();
        match loader.load(&paths) {
            Ok(Loaded { inventory, warnings }) => {
                log_all(&warnings, |finding| tracing::warn!("{finding}"));
                let new = Arc::new(inventory);
                let old = shared.swap(Arc::clone(&new));
                on_change(&old, &new);
                tracing::info!(
                    machines = new.machines().len(),
                    duration_ms = begin.elapsed().as_millis(),
                    "cluster spec loaded"
                );
            }
            Err(SpecErrors { errors, warnings: _ }) => {
                log_all(&errors, |finding| tracing::error!("{finding}"));
                tracing::error!(errors = errors.len(), "cluster spec not loaded: the last good one stays in force");
            }
        }
    }
}

struct Task<R> {
    source: Source<R>,
    notifier: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
    /// The files as they were when they were last read.
    last_seen: Option<Vec<Stat>>,
}

impl<R: FnMut()> Task<R> {
    fn run(mut self, woken: &Receiver<Wake>) {
        while let Ok(first) = woken.recv() {
            match settle(first, woken) {
                Wake::Stop => return,
                Wake::Reload => self.last_seen = None,
                Wake::Changed => {}
            }
            self.reload();
            // The spec may have moved behind its links.
            self.watch_directories();
        }
    }

    fn reload(&mut self) {
        // Looked at before the files are read: what is written meanwhile looks different next time.
        let seen = (self.source.files)(&self.source.paths).and_then(stat_all);
        if seen.is_some() && seen == self.last_seen {
            return;
        }
        self.last_seen = seen;
        (self.source.reload)();
    }

    fn watch_directories(&mut self) {
        let wanted: BTreeSet<PathBuf> =
            self.source.paths.iter().flat_map(|path| directories_of(path, self.source.files)).collect();
        for gone in self.watched.difference(&wanted) {
            let _ = self.notifier.unwatch(gone);
        }
        let mut watched = BTreeSet::new();
        for directory in wanted {
            // Also those that are watched already: behind a link that moved, the same path is another directory.
            match self.notifier.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => _ = watched.insert(directory),
                Err(error) if self.watched.contains(&directory) => {
                    tracing::debug!(directory = %directory.display(), %error, "no longer watched");
                }
                Err(error) => {
                    let directory = directory.display();
                    tracing::warn!(%directory, %error, "cannot be watched: send SIGHUP after changes there");
                }
            }
        }
        self.watched = watched;
    }
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

/// What tells that a file is another one than before, without reading it.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    path: PathBuf,
    device: u64,
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

/// How each file looks. Nothing when one cannot be looked at, or when it was changed so recently that it could
/// change again without a later time: the kernel's clock for files has steps of some milliseconds.
fn stat_all(files: Vec<PathBuf>) -> Option<Vec<Stat>> {
    use std::os::unix::fs::MetadataExt as _;
    const STEP: Duration = Duration::from_millis(100);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let stat = |path: PathBuf| {
        let metadata = std::fs::metadata(&path).ok()?;
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        let since_epoch = Duration::new(u64::try_from(changed.0).ok()?, u32::try_from(changed.1).ok()?);
        let settled = now.checked_sub(since_epoch)? > STEP;
        settled.then(|| Stat { path, device: metadata.dev(), inode: metadata.ino(), length: metadata.len(), changed })
    };
    files.into_iter().map(stat).collect()
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
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_mistake_leaves_the_last_good_inventory_in_force() {
        let good = include_str!("../../../examples/lab.yaml");
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("lab.yaml");
        let changes = AtomicUsize::new(0);
        let shared = SharedInventory::default();
        let reload = reload(Loader::new(), vec![file.clone()], Arc::clone(&shared), |_, _| {
            changes.fetch_add(1, Ordering::Relaxed);
        });
        let mut task = Task {
            source: Source { paths: vec![file.clone()], files: files::of_spec, reload },
            notifier: notify::recommended_watcher(|_| {}).unwrap(),
            watched: BTreeSet::new(),
            last_seen: None,
        };
        for (text, expected_machines, expected_changes) in
            [(good, 4, 1), ("kind: [", 4, 1), ("", 4, 1), (&good.replace("10.0.0.12", "10.0.0.11"), 4, 1), (good, 4, 2)]
        {
            std::fs::write(&file, text).unwrap();
            task.reload();
            assert_eq!(shared.load().machines().len(), expected_machines, "{text}");
            assert_eq!(changes.load(Ordering::Relaxed), expected_changes, "{text}");
        }
    }

    #[test]
    fn every_link_on_the_way_is_watched_where_it_stands() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("releases/1")).unwrap();
        std::fs::write(root.join("releases/1/lab.yaml"), "").unwrap();
        std::os::unix::fs::symlink("releases/1", root.join("current")).unwrap();
        std::fs::create_dir(root.join("etc")).unwrap();
        std::os::unix::fs::symlink("../current/lab.yaml", root.join("etc/lab.yaml")).unwrap();
        let watched = directories_of(&root.join("etc/lab.yaml"), files::of_spec);
        let expected = [root.join("etc"), root.clone(), root.join("releases/1")];
        assert_eq!(watched, BTreeSet::from(expected));
        // Around in a circle, as far as the kernel goes.
        std::os::unix::fs::symlink("b", root.join("a")).unwrap();
        std::os::unix::fs::symlink("a", root.join("b")).unwrap();
        assert_eq!(directories_of(&root.join("a"), files::of_spec), BTreeSet::from([root]));
    }
}
