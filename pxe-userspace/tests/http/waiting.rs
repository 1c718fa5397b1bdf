//! Machines whose files are not there yet.

use std::{
    collections::{BTreeMap, HashMap},
    time::SystemTime,
};

use pxe_userspace::model::images::{FileState, ImageFile, Images, Stubs};

use super::*;

const NODE_1_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const NODE_2_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 12);
const INITRAMFS: &str = "initramfs-v1.13.0-amd64.xz";

/// Publishes the states of files that are there, or are on their way, or are not; `previous` boots another version.
fn publish(lab: &Lab, files: &[(&str, FileState)], previous: Option<Arc<Machine>>) {
    let file = |(path, state): &(&str, FileState)| (Arc::from(*path), ImageFile::from(state.clone()));
    let files: BTreeMap<Arc<str>, ImageFile> = files.iter().map(file).collect();
    let previous: HashMap<_, _, _> = previous.into_iter().map(|machine| (machine.mac, machine)).collect();
    lab.images.store(Arc::new(Images::new(files, previous, Stubs::default())));
}

fn fetching(done: u64) -> FileState {
    FileState::Fetching { done, total: Some(100), rest: None }
}

fn awaits(percent: Option<u8>, state: &'static str) -> EventKind {
    EventKind::Awaits { path: INITRAMFS.into(), state, percent }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machine_waits_for_its_initramfs_and_boots_when_it_is_there() {
    let mut lab = Lab::start();
    for (path, url) in [
        ("/boot/52:54:00:00:00:01.ipxe", "http://127.0.0.1:8000/boot/52-54-00-00-00-01.ipxe"),
        ("/ipxe?mac=52-54-00-00-00-01", "/ipxe?mac=52:54:00:00:00:01&arch=${buildarch:uristring}"),
    ] {
        publish(&lab, &[(KERNEL, FileState::Verified), (INITRAMFS, fetching(43))], None);
        let (status, _, text) = lab.get(path).await;
        assert!(status == 200 && text.starts_with("#!ipxe\n") && !text.contains("\nkernel "), "{text}");
        assert!(text.contains(&format!("{INITRAMFS}\necho pxed: it is being downloaded: 43 percent")), "{text}");
        assert!(text.contains(&format!("\nchain --replace --timeout 10000 {url} ||")), "{text}");
        // This is all: no request for a script, and no failure.
        assert_eq!(lab.event().await, awaits(Some(43), "fetching"));
        let head = format!("HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        lab.raw_from(NODE_1_ADDRESS, head.as_bytes()).await;

        publish(&lab, &[(KERNEL, FileState::Verified), (INITRAMFS, FileState::Verified)], None);
        let text = lab.get(path).await.2;
        assert!(text.contains("\nkernel "), "{text}");
        assert!(matches!(lab.event().await, EventKind::Requested { artifact: ArtifactKind::Script, .. }));
        assert!(matches!(lab.event().await, EventKind::Done { artifact: ArtifactKind::Script, .. }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_that_nobody_fetches_is_named_and_asked_for_again() {
    let mut lab = Lab::start();
    publish(&lab, &[(INITRAMFS, FileState::Missing { reason: "pxed runs with --offline".into() })], None);
    let text = lab.get("/boot/52:54:00:00:00:01.ipxe").await.2;
    assert!(text.contains("it is missing: pxed runs with --offline") && text.contains("\nsleep 10 "), "{text}");
    assert_eq!(lab.event().await, awaits(None, "missing"));
    // Machines that do not need it boot on.
    assert!(lab.get_from(NODE_2_ADDRESS, "/boot/52:54:00:00:00:02.ipxe").await.2.contains("\nkernel "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grub_and_u_boot_wait_in_their_own_ways() {
    let mut lab = Lab::start();
    let failed = FileState::Failed { reason: "refused".into(), again: SystemTime::now() };
    publish(&lab, &[(INITRAMFS, failed)], None);
    for path in ["/grub/grub.cfg", "/grub?mac=52:54:00:00:00:01"] {
        let (status, _, text) = lab.get(path).await;
        let itself = "source (http,127.0.0.1:8000)/assets/grub.cfg-01-52-54-00-00-00-01;";
        assert!(status == 200 && text.starts_with("# GRUB") && text.contains(itself), "{text}");
        assert!(text.contains("could not be downloaded: refused"), "{text}");
        assert_eq!(lab.event().await, awaits(None, "failed"));
    }
    let (status, head, text) = lab.get("/pxelinux.cfg/01-52-54-00-00-00-01").await;
    assert!(status == 503 && head.contains("\r\nRetry-After: 5\r\n") && !text.is_empty(), "{head}");
    assert_eq!(lab.event().await, awaits(None, "failed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machine_boots_its_previous_version_until_the_new_one_is_there() {
    let lab = Lab::start();
    let before =
        Machine { version: "v1.12.0".into(), ..Machine::clone(&machine(1, Architecture::Amd64, BootPolicy::Auto)) };
    publish(&lab, &[(KERNEL, FileState::Queued)], Some(Arc::new(before)));
    for path in [
        "/boot/52:54:00:00:00:01.ipxe",
        "/ipxe?mac=52-54-00-00-00-01",
        "/grub?mac=52-54-00-00-00-01",
        "/grub/grub.cfg",
        "/pxelinux.cfg/7F00000B",
    ] {
        let (status, _, text) = lab.get(path).await;
        assert!(status == 200 && text.contains("/assets/vmlinuz-v1.12.0-amd64"), "{path}: {text}");
        assert!(!text.contains("v1.13.0"), "{path}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machine_that_boots_from_its_disk_waits_for_nothing() {
    let mut lab = Lab::start();
    publish(&lab, &[(INITRAMFS, FileState::Queued)], None);
    for (source, path, expected) in [
        (Ipv4Addr::new(127, 0, 0, 13), "/boot/52:54:00:00:00:03.ipxe", 200),
        (Ipv4Addr::new(127, 0, 0, 13), "/grub/grub.cfg", 200),
        (Ipv4Addr::new(127, 0, 0, 14), "/boot/52:54:00:00:00:04.ipxe", 404),
    ] {
        let (status, _, text) = lab.get_from(source, path).await;
        assert!(status == expected && !text.contains("waits for"), "{path}: {status} {text}");
        while let Ok(event) = lab.events.try_recv() {
            assert!(!matches!(event.kind, EventKind::Awaits { .. }), "{event:?}");
        }
    }
    // Another machine's address is refused as ever, and learns nothing.
    let (status, _, text) = lab.get_from(NODE_2_ADDRESS, "/boot/52:54:00:00:00:01.ipxe").await;
    assert!(status == 403 && !text.contains(INITRAMFS), "{text}");
}
