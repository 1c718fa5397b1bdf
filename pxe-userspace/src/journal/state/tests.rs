use std::{
    os::unix::{fs::symlink, net::UnixListener},
    time::Duration,
};

use nix::{sys::stat::Mode, unistd::mkfifo};

use super::*;
use crate::journal::remembered::tests::example;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn saved_state_is_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let mut state_dir = StateDir::open(directory.path()).unwrap();
    assert_eq!(state_dir.load(at(1)).unwrap().state, State::new());
    state_dir.save(&example(), at(2)).unwrap();
    let Loaded { state, damage } = state_dir.load(at(3)).unwrap();
    assert_eq!((state, damage), (example(), None));
    assert_eq!(names(directory.path()), ["lock", "machines.json"]);
}

#[test]
fn half_written_file_of_a_crash_is_ignored() {
    let directory = tempfile::tempdir().unwrap();
    let mut state_dir = StateDir::open(directory.path()).unwrap();
    state_dir.save(&example(), at(1)).unwrap();
    fs::write(directory.path().join("machines.json.new"), b"{\"format\":1,\"mach").unwrap();
    assert_eq!(state_dir.load(at(2)).unwrap().state, example());
    state_dir.save(&State::new(), at(3)).unwrap();
    assert_eq!(state_dir.load(at(4)).unwrap().state, State::new());
}

#[test]
fn damaged_file_is_set_aside_and_what_can_be_read_of_it_is_in_force() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(FILE);
    let mut state_dir = StateDir::open(directory.path()).unwrap();
    state_dir.save(&example(), at(1)).unwrap();
    let whole = fs::read(&file).unwrap();
    let cut = &whole[..whole.len() - 10];
    fs::write(&file, cut).unwrap();
    let Loaded { state, damage } = state_dir.load(at(1_700_000_000)).unwrap();
    assert_eq!(state.len(), 1);
    let damage = damage.unwrap();
    let aside = directory.path().join("machines.json.bad-1700000000");
    for part in [file.to_str().unwrap(), "told of 1 machine;", "pxed hold", aside.to_str().unwrap()] {
        assert!(damage.contains(part), "{part} is missing in {damage}");
    }
    assert_eq!(fs::read(&aside).unwrap(), cut);
    state_dir.save(&state, at(2)).unwrap();
    assert!(state_dir.load(at(3)).unwrap().damage.is_none());
    assert_eq!(fs::read(&aside).unwrap(), cut);
}

#[test]
fn damaged_files_that_are_kept_are_few_and_the_newest() {
    let directory = tempfile::tempdir().unwrap();
    let mut state_dir = StateDir::open(directory.path()).unwrap();
    // Twice in one second, too.
    for second in [1, 2, 3, 3, 5, 6, 70, 800] {
        fs::write(directory.path().join(FILE), second.to_string()).unwrap();
        assert!(state_dir.load(at(second)).unwrap().damage.is_some());
    }
    let mut kept = names(directory.path());
    kept.retain(|name| name != "lock");
    kept.sort_by_key(|name| name.strip_prefix(ASIDE).unwrap().parse::<u64>().unwrap());
    assert_eq!(kept, [4, 5, 6, 70, 800].map(|number| format!("{ASIDE}{number}")));
}

#[test]
fn file_that_is_too_large_is_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let mut state_dir = StateDir::open(directory.path()).unwrap();
    File::create(directory.path().join(FILE)).unwrap().set_len(1 << 30).unwrap();
    let Loaded { state, damage } = state_dir.load(at(1)).unwrap();
    assert!(state.is_empty() && damage.unwrap().contains("larger than"));
    assert_eq!(names(directory.path()), ["lock", "machines.json.bad-1"]);
}

#[test]
fn what_is_no_file_is_an_error_that_names_it_and_no_hang() {
    type Make = fn(&Path);
    let makers: [(Make, &str); 4] = [
        (|path| mkfifo(path, Mode::S_IRWXU).unwrap(), "a FIFO"),
        (|path| fs::create_dir(path).unwrap(), "a directory"),
        (|path| drop(UnixListener::bind(path).unwrap()), "a socket"),
        (|path| symlink("/dev/zero", path).unwrap(), "a device"),
    ];
    for (make, kind) in makers {
        for name in [FILE, "lock"] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join(name);
            make(&path);
            let loaded = StateDir::open(directory.path()).and_then(|mut state_dir| state_dir.load(at(1)));
            let message = loaded.unwrap_err().to_string();
            assert!(message.contains(path.to_str().unwrap()) && message.contains(kind), "{message}");
        }
        // Anything in the way of the new file is removed, or named.
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("machines.json.new");
        make(&path);
        let saved = StateDir::open(directory.path()).unwrap().save(&example(), at(1));
        assert_eq!(saved.is_ok(), kind != "a directory", "{kind}");
    }
}

#[test]
fn directory_that_was_deleted_is_made_again() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("state");
    let mut state_dir = StateDir::open(&directory).unwrap();
    fs::remove_dir_all(&directory).unwrap();
    state_dir.save(&example(), at(1)).unwrap();
    assert_eq!(state_dir.load(at(2)).unwrap().state, example());
}

#[test]
fn directory_is_not_shared_by_two_processes() {
    let directory = tempfile::tempdir().unwrap();
    let _first = StateDir::open(directory.path()).unwrap();
    assert!(matches!(StateDir::open(directory.path()), Err(StateError::InUse(_))));
}
