//! The state directory: one file that holds the persistent state, and a lock.
//!
//! The file is replaced as a whole: a new file is written and synced, renamed, and the directory is synced. After a crash or
//! SIGKILL at any instant the file holds one complete state, at most a second old. A file that is damaged all the same, by a disk or a
//! person, is set aside, and what can be read of it is in force: the rest of the fleet must not wait for somebody to look at it.

use std::{
    fs::{self, File, FileType, TryLockError},
    io::{self, BufWriter, Read as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::remembered::{self, Read, State};

const FILE: &str = "machines.json";
/// The name that a damaged file gets, with a number after it.
const ASIDE: &str = "machines.json.bad-";
/// The number of damaged files that are kept.
const ASIDE_LIMIT: usize = 5;
/// The most bytes that are read: those of half a million machines.
const FILE_LIMIT: u64 = 64 << 20;

/// The reason why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The directory or a file in it cannot be created, read or written.
    #[error("cannot {action} {path}: {source}; name a directory that pxed may write to with --state", path = path.display())]
    Io {
        /// The action that failed.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another process uses it.
    #[error("another pxed uses the state directory {}; stop it, or name another directory with --state", .0.display())]
    InUse(PathBuf),
    /// Something else has the place of a file.
    #[error("{path} is {kind}, and has to be a file: move it away, or name another directory with --state", path = path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// Its kind.
        kind: &'static str,
    },
}

/// The state directory, locked for this process.
#[derive(Debug)]
pub(super) struct StateDir {
    directory: PathBuf,
    /// Set while a damaged file is still in its place, from which it has to be moved before another is written.
    is_damaged: bool,
    _lock: File,
}

/// The state that was last saved.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) state: State,
    /// The loss, if the file was damaged.
    pub(super) damage: Option<String>,
}

impl StateDir {
    /// Creates the directory if it is missing, and locks it for this process.
    pub(super) fn open(directory: &Path) -> Result<Self, StateError> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| StateError::Io { action, path, source }
        };
        fs::create_dir_all(directory).map_err(failed("create", directory))?;
        let path = directory.join("lock");
        regular(&path)?;
        // Opened for reading: a file that is open for writing would keep its disk from being made read-only.
        let open = || File::options().read(true).custom_flags(NONBLOCK).open(&path);
        let lock = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => match File::create_new(&path) {
                // Nothing can be saved now, but everything else works. The directory itself can be locked.
                Err(error) if is_unwritable(&error) => File::open(directory),
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => open(),
            },
            opened => opened,
        };
        let lock = lock.map_err(failed("open", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { directory: directory.to_owned(), is_damaged: false, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StateError::InUse(directory.to_owned())),
            Err(TryLockError::Error(source)) => Err(failed("lock", &path)(source)),
        }
    }

    /// Returns the state that was last saved. It is empty at the first start. A damaged file is moved aside, under a name with the time
    /// in it.
    pub(super) fn load(&mut self, now: SystemTime) -> Result<Loaded, StateError> {
        let path = self.directory.join(FILE);
        if !regular(&path)? {
            return Ok(Loaded::default());
        }
        let failed = |source| StateError::Io { action: "read", path: path.clone(), source };
        let mut text = Vec::new();
        let file = File::options().read(true).custom_flags(NONBLOCK).open(&path).map_err(failed)?;
        file.take(FILE_LIMIT + 1).read_to_end(&mut text).map_err(failed)?;
        let Read { state, mut damage } = remembered::read(&text);
        if text.len() as u64 > FILE_LIMIT {
            damage = Some(format!("it is larger than {} MiB", FILE_LIMIT >> 20));
        }
        let Some(damage) = damage else { return Ok(Loaded { state, damage: None }) };
        self.is_damaged = true;
        let kept = match self.set_aside(now) {
            Ok(aside) => format!("It is kept as {}", aside.display()),
            Err(error) => format!("It stays there, because it cannot be moved aside: {error}"),
        };
        let machines = match state.len() {
            1 => "1 machine".to_owned(),
            number => format!("{number} machines"),
        };
        let damage = format!(
            "{path} is damaged: {damage}. It still told of {machines}; what it said of others is lost, and they boot from the \
             network again unless `pxed hold MAC` keeps them. {kept}",
            path = path.display(),
        );
        Ok(Loaded { state, damage: Some(damage) })
    }

    /// Replaces the saved state.
    pub(super) fn save(&mut self, state: &State, now: SystemTime) -> Result<(), StateError> {
        let path = self.directory.join(FILE);
        self.write(state, now).map_err(|source| StateError::Io { action: "write", path, source })
    }

    fn write(&mut self, state: &State, now: SystemTime) -> io::Result<()> {
        // Somebody may have deleted it.
        fs::create_dir_all(&self.directory)?;
        if self.is_damaged {
            self.set_aside(now)?;
        }
        let temporary = self.directory.join(format!("{FILE}.new"));
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Whatever else has this name by now is not followed, opened or waited for.
        let mut file = BufWriter::new(File::create_new(&temporary)?);
        remembered::write(state, &mut file)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&temporary, self.directory.join(FILE))?;
        File::open(&self.directory)?.sync_all()
    }

    /// Renames a damaged file and deletes the oldest of those that were renamed before. Returns its new path.
    fn set_aside(&mut self, now: SystemTime) -> io::Result<PathBuf> {
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut names = self.aside()?;
        let taken = |number: u64| names.iter().any(|(taken, _)| *taken == number);
        let number = (seconds..).find(|number| !taken(*number)).unwrap_or(seconds);
        let aside = self.directory.join(format!("{ASIDE}{number}"));
        match fs::rename(self.directory.join(FILE), &aside) {
            // Somebody has moved it already.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => self.is_damaged = false,
        }
        names.sort_unstable();
        let surplus = (names.len() + 1).saturating_sub(ASIDE_LIMIT);
        for (_, oldest) in names.into_iter().take(surplus) {
            fs::remove_file(oldest)?;
        }
        Ok(aside)
    }

    /// Returns the damaged files that were set aside, with their numbers.
    fn aside(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut aside = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(ASIDE)?.parse().ok());
            aside.extend(number.map(|number| (number, self.directory.join(&name))));
        }
        Ok(aside)
    }
}

/// The flag that keeps open(2) from waiting for the other end of a FIFO.
const NONBLOCK: i32 = nix::fcntl::OFlag::O_NONBLOCK.bits();

/// Returns `true` if the path is a file, and `false` if there is nothing. Opening something else may wait for ever, or do harm.
fn regular(path: &Path) -> Result<bool, StateError> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(true),
        Ok(metadata) => Err(StateError::NotAFile { path: path.to_owned(), kind: kind(metadata.file_type()) }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(StateError::Io { action: "read", path: path.to_owned(), source }),
    }
}

fn kind(file_type: FileType) -> &'static str {
    if file_type.is_dir() {
        "a directory"
    } else if file_type.is_fifo() {
        "a FIFO"
    } else if file_type.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

/// Returns `true` if the disk takes no file now, rather than pxed may not write to it.
fn is_unwritable(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

#[cfg(test)]
mod tests;
