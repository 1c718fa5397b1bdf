//! Hands directories that pxed keeps itself over to the user that it becomes.

use std::{os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RawMode, chownat, fstat, openat},
    process::{Gid, Uid},
};

/// The depth of directories below one that is handed over. pxed's own are three deep.
const DEPTH: u32 = 8;

/// What below a directory is handed over with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Directories and files.
    All,
    /// Directories alone: files that a person put there stay that person's.
    Directories,
}

/// Hands a directory with its content over to a user, as far as it belongs to root. What cannot be handed over stays root's; whoever needs
/// it says so.
///
/// Nothing outside of the directory is handed over: a link that an earlier, compromised pxed has left there must not let root give away
/// another file. So symbolic links are not followed, and a file with a second name stays root's.
pub(super) fn hand_over(directory: &Path, uid: u32, gid: u32, content: Content) {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if let Ok(opened) = openat(CWD, directory, flags, Mode::empty()) {
        give(&opened, (Uid::from_raw(uid), Gid::from_raw(gid)), content, DEPTH);
    }
}

/// Hands over what was opened with `O_PATH`, its content first.
fn give(opened: &OwnedFd, owner: (Uid, Gid), content: Content, depth: u32) {
    let Ok(facts) = fstat(opened) else { return };
    let is_directory = match FileType::from_raw_mode(RawMode::from(facts.st_mode)) {
        FileType::Directory => true,
        FileType::RegularFile if facts.st_nlink == 1 && content == Content::All => false,
        _ => return,
    };
    if is_directory && depth > 0 {
        for_each_entry(opened, |entry| give(entry, owner, content, depth - 1));
    }
    if Uid::from_raw(facts.st_uid).is_root() {
        let _ = chownat(opened, "", Some(owner.0), Some(owner.1), AtFlags::EMPTY_PATH);
    }
}

fn for_each_entry(directory: &OwnedFd, mut visit: impl FnMut(&OwnedFd)) {
    let readable = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(entries) = openat(directory, ".", readable, Mode::empty()).and_then(Dir::new) else { return };
    for entry in entries.flatten().filter(|entry| !matches!(entry.file_name().to_bytes(), b"." | b"..")) {
        // Nothing happens to what is only looked at, be it a device or a pipe.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if let Ok(opened) = openat(directory, entry.file_name(), flags, Mode::empty()) {
            visit(&opened);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt as _, chown, symlink},
    };

    use super::*;

    const OWNER: u32 = 61_234;

    fn owner(path: &Path) -> (u32, u32) {
        let metadata = fs::symlink_metadata(path).unwrap();
        (metadata.uid(), metadata.gid())
    }

    #[test]
    fn content_is_handed_over_and_nothing_outside() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir_all(at("state/sub")).unwrap();
        for file in ["outside", "state/machines.json", "state/sub/part", "state/others"] {
            fs::write(at(file), "").unwrap();
        }
        chown(at("state/others"), Some(7), Some(8)).unwrap();
        symlink(at("outside"), at("state/link")).unwrap();
        fs::hard_link(at("outside"), at("state/second-name")).unwrap();
        hand_over(&at("state"), OWNER, OWNER + 1, Content::All);
        for given in ["state", "state/machines.json", "state/sub", "state/sub/part"] {
            assert_eq!(owner(&at(given)), (OWNER, OWNER + 1), "{given}");
        }
        for kept in ["outside", "state/link", "state/second-name"] {
            assert_eq!(owner(&at(kept)).0, 0, "{kept}");
        }
        assert_eq!(owner(&at("state/others")), (7, 8));
    }

    #[test]
    fn files_of_a_person_stay_that_persons() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("sub")).unwrap();
        fs::write(at("sub/vmlinuz"), "").unwrap();
        hand_over(directory.path(), OWNER, OWNER, Content::Directories);
        assert_eq!(owner(directory.path()).0, OWNER);
        assert_eq!((owner(&at("sub")).0, owner(&at("sub/vmlinuz")).0), (OWNER, 0));
        hand_over(&at("not-there"), OWNER, OWNER, Content::All);
    }
}
