//! The manifest on disk, `.pxed/manifest.json` in the artifacts directory, which several processes may use at the same time.
//!
//! Whoever changes it reads it again under a lock and writes it before the lock is released, so that no change of another process is lost.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime},
};

use super::manifest::{Identity, Manifest};
pub use crate::model::artifact_names::OWN_DIRECTORY;
use crate::own_file::{Found, NONBLOCK, OwnFile};

const FILE: &str = "manifest.json";
/// The most bytes that are read.
const FILE_LIMIT: u64 = 64 << 20;
/// The time that another process may hold the lock. It does so for a few milliseconds.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_AGAIN: Duration = Duration::from_millis(10);

/// The reason why the manifest cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A file or directory cannot be created, read or written.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// The action that failed.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another process holds the lock.
    #[error("{path} has been locked by another process for {} seconds: if it hangs, end it (fuser -v names it)", LOCK_PATIENCE.as_secs(), path = path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
}

/// The manifest file of an artifacts directory.
#[derive(Debug)]
pub(super) struct ManifestFile {
    directory: PathBuf,
    file: OwnFile,
}

/// A manifest as it was read.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) manifest: Manifest,
    /// The file that it was read from; `None` if there is none.
    pub(super) version: Option<Identity>,
    /// The damage, if the file is damaged. What can still be read of it is in `manifest`.
    pub(super) damage: Option<String>,
}

impl ManifestFile {
    pub(super) fn new(root: &Path) -> Self {
        let directory = root.join(OWN_DIRECTORY);
        // `pxed fetch` may be another user's.
        let file = OwnFile::new(&directory, FILE, FILE_LIMIT).with_mode(0o644);
        Self { directory, file }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.file.path()
    }

    /// Returns the identity of the file, which changes with each version; `None` if there is none.
    pub(super) fn version(&self) -> Option<Identity> {
        let metadata = fs::metadata(self.path()).ok()?;
        Some(Identity::new(metadata.len(), metadata.ino(), metadata.modified().ok()?))
    }

    /// Reads the manifest, which is empty if there is no file.
    pub(super) fn load(&self) -> Result<Loaded, ManifestError> {
        let path = self.path();
        let failed = |source| ManifestError::Io { action: "read", path: path.clone(), source };
        let (parsed, version) = match self.file.read().map_err(failed)? {
            Found::Nothing => return Ok(Loaded::default()),
            Found::Bytes(text, file) => {
                let parsed = Manifest::parse(&text).map_err(|damage| (Manifest::salvage(&text), damage));
                (parsed, Some(Identity::of(&file).map_err(failed)?))
            }
            Found::Damaged(damage) => (Err((Manifest::default(), damage)), self.version()),
        };
        let (manifest, damage) = match parsed {
            Ok(manifest) => (manifest, None),
            Err((manifest, damage)) => (manifest, Some(damage)),
        };
        Ok(Loaded { manifest, version, damage })
    }

    /// Changes the manifest under the lock. A damaged one is set aside first. Returns what was read, with the change, and the name that
    /// the damaged file has now.
    pub(super) fn update(
        &self,
        now: SystemTime,
        change: impl FnOnce(&mut Manifest),
    ) -> Result<(Loaded, Option<PathBuf>), ManifestError> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| ManifestError::Io { action, path, source }
        };
        fs::create_dir_all(&self.directory).map_err(failed("create", &self.directory))?;
        let _lock = self.lock()?;
        let mut loaded = self.load()?;
        let aside = match loaded.damage {
            Some(_) => self.file.set_aside(now).map_err(failed("move aside", &self.path()))?,
            None => None,
        };
        let before = loaded.manifest.clone();
        change(&mut loaded.manifest);
        let is_lost = aside.is_some() && !before.files.is_empty();
        if loaded.manifest != before || is_lost {
            let text = loaded.manifest.to_json();
            self.file.replace(|file| file.write_all(text.as_bytes())).map_err(failed("write", &self.path()))?;
            loaded.version = self.version();
        }
        Ok((loaded, aside))
    }

    /// Waits for the lock. It is released when the file is dropped.
    fn lock(&self) -> Result<File, ManifestError> {
        let path = self.directory.join("lock");
        let failed = |source| ManifestError::Io { action: "lock", path: path.clone(), source };
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).custom_flags(NONBLOCK);
        let file = options.open(&path).map_err(failed)?;
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(LOCK_AGAIN),
                Err(TryLockError::WouldBlock) => return Err(ManifestError::Locked { path }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        artifacts::manifest::{Entry, Proof, Sha256},
        own_file::tests::OTHER_KINDS,
    };

    fn entry(byte: u8) -> Entry {
        let sha256 = Sha256([byte; 32]);
        Entry { sha256, proof: Proof::Accepted, source: None, file: None, by_hand: true, contradicts: false, needed: 0 }
    }

    #[test]
    fn updates_of_several_processes_all_arrive() {
        let directory = tempfile::tempdir().unwrap();
        const EACH: u8 = 25;
        thread::scope(|scope| {
            for process in 0..4_u8 {
                // Locks belong to open files, so that threads which open their own exclude each other as processes do.
                let file = ManifestFile::new(directory.path());
                scope.spawn(move || {
                    for number in 0..EACH {
                        let path: Arc<str> = format!("{process}-{number}").into();
                        let added = |manifest: &mut Manifest| drop(manifest.files.insert(path, entry(number)));
                        file.update(SystemTime::now(), added).unwrap();
                    }
                });
            }
        });
        let file = ManifestFile::new(directory.path());
        assert_eq!(file.load().unwrap().manifest.files.len(), 4 * usize::from(EACH));
        let mut names: Vec<_> = fs::read_dir(directory.path().join(OWN_DIRECTORY))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["lock", FILE], "nothing is left over");
    }

    #[test]
    fn version_tells_every_change_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let file = ManifestFile::new(directory.path());
        assert_eq!(file.version(), None);
        let mut last = None;
        for byte in 0..5 {
            let set = |manifest: &mut Manifest| drop(manifest.files.insert("kernel".into(), entry(byte)));
            let (loaded, _) = file.update(SystemTime::now(), set).unwrap();
            assert_ne!(loaded.version, last);
            assert_eq!((loaded.version, file.load().unwrap().version), (file.version(), file.version()));
            last = loaded.version;
        }
        file.update(SystemTime::now(), |_| {}).unwrap();
        assert_eq!(file.version(), last, "nothing was changed");
    }

    #[test]
    fn damaged_manifest_is_set_aside_at_the_next_update() {
        let directory = tempfile::tempdir().unwrap();
        let file = ManifestFile::new(directory.path());
        fs::create_dir(directory.path().join(OWN_DIRECTORY)).unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        fs::write(file.path(), "damaged").unwrap();
        let loaded = file.load().unwrap();
        assert!(loaded.damage.is_some() && loaded.manifest.files.is_empty());
        let (_, aside) = file.update(now, |_| {}).unwrap();
        assert_eq!(fs::read_to_string(aside.unwrap()).unwrap(), "damaged");
        assert!(!file.path().exists());

        // The readable entries are written.
        let two = Manifest { files: [("a".into(), entry(1)), ("b".into(), entry(2))].into() };
        let text = two.to_json();
        fs::write(file.path(), &text[..text.len() - 20]).unwrap();
        let (loaded, aside) = file.update(now, |_| {}).unwrap();
        assert!(loaded.damage.is_some() && aside.is_some() && loaded.manifest.files.keys().eq([&"a".into()]));
        assert_eq!(file.load().unwrap().manifest, loaded.manifest);
        assert!(file.load().unwrap().damage.is_none());
    }

    #[test]
    fn something_else_in_its_place_is_set_aside_and_is_not_waited_for() {
        for (make, kind) in OTHER_KINDS {
            let directory = tempfile::tempdir().unwrap();
            let file = ManifestFile::new(directory.path());
            fs::create_dir(directory.path().join(OWN_DIRECTORY)).unwrap();
            make(&file.path());
            let damage = file.load().unwrap().damage.unwrap();
            assert!(damage.contains(kind), "{damage}");
            let set = |manifest: &mut Manifest| drop(manifest.files.insert("kernel".into(), entry(1)));
            let (_, aside) = file.update(SystemTime::now(), set).unwrap();
            assert!(aside.is_some() && file.load().unwrap().manifest.files.len() == 1, "{kind}");
        }
    }
}
