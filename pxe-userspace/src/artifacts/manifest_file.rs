//! The manifest on disk, `.pxed/manifest.json` in the artifacts directory, which several processes may use at the same time.
//!
//! It is replaced as a whole: a new file is written and synced, renamed, and the directory is synced. Whoever changes it reads it again
//! under a lock and writes it before the lock is released, so that no change of another process is lost.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime},
};

use super::manifest::{Identity, Manifest};
pub use crate::model::artifact_names::OWN_DIRECTORY;

const FILE: &str = "manifest.json";
/// The name that a damaged manifest gets, with a number after it.
const ASIDE: &str = "manifest.json.bad-";
/// The number of damaged manifests that are kept.
const ASIDE_LIMIT: usize = 5;
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
}

/// A manifest as it was read.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) manifest: Manifest,
    /// The file that it was read from; `None` if there is none.
    pub(super) version: Option<Identity>,
    /// The damage, if the file is damaged. Nothing of it is in `manifest`.
    pub(super) damage: Option<String>,
}

impl ManifestFile {
    pub(super) fn new(root: &Path) -> Self {
        Self { directory: root.join(OWN_DIRECTORY) }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.directory.join(FILE)
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
        let file = match File::options().read(true).custom_flags(NONBLOCK).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::default()),
            opened => opened.map_err(failed)?,
        };
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(failed(io::Error::other("it has to be a file: move away what is there")));
        }
        let version = Some(Identity::of(&file).map_err(failed)?);
        let mut text = Vec::new();
        file.take(FILE_LIMIT + 1).read_to_end(&mut text).map_err(failed)?;
        let parsed = match text.len() as u64 {
            0..=FILE_LIMIT => Manifest::parse(&text),
            _ => Err(format!("it is larger than {} MiB", FILE_LIMIT >> 20)),
        };
        let (manifest, damage) = match parsed {
            Ok(manifest) => (manifest, None),
            Err(damage) => (Manifest::default(), Some(damage)),
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
            Some(_) => Some(self.set_aside(now).map_err(failed("move aside", &self.path()))?),
            None => None,
        };
        let before = loaded.manifest.clone();
        change(&mut loaded.manifest);
        if loaded.manifest != before {
            let text = loaded.manifest.to_json();
            self.write(&text).map_err(failed("write", &self.path()))?;
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

    fn write(&self, text: &str) -> io::Result<()> {
        let temporary = self.directory.join(format!("{FILE}.new"));
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Whatever else has this name by now is not followed, opened or waited for.
        let mut file = File::create_new(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, self.path())?;
        File::open(&self.directory)?.sync_all()
    }

    /// Renames a damaged manifest and deletes the oldest of those that were renamed before. Returns its new path.
    fn set_aside(&self, now: SystemTime) -> io::Result<PathBuf> {
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut taken: Vec<u64> = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            taken.extend(name.to_str().and_then(|name| name.strip_prefix(ASIDE)?.parse::<u64>().ok()));
        }
        taken.sort_unstable();
        // The oldest has the smallest number, also where the clock was set back.
        let number = taken.last().map_or(seconds, |last| seconds.max(last.saturating_add(1)));
        let named = |number: u64| self.directory.join(format!("{ASIDE}{number}"));
        fs::rename(self.path(), named(number))?;
        let surplus = (taken.len() + 1).saturating_sub(ASIDE_LIMIT);
        for &oldest in taken.iter().take(surplus) {
            fs::remove_file(named(oldest))?;
        }
        Ok(named(number))
    }
}

/// The flag that keeps open(2) from waiting for the other end of a FIFO.
const NONBLOCK: i32 = nix::fcntl::OFlag::O_NONBLOCK.bits();

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::artifacts::manifest::{Entry, Proof, Sha256};

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
    fn damaged_manifest_is_set_aside_at_the_next_update_and_the_last_five_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let file = ManifestFile::new(directory.path());
        fs::create_dir(directory.path().join(OWN_DIRECTORY)).unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        for number in 0..8 {
            fs::write(file.path(), format!("damaged {number}")).unwrap();
            let loaded = file.load().unwrap();
            assert!(loaded.damage.is_some() && loaded.manifest.files.is_empty());
            let (_, aside) = file.update(now, |_| {}).unwrap();
            let aside = aside.unwrap();
            assert_eq!(aside, directory.path().join(OWN_DIRECTORY).join(format!("{ASIDE}{}", 1000 + number)));
            assert_eq!(fs::read_to_string(aside).unwrap(), format!("damaged {number}"));
            assert!(!file.path().exists());
        }
        let kept = fs::read_dir(directory.path().join(OWN_DIRECTORY)).unwrap().count();
        assert_eq!(kept, 1 + ASIDE_LIMIT, "the lock and the last ones");
    }

    #[test]
    fn something_else_in_its_place_is_an_error_and_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let file = ManifestFile::new(directory.path());
        fs::create_dir(directory.path().join(OWN_DIRECTORY)).unwrap();
        nix::unistd::mkfifo(&file.path(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = file.load().unwrap_err().to_string();
        assert!(error.contains("manifest.json") && error.contains("move away"), "{error}");
        assert!(file.update(SystemTime::now(), |_| {}).is_err());
    }
}
