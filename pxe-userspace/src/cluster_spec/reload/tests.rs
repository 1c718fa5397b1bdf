use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use super::{super::watch::Task, *};

/// Loads the spec at `file` in steps of a clock of its own.
struct Rig<R> {
    task: Task<R>,
    faults: SharedSpecFaults,
    now: Instant,
}

fn rig(
    path: &Path,
    shared: &SharedInventory,
    on_change: impl Fn(&Inventory, &Inventory),
) -> Rig<impl FnMut(&Request<'_>) -> Reloaded> {
    rig_with(path, shared, false, on_change)
}

fn strict_rig(
    path: &Path,
    shared: &SharedInventory,
    on_change: impl Fn(&Inventory, &Inventory),
) -> Rig<impl FnMut(&Request<'_>) -> Reloaded> {
    rig_with(path, shared, true, on_change)
}

fn rig_with(
    path: &Path,
    shared: &SharedInventory,
    is_strict: bool,
    on_change: impl Fn(&Inventory, &Inventory),
) -> Rig<impl FnMut(&Request<'_>) -> Reloaded> {
    let faults = SharedSpecFaults::default();
    let watched = Watched {
        loader: Loader::new(),
        paths: vec![path.to_owned()],
        inventory: Arc::clone(shared),
        faults: Arc::clone(&faults),
        warnings: Vec::new(),
        is_strict,
    };
    Rig { task: Task::new(cluster_spec(watched, on_change)), faults, now: Instant::now() }
}

impl<R: FnMut(&Request<'_>) -> Reloaded> Rig<R> {
    /// Looks at the file for this many milliseconds.
    fn run(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        while self.now < end {
            let wait = self.task.look(self.now).unwrap_or(Duration::from_millis(200));
            self.now = (self.now + wait).min(end);
        }
        self.task.look(self.now);
    }
}

#[test]
fn mistake_leaves_what_it_is_about_as_it_was() {
    let good = include_str!("../../../../examples/lab.yaml");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("lab.yaml");
    let changes = AtomicUsize::new(0);
    let shared = SharedInventory::default();
    let mut rig = rig(&file, &shared, |_, _| _ = changes.fetch_add(1, Ordering::Relaxed));
    let moved = good.replace("10.0.0.13", "10.0.0.199").replace("10.0.0.12", "10.0.0.11");
    for (text, expected_changes, errors) in
        [(good, 1, 0), ("kind: [", 1, 1), ("", 1, 1), ("# nothing", 1, 1), (&moved, 2, 1), (good, 3, 0)]
    {
        std::fs::write(&file, text).unwrap();
        rig.run(1500);
        assert_eq!(shared.load().machines().len(), 4, "{text}");
        assert_eq!(changes.load(Ordering::Relaxed), expected_changes, "{text}");
        assert_eq!(rig.faults.load().faults.len(), errors, "{text}");
    }
}

#[test]
fn strict_watch_puts_nothing_in_force_that_has_an_error() {
    let good = include_str!("../../../../examples/lab.yaml");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("lab.yaml");
    let shared = SharedInventory::default();
    let mut rig = strict_rig(&file, &shared, |_, _| {});
    let moved = good.replace("10.0.0.13", "10.0.0.199");
    let with_error = moved.replace("10.0.0.12", "10.0.0.11");
    for (text, has_moved, errors) in [(good, false, 0), (&with_error, false, 1), (&moved, true, 0), ("", true, 1)] {
        std::fs::write(&file, text).unwrap();
        rig.run(1500);
        let inventory = shared.load();
        assert_eq!(inventory.machines().len(), 4, "{text}");
        assert_eq!(inventory.by_address([10, 0, 0, 199].into()).is_some(), has_moved, "{text}");
        assert_eq!(rig.faults.load().faults.len(), errors, "{text}");
    }
}

#[test]
fn rewrite_with_the_same_content_changes_nothing() {
    let good = include_str!("../../../../examples/lab.yaml");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("lab.yaml");
    let shared = SharedInventory::default();
    let mut rig = rig(&file, &shared, |_, _| {});
    std::fs::write(&file, good).unwrap();
    rig.run(1500);
    let (inventory, faults) = (shared.load_full(), rig.faults.load_full());
    std::fs::write(&file, good).unwrap();
    rig.run(1500);
    std::fs::write(directory.path().join("new"), good).unwrap();
    std::fs::rename(directory.path().join("new"), &file).unwrap();
    rig.run(1500);
    assert!(Arc::ptr_eq(&inventory, &shared.load()) && Arc::ptr_eq(&faults, &rig.faults.load()), "nothing was stored");
    std::fs::write(&file, format!("{good}# a comment\n")).unwrap();
    rig.run(1500);
    assert!(!Arc::ptr_eq(&inventory, &shared.load()), "the lines may have moved");
}

#[test]
fn half_written_file_is_no_error() {
    let good = include_str!("../../../../examples/lab.yaml");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("lab.yaml");
    let shared = SharedInventory::default();
    let mut rig = rig(&file, &shared, |_, _| {});
    std::fs::write(&file, good).unwrap();
    rig.run(1500);
    std::fs::write(&file, "kind: [").unwrap();
    rig.run(900);
    assert_eq!(rig.faults.load().faults, [], "it may not be whole yet");
    std::fs::write(&file, good.replace("10.0.0.13", "10.0.0.199")).unwrap();
    rig.run(200);
    assert!(shared.load().by_address([10, 0, 0, 199].into()).is_some());
    std::fs::write(&file, "kind: [").unwrap();
    rig.run(1500);
    assert_eq!(rig.faults.load().faults.len(), 1, "it is");
}

/// The clock of the file system counts here, since it says which of the files rest.
#[test]
fn file_that_never_rests_does_not_keep_others_from_being_loaded() {
    let good = include_str!("../../../../examples/lab.yaml");
    let replaced = [
        ("name: lab", "name: other"),
        ("10.0.0.", "10.0.1."),
        ("52:54:00:00:00", "52:54:00:00:01"),
        ("52-54-00-00-00", "52-54-00-00-01"),
        ("5254.0000", "5254.0001"),
    ];
    let other = replaced.iter().fold(good.to_owned(), |text, (from, to)| text.replace(from, to));
    let directory = tempfile::tempdir().unwrap();
    let [lab, busy] = ["lab.yaml", "busy.yaml"].map(|name| directory.path().join(name));
    let shared = SharedInventory::default();
    let mut rig = rig(directory.path(), &shared, |_, _| {});
    std::fs::write(&lab, good).unwrap();
    std::fs::write(&busy, &other).unwrap();
    rig.run(1500);
    let all = shared.load().machines().len();
    std::fs::write(&lab, good.replace("10.0.0.13", "10.0.0.199")).unwrap();
    let begin = Instant::now();
    let in_force = || shared.load().by_address([10, 0, 0, 199].into()).is_some();
    for turn in 0.. {
        // Whole, broken and empty by turns.
        let text = [other.as_str(), "kind: [", "", &other[..other.len() / 2]][turn % 4];
        std::fs::write(&busy, text).unwrap();
        rig.run(50);
        assert_eq!(shared.load().machines().len(), all, "every machine is served all the time");
        if in_force() {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "the change is not in force");
    }
    let faults = rig.faults.load_full();
    assert!(
        faults.faults.len() == 1 && faults.faults[0].to_string().contains("busy.yaml: keeps changing"),
        "{faults:?}"
    );
    // In the end, the last state counts.
    std::fs::write(&busy, other.replace("10.0.1.13", "10.0.1.199")).unwrap();
    rig.run(1500);
    assert!(shared.load().by_address([10, 0, 1, 199].into()).is_some());
    assert_eq!(rig.faults.load().faults, []);
}

#[test]
fn machines_leave_only_when_the_files_rest() {
    let whole = include_str!("../../../../examples/lab.yaml");
    // As far as an editor, `cp` or `scp` has come: valid YAML.
    let part = &whole[..whole.find("        - address: 10.0.0.13").unwrap()];
    let fewer = &whole[..whole.find("        - address: 10.0.0.12").unwrap()];
    let more = whole.replace("10.0.0.13", "10.0.0.199");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("lab.yaml");
    let shared = SharedInventory::default();
    let mut rig = rig(&file, &shared, |_, _| {});
    let all = whole.matches("- address: ").count();
    let (kept, kept_fewer) = (part.matches("- address: ").count(), fewer.matches("- address: ").count());
    assert!(kept_fewer < kept && kept < all);
    for (name, text, millis, machines) in [
        ("the first load", Some(whole), 200, all),
        ("half written", Some(part), 900, all),
        ("written to the end", Some(&*more), 2000, all),
        ("half written", Some(part), 900, all),
        ("less, before the second is over: it begins again", Some(fewer), 900, all),
        ("machines were taken out", None, 200, kept_fewer),
        ("machines come at once", Some(whole), 200, all),
    ] {
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        rig.run(millis);
        assert_eq!(shared.load().machines().len(), machines, "{name}");
    }
}
