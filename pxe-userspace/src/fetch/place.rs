//! Moves a complete file to its place below the artifacts directory, so that a reader sees the old file or the new one, never a part.
//! Everything here blocks.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, fchmod, mkdirat, openat, openat2, renameat, statat},
    io::Errno,
};

use super::fault::Fault;

/// The directory of pxed's own files below the artifacts directory, which is never served.
const OWN: &str = ".pxed";

/// Returns the directory of partial files. It is created if the artifacts directory is there.
pub(super) fn partial_directory(root: &Path) -> Result<PathBuf, Fault> {
    let directory = root.join(OWN).join("partial");
    for path in [&root.join(OWN), &directory] {
        match std::fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Fault::Disk {
                    what: "opening",
                    path: root.to_owned(),
                    reason: "the artifacts directory does not exist; create it, or name another one with --artifacts"
                        .to_owned(),
                });
            }
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Fault::disk("creating", path, &error));
            }
            _ => {}
        }
    }
    Ok(directory)
}

/// Checks that a path can be that of an artifact: relative, without `..`, and not among pxed's own files.
pub(super) fn check(artifact: &str) -> Result<(), Fault> {
    let mut components = artifact.split('/');
    let is_plain = |component: &str| !matches!(component, "" | "." | "..") && !component.contains('\0');
    if components.clone().all(is_plain) && components.next() != Some(OWN) {
        return Ok(());
    }
    Err(Fault::Disk {
        what: "placing",
        path: artifact.into(),
        reason: "it is not a path below the artifacts directory".to_owned(),
    })
}

/// Moves the file at `complete` to the artifact's place and makes the move last. Directories on the way are created.
pub(super) fn move_into(root: &Path, complete: &Path, artifact: &str) -> Result<(), Fault> {
    check(artifact)?;
    let target = root.join(artifact);
    let failed = |what, error: Errno| match error {
        Errno::XDEV if what == "opening" => Fault::Disk {
            what: "placing",
            path: target.clone(),
            reason: "a symbolic link on the way leads out of the artifacts directory".to_owned(),
        },
        Errno::XDEV => Fault::Disk {
            what: "placing",
            path: target.clone(),
            reason: "its directory is on another filesystem than the artifacts directory".to_owned(),
        },
        error => Fault::disk(what, &target, &error.into()),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut directory: File = openat(CWD, root, flags, Mode::empty()).map_err(|error| failed("opening", error))?.into();
    let root_directory = directory.try_clone().map_err(|error| Fault::disk("opening", root, &error))?;
    let (parents, name) = artifact.rsplit_once('/').unwrap_or(("", artifact));
    let mut path = String::new();
    for component in parents.split('/').filter(|component| !component.is_empty()) {
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(component);
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let open = || openat2(&root_directory, path.as_str(), flags, Mode::empty(), beneath);
        let opened = match open() {
            Err(Errno::NOENT) => {
                match mkdirat(&directory, component, Mode::from_raw_mode(0o755)) {
                    Ok(()) => directory.sync_all().map_err(|error| Fault::disk("creating", &target, &error))?,
                    Err(Errno::EXIST) => {}
                    Err(error) => return Err(failed("creating", error)),
                }
                open()
            }
            opened => opened,
        };
        directory = opened.map_err(|error| failed("opening", error))?.into();
    }
    let is_directory = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|there| FileType::from_raw_mode(there.st_mode) == FileType::Directory);
    if is_directory {
        return Err(Fault::Disk { what: "placing", path: target, reason: "a directory is in its place".to_owned() });
    }
    renameat(CWD, complete, &directory, name).map_err(|error| failed("placing", error))?;
    directory.sync_all().map_err(|error| Fault::disk("placing", &target, &error))
}

/// Makes a file readable for other users, whatever the umask says: other servers may serve the same directory.
pub(super) fn make_readable(file: &File, path: &Path) -> Result<(), Fault> {
    fchmod(file, Mode::from_raw_mode(0o644)).map_err(|error| Fault::disk("changing", path, &error.into()))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn setup() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir(&root).unwrap();
        let complete = partial_directory(&root).unwrap().join("k.part");
        fs::write(&complete, "new").unwrap();
        (directory, root, complete)
    }

    #[test]
    fn file_replaces_the_old_one_which_its_readers_keep() {
        let (_directory, root, complete) = setup();
        fs::write(root.join("kernel"), "old").unwrap();
        let mut old = File::open(root.join("kernel")).unwrap();
        move_into(&root, &complete, "kernel").unwrap();
        assert_eq!(fs::read_to_string(root.join("kernel")).unwrap(), "new");
        assert_eq!(io::read_to_string(&mut old).unwrap(), "old");
        assert!(!complete.exists());
    }

    #[test]
    fn directories_on_the_way_are_created() {
        let (_directory, root, complete) = setup();
        move_into(&root, &complete, "ab12/more/kernel").unwrap();
        assert_eq!(fs::read_to_string(root.join("ab12/more/kernel")).unwrap(), "new");
    }

    #[test]
    fn link_in_the_place_is_replaced_and_its_target_kept() {
        let (directory, root, complete) = setup();
        let other = directory.path().join("other");
        fs::write(&other, "other").unwrap();
        symlink(&other, root.join("kernel")).unwrap();
        move_into(&root, &complete, "kernel").unwrap();
        assert_eq!(fs::read_to_string(root.join("kernel")).unwrap(), "new");
        assert_eq!(fs::read_to_string(other).unwrap(), "other");
    }

    #[test]
    fn nothing_is_written_outside() {
        let (directory, root, complete) = setup();
        let outside = directory.path().join("outside");
        fs::create_dir(&outside).unwrap();
        symlink("../outside", root.join("ab12")).unwrap();
        fs::create_dir(root.join("kernel")).unwrap();
        fs::write(root.join("file"), "").unwrap();
        for (artifact, reason) in [
            ("ab12/kernel", "leads out of the artifacts directory"),
            ("../kernel", "not a path below"),
            ("/kernel", "not a path below"),
            ("a//kernel", "not a path below"),
            ("", "not a path below"),
            ("a/./kernel", "not a path below"),
            (".pxed/manifest.json", "not a path below"),
            ("kernel", "a directory is in its place"),
            ("file/kernel", "failed"),
        ] {
            let fault = move_into(&root, &complete, artifact).unwrap_err().to_string();
            assert!(fault.contains(reason), "{artifact}: {fault}");
        }
        assert!(complete.exists() && fs::read_dir(outside).unwrap().next().is_none());
    }

    #[test]
    fn missing_artifacts_directory_is_named_with_its_option() {
        let fault = partial_directory(Path::new("/nowhere/artifacts")).unwrap_err().to_string();
        assert!(fault.contains("/nowhere/artifacts") && fault.contains("--artifacts"), "{fault}");
    }
}
