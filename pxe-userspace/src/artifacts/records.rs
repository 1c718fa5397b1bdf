//! The records of a store's files: the manifest on disk and the gate in front of the files, kept in step.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use tokio::sync::watch;

use super::{
    manifest::{Entry, Identity, Manifest, Proof, Sha256, is_plain},
    manifest_file::{Loaded, ManifestError, ManifestFile, OWN_DIRECTORY},
    plan::quoted,
    refusal::Refusal,
    store::{OpenArtifact, Store},
};

/// The records of a store's files. Several processes may have one of the same directory.
#[derive(Debug)]
pub struct Records {
    store: Arc<Store>,
    file: ManifestFile,
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    manifest: Manifest,
    /// The version of the file that `manifest` was read from.
    version: Option<Identity>,
    /// The files that were read and do not have the recorded hash, with the one that they have.
    refused: HashMap<Arc<str>, (Identity, Sha256)>,
    /// The last trouble with the manifest, which is told once.
    told: Option<String>,
    /// The files that the spec needs, once somebody has said so.
    needed: Option<HashSet<Box<str>>>,
    /// Files of earlier specs, which machines may boot until those of the present one are there.
    needed_before: HashSet<Box<str>>,
}

/// The result of reading a file to verify it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has the recorded hash.
    Verified,
    /// It has another hash than the recorded one, so that it is not served.
    Altered {
        /// Its hash.
        found: Sha256,
        /// The hash that is recorded.
        recorded: Sha256,
        /// The reason to trust that one.
        proof: Proof,
    },
    /// No hash is recorded for it.
    Unrecorded,
    /// It is not there.
    Absent,
    /// It cannot be read. The reason follows.
    Failed(String),
}

/// The result of [`Records::accept`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// The file is served from now on as it is, with this hash.
    File(Sha256),
    /// There is no such file. What was recorded is forgotten, so that the next download is taken as it comes.
    Forgotten,
}

/// The reason why a file is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The path is not one below the artifacts directory.
    #[error("{0} is not a path below the artifacts directory {1}")]
    Outside(String, PathBuf),
    /// Neither the file nor a record of it exists.
    #[error("{0}: there is no such file")]
    Absent(PathBuf),
    /// The file cannot be read.
    #[error("{0}: {1}")]
    Unreadable(PathBuf, String),
    /// The manifest cannot be written.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// A file that was downloaded and verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    /// Its hash.
    pub sha256: Sha256,
    /// The reason to trust the hash.
    pub proof: Proof,
    /// The URL that it came from, if it came from one.
    pub source: Option<Arc<str>>,
}

impl Records {
    /// Reads the manifest and puts it in force, so that the store does not serve what is not as it was recorded. Also returns what is wrong
    /// with the manifest, in words; its files then count as put there by hand.
    #[must_use]
    pub fn open(store: Arc<Store>) -> (Self, Option<String>) {
        let file = ManifestFile::new(store.root());
        let records = Self { store, file, state: Mutex::default(), changed: watch::Sender::default() };
        let trouble = records.load(&mut records.state());
        (records, trouble)
    }

    /// Returns the store.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Returns a receiver that is told when the records have changed.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Returns the record of a file.
    #[must_use]
    pub fn entry(&self, path: &str) -> Option<Entry> {
        self.state().manifest.files.get(path).cloned()
    }

    /// Returns all records.
    #[must_use]
    pub fn manifest(&self) -> Manifest {
        self.state().manifest.clone()
    }

    /// Reads the manifest again if another process has changed it. Returns what is wrong with it, in words, once.
    pub fn refresh(&self) -> Option<String> {
        let mut state = self.state();
        if self.file.version() == state.version {
            return None;
        }
        self.load(&mut state)
    }

    /// Returns whether the file is the one that was found to have the recorded hash, by what `stat` says.
    #[must_use]
    pub fn is_as_recorded(&self, path: &str) -> bool {
        let found = self.store.open_unverified(path).map(|artifact| artifact.identity()).ok();
        found.is_some() && self.entry(path).is_some_and(|entry| entry.file == found)
    }

    /// Returns the hash of a file that was read and does not have the recorded one.
    #[must_use]
    pub fn refused(&self, path: &str) -> Option<Sha256> {
        self.state().refused.get(path).map(|&(_, found)| found)
    }

    /// Moves a verified download to its place and records it. The download has to be on the same filesystem, and its content on disk.
    /// Transfers of the file that was there before end with that one's bytes.
    ///
    /// # Errors
    ///
    /// If it cannot be moved, or the manifest cannot be written.
    pub fn install(&self, from: &Path, path: &str, download: Download, now: SystemTime) -> Result<(), ManifestError> {
        let to = self.store.root().join(path);
        let failed = |action| {
            let path = to.clone();
            move |source| ManifestError::Io { action, path, source }
        };
        let parent = to.parent().unwrap_or(self.store.root());
        fs::create_dir_all(parent).map_err(failed("create the directory of"))?;
        let identity =
            File::open(from).and_then(|file| Identity::of(&file)).map_err(failed("examine the download for"))?;
        let Download { sha256, proof, source } = download;
        let before = self.entry(path);
        let (file, needed) = (Some(identity), seconds(now));
        let entry = Entry { sha256, proof, source, file, by_hand: false, contradicts: false, needed };
        // First, so that a crash in between leaves no file that nobody knows.
        self.record(path, &entry)?;
        if let Err(error) = fs::rename(from, &to) {
            self.change(|manifest| drop(put(manifest, path, before.clone())))?;
            return Err(failed("write")(error));
        }
        sync_directory(parent).map_err(failed("write"))
    }

    /// Records a file. A file in its place that is not the recorded one is not served before it was read.
    ///
    /// # Errors
    ///
    /// If the manifest cannot be written. The record is in force all the same, until this process ends.
    pub fn record(&self, path: &str, entry: &Entry) -> Result<(), ManifestError> {
        self.state().refused.remove(path);
        self.change(|manifest| drop(put(manifest, path, Some(entry.clone()))))
    }

    /// Returns whether a file is in this place that a person put there, and that no download may replace: it contradicts its published
    /// checksum, it is not the one that was accepted by hand, or nothing is recorded of it.
    #[must_use]
    pub fn is_a_persons(&self, path: &str) -> bool {
        // Also one that cannot be opened.
        let there = fs::metadata(self.store.root().join(path));
        match self.entry(path) {
            Some(entry) => entry.protects_other_files() && there.is_ok(),
            None => there.is_ok_and(|there| there.is_file() && there.len() > 0),
        }
    }

    /// Reads a file that a person put there and records the published checksum. A file with another hash is not served any longer, unless
    /// it has been accepted by hand. No download replaces it.
    ///
    /// # Errors
    ///
    /// If the manifest cannot be written.
    pub fn compare(
        &self,
        path: &str,
        published: Sha256,
        source: Arc<str>,
        now: SystemTime,
    ) -> Result<Verdict, ManifestError> {
        let proof = Proof::PublishedChecksum;
        self.compare_with(path, Download { sha256: published, proof, source: Some(source) }, now)
    }

    /// Reads a file that a person put there and records the hash of what could be downloaded in its place, as [`Records::compare`] does.
    ///
    /// # Errors
    ///
    /// If the manifest cannot be written.
    pub fn compare_with(&self, path: &str, offered: Download, now: SystemTime) -> Result<Verdict, ManifestError> {
        let Download { sha256, proof, source } = offered;
        let known = self.entry(path);
        if known.as_ref().is_some_and(|known| known.proof == Proof::Accepted) {
            return Ok(self.verify(path));
        }
        let (found, identity) = match self.read(path) {
            Ok(read) => read,
            Err(verdict) => return Ok(verdict),
        };
        let file = (found == sha256).then_some(identity);
        let needed = known.as_ref().map_or(seconds(now), |known| known.needed);
        let by_hand = known.as_ref().is_none_or(|known| known.by_hand);
        let contradicts = file.is_none() && known.as_ref().is_none_or(|known| known.contradicts);
        let entry = Entry { sha256, proof, source, file, by_hand, contradicts, needed };
        self.conclude(path, (found, identity), known.as_ref(), &entry)
    }

    /// Reads a file whose hash is recorded, and records whether it still has it.
    #[must_use]
    pub fn verify(&self, path: &str) -> Verdict {
        let Some(entry) = self.entry(path) else {
            return match self.store.open_unverified(path) {
                Ok(_) => Verdict::Unrecorded,
                Err(refusal) => verdict(refusal),
            };
        };
        let (found, identity) = match self.read(path) {
            Ok(read) => read,
            Err(verdict) => return verdict,
        };
        let file = (found == entry.sha256).then_some(identity);
        let contradicts = entry.contradicts && file.is_none();
        match self.conclude(path, (found, identity), Some(&entry), &Entry { file, contradicts, ..entry.clone() }) {
            Ok(verdict) => verdict,
            Err(error) => Verdict::Failed(error.to_string()),
        }
    }

    /// Puts the result of reading a file in force, unless another process has changed the record from what it was `before`.
    fn conclude(
        &self,
        path: &str,
        (found, identity): (Sha256, Identity),
        before: Option<&Entry>,
        entry: &Entry,
    ) -> Result<Verdict, ManifestError> {
        let verdict = match entry.file {
            Some(_) => Verdict::Verified,
            None => Verdict::Altered { found, recorded: entry.sha256, proof: entry.proof },
        };
        match verdict {
            Verdict::Verified => drop(self.state().refused.remove(path)),
            _ => drop(self.state().refused.insert(path.into(), (identity, found))),
        }
        let trusted = |entry: &Entry| (entry.sha256, entry.proof);
        let written = self.change(|manifest| {
            if manifest.files.get(path).map(trusted) == before.map(trusted) {
                drop(put(manifest, path, Some(entry.clone())));
            }
        });
        match (&verdict, written) {
            // The records in force in this process suffice: where the manifest cannot be written, the next start reads the file again.
            (Verdict::Verified, Err(error)) => tracing::debug!("{error}"),
            (_, written) => written?,
        }
        Ok(verdict)
    }

    /// Records the hash that a file has now, so that it is served as it is, or forgets the record if the file is gone. `path` is absolute, or
    /// relative to the artifacts directory.
    ///
    /// # Errors
    ///
    /// If there is nothing to accept, the file cannot be read, or the manifest cannot be written.
    pub fn accept(&self, path: &Path, now: SystemTime) -> Result<Accepted, AcceptError> {
        let path = self
            .relative(path)
            .ok_or_else(|| AcceptError::Outside(path.display().to_string(), self.store.root().to_owned()))?;
        let full = || self.store.root().join(&path);
        match self.read(&path) {
            Ok((sha256, identity)) => {
                let entry = Entry {
                    sha256,
                    proof: Proof::Accepted,
                    source: None,
                    file: Some(identity),
                    by_hand: true,
                    contradicts: false,
                    needed: seconds(now),
                };
                self.record(&path, &entry)?;
                Ok(Accepted::File(sha256))
            }
            Err(Verdict::Absent) if self.entry(&path).is_some() => {
                self.state().refused.remove(&*path);
                self.change(|manifest| drop(put(manifest, &path, None)))?;
                Ok(Accepted::Forgotten)
            }
            Err(Verdict::Failed(reason)) => Err(AcceptError::Unreadable(full(), reason)),
            Err(_) => Err(AcceptError::Absent(full())),
        }
    }

    /// Remembers that the spec needs these files now, and no others. It costs a write once an hour at most.
    ///
    /// # Errors
    ///
    /// If the manifest cannot be written.
    pub fn needed(&self, paths: &[&str], now: SystemTime) -> Result<(), ManifestError> {
        self.keep(paths.iter().map(|&path| path.into()).collect());
        const EVERY: u64 = 3600;
        let now = seconds(now);
        let is_old = |entry: &Entry| now.abs_diff(entry.needed) >= EVERY;
        if !paths.iter().any(|&path| self.entry(path).as_ref().is_some_and(is_old)) {
            return Ok(());
        }
        self.change(|manifest| {
            for &path in paths {
                if let Some(entry) = manifest.files.get_mut(path) {
                    entry.needed = now;
                }
            }
        })
    }

    fn keep(&self, needed: HashSet<Box<str>>) {
        let is_complete = self.is_complete();
        let mut state = self.state();
        if is_complete {
            state.needed_before.clear();
        }
        if state.needed.as_ref() != Some(&needed) {
            let before = state.needed.replace(needed).unwrap_or_default();
            state.needed_before.extend(before);
        }
    }

    /// Returns whether every file is there that the spec needs.
    fn is_complete(&self) -> bool {
        let needed = self.state().needed.clone().unwrap_or_default();
        needed.iter().all(|path| self.store.open(path.as_bytes()).is_ok())
    }

    /// Returns the files that must not be removed, or `None` if nobody has said what is needed.
    pub(super) fn kept(&self) -> Option<HashSet<Box<str>>> {
        let is_complete = self.is_complete();
        let state = self.state();
        let mut kept = state.needed.clone()?;
        if !is_complete {
            kept.extend(state.needed_before.iter().cloned());
        }
        Some(kept)
    }

    /// Records that these files are gone.
    pub(super) fn removed(&self, paths: &[&str]) -> Result<(), ManifestError> {
        if paths.is_empty() {
            return Ok(());
        }
        self.change(|manifest| {
            for &path in paths {
                if let Some(entry) = manifest.files.get_mut(path) {
                    entry.file = None;
                }
            }
        })
    }

    /// Returns a path as the manifest has it, or `None` if it is not one below the artifacts directory.
    #[must_use]
    pub fn relative(&self, path: &Path) -> Option<String> {
        let root = self.store.root();
        let below = path.strip_prefix(root).or_else(|_| match path.is_absolute() {
            false => Ok(path),
            true => Err(()),
        });
        let below = below.ok()?.components().collect::<PathBuf>();
        let below = below.to_str()?.trim_start_matches("./").to_owned();
        let is_own = below.split('/').next().is_some_and(|first| first.eq_ignore_ascii_case(OWN_DIRECTORY));
        (is_plain(&below) && !is_own).then_some(below)
    }

    /// Reads a file and returns its hash.
    fn read(&self, path: &str) -> Result<(Sha256, Identity), Verdict> {
        let OpenArtifact { file, .. } = self.store.open_unverified(path).map_err(verdict)?;
        Sha256::of(&file).map_err(|error| Verdict::Failed(error.to_string()))
    }

    /// Changes the manifest on disk and what is in force. If it cannot be written, the change is in force until this process ends.
    fn change(&self, change: impl Fn(&mut Manifest)) -> Result<(), ManifestError> {
        let mut state = self.state();
        let updated = self.file.update(SystemTime::now(), &change);
        let result = match updated {
            Ok((Loaded { manifest, version, damage }, aside)) => {
                state.manifest = manifest;
                state.version = version;
                if let Some(damage) = damage {
                    state.told = Some(self.damaged(&damage, aside.as_deref()));
                }
                Ok(())
            }
            Err(error) => {
                change(&mut state.manifest);
                Err(error)
            }
        };
        self.put_in_force(&state);
        result
    }

    /// Reads the manifest, sets a damaged one aside, and puts what there is in force. Returns the trouble, in words.
    fn load(&self, state: &mut State) -> Option<String> {
        let trouble = match self.file.load() {
            Ok(Loaded { damage: None, manifest, version }) => {
                (state.manifest, state.version) = (manifest, version);
                None
            }
            Ok(Loaded { damage: Some(damage), version, manifest }) => {
                let aside = match self.file.update(SystemTime::now(), |_| {}) {
                    Ok((loaded, aside)) => {
                        (state.manifest, state.version) = (loaded.manifest, loaded.version);
                        aside
                    }
                    Err(_) => {
                        (state.manifest, state.version) = (manifest, version);
                        None
                    }
                };
                Some(self.damaged(&damage, aside.as_deref()))
            }
            // The records in force stay.
            Err(error) => Some(format!("{error}: what is known of the files stays as it was")),
        };
        self.put_in_force(state);
        let is_told = trouble == state.told;
        state.told.clone_from(&trouble);
        trouble.filter(|_| !is_told)
    }

    fn damaged(&self, damage: &str, aside: Option<&Path>) -> String {
        let (path, root) = (self.file.path(), self.store.root());
        let kept = match aside {
            Some(aside) => format!("It is kept as {}", aside.display()),
            None => "It stays there, because it cannot be moved aside".to_owned(),
        };
        format!(
            "{} is damaged: {damage}. Files in {} of which it does not tell any more count as put there by hand until pxed fetch has \
             verified them again. {kept}",
            path.display(),
            root.display()
        )
    }

    fn put_in_force(&self, state: &State) {
        let refused = state.refused.iter().map(|(path, &(identity, _))| (Arc::clone(path), identity)).collect();
        self.store.gate().set(&state.manifest, &refused);
        self.changed.send_replace(());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Verdict {
    /// Returns the sentence for a person about the file at `path`, or `None` if nothing is wrong.
    #[must_use]
    pub fn complaint(&self, path: &Path) -> Option<String> {
        let shown = path.display();
        match self {
            Self::Verified | Self::Unrecorded => None,
            Self::Altered { found, recorded, proof } => Some(format!(
                "{shown} is not served: its SHA-256 is {found}, and the {proof} says {recorded}. Delete it, so that it is fetched again, or \
                 keep it as it is with pxed fetch --accept {}",
                quoted(path)
            )),
            Self::Absent => Some(format!("{shown} is not there")),
            Self::Failed(reason) => Some(format!("{shown} cannot be verified: {reason}")),
        }
    }
}

fn verdict(refusal: Refusal) -> Verdict {
    match refusal {
        Refusal::NotFound => Verdict::Absent,
        refusal => Verdict::Failed(refusal.reason().to_owned()),
    }
}

/// Sets or removes a record.
fn put(manifest: &mut Manifest, path: &str, entry: Option<Entry>) -> Option<Entry> {
    match entry {
        Some(entry) => manifest.files.insert(path.into(), entry),
        None => manifest.files.remove(path),
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests;
