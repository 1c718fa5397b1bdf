use std::{
    io::Write as _,
    os::unix::{
        fs::{PermissionsExt as _, symlink},
        net::UnixListener,
    },
    time::Duration,
};

use nix::{sys::stat::Mode, unistd::mkfifo};
use tempfile::TempDir;

use super::*;

const NAME: &str = "facts.json";

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn own_file() -> (TempDir, OwnFile) {
    let directory = tempfile::tempdir().unwrap();
    let file = OwnFile::new(directory.path(), NAME, 1 << 20);
    (directory, file)
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn bytes(file: &OwnFile) -> Vec<u8> {
    match file.read().unwrap() {
        Found::Bytes(bytes, _) => bytes,
        other => panic!("{other:?}"),
    }
}

fn damage(file: &OwnFile) -> String {
    match file.read().unwrap() {
        Found::Damaged(damage) => damage,
        other => panic!("{other:?}"),
    }
}

#[test]
fn file_is_read_as_it_was_written_last() {
    let (directory, file) = own_file();
    assert!(matches!(file.read().unwrap(), Found::Nothing));
    for text in [&b"one"[..], b"", b"another, longer one"] {
        file.replace(|file| file.write_all(text)).unwrap();
        assert_eq!(bytes(&file), text);
    }
    assert_eq!(names(directory.path()), [NAME]);
    let mode = |file: &OwnFile| fs::metadata(file.path()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    file.replace(|_| Ok(())).unwrap();
    let readable = file.with_mode(0o644);
    readable.replace(|_| Ok(())).unwrap();
    assert_eq!(mode(&readable), 0o644);
}

#[test]
fn failed_or_interrupted_write_leaves_the_last_version() {
    let (directory, file) = own_file();
    file.replace(|file| file.write_all(b"whole")).unwrap();
    let failed = file.replace(|file| {
        file.write_all(b"half")?;
        Err(io::ErrorKind::StorageFull.into())
    });
    assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(bytes(&file), b"whole");
    // As after SIGKILL.
    fs::write(directory.path().join("facts.json.new"), b"half").unwrap();
    assert_eq!(bytes(&file), b"whole");
    file.replace(|file| file.write_all(b"next")).unwrap();
    assert_eq!((bytes(&file), names(directory.path())), (b"next".to_vec(), vec![NAME.to_owned()]));
}

#[test]
fn more_bytes_than_the_limit_are_not_read() {
    let (_directory, file) = own_file();
    File::create(file.path()).unwrap().set_len(1 << 20).unwrap();
    assert_eq!(bytes(&file).len(), 1 << 20);
    File::create(file.path()).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(damage(&file), "it is larger than 1 MiB");
}

/// A way to put something else than a file into a place, and what it is then called.
type OtherKind = (fn(&Path), &'static str);

pub(crate) const OTHER_KINDS: [OtherKind; 4] = [
    (|path| mkfifo(path, Mode::S_IRWXU).unwrap(), "a FIFO"),
    (|path| fs::create_dir(path).unwrap(), "a directory"),
    (|path| drop(UnixListener::bind(path).unwrap()), "a socket"),
    (|path| symlink("/dev/zero", path).unwrap(), "a device"),
];

#[test]
fn something_else_in_its_place_is_neither_waited_for_nor_in_the_way() {
    for (make, kind) in OTHER_KINDS {
        let (_directory, file) = own_file();
        make(&file.path());
        assert_eq!(damage(&file), format!("it is {kind}, and has to be a file"));
        let aside = file.set_aside(at(7)).unwrap().unwrap();
        assert!(aside.symlink_metadata().is_ok() && matches!(file.read().unwrap(), Found::Nothing), "{kind}");
        file.replace(|file| file.write_all(b"new")).unwrap();
        assert_eq!(bytes(&file), b"new", "{kind}");

        // In the way of the new file.
        let (directory, file) = own_file();
        make(&directory.path().join("facts.json.new"));
        let replaced = file.replace(|file| file.write_all(b"new"));
        assert_eq!(replaced.is_ok(), kind != "a directory", "{kind}");
    }
}

#[test]
fn link_that_leads_nowhere_is_replaced() {
    let (directory, file) = own_file();
    symlink(directory.path().join("nowhere"), file.path()).unwrap();
    assert!(matches!(file.read().unwrap(), Found::Nothing));
    file.replace(|file| file.write_all(b"new")).unwrap();
    assert_eq!((bytes(&file), names(directory.path())), (b"new".to_vec(), vec![NAME.to_owned()]));
}

#[test]
fn damaged_files_that_are_kept_are_few_and_the_newest() {
    let (directory, file) = own_file();
    // Twice in one second, and with a clock that is set back.
    let numbers = [1, 2, 3, 3, 70, 6, 800].map(|second| {
        fs::write(file.path(), second.to_string()).unwrap();
        let aside = file.set_aside(at(second)).unwrap().unwrap();
        assert_eq!(fs::read_to_string(&aside).unwrap(), second.to_string());
        aside.extension().unwrap().to_str().unwrap().to_owned()
    });
    assert_eq!(numbers, ["bad-1", "bad-2", "bad-3", "bad-4", "bad-70", "bad-71", "bad-800"]);
    let kept = numbers[numbers.len() - ASIDE_LIMIT..].iter().map(|number| format!("{NAME}.{number}"));
    let mut expected: Vec<_> = kept.collect();
    expected.sort();
    assert_eq!(names(directory.path()), expected);
    assert_eq!(file.set_aside(at(900)).unwrap(), None, "there is nothing to set aside");
}

#[test]
fn directory_that_was_deleted_is_made_again() {
    let (directory, _) = own_file();
    let file = OwnFile::new(&directory.path().join("state"), NAME, 10);
    file.replace(|file| file.write_all(b"new")).unwrap();
    assert_eq!(bytes(&file), b"new");
}
