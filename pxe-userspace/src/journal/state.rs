//! What a restart must not forget, in one file of the state directory.
//!
//! The file is replaced whole: written beside, synced, renamed, the directory synced. After a crash or
//! SIGKILL at any instant it holds one complete state, at most a second old. A file that cannot be read
//! stops pxed instead of being set aside: it holds what a person said (`pxed hold`) and which machines
//! must not be installed again, and starting without it would quietly boot them from the network.

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

/// Why the state directory is of no use.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The directory, or a file in it, cannot be made, read or written.
    #[error("cannot {action} {path}: {source}; give pxed a directory that it may write with --state", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process has it.
    #[error("another pxed uses the state directory {}; stop it, or give this one a directory of its own with --state", .0.display())]
    InUse(PathBuf),
    /// The file is not ours, or damaged.
    #[error(
        "{path} cannot be understood: {source}; restore it, or move it away: pxed then forgets holds and which \
         machines have been installed, and boots them from the network again",
        path = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
    /// Written by a later version.
    #[error("{path} has format {found}, this pxed knows {FORMAT}; use the pxed that wrote it, or move it away", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The number it has.
        found: u32,
    },
}

/// A policy that a person may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Override {
    Auto,
    Always,
    Once,
    Hold,
}

/// What is kept of a machine across restarts.
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

/// Machines by MAC, sorted, so that two states can be compared by `diff`.
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
    /// Makes the directory where it is missing, and takes it for this process.
    pub(super) fn open(directory: &Path) -> Result<Self, StateError> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| StateError::Io { action, path, source }
        };
        fs::create_dir_all(directory).map_err(failed("make", directory))?;
        let path = directory.join("lock");
        let lock = File::options().create(true).append(true).open(&path).map_err(failed("open", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { directory: directory.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StateError::InUse(directory.to_owned())),
            Err(TryLockError::Error(source)) => Err(failed("lock", &path)(source)),
        }
    }

    /// The state as it was last saved; empty at the first start.
    pub(super) fn load(&self) -> Result<State, StateError> {
        let path = self.directory.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::new()),
            Err(source) => return Err(StateError::Io { action: "read", path, source }),
        };
        // The number first: a later format may differ in everything else.
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
    fn what_was_saved_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let state_dir = StateDir::open(directory.path()).unwrap();
        assert_eq!(state_dir.load().unwrap(), State::new());
        state_dir.save(&example()).unwrap();
        assert_eq!(state_dir.load().unwrap(), example());
    }

    #[test]
    fn what_a_crash_left_half_written_is_not_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        let state_dir = StateDir::open(directory.path()).unwrap();
        state_dir.save(&example()).unwrap();
        fs::write(directory.path().join("machines.json.new"), b"{\"format\":1,\"mach").unwrap();
        assert_eq!(state_dir.load().unwrap(), example());
        state_dir.save(&State::new()).unwrap();
        assert_eq!(state_dir.load().unwrap(), State::new());
    }

    #[test]
    fn a_damaged_or_later_file_is_an_error_that_names_it() {
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
    fn two_processes_do_not_share_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let _first = StateDir::open(directory.path()).unwrap();
        assert!(matches!(StateDir::open(directory.path()), Err(StateError::InUse(_))));
    }
}
