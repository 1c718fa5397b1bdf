//! Tests of the API over a real connection.

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use prometheus_client::registry::Registry;
use pxe_common::MacAddr;
use serde_json::{Value, json};
use tokio::task::block_in_place;

use super::{context::MAX_FOLLOWERS, *};
use crate::{
    journal::{self, Journal, samples::*},
    model::{
        event::{EventKind, EventSink},
        finding::{Affected, AllSpecFaults, Finding, SpecFault, SpecFaults},
        inventory::{Inventory, Machine, SharedInventory},
        loader::{LoaderFile, OwnLoaders},
        policy_book::SharedPolicies,
        strangers::SharedStrangers,
        testing::assert_golden,
        visitors::{Match, Outcome, SharedVisitors, Visit},
    },
};

/// A journal and its admin listener, on a loopback port.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    probes_address: SocketAddr,
    pub(super) journal: Arc<Journal>,
    health: Arc<Health>,
    pub(crate) faults: AllSpecFaults,
    pub(super) sink: EventSink,
    pub(crate) visitors: SharedVisitors,
    state: tempfile::TempDir,
}

pub(crate) async fn start(machines: u32) -> Server {
    start_with(inventory(machines)).await
}

pub(crate) async fn start_with(inventory: SharedInventory) -> Server {
    start_in(inventory, None, Vec::new).await
}

async fn start_in(inventory: SharedInventory, cluster: Option<ClusterPolicy>, mistakes: fn() -> Vec<String>) -> Server {
    let state = tempfile::tempdir().unwrap();
    let journal = Journal::new(inventory, SharedPolicies::default(), state.path()).unwrap();
    let journal = Arc::new(journal);
    let mut registry = Registry::with_prefix("pxed");
    let (sink, receiver) = EventSink::channel(10_000);
    journal.register(&sink, &mut registry);
    let health = Arc::new(Health::default());
    let (visitors, faults) = (SharedVisitors::default(), AllSpecFaults::default());
    let context = AdminContext {
        strangers: SharedStrangers::default(),
        api: None,
        journal: Arc::clone(&journal),
        images: Default::default(),
        nodes: Default::default(),
        visitors: visitors.clone(),
        registry: Arc::new(registry),
        health: Arc::clone(&health),
        confinement: Default::default(),
        faults: faults.clone(),
        cluster,
        captures: Default::default(),
        mistakes,
        neighbour_at: |_, _| None,
    };
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let probes = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let probes_address = probes.local_addr().unwrap();
    let socket = AdminSocket::bind(&state.path().join("admin.sock")).unwrap();
    let doors = Doors { socket: Some(socket), tcp: Some(tcp), probes: Some(probes), token: None };
    tokio::spawn(journal::run(Arc::clone(&journal), receiver, std::future::pending()));
    tokio::spawn(serve(doors, 300, context, std::future::pending()));
    Server { address, probes_address, journal, health, faults, sink, visitors, state }
}

impl Server {
    /// Sends events and waits until the journal has applied them.
    pub(crate) async fn feed(&self, mac: MacAddr, events: impl IntoIterator<Item = EventKind>) {
        let mut taken = self.journal.follow();
        let events = timed(mac, events);
        let count = events.len();
        for event in events {
            self.sink.send(event.mac, event.at, event.origin, event.kind);
        }
        for _ in 0..count {
            taken.recv().await.unwrap();
        }
    }

    /// Returns the path of the Unix socket.
    pub(crate) fn socket(&self) -> std::path::PathBuf {
        self.state.path().join("admin.sock")
    }

    /// Returns the status and body of the response to a request with these headers besides `Host`.
    pub(super) fn ask(&self, method: &str, path: &str, headers: &str) -> (u16, String) {
        block_in_place(|| ask_on(TcpStream::connect(self.address).unwrap(), method, path, headers))
    }

    fn json(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path, "");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    fn post(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.ask_socket("POST", path);
        (status, serde_json::from_str(&body).unwrap())
    }

    fn ask_socket(&self, method: &str, path: &str) -> (u16, String) {
        block_in_place(|| ask_on(std::os::unix::net::UnixStream::connect(self.socket()).unwrap(), method, path, ""))
    }
}

fn ask_on(mut stream: impl Read + Write, method: &str, path: &str, headers: &str) -> (u16, String) {
    let host = if headers.contains("host:") { "" } else { "host: localhost\r\n" };
    write!(stream, "{method} {path} HTTP/1.0\r\n{host}{headers}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// A program that is not pxed's must not need more than the socket for a change, and gets none without it.
#[tokio::test(flavor = "multi_thread")]
async fn change_comes_by_the_socket_and_not_by_tcp() {
    let server = start(1).await;
    let policy = || server.journal.machine(MAC).unwrap().policy;
    let path = format!("/api/v1/machines/{MAC}/hold");
    for headers in
        ["content-type: application/json\r\n", "content-type: application/json\r\nauthorization: Bearer x\r\n"]
    {
        let (status, body) = server.ask("POST", &path, headers);
        let refused: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &refused["socket"]), (403, &json!(server.socket())), "{body}");
        assert!(refused["error"].as_str().unwrap().contains("--admin unix:PATH"), "{body}");
    }
    assert_eq!(policy(), crate::model::policy::BootPolicy::Auto);
    assert_eq!(server.ask_socket("POST", &path).0, 200);
    assert_eq!(policy(), crate::model::policy::BootPolicy::Hold);
}

#[tokio::test(flavor = "multi_thread")]
async fn listener_of_probes_has_nothing_else() {
    let server = start(1).await;
    let ask = |method: &str, path: &str| {
        block_in_place(|| {
            ask_on(TcpStream::connect(server.probes_address).unwrap(), method, path, "host: a.example\r\n")
        })
    };
    for (path, expected) in [("/metrics", 200), ("/healthz", 200), ("/readyz", 503)] {
        assert_eq!(ask("GET", path).0, expected, "{path}");
    }
    for path in [
        "/",
        "/dashboard/main.js",
        "/dashboard/fleet",
        "/api/v1/machines",
        "/api/v1/events",
        "/api/v1/health",
        "/nothing",
    ] {
        let (status, body) = ask("GET", path);
        assert!(status == 404 && body.contains("only /metrics"), "{path}: {status} {body}");
    }
    assert_eq!(ask("POST", &format!("/api/v1/machines/{MAC}/hold")).0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn decision_is_carried_into_the_cluster_after_it_is_in_force() {
    let carried = Arc::new(std::sync::Mutex::new(Vec::new()));
    let of = Arc::clone(&carried);
    let cluster = ClusterPolicy::new(move |mac, decision| {
        of.lock().unwrap().push((mac, decision));
        async { vec!["wrote it".to_owned()] }
    });
    let server = start_in(inventory(1), Some(cluster), Vec::new).await;
    let (status, held) = server.post(&format!("/api/v1/machines/{MAC}/hold"));
    assert_eq!((status, &held["policy"], &held["written"]), (200, &json!("hold"), &json!(["wrote it"])));
    let (status, released) = server.post(&format!("/api/v1/machines/{MAC}/release"));
    assert_eq!((status, &released["policy"]), (200, &json!("auto")));
    assert_eq!(server.post("/api/v1/machines/02:00:00:00:00:99/hold").0, 404);
    assert_eq!(*carried.lock().unwrap(), [(MAC, Decision::Hold), (MAC, Decision::Release)]);
    assert_eq!(server.json(&format!("/api/v1/machines/{MAC}")).get("written"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_specs_are_listed_and_explain_what_is_missing() {
    let server = start(2).await;
    assert_eq!(server.json("/api/v1/spec/errors"), json!([]));
    let fault = |file: &str, objects, left_out, kept| SpecFault {
        finding: Finding {
            file: std::path::Path::new(file).into(),
            line: 3,
            column: 5,
            field: "spec".into(),
            message: "is wrong".into(),
        },
        objects,
        left_out,
        kept,
    };
    let missing = MacAddr([0x52, 0x54, 0, 0, 0, 0x77]);
    server.faults.clusters.store(Arc::new(SpecFaults {
        faults: vec![fault("b.yaml", "machine", 1, 1)],
        affected: vec![
            Affected { mac: Some(missing), fault: 0, is_kept: false },
            Affected { mac: Some(MAC), fault: 0, is_kept: true },
        ],
        is_awaited: false,
    }));
    let of_matchbox = SpecFaults { faults: vec![fault("g.json", "group", 2, 0)], ..SpecFaults::default() };
    server.faults.matchbox.store(Arc::new(of_matchbox));
    let listed = server.json("/api/v1/spec/errors");
    let expected = json!({"file": "b.yaml", "line": 3, "column": 5, "field": "spec", "message": "is wrong", "objects": "machine", "left_out": 1, "kept": 1});
    assert_eq!(listed[0], expected);
    assert_eq!((&listed[1]["file"], &listed[1]["objects"]), (&json!("g.json"), &json!("group")));
    let (status, text) = server.ask("GET", &format!("/api/v1/machines/{missing}"), "");
    assert_eq!(status, 404);
    assert!(text.contains("is left out because of an error in the spec: b.yaml:3:5: spec: is wrong"), "{text}");
    assert_eq!(server.json(&format!("/api/v1/machines/{MAC}"))["spec_error"], "b.yaml:3:5: spec: is wrong");
    assert_eq!(server.json(&format!("/api/v1/machines/{}", machine(2).mac)).get("spec_error"), None);
}

/// Scripts depend on it: a change here is a change of the interface. `PXED_BLESS=1` rewrites the file.
#[tokio::test(flavor = "multi_thread")]
async fn machine_has_the_shape_of_the_golden() {
    let server = start(2).await;
    let failure = EventKind::Failed {
        artifact: Kernel,
        transport: Http,
        path: "/assets/vmlinuz".into(),
        bytes: 512,
        reason: "the machine closed the connection".into(),
    };
    let events = [
        EventKind::Nak { reason: "another address is reserved" },
        EventKind::Decline { address: [10, 0, 0, 9].into() },
        EventKind::Release,
        EventKind::Ignored { reason: "for another server" },
        EventKind::ForeignRelay { relay: [10, 9, 0, 1].into() },
        EventKind::OtherVlan { vlan: 100 },
        failure,
        EventKind::WrongArchitecture { client_architecture: 11 },
        EventKind::SentToDisk,
    ];
    server.feed(MAC, [&uefi_boot()[..], &events].concat()).await;
    let (_, body) = server.ask("GET", "/api/v1/machines?limit=1&events=64", "");
    let shown = serde_json::to_string_pretty(&serde_json::from_str::<Value>(&body).unwrap()).unwrap() + "\n";
    assert_golden("src/admin/tests/machines.json", &shown);
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_are_listed_and_selected() {
    let server = start(1_000).await;
    server.feed(machine(500).mac, dora(Pxe)).await;
    server.feed(machine(900).mac, uefi_boot()).await;
    let all = server.json("/api/v1/machines");
    let all = all.as_array().unwrap();
    assert_eq!(all.len(), 1_000);
    assert_eq!(all[0]["stage"], "never-seen");
    assert_eq!(all[999]["mac"], machine(1_000).mac.to_string());
    let macs = |path: &str| -> Vec<Value> {
        server.json(path).as_array().unwrap().iter().map(|machine| machine["mac"].clone()).collect()
    };
    assert_eq!(macs("/api/v1/machines?stage=addressed"), [machine(500).mac.to_string()]);
    assert_eq!(macs("/api/v1/machines?cluster=lab&limit=2").len(), 2);
    assert_eq!(macs("/api/v1/machines?stage=never-seen").len(), 998);
    assert_eq!(macs("/api/v1/machines?stage=kernel").len(), 0);
    assert_eq!(macs("/api/v1/machines?limit=0").len(), 0);
    assert_eq!(macs("/api/v1/machines?cluster=other").len(), 0);
    let picked = server.json("/api/v1/machines?stage=running&events=2");
    assert_eq!(picked[0]["events"].as_array().unwrap().len(), 2);
    assert_eq!(server.json("/api/v1/stages")["never-seen"], 998);
}

#[tokio::test(flavor = "multi_thread")]
async fn machine_is_found_in_any_spelling() {
    let server = start(1).await;
    server.feed(MAC, uefi_boot()).await;
    for spelling in ["52:54:00:00:00:01", "52-54-00-00-00-01", "5254.0000.0001", "525400000001"] {
        let machine = server.json(&format!("/api/v1/machines/{spelling}"));
        assert_eq!(machine["mac"], "52:54:00:00:00:01");
        assert!(machine["diagnosis"]["reached"].as_str().unwrap().contains("running with 10.0.0.1"));
        assert_eq!(machine["events"][0]["text"], "PXE firmware asks for an address (x86-64 UEFI)");
    }
}

/// A request of 10.0.0.200 that belongs to no journal.
pub(crate) fn visit(mac: MacAddr, request: &str, outcome: Outcome) -> Visit {
    Visit {
        at: std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600),
        address: [10, 0, 0, 200].into(),
        mac: Some(mac),
        uuid: None,
        request: request.to_owned(),
        status: if outcome == Outcome::Served { 200 } else { 404 },
        matched: (outcome == Outcome::Served).then(|| Match { group: "g".into(), profile: "p".into() }),
        outcome,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn visitors_are_listed_and_found() {
    let server = start(1).await;
    assert_eq!(server.json("/api/v1/visitors"), json!([]));
    let stranger = MacAddr([0x52, 0x54, 0, 0, 0, 0x99]);
    let no_group = || Outcome::NoGroup { selectors: "mac, os".into() };
    server.visitors.lock().record(visit(stranger, "/ipxe?mac=x", Outcome::Served));
    server.visitors.lock().record(visit(stranger, "/ipxe?mac=x&os=y", no_group()));
    server.visitors.lock().record(visit(stranger, "/ipxe?mac=x&os=y", no_group()));
    let expected = json!({
        "name": "52:54:00:00:00:99", "mac": "52:54:00:00:00:99", "uuid": null, "address": "10.0.0.200",
        "first_seen": "2026-01-01T00:00:00.000Z", "last_seen": "2026-01-01T00:00:00.000Z", "group": "g", "profile": "p",
        "requests": [
            {
                "at": "2026-01-01T00:00:00.000Z", "request": "/ipxe?mac=x", "status": 200, "outcome": "served",
                "text": "served", "times": 1,
            },
            {
                "at": "2026-01-01T00:00:00.000Z", "request": "/ipxe?mac=x&os=y", "status": 404, "outcome": "no-group",
                "text": "no group matched; the groups look at mac, os", "times": 2,
            },
        ],
    });
    assert_eq!(server.json("/api/v1/visitors"), json!([expected]));
    for name in ["52:54:00:00:00:99", "5254.0000.0099", "10.0.0.200"] {
        assert_eq!(server.json(&format!("/api/v1/visitors/{name}")), expected, "{name}");
    }
    let (status, body) = server.ask("GET", "/api/v1/visitors/52:54:00:00:00:98", "");
    assert!(status == 404 && body.contains("has not asked"), "{body}");
    assert_eq!(server.ask("GET", "/api/v1/visitors", "host: evil.example\r\n").0, 403);
    // A machine of the spec has its requests beside its journal.
    assert!(server.json("/api/v1/machines/52:54:00:00:00:01").get("requests").is_none());
    server.visitors.lock().record(visit(MAC, "/ignition?mac=x", Outcome::NoConfigInSpec));
    let machine = server.json("/api/v1/machines/52:54:00:00:00:01");
    assert_eq!(
        (&machine["stage"], &machine["requests"][0]["outcome"]),
        (&json!("never-seen"), &json!("no-config-in-spec"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_json_with_a_reason() {
    let server = start(1).await;
    let json_type = "content-type: application/json\r\n";
    for (method, path, headers, status, words) in [
        ("GET", "/api/v1/machines/52:54:00:00:00:99", "", 404, "not a machine of the spec"),
        ("GET", "/api/v1/machines/nonsense", "", 400, "not a MAC address"),
        ("GET", "/api/v1/machines?stage=lost", "", 400, "loading-kernel"),
        ("GET", "/api/v1/machines?stages=failed", "", 400, "unknown field"),
        ("GET", "/api/v1/machines?limit=-1", "", 400, "limit"),
        ("GET", "/api/v2", "", 404, "/api/v1/"),
        ("POST", "/api/v1/machines/52:54:00:00:00:01/hold", json_type, 403, "reads only"),
        ("POST", "/api/v1/machines/52:54:00:00:00:01/hold", "", 403, "Content-Type"),
        ("GET", "/api/v1/machines", "host: evil.example\r\n", 403, "DNS rebinding"),
    ] {
        let (got, body) = server.ask(method, path, headers);
        assert_eq!(got, status, "{method} {path}: {body}");
        let error: Value = serde_json::from_str(&body).unwrap();
        assert!(error["error"].as_str().unwrap().contains(words), "{method} {path}: {body}");
    }
    for (method, path, status, words) in [
        ("DELETE", "/api/v1/machines", 405, "method"),
        ("POST", "/healthz", 405, "method"),
        ("POST", "/api/v1/machines/52:54:00:00:00:99/hold", 404, "not a machine of the spec"),
    ] {
        let (got, body) = server.ask_socket(method, path);
        assert!(got == status && body.contains(words), "{method} {path}: {got} {body}");
    }
    assert_eq!(server.journal.machine(MAC).unwrap().policy, crate::model::policy::BootPolicy::Auto);
}

#[tokio::test(flavor = "multi_thread")]
async fn hold_and_release_decide_the_next_boot() {
    let server = start(1).await;
    let (status, machine) = server.post("/api/v1/machines/5254.0000.0001/hold");
    assert_eq!((status, &machine["policy"], &machine["boots_from"]), (200, &json!("hold"), &json!("disk")));
    let (status, machine) = server.post("/api/v1/machines/52:54:00:00:00:01/release");
    assert_eq!((status, &machine["policy"], &machine["boots_from"]), (200, &json!("auto"), &json!("network")));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_streamed() {
    let server = start(1).await;
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "GET /api/v1/events HTTP/1.0\r\nhost: {}\r\n\r\n", server.address).unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    // The first comment shows that the follower is registered.
    block_in_place(|| lines.find(|line| line.starts_with(": boot events"))).unwrap();
    server.feed(MAC, [discover(Pxe)]).await;
    let data = block_in_place(|| lines.find(|line| line.starts_with("data: "))).unwrap();
    let event: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
    let expected = json!({
        "mac": "52:54:00:00:00:01", "address": "10.0.0.1", "machine_address": "10.0.0.1", "cluster": "lab", "stage": "discovering", "step": "asking", "failure": false,
        "at": "2026-01-01T00:00:00.000Z", "event": "discover", "client": "pxe", "client_architecture": 7,
        "text": "PXE firmware asks for an address (x86-64 UEFI)",
    });
    assert_eq!(event, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_are_bounded() {
    let server = start(1).await;
    let follow = || {
        let mut stream = TcpStream::connect(server.address).unwrap();
        write!(stream, "GET /api/v1/events HTTP/1.0\r\nhost: {}\r\n\r\n", server.address).unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        block_in_place(|| reader.read_line(&mut line)).unwrap();
        (reader, line)
    };
    let followers: Vec<_> = (0..MAX_FOLLOWERS).map(|_| follow()).collect();
    assert!(followers.iter().all(|(_, line)| line.contains("200")));
    assert!(follow().1.contains("503"));
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_metrics_and_dashboard_are_served() {
    let server = start(3).await;
    let by_name = "host: pxed.monitoring.svc\r\n";
    assert_eq!(server.ask("GET", "/healthz", by_name).0, 200);
    assert_eq!(server.ask("GET", "/readyz", by_name).0, 503);
    let problem = "interface eth7 is down".to_owned();
    server.health.set(Findings { is_serving: true, problems: vec![problem.clone()], ..Findings::default() });
    assert_eq!(server.ask("GET", "/readyz", by_name), (503, format!("not ready\n{problem}\n")));
    let health: Value = serde_json::from_str(&server.ask("GET", "/api/v1/health", "").1).unwrap();
    assert_eq!((&health["ready"], &health["problems"]), (&json!(false), &json!([problem])));
    assert!(health["file_descriptors"]["open"].as_u64() < health["file_descriptors"]["limit"].as_u64(), "{health}");
    server.health.set(Findings { is_serving: true, warnings: vec!["slow".to_owned()], ..Findings::default() });
    assert_eq!(server.ask("GET", "/readyz", by_name).0, 200);
    server.feed(MAC, uefi_boot()).await;
    let (status, metrics) = server.ask("GET", "/metrics", by_name);
    assert_eq!(status, 200);
    let events = format!("pxed_boot_events_total {}", uefi_boot().len());
    for line in [&events, "pxed_machines{stage=\"running\"} 1", "pxed_machines{stage=\"never_seen\"} 2"] {
        assert!(metrics.lines().any(|have| have == line), "no {line} in {metrics}");
    }
    assert_eq!(server.ask("GET", "/", "").0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn machine_is_found_and_decided_by_any_of_its_network_cards() {
    let mut loaders = OwnLoaders::default();
    loaders.set(Some(LoaderFile::EfiX64), Some("snponly-x86_64.efi".into()));
    let several = Machine {
        additional_macs: [machine(8).mac, machine(9).mac].into(),
        loaders: Some(Arc::new(loaders)),
        ..machine(1)
    };
    let inventory = Inventory::new(vec![Arc::new(several), Arc::new(machine(2))]);
    let server = start_with(Arc::new(arc_swap::ArcSwap::from_pointee(inventory))).await;
    let mut follower = server.journal.follow();
    server.feed(machine(9).mac, [discover(Pxe)]).await;
    let event = serde_json::to_value(&*follower.recv().await.unwrap()).unwrap();
    assert_eq!((&event["mac"], &event["card"]), (&json!("52:54:00:00:00:01"), &json!("52:54:00:00:00:09")));
    assert_eq!(
        event["text"],
        "PXE firmware asks for an address (x86-64 UEFI), from its network card 52:54:00:00:00:09"
    );
    server.feed(MAC, [offer()]).await;
    for spelling in ["52:54:00:00:00:01", "52-54-00-00-00-08", "525400000009"] {
        let shown = server.json(&format!("/api/v1/machines/{spelling}"));
        assert_eq!(shown["mac"], "52:54:00:00:00:01");
        assert_eq!(shown["additional_macs"], json!(["52:54:00:00:00:08", "52:54:00:00:00:09"]));
        assert_eq!(shown["loaders"], json!({"uefi-x64": "snponly-x86_64.efi"}));
        assert_eq!(shown["events"][0]["card"], "52:54:00:00:00:09");
        assert_eq!(shown["events"][1].get("card"), None);
        let (status, held) = server.post(&format!("/api/v1/machines/{spelling}/hold"));
        assert_eq!((status, &held["policy"], &held["mac"]), (200, &json!("hold"), &json!("52:54:00:00:00:01")));
        let (status, released) = server.post(&format!("/api/v1/machines/{spelling}/release"));
        assert_eq!((status, &released["policy"]), (200, &json!("auto")));
    }
    assert_eq!(server.json("/api/v1/machines").as_array().map(Vec::len), Some(2));
    assert_eq!(server.json("/api/v1/stages")["offered"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_panic_has_ended_is_told_by_probe_and_health_at_once() {
    let server = start_in(inventory(1), None, || vec!["loading the spec fails".to_owned()]).await;
    server.health.set(Findings { is_serving: true, warnings: vec!["slow".to_owned()], ..Findings::default() });
    assert_eq!(server.ask("GET", "/readyz", ""), (200, "ready\nloading the spec fails\n".to_owned()));
    let health: Value = serde_json::from_str(&server.ask("GET", "/api/v1/health", "").1).unwrap();
    assert_eq!(health["warnings"], json!(["slow", "loading the spec fails"]));
}
