//! The persistent state, in one file of the state directory.
//!
//! The file is replaced as a whole: a new file is written and synced, renamed, and the directory is synced. After a crash or
//! SIGKILL at any instant the file holds one complete state, at most a second old. If the file cannot be read, pxed does not
//! start: the file holds the decisions of a person (`pxed hold`) and the machines that must not be installed again, which would
//! otherwise boot from the network without notice.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::policy::Cycle;

const FORMAT: u32 = 1;
const FILE: &str = "machines.json";

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
    /// The file is damaged, or not a state file.
    #[error(
        "{path} cannot be understood: {source}; restore it, or move it away: pxed then forgets which machines are held or \
         installed, and boots them from the network again",
        path = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
    /// A later version wrote the file.
    #[error("{path} has format {found}, this pxed knows {FORMAT}; use the pxed that wrote it, or move it away", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

/// A policy that a person set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Override {
    Auto,
    Always,
    Once,
    Hold,
}

/// The persistent state of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remembered {
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) cycle: Cycle,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) boots: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) booted: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) reached_disk: bool,
    #[serde(default, rename = "override", skip_serializing_if = "is_default")]
    pub(super) policy: Option<Override>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Machines by MAC, sorted so that `diff` can compare two files.
pub(super) type State = BTreeMap<String, Remembered>;

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    format: u32,
    machines: T,
}

/// The state directory, locked for this process.
#[derive(Debug)]
pub(super) struct StateDir {
    directory: PathBuf,
    _lock: File,
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
        let lock = File::options().create(true).append(true).open(&path).map_err(failed("open", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { directory: directory.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StateError::InUse(directory.to_owned())),
            Err(TryLockError::Error(source)) => Err(failed("lock", &path)(source)),
        }
    }

    /// Returns the state that was last saved. It is empty at the first start.
    pub(super) fn load(&self) -> Result<State, StateError> {
        let path = self.directory.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::new()),
            Err(source) => return Err(StateError::Io { action: "read", path, source }),
        };
        // The format comes first, since a later one may differ in everything else.
        let parsed = serde_json::from_slice::<Envelope<serde::de::IgnoredAny>>(&bytes);
        match parsed {
            Ok(Envelope { format: FORMAT, .. }) => {}
            Ok(Envelope { format: found, .. }) => return Err(StateError::Format { path, found }),
            Err(source) => return Err(StateError::Damaged { path, source }),
        }
        match serde_json::from_slice::<Envelope<State>>(&bytes) {
            Ok(envelope) => Ok(envelope.machines),
            Err(source) => Err(StateError::Damaged { path, source }),
        }
    }

    /// Replaces the saved state.
    pub(super) fn save(&self, state: &State) -> Result<(), StateError> {
        let path = self.directory.join(FILE);
        let temporary = self.directory.join(format!("{FILE}.new"));
        let write = || -> io::Result<()> {
            let mut file = BufWriter::new(File::create(&temporary)?);
            serde_json::to_writer(&mut file, &Envelope { format: FORMAT, machines: state })?;
            file.write_all(b"\n")?;
            file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(&self.directory)?.sync_all()
        };
        write().map_err(|source| StateError::Io { action: "write", path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> State {
        let held = Remembered { policy: Some(Override::Hold), ..Remembered::default() };
        let installed =
            Remembered { cycle: Cycle::Netbooted, boots: 3, booted: true, reached_disk: true, policy: None };
        State::from([("52:54:00:00:00:01".to_owned(), held), ("52:54:00:00:00:02".to_owned(), installed)])
    }

    #[test]
    fn saved_state_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let state_dir = StateDir::open(directory.path()).unwrap();
        assert_eq!(state_dir.load().unwrap(), State::new());
        state_dir.save(&example()).unwrap();
        assert_eq!(state_dir.load().unwrap(), example());
    }

    #[test]
    fn half_written_file_of_a_crash_is_ignored() {
        let directory = tempfile::tempdir().unwrap();
        let state_dir = StateDir::open(directory.path()).unwrap();
        state_dir.save(&example()).unwrap();
        fs::write(directory.path().join("machines.json.new"), b"{\"format\":1,\"mach").unwrap();
        assert_eq!(state_dir.load().unwrap(), example());
        state_dir.save(&State::new()).unwrap();
        assert_eq!(state_dir.load().unwrap(), State::new());
    }

    #[test]
    fn damaged_or_later_file_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let state_dir = StateDir::open(directory.path()).unwrap();
        for (content, expected) in [
            (&b""[..], "cannot be understood"),
            (b"{\"format\":1,\"machines\":{\"52:54:00:00:00:01\":{\"boots\":-1}}}", "cannot be understood"),
            (b"{\"format\":1}", "cannot be understood"),
            (b"{\"format\":2,\"machines\":[]}", "has format 2"),
        ] {
            fs::write(directory.path().join(FILE), content).unwrap();
            let message = state_dir.load().unwrap_err().to_string();
            assert!(message.contains(expected) && message.contains("machines.json"), "{message}");
        }
    }

    #[test]
    fn directory_is_not_shared_by_two_processes() {
        let directory = tempfile::tempdir().unwrap();
        let _first = StateDir::open(directory.path()).unwrap();
        assert!(matches!(StateDir::open(directory.path()), Err(StateError::InUse(_))));
    }
}
