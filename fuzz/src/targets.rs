//! The targets. `cargo xtask fuzz` runs them under libFuzzer, and a test of `pxe-userspace` includes this file to run them on
//! the corpus.
#![allow(clippy::expect_used, clippy::missing_panics_doc, clippy::panic, reason = "a panic is how a target reports")]

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
    sync::{Arc, LazyLock},
    time::{Duration, Instant, SystemTime},
};

use dhcproto::v4::{Decodable as _, Decoder, Message};
use http::{Method, Request};
use prometheus_client::registry::Registry;
use pxe_common::{
    Counter, Headers, MacAddr, Settings, UnknownMachines, bootp, classify,
    testing::{KNOWN, OTHER, Rules, World, small_bucket},
};
use pxe_userspace::{
    admin::{self, AdminContext, token::Token},
    cluster_spec::{
        self,
        matchbox::{self, Labels},
    },
    dhcp::{self, Arrival, Mode, Reason, ReplyRoute, Server, encode::MAXIMUM_LENGTH},
    fetch::{
        bundle::BundleList,
        checksums::{Algorithm, Checksums},
    },
    http::{
        head,
        query::Query,
        range::{self, Selection, Validators},
    },
    journal::Journal,
    kubernetes::{Heard, Observed},
    model::{
        api_object::{ApiKind, ObjectKey},
        architecture::Architecture,
        finding::AllSpecFaults,
        inventory::{Machine, Role, SharedInventory, Site, Source},
        policy::{BootPolicy, DiskRoute, Disposition},
        policy_book::SharedPolicies,
        visitors::SharedVisitors,
    },
    net::networks::Networks,
    tftp::{
        options::Terms,
        packet::{Packet, TransferMode},
        transfer::{Action, Outcome, Repeated, Transfer},
    },
    uki::{
        command_line,
        key::SigningKey,
        layout::Template,
        pe::{Header, PeMachine},
        pieces::{Piece, SourceFile},
    },
};
use tempfile::TempDir;
use tower::ServiceExt as _;

/// A frame at the classifier: `data` is a byte that chooses the settings, and the frame.
pub fn frame_classify(data: &[u8]) {
    let Some((&choice, frame)) = data.split_first() else { return };
    let unknown = if choice & 1 == 0 { UnknownMachines::Pass } else { UnknownMachines::Drop };
    let settings = if choice & 2 == 0 { Settings::unlimited(unknown) } else { small_bucket(unknown) };
    let world = World::new(Rules { settings, no_socket: choice & 4 != 0 });
    let verdict = classify(frame, &world);
    match Headers::parse(frame) {
        Ok(headers) => {
            assert!(headers.payload.start <= headers.payload.end && headers.payload.end <= frame.len());
            assert!([bootp::SERVER_PORT, bootp::BOOT_SERVER_PORT].contains(&headers.destination_port));
        }
        Err(counter) => assert_eq!(verdict.counter, counter, "what cannot be parsed is not judged"),
    }
    let is_judged = matches!(
        verdict.counter,
        Counter::Redirected | Counter::RateLimited | Counter::OthersRateLimited | Counter::NoSocket
    );
    assert!(!is_judged || [KNOWN, OTHER].contains(&verdict.machine), "only a known machine's frame is ours");
    assert!(unknown == UnknownMachines::Drop || verdict.counter != Counter::UnknownDropped);
}

/// A DHCP message at the responder: `data` is a byte that chooses the server and the way of the message, and the message.
pub fn dhcp_respond(data: &[u8]) {
    let Some((&choice, payload)) = data.split_first() else { return };
    let chosen = |bit: u8| choice & bit != 0;
    let address = Ipv4Addr::new(10, 99, 0, 1);
    let server = Server {
        address,
        also: [Ipv4Addr::new(10, 99, 0, 2)].into(),
        networks: Networks::around(address, &[(address, 24)]),
        http_port: 8000,
        lease_seconds: 3600,
        mode: if chosen(1) { Mode::Proxy } else { Mode::Server },
        guard: None,
    };
    let port = if chosen(2) { bootp::BOOT_SERVER_PORT } else { bootp::SERVER_PORT };
    let destination = if chosen(4) { server.address } else { Ipv4Addr::BROADCAST };
    let source = if chosen(8) { Ipv4Addr::new(10, 99, 0, 168) } else { Ipv4Addr::UNSPECIFIED };
    // A relay may send from any port (RFC 8357).
    let source_port = if chosen(64) { 10_067 } else { bootp::CLIENT_PORT };
    let arrival = Arrival::between(SocketAddrV4::new(source, source_port), SocketAddrV4::new(destination, port));
    let disposition = if chosen(16) { Disposition::Disk } else { Disposition::Network };
    let architecture = if chosen(32) { Architecture::Arm64 } else { Architecture::Amd64 };
    // Every MAC is known, so that whatever can be decoded is answered.
    let lookup = |mac| Some((Box::new(machine(mac, architecture)), disposition));
    let mut out = [0xaa; MAXIMUM_LENGTH];
    let outcome = dhcp::respond(payload, &arrival, lookup, &server, &mut out);
    assert_ne!(outcome.verdict, Err(Reason::NoRoom), "what has to be returned never costs the answer");
    let Ok(sent) = outcome.verdict else { return };
    let reply = out.get(..sent.length).expect("a reply fits its buffer");
    if let ReplyRoute::Relay(relay) = sent.route {
        assert!([bootp::SERVER_PORT, source_port].contains(&relay.port()));
        let has_address = reply[bootp::field::YIADDR] != [0; 4];
        assert!(has_address || reply[bootp::field::FLAGS][0] & 0x80 != 0, "a relay cannot deliver it");
    }
    assert!(reply.len() >= 300, "shorter replies are dropped by old clients (RFC 1542 §2.1)");
    assert_eq!(reply[bootp::field::OP], bootp::BOOTREPLY);
    assert_eq!(reply[bootp::field::XID], payload[bootp::field::XID]);
    assert_eq!(reply[bootp::field::CHADDR], payload[bootp::field::CHADDR]);
    Message::decode(&mut Decoder::new(reply)).expect("dhcproto reads the reply");
}

fn machine(mac: MacAddr, architecture: Architecture) -> Machine {
    Machine {
        mac,
        additional_macs: Arc::default(),
        address: Ipv4Addr::new(10, 99, 0, 168),
        cluster: "lab".into(),
        role: Role::Worker,
        architecture,
        version: "v1.13.0".into(),
        schematic: None,
        kernel_args: "".into(),
        hostname: Some("worker-1".into()),
        prefix_length: None,
        gateway: None,
        dns_servers: [Ipv4Addr::new(10, 99, 0, 53)].into(),
        policy: BootPolicy::Auto,
        disk_route: DiskRoute::default(),
        boot: Default::default(),
        loaders: None,
        talos_config: None,
        vlans: Arc::default(),
        answers: Default::default(),
        secrets: Default::default(),
        site: Arc::new(Site { interface: "br0".into(), address: Ipv4Addr::new(10, 99, 0, 1) }),
        source: Source { file: Path::new("lab.yaml").into(), line: 1 },
    }
}

/// A whole TFTP transfer: `data` is the request's length and the request, the file's length in two bytes, and what follows:
/// a byte of length and a datagram each, where other lengths stand for the timer (255), the request again (254), a disk that was
/// read (253) and one that is slow (252; the byte behind it says how many of the blocks that are sent next come from the cache).
pub fn tftp_transfer(data: &[u8]) {
    let Some((request, rest)) = counted(data) else { return };
    let Ok(Packet::Read(request)) = Packet::parse(request) else { return };
    let Some(([high, low], mut events)) = rest.split_first_chunk::<2>() else { return };
    let length = u64::from(u16::from_be_bytes([*high, *low])) * 7;
    let netascii = request.mode == TransferMode::Netascii;
    let terms = if netascii { Terms::negotiate_netascii } else { Terms::negotiate }(request.options, length, 1500);
    let mut now = Instant::now();
    let (transfer, first) = Transfer::new(now, terms);
    // In netascii, a third of the bytes become two.
    let blocks = if netascii { (length + length / 3) / u64::from(terms.block_size) + 1 } else { terms.blocks() };
    let mut sending = Sending { transfer, length, blocks, sent: 0, cached: None };
    sending.check(&first);
    while let Some((&kind, rest)) = events.split_first() {
        let transfer = &mut sending.transfer;
        let action = match kind {
            255 => {
                events = rest;
                now = now.max(transfer.deadline());
                transfer.on_timer(now)
            }
            254 => {
                events = rest;
                now += Duration::from_millis(700);
                match transfer.on_repeated_request(now) {
                    Repeated::Again(action) => action,
                    Repeated::Anew => return,
                }
            }
            253 => {
                events = rest;
                transfer.on_readable(now)
            }
            252 => {
                let Some((&cached, rest)) = rest.split_first() else { return };
                events = rest;
                sending.cached = Some(cached.into());
                continue;
            }
            _ => {
                let Some((datagram, rest)) = counted(events) else { return };
                events = rest;
                now += Duration::from_millis(1);
                transfer.on_packet(now, datagram)
            }
        };
        sending.check(&action);
        if matches!(action, Action::End(_)) {
            return;
        }
    }
}

/// A transfer and what was sent of it.
struct Sending {
    transfer: Transfer,
    length: u64,
    blocks: u64,
    /// The last block that was sent.
    sent: u64,
    /// Of the next blocks, these are in the page cache.
    cached: Option<u64>,
}

impl Sending {
    /// Checks an action, and sends what it says.
    fn check(&mut self, action: &Action) {
        let Self { transfer, length, blocks, sent, cached } = self;
        let has = transfer.bytes_acknowledged();
        assert!(has <= *length);
        match *action {
            Action::SendBlocks { first, count } => {
                assert!(first >= 1 && count >= 1 && count <= transfer.terms().window);
                assert!(first <= *blocks && first <= *sent + 1, "no block is left out");
                let last = first + u64::from(count) - 1;
                assert!(last <= transfer.terms().blocks());
                let cached = cached.take().unwrap_or(u64::MAX);
                if cached < u64::from(count) && first + cached <= *blocks {
                    transfer.withhold(first + cached);
                    *sent = (*sent).max(first + cached - 1);
                } else {
                    *sent = (*sent).max(last.min(*blocks));
                    if last >= *blocks {
                        transfer.ends_with(*blocks);
                    }
                }
            }
            Action::End(Outcome::Done) => {
                assert_eq!(has, *length, "done without the whole file");
                assert_eq!(sent, blocks, "done before everything was sent");
            }
            Action::SendOptions => assert!(transfer.terms().has_options()),
            Action::Wait | Action::End(_) => {}
        }
    }
}

/// Splits off a byte of length and the bytes that it counts.
fn counted(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = data.split_first()?;
    rest.split_at_checked(usize::from(length))
}

/// A request head, and what part of a file it selects: `data` is the file's length in three bytes, and the head.
pub fn http_head_range(data: &[u8]) {
    let Some(([a, b, c], bytes)) = data.split_first_chunk::<3>() else { return };
    let Ok(Some((head, end))) = head::parse(bytes) else { return };
    assert!(end <= bytes.len() && end <= head::HEAD_LIMIT);
    assert_eq!(head::parse(&bytes[..end]), Ok(Some((head.clone(), end))), "what follows a head changes nothing");
    assert!(!matches!(head::parse(&bytes[..end - 1]), Ok(Some(_))), "a head ends where it ends");
    assert!(head.path.starts_with(b"/"));
    let pairs = Query::new(&head.query).pairs;
    assert!(pairs.len() <= head.query.split(|&byte| byte == b'&').count());
    let length = u64::from(u32::from_be_bytes([0, *a, *b, *c]));
    let validators = Validators::new(7, length, SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777));
    match range::select(&head.method, &head.headers, length, &validators) {
        Selection::Part { first, end } => {
            assert!(first < end && end <= length);
            assert_eq!(head.method, Method::GET, "a range is defined for GET alone");
        }
        Selection::Unsatisfiable => assert!(head.headers.contains_key(http::header::RANGE)),
        Selection::Whole | Selection::NotModified | Selection::PreconditionFailed => {}
    }
}

/// A cluster spec as one file.
pub fn cluster_spec(data: &[u8]) {
    static DIRECTORY: LazyLock<TempDir> = LazyLock::new(in_memory);
    let path = DIRECTORY.path().join("cluster.yaml");
    fs::write(&path, data).expect("the spec is written");
    let loaded = cluster_spec::Loader::new().load(std::slice::from_ref(&path));
    for machine in loaded.inventory.machines() {
        assert!(!machine.mac.is_zero() && machine.mac != MacAddr::BROADCAST);
        let found = loaded.inventory.by_mac(machine.mac).expect("a machine is found by its MAC");
        assert!(Arc::ptr_eq(found, machine), "two machines with one MAC");
        let found = loaded.inventory.by_address(machine.address).expect("a machine is found by its address");
        assert!(Arc::ptr_eq(found, machine), "two machines with one address");
    }
    if let Err(errors) = loaded.strictly() {
        assert!(!errors.to_string().trim().is_empty(), "an error says what is wrong");
    }
}

/// A Matchbox directory: `data` is a group and a profile, with a zero byte between them.
pub fn matchbox_json(data: &[u8]) {
    let mut parts = data.splitn(2, |&byte| byte == 0);
    let (group, profile) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    static DIRECTORY: LazyLock<TempDir> = LazyLock::new(in_memory);
    let directory = DIRECTORY.path();
    for (folder, text) in [("groups", group), ("profiles", profile)] {
        fs::create_dir_all(directory.join(folder)).expect("a folder");
        fs::write(directory.join(folder).join("one.json"), text).expect("a file is written");
    }
    match matchbox::load(directory) {
        Ok(loaded) => {
            let labels = Labels::new(&[("mac".to_owned(), "52-54-00-12-34-56".to_owned())]);
            if let Some(group) = loaded.catalog.select(&labels) {
                assert!(group.matches(&labels), "a group that does not match is selected");
            }
        }
        Err(errors) => assert!(!errors.to_string().trim().is_empty(), "an error says what is wrong"),
    }
}

/// An EFI stub or a unified kernel image: `data` is a byte that chooses the kind and the length of the whole file, and the file's first
/// bytes.
pub fn uki_image(data: &[u8]) {
    let Some((&choice, head)) = data.split_first() else { return };
    let machine = if choice & 1 == 0 { PeMachine::AMD64 } else { PeMachine::ARM64 };
    let is_long = choice & 2 != 0;
    let length = if is_long { 1 << 30 } else { head.len() as u64 };
    let template = if choice & 4 == 0 {
        Template::from_stub(head, length, 1000, machine)
    } else {
        Template::from_uki(head, length, machine)
    };
    let template = match template {
        Ok(template) => template,
        Err(error) => return assert!(!error.to_string().is_empty(), "an error says what is wrong"),
    };
    let shared = template.pieces().iter().map(Piece::len).sum::<u64>();
    assert_eq!(shared, template.shared_length());
    for piece in template.pieces() {
        let Piece::File { file, range } = piece else { continue };
        let length = if *file == SourceFile::Initramfs { 1000 } else { length };
        assert!(range.start < range.end && range.end <= length, "beyond the end of a file");
    }
    let Ok(template) = template.with_certificate(1400) else { return };
    let Some(Piece::Bytes(headers)) = template.pieces().first() else { panic!("an image begins with its headers") };
    let header = Header::read(headers).expect("the headers can be read");
    assert_eq!(header.machine, machine);
    assert_eq!(u64::from(header.security().address), template.length() - 1400);
    let (mut raw, mut end) = (header.size_of_headers, 0);
    for section in &header.sections {
        assert!(section.virtual_address >= end, "sections overlap in memory");
        end = section.virtual_address + section.virtual_size;
        assert!(section.raw_size == 0 || section.raw_offset == raw, "a gap or an overlap in the file");
        raw += section.raw_size;
    }
    assert!(header.size_of_image >= end);
    let last = header.sections.last().expect("there are sections");
    assert!(last.is(".cmdline") && u64::from(last.raw_offset) == shared);
    assert_eq!(last.raw_size as usize, command_line::SECTION_LENGTH);
}

/// A key and a certificate: `data` is both in PEM, with a zero byte between them.
pub fn uki_key(data: &[u8]) {
    let mut parts = data.splitn(2, |&byte| byte == 0);
    let (key, certificate) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    match SigningKey::from_pem(key, certificate) {
        Ok(key) => {
            let _ = key.warnings(SystemTime::UNIX_EPOCH);
            let signature = key.sign(&[7; 32]).expect("there are random numbers");
            assert_eq!(signature.len(), key.certificate_length() as usize);
        }
        Err(error) => assert!(!error.to_string().is_empty(), "an error says what is wrong"),
    }
}

/// A list of checksums: `data` is a byte that chooses their kind, and the list.
pub fn checksum_list(data: &[u8]) {
    let Some((&choice, list)) = data.split_first() else { return };
    let algorithm = if choice & 1 == 0 { Algorithm::Sha256 } else { Algorithm::Sha512 };
    let checksums = match Checksums::parse(list, algorithm) {
        Ok(checksums) => checksums,
        Err(error) => return assert!(!error.to_string().is_empty(), "an error says what is wrong"),
    };
    for name in String::from_utf8_lossy(list).split(['\n', ' ', '*', '(', ')', '/']) {
        match checksums.of(name) {
            Ok(checksum) => assert_eq!(checksum.len(), algorithm.length()),
            Err(error) => assert!(!error.to_string().is_empty(), "an error says what is wrong"),
        }
    }
}

/// The list of a bundle.
pub fn bundle_list(data: &[u8]) {
    let list = match BundleList::parse(data) {
        Ok(list) => list,
        Err(error) => return assert!(!error.to_string().is_empty(), "an error says what is wrong"),
    };
    let mut paths = BTreeSet::new();
    for file in &list.files {
        let is_below = file.path.split('/').all(|component| !matches!(component, "" | "." | ".."));
        assert!(is_below && !file.path.starts_with(".pxed/"), "{} is outside", file.path);
        assert!(file.size > 0 && paths.insert(&file.path), "an empty file, or the same twice");
    }
}

/// An answer of the API server of Kubernetes: `data` is a byte that chooses the kind of its objects and its status, and its body.
pub fn kubernetes_answer(data: &[u8]) {
    let Some((&choice, answer)) = data.split_first() else { return };
    let kind = ApiKind::ALL[usize::from(choice & 3)];
    let status = [200, 401, 403, 404, 410, 429, 500, 65_535][usize::from(choice >> 2 & 7)];
    let Heard { objects, deleted, complaints } = Heard::of(answer, kind, status);
    let check = |key: &ObjectKey| {
        assert_eq!(key.kind, kind);
        for name in [&key.namespace, &key.name] {
            let is_harmless = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
            assert!(is_harmless && (1..=253).contains(&name.len()), "{name:?} cannot be in a message");
        }
    };
    deleted.iter().for_each(check);
    for complaint in complaints {
        assert!(!complaint.contains(char::is_control) && complaint.len() < 1_000, "{complaint:?} cannot be logged");
    }
    for Observed { object, annotations, conditions, .. } in objects {
        check(&object.key);
        assert!(object.uid.len() <= 253 && object.created.len() <= 64 && conditions.len() <= 32);
        // It ends up in the cache, and is read again at the next start.
        let event = format!(r#"{{"type":"ADDED","object":{}}}"#, object.text);
        let again = Heard::of(event.as_bytes(), kind, status).objects;
        let again = again.first().expect("an object can be read again");
        assert_eq!((&again.object.key, &again.annotations), (&object.key, &annotations));
    }
}

/// Returns a directory without a disk behind it, where there is one: a target writes one file for each input.
fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory for files")
}

/// A request to the admin API: `data` is the method and the target in one line, headers in lines, and a body.
pub fn admin_api(data: &[u8]) {
    /// The token of the seeds that change something.
    const ADMIN_TOKEN: &str = "0123456789abcdef";
    static API: LazyLock<(TempDir, AdminContext)> = LazyLock::new(|| {
        let state = in_memory();
        let inventory = SharedInventory::default();
        let machines = vec![Arc::new(machine(KNOWN, Architecture::Amd64))];
        inventory.store(Arc::new(pxe_userspace::model::inventory::Inventory::new(machines)));
        let journal = Journal::new(inventory, SharedPolicies::default(), state.path()).expect("a journal");
        let health = Arc::default();
        let (journal, registry) = (Arc::new(journal), Arc::new(Registry::default()));
        (
            state,
            AdminContext {
                api: None,
                journal,
                images: Default::default(),
                nodes: Default::default(),
                visitors: SharedVisitors::default(),
                strangers: Default::default(),
                registry,
                health,
                confinement: Default::default(),
                faults: AllSpecFaults::default(),
                cluster: None,
                captures: Default::default(),
                mistakes: Vec::new,
                neighbour_at: |_, _| None,
            },
        )
    });
    let text = String::from_utf8_lossy(data);
    let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    let mut lines = head.lines();
    let Some((method, target)) = lines.next().and_then(|line| line.split_once(' ')) else { return };
    let mut request = Request::builder().method(method).uri(target);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { return };
        request = request.header(name, value.trim());
    }
    let Ok(request) = request.body(axum::body::Body::from(body.to_owned())) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let response = runtime
        .block_on(admin::router(API.1.clone(), Some(Token::new(ADMIN_TOKEN))).oneshot(request))
        .expect("a router cannot fail");
    assert!(!response.status().is_server_error(), "{method} {target}: {}", response.status());
}
