use std::io::BufRead as _;

use tokio::task::block_in_place;

use super::*;
use crate::{
    admin::tests::{start, visit},
    cli::admin_address::AdminAddress,
    journal::samples::*,
    model::visitors::Outcome,
};

fn client(address: std::net::SocketAddr) -> AdminClient {
    AdminClient::new(&address.to_string().parse().unwrap(), None)
}

const MACHINE: &str = r#"{"mac":"52:54:00:00:00:01","address":"10.0.0.1","cluster":"lab","role":"worker",
    "architecture":"amd64","version":"v1.13.0","hostname":"n1","policy":"auto","boots_from":"network",
    "stage":"failed","stage_since":"2026-01-01T00:00:00.000Z","boots":2,"last_error":"loader ipxe.efi failed",
    "last_error_at":"2026-01-01T00:00:00.000Z",
    "events":[{"at":"2026-01-01T00:00:00.500Z","event":"sent-to-disk","text":"sent to its own disk"}],
    "diagnosis":{"reached":"It failed.","waits_for":"Its next attempt.","advice":["First.","Second."]}}"#;

#[test]
fn fleet_is_a_table() {
    let mut machines: Vec<fleet::Machine> = serde_json::from_str(&format!("[{MACHINE},{MACHINE}]")).unwrap();
    machines[1].stage = "running".to_owned();
    let now = "2026-01-01T00:01:30Z".parse().unwrap();
    let expected = "\
running   1
failed    1
machines  2

MAC                ADDRESS   CLUSTER  ROLE    STAGE    FOR  BOOTS  NEXT BOOT  LAST ERROR
52:54:00:00:00:01  10.0.0.1  lab      worker  failed   90s  2      network    loader ipxe.efi failed
52:54:00:00:00:01  10.0.0.1  lab      worker  running  90s  2      network
";
    assert_eq!(fleet::render(&machines, now), expected);
    assert_eq!(fleet::render(&[], now), "no machines\n");
}

#[test]
fn machine_is_explained() {
    let expected = "\
52:54:00:00:00:01 n1, 10.0.0.1: worker of lab, Talos v1.13.0 amd64
policy auto, next boot from network, 2 boots so far

stage      failed
so far     It failed.
waits for  Its next attempt.
to do      First.
           Second.

events (UTC)
2026-01-01 00:00:00.500  sent to its own disk
";
    assert_eq!(machine::explained(MACHINE, jiff::Timestamp::now()).unwrap(), expected);
    let attacked = MACHINE.replace(
        "\"diagnosis\"",
        "\"frames_of_others\":{\"last_at\":\"2026-01-01T00:00:00.250Z\",\"text\":\"frames from elsewhere\"},\"diagnosis\"",
    );
    let apart = format!("{expected}\nof other hosts\n2026-01-01 00:00:00.250  frames from elsewhere\n");
    assert_eq!(machine::explained(&attacked, jiff::Timestamp::now()).unwrap(), apart);
    assert_eq!(machine::decided(MACHINE).unwrap(), "52:54:00:00:00:01: policy auto, next boot from network\n");
    assert!(machine::explained("{}", jiff::Timestamp::now()).is_err());
    let several = MACHINE.replace(
        "\"address\"",
        "\"additional_macs\":[\"52:54:00:00:00:0a\",\"52:54:00:00:00:0b\"],\"loaders\":{\"uefi-x64\":\"snponly-x86_64.efi\",\"bios\":\"ipxe.pxe\"},\"address\"",
    );
    let expected = expected.replace(
        "amd64\n",
        "amd64\nother network cards: 52:54:00:00:00:0a, 52:54:00:00:00:0b\n\
         loaders of its own: ipxe.pxe (bios), snponly-x86_64.efi (uefi-x64)\n",
    );
    assert_eq!(machine::explained(&several, jiff::Timestamp::now()).unwrap(), expected);
    assert_eq!(machine::first_mac(&several).unwrap(), "52:54:00:00:00:01");
}

const VISITOR: &str = r#"{"name":"52:54:00:00:00:09","mac":"52:54:00:00:00:09","uuid":"u-9","address":"10.0.0.9",
    "first_seen":"2026-01-01T00:00:00.000Z","last_seen":"2026-01-01T00:00:18.000Z","group":GROUP,"profile":GROUP,
    "requests":[
        {"at":"2026-01-01T00:00:00.000Z","request":"/boot.ipxe","status":200,"outcome":"served","text":"served","times":1},
        {"at":"2026-01-01T00:00:18.000Z","request":"/ipxe?mac=x","status":404,"outcome":"no-group","text":"no group","times":3}]}"#;

#[test]
fn visitor_is_explained_and_listed() {
    let (now, known) = ("2026-01-01T00:00:30Z".parse().unwrap(), VISITOR.replace("GROUP", "\"rack\""));
    let expected = "\
52:54:00:00:00:09, 10.0.0.9: not in the cluster spec
uuid       u-9
matched    group rack, profile rack

requests
30s ago   /boot.ipxe  200: served
12s ago   /ipxe?mac=x  404: no group, 3 times
";
    assert_eq!(visitor::explained(&known, now).unwrap(), expected);
    let unmatched = VISITOR.replace("GROUP", "null");
    assert!(visitor::explained(&unmatched, now).unwrap().contains("\nmatched    no group so far\n"));
    assert!(visitor::explained("{}", now).is_err());

    let visitors: Vec<visitor::Visitor> = serde_json::from_str(&format!("[{known},{unmatched}]")).unwrap();
    let expected = "\
ASKED BY           ADDRESS   AGO  GROUP  PROFILE  LAST REQUEST  OUTCOME
52:54:00:00:00:09  10.0.0.9  12s  rack   rack     /ipxe         no group
52:54:00:00:00:09  10.0.0.9  12s                  /ipxe         no group
";
    assert_eq!(visitor::render(&visitors, now), expected);
    assert_eq!(visitor::render(&[], now), "");
    let many: Vec<visitor::Visitor> = serde_json::from_str(&format!("[{}]", vec![known; 60].join(","))).unwrap();
    assert!(visitor::render(&many, now).ends_with("\nand 10 more, in /api/v1/visitors\n"));
}

#[test]
fn events_are_lines() {
    let event = r#"{"mac":"52:54:00:00:00:01","stage":"running","at":"2026-01-01T10:00:00.500Z","text":"up"}"#;
    let line = |only, json| watch::render("boot", event, only, json).unwrap();
    assert_eq!(line(None, false).unwrap(), "10:00:00.500  52:54:00:00:00:01  running            up");
    assert_eq!(line(Some("52:54:00:00:00:02"), false), None);
    assert_eq!(line(Some("52:54:00:00:00:01"), true).unwrap(), event);
    assert!(watch::render("lagged", r#"{"missed":7}"#, None, false).unwrap().unwrap().contains("7 events"));
}

/// Every command works by the socket. A change that is refused on TCP finds it.
#[tokio::test(flavor = "multi_thread")]
async fn decision_by_an_address_of_reads_goes_to_the_socket() {
    let server = start(1).await;
    let by_socket = AdminClient::new(&AdminAddress::of_socket(server.socket()), None);
    let hold = format!("/api/v1/machines/{MAC}/hold");
    block_in_place(|| {
        let policy = || by_socket.get(&format!("/api/v1/machines/{MAC}"), &[]).unwrap();
        assert!(policy().contains("\"policy\":\"auto\""));
        assert!(client(server.address).post(&hold).unwrap().contains("\"policy\":\"hold\""));
        assert!(policy().contains("\"policy\":\"hold\""));
        // A second request on the same connection, and one that follows.
        assert!(by_socket.post(&hold.replace("hold", "release")).unwrap().contains("\"policy\":\"auto\""));
        let mut events = by_socket.stream("/api/v1/events").unwrap();
        let mut line = String::new();
        events.read_line(&mut line).unwrap();
        assert!(line.starts_with(": boot events"), "{line}");
        let error = by_socket.get("/api/v1/machines/52:54:00:00:00:99", &[]).unwrap_err();
        assert!(error.downcast_ref::<Refused>().is_some_and(Refused::is_not_found), "{error:#}");
    });
}

#[test]
fn socket_without_a_listener_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let client = AdminClient::new(&AdminAddress::of_socket(path.clone()), None);
    let message = format!("{:#}", client.get("/api/v1/machines", &[]).unwrap_err());
    assert!(message.contains(&format!("no pxed answers at unix:{}", path.display())), "{message}");
    assert!(message.contains("No such file"), "{message}");
}

#[test]
fn error_without_a_listener_says_what_to_do() {
    // The port is bound, so that nobody else has it, but not listening.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let error = client(address).get("/api/v1/machines", &[]).unwrap_err();
    let message = format!("{error:#}");
    assert!(message.contains(&format!("http://{address}")) && message.contains("--admin"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_a_running_pxed_are_understood() {
    let server = start(2).await;
    server.feed(MAC, uefi_boot()).await;
    let client = client(server.address);
    block_in_place(|| {
        let query = [("events", "0".to_owned()), ("stage", "running".to_owned())];
        let machines: Vec<fleet::Machine> =
            serde_json::from_str(&client.get("/api/v1/machines", &query).unwrap()).unwrap();
        let table = fleet::render(&machines, jiff::Timestamp::now());
        assert!(table.starts_with("running   1\nmachines  1\n"), "{table}");
        let now = jiff::Timestamp::now();
        let explained = explanation(&client, MAC, false, now).unwrap();
        assert!(explained.contains("so far     An operating system has been running with 10.0.0.1"), "{explained}");
        let held = machine::decided(&client.post("/api/v1/machines/525400000001/hold").unwrap()).unwrap();
        assert_eq!(held, "52:54:00:00:00:01: policy hold, next boot from disk\n");
        let unknown = client.get("/api/v1/machines/525400000009", &[]).unwrap_err().to_string();
        assert_eq!(unknown, "52:54:00:00:00:09 is not a machine of the spec");
        let stranger = "525400000009".parse().unwrap();
        let unknown = explanation(&client, stranger, false, now).unwrap_err().to_string();
        let expected = "52:54:00:00:00:09 is not a machine of the spec, and 52:54:00:00:00:09 has not asked boot HTTP";
        assert!(unknown.starts_with(expected), "{unknown}");
        let outcome = Outcome::NoGroup { selectors: "mac, os".into() };
        server.visitors.lock().record(visit(stranger, "/ipxe?mac=x", outcome));
        let explained = explanation(&client, stranger, false, now).unwrap();
        let line = "ago  /ipxe?mac=x  404: no group matched; the groups look at mac, os\n";
        assert!(explained.starts_with("52:54:00:00:00:09, 10.0.0.200: ") && explained.ends_with(line), "{explained}");
        assert!(explanation(&client, stranger, true, now).unwrap().contains("\"outcome\":\"no-group\""));
        server.visitors.lock().record(visit(MAC, "/ignition?mac=x", Outcome::NoConfigInSpec));
        let explained = explanation(&client, MAC, false, now).unwrap();
        assert!(
            explained.contains("\nother requests\n") && explained.contains("/ignition?mac=x  404: "),
            "{explained}"
        );
    });
    let mut lines = client.stream("/api/v1/events").unwrap().lines().map(Result::unwrap);
    block_in_place(|| lines.find(|line| line.starts_with(": boot events"))).unwrap();
    server.feed(MAC, [discover(Pxe)]).await;
    let data = block_in_place(|| lines.find_map(|line| line.strip_prefix("data: ").map(str::to_owned))).unwrap();
    let shown = watch::render("boot", &data, None, false).unwrap().unwrap();
    assert!(
        shown.ends_with("52:54:00:00:00:01  discovering        PXE firmware asks for an address (x86-64 UEFI)"),
        "{shown}"
    );
}
