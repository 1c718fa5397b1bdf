//! Files of the lab for a pxed that gives up root.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

/// The user that pxed becomes in the lab. It needs no account.
pub const USER: u32 = 64_321;

/// Lets [`USER`] use the files and directories among these arguments: they become its own, and the lab's directories on the way to them
/// may be passed through. Returns `false` if a directory that is not the lab's is in the way.
pub(crate) fn open<'a>(arguments: impl IntoIterator<Item = &'a OsStr>) -> bool {
    let paths = arguments.into_iter().map(Path::new).filter(|path| path.is_absolute() && path.exists());
    paths.fold(true, |is_open, path| {
        let directories: Vec<_> = path.ancestors().skip(1).collect();
        let is_passable = directories.into_iter().rev().all(pass);
        give(path);
        is_open && is_passable
    })
}

/// Lets everybody pass through a directory if it is the lab's. Returns `false` if they may not.
fn pass(directory: &Path) -> bool {
    let Ok(metadata) = fs::metadata(directory) else { return true };
    let mode = metadata.mode();
    if mode & 0o001 != 0 || metadata.uid() == USER {
        return true;
    }
    // Only the owner may enter a directory made by tempfile.
    let is_temporary = directory.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".tmp"));
    is_temporary && fs::set_permissions(directory, fs::Permissions::from_mode(mode & 0o7777 | 0o011)).is_ok()
}

/// Gives a file, or a directory with its content, to the user. What a test has taken from everybody, nobody gets.
fn give(path: &Path) {
    let Ok(metadata) = fs::symlink_metadata(path) else { return };
    let is_own = metadata.uid() == 0 && (metadata.is_file() || metadata.is_dir()) && !is_of_host(path);
    if is_own {
        let _ = chown(path, Some(USER), Some(USER));
    }
    if metadata.is_symlink() {
        if let Ok(end) = fs::canonicalize(path) {
            open([end.as_os_str()]);
        }
        return;
    }
    if metadata.is_dir() && !is_of_host(path) {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<PathBuf>>().iter().for_each(|path| give(path));
    }
}

/// Returns `true` for files that are not the lab's: it makes its own ones in directories of `tempfile`.
fn is_of_host(path: &Path) -> bool {
    !path.ancestors().any(|part| part.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".tmp")))
}
