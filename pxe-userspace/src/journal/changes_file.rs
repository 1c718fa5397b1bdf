//! The changes since the state file was last replaced, a line each, in the state directory.
//!
//! To replace the state file takes the disk some time, so it is done once a second. What happened since would be lost by a crash or
//! SIGKILL, and a machine under `once` would boot twice. So each change is appended here within milliseconds. The kernel keeps what was
//! written although the process ends; the disk is not waited for.
//!
//! A line has everything that is remembered of a machine, so lines may be applied again, and the last one of a machine counts.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::SystemTime,
};

use super::remembered::{self, State};
use crate::own_file::{self, Found, NONBLOCK, OwnFile};

const FILE: &str = "machines.changes";
/// The most bytes that are read, and kept.
const FILE_LIMIT: u64 = 64 << 20;

/// The file with the changes.
#[derive(Debug)]
pub(super) struct ChangesFile {
    file: OwnFile,
    /// The bytes that it holds.
    length: u64,
    /// Set after an append that failed, until one succeeds.
    is_failing: bool,
}

impl ChangesFile {
    /// Applies the changes of the last run to the state. Returns the damage, if something else has the place of the file.
    pub(super) fn open(directory: &Path, state: &mut State, now: SystemTime) -> (Self, Option<String>) {
        let mut changes =
            Self { file: OwnFile::new(directory, FILE, FILE_LIMIT).with_mode(0o644), length: 0, is_failing: false };
        let damage = match changes.file.read() {
            Ok(Found::Nothing) => None,
            Ok(Found::Bytes(text, _)) => {
                changes.length = text.len() as u64;
                state.extend(remembered::entries(&text));
                None
            }
            Ok(Found::Damaged(damage)) => Some(damage),
            Err(error) => Some(format!("it cannot be read: {error}")),
        };
        let damage = damage.map(|damage| {
            let kept = own_file::kept(&changes.file.set_aside(now));
            format!(
                "{} is damaged: {damage}. It told of the last second before pxed ended; {kept}",
                changes.file.path().display()
            )
        });
        (changes, damage)
    }

    /// Appends these machines. Bytes of an append that the disk broke off belong to no entry, so the next one is whole.
    pub(super) fn append(&mut self, machines: &State) -> io::Result<()> {
        if machines.is_empty() {
            return Ok(());
        }
        let appended = self.write(machines);
        self.is_failing = appended.is_err();
        appended
    }

    /// Returns `true` if the last append failed. The next one is worth a try when the state file is saved.
    pub(super) fn is_failing(&self) -> bool {
        self.is_failing
    }

    fn write(&mut self, machines: &State) -> io::Result<()> {
        let mut text = b"\n".to_vec();
        for (mac, remembered) in machines {
            remembered::write_entry(mac, remembered, &mut text)?;
        }
        if self.length.saturating_add(text.len() as u64) > FILE_LIMIT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        // Opened for each append: a file that is open for writing would keep its disk from being made read-only.
        let mut file =
            File::options().append(true).create(true).mode(0o644).custom_flags(NONBLOCK).open(self.file.path())?;
        let written = file.write_all(&text);
        self.length = file.metadata()?.len();
        written
    }

    /// Returns the number of bytes in the file.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Removes the first bytes, which the state file holds by now.
    pub(super) fn forget(&mut self, bytes: u64) -> io::Result<()> {
        if self.length == 0 {
            return Ok(());
        }
        let mut rest = Vec::new();
        if bytes < self.length {
            let mut file = File::options().read(true).custom_flags(NONBLOCK).open(self.file.path())?;
            file.seek(SeekFrom::Start(bytes))?;
            file.take(FILE_LIMIT).read_to_end(&mut rest)?;
        }
        if rest.is_empty() {
            File::options().write(true).custom_flags(NONBLOCK).open(self.file.path())?.set_len(0)?;
        } else {
            self.file.replace(|file| file.write_all(&rest))?;
        }
        self.length = rest.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::*;
    use crate::{journal::remembered::Remembered, own_file::tests::OTHER_KINDS};

    fn booted(mac: u8, boots: u32) -> State {
        State::from([(
            format!("52:54:00:00:00:{mac:02x}"),
            Remembered { boots, booted: true, ..Remembered::default() },
        )])
    }

    fn read(directory: &Path, mut state: State) -> (ChangesFile, State) {
        let (changes, damage) = ChangesFile::open(directory, &mut state, SystemTime::UNIX_EPOCH);
        assert_eq!(damage, None);
        (changes, state)
    }

    #[test]
    fn last_change_of_a_machine_counts_and_the_state_file_comes_before_all() {
        let directory = tempfile::tempdir().unwrap();
        let (mut changes, state) = read(directory.path(), State::new());
        assert_eq!(state, State::new());
        changes.append(&State::new()).unwrap();
        assert!(!changes.file.path().exists(), "nothing has changed");
        for (mac, boots) in [(1, 1), (2, 1), (1, 2)] {
            changes.append(&booted(mac, boots)).unwrap();
        }
        let expected: State = [booted(1, 2), booted(2, 1), booted(3, 7)].into_iter().flatten().collect();
        assert_eq!(read(directory.path(), [booted(1, 0), booted(3, 7)].into_iter().flatten().collect()).1, expected);
    }

    #[test]
    fn forgotten_changes_are_gone_and_later_ones_stay() {
        let directory = tempfile::tempdir().unwrap();
        let (mut changes, _) = read(directory.path(), State::new());
        changes.append(&booted(1, 1)).unwrap();
        let saved = changes.length();
        changes.append(&booted(2, 1)).unwrap();
        changes.forget(saved).unwrap();
        assert_eq!(read(directory.path(), State::new()).1, booted(2, 1));
        changes.append(&booted(3, 1)).unwrap();
        changes.forget(changes.length()).unwrap();
        assert_eq!((read(directory.path(), State::new()).1, changes.length()), (State::new(), 0));
        assert_eq!(fs::metadata(changes.file.path()).unwrap().len(), 0);
        changes.append(&booted(4, 1)).unwrap();
        assert_eq!(read(directory.path(), State::new()).1, booted(4, 1));
    }

    #[test]
    fn change_that_was_cut_off_anywhere_costs_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let (mut changes, _) = read(directory.path(), State::new());
        changes.append(&booted(1, 1)).unwrap();
        let first = changes.length();
        changes.append(&booted(2, 1)).unwrap();
        let whole = fs::read(changes.file.path()).unwrap();
        for cut in usize::try_from(first).unwrap()..whole.len() {
            fs::write(changes.file.path(), &whole[..cut]).unwrap();
            let (mut changes, state) = read(directory.path(), State::new());
            assert!(state == booted(1, 1) || cut + 2 >= whole.len(), "{cut}: {state:?}");
            changes.append(&booted(3, 1)).unwrap();
            let (_, state) = read(directory.path(), State::new());
            assert!(
                state.contains_key("52:54:00:00:00:01") && state.contains_key("52:54:00:00:00:03"),
                "{cut}: {state:?}"
            );
        }
    }

    #[test]
    fn something_else_in_its_place_is_set_aside_and_is_not_waited_for() {
        for (make, kind) in OTHER_KINDS {
            let directory = tempfile::tempdir().unwrap();
            make(&directory.path().join(FILE));
            let mut state = booted(1, 1);
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(5);
            let (mut changes, damage) = ChangesFile::open(directory.path(), &mut state, now);
            let damage = damage.unwrap();
            assert!(damage.contains(kind) && damage.contains("machines.changes.bad-5"), "{damage}");
            changes.append(&booted(2, 1)).unwrap();
            assert_eq!(read(directory.path(), State::new()).1, booted(2, 1));
        }
    }
}
