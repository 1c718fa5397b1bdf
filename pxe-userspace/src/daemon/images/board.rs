//! The account of the files that the inventory needs: what is there, what is on its way, and what is fetched next. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    artifacts::{Content, Wanted},
    fetch::{Job, Progress},
    model::images::{FileState, ImageFile},
};

/// The pause after the first round of attempts that failed. Each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// The longest pause between two rounds.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// The longest pause that a server is granted. It may ask for centuries.
const LONGEST_ASKED: Duration = Duration::from_secs(3_600);

/// The content of the artifacts directory at a file's path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing, or an empty file.
    #[default]
    Nothing,
    /// The recorded file.
    Recorded,
    /// A file of one of the host's packages.
    Packaged,
    /// A file that a person put there.
    ByHand {
        /// The reason why it cannot be what its name says, if there is one.
        implausible: Option<Arc<str>>,
    },
    /// A file that has to be read first.
    Unverified,
    /// Another file than the recorded one, with what a person can do, in words.
    Altered(Arc<str>),
    /// A file that cannot be served, with the reason.
    Unusable(Arc<str>),
}

/// Something to do for a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Download it.
    Fetch(Job),
    /// Compare a file that a person put there with its published checksum.
    Compare(Job),
}

impl Task {
    /// Returns the file.
    pub(super) fn job(&self) -> &Job {
        let (Self::Fetch(job) | Self::Compare(job)) = self;
        job
    }
}

/// The end of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It is done.
    Done,
    /// It failed.
    Failed {
        /// The reason, in words for a person.
        reason: String,
        /// The pause that the server asked for.
        retry_after: Option<Duration>,
    },
}

/// The attempt after one that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    /// Its time.
    pub(super) again: SystemTime,
    /// Set if the one before it failed for the same reason.
    pub(super) is_repeated: bool,
}

/// The work at a file.
#[derive(Debug, Default)]
enum Work {
    /// None so far.
    #[default]
    None,
    /// A task runs.
    Running(Run),
    /// The last task failed.
    Failed { reason: Arc<str>, since: SystemTime, again: SystemTime },
    /// There is nothing more to do for a file that a person put there.
    Compared,
}

/// A running task.
#[derive(Debug, Default)]
struct Run {
    is_comparison: bool,
    /// The last step, unless it is only about to begin.
    step: Option<Progress>,
    /// The end of the pause after a failed attempt.
    again: Option<SystemTime>,
    speed: Speed,
}

/// The speed of a download, smoothed.
#[derive(Debug, Default)]
struct Speed {
    last: Option<(SystemTime, u64)>,
    bytes_per_second: Option<f64>,
}

/// A file that the inventory needs.
#[derive(Debug)]
struct Item {
    wanted: Wanted,
    remedy: Arc<[String]>,
    found: Found,
    work: Work,
    /// The rounds that failed in a row.
    failures: u32,
    /// The reason of the last of them.
    complaint: Option<Arc<str>>,
    /// Set if an altered file is replaced: it was as recorded while pxed knew it. One that was refused before stays for a person to decide.
    is_replaced: bool,
}

/// The account.
#[derive(Debug)]
pub(super) struct Board {
    items: BTreeMap<Arc<str>, Item>,
    /// The reason why nothing is fetched, if that is so.
    offline: Option<Arc<str>>,
}

impl Board {
    /// Creates an account without files. `offline` is the reason why nothing is fetched, if that is so.
    pub(super) fn new(offline: Option<Arc<str>>) -> Self {
        Self { items: BTreeMap::new(), offline }
    }

    /// Takes another plan. What is known of files that stay is kept.
    pub(super) fn plan(&mut self, plan: &[Wanted], remedy: impl Fn(&Wanted) -> Vec<String>) {
        let mut before = std::mem::take(&mut self.items);
        for wanted in plan {
            let path = Arc::clone(&wanted.path);
            let (wanted, remedy) = (wanted.clone(), remedy(wanted).into());
            let item = match before.remove(&path) {
                Some(known) if known.wanted.source == wanted.source => Item { wanted, remedy, ..known },
                _ => Item {
                    wanted,
                    remedy,
                    found: Found::default(),
                    work: Work::default(),
                    failures: 0,
                    complaint: None,
                    is_replaced: false,
                },
            };
            self.items.insert(path, item);
        }
    }

    /// Returns whether the inventory needs a file.
    pub(super) fn is_wanted(&self, path: &str) -> bool {
        self.items.contains_key(path)
    }

    /// Returns the reason why a file that a person put there cannot be what its name says, if there is one.
    pub(super) fn implausible(&self, path: &str) -> Option<&Arc<str>> {
        match &self.items.get(path)?.found {
            Found::ByHand { implausible } => implausible.as_ref(),
            _ => None,
        }
    }

    /// Takes in what the directory has of a file.
    pub(super) fn find(&mut self, path: &str, found: Found) {
        let Some(item) = self.items.get_mut(path) else { return };
        if item.found == found {
            return;
        }
        // A file that came, went or changed is another case. One that is fetched by another process may come at any time.
        if !matches!(item.work, Work::Running(_)) {
            item.work = Work::None;
            item.failures = 0;
            item.complaint = None;
        }
        match found {
            Found::Recorded => item.is_replaced = true,
            Found::Nothing | Found::Packaged | Found::ByHand { .. } => item.is_replaced = false,
            Found::Unverified | Found::Altered(_) | Found::Unusable(_) => {}
        }
        item.found = found;
    }

    /// Says that a file was as recorded when pxed was there last, so that it is fetched again if it is no longer.
    pub(super) fn was_recorded(&mut self, path: &str) {
        if let Some(item) = self.items.get_mut(path) {
            item.is_replaced = true;
        }
    }

    /// Returns whether a file that a person put there is known to have nothing to be verified against.
    pub(super) fn is_compared(&self, path: &str) -> bool {
        let item = self.items.get(path);
        item.is_some_and(|item| {
            matches!(item.work, Work::Compared) || item.wanted.source.is_none() || self.offline.is_some()
        })
    }

    /// Returns whether the last attempt at a file failed.
    pub(super) fn has_failed(&self, path: &str) -> bool {
        self.items.get(path).is_some_and(|item| item.complaint.is_some())
    }

    /// Returns the number of running tasks.
    pub(super) fn running(&self) -> usize {
        self.items.values().filter(|item| matches!(item.work, Work::Running(_))).count()
    }

    /// Forgets the running tasks, which have ended without a result.
    pub(super) fn forget_running(&mut self) {
        for item in self.items.values_mut() {
            if let Work::Running(_) = item.work {
                item.work = Work::None;
            }
        }
    }

    /// Returns the number of files that wait for a task.
    pub(super) fn waiting(&self, now: SystemTime) -> usize {
        self.items.values().filter(|item| self.task(item, now).is_some()).count()
    }

    /// Begins the most urgent tasks, at most `places`. `asked` has files that machines wait for.
    pub(super) fn begin(&mut self, places: usize, asked: &BTreeSet<Arc<str>>, now: SystemTime) -> Vec<Task> {
        let mut due: Vec<_> = self.items.values().filter_map(|item| Some((item, self.task(item, now)?))).collect();
        due.sort_by_key(|(item, task)| {
            let Wanted { path, severity, content, needed_by, .. } = &item.wanted;
            let is_loader = matches!(content, Content::Loader | Content::Stub(_));
            let is_comparison = matches!(task, Task::Compare(_));
            // Loaders are small, and needed first of all.
            (!asked.contains(path), *severity, is_comparison, !is_loader, std::cmp::Reverse(needed_by.machines))
        });
        let tasks: Vec<_> = due.into_iter().map(|(_, task)| task).take(places).collect();
        for task in &tasks {
            if let Some(item) = self.items.get_mut(&task.job().path) {
                let is_comparison = matches!(task, Task::Compare(_));
                item.work = Work::Running(Run { is_comparison, ..Run::default() });
            }
        }
        tasks
    }

    /// Returns what is to be done for a file now.
    fn task(&self, item: &Item, now: SystemTime) -> Option<Task> {
        let job = Job::of(&item.wanted).filter(|_| self.offline.is_none())?;
        match item.work {
            Work::Running(_) | Work::Compared => return None,
            // A clock that was set back ends the pause: it could last for years.
            Work::Failed { since, again, .. } if (since..again).contains(&now) => return None,
            Work::None | Work::Failed { .. } => {}
        }
        match item.found {
            Found::Nothing => Some(Task::Fetch(job)),
            Found::Altered(_) if item.is_replaced => Some(Task::Fetch(job)),
            Found::ByHand { .. } => Some(Task::Compare(job)),
            _ => None,
        }
    }

    /// Takes in a step of a running download.
    pub(super) fn step(&mut self, path: &str, step: Progress, now: SystemTime) {
        let Some(Item { work: Work::Running(run), .. }) = self.items.get_mut(path) else { return };
        run.again = match &step {
            Progress::Pausing { pause, .. } if run.step.as_ref() == Some(&step) => run.again.or(Some(now + *pause)),
            Progress::Pausing { pause, .. } => Some(now + *pause),
            _ => None,
        };
        if let Progress::Receiving { done, .. } = step {
            run.speed.take(now, done);
        }
        run.step = Some(step);
    }

    /// Takes in the end of a task. Returns the next one, if there is one.
    pub(super) fn end(&mut self, path: &str, ended: Ended, now: SystemTime) -> Option<Next> {
        let item = self.items.get_mut(path)?;
        let Work::Running(run) = &item.work else { return None };
        let is_comparison = run.is_comparison;
        match ended {
            Ended::Done => {
                item.failures = 0;
                item.complaint = None;
                item.work = if is_comparison { Work::Compared } else { Work::None };
                None
            }
            Ended::Failed { reason, retry_after } => {
                let doubled = FIRST_PAUSE.saturating_mul(1 << item.failures.min(16));
                let pause = doubled.min(LONGEST_PAUSE).max(retry_after.unwrap_or_default().min(LONGEST_ASKED));
                item.failures = item.failures.saturating_add(1);
                let again = now + pause;
                let reason: Arc<str> = reason.into();
                let is_repeated = item.complaint.replace(Arc::clone(&reason)).is_some_and(|before| before == reason);
                item.work = Work::Failed { reason, since: now, again };
                Some(Next { again, is_repeated })
            }
        }
    }

    /// Returns every file with its state.
    pub(super) fn files(&self) -> BTreeMap<Arc<str>, ImageFile> {
        self.items.iter().map(|(path, item)| (Arc::clone(path), self.file(item))).collect()
    }

    fn file(&self, item: &Item) -> ImageFile {
        let needed_by = &item.wanted.needed_by;
        ImageFile {
            state: self.state(item),
            machines: needed_by.machines,
            only_for: needed_by.condition,
            remedy: Arc::clone(&item.remedy),
        }
    }

    fn state(&self, item: &Item) -> FileState {
        let missing = |reason: &Arc<str>| FileState::Missing { reason: Arc::clone(reason) };
        match &item.found {
            Found::Recorded => FileState::Verified,
            Found::Packaged => FileState::Packaged,
            Found::ByHand { .. } => FileState::ByHand,
            Found::Unverified => FileState::Verifying,
            Found::Unusable(reason) => FileState::Refused { reason: Arc::clone(reason) },
            Found::Altered(reason) if !item.is_replaced || item.wanted.source.is_none() || self.offline.is_some() => {
                FileState::Refused { reason: Arc::clone(reason) }
            }
            Found::Nothing | Found::Altered(_) => match (&item.work, &self.offline) {
                _ if item.wanted.source.is_none() => missing(&NO_SOURCE.into()),
                (_, Some(offline)) => missing(offline),
                (Work::Running(run), None) => run.state(),
                (Work::Failed { reason, again, .. }, None) => {
                    FileState::Failed { reason: Arc::clone(reason), again: *again }
                }
                (Work::None | Work::Compared, None) => FileState::Queued,
            },
        }
    }
}

/// The reason why a file of the user's own is not fetched.
const NO_SOURCE: &str = "no upstream has it, so it has to be put into the artifacts directory";

impl Run {
    fn state(&self) -> FileState {
        match &self.step {
            Some(Progress::Receiving { done, total }) => FileState::Fetching {
                done: *done,
                total: *total,
                rest: total.and_then(|total| self.speed.rest(total.saturating_sub(*done))),
            },
            Some(Progress::Pausing { reason, .. }) => FileState::Failed {
                reason: reason.as_str().into(),
                again: self.again.unwrap_or(SystemTime::UNIX_EPOCH),
            },
            Some(Progress::Queued) => FileState::Queued,
            Some(Progress::Asked | Progress::Elsewhere) | None => {
                FileState::Fetching { done: 0, total: None, rest: None }
            }
        }
    }
}

impl Speed {
    /// The shortest time between two samples.
    const SAMPLE: Duration = Duration::from_millis(500);

    fn take(&mut self, now: SystemTime, done: u64) {
        let Some((then, before)) = self.last else {
            self.last = Some((now, done));
            return;
        };
        let Ok(elapsed) = now.duration_since(then) else { return };
        if done < before {
            // Another beginning.
            *self = Self { last: Some((now, done)), bytes_per_second: None };
        } else if elapsed >= Self::SAMPLE {
            let sample = (done - before) as f64 / elapsed.as_secs_f64();
            self.bytes_per_second =
                Some(self.bytes_per_second.map_or(sample, |known| known.mul_add(0.7, sample * 0.3)));
            self.last = Some((now, done));
        }
    }

    fn rest(&self, bytes: u64) -> Option<Duration> {
        let speed = self.bytes_per_second.filter(|&speed| speed >= 1.0)?;
        Duration::try_from_secs_f64(bytes as f64 / speed).ok()
    }
}

#[cfg(test)]
#[path = "board/tests.rs"]
mod tests;
