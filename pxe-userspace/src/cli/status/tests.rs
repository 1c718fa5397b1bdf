use std::io::BufRead as _;

use pxe_common::MacAddr;
use tokio::task::block_in_place;

use super::{explain::explanation, machines::Machine, watch::Piece, *};
use crate::{
    admin::tests::{start, start_with, visit},
    cli::{admin_address::AdminAddress, exit::Exit},
    journal::samples::*,
    model::{
        inventory::{Inventory, Machine as Served},
        policy::BootPolicy,
        visitors::Outcome,
    },
};

fn client(address: std::net::SocketAddr) -> AdminClient {
    AdminClient::new(&address.to_string().parse().unwrap(), None)
}

const TEXT: explain::Form = explain::Form { json: false, width: Width::Unbounded };

const MACHINE: &str = r#"{"mac":"52:54:00:00:00:01","address":"10.0.0.1","cluster":"lab","role":"worker",
    "architecture":"amd64","version":"v1.13.0","hostname":"n1","policy":"auto","boots_from":"network",
    "stage":"failed","stage_since":"2026-01-01T00:00:00.000Z","boots":2,"last_error":"loader ipxe.efi failed",
    "last_error_at":"2026-01-01T00:00:00.000Z",
    "events":[{"at":"2026-01-01T00:00:00.500Z","event":"sent-to-disk","text":"sent to its own disk"}],
    "diagnosis":{"reached":"It failed.","waits_for":"Its next attempt.","advice":["First.","Second."]}}"#;

fn machines(json: &[String]) -> Vec<Machine> {
    json.iter().map(|json| serde_json::from_str(json).unwrap()).collect()
}

const PLAIN: fleet::Form = fleet::Form { limit: usize::MAX, is_wide: false, colours: Colours::Off };

#[test]
fn fleet_is_a_table() {
    let of_stage = |stage: &str| MACHINE.replace("\"failed\"", &format!("\"{stage}\""));
    let loading = of_stage("loading-kernel").replace(
        "\"boots\"",
        "\"progress\":{\"artifact\":\"kernel\",\"done\":43,\"total\":100,\"since\":\"2026-01-01T00:00:00.000Z\"},\"boots\"",
    );
    let machines = machines(&[MACHINE.to_owned(), of_stage("running"), loading]);
    let machines: Vec<_> = machines.iter().collect();
    let now = "2026-01-01T00:01:30Z".parse().unwrap();
    let expected = "\
loading-kernel  1
running         1
failed          1
machines        3

MAC                ADDRESS   CLUSTER  ROLE    STAGE           FOR  BOOTS  NEXT BOOT  LAST ERROR
52:54:00:00:00:01  10.0.0.1  lab      worker  failed          90s  2      network    loader ipxe.efi failed
52:54:00:00:00:01  10.0.0.1  lab      worker  running         90s  2      network
52:54:00:00:00:01  10.0.0.1  lab      worker  loading-kernel  90s  2      network    loader ipxe.efi failed
";
    assert_eq!(fleet::render(&machines, PLAIN, now), expected);
    assert_eq!(fleet::render(&[], PLAIN, now), "no machines\n");
    // All are counted, and some are listed.
    let text = fleet::render(&machines, fleet::Form { limit: 2, ..PLAIN }, now);
    assert!(
        text.contains("\nmachines        3\n") && text.ends_with("\n2 of 3 machines are shown (--limit)\n"),
        "{text}"
    );
    assert_eq!(text.matches("52:54").count(), 2);
    let text = fleet::render(&machines, fleet::Form { limit: 0, ..PLAIN }, now);
    assert!(text.ends_with("machines        3\n\n0 of 3 machines are shown (--limit)\n"), "{text}");
    let wide = fleet::render(&machines, fleet::Form { is_wide: true, ..PLAIN }, now);
    let line = "  90s  2      network    n1        amd64         v1.13.0  auto    kernel:43%  loader ipxe.efi failed\n";
    assert!(wide.ends_with(line) && wide.contains("  auto    -           loader ipxe.efi failed\n"), "{wide}");
    // It has not moved on for long.
    let late = fleet::render(&machines, PLAIN, "2026-01-01T00:06:00Z".parse().unwrap());
    assert!(late.contains("\nstuck           1\nmachines        3\n"), "{late}");
    assert!(late.contains("  loading-kernel,stuck  6m   ") && !late.contains("running,stuck"), "{late}");
    let coloured = fleet::render(&machines, fleet::Form { colours: Colours::On, ..PLAIN }, now);
    assert!(coloured.contains("\x1b[31mfailed\x1b[0m          90s"), "{coloured}");
}

#[test]
fn names_of_clusters_stages_and_roles_are_checked() {
    let other = MACHINE.replace("\"lab\"", "\"prod\"").replace("\"worker\"", "\"control-plane\"");
    let machines = machines(&[MACHINE.to_owned(), other.replace("\"failed\"", "\"running\"")]);
    let now = "2026-01-01T00:01:30Z".parse().unwrap();
    let words = |text: &str| text.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    let chosen = |cluster: &str, stage: &str, role: &str| {
        let args = SelectorArgs { cluster: words(cluster), stage: words(stage), role: words(role) };
        let selection = args.resolve(&machines).map_err(|error| error.to_string())?;
        Ok::<_, String>(
            selection.of(&machines, now).iter().map(|machine| machine.cluster.to_string()).collect::<Vec<_>>(),
        )
    };
    for (cluster, stage, role, expected) in [
        ("", "", "", &["lab", "prod"][..]),
        ("lab", "", "", &["lab"]),
        ("lab,prod", "", "", &["lab", "prod"]),
        ("", "failed", "", &["lab"]),
        ("", "failed,running", "control-plane", &["prod"]),
        ("lab", "running", "", &[]),
        ("", "booting", "", &[]),
        ("", "stuck", "", &[]),
    ] {
        assert_eq!(chosen(cluster, stage, role).unwrap(), expected, "{cluster} {stage} {role}");
    }
    for (cluster, stage, role, expected) in [
        ("lba", "", "", "--cluster lba: there is no such cluster; the clusters are lab, prod"),
        ("prd,lab", "", "", "--cluster prd: there is no such cluster; the clusters are prod, lab"),
        ("\u{1b}[2J", "", "", "--cluster \\u{1b}[2J: there is no such cluster; the clusters are lab, prod"),
        ("", "failde", "", "--stage failde: there is no such stage; the stages are failed, "),
        ("", "", "workers", "--role workers: there is no such role; the roles are worker, control-plane"),
    ] {
        let error = chosen(cluster, stage, role).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn machine_is_found_by_each_of_its_names() {
    let second = MACHINE
        .replace("00:01\"", "00:02\"")
        .replace("10.0.0.1", "10.0.0.2")
        .replace("\"n1\"", "\"N2.lab.example\"")
        .replace("\"role\"", "\"additional_macs\":[\"52:54:00:00:00:0a\"],\"role\"");
    let third = second.replace("00:02\"", "00:03\"").replace("lab.example", "prod.example").replace("00:0a", "00:0b");
    let machines = machines(&[MACHINE.to_owned(), second, third]);
    let machines: Vec<_> = machines.iter().collect();
    let found = |name: &str| target::find(&machines, name).map(|machine| machine.mac.to_string());
    for (name, last) in [
        ("52-54-00-00-00-01", "01"),
        ("52540000000A", "02"),
        ("10.0.0.1", "01"),
        ("n1", "01"),
        ("N1", "01"),
        ("n2.LAB.example", "02"),
        ("n2.lab.example.", "02"),
    ] {
        assert_eq!(found(name).unwrap(), format!("52:54:00:00:00:{last}"), "{name}");
    }
    for (name, words) in [
        (
            "n2",
            "n2 fits 2 machines: name one by its MAC address\n  52:54:00:00:00:02  10.0.0.2  N2.lab.example  worker of lab",
        ),
        (
            "52:54:00:00:00:09",
            "52:54:00:00:00:09 is not a machine of the spec; the nearest MAC addresses are 52:54:00:00:00:01,",
        ),
        ("10.0.0.3", "10.0.0.3 is not a machine of the spec; the nearest addresses are 10.0.0.1,"),
        ("n9", "n9 is not a machine of the spec; the nearest host names are n1,"),
        ("", " is not a machine of the spec"),
    ] {
        let error = found(name).unwrap_err().to_string();
        assert!(error.starts_with(words), "{error}");
    }
    assert!(target::find(&[], "n1").unwrap_err().to_string().ends_with("the spec has no machines"));
}

#[test]
fn machine_is_explained() {
    let expected = "\
52:54:00:00:00:01 n1, 10.0.0.1: worker of lab, Talos v1.13.0 amd64
policy auto, next boot from network, 2 boots so far

events (UTC)
2026-01-01 00:00:00.500  sent to its own disk

stage      failed
so far     It failed.
waits for  Its next attempt.

Next:
- First.
- Second.
";
    assert_eq!(machine::explained(MACHINE, Width::Unbounded, jiff::Timestamp::now()).unwrap(), expected);
    let with_story = MACHINE
        .replace("\"diagnosis\"", "\"story\":[\"10:03:12 asked.\",\"10:03:13 \\u001b[2Jloaded.\"],\"diagnosis\"");
    let told = machine::explained(&with_story, Width::Unbounded, jiff::Timestamp::now()).unwrap();
    let story = "\nlast boot (UTC)\n10:03:12 asked.\n10:03:13 \\u{1b}[2Jloaded.\n\nstage ";
    assert_eq!(told, expected.replace("\nstage ", story));
    let attacked = MACHINE.replace(
        "\"diagnosis\"",
        "\"frames_of_others\":{\"last_at\":\"2026-01-01T00:00:00.250Z\",\"text\":\"frames from elsewhere\"},\"diagnosis\"",
    );
    let others = "\nof other hosts\n2026-01-01 00:00:00.250  frames from elsewhere\n\nstage ";
    let apart = expected.replace("\nstage ", others);
    assert_eq!(machine::explained(&attacked, Width::Unbounded, jiff::Timestamp::now()).unwrap(), apart);
    assert_eq!(machine::decided(MACHINE).unwrap().text, "52:54:00:00:00:01: policy auto, next boot from network\n");
    assert!(machine::explained("{}", Width::Unbounded, jiff::Timestamp::now()).is_err());
    let several = MACHINE.replace(
        "\"address\"",
        "\"additional_macs\":[\"52:54:00:00:00:0a\",\"52:54:00:00:00:0b\"],\"loaders\":{\"uefi-x64\":\"snponly-x86_64.efi\",\"bios\":\"ipxe.pxe\"},\"address\"",
    );
    let expected = expected.replace(
        "amd64\n",
        "amd64\nother network cards: 52:54:00:00:00:0a, 52:54:00:00:00:0b\n\
         loaders of its own: ipxe.pxe (bios), snponly-x86_64.efi (uefi-x64)\n",
    );
    assert_eq!(machine::explained(&several, Width::Unbounded, jiff::Timestamp::now()).unwrap(), expected);
}

const VISITOR: &str = r#"{"name":"52:54:11:22:33:99","mac":"52:54:11:22:33:99","uuid":"u-9","address":"10.0.0.9",
    "first_seen":"2026-01-01T00:00:00.000Z","last_seen":"2026-01-01T00:00:18.000Z","group":GROUP,"profile":GROUP,
    "requests":[
        {"at":"2026-01-01T00:00:00.000Z","request":"/boot.ipxe","status":200,"outcome":"served","text":"served","times":1},
        {"at":"2026-01-01T00:00:18.000Z","request":"/ipxe?mac=x","status":404,"outcome":"no-group","text":"no group","times":3}]}"#;

#[test]
fn visitor_is_explained_and_listed() {
    let (now, known) = ("2026-01-01T00:00:30Z".parse().unwrap(), VISITOR.replace("GROUP", "\"rack\""));
    let expected = "\
52:54:11:22:33:99, 10.0.0.9: not in the cluster spec
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
52:54:11:22:33:99  10.0.0.9  12s  rack   rack     /ipxe         no group
52:54:11:22:33:99  10.0.0.9  12s  -      -        /ipxe         no group
";
    assert_eq!(visitor::render(&visitors, Colours::Off, now), expected);
    assert_eq!(visitor::render(&[], Colours::Off, now), "");
    let many: Vec<visitor::Visitor> = serde_json::from_str(&format!("[{}]", vec![known; 60].join(","))).unwrap();
    assert!(visitor::render(&many, Colours::Off, now).ends_with("\nand 10 more, in /api/v1/visitors\n"));
}

#[test]
fn events_are_lines() {
    let event =
        r#"{"mac":"52:54:00:00:00:01","stage":"running","at":"2026-01-01T10:00:00.500Z","text":"up \u001b[2J"}"#;
    let Piece::Boot(event) = watch::read("boot", event).unwrap() else { panic!("no event") };
    assert_eq!(watch::text_of(&event), "10:00:00.500  52:54:00:00:00:01  running            up \\u{1b}[2J");
    assert!(matches!(watch::read("lagged", r#"{"missed":7}"#), Ok(Piece::Missed(7))));
    assert!(watch::missed_text(7).contains("7 events"));
    assert!(watch::read("boot", "{}").is_err());
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
        assert!(exit::status_of(&error) == Exit::NotFound, "{error:#}");
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
async fn release_of_a_machine_that_the_spec_holds_is_no_success() {
    let held = Served { policy: BootPolicy::Hold, ..machine(1) };
    let inventory = Inventory::new([held, machine(2)].map(std::sync::Arc::new).into());
    let server = start_with(std::sync::Arc::new(arc_swap::ArcSwap::from_pointee(inventory))).await;
    let client = client(server.address);
    block_in_place(|| {
        let decide = |decision, machines: &[u32]| {
            let names = machines.iter().map(|number| machine(*number).mac.to_string()).collect();
            let wanted = Wanted { names, selector: SelectorArgs::default(), yes: true };
            decide::run(&client, decision, wanted, false).unwrap()
        };
        assert_eq!(decide(Decision::Hold, &[1, 2]), Exit::Success);
        assert_eq!(decide(Decision::Release, &[1]), Exit::Failure);
        assert_eq!(decide(Decision::Release, &[1, 2]), Exit::Partial);
        assert_eq!(decide(Decision::Release, &[2]), Exit::Success);
        let released = client.post(&format!("/api/v1/machines/{}/release", machine(1).mac)).unwrap();
        let text = machine::decided(&released).unwrap().text;
        let note = "it is still held by the spec: see pxed.dev/boot-policy in the annotations of it, its role and its cluster (lab.yaml";
        assert!(text.contains("policy hold, next boot from disk") && text.contains(note), "{text}");
        let alone = client.get("/api/v1/nodes", &[]).unwrap();
        assert!(alone.contains(r#""this":true,"alive":true"#), "{alone}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_a_running_pxed_are_understood() {
    let server = start(2).await;
    server.feed(MAC, uefi_boot()).await;
    let client = client(server.address);
    block_in_place(|| {
        let query = [("events", "0".to_owned()), ("stage", "running".to_owned())];
        let text = client.get("/api/v1/machines", &query).unwrap();
        let listed = machines::read(&text).unwrap();
        let machines: Vec<_> = listed.iter().map(|listed| &listed.machine).collect();
        let table = fleet::render(&machines, PLAIN, jiff::Timestamp::now());
        assert!(table.starts_with("running   1\nmachines  1\n"), "{table}");
        let now = jiff::Timestamp::now();
        let explained = explanation(&client, &MAC.to_string(), TEXT, now).unwrap();
        assert!(explained.contains("so far     An operating system has been running with 10.0.0.1"), "{explained}");
        let held = machine::decided(&client.post("/api/v1/machines/525400000001/hold").unwrap()).unwrap().text;
        assert_eq!(held, "52:54:00:00:00:01: policy hold, next boot from disk\n");
        let unknown = client.get("/api/v1/machines/525411223399", &[]).unwrap_err().to_string();
        assert_eq!(unknown, "52:54:11:22:33:99 is not a machine of the spec");
        let stranger: MacAddr = "525411223399".parse().unwrap();
        let unknown = explanation(&client, &stranger.to_string(), TEXT, now).unwrap_err().to_string();
        let expected = "52:54:11:22:33:99 is not a machine of the spec; the nearest MAC addresses are 52:54:00:00:00:01, 52:54:00:00:00:02, and \
                        52:54:11:22:33:99 has not asked boot HTTP";
        assert!(unknown.starts_with(expected), "{unknown}");
        for name in ["10.0.0.9", "n9", "../machines", ""] {
            let error = explanation(&client, name, TEXT, now).unwrap_err();
            let nearest = error.to_string().contains("is not a machine of the spec; ");
            assert!(nearest && exit::status_of(&error) == Exit::NotFound, "{name}: {error:#}");
        }
        // The machine that is meant has never been seen.
        let near = explanation(&client, "525400000012", TEXT, now).unwrap_err();
        let expected =
            "52:54:00:00:00:12 is not a machine of the spec; one digit off: the spec names 52:54:00:00:00:02";
        assert!(near.to_string().starts_with(expected), "{near:#}");
        assert!(near.to_string().contains("pxed adopt 52:54:00:00:00:12 --cluster NAME"), "{near:#}");
        assert_eq!(exit::status_of(&near), Exit::NotFound);
        let adopted = |mac: MacAddr, cluster: &str| strangers::adopted(&client, mac, cluster, None);
        let yaml = adopted(stranger, "lab").unwrap();
        assert!(
            yaml.contains("- address: 10.0.0.3 # ") && yaml.contains("macAddress: \"52:54:11:22:33:99\""),
            "{yaml}"
        );
        let taken = strangers::adopted(&client, stranger, "lab", Some(Ipv4Addr::new(10, 0, 0, 2))).unwrap_err();
        assert!(taken.to_string().contains("that of 52:54:00:00:00:02 (cluster lab)"), "{taken:#}");
        let ours = strangers::adopted(&client, stranger, "lab", Some(Ipv4Addr::new(10, 255, 0, 1))).unwrap_err();
        assert!(ours.to_string().contains("that of pxed"), "{ours:#}");
        let error = adopted(stranger, "lba").unwrap_err();
        assert!(error.to_string().contains("the clusters are lab") && exit::status_of(&error) == Exit::NotFound);
        assert!(adopted(MAC, "lab").unwrap_err().to_string().contains("a machine of the spec already"));
        assert!(explanation(&client, "10.0.0.1", TEXT, now).unwrap().starts_with("52:54:00:00:00:01, 10.0.0.1: "));
        let outcome = Outcome::NoGroup { selectors: "mac, os".into() };
        server.visitors.lock().record(visit(stranger, "/ipxe?mac=x", outcome));
        let explained = explanation(&client, &stranger.to_string(), TEXT, now).unwrap();
        let line = "ago  /ipxe?mac=x  404: no group matched; the groups look at mac, os\n";
        assert!(explained.starts_with("52:54:11:22:33:99, 10.0.0.200: ") && explained.ends_with(line), "{explained}");
        assert!(
            explanation(&client, &stranger.to_string(), explain::Form { json: true, ..TEXT }, now)
                .unwrap()
                .contains("\"outcome\":\"no-group\"")
        );
        server.visitors.lock().record(visit(MAC, "/ignition?mac=x", Outcome::NoConfigInSpec));
        let explained = explanation(&client, &MAC.to_string(), TEXT, now).unwrap();
        assert!(
            explained.contains("\nother requests\n") && explained.contains("/ignition?mac=x  404: "),
            "{explained}"
        );
    });
    let mut lines = client.stream("/api/v1/events").unwrap().lines().map(Result::unwrap);
    block_in_place(|| lines.find(|line| line.starts_with(": boot events"))).unwrap();
    server.feed(MAC, [discover(Pxe)]).await;
    let data = block_in_place(|| lines.find_map(|line| line.strip_prefix("data: ").map(str::to_owned))).unwrap();
    let Piece::Boot(event) = watch::read("boot", &data).unwrap() else { panic!("{data}") };
    let shown = watch::text_of(&event);
    assert!(
        shown.ends_with("52:54:00:00:00:01  discovering        PXE firmware asks for an address (x86-64 UEFI)"),
        "{shown}"
    );
}
