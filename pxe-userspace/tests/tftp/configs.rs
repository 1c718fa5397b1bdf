//! Configurations of GRUB and U-Boot by TFTP.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use pxe_common::MacAddr;
use pxe_userspace::{
    artifacts::Store,
    model::{
        architecture::Architecture,
        event::{ArtifactKind, BootEvent, EventKind, EventSink},
        images::{FileState, Images, SharedImages, Stubs},
        inventory::{Inventory, Machine, Role, Site, Source},
        policy::{BootPolicy, DiskRoute},
        policy_book::PolicyBook,
    },
    tftp::{Context, Metrics, TftpServer},
};
use tokio::{net::UdpSocket, sync::mpsc, task::JoinHandle, time::timeout};

const LIMIT: Duration = Duration::from_secs(60);
const NODE_1: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const NODE_2: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 12);
const HELD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 13);
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 99);
const NOT_FOUND: Result<String, (u16, &str)> = Err((1, "no such file"));

/// A server with three machines: 1 is amd64, 2 is arm64 with a second network card, 3 is held.
struct Lab {
    directory: tempfile::TempDir,
    server: SocketAddrV4,
    events: mpsc::Receiver<BootEvent>,
    metrics: Arc<Metrics>,
    images: SharedImages,
    task: JoinHandle<()>,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn machine(number: u8, architecture: Architecture, policy: BootPolicy) -> Machine {
    Machine {
        mac: MacAddr([0x52, 0x54, 0, 0, 0, number]),
        additional_macs: Arc::default(),
        address: Ipv4Addr::new(127, 0, 0, 10 + number),
        cluster: "lab".into(),
        role: Role::Worker,
        architecture,
        version: "v1.13.0".into(),
        schematic: None,
        kernel_args: "".into(),
        hostname: None,
        prefix_length: None,
        gateway: None,
        dns_servers: Arc::new([]),
        policy,
        disk_route: DiskRoute::default(),
        boot: Default::default(),
        loaders: None,
        talos_config: None,
        vlans: Arc::default(),
        answers: Default::default(),
        secrets: Default::default(),
        site: Arc::new(Site { interface: "lo".into(), address: Ipv4Addr::LOCALHOST }),
        source: Source { file: Path::new("test.yaml").into(), line: 1 },
    }
}

impl Lab {
    fn new(check_source: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("vmlinuz-v1.13.0-arm64"), "a kernel").unwrap();
        let cards = Arc::new([MacAddr([0x52, 0x54, 0, 0, 1, 2])]);
        let machines = vec![
            machine(1, Architecture::Amd64, BootPolicy::Auto),
            Machine { additional_macs: cards, ..machine(2, Architecture::Arm64, BootPolicy::Auto) },
            machine(3, Architecture::Arm64, BootPolicy::Hold),
        ];
        let inventory = Arc::new(ArcSwap::from_pointee(Inventory::new(machines.into_iter().map(Arc::new).collect())));
        let (sink, events) = EventSink::channel(1000);
        let metrics = Arc::new(Metrics::default());
        let server = TftpServer::bind(Ipv4Addr::LOCALHOST, 0, vec![(Ipv4Addr::LOCALHOST, 8)], None).unwrap();
        let address = server.address();
        let store = Arc::new(Store::new(directory.path().to_owned()));
        let policies = Arc::new(ArcSwap::from_pointee(PolicyBook::default()));
        let images = SharedImages::default();
        let context = Context::new(store, inventory, sink, Arc::clone(&metrics))
            .with_policies(policies, check_source)
            .with_images(Arc::clone(&images));
        let task = tokio::spawn(async move { server.serve(context, std::future::pending()).await.unwrap() });
        Self { directory, server: address, events, metrics, images, task }
    }

    /// Fetches a file, with U-Boot's options. Returns it, or the error's code and message.
    async fn get(&self, from: Ipv4Addr, path: &str) -> Result<String, (u16, String)> {
        let socket = UdpSocket::bind((from, 0)).await.unwrap();
        let request = format!("\0\x01{path}\0octet\0timeout\x005\0blksize\x00512\0");
        socket.send_to(request.as_bytes(), self.server).await.unwrap();
        let (mut file, mut packet) = (Vec::new(), [0; 2048]);
        loop {
            let (length, peer) = timeout(LIMIT, socket.recv_from(&mut packet)).await.expect("no answer").unwrap();
            let (header, body) = packet[..length].split_at(4);
            match header[1] {
                3 => file.extend_from_slice(body),
                5 => {
                    let message = String::from_utf8_lossy(body).trim_end_matches('\0').to_owned();
                    return Err((u16::from_be_bytes([header[2], header[3]]), message));
                }
                _ => {}
            }
            let block = if header[1] == 3 { [header[2], header[3]] } else { [0, 0] };
            socket.send_to(&[0, 4, block[0], block[1]], peer).await.unwrap();
            if header[1] == 3 && body.len() < 512 {
                return Ok(String::from_utf8(file).unwrap());
            }
        }
    }

    /// Returns this number of events, in short, and checks that there are no more.
    async fn events(&mut self, count: usize) -> Vec<String> {
        let mut events = Vec::new();
        for _ in 0..count {
            let BootEvent { mac, kind, .. } = timeout(LIMIT, self.events.recv()).await.expect("an event").unwrap();
            let event = match kind {
                EventKind::Requested { artifact, path, .. } => format!("{artifact} {path} requested"),
                EventKind::Done { artifact, path, .. } => format!("{artifact} {path} done"),
                EventKind::Failed { artifact: ArtifactKind::Script, reason, .. } => format!("failed: {reason}"),
                EventKind::SentToDisk => "sent to disk".to_owned(),
                EventKind::Awaits { path, state, .. } => format!("awaits {path}: {state}"),
                other => panic!("{other:?}"),
            };
            events.push(format!("{} {event}", mac.0[5]));
        }
        assert!(self.events.is_empty());
        events
    }

    fn refused(&self, reason: &str) -> u64 {
        let mut registry = prometheus_client::registry::Registry::default();
        self.metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let sample = format!("tftp_refused_total{{reason=\"{reason}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&sample)).unwrap().parse().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machine_gets_its_configuration_wherever_its_loader_looks() {
    let mut lab = Lab::new(true);
    for (from, path, begin, kernel) in [
        (NODE_1, "/grub/grub.cfg", "# GRUB", "linux (tftp,127.0.0.1)/vmlinuz-v1.13.0-amd64 "),
        (NODE_1, "EFI/debian/grub.cfg", "# GRUB", "linux (tftp,127.0.0.1)/vmlinuz-v1.13.0-amd64 "),
        (NODE_1, "/grub/grub.cfg-01-52-54-00-00-00-01", "# GRUB", "vmlinuz-v1.13.0-amd64 "),
        (NODE_1, "grub/grub.cfg-7F00000B", "# GRUB", "vmlinuz-v1.13.0-amd64 "),
        (NODE_2, "pxelinux.cfg/01-52-54-00-00-00-02", "# U-Boot", "\n kernel vmlinuz-v1.13.0-arm64\n"),
        (NODE_2, "pxelinux.cfg/7F00000C", "# U-Boot", "\n kernel vmlinuz-v1.13.0-arm64\n"),
        (NODE_2, "pxelinux.cfg/01-52-54-00-00-01-02", "# U-Boot", "\n kernel vmlinuz-v1.13.0-arm64\n"),
    ] {
        let text = lab.get(from, path).await.unwrap();
        assert!(text.starts_with(begin) && text.contains(kernel), "{path}: {text}");
        let number = from.octets()[3] - 10;
        let script = format!("{number} script {path}");
        assert_eq!(lab.events(2).await, [format!("{script} requested"), format!("{script} done")]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configuration_is_for_its_own_machine() {
    let mut lab = Lab::new(true);
    for from in [NODE_2, STRANGER] {
        for path in ["pxelinux.cfg/01-52-54-00-00-00-01", "grub/grub.cfg-7F00000B"] {
            let reason = format!("asked from {from}, but only 127.0.0.11 may get the boot script of 52:54:00:00:00:01");
            // U-Boot gives up at errors 1 and 2 and starts over at others.
            assert_eq!(lab.get(from, path).await, Err((2, reason.clone())), "{path}");
            assert_eq!(lab.events(1).await, [format!("1 failed: {reason}")]);
        }
    }
    assert_eq!(lab.refused("source"), 4);
    assert_eq!(lab.get(STRANGER, "/grub/grub.cfg").await, Err((1, "no such file".to_owned())));
    assert_eq!(lab.refused("not_found"), 1);
    lab.events(0).await;

    let mut lab = Lab::new(false);
    assert!(lab.get(STRANGER, "pxelinux.cfg/01-52-54-00-00-00-02").await.is_ok());
    let script = "2 script pxelinux.cfg/01-52-54-00-00-00-02";
    assert_eq!(lab.events(2).await, [format!("{script} requested"), format!("{script} done")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_machine_goes_to_its_disk() {
    let mut lab = Lab::new(true);
    let disk = Err((1, "this machine boots from its disk".to_owned()));
    assert_eq!(lab.get(HELD, "pxelinux.cfg/01-52-54-00-00-00-03").await, disk);
    assert_eq!(lab.events(1).await, ["3 sent to disk"]);
    assert_eq!(lab.refused("disk"), 1);
    let text = lab.get(HELD, "/grub/grub.cfg").await.unwrap();
    assert!(text.contains("chainloader /EFI/BOOT/BOOTAA64.EFI") && !text.contains("vmlinuz"), "{text}");
    let script = "3 script /grub/grub.cfg";
    assert_eq!(
        lab.events(3).await,
        ["3 sent to disk".to_owned(), format!("{script} requested"), format!("{script} done")]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_are_refused_at_once_and_are_no_failures() {
    let mut lab = Lab::new(true);
    let probes = [
        "pxelinux.cfg/01-52-54-00-00-00-99",
        "pxelinux.cfg/7F00000",
        "pxelinux.cfg/default-arm-qemu-arm",
        "pxelinux.cfg/default",
        "/grub/x86_64-efi/command.lst",
        "/grub/x86_64-efi/terminal.lst",
        "/grub/fonts/unicode.pf2",
        "/grub/grub.cfg-7F",
        "boot.scr.uimg",
    ];
    for path in probes {
        let answer = lab.get(NODE_2, path).await;
        assert_eq!(
            answer.as_ref().map_err(|(code, text)| (*code, text.as_str())),
            NOT_FOUND.as_ref().map_err(|e| *e),
            "{path}"
        );
    }
    lab.events(0).await;
    assert_eq!((lab.refused("optional"), lab.refused("not_found")), (probes.len() as u64, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_among_the_artifacts_wins() {
    let lab = Lab::new(true);
    let file = lab.directory.path().join("grub/grub.cfg");
    fs::create_dir(lab.directory.path().join("grub")).unwrap();
    fs::write(&file, "by hand").unwrap();
    assert_eq!(lab.get(NODE_1, "/grub/grub.cfg").await.as_deref(), Ok("by hand"));
    assert_eq!(lab.get(STRANGER, "/grub/grub.cfg").await.as_deref(), Ok("by hand"));
    fs::remove_file(file).unwrap();
    assert!(lab.get(NODE_1, "/grub/grub.cfg").await.unwrap().starts_with("# GRUB"));
}

/// U-Boot puts the directory of its boot file before every path.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kernel_is_found_below_the_directory_of_the_loader() {
    let mut lab = Lab::new(true);
    assert!(lab.get(NODE_2, "a/b/pxelinux.cfg/7F00000C").await.unwrap().contains("\n kernel vmlinuz-v1.13.0-arm64\n"));
    lab.events(2).await;
    assert_eq!(lab.get(NODE_2, "a/b/vmlinuz-v1.13.0-arm64").await.as_deref(), Ok("a kernel"));
    let kernel = "2 kernel a/b/vmlinuz-v1.13.0-arm64";
    assert_eq!(lab.events(2).await, [format!("{kernel} requested"), format!("{kernel} done")]);
    // Not the kernel of this machine, and not a name of its own.
    for (from, path) in [(NODE_1, "a/vmlinuz-v1.13.0-arm64"), (NODE_2, "a-vmlinuz-v1.13.0-arm64")] {
        assert_eq!(lab.get(from, path).await, Err((1, "no such file".to_owned())), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grub_waits_by_its_configuration_and_u_boot_by_silence() {
    let mut lab = Lab::new(true);
    let images = Arc::clone(&lab.images);
    let publish = |state: FileState| {
        let files = ["initramfs-v1.13.0-amd64.xz", "vmlinuz-v1.13.0-arm64"];
        let files = files.map(|path| (Arc::from(path), state.clone().into())).into();
        images.store(Arc::new(Images::new(files, Default::default(), Stubs::default())));
    };
    publish(FileState::Queued);
    let text = lab.get(NODE_1, "/grub/grub.cfg").await.unwrap();
    assert!(text.contains("source (tftp,127.0.0.1)/grub.cfg-01-52-54-00-00-00-01;"), "{text}");

    let socket = UdpSocket::bind((NODE_2, 0)).await.unwrap();
    for _ in 0..2 {
        socket.send_to(b"\0\x01pxelinux.cfg/7F00000C\0octet\0", lab.server).await.unwrap();
    }
    let awaits = "2 awaits vmlinuz-v1.13.0-arm64: queued";
    assert_eq!(lab.events(3).await, ["1 awaits initramfs-v1.13.0-amd64.xz: queued", awaits, awaits]);

    publish(FileState::Verified);
    // The answer to the same request is the first packet that comes.
    socket.send_to(b"\0\x01pxelinux.cfg/7F00000C\0octet\0", lab.server).await.unwrap();
    let mut packet = [0; 2048];
    let (length, _) = timeout(LIMIT, socket.recv_from(&mut packet)).await.expect("no answer").unwrap();
    assert!(packet[..length].starts_with(b"\0\x03\0\x01# U-Boot"), "{}", packet[..length].escape_ascii());
    assert_eq!(lab.refused("awaited"), 2);
}
