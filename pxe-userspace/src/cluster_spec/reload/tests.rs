use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use super::{super::watch::Task, *};

/// Loads the spec at `file` in steps of a clock of its own.
struct Rig<R> {
    task: Task<R>,
    now: Instant,
}

fn rig(
    file: &Path,
    shared: &SharedInventory,
    on_change: impl Fn(&Inventory, &Inventory),
) -> Rig<impl FnMut(&dyn Fn() -> bool) -> Reloaded> {
    let source = cluster_spec(Loader::new(), vec![file.to_owned()], Arc::clone(shared), on_change);
    Rig { task: Task::new(source), now: Instant::now() }
}

impl<R: FnMut(&dyn Fn() -> bool) -> Reloaded> Rig<R> {
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
fn mistake_leaves_the_last_good_inventory_in_force() {
    let good = include_str!("../../../../examples/lab.yaml");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("lab.yaml");
    let changes = AtomicUsize::new(0);
    let shared = SharedInventory::default();
    let mut rig = rig(&file, &shared, |_, _| _ = changes.fetch_add(1, Ordering::Relaxed));
    for (text, expected_machines, expected_changes) in
        [(good, 4, 1), ("kind: [", 4, 1), ("", 4, 1), (&good.replace("10.0.0.12", "10.0.0.11"), 4, 1), (good, 4, 2)]
    {
        std::fs::write(&file, text).unwrap();
        rig.run(1500);
        assert_eq!(shared.load().machines().len(), expected_machines, "{text}");
        assert_eq!(changes.load(Ordering::Relaxed), expected_changes, "{text}");
    }
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
