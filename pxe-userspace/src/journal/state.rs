//! The state directory: one file that holds the persistent state, and a lock.
//!
//! A file that is damaged is set aside, and what can be read of it is in force: the rest of the fleet must not wait for somebody to look
//! at it.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::remembered::{self, Read, State};
use crate::{
    own_file::{self, Found, NONBLOCK, OwnFile},
    shut_out::{self, Wanted},
};

const FILE: &str = "machines.json";
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
    #[error("{} has to be a file: move away what is there, or name another directory with --state", .0.display())]
    NotAFile(PathBuf),
}

/// The state directory, locked for this process.
#[derive(Debug)]
pub(super) struct StateDir {
    file: OwnFile,
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
        if fs::metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(StateError::NotAFile(path));
        }
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
            Ok(()) => {
                let file = OwnFile::new(directory, FILE, FILE_LIMIT).with_mode(0o644);
                Ok(Self { file, is_damaged: false, _lock: lock })
            }
            Err(TryLockError::WouldBlock) => Err(StateError::InUse(directory.to_owned())),
            Err(TryLockError::Error(source)) => Err(failed("lock", &path)(source)),
        }
    }

    /// Returns the state that was last saved. It is empty at the first start. A damaged file is moved aside, under a name with the time
    /// in it.
    pub(super) fn load(&mut self, now: SystemTime) -> Result<Loaded, StateError> {
        let path = self.file.path();
        let found = match self.file.read() {
            // Started by the wrong user. Another error is the disk's, for which nobody has to wait.
            Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                return Err(StateError::Io { action: "read", path, source });
            }
            Err(error) => Found::Damaged(format!("it cannot be read: {error}")),
            Ok(found) => found,
        };
        let Read { state, damage } = match found {
            Found::Nothing => return Ok(Loaded::default()),
            Found::Bytes(text, _) => remembered::read(&text),
            Found::Damaged(damage) => Read { state: State::new(), damage: Some(damage) },
        };
        let Some(damage) = damage else { return Ok(Loaded { state, damage: None }) };
        let aside = self.file.set_aside(now);
        self.is_damaged = aside.is_err();
        let kept = own_file::kept(&aside);
        let machines = match state.len() {
            1 => "1 machine".to_owned(),
            number => format!("{number} machines"),
        };
        let damage = format!(
            "{path} is damaged: {damage}. It still told of {machines}; what it said of others is lost, and they boot from the \
             network again unless `pxed hold MAC` keeps them; {kept}",
            path = path.display(),
        );
        Ok(Loaded { state, damage: Some(damage) })
    }

    /// Replaces the saved state.
    pub(super) fn save(&mut self, state: &State, now: SystemTime) -> Result<(), StateError> {
        let path = self.file.path();
        self.write(state, now).map_err(|error| {
            let source = shut_out::explained(self.file.directory(), Wanted::Write, error);
            StateError::Io { action: "write", path, source }
        })
    }

    fn write(&mut self, state: &State, now: SystemTime) -> io::Result<()> {
        if self.is_damaged {
            self.file.set_aside(now)?;
            self.is_damaged = false;
        }
        self.file.replace(|file| remembered::write(state, file))
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
