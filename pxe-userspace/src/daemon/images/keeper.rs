//! The files as they are on disk, and the snapshot that is made of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::Notify;

use super::{
    board::{Board, Ended, Found, Next, Task},
    bootable::{Bootable, Machines},
};
use crate::{
    artifacts::{self, FetchCommand, Presence, Problem, Records, Wanted},
    fetch::Progress,
    journal::{Journal, Stage},
    model::{
        event::EventKind,
        images::{FileState, ImageFile, Images, SharedImages, Stubs},
        inventory::{Inventory, SharedInventory},
    },
};

/// The interval at which the manifest is told which files the spec needs.
const NEEDED_EVERY: Duration = Duration::from_secs(1_800);

/// The parts that a [`Keeper`] works with.
pub(in crate::daemon) struct Setup {
    pub(in crate::daemon) records: Arc<Records>,
    pub(in crate::daemon) inventory: SharedInventory,
    pub(in crate::daemon) images: SharedImages,
    /// `pxed fetch` for this spec and directory.
    pub(in crate::daemon) command: FetchCommand,
    /// The reason why nothing is fetched, if that is so.
    pub(in crate::daemon) offline: Option<&'static str>,
}

/// The keeper of the files.
pub(in crate::daemon) struct Keeper {
    setup: Setup,
    state: Mutex<State>,
    /// Told when the plan has changed.
    pub(super) woken: Notify,
}

struct State {
    board: Board,
    bootable: Bootable,
    previous: Arc<Machines>,
    /// The values that `previous` was made of: the inventory, the stubs and the files that are served.
    made_of: Option<(Arc<Inventory>, Stubs, BTreeSet<Arc<str>>)>,
    /// The inventory that the plan was made of, and the stubs.
    planned: Option<(Arc<Inventory>, Stubs, Arc<[Wanted]>)>,
    published: BTreeMap<Arc<str>, ImageFile>,
    /// The files that a warning has named as put there by hand.
    by_hand: BTreeSet<Arc<str>>,
    told_needed: Option<Instant>,
}

impl Keeper {
    /// Creates a keeper, and publishes what is there. Blocks.
    pub(in crate::daemon) fn new(setup: Setup) -> Self {
        let state = State {
            board: Board::new(setup.offline.map(Arc::from)),
            bootable: Bootable::default(),
            previous: Arc::default(),
            made_of: None,
            planned: None,
            published: BTreeMap::new(),
            by_hand: BTreeSet::new(),
            told_needed: None,
        };
        let keeper = Self { setup, state: Mutex::new(state), woken: Notify::new() };
        keeper.look();
        keeper
    }

    /// Looks at the files that the inventory in force needs, and publishes what there is. Blocks.
    pub(in crate::daemon) fn look(&self) {
        let state = &mut *self.state();
        let Setup { records, inventory, .. } = &self.setup;
        let store = records.store();
        let (inventory, stubs) = (inventory.load_full(), store.stubs());
        let known = state.planned.clone().filter(|(of, with, _)| Arc::ptr_eq(of, &inventory) && *with == stubs);
        let plan = match known {
            Some((_, _, plan)) => plan,
            None => {
                let plan: Arc<[Wanted]> = artifacts::plan(&inventory, stubs).into();
                if self.setup.offline.is_none() && !plan.is_empty() {
                    make_directory(store.root());
                }
                state.board.plan(&plan, |wanted| wanted.remedy(store.root(), &self.setup.command));
                for Wanted { path, .. } in &*plan {
                    if records.entry(path).is_some_and(|entry| entry.file.is_some()) {
                        state.board.was_recorded(path);
                    }
                }
                state.planned = Some((Arc::clone(&inventory), stubs, Arc::clone(&plan)));
                state.told_needed = None;
                plan
            }
        };
        for wanted in &*plan {
            if let Some(found) = found(Presence::of(wanted, records), &store.root().join(&*wanted.path)) {
                let found = match found {
                    Found::Altered(reason) if records.is_a_persons(&wanted.path) => Found::Unusable(reason),
                    found => found,
                };
                state.board.find(&wanted.path, found);
            }
        }
        if state.told_needed.is_none_or(|told| told.elapsed() >= NEEDED_EVERY) {
            state.told_needed = Some(Instant::now());
            // The records keep what was needed before until all of this is there.
            let names: Vec<&str> = plan.iter().map(|wanted| &*wanted.path).collect();
            if let Err(error) = records.needed(&names, SystemTime::now()) {
                tracing::debug!("{error}");
            }
        }
        self.publish(state, &inventory, stubs);
    }

    /// Looks at the files of a new inventory, and has what is missing fetched. Blocks for as long as `stat` takes.
    pub(in crate::daemon) fn reload(&self) {
        self.look();
        self.woken.notify_one();
    }

    /// Publishes the state of the files, if it has changed.
    fn publish(&self, state: &mut State, inventory: &Arc<Inventory>, stubs: Stubs) {
        let files = state.board.files();
        let served: BTreeSet<_> =
            files.iter().filter(|(_, file)| file.state.is_served()).map(|(path, _)| Arc::clone(path)).collect();
        let is_made = state
            .made_of
            .as_ref()
            .is_some_and(|(of, known, before)| Arc::ptr_eq(of, inventory) && *known == stubs && *before == served);
        // The files of previous versions are in no plan any more, and may go at any time.
        if is_made && state.previous.is_empty() && files == state.published {
            return;
        }
        if !is_made || !state.previous.is_empty() {
            let store = self.setup.records.store();
            let is_served = |path: &str| match files.get(path) {
                Some(file) => file.state.is_served(),
                None => store.open(path.as_bytes()).is_ok_and(|file| file.length > 0),
            };
            state.previous = Arc::new(state.bootable.update(inventory, stubs, is_served));
            state.made_of = Some((Arc::clone(inventory), stubs, served));
        }
        warn_of_files_by_hand(state, &files);
        state.published.clone_from(&files);
        let images = Images::of_the_whole_plan(files, Arc::clone(&state.previous), stubs);
        self.setup.images.store(Arc::new(images));
    }

    /// Begins the most urgent tasks, so that at most `at_once` run.
    pub(super) fn begin(&self, journal: &Journal, at_once: usize) -> Vec<Task> {
        let now = SystemTime::now();
        let places = at_once.saturating_sub(self.state().board.running());
        if places == 0 {
            return Vec::new();
        }
        // Whom to ask only matters if there is a choice.
        let asked = if self.state().board.waiting(now) > places { asked(journal) } else { BTreeSet::new() };
        self.state().board.begin(places, &asked, now)
    }

    /// Forgets the running tasks, which have ended without a result.
    pub(super) fn forget_running(&self) {
        self.state().board.forget_running();
    }

    /// Takes in steps of running downloads, and publishes them.
    pub(super) fn steps(&self, steps: impl IntoIterator<Item = (Arc<str>, Progress)>) {
        let now = SystemTime::now();
        let state = &mut *self.state();
        for (path, step) in steps {
            state.board.step(&path, step, now);
        }
        if let Some((inventory, stubs, _)) = state.planned.clone() {
            self.publish(state, &inventory, stubs);
        }
    }

    /// Takes in the end of a task. Returns the pause before the next one, and whether the one before it failed for the same reason.
    pub(super) fn end(&self, path: &str, ended: Ended) -> Option<(Duration, bool)> {
        let now = SystemTime::now();
        let Next { again, is_repeated } = self.state().board.end(path, ended, now)?;
        Some((again.duration_since(now).unwrap_or_default(), is_repeated))
    }

    /// Returns whether the inventory still needs a file.
    pub(super) fn is_wanted(&self, path: &str) -> bool {
        self.state().board.is_wanted(path)
    }

    /// Returns whether the last attempt at a file failed.
    pub(super) fn has_failed(&self, path: &str) -> bool {
        self.state().board.has_failed(path)
    }

    pub(super) fn records(&self) -> &Arc<Records> {
        &self.setup.records
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the files that machines are waiting for now.
fn asked(journal: &Journal) -> BTreeSet<Arc<str>> {
    let inventory = journal.inventory();
    let records = journal.machines(inventory.machines(), 1, Some(Stage::AwaitingFiles));
    let events = records.into_iter().flat_map(|record| record.events);
    events.filter_map(|event| if let EventKind::Awaits { path, .. } = event.kind { Some(path) } else { None }).collect()
}

/// Returns what there is of a file for the board, or `None` if nothing can be said now.
fn found(presence: Presence, full: &Path) -> Option<Found> {
    Some(match presence {
        Presence::Verified(_) => Found::Recorded,
        Presence::StandIn(_) => Found::Packaged,
        Presence::ByHand { implausible } => Found::ByHand { implausible: implausible.map(Arc::from) },
        Presence::Changed => Found::Unverified,
        Presence::Altered(verdict) => Found::Altered(verdict.complaint(full).unwrap_or_default().into()),
        Presence::Missing(Problem::Absent | Problem::Empty) => Found::Nothing,
        Presence::Missing(problem @ Problem::Altered) => Found::Altered(problem.to_string().into()),
        Presence::Missing(problem) => Found::Unusable(problem.to_string().into()),
        Presence::Unknown => return None,
    })
}

/// Names files that a person put there once.
fn warn_of_files_by_hand(state: &mut State, files: &BTreeMap<Arc<str>, ImageFile>) {
    let is_by_hand = |file: &&ImageFile| file.state == FileState::ByHand;
    let new: Vec<_> = files
        .iter()
        .filter(|(path, file)| is_by_hand(file) && state.board.is_compared(path) && !state.by_hand.contains(*path))
        .map(|(path, _)| Arc::clone(path))
        .collect();
    if new.is_empty() {
        return;
    }
    tracing::warn!(
        "served as they are, since they were put there by hand and there is nothing to verify them against: {}",
        new.join(", ")
    );
    for path in &new {
        if let Some(reason) = state.board.implausible(path) {
            tracing::warn!("{path}: {reason}: machines may not boot from it");
        }
    }
    state.by_hand.extend(new);
}

/// Creates the artifacts directory if it is not there, since pxed fills it. Why it could not be is said by whoever needs it.
fn make_directory(path: &Path) {
    if !path.exists() && std::fs::create_dir_all(path).is_ok() {
        tracing::info!("created the artifacts directory {}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        artifacts::{Download, Proof, Sha256, Store},
        model::{architecture::Architecture, testing::machine},
    };

    /// Puts a download into the directory, as the fetcher does.
    fn install(records: &Records, path: &str) {
        let from = records.store().root().join("download");
        std::fs::write(&from, path).unwrap();
        let download = Download {
            sha256: Sha256::of(&std::fs::File::open(&from).unwrap()).unwrap().0,
            proof: Proof::FirstDownload,
            source: Some("http://x".into()),
        };
        records.install(&from, path, download, SystemTime::now()).unwrap();
    }

    #[test]
    fn version_that_machines_boot_meanwhile_makes_no_room() {
        let directory = tempfile::tempdir().unwrap();
        let records = Arc::new(Records::open(Arc::new(Store::new(directory.path().to_owned()))).0);
        for path in ["vmlinuz-v1.11.0-amd64", "vmlinuz-v1.12.0-amd64", "initramfs-v1.12.0-amd64.xz"] {
            install(&records, path);
        }
        let with = |version| Arc::new(Inventory::new(vec![machine(1, Architecture::Amd64, version, None)]));
        let setup = Setup {
            records: Arc::clone(&records),
            inventory: SharedInventory::new(arc_swap::ArcSwap::new(with("v1.12.0"))),
            images: SharedImages::default(),
            command: FetchCommand::default(),
            offline: Some("offline"),
        };
        let (inventory, images) = (Arc::clone(&setup.inventory), Arc::clone(&setup.images));
        let keeper = Keeper::new(setup);
        inventory.store(with("v1.13.0"));
        keeper.look();
        assert_eq!(images.load().previous(), 1);
        let removed = records.make_room(1, SystemTime::now());
        let removed: Vec<_> = removed.iter().map(|removed| &*removed.path).collect();
        assert_eq!(removed, ["vmlinuz-v1.11.0-amd64"]);
        // Nothing else may go.
        assert!(records.make_room(1, SystemTime::now()).is_empty());
    }
}
