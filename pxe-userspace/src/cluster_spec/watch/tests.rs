use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

#[test]
fn a_mistake_leaves_the_last_good_inventory_in_force() {
    let good = include_str!("../../../../examples/lab.yaml");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("lab.yaml");
    let changes = AtomicUsize::new(0);
    let shared = SharedInventory::default();
    let count = |_: &Inventory, _: &Inventory| _ = changes.fetch_add(1, Ordering::Relaxed);
    let mut task = Task::new(cluster_spec(Loader::new(), vec![file.clone()], Arc::clone(&shared), count), None);
    for (text, expected_machines, expected_changes) in
        [(good, 4, 1), ("kind: [", 4, 1), ("", 4, 1), (&good.replace("10.0.0.12", "10.0.0.11"), 4, 1), (good, 4, 2)]
    {
        std::fs::write(&file, text).unwrap();
        task.reload(Instant::now());
        assert_eq!(shared.load().machines().len(), expected_machines, "{text}");
        assert_eq!(changes.load(Ordering::Relaxed), expected_changes, "{text}");
    }
}

#[test]
fn every_link_on_the_way_is_watched_where_it_stands() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    std::fs::create_dir_all(root.join("releases/1")).unwrap();
    std::fs::write(root.join("releases/1/lab.yaml"), "").unwrap();
    std::os::unix::fs::symlink("releases/1", root.join("current")).unwrap();
    std::fs::create_dir(root.join("etc")).unwrap();
    std::os::unix::fs::symlink("../current/lab.yaml", root.join("etc/lab.yaml")).unwrap();
    let watched = directories_of(&root.join("etc/lab.yaml"), files::of_spec);
    let expected = [root.join("etc"), root.clone(), root.join("releases/1")];
    assert_eq!(watched, BTreeSet::from(expected));
    // Around in a circle, as far as the kernel goes.
    std::os::unix::fs::symlink("b", root.join("a")).unwrap();
    std::os::unix::fs::symlink("a", root.join("b")).unwrap();
    assert_eq!(directories_of(&root.join("a"), files::of_spec), BTreeSet::from([root]));
}

/// Where inotify has no instance left, pxed runs all the same, and sees what changes.
#[test]
fn without_inotify_the_files_are_looked_at() {
    let good = include_str!("../../../../examples/lab.yaml");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("lab.yaml");
    std::fs::write(&file, good).unwrap();
    let mut loader = Loader::new();
    let paths = vec![file.clone()];
    let shared = Arc::new(arc_swap::ArcSwap::new(loader.load(&paths).unwrap().inventory));
    let (sender, changes) = mpsc::channel();
    let report = move |_: &Inventory, new: &Inventory| {
        let address = std::net::Ipv4Addr::new(10, 0, 0, 99);
        let _ = sender.send(new.machines().iter().any(|machine| machine.address == address));
    };
    let refused = |_| Err(notify::Error::generic("Too many open files (os error 24)"));
    let watcher = watch_with(refused, cluster_spec(loader, paths, shared, report)).unwrap();
    let wait = || changes.recv_timeout(Duration::from_secs(20)).expect("no reload");
    // What the thread begins with.
    wait();
    std::fs::write(&file, good.replace("10.0.0.12", "10.0.0.99")).unwrap();
    while !wait() {}
    watcher.reload_now();
    assert!(wait(), "SIGHUP is heard as well");
}

#[test]
fn machines_leave_only_when_the_files_rest() {
    let whole = include_str!("../../../../examples/lab.yaml");
    // As far as an editor, `cp` or `scp` has come: valid YAML.
    let part = &whole[..whole.find("        - address: 10.0.0.13").unwrap()];
    let fewer = &whole[..whole.find("        - address: 10.0.0.12").unwrap()];
    let more = whole.replace("10.0.0.13", "10.0.0.99");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("lab.yaml");
    let shared = SharedInventory::default();
    let mut task = Task::new(cluster_spec(Loader::new(), vec![file.clone()], Arc::clone(&shared), |_, _| {}), None);
    let start = Instant::now();
    let all = whole.matches("- address: ").count();
    let (kept, kept_fewer) = (part.matches("- address: ").count(), fewer.matches("- address: ").count());
    assert!(kept_fewer < kept && kept < all);
    for (name, text, millis, machines, waits) in [
        ("the first load", Some(whole), 0, all, None),
        ("half written", Some(part), 100, all, Some(1_000)),
        ("something happens beside it", None, 600, all, Some(500)),
        ("written to the end", Some(&*more), 900, all, None),
        ("nothing is waited for any more", None, 5_000, all, None),
        ("half written", Some(part), 6_000, all, Some(1_000)),
        ("less, half a second later: the second begins anew", Some(fewer), 6_500, all, Some(1_000)),
        ("not yet", None, 7_499, all, Some(1)),
        ("machines were taken out", None, 7_500, kept_fewer, None),
        ("machines come at once", Some(whole), 7_600, all, None),
    ] {
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        let now = start + Duration::from_millis(millis);
        task.reload(now);
        assert_eq!(shared.load().machines().len(), machines, "{name}");
        assert_eq!(task.look_again_in(now), waits.map(Duration::from_millis), "{name}");
    }
}
