//! Disks that are full, read-only or gone.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, thread};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

use crate::{
    archives::{self, ARCHIVE, MEMBER, archive},
    lab::{FACTORY_KERNEL, Lab, factory_kernel, kernel, publish, release_kernel},
    server::{Behaviour, Server},
};

const NONE: Option<&str> = None;

/// Runs a test on a small disk, which this thread and those that it starts see alone. Skips it without root.
fn on_small_disk<F: Future<Output = ()>>(kilobytes: u32, test: impl FnOnce(Lab, Server) -> F + Send + 'static) {
    let runs = thread::spawn(move || {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNS) {
            println!("SKIP needs root for a mount namespace: {error}");
            return;
        }
        mount(NONE, "/", NONE, MsFlags::MS_PRIVATE | MsFlags::MS_REC, NONE).unwrap();
        let server = Server::start();
        let lab = Lab::new(&server);
        let size = format!("size={kilobytes}k");
        mount(Some("pxed-test"), &lab.root(), Some("tmpfs"), MsFlags::empty(), Some(&*size)).unwrap();
        let root = lab.root();
        // Its threads are started by this one and see its mounts.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(lab, server));
        drop(runtime);
        umount2(&root, MntFlags::MNT_DETACH).unwrap();
    });
    runs.join().unwrap();
}

#[test]
fn full_disk_is_told_before_the_download_with_what_is_missing() {
    on_small_disk(1024, async |lab, server| {
        publish(&server, &kernel(3_000_000, 1));
        let message = lab.failure(&release_kernel()).await;
        let missing = message.split("no room in ").nth(1).and_then(|rest| rest.split(": ").nth(1));
        let missing: u64 = missing.and_then(|rest| rest.split(' ').next()?.parse().ok()).expect(&message);
        // All of it, but for the disk, part of which is taken by names and the manifest's lock.
        assert!((3_000_000 - (1 << 20)..2_200_000).contains(&missing), "{message}");
        assert!(message.contains(".pxed/partial") && message.contains("make room"), "{message}");
        assert_eq!(lab.pauses(), 0);
        // With room, the same directory works.
        publish(&server, &kernel(500_000, 1));
        lab.fetch(&release_kernel()).await.unwrap();
    });
}

#[test]
fn disk_without_room_for_what_an_archive_unpacks_to_is_told() {
    on_small_disk(1024, async |lab, server| {
        // What packs well needs little room until it is unpacked.
        let content = [&kernel(5_000, 1)[..], &[0; 3_000_000]].concat();
        server.put(ARCHIVE, &archive(&[(MEMBER, tar::EntryType::Regular, &content)]));
        let job = archives::second_stage("ipxe-shimx64.efi");
        let message = lab.failure(&job).await;
        assert!(message.contains("no room in ") && message.contains("make room"), "{message}");
        assert_eq!((lab.pauses(), server.requests(ARCHIVE).len()), (0, 1));
        assert!(!lab.left().iter().any(|name| name.contains("unpacked")), "{:?}", lab.left());
        // With room, the archive that is there is enough.
        mount(NONE, &lab.root(), NONE, MsFlags::MS_REMOUNT, Some("size=8192k")).unwrap();
        lab.fetch(&job).await.unwrap();
        assert_eq!(lab.content(&job), Some(content));
        assert_eq!((server.requests(ARCHIVE).len(), lab.left()), (1, Vec::new()));
    });
}

#[test]
fn disk_that_fills_up_in_the_middle_is_told() {
    on_small_disk(1024, async |lab, server| {
        server.put(FACTORY_KERNEL, &kernel(3_000_000, 1));
        // Nothing is known of the length, so nothing can be reserved.
        server.always(FACTORY_KERNEL, Behaviour::Chunked(usize::MAX));
        let message = lab.failure(&factory_kernel()).await;
        assert!(message.contains("no room in") && message.contains("make room"), "{message}");
    });
}

#[test]
fn read_only_disk_is_told() {
    on_small_disk(1024, async |lab, server| {
        publish(&server, &kernel(100_000, 1));
        mount(NONE, &lab.root(), NONE, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, NONE).unwrap();
        let message = lab.failure(&release_kernel()).await;
        assert!(message.contains("cannot be written to") && message.contains("Read-only"), "{message}");
        mount(NONE, &lab.root(), NONE, MsFlags::MS_REMOUNT, NONE).unwrap();
        lab.fetch(&release_kernel()).await.unwrap();
    });
}

#[tokio::test]
async fn directory_that_is_gone_or_in_the_way_is_told() {
    let server = Server::start();
    publish(&server, &kernel(100_000, 1));
    let lab = Lab::new(&server);
    let own = lab.root().join(".pxed");
    fs::write(&own, "").unwrap();
    let message = lab.failure(&release_kernel()).await;
    assert!(message.contains(".pxed"), "{message}");
    fs::remove_file(&own).unwrap();
    fs::set_permissions(lab.root(), fs::Permissions::from_mode(0o755)).unwrap();
    let moved = lab.root().with_extension("moved");
    fs::rename(lab.root(), &moved).unwrap();
    let message = lab.failure(&release_kernel()).await;
    assert!(message.contains("does not exist") && message.contains("--artifacts"), "{message}");
    fs::rename(&moved, lab.root()).unwrap();
    lab.fetch(&release_kernel()).await.unwrap();
    assert!(Path::new(&lab.root().join("vmlinuz-v1.13.0-amd64")).exists());
}
