use std::{
    cell::{Cell, RefCell},
    fs,
    os::unix::fs::symlink,
    path::Path,
    rc::Rc,
    sync::Arc,
};

use super::*;

type Load = Box<dyn FnMut(&Request<'_>) -> Reloaded>;

/// Files in a directory, a task that loads one of them, and the clock.
struct Rig {
    directory: tempfile::TempDir,
    task: Task<Load>,
    /// The loaded texts, in order.
    loads: Rc<RefCell<Vec<String>>>,
    now: Instant,
}

/// Makes a rig whose task watches `path` in the directory that `prepare` fills.
fn rig(path: &str, prepare: impl FnOnce(&Path)) -> Rig {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let path = directory.path().join(path);
    let loads = Rc::new(RefCell::new(Vec::new()));
    let (file, loaded) = (path.clone(), Rc::clone(&loads));
    let reload: Load = Box::new(move |_| {
        let file = if file.is_dir() { file.join("c.yaml") } else { file.clone() };
        loaded.borrow_mut().push(fs::read_to_string(file).unwrap_or_else(|error| error.kind().to_string()));
        Reloaded::Done
    });
    let task = Task::new(Source { what: "loading a test", paths: vec![path], files: files::of_spec, reload });
    Rig { directory, task, loads, now: Instant::now() }
}

impl Rig {
    /// Looks until the files rest. Returns what was loaded, and the time that it took.
    fn settle(&mut self) -> (Vec<String>, Duration) {
        let begin = self.now;
        loop {
            let Some(wait) = self.task.look(self.now) else { return (self.loads.take(), self.now - begin) };
            self.now += wait;
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Puts a directory as the kubelet does: c.yaml → ..data/c.yaml, ..data → `version`.
fn config_map(directory: &Path, version: &str) {
    fs::create_dir(directory.join(version)).unwrap();
    fs::write(directory.join(version).join("c.yaml"), version).unwrap();
    symlink(version, directory.join("..data_tmp")).unwrap();
    fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
    let file = directory.join("c.yaml");
    if !file.is_symlink() {
        symlink("..data/c.yaml", file).unwrap();
    }
}

#[test]
fn changes_of_every_kind_are_loaded_once() {
    type Step = fn(&Path);
    let write: Step = |at| fs::write(at.join("c.yaml"), "one").unwrap();
    let cases: &[(&str, &str, Step, Step, &str)] = &[
        ("rewritten in place", "c.yaml", write, |at| fs::write(at.join("c.yaml"), "three").unwrap(), "three"),
        ("appended to", "c.yaml", write, |at| fs::write(at.join("c.yaml"), "one and more").unwrap(), "one and more"),
        (
            "replaced by a rename",
            "c.yaml",
            write,
            |at| {
                fs::write(at.join("c.yaml~"), "two").unwrap();
                fs::rename(at.join("c.yaml~"), at.join("c.yaml")).unwrap();
            },
            "two",
        ),
        (
            "replaced by an older file",
            "c.yaml",
            |at| {
                fs::write(at.join("old"), "old").unwrap();
                fs::write(at.join("c.yaml"), "new").unwrap();
            },
            |at| fs::rename(at.join("old"), at.join("c.yaml")).unwrap(),
            "old",
        ),
        ("ConfigMap swapped, its file", "c.yaml", |at| config_map(at, "..1"), |at| config_map(at, "..2"), "..2"),
        ("ConfigMap swapped, the directory", "", |at| config_map(at, "..1"), |at| config_map(at, "..2"), "..2"),
        (
            "link from elsewhere into a ConfigMap",
            "mine.yaml",
            |at| {
                fs::create_dir(at.join("volume")).unwrap();
                config_map(&at.join("volume"), "..1");
                symlink("volume/c.yaml", at.join("mine.yaml")).unwrap();
            },
            |at| config_map(&at.join("volume"), "..2"),
            "..2",
        ),
        (
            "directory deleted and made again",
            "spec",
            |at| {
                fs::create_dir(at.join("spec")).unwrap();
                fs::write(at.join("spec/c.yaml"), "one").unwrap();
            },
            |at| {
                fs::remove_dir_all(at.join("spec")).unwrap();
                fs::create_dir(at.join("spec")).unwrap();
                fs::write(at.join("spec/c.yaml"), "two").unwrap();
            },
            "two",
        ),
        ("file added beside it", "", write, |at| fs::write(at.join("d.yaml"), "more").unwrap(), "one"),
        ("deleted", "c.yaml", write, |at| fs::remove_file(at.join("c.yaml")).unwrap(), "entity not found"),
        ("there at last", "c.yaml", |_| {}, write, "one"),
    ];
    for (name, path, prepare, change, expected) in cases {
        let mut rig = rig(path, prepare);
        assert_eq!(rig.settle().0.len(), 1, "{name}: at the beginning");
        rig.now += LEAST_INTERVAL;
        assert_eq!(rig.settle().0, [""; 0], "{name}: nothing has changed");
        change(rig.path());
        let (loads, took) = rig.settle();
        assert_eq!((loads, took), (vec![(*expected).to_owned()], QUIET), "{name}");
        rig.now += LEAST_INTERVAL;
        assert_eq!(rig.settle().0, [""; 0], "{name}: nothing has changed since");
    }
}

#[test]
fn directory_that_is_gone_for_a_while_is_loaded_when_it_is_back() {
    let mut rig = rig("spec", |at| {
        fs::create_dir(at.join("spec")).unwrap();
        fs::write(at.join("spec/c.yaml"), "one").unwrap();
    });
    assert_eq!(rig.settle().0, ["one"]);
    fs::remove_dir_all(rig.path().join("spec")).unwrap();
    assert_eq!(rig.settle().0, ["entity not found"]);
    assert_eq!(rig.settle().0, [""; 0], "once");
    fs::create_dir(rig.path().join("spec")).unwrap();
    fs::write(rig.path().join("spec/c.yaml"), "two").unwrap();
    assert_eq!(rig.settle().0, ["two"]);
}

#[test]
fn file_that_never_rests_is_loaded_after_a_second_and_when_it_rests() {
    let mut rig = rig("c.yaml", |at| fs::write(at.join("c.yaml"), "").unwrap());
    rig.settle();
    let begin = rig.now;
    let mut loaded_after = None;
    // Longer each time, whatever the clock of the file system says.
    for length in 1..=15 {
        fs::write(rig.path().join("c.yaml"), "x".repeat(length)).unwrap();
        let wait = rig.task.look(rig.now);
        if !rig.loads.borrow().is_empty() {
            loaded_after.get_or_insert(rig.now - begin);
        }
        assert!(wait.is_some_and(|wait| wait <= QUIET), "{wait:?}");
        rig.now += QUIET;
    }
    assert_eq!(loaded_after, Some(PATIENCE));
    rig.loads.take();
    assert_eq!(rig.settle().0, ["x".repeat(15)]);
}

#[test]
fn reload_is_done_even_if_nothing_looks_different() {
    let mut rig = rig("c.yaml", |at| fs::write(at.join("c.yaml"), "one").unwrap());
    rig.settle();
    rig.task.forget(Box::new(()));
    assert_eq!(rig.settle(), (vec!["one".to_owned()], QUIET));
}

#[test]
fn those_who_asked_for_a_load_learn_when_it_has_taken_place() {
    let mut rig = rig("c.yaml", |at| fs::write(at.join("c.yaml"), "one").unwrap());
    rig.settle();
    let (asked, also_asked) = (Arc::new(()), Arc::new(()));
    rig.task.forget(Box::new(Arc::clone(&asked)));
    rig.task.forget(Box::new(Arc::clone(&also_asked)));
    let waiting = || Arc::strong_count(&asked) + Arc::strong_count(&also_asked);
    assert!(rig.task.look(rig.now).is_some());
    assert_eq!(waiting(), 4, "the files have not rested yet");
    rig.settle();
    assert_eq!(waiting(), 2);
}

#[test]
fn load_that_is_put_off_is_repeated_when_the_files_have_rested() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.yaml");
    fs::write(&path, "one").unwrap();
    let answers = Rc::new(RefCell::new(Vec::new()));
    let put_off = Rc::new(Cell::new(true));
    let (asked, believed) = (Rc::clone(&answers), Rc::clone(&put_off));
    let reload = move |request: &Request<'_>| {
        let have_rested = (request.have_rested)();
        asked.borrow_mut().push(have_rested);
        if believed.get() && !have_rested { Reloaded::PutOff } else { Reloaded::Done }
    };
    let mut task =
        Task::new(Source { what: "loading a test", paths: vec![path.clone()], files: files::of_spec, reload });
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    let millis = |millis| Some(Duration::from_millis(millis));
    assert_eq!(task.look(at(0)), millis(100));
    assert_eq!(task.look(at(100)), millis(900), "put off");
    fs::write(&path, "three").unwrap();
    assert_eq!(task.look(at(1000)), millis(100), "changed: the second begins again");
    assert_eq!(task.look(at(1100)), millis(900));
    assert_eq!(task.look(at(1900)), millis(100), "not yet");
    assert_eq!(task.look(at(2000)), None);
    assert_eq!(answers.take(), [false, false, true]);
}

#[test]
fn interval_grows_with_the_cost_of_a_look() {
    let millis = Duration::from_millis;
    assert_eq!(interval(millis(0)), LEAST_INTERVAL);
    assert_eq!(interval(millis(10)), millis(500), "2 % of a processor");
    assert_eq!(interval(millis(1000)), MOST_INTERVAL);
}

#[test]
fn load_that_panics_is_tried_again_and_whoever_asked_for_it_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.yaml");
    fs::write(&path, "").unwrap();
    let loads = Rc::new(Cell::new(0));
    let counted = Rc::clone(&loads);
    let reload: Load = Box::new(move |_| {
        counted.set(counted.get() + 1);
        assert!(counted.get() > 1, "on purpose");
        Reloaded::Done
    });
    const WHAT: &str = "loading what panics";
    let is_told = || mistakes::warnings().iter().any(|warning| warning.starts_with(WHAT));
    let mut task = Task::new(Source { what: WHAT, paths: vec![path], files: files::of_spec, reload });
    let asked = Arc::new(());
    task.forget(Box::new(Arc::clone(&asked)));
    let mut now = Instant::now() + QUIET;
    while loads.get() == 0 {
        now += task.look(now).unwrap();
    }
    assert_eq!(Arc::strong_count(&asked), 1, "the reload is still under way");
    assert!(is_told());
    task.look(now);
    assert_eq!(loads.get(), 2);
    assert!(!is_told());
}
