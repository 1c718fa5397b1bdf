use std::{
    fs,
    io::Read as _,
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt as _, symlink},
    },
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::geteuid,
};
use proptest::prelude::*;

use super::*;
use crate::artifacts::{Refusal, Store};

/// Creates a directory with `root`, a second name of it (`alias`), and a directory beside it (`other`).
fn directories() -> tempfile::TempDir {
    let top = tempfile::tempdir().unwrap();
    let at = |name: &str| top.path().join(name);
    fs::create_dir_all(at("root/sub/deep")).unwrap();
    fs::create_dir(at("other")).unwrap();
    fs::write(at("root/kernel"), "a kernel").unwrap();
    fs::write(at("root/sub/initramfs"), "an initramfs").unwrap();
    fs::write(at("other/secret"), "secret").unwrap();
    symlink("root", at("alias")).unwrap();
    top
}

/// Makes links below `top`, where `TOP` in a target stands for its path.
fn links(top: &Path, links: &[(&str, &str)]) {
    for (path, target) in links {
        symlink(target.replace("TOP", top.to_str().unwrap()), top.join(path)).unwrap();
    }
}

fn content(store: &Store, path: &str) -> Result<String, Refusal> {
    let mut text = String::new();
    store.open(path.as_bytes())?.file.read_to_string(&mut text).unwrap();
    Ok(text)
}

#[test]
fn links_to_files_of_the_directory_are_followed() {
    let top = directories();
    links(
        top.path(),
        &[
            ("root/absolute", "TOP/root/kernel"),
            ("root/dotted", "TOP//root/./sub/../kernel"),
            ("root/chain", "TOP/root/relative"),
            ("root/relative", "sub/../absolute"),
            ("root/directory", "TOP/root/sub"),
            ("root/sub/back", "TOP/root"),
            ("root/self", "TOP/root"),
            ("root/by-alias", "TOP/alias/kernel"),
            ("root/out-and-back", "../root/kernel"),
            ("root/up-and-back", "sub/../../other/../alias/sub/initramfs"),
            ("other/there", "TOP/root/kernel"),
            ("other/near", "../alias/kernel"),
            ("root/through-a-link-outside", "TOP/other/there"),
            ("root/through-a-relative-link-outside", "TOP/other/near"),
            ("root/sub/deep/climbs", "../../sub/deep/../../kernel"),
            ("root/from-the-top", "/../..TOP/root/kernel"),
            ("root/by-the-process", "/proc/self/root/TOP/root/kernel"),
        ],
    );
    // The directory itself may be named by a link, too.
    for name in ["root", "alias"] {
        let store = Store::without_stand_ins(top.path().join(name));
        for path in [
            "absolute",
            "dotted",
            "chain",
            "relative",
            "sub/back/kernel",
            "self/kernel",
            "self/self/directory/back/absolute",
            "by-alias",
            "out-and-back",
            "through-a-link-outside",
            "through-a-relative-link-outside",
            "sub/deep/climbs",
            "from-the-top",
            "by-the-process",
        ] {
            assert_eq!(content(&store, path).as_deref(), Ok("a kernel"), "{name}/{path}");
        }
        for path in ["directory/initramfs", "/self//directory/./initramfs", "up-and-back"] {
            assert_eq!(content(&store, path).as_deref(), Ok("an initramfs"), "{name}/{path}");
        }
    }
}

#[test]
fn links_that_lead_to_no_file_are_refused_with_their_target() {
    let top = directories();
    links(
        top.path(),
        &[
            ("root/out", "TOP/other/secret"),
            ("root/out-by-dots", "../other/secret"),
            ("root/out-by-two", "TOP/root/out"),
            ("root/out-directory", "TOP/other"),
            ("root/parent", ".."),
            ("root/top", "/"),
            ("root/prefix", "TOP/root-and-more/kernel"),
            ("root/magic", "/proc/self/exe"),
            ("root/nowhere", "/nowhere/kernel"),
            ("root/dangling", "TOP/root/missing"),
            ("root/dangling-relative", "missing"),
            ("root/not-a-directory", "TOP/root/kernel/../kernel"),
            ("root/to-the-root", "TOP/root"),
            ("root/circle", "TOP/root/circle"),
            ("root/one", "TOP/root/two"),
            ("root/two", "one"),
            ("root/plain-circle", "plain-circle"),
            ("root/circle-outside", "TOP/other/circle"),
            ("other/circle", "TOP/other/circle"),
            ("other/leads-back", "TOP/root/missing"),
            ("root/dangling-outside", "TOP/other/leads-back"),
        ],
    );
    let top = top.path();
    let store = Store::without_stand_ins(top.join("root"));
    let (not_found, outside, circle) = (Refusal::NotFound, Refusal::Outside, Refusal::Circle);
    for (path, refusal, link, target) in [
        ("out", outside, "out", "TOP/other/secret"),
        ("out-by-dots", outside, "out-by-dots", "../other/secret"),
        ("out-by-two", outside, "out", "TOP/other/secret"),
        ("out-directory/secret", outside, "out-directory", "TOP/other"),
        ("parent/other/secret", outside, "parent", ".."),
        ("top/etc/passwd", outside, "top", "/"),
        ("prefix", outside, "prefix", "TOP/root-and-more/kernel"),
        ("magic", outside, "magic", "/proc/self/exe"),
        ("nowhere", outside, "nowhere", "/nowhere/kernel"),
        ("dangling", not_found, "dangling", "TOP/root/missing"),
        ("dangling-relative", not_found, "dangling-relative", "missing"),
        ("dangling-outside", not_found, "dangling-outside", "TOP/other/leads-back"),
        ("not-a-directory", not_found, "not-a-directory", "TOP/root/kernel/../kernel"),
        ("to-the-root", not_found, "to-the-root", "TOP/root"),
        ("circle", circle, "circle", "TOP/root/circle"),
        ("one", circle, "two", "one"),
        ("plain-circle", circle, "plain-circle", "plain-circle"),
        ("circle-outside", circle, "circle-outside", "TOP/other/circle"),
    ] {
        assert_eq!(content(&store, path), Err(refusal), "{path}");
        let reason = store.reason(path.as_bytes(), refusal);
        let (link, target) = (top.join("root").join(link), target.replace("TOP", top.to_str().unwrap()));
        let expected = format!("{}: {} is a symbolic link to {target}", refusal.reason(), link.display());
        assert_eq!(reason, expected, "{path}");
    }
    // A refusal that no link caused names no link and no path of the host.
    for (path, refusal) in [("missing", not_found), ("../other/secret", outside), ("a\0b", outside)] {
        assert_eq!(content(&store, path), Err(refusal), "{path}");
        assert_eq!(store.reason(path.as_bytes(), refusal), refusal.reason(), "{path}");
    }
}

#[test]
fn chain_of_links_is_followed_up_to_the_kernels_limit() {
    let top = directories();
    let link = |number: usize| format!("root/{number}");
    links(top.path(), &[(&link(0), "TOP/root/kernel")]);
    for number in 1..=LINK_LIMIT {
        links(top.path(), &[(&link(number), &format!("TOP/{}", link(number - 1)))]);
    }
    let store = Store::without_stand_ins(top.path().join("root"));
    assert_eq!(content(&store, &(LINK_LIMIT - 1).to_string()).as_deref(), Ok("a kernel"));
    assert_eq!(content(&store, &LINK_LIMIT.to_string()), Err(Refusal::Circle));
}

/// A directory that is mounted a second time has two paths and no link between them.
#[test]
fn link_through_a_second_mount_is_followed() {
    let top = directories();
    fs::create_dir(top.path().join("mounted")).unwrap();
    links(top.path(), &[("root/by-mount", "TOP/mounted/kernel"), ("root/beside", "TOP/mounted/../other/secret")]);
    let store = Store::without_stand_ins(top.path().join("root"));
    assert_eq!(content(&store, "by-mount"), Err(Refusal::Outside), "nothing is mounted yet");
    // The mount is visible in this thread alone.
    if !geteuid().is_root() {
        let message = "artifacts::links: needs root";
        assert!(std::env::var_os("PXED_TESTS_REQUIRE_ALL").is_none(), "{message}");
        eprintln!("SKIPPED {message}");
        return;
    }
    let by_mount = thread::spawn(move || {
        let none: Option<&str> = None;
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some(&top.path().join("root")), &top.path().join("mounted"), none, MsFlags::MS_BIND, none).unwrap();
        (content(&store, "by-mount"), content(&store, "beside"))
    });
    assert_eq!(by_mount.join().unwrap(), (Ok("a kernel".to_owned()), Err(Refusal::Outside)));
}

/// However a link is changed while it is followed, the kernel has the last word.
#[test]
fn link_that_is_swapped_all_the_time_never_leads_out() {
    let top = directories();
    let secret = fs::metadata(top.path().join("other/secret")).unwrap().ino();
    let swapped = |name: &str, targets: [&str; 2], stop: &AtomicBool| {
        let (link, next) = (top.path().join("root").join(name), top.path().join(format!("next-{name}")));
        for target in targets.iter().cycle() {
            symlink(target.replace("TOP", top.path().to_str().unwrap()), &next).unwrap();
            fs::rename(&next, &link).unwrap();
            if stop.load(Ordering::Relaxed) {
                return;
            }
        }
    };
    let store = Store::without_stand_ins(top.path().join("root"));
    let stop = AtomicBool::new(false);
    links(top.path(), &[("root/file", "TOP/root/kernel"), ("root/directory", "TOP/root/sub")]);
    fs::write(top.path().join("root/secret"), "not secret").unwrap();
    fs::write(top.path().join("root/sub/secret"), "not secret").unwrap();
    let opened = thread::scope(|scope| {
        scope.spawn(|| swapped("file", ["TOP/root/kernel", "TOP/other/secret"], &stop));
        scope.spawn(|| swapped("directory", ["TOP/root/sub", "TOP/other"], &stop));
        let mut opened = 0;
        for _ in 0..20_000 {
            for path in ["file", "directory/secret"] {
                if let Ok(artifact) = store.open(path.as_bytes()) {
                    assert_ne!(artifact.inode, secret, "{path}");
                    opened += 1;
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        opened
    });
    assert!(opened > 0, "the links never led to a file of the directory");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// The kernel agrees about every path that it can follow by itself, and what is proposed has no links and no `..`.
    #[test]
    fn relative_links_lead_where_the_kernel_says(
        targets in prop::collection::vec("(\\.\\./|\\./|sub/|deep/|[abc]/){0,4}(kernel|initramfs|[abc]|\\.\\.)", 3),
        path in "(sub/|deep/|[abc]/){0,3}(kernel|initramfs|[abc])",
    ) {
        let top = directories();
        for (name, target) in ["root/a", "root/sub/b", "root/sub/deep/c"].iter().zip(&targets) {
            links(top.path(), &[(name, target)]);
        }
        let root: OwnedFd = fs::File::open(top.path().join("root")).unwrap().into();
        let by_kernel = openat2(&root, path.as_str(), OFlags::PATH, Mode::empty(), BENEATH);
        let identity = |file: &OwnedFd| fstat(file).map(|file| (file.st_dev, file.st_ino)).unwrap();
        match (follow(std::os::fd::AsFd::as_fd(&root), path.as_bytes()).end, by_kernel) {
            (End::Below(found), by_kernel) => {
                prop_assert!(found == b"." || !found.split(|&byte| byte == b'/').any(|part| part == b".."));
                let resolve = BENEATH.union(ResolveFlags::NO_SYMLINKS);
                let found = openat2(&root, found.as_slice(), OFlags::PATH, Mode::empty(), resolve).unwrap();
                match by_kernel {
                    Ok(by_kernel) => prop_assert_eq!(identity(&found), identity(&by_kernel)),
                    // It left the directory on the way.
                    Err(error) => prop_assert_eq!(error, Errno::XDEV),
                }
            }
            (end, Ok(_)) => prop_assert!(false, "{:?} where the kernel finds a file", end),
            (End::Outside, Err(error)) => prop_assert_eq!(error, Errno::XDEV),
            (_, Err(_)) => {}
        }
    }
}
