//! The places of files below the artifacts directory, and that of partial files. Everything here blocks.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, fchmod, mkdirat, openat, openat2, statat},
    io::Errno,
};

use super::fault::Fault;
use crate::artifacts::{Download, ManifestError, OWN_DIRECTORY, Records};

/// Returns the directory of partial files. It is created if the artifacts directory is there.
pub(super) fn partial_directory(root: &Path) -> Result<PathBuf, Fault> {
    let directory = root.join(OWN_DIRECTORY).join("partial");
    for path in [&root.join(OWN_DIRECTORY), &directory] {
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
    let is_plain = |component: &str| !matches!(component, "" | "." | "..") && !component.contains(['\0', '\\']);
    let is_own = artifact.split('/').next().is_some_and(|first| first.eq_ignore_ascii_case(OWN_DIRECTORY));
    if artifact.split('/').all(is_plain) && !is_own {
        return Ok(());
    }
    Err(Fault::Disk {
        what: "placing",
        path: artifact.into(),
        reason: "it is not a path below the artifacts directory".to_owned(),
    })
}

/// Creates the directories on the way to an artifact's place, and checks that a file can be moved there.
pub(super) fn prepare(root: &Path, artifact: &str) -> Result<(), Fault> {
    check(artifact)?;
    let target = root.join(artifact);
    let failed = |what, error: Errno| match error {
        Errno::XDEV => Fault::Disk {
            what: "placing",
            path: target.clone(),
            reason: "a symbolic link on the way leads out of the artifacts directory".to_owned(),
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
    Ok(())
}

/// Moves a complete file to the artifact's place and records it.
pub(super) fn install(
    records: &Records,
    complete: &Path,
    artifact: &str,
    download: Download,
    now: SystemTime,
) -> Result<(), Fault> {
    records.install(complete, artifact, download, now).map_err(|error| match &error {
        ManifestError::Io { path, source, .. } => Fault::disk("writing", path, source),
        ManifestError::Locked { path } => {
            Fault::Disk { what: "locking", path: path.clone(), reason: error.to_string() }
        }
    })
}

/// Makes a file readable for other users, whatever the umask says: other servers may serve the same directory.
pub(super) fn make_readable(file: &File, path: &Path) -> Result<(), Fault> {
    fchmod(file, Mode::from_raw_mode(0o644)).map_err(|error| Fault::disk("changing", path, &error.into()))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn root() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir(&root).unwrap();
        (directory, root)
    }

    #[test]
    fn directories_on_the_way_are_created() {
        let (_directory, root) = root();
        prepare(&root, "ab12/more/kernel").unwrap();
        prepare(&root, "ab12/more/kernel").unwrap();
        prepare(&root, "kernel").unwrap();
        assert!(root.join("ab12/more").is_dir() && !root.join("kernel").exists());
    }

    #[test]
    fn link_within_the_directory_is_followed() {
        let (_directory, root) = root();
        fs::create_dir(root.join("real")).unwrap();
        symlink("real", root.join("ab12")).unwrap();
        prepare(&root, "ab12/more/kernel").unwrap();
        assert!(root.join("real/more").is_dir());
    }

    #[test]
    fn place_outside_is_refused() {
        let (directory, root) = root();
        let outside = directory.path().join("outside");
        fs::create_dir(&outside).unwrap();
        symlink("../outside", root.join("ab12")).unwrap();
        symlink(&outside, root.join("cd34")).unwrap();
        fs::create_dir(root.join("kernel")).unwrap();
        fs::write(root.join("file"), "").unwrap();
        for (artifact, reason) in [
            ("ab12/kernel", "leads out of the artifacts directory"),
            ("ab12/more/kernel", "leads out of the artifacts directory"),
            ("cd34/kernel", "leads out of the artifacts directory"),
            ("../kernel", "not a path below"),
            ("/kernel", "not a path below"),
            ("a//kernel", "not a path below"),
            ("", "not a path below"),
            ("a/./kernel", "not a path below"),
            (".pxed/manifest.json", "not a path below"),
            (".PXED/manifest.json", "not a path below"),
            ("kernel", "a directory is in its place"),
            ("file/kernel", "failed"),
        ] {
            let fault = prepare(&root, artifact).unwrap_err().to_string();
            assert!(fault.contains(reason), "{artifact}: {fault}");
        }
        assert!(fs::read_dir(outside).unwrap().next().is_none());
    }

    #[test]
    fn missing_artifacts_directory_is_named_with_its_option() {
        let fault = partial_directory(Path::new("/nowhere/artifacts")).unwrap_err().to_string();
        assert!(fault.contains("/nowhere/artifacts") && fault.contains("--artifacts"), "{fault}");
    }
}
