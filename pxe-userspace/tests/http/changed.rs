//! Files that are not as they were verified, and pxed's own files.

use std::{fs, path::Path, time::SystemTime};

use pxe_userspace::{
    artifacts::{Records, Refusal, Verdict},
    model::failure::ALTERED,
};

use super::*;

const INITRAMFS: &str = "initramfs-v1.13.0-amd64.xz";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn request_for_a_changed_file_waits_until_it_was_read() {
    let mut lab = Lab::start();
    let (records, _) = Records::open(Arc::clone(&lab.store));
    records.accept(Path::new(INITRAMFS), SystemTime::now()).unwrap();
    let (path, file) = (format!("/assets/{INITRAMFS}"), lab.directory.path().join(INITRAMFS));
    assert_eq!(lab.get(&path).await.0, 200);
    lab.event().await;
    lab.event().await;
    let new = lab.directory.path().join("new");
    for (content, is_right) in [("another initramfs", false), ("an initramfs", true)] {
        fs::write(&new, content).unwrap();
        fs::rename(&new, &file).unwrap();
        assert_eq!(lab.store.open(INITRAMFS.as_bytes()).err(), Some(Refusal::Unverified));
        let ((status, head, body), verdict) = tokio::join!(lab.get(&path), async { records.verify(INITRAMFS) });
        assert_eq!(verdict == Verdict::Verified, is_right, "{verdict:?}");
        assert!(matches!(lab.event().await, EventKind::Requested { .. }));
        let event = lab.event().await;
        if is_right {
            assert_eq!((status, &*body), (200, content));
        } else {
            assert_eq!((status, body), (503, format!("{ALTERED}\n")), "{content}");
            assert!(head.contains("Retry-After: "), "{head}");
            assert!(matches!(event, EventKind::Failed { reason, .. } if *reason == *ALTERED));
        }
    }
    let (status, _, body) = lab.get(&path).await;
    assert_eq!((status, &*body), (200, "an initramfs"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_files_do_not_exist_for_clients() {
    let lab = Lab::start();
    let (records, _) = Records::open(Arc::clone(&lab.store));
    records.accept(Path::new(INITRAMFS), SystemTime::now()).unwrap();
    assert!(lab.directory.path().join(".pxed/manifest.json").exists());
    for path in [
        "/assets/.pxed/manifest.json",
        "/assets//.pxed/./manifest.json",
        "/assets/%2epxed/manifest.json",
        "/assets/%2E%70xed%2fmanifest.json",
        "/assets/.PXED/manifest.json",
        "/assets/%5c.pxed%5cmanifest.json",
        "/assets/.pxed/lock",
        "/assets/.pxed/",
        "/.pxed/manifest.json",
    ] {
        let (status, _, body) = lab.get(path).await;
        assert!(status == 404 && !body.is_empty() && !body.contains("sha256"), "{path}: {status} {body}");
    }
}
