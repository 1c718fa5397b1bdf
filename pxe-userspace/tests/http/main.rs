//! The boot HTTP server on loopback, with hand-made requests.
//!
//! Machines have addresses of 127.0.0.0/8, so a client gets a machine's address by binding to it.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail by panicking")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use pxe_common::MacAddr;
use pxe_userspace::{
    artifacts::{Store, TalosConfigs},
    cluster_spec::matchbox::{self, Catalog},
    guard::{Guard, KEY_LENGTH},
    http::{Context, Metrics, Refused, Visits, bind, serve},
    model::{
        architecture::Architecture,
        event::{ArtifactKind, BootEvent, EventKind, EventSink, Transport},
        failure::{ASKED_FROM, CHANGED},
        images::SharedImages,
        inventory::{Inventory, Machine, Role, Site, Source},
        policy::{BootPolicy, DiskRoute},
        policy_book::PolicyBook,
        progress::ProgressBoard,
        talos_config::{ConfigPlace, TalosConfig},
        visitors::SharedVisitors,
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::{mpsc, oneshot},
    time::timeout,
};

mod changed;
mod delivery;
mod loader_configs;
mod matchbox_routes;
mod overwritten;
mod progress;
mod secrets;
mod shim;
mod talos_config;
mod waiting;

const KERNEL: &str = "vmlinuz-v1.13.0-amd64";
/// Returns the guard of every lab.
fn guard() -> Guard {
    Guard::new(&[7; KEY_LENGTH])
}

const NODE_1: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);

fn machine(number: u8, architecture: Architecture, policy: BootPolicy) -> Arc<Machine> {
    Arc::new(Machine {
        mac: MacAddr([0x52, 0x54, 0, 0, 0, number]),
        additional_macs: [MacAddr([0x52, 0x54, 0, 0, 0, 0xa0 + number])].into(),
        address: Ipv4Addr::new(127, 0, 0, 10 + number),
        cluster: "lab".into(),
        role: Role::Worker,
        architecture,
        version: "v1.13.0".into(),
        schematic: None,
        kernel_args: "talos.config.inline=a+b/c=  x".into(),
        hostname: Some(format!("node-{number}").into()),
        prefix_length: None,
        gateway: None,
        dns_servers: Arc::new([]),
        policy,
        disk_route: if number == 4 { DiskRoute::NotFound } else { DiskRoute::Auto },
        boot: Default::default(),
        loaders: None,
        talos_config: None,
        vlans: Arc::default(),
        answers: Default::default(),
        secrets: Default::default(),
        site: Arc::new(Site { interface: "lo".into(), address: Ipv4Addr::LOCALHOST }),
        source: Source { file: Arc::from(Path::new("lab.yaml")), line: 1 },
    })
}

/// A server with the files of a directory and four machines: 1 boots, 2 is arm64, 3 is held, 4 is held and goes to its disk by a 404.
struct Lab {
    directory: tempfile::TempDir,
    store: Arc<Store>,
    address: SocketAddr,
    images: SharedImages,
    metrics: Arc<Metrics>,
    visitors: SharedVisitors,
    progress: Arc<ProgressBoard>,
    events: mpsc::Receiver<BootEvent>,
    stop: Option<oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
}

/// Returns the Matchbox directory that users have as an example.
fn example_catalog() -> Catalog {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/matchbox");
    matchbox::load(&directory).unwrap().catalog
}

/// Returns a kernel whose bytes tell where they are.
fn kernel() -> Vec<u8> {
    (0..3_000_017u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

impl Lab {
    fn start() -> Self {
        Self::start_with(true)
    }

    fn start_with(check_source: bool) -> Self {
        Self::start_over(check_source, example_catalog())
    }

    fn start_over(check_source: bool, catalog: Catalog) -> Self {
        Self::start_for(check_source, catalog, None, Vec::clone)
    }

    /// Starts with machine configurations from this directory or file, and with the machines changed.
    fn start_for(
        check_source: bool,
        catalog: Catalog,
        configs: Option<&ConfigPlace>,
        change: impl FnOnce(&Vec<Arc<Machine>>) -> Vec<Arc<Machine>>,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(KERNEL), kernel()).unwrap();
        std::fs::write(directory.path().join("initramfs-v1.13.0-amd64.xz"), b"an initramfs").unwrap();
        std::fs::write(directory.path().join("empty"), b"").unwrap();
        let machines = vec![
            machine(1, Architecture::Amd64, BootPolicy::Auto),
            machine(2, Architecture::Arm64, BootPolicy::Auto),
            machine(3, Architecture::Amd64, BootPolicy::Hold),
            machine(4, Architecture::Amd64, BootPolicy::Hold),
        ];
        let (sink, events) = EventSink::channel(1024);
        let (metrics, images) = (Arc::new(Metrics::default()), SharedImages::default());
        let visitors = SharedVisitors::default();
        let progress = Arc::new(ProgressBoard::new(64));
        let store = Arc::new(Store::new(directory.path().to_owned()));
        let context = Context {
            inventory: Arc::new(ArcSwap::from_pointee(Inventory::new(change(&machines)))),
            catalog: Arc::new(ArcSwap::from_pointee(catalog)),
            store: Arc::clone(&store),
            images: Arc::clone(&images),
            ukis: Default::default(),
            talos_configs: configs.map(TalosConfigs::at).map(Arc::new),
            events: sink,
            policies: Arc::new(ArcSwap::from_pointee(PolicyBook::default())),
            metrics: Arc::clone(&metrics),
            coverage: Default::default(),
            changes: Default::default(),
            places: Default::default(),
            visits: Visits::new(visitors.clone()),
            check_source,
            guard: check_source.then(|| Arc::new(guard())),
            http_port: 8000,
            progress: Arc::clone(&progress),
        };
        let listener = bind(Ipv4Addr::LOCALHOST, 0).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(serve(listener, Arc::new(context), async {
            let _ = stopped.await;
        }));
        Self { directory, store, address, images, metrics, visitors, progress, events, stop: Some(stop), served }
    }

    /// Sends the bytes from `source` and returns everything that comes back until the server closes the connection.
    async fn raw_from(&self, source: Ipv4Addr, request: &[u8]) -> Vec<u8> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((source, 0).into()).unwrap();
        let mut stream = socket.connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.expect("no end came").unwrap();
        answer
    }

    /// Returns status, head and body of a GET by machine 1.
    async fn get(&self, path: &str) -> (u16, String, String) {
        self.get_from(Ipv4Addr::new(127, 0, 0, 11), path).await
    }

    async fn get_from(&self, source: Ipv4Addr, path: &str) -> (u16, String, String) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = String::from_utf8(self.raw_from(source, request.as_bytes()).await).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let length = format!("content-length: {}\r\n", body.len());
        assert!(format!("{head}\r\n").to_lowercase().contains(&length), "no true Content-Length for {path}:\n{head}");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_owned(), body.to_owned())
    }

    /// Waits for the next event, which is one of machine 1.
    /// Asserts that no event is left.
    fn no_more_events(&self) {
        assert!(self.events.is_empty());
    }

    /// Returns what others asked for that is this machine's, with status and outcome.
    fn requests_of(&self, mac: &str) -> Vec<String> {
        let visitors = self.visitors.lock();
        let requests =
            visitors.find(mac).map(|visitor| visitor.requests.iter().collect::<Vec<_>>()).unwrap_or_default();
        requests.iter().map(|request| format!("{} {} {}", request.request, request.status, request.outcome)).collect()
    }

    async fn event(&mut self) -> EventKind {
        let event = timeout(Duration::from_secs(20), self.events.recv()).await.expect("no event").unwrap();
        assert_eq!(event.mac, NODE_1);
        event.kind
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_and_get_have_the_same_headers() {
    let lab = Lab::start();
    for path in ["/", "/boot.ipxe", "/boot/52:54:00:00:00:01.ipxe", "/nothing", "/assets/empty", "/assets/nothing"] {
        let (_, get, _) = lab.get(path).await;
        let request = format!("HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let head = lab.raw_from(Ipv4Addr::new(127, 0, 0, 11), request.as_bytes()).await;
        let without_date = |head: &str| -> Vec<String> {
            head.trim_end().split("\r\n").filter(|line| !line.starts_with("Date:")).map(str::to_owned).collect()
        };
        assert_eq!(without_date(&String::from_utf8(head).unwrap()), without_date(&get), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_are_for_their_own_machine() {
    let mut lab = Lab::start();
    let (status, _, script) = lab.get("/boot/52-54-00-00-00-01.ipxe").await;
    assert_eq!(status, 200);
    assert!(script.starts_with("#!ipxe\n") && script.contains(" http://127.0.0.1:8000/assets/vmlinuz"), "{script}");
    let path: Arc<str> = "/boot/52-54-00-00-00-01.ipxe".into();
    let (artifact, transport) = (ArtifactKind::Script, Transport::Http);
    assert_eq!(lab.event().await, EventKind::Requested { artifact, transport, path });
    assert!(matches!(lab.event().await, EventKind::Done { bytes, .. } if bytes == script.len() as u64));

    let other = Ipv4Addr::new(127, 0, 0, 12);
    for (refusals, path) in [
        "/boot/52:54:00:00:00:01.ipxe",
        "/ipxe?mac=52:54:00:00:00:01",
        "/grub?mac=525400000001",
        "/metadata?mac=525400000001",
    ]
    .into_iter()
    .enumerate()
    {
        let (status, _, text) = lab.get_from(other, path).await;
        assert_eq!(status, 403, "{path}");
        assert_eq!(text, "asked from 127.0.0.12, but only 127.0.0.11 may get the boot script of 52:54:00:00:00:01\n");
        assert_eq!(lab.metrics.refusals(Refused::Source), refusals as u64 + 1);
    }
    // None of it is an event of the machine. It is remembered beside its record.
    lab.no_more_events();
    let of_others = lab.requests_of("52:54:00:00:00:01");
    assert_eq!(of_others.len(), 4, "{of_others:?}");
    assert!(of_others.iter().all(|request| request.ends_with("403 asked from 127.0.0.12, which is not its address")));
    // Everybody may have what does not belong to one machine.
    assert_eq!(lab.get_from(other, "/boot.ipxe").await.0, 200);
    assert_eq!(lab.get_from(other, "/assets/empty").await.0, 200);

    // In proxy mode another server gives the addresses, so an address proves nothing.
    let lab = Lab::start_with(false);
    assert_eq!(lab.get_from(other, "/boot/52:54:00:00:00:01.ipxe").await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_machine_and_wrong_firmware_get_scripts_that_say_so() {
    let lab = Lab::start();
    let held = Ipv4Addr::new(127, 0, 0, 13);
    for path in ["/boot/52:54:00:00:00:03.ipxe", "/ipxe?mac=52:54:00:00:00:03"] {
        let (status, _, script) = lab.get_from(held, path).await;
        assert!(status == 200 && script.contains("sanboot") && !script.contains("kernel"), "{path}: {script}");
    }
    assert_eq!(lab.get_from(held, "/grub?mac=52:54:00:00:00:03").await.0, 404);
    for path in ["/boot/52:54:00:00:00:04.ipxe", "/ipxe?mac=52:54:00:00:00:04"] {
        assert_eq!(lab.get_from(Ipv4Addr::new(127, 0, 0, 14), path).await.0, 404, "{path}");
    }
    for (machine, arch, is_wrong) in [(1, "arm64", true), (2, "x86_64", true), (2, "arm64", false), (1, "", false)] {
        let source = Ipv4Addr::new(127, 0, 0, 10 + machine);
        let (_, _, script) = lab.get_from(source, &format!("/ipxe?mac=52540000000{machine}&arch={arch}")).await;
        assert_eq!(script.contains(":wrong_architecture"), is_wrong, "{machine} {arch}: {script}");
        assert_eq!(script.contains("\nkernel "), !is_wrong, "{machine} {arch}: {script}");
    }
}

/// shim takes the directory of its own URL, which ends with a slash, and appends a slash and a name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loader_gets_what_lies_next_to_it() {
    let lab = Lab::start();
    std::fs::create_dir(lab.directory.path().join("shim")).unwrap();
    for name in ["shimx64.efi", "grubx64.efi"] {
        std::fs::write(lab.directory.path().join("shim").join(name), name).unwrap();
    }
    for (path, expected) in [
        ("/assets/shim/shimx64.efi", "shimx64.efi"),
        ("/assets/shim/grubx64.efi", "grubx64.efi"),
        ("/assets/shim//grubx64.efi", "grubx64.efi"),
        ("/assets/shim/./grubx64.efi", "grubx64.efi"),
        ("//assets//shim//grubx64.efi", "grubx64.efi"),
    ] {
        let (status, _, body) = lab.get(path).await;
        assert_eq!((status, body.as_str()), (200, expected), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machine_is_known_by_each_of_its_network_cards() {
    let mut lab = Lab::start();
    let source = Ipv4Addr::new(127, 0, 0, 11);
    for path in ["/boot/52-54-00-00-00-a1.ipxe", "/boot/5254000000A1.ipxe", "/ipxe?mac=52:54:00:00:00:a1"] {
        let (status, _, script) = lab.get_from(source, path).await;
        assert!(status == 200 && script.contains("vmlinuz-v1.13.0-amd64"), "{path}: {status} {script}");
        // Both events are of the machine, whose first card has another address.
        assert!(matches!(lab.event().await, EventKind::Requested { .. }), "{path}");
        assert!(matches!(lab.event().await, EventKind::Done { .. }), "{path}");
    }
    let (status, _, metadata) = lab.get_from(source, "/metadata?mac=52:54:00:00:00:a1").await;
    assert!(status == 200 && metadata.contains("MAC=52:54:00:00:00:01\n"), "{status} {metadata}");
    assert_eq!(lab.get_from(source, "/boot/52-54-00-00-00-ee.ipxe").await.0, 404);
    assert_eq!(lab.get_from(Ipv4Addr::new(127, 0, 0, 12), "/boot/52-54-00-00-00-a1.ipxe").await.0, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn path_that_leaves_the_directory_is_refused() {
    let mut lab = Lab::start();
    let in_directory = |name: &str| lab.directory.path().join(name);
    std::os::unix::fs::symlink("/etc/passwd", in_directory("link")).unwrap();
    std::os::unix::fs::symlink(in_directory("empty"), in_directory("absolute")).unwrap();
    for (path, expected) in [
        ("/assets/absolute", 200),
        ("/assets/../../../etc/passwd", 403),
        ("/assets/%2e%2e/%2e%2e/etc/passwd", 403),
        ("/assets/..%2f..%2fetc%2fpasswd", 403),
        ("/assets/link", 403),
        ("/assets/a%00b", 403),
        ("/assets//etc/passwd", 404),
        ("/assets/", 404),
    ] {
        assert_eq!(lab.get(path).await.0, expected, "{path}");
    }
    assert_eq!(lab.metrics.refusals(Refused::Path), 5);
    // The machine is told no path of the host, the operator is.
    assert_eq!(lab.get("/assets/link").await.2, "the path leads out of the artifacts directory\n");
    let link = format!("{} is a symbolic link to /etc/passwd", in_directory("link").display());
    let reasons: Vec<_> = std::iter::from_fn(|| lab.events.try_recv().ok())
        .filter_map(|event| if let EventKind::Failed { reason, .. } = event.kind { Some(reason) } else { None })
        .collect();
    assert!(reasons.iter().any(|reason| reason.ends_with(&link)), "{reasons:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn optional_file_that_is_missing_is_no_failure() {
    let mut lab = Lab::start();
    std::fs::write(lab.directory.path().join("boot-from-disk"), b"by mistake").unwrap();
    for path in [
        "/boot-from-disk",
        "/assets/boot-from-disk",
        "/assets/autoexec.ipxe",
        "/assets/revocations_sku.efi",
        "/assets/shim_certificate_0.efi",
    ] {
        assert_eq!(lab.get(path).await.0, 404, "{path}");
    }
    assert_eq!(lab.get("/assets/vmlinuz-v0").await.0, 404);
    // There are events for the last of these only.
    let (artifact, transport, path) = (ArtifactKind::Kernel, Transport::Http, Arc::from("/assets/vmlinuz-v0"));
    assert_eq!(lab.event().await, EventKind::Requested { artifact, transport, path });
    assert!(matches!(lab.event().await, EventKind::Failed { artifact: ArtifactKind::Kernel, .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hand_made_requests_get_their_statuses() {
    let lab = Lab::start();
    let source = Ipv4Addr::new(127, 0, 0, 11);
    for (request, statuses) in [
        // Pipelined, the last without keep-alive.
        (
            "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /assets/empty HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.0\r\n\r\n",
            "200 200 200",
        ),
        // No route takes a body. Where it ends is not determined, so the connection ends.
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.0\r\n\r\n", "413"),
        ("GET /assets/empty HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.0\r\n\r\n", "413"),
        ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.0\r\n\r\n", "413"),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n", "413"),
        ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "400"),
        // A body of no bytes is none.
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.0\r\n\r\n", "405 200"),
        ("POST /assets/empty HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.0\r\n\r\n", "405 200"),
        ("\x16\x03\x01", "400"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
    ] {
        // The client sends its FIN, so that an incomplete request ends at once.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((source, 0).into()).unwrap();
        let mut stream = socket.connect(lab.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        timeout(Duration::from_secs(20), stream.read_to_string(&mut answer)).await.expect("no end came").unwrap();
        let statuses_in = answer.split("HTTP/1.1 ").filter(|part| part.starts_with(|c: char| c.is_ascii_digit()));
        let got: Vec<&str> = statuses_in.map(|part| &part[..3]).collect();
        assert_eq!(got.join(" "), statuses, "{request:?}\n{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn request_that_dribbles_in_is_given_up() {
    let lab = Lab::start();
    let stream = TcpStream::connect(lab.address).await.unwrap();
    let (mut answers, mut requests) = stream.into_split();
    // A byte now and then does not extend the deadline.
    let dribble = tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(500));
        for byte in std::iter::repeat_n(b'a', 100) {
            pace.tick().await;
            if requests.write_all(&[byte]).await.is_err() {
                return;
            }
        }
    });
    let mut answer = String::new();
    timeout(Duration::from_secs(20), answers.read_to_string(&mut answer)).await.expect("no end came").unwrap();
    dribble.abort();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(lab.metrics.refusals(Refused::Timeout), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_count_requests_and_refusals() {
    let lab = Lab::start();
    let (_, _, script) = lab.get("/boot.ipxe").await;
    lab.get("/assets/empty").await;
    lab.get("/assets/../x").await;
    let mut registry = prometheus_client::registry::Registry::default();
    lab.metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "http_requests_total{route=\"matchbox\",status=\"200\"} 1",
        "http_requests_total{route=\"assets\",status=\"200\"} 1",
        "http_requests_total{route=\"assets\",status=\"403\"} 1",
        "http_refused_total{reason=\"path\"} 1",
        "http_connections ",
        &format!("http_sent_bytes_total {}\n", script.len()),
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_that_shrinks_breaks_the_connection_and_says_why() {
    let mut lab = Lab::start();
    let path = lab.directory.path().join("vmlinuz-big");
    std::fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, 11), 0).into()).unwrap();
    let mut stream = socket.connect(lab.address).await.unwrap();
    stream.write_all(b"GET /assets/vmlinuz-big HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut some = [0; 1000];
    stream.read_exact(&mut some).await.unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(1000).unwrap();
    let mut rest = Vec::new();
    let _ = timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await.expect("no end came");
    assert!(rest.len() < 1 << 30);
    assert!(matches!(lab.event().await, EventKind::Requested { .. }));
    match lab.event().await {
        EventKind::Failed { reason, bytes, .. } => assert!(*reason == *CHANGED && bytes > 0, "{reason}"),
        other => panic!("{other:?}"),
    }
}

/// The worker that wakes first accepts all of them, and hands the other workers their share.
#[tokio::test]
async fn burst_of_connections_is_shared_and_answered() {
    let lab = Lab::start();
    // On this runtime the server starts only when the test first waits.
    let connect = |_| {
        let mut stream = std::net::TcpStream::connect(lab.address).unwrap();
        std::io::Write::write_all(&mut stream, b"GET /assets/empty HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        stream.set_nonblocking(true).unwrap();
        TcpStream::from_std(stream).unwrap()
    };
    // All stay open, so that each of them counts.
    let mut streams: Vec<_> = (0..64).map(connect).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        let mut answer = [0; 15];
        let read = timeout(Duration::from_secs(20), stream.read_exact(&mut answer)).await;
        read.unwrap_or_else(|_| panic!("connection {number} is not answered")).unwrap();
        assert_eq!(answer, *b"HTTP/1.1 200 OK", "connection {number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_that_stops_lets_transfers_end_and_closes_idle_connections() {
    let mut lab = Lab::start();
    let mut idle = TcpStream::connect(lab.address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut busy = TcpStream::connect(lab.address).await.unwrap();
    let path = lab.directory.path().join("big");
    std::fs::File::create(&path).unwrap().set_len(64 << 20).unwrap();
    busy.write_all(b"GET /assets/big HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut first = [0; 1];
    busy.read_exact(&mut first).await.unwrap();
    idle.read_exact(&mut first).await.unwrap();
    lab.stop.take().unwrap().send(()).unwrap();
    let mut rest = Vec::new();
    timeout(Duration::from_secs(20), idle.read_to_end(&mut rest))
        .await
        .expect("the idle connection stays open")
        .unwrap();
    rest.clear();
    timeout(Duration::from_secs(20), busy.read_to_end(&mut rest)).await.expect("no end came").unwrap();
    assert!(rest.len() > 64 << 20, "the transfer was broken off after {} bytes", rest.len());
    timeout(Duration::from_secs(20), &mut lab.served).await.expect("the server goes on").unwrap().unwrap();
    assert!(TcpStream::connect(lab.address).await.is_err());
}

/// Checks a property against one server through all cases.
fn property<S: Strategy>(cases: u32, strategy: &S, check: impl Fn(&tokio::runtime::Runtime, &Lab, S::Value)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let lab = runtime.block_on(async { Lab::start() });
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let run = |value| {
        check(&runtime, &lab, value);
        Ok(())
    };
    runner.run(strategy, run).unwrap();
}

#[test]
fn range_gives_exactly_its_bytes() {
    let kernel = kernel();
    let length = kernel.len();
    property(64, &(0..length + 10, 0..length + 10), |runtime, lab, (first, last)| {
        let request = format!(
            "GET /assets/{KERNEL} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nRange: bytes={first}-{last}\r\n\r\n"
        );
        let answer = runtime.block_on(lab.raw_from(Ipv4Addr::LOCALHOST, request.as_bytes()));
        let split = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&answer[..split]);
        let body = &answer[split + 4..];
        let (status, expected) = match (first <= last, first < length) {
            (false, _) => ("200", &kernel[..]),
            (true, true) => ("206", &kernel[first..length.min(last + 1)]),
            (true, false) => ("416", &kernel[..0]),
        };
        assert_eq!(&head[9..12], status, "{first}-{last}");
        assert!(body == expected, "{first}-{last}: {} bytes", body.len());
    });
}

#[test]
fn arbitrary_bytes_neither_hang_nor_harm() {
    let piece = prop_oneof![
        Just(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        Just(b"HEAD /assets/empty HTTP/1.1\r\nHost: x\r\n".to_vec()),
        Just(b"Content-Length: 5\r\n\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        prop::collection::vec(any::<u8>(), 0..300),
    ];
    property(256, &prop::collection::vec(piece, 0..8), |runtime, lab, pieces| {
        runtime.block_on(async {
            let mut stream = TcpStream::connect(lab.address).await.unwrap();
            // The server may have closed the connection already.
            let _ = stream.write_all(&pieces.concat()).await;
            let _ = stream.shutdown().await;
            let mut answer = Vec::new();
            let end = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
            assert!(end.is_ok(), "the connection stays open");
            assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 "), "{}", answer.escape_ascii());
            assert_eq!(lab.get("/").await.0, 200, "the server no longer answers");
        });
    });
}
