use std::time::Duration;

use super::*;
use crate::{journal::remembered::tests::example, own_file::tests::OTHER_KINDS};

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
fn file_that_is_too_large_is_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let mut state_dir = StateDir::open(directory.path()).unwrap();
    File::create(directory.path().join(FILE)).unwrap().set_len(1 << 30).unwrap();
    let Loaded { state, damage } = state_dir.load(at(1)).unwrap();
    assert!(state.is_empty() && damage.unwrap().contains("larger than"));
    assert_eq!(names(directory.path()), ["lock", "machines.json.bad-1"]);
}

#[test]
fn something_else_in_the_place_of_the_file_is_set_aside() {
    for (make, kind) in OTHER_KINDS {
        let directory = tempfile::tempdir().unwrap();
        make(&directory.path().join(FILE));
        let mut state_dir = StateDir::open(directory.path()).unwrap();
        let damage = state_dir.load(at(5)).unwrap().damage.unwrap();
        assert!(damage.contains(kind) && damage.contains("machines.json.bad-5"), "{damage}");
        state_dir.save(&example(), at(6)).unwrap();
        assert_eq!(state_dir.load(at(7)).unwrap().state, example());
    }
}

#[test]
fn something_else_in_the_place_of_the_lock_is_an_error_that_names_it_and_no_hang() {
    for (make, _) in OTHER_KINDS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        make(&path);
        let message = StateDir::open(directory.path()).unwrap_err().to_string();
        assert!(message.contains(path.to_str().unwrap()) && message.contains("move away"), "{message}");
    }
}

#[test]
fn directory_is_not_shared_by_two_processes() {
    let directory = tempfile::tempdir().unwrap();
    let _first = StateDir::open(directory.path()).unwrap();
    assert!(matches!(StateDir::open(directory.path()), Err(StateError::InUse(_))));
}
