//! Configurations of GRUB and U-Boot by HTTP.

use super::*;

const NODE_2: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 12);
const HELD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 13);
const HELD_BY_404: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 14);

/// Returns this number of events, in short, and checks that there are no more.
async fn events(lab: &mut Lab, count: usize) -> Vec<String> {
    let mut events = Vec::new();
    for _ in 0..count {
        let next = timeout(Duration::from_secs(20), lab.events.recv());
        let BootEvent { mac, kind, .. } = next.await.expect("no event").unwrap();
        let event = match kind {
            EventKind::Requested { artifact: ArtifactKind::Script, path, .. } => format!("requested {path}"),
            EventKind::Done { artifact: ArtifactKind::Script, path, .. } => format!("done {path}"),
            EventKind::Failed { artifact: ArtifactKind::Script, path, reason, .. } => {
                format!("failed {path}: {reason}")
            }
            EventKind::SentToDisk => "sent to disk".to_owned(),
            other => panic!("{other:?}"),
        };
        events.push(format!("{} {event}", mac.0[5]));
    }
    assert!(lab.events.is_empty());
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machine_gets_its_configuration_wherever_its_loader_looks() {
    let mut lab = Lab::start();
    for (source, path, begin, kernel) in [
        (
            Ipv4Addr::new(127, 0, 0, 11),
            "/grub/grub.cfg",
            "# GRUB",
            "(http,127.0.0.1:8000)/assets/vmlinuz-v1.13.0-amd64",
        ),
        (Ipv4Addr::new(127, 0, 0, 11), "/assets/grub.cfg", "# GRUB", "(http,127.0.0.1:8000)/assets/vmlinuz"),
        (Ipv4Addr::new(127, 0, 0, 11), "/EFI/debian/grub.cfg-01-52-54-00-00-00-01", "# GRUB", "vmlinuz-v1.13.0-amd64"),
        (Ipv4Addr::new(127, 0, 0, 11), "/grub/grub.cfg-7F00000B", "# GRUB", "vmlinuz-v1.13.0-amd64"),
        (NODE_2, "/grub/grub.cfg", "# GRUB", "vmlinuz-v1.13.0-arm64"),
        (NODE_2, "/pxelinux.cfg/01-52-54-00-00-00-02", "# U-Boot", "kernel http://127.0.0.1:8000/assets/vmlinuz"),
        (NODE_2, "/assets/pxelinux.cfg/7F00000C", "# U-Boot", "kernel http://127.0.0.1:8000/assets/vmlinuz"),
    ] {
        let (status, head, text) = lab.get_from(source, path).await;
        assert_eq!(status, 200, "{path}: {text}");
        assert!(head.contains("text/plain"), "{head}");
        assert!(text.starts_with(begin) && text.contains(kernel), "{path}: {text}");
        let machine = source.octets()[3] - 10;
        assert_eq!(
            events(&mut lab, 2).await,
            [format!("{machine} requested {path}"), format!("{machine} done {path}")]
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configuration_is_for_its_own_machine() {
    let mut lab = Lab::start();
    for path in
        ["/grub/grub.cfg-01-52-54-00-00-00-01", "/pxelinux.cfg/7F00000B", "/assets/pxelinux.cfg/01-52-54-00-00-00-01"]
    {
        let (status, _, text) = lab.get_from(NODE_2, path).await;
        let reason = "asked from 127.0.0.12, but only 127.0.0.11 may get the boot script of 52:54:00:00:00:01";
        assert_eq!((status, text), (403, format!("{reason}\n")), "{path}");
    }
    assert_eq!(events(&mut lab, 0).await, [""; 0]);
    assert_eq!(lab.metrics.refusals(Refused::Source), 3);
    for path in ["/grub/grub.cfg", "/grub/grub.cfg-01-52-54-00-00-00-99", "/pxelinux.cfg/0A000001"] {
        assert_eq!(lab.get_from(Ipv4Addr::new(127, 0, 0, 99), path).await.0, 404, "{path}");
    }
    events(&mut lab, 0).await;

    let mut lab = Lab::start_with(false);
    assert_eq!(lab.get_from(NODE_2, "/grub/grub.cfg-01-52-54-00-00-00-01").await.0, 200);
    assert!(events(&mut lab, 2).await.iter().all(|event| event.starts_with("1 ")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_machine_goes_to_its_disk() {
    let mut lab = Lab::start();
    let (status, _, text) = lab.get_from(HELD, "/grub/grub.cfg").await;
    assert!(status == 200 && text.contains("chainloader") && !text.contains("vmlinuz"), "{status} {text}");
    assert_eq!(events(&mut lab, 3).await, ["3 sent to disk", "3 requested /grub/grub.cfg", "3 done /grub/grub.cfg"]);
    for (source, path) in [(HELD, "/pxelinux.cfg/01-52-54-00-00-00-03"), (HELD_BY_404, "/grub/grub.cfg")] {
        assert_eq!(lab.get_from(source, path).await.0, 404, "{path}");
        assert_eq!(events(&mut lab, 1).await, [format!("{} sent to disk", source.octets()[3] - 10)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_among_the_artifacts_wins() {
    let mut lab = Lab::start();
    for (directory, path) in [("grub", "/grub/grub.cfg"), ("pxelinux.cfg", "/assets/pxelinux.cfg/7F00000B")] {
        let file = lab.directory.path().join(path.trim_start_matches("/assets").trim_start_matches('/'));
        std::fs::create_dir(lab.directory.path().join(directory)).unwrap();
        std::fs::write(&file, "by hand").unwrap();
        assert_eq!(lab.get(path).await.2, "by hand");
        // Whoever asks: a file is nobody's secret.
        assert_eq!(lab.get_from(NODE_2, path).await.2, "by hand");
        std::fs::remove_file(file).unwrap();
        assert!(lab.get(path).await.2.starts_with("# "), "{path}");
    }
    events(&mut lab, 12).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_are_no_failures() {
    let mut lab = Lab::start();
    for path in [
        "/grub/x86_64-efi/command.lst",
        "/assets/grub/x86_64-efi/fs.lst",
        "/pxelinux.cfg/default",
        "/assets/pxelinux.cfg/7F0000",
        "/grub/grub.cfg-7F",
    ] {
        let (status, _, text) = lab.get(path).await;
        // shim waits for ever for the text of a 404 without one.
        assert!(status == 404 && !text.is_empty(), "{path}");
    }
    events(&mut lab, 0).await;
}
