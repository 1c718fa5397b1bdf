//! Delivered means acknowledged: the events of an initramfs whose client reads it whole, in parts, slowly, or not to the end.
//!
//! The clients have small receive buffers, so that the end of the file waits in the server's send queue while the server has long written it.

use std::{future::Future, io};

use pxe_userspace::{
    journal::{self, Journal},
    model::{origin::Origin, policy_book::SharedPolicies},
};

use super::*;

const INITRAMFS: &str = "/assets/initramfs-v1.13.0-amd64.xz";

/// The length of the initramfs: less than the server's socket takes at once.
const LENGTH: u64 = 1 << 20;

/// A receive buffer in bytes. The kernel doubles it.
const SMALL_BUFFER: u32 = 16 * 1024;

/// The most bytes that a client with such a buffer acknowledges before it reads them.
const UNREAD: u64 = 128 * 1024;

fn initramfs() -> Vec<u8> {
    kernel()[..LENGTH as usize].to_vec()
}

/// An event in short.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Seen {
    Requested(ArtifactKind),
    Done(ArtifactKind, u64),
    Failed(ArtifactKind, u64),
}
use ArtifactKind::{Initramfs, Script};
use Seen::{Done, Failed, Requested};

/// A machine's connection.
struct Client(TcpStream);

impl Client {
    async fn ask(&mut self, method: &str, path: &str, headers: &str) {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        self.0.write_all(request.as_bytes()).await.unwrap();
    }

    /// Reads a response head.
    async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(in_time(self.0.read_u8()).await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    /// Reads exactly `count` bytes.
    async fn read(&mut self, count: u64) -> Vec<u8> {
        let mut body = vec![0; count as usize];
        in_time(self.0.read_exact(&mut body)).await.unwrap();
        body
    }

    async fn get(&mut self, path: &str, headers: &str) -> Vec<u8> {
        self.ask("GET", path, headers).await;
        let head = self.head().await;
        self.read(content_length(&head)).await
    }

    fn reset(self) {
        self.0.set_zero_linger().unwrap();
    }
}

fn content_length(head: &str) -> u64 {
    head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap().parse().unwrap()
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("it does not come")
}

impl Lab {
    fn start_with_initramfs() -> Self {
        let lab = Self::start();
        lab.write_initramfs(&initramfs());
        lab
    }

    fn write_initramfs(&self, content: &[u8]) {
        std::fs::write(self.directory.path().join(&INITRAMFS["/assets/".len()..]), content).unwrap();
    }

    /// Opens a connection of machine 1.
    async fn connect(&self, receive_buffer: Option<u32>) -> Client {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 0, 11), 0).into()).unwrap();
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        Client(socket.connect(self.address).await.unwrap())
    }

    /// Asks for the initramfs through a small window, reads `count` bytes of the answer, and waits until the server has written all of it.
    async fn read_partly(&mut self, headers: &str, count: u64) -> Client {
        let before = self.metrics.sent_bytes();
        let mut client = self.connect(Some(SMALL_BUFFER)).await;
        client.ask("GET", INITRAMFS, headers).await;
        let head = client.head().await;
        client.read(count).await;
        self.wait_until_sent(before + content_length(&head)).await;
        assert_eq!(self.seen().await, Requested(Initramfs));
        client
    }

    async fn wait_until_sent(&self, bytes: u64) {
        in_time(async {
            while self.metrics.sent_bytes() < bytes {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    async fn seen(&mut self) -> Seen {
        match self.event().await {
            EventKind::Requested { artifact, .. } => Requested(artifact),
            EventKind::Done { artifact, bytes, .. } => Done(artifact, bytes),
            EventKind::Failed { artifact, bytes, .. } => Failed(artifact, bytes),
            other => panic!("{other:?}"),
        }
    }

    /// Asserts that no further event has come. The script requested next makes the next events.
    async fn assert_nothing_seen(&mut self) {
        let mut client = self.connect(None).await;
        self.assert_nothing_seen_of(&mut client).await;
    }

    /// The same, and that nothing on this connection is still to be judged.
    async fn assert_nothing_seen_of(&mut self, client: &mut Client) {
        let length = client.get("/boot.ipxe", "").await.len() as u64;
        assert_eq!((self.seen().await, self.seen().await), (Requested(Script), Done(Script, length)));
    }
}

/// Asserts that the transfer failed for this reason, and that the bytes acknowledged are those read and at most [`UNREAD`] more.
async fn assert_failed_after(lab: &mut Lab, read: u64, reason: &str) {
    match lab.event().await {
        EventKind::Failed { artifact: Initramfs, bytes, reason: said, .. } => {
            assert!((read..read + UNREAD).contains(&bytes), "{bytes} bytes acknowledged, {read} read");
            assert!(said.contains(reason), "{said}");
        }
        other => panic!("{other:?}"),
    }
}

/// Returns `true` if the journal counts the machine as booted after these events.
async fn is_booted(kinds: &[EventKind]) -> bool {
    let state = tempfile::tempdir().unwrap();
    let policies = SharedPolicies::default();
    let machines = vec![machine(1, Architecture::Amd64, BootPolicy::Once)];
    let inventory = Arc::new(ArcSwap::from_pointee(Inventory::new(machines)));
    let journal = Journal::new(inventory, Arc::clone(&policies), state.path()).unwrap();
    let (sink, events) = EventSink::channel(1024);
    for kind in kinds {
        sink.send(NODE_1, std::time::SystemTime::now(), Origin::Machine, kind.clone());
    }
    drop(sink);
    journal::run(Arc::new(journal), events, std::future::pending()).await.unwrap();
    policies.load().booted.contains(&NODE_1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reset_before_the_last_byte_is_acknowledged_is_a_failure() {
    let mut lab = Lab::start_with_initramfs();
    for headers in ["", "Connection: close\r\n"] {
        let client = lab.read_partly(headers, LENGTH / 2).await;
        lab.assert_nothing_seen().await;
        client.reset();
        assert_failed_after(&mut lab, LENGTH / 2, "Connection reset").await;
        lab.assert_nothing_seen().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machine_boots_only_by_an_initramfs_that_it_acknowledged() {
    let mut lab = Lab::start_with_initramfs();
    lab.connect(Some(SMALL_BUFFER)).await.get(INITRAMFS, "").await;
    let whole = [lab.event().await, lab.event().await];
    let mut client = lab.connect(Some(SMALL_BUFFER)).await;
    client.ask("GET", INITRAMFS, "").await;
    client.head().await;
    client.reset();
    let broken = [lab.event().await, lab.event().await];
    lab.connect(None).await.get(INITRAMFS, "Range: bytes=-1\r\n").await;
    let last_byte = [lab.event().await];
    lab.assert_nothing_seen().await;
    assert!(is_booted(&whole).await, "{whole:?}");
    assert!(!is_booted(&broken).await, "{broken:?}");
    assert!(!is_booted(&last_byte).await, "{last_byte:?}");
    // Neither do both together, nor is what was achieved lost by them.
    assert!(!is_booted(&[&broken[..], &last_byte[..]].concat()).await);
    assert!(is_booted(&[&whole[..], &broken[..], &last_byte[..]].concat()).await);
}

/// However the connection goes on after the last byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_answer_is_delivered_when_it_is_acknowledged() {
    let mut lab = Lab::start_with_initramfs();
    for (name, headers) in [("kept", ""), ("closed by the client", ""), ("reset after all", ""), ("asked again", "")]
        .into_iter()
        .chain([("closed by the server", "Connection: close\r\n")])
    {
        let mut client = lab.connect(Some(SMALL_BUFFER)).await;
        assert!(client.get(INITRAMFS, headers).await == initramfs(), "{name}: the file arrived changed");
        match name {
            "closed by the client" => drop(client.0),
            "reset after all" => client.reset(),
            "asked again" => drop(client.get(INITRAMFS, "").await),
            "closed by the server" => assert_eq!(in_time(client.0.read(&mut [0])).await.unwrap(), 0),
            _ => {}
        }
        for _ in 0..=usize::from(name == "asked again") {
            assert_eq!(lab.seen().await, Requested(Initramfs), "{name}");
            assert_eq!(lab.seen().await, Done(Initramfs, LENGTH), "{name}");
        }
    }
    // HTTP/1.0, where the end of the connection is the end of the answer.
    let request = format!("GET {INITRAMFS} HTTP/1.0\r\n\r\n");
    assert!(lab.raw_from(Ipv4Addr::new(127, 0, 0, 11), request.as_bytes()).await.ends_with(&initramfs()));
    assert_eq!((lab.seen().await, lab.seen().await), (Requested(Initramfs), Done(Initramfs, LENGTH)));
    lab.assert_nothing_seen().await;
}

/// Long after the server has written the last byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_reader_is_waited_for() {
    let mut lab = Lab::start_with_initramfs();
    for headers in ["", "Connection: close\r\n"] {
        let mut client = lab.read_partly(headers, 1).await;
        lab.assert_nothing_seen().await;
        client.read(LENGTH / 2).await;
        lab.assert_nothing_seen().await;
        client.read(LENGTH / 2 - 1).await;
        assert_eq!(lab.seen().await, Done(Initramfs, LENGTH));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_that_sends_its_fin_first_is_waited_for() {
    let mut lab = Lab::start_with_initramfs();
    let mut client = lab.read_partly("", 1).await;
    client.0.shutdown().await.unwrap();
    lab.assert_nothing_seen().await;
    client.read(LENGTH - 1).await;
    assert_eq!(lab.seen().await, Done(Initramfs, LENGTH));
    // Or it has closed, and the bytes that still come have it reset the connection.
    let client = lab.read_partly("", LENGTH / 2).await;
    drop(client.0);
    assert_failed_after(&mut lab, LENGTH / 2, "the connection broke").await;
}

/// The smallest receive buffer that the kernel gives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tiny_window_delivers() {
    let mut lab = Lab::start_with_initramfs();
    let mut client = lab.connect(Some(1)).await;
    assert!(client.get(INITRAMFS, "").await == initramfs(), "the file arrived changed");
    assert_eq!((lab.seen().await, lab.seen().await), (Requested(Initramfs), Done(Initramfs, LENGTH)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_prove_nothing() {
    let mut lab = Lab::start_with_initramfs();
    let mut client = lab.connect(Some(SMALL_BUFFER)).await;
    client.ask("GET", INITRAMFS, "").await;
    client.ask("GET", "/boot.ipxe", "").await;
    // The second is answered without waiting for the first to arrive.
    assert_eq!((lab.seen().await, lab.seen().await), (Requested(Initramfs), Requested(Script)));
    lab.assert_nothing_seen().await;
    client.head().await;
    client.read(LENGTH).await;
    let head = client.head().await;
    let script = content_length(&head);
    client.read(script).await;
    assert_eq!((lab.seen().await, lab.seen().await), (Done(Initramfs, LENGTH), Done(Script, script)));

    let mut client = lab.connect(Some(SMALL_BUFFER)).await;
    client.ask("GET", INITRAMFS, "").await;
    client.ask("GET", "/boot.ipxe", "").await;
    assert_eq!((lab.seen().await, lab.seen().await), (Requested(Initramfs), Requested(Script)));
    client.head().await;
    client.read(LENGTH / 2).await;
    client.reset();
    assert_failed_after(&mut lab, LENGTH / 2, "Connection reset").await;
    assert_eq!(lab.seen().await, Failed(Script, 0));
}

/// More requests than answers may be in flight.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_without_end_are_answered_as_they_are_read() {
    let mut lab = Lab::start_with_initramfs();
    let mut client = lab.connect(Some(SMALL_BUFFER)).await;
    client.ask("GET", INITRAMFS, "").await;
    for _ in 0..100 {
        client.ask("GET", "/boot.ipxe", "").await;
    }
    for expected in [Requested(Initramfs)].into_iter().chain([Requested(Script); 15]) {
        assert_eq!(lab.seen().await, expected);
    }
    lab.assert_nothing_seen().await;
    client.head().await;
    client.read(LENGTH).await;
    let mut script = 0;
    for _ in 0..100 {
        let head = client.head().await;
        script = content_length(&head);
        client.read(script).await;
    }
    let mut seen = Vec::new();
    while seen.len() < 1 + 85 + 100 {
        seen.push(lab.seen().await);
    }
    let is_done = |seen: &&Seen| matches!(seen, Done(..));
    let done: Vec<_> = seen.iter().filter(is_done).copied().collect();
    assert_eq!(done[0], Done(Initramfs, LENGTH));
    assert_eq!(done[1..], [Done(Script, script); 100]);
    lab.assert_nothing_seen().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_without_the_file_deliver_nothing() {
    let mut lab = Lab::start_with_initramfs();
    let mut client = lab.connect(None).await;
    client.ask("HEAD", INITRAMFS, "").await;
    let head = client.head().await;
    let etag = head.lines().find_map(|line| line.strip_prefix("ETag: ")).unwrap().to_owned();
    lab.assert_nothing_seen().await;
    for (condition, status, expected) in [
        (format!("If-None-Match: {etag}\r\n"), "304", None),
        ("If-Match: \"other\"\r\n".to_owned(), "412", Some(Failed(Initramfs, 0))),
        (format!("Range: bytes={LENGTH}-\r\n"), "416", Some(Failed(Initramfs, 0))),
    ] {
        client.ask("GET", INITRAMFS, &condition).await;
        assert_eq!(&client.head().await[9..12], status);
        assert_eq!(lab.seen().await, Requested(Initramfs), "{condition}");
        if let Some(expected) = expected {
            assert_eq!(lab.seen().await, expected, "{condition}");
        }
        lab.assert_nothing_seen_of(&mut client).await;
    }
    lab.write_initramfs(b"");
    client.ask("GET", INITRAMFS, "").await;
    client.head().await;
    assert_eq!((lab.seen().await, lab.seen().await), (Requested(Initramfs), Done(Initramfs, 0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_download_is_delivered_by_its_rest() {
    let mut lab = Lab::start_with_initramfs();
    let broken_at = LENGTH * 6 / 10;
    lab.read_partly("", broken_at).await.reset();
    assert_failed_after(&mut lab, broken_at, "Connection reset").await;
    // The rest breaks off too, and is resumed with some bytes that are there already.
    let rest = |first: u64| format!("Range: bytes={first}-\r\n");
    lab.read_partly(&rest(broken_at), 200_000).await.reset();
    assert_failed_after(&mut lab, 200_000, "Connection reset").await;
    let mut client = lab.connect(None).await;
    let body = client.get(INITRAMFS, &rest(broken_at + 123_456)).await;
    assert!(initramfs().ends_with(&body), "the file arrived changed");
    assert_eq!((lab.seen().await, lab.seen().await), (Requested(Initramfs), Done(Initramfs, LENGTH)));
    // It has all, and gains nothing by the end of it.
    client.get(INITRAMFS, &rest(LENGTH - 1)).await;
    assert_eq!(lab.seen().await, Requested(Initramfs));
    lab.assert_nothing_seen().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_deliver_when_they_cover_the_file() {
    let mut lab = Lab::start_with_initramfs();
    let mut client = lab.connect(None).await;
    let middle = LENGTH / 2;
    for (last, range) in [
        (false, format!("{}-", LENGTH - 1)),
        (false, format!("{}-", LENGTH - 1)),
        (false, format!("{middle}-{}", LENGTH - 2)),
        (false, format!("0-{}", middle - 2)),
        (false, format!("1-{}", middle - 2)),
        (true, format!("{0}-{0}", middle - 1)),
    ] {
        client.get(INITRAMFS, &format!("Range: bytes={range}\r\n")).await;
        assert_eq!(lab.seen().await, Requested(Initramfs), "{range}");
        if last {
            assert_eq!(lab.seen().await, Done(Initramfs, LENGTH), "{range}");
        }
        lab.assert_nothing_seen_of(&mut client).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_a_changed_file_or_of_an_earlier_download_do_not_count() {
    let mut lab = Lab::start_with_initramfs();
    let mut client = lab.connect(None).await;
    let (middle, path) = (LENGTH / 2, lab.directory.path().join(&INITRAMFS["/assets/".len()..]));
    let (first, second) = (format!("Range: bytes=0-{}\r\n", middle - 1), format!("Range: bytes={middle}-\r\n"));
    client.get(INITRAMFS, &first).await;
    assert_eq!(lab.seen().await, Requested(Initramfs));
    // The first part has arrived before the file changes.
    lab.assert_nothing_seen_of(&mut client).await;
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    client.get(INITRAMFS, &second).await;
    assert_eq!(lab.seen().await, Requested(Initramfs));
    lab.assert_nothing_seen_of(&mut client).await;

    // The machine begins again with all of the file, and breaks off at once.
    let broken = lab.read_partly("", 1).await;
    broken.reset();
    assert_failed_after(&mut lab, 1, "Connection reset").await;
    client.get(INITRAMFS, &first).await;
    assert_eq!(lab.seen().await, Requested(Initramfs));
    lab.assert_nothing_seen_of(&mut client).await;
    client.get(INITRAMFS, &second).await;
    assert_eq!((lab.seen().await, lab.seen().await), (Requested(Initramfs), Done(Initramfs, LENGTH)));
}

/// While the server is still writing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reset_in_the_middle_of_a_large_file_is_a_failure() {
    let mut lab = Lab::start();
    let path = lab.directory.path().join(&INITRAMFS["/assets/".len()..]);
    std::fs::File::create(path).unwrap().set_len(1 << 30).unwrap();
    let mut client = lab.connect(Some(SMALL_BUFFER)).await;
    client.ask("GET", INITRAMFS, "").await;
    client.head().await;
    client.read(10_000_000).await;
    client.reset();
    assert_eq!(lab.seen().await, Requested(Initramfs));
    assert_failed_after(&mut lab, 10_000_000, "the connection broke").await;
}

/// Neither as done, though the server had written all, nor as the machine's fault.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answer_in_flight_when_the_server_stops_is_announced() {
    let mut lab = Lab::start_with_initramfs();
    let mut waiting = lab.read_partly("", LENGTH / 2).await;
    let mut reading = lab.read_partly("", LENGTH / 2).await;
    lab.stop.take().unwrap().send(()).unwrap();
    // A response that the client reads during the shutdown period is delivered.
    reading.read(LENGTH / 2).await;
    assert_eq!(lab.seen().await, Done(Initramfs, LENGTH));
    assert_failed_after(&mut lab, LENGTH / 2, "pxed stopped before the last byte was acknowledged").await;
    in_time(&mut lab.served).await.unwrap().unwrap();
    // The kernel goes on with what it had.
    let mut rest = Vec::new();
    in_time(waiting.0.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest.len() as u64, LENGTH / 2);
    assert_eq!(lab.events.recv().await.map(|event| event.kind), None::<EventKind>);
    let refused = TcpStream::connect(lab.address).await.map_err(|error| error.kind());
    assert_eq!(refused.err(), Some(io::ErrorKind::ConnectionRefused));
}
