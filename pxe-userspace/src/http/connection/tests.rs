//! Tests that would take a minute: a real socket, with a clock that advances whenever all tasks are idle.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsFd as _, OwnedFd},
};

use arc_swap::ArcSwap;
use socket2::{Domain, Socket, Type};
use tokio::{net::TcpListener, sync::mpsc};

use super::*;
use crate::{
    artifacts::Store,
    http::{
        pace::{PATIENCE, PERIOD, TooSlow},
        places::Client,
        routes,
        send_queue::SendQueue,
        stream::Broken,
    },
    model::{
        architecture::Architecture,
        event::{BootEvent, EventKind, EventSink},
        inventory::Inventory,
        progress::ProgressBoard,
        testing::machine,
    },
};

/// A length that the server's socket takes at once.
const LENGTH: u64 = 1 << 20;

struct Lab {
    directory: tempfile::TempDir,
    context: Arc<Context>,
    events: mpsc::Receiver<BootEvent>,
    phase: watch::Sender<Phase>,
}

impl Lab {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("initramfs"), vec![7; LENGTH as usize]).unwrap();
        let (events, receiver) = EventSink::channel(16);
        let inventory = Inventory::new(vec![machine(1, Architecture::Amd64, "v1.13.0", None)]);
        let context = Context {
            inventory: Arc::new(ArcSwap::from_pointee(inventory)),
            catalog: Arc::default(),
            store: Arc::new(Store::new(directory.path().to_owned())),
            images: Default::default(),
            ukis: Default::default(),
            talos_configs: None,
            events,
            policies: Arc::default(),
            metrics: Arc::default(),
            coverage: Default::default(),
            changes: Default::default(),
            places: Default::default(),
            visits: Default::default(),
            check_source: true,
            guard: None,
            http_port: 8000,
            progress: Arc::new(ProgressBoard::new(64)),
        };
        Self { directory, context: Arc::new(context), events: receiver, phase: watch::Sender::new(Phase::Serving) }
    }

    /// Creates a connection of the machine at 127.0.0.1, which has sent `request` and reads nothing. Also returns the
    /// client, whose window is small.
    async fn connection(&self, request: &str) -> (Connection, std::net::TcpStream) {
        let (connection, reader) = self.connection_of_a_reader(request, 16 * 1024).await;
        (connection, reader.client)
    }

    /// Creates such a connection, whose client has a receive buffer of this size.
    async fn connection_of_a_reader(&self, request: &str, buffer: usize) -> (Connection, Reader) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        client.set_recv_buffer_size(buffer).unwrap();
        client.connect(&listener.local_addr().unwrap().into()).unwrap();
        let mut client = std::net::TcpStream::from(client);
        client.write_all(request.as_bytes()).unwrap();
        let (tcp, peer) = listener.accept().await.unwrap();
        let router = routes::router(Arc::clone(&self.context));
        let reader = Reader { server: tcp.as_fd().try_clone_to_owned().unwrap(), client, head: 0, read: 0 };
        let seated = self.context.places.seat(peer.ip(), Client::Machine).await.unwrap();
        let ends = (peer.ip(), SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.context.http_port));
        let seat = Arc::clone(&seated.seat);
        (Connection::new(tcp, ends, seat, Arc::clone(&self.context), router, self.phase.subscribe()), reader)
    }

    fn events(&mut self) -> Vec<EventKind> {
        std::iter::from_fn(|| self.events.try_recv().ok()).map(|event| event.kind).collect()
    }
}

/// A client that reads when it is told to, beside a look at the server's socket.
struct Reader {
    server: OwnedFd,
    client: std::net::TcpStream,
    /// The length of the answer's head.
    head: usize,
    read: usize,
}

impl Reader {
    /// Reads until the server sees an acknowledgement. It takes real time, and none on the advancing clock.
    fn acknowledge_some(&mut self) {
        self.client.set_nonblocking(true).unwrap();
        let unacknowledged = || SendQueue::of(&self.server).unwrap().unacknowledged;
        let before = unacknowledged();
        let mut scratch = [0; 2048];
        while unacknowledged() >= before {
            match self.client.read(&mut scratch) {
                Ok(0) => panic!("the server has ended the answer"),
                Ok(count) => {
                    if self.read == 0 {
                        let end = scratch[..count].windows(4).position(|window| window == b"\r\n\r\n");
                        self.head = end.expect("a head") + 4;
                    }
                    self.read += count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => panic!("{error} after {} bytes", self.read),
            }
        }
    }
}

/// Serves a connection to its end, which must come within an hour on the advancing clock.
async fn ended(connection: Connection) {
    timeout(Duration::from_secs(3600), connection.run()).await.expect("the connection does not end");
}

#[tokio::test(start_paused = true)]
async fn client_that_falls_silent_has_lost_its_answer_after_a_minute() {
    for headers in ["", "Connection: close\r\n"] {
        let mut lab = Lab::new();
        let request = format!("GET /assets/initramfs HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        let (connection, mut client) = lab.connection(&request).await;
        let began = Instant::now();
        ended(connection).await;
        let lasted = began.elapsed();
        assert!((60..62).contains(&lasted.as_secs()), "{lasted:?}");
        match lab.events().as_slice() {
            [EventKind::Requested { .. }, EventKind::Failed { bytes, reason, .. }] => {
                assert_eq!(reason.to_string(), Broken::Stalled(TooSlow::Silent).to_string());
                assert!((1..LENGTH / 2).contains(bytes), "{bytes} bytes acknowledged");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(lab.context.metrics.refusals(Refused::Timeout), 1);
        // The bytes that were announced as lost do not arrive.
        let mut rest = Vec::new();
        assert_eq!(client.read_to_end(&mut rest).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert!((rest.len() as u64) < LENGTH / 2);
    }
}

/// The client falls silent while the server still writes: the file does not fit into the socket.
#[tokio::test(start_paused = true)]
async fn client_that_falls_silent_in_the_middle_is_given_up() {
    let mut lab = Lab::new();
    std::fs::File::create(lab.directory.path().join("initramfs")).unwrap().set_len(1 << 30).unwrap();
    let (connection, _client) = lab.connection("GET /assets/initramfs HTTP/1.1\r\nHost: x\r\n\r\n").await;
    ended(connection).await;
    match lab.events().as_slice() {
        [EventKind::Requested { .. }, EventKind::Failed { bytes, reason, .. }] => {
            assert_eq!(reason.to_string(), Broken::Stalled(TooSlow::Silent).to_string());
            assert!((1..LENGTH).contains(bytes), "{bytes} bytes acknowledged");
        }
        other => panic!("{other:?}"),
    }
}

/// A few kilobytes in each half minute: the socket, which holds megabytes, takes nothing more for much longer than a minute.
#[tokio::test(start_paused = true)]
async fn slow_reader_is_served_as_long_as_it_acknowledges_something() {
    let mut lab = Lab::new();
    std::fs::File::create(lab.directory.path().join("initramfs")).unwrap().set_len(1 << 30).unwrap();
    let (connection, mut reader) =
        lab.connection_of_a_reader("GET /assets/initramfs HTTP/1.1\r\nHost: x\r\n\r\n", 16 * 1024).await;
    let task = tokio::spawn(connection.run());
    let pause = PATIENCE / 2;
    let began = Instant::now();
    while began.elapsed() < 3 * PERIOD {
        tokio::time::sleep(pause).await;
        assert!(!task.is_finished(), "given up after {:?} and {} bytes", began.elapsed(), reader.read);
        reader.acknowledge_some();
    }
    assert!(reader.read < 1 << 22, "{} bytes are not slow", reader.read);
    // Then it falls silent.
    let began = Instant::now();
    task.await.unwrap();
    let lasted = began.elapsed();
    assert!((PATIENCE..PATIENCE + Duration::from_secs(6)).contains(&lasted), "{lasted:?}");
    match lab.events().as_slice() {
        [EventKind::Requested { .. }, EventKind::Failed { reason, .. }] => {
            assert_eq!(reason.to_string(), Broken::Stalled(TooSlow::Silent).to_string());
        }
        other => panic!("{other:?}"),
    }
}

/// The whole answer is in the socket, and the client needs half an hour for it.
#[tokio::test(start_paused = true)]
async fn slow_reader_gets_the_end_of_its_answer() {
    for request in [
        "GET /assets/initramfs HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /assets/initramfs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ] {
        let mut lab = Lab::new();
        let (connection, mut reader) = lab.connection_of_a_reader(request, 16 * 1024).await;
        let task = tokio::spawn(connection.run());
        let began = Instant::now();
        while reader.read < LENGTH as usize - 64 * 1024 {
            tokio::time::sleep(PATIENCE / 2).await;
            assert!(!task.is_finished(), "given up after {:?} and {} bytes", began.elapsed(), reader.read);
            reader.acknowledge_some();
        }
        assert!(began.elapsed() > 2 * PERIOD, "{:?} is not slow", began.elapsed());
        reader.client.set_nonblocking(false).unwrap();
        let mut rest = vec![0; reader.head + LENGTH as usize - reader.read];
        reader.client.read_exact(&mut rest).unwrap();
        drop(reader);
        task.await.unwrap();
        let events = lab.events();
        assert!(matches!(events.as_slice(), [EventKind::Requested { .. }, EventKind::Done { .. }]), "{events:?}");
    }
}

/// A client that acknowledges a little in each minute is not silent, but it cannot keep its connection for ever.
#[tokio::test(start_paused = true)]
async fn client_that_only_drips_is_given_up() {
    // While the server still writes, and when all is written.
    for length in [1 << 30, LENGTH] {
        let mut lab = Lab::new();
        std::fs::File::create(lab.directory.path().join("initramfs")).unwrap().set_len(length).unwrap();
        let (connection, mut reader) =
            lab.connection_of_a_reader("GET /assets/initramfs HTTP/1.1\r\nHost: x\r\n\r\n", 1).await;
        let mut task = tokio::spawn(connection.run());
        let began = Instant::now();
        // The clock advances only while both wait.
        while timeout(PATIENCE - Duration::from_secs(10), &mut task).await.is_err() {
            reader.acknowledge_some();
        }
        let lasted = began.elapsed();
        assert!((PERIOD..PERIOD + Duration::from_secs(60)).contains(&lasted), "{lasted:?} and {} bytes", reader.read);
        match lab.events().as_slice() {
            [EventKind::Requested { .. }, EventKind::Failed { reason, .. }] => {
                assert_eq!(reason.to_string(), Broken::Stalled(TooSlow::Dripping).to_string());
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(lab.context.metrics.refusals(Refused::Timeout), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn idle_connection_ends_after_a_minute_without_a_word() {
    let mut lab = Lab::new();
    let (connection, mut client) = lab.connection("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let began = Instant::now();
    ended(connection).await;
    assert_eq!(began.elapsed().as_secs(), 60);
    assert_eq!(lab.events(), []);
    assert_eq!(lab.context.metrics.refusals(Refused::Timeout), 0);
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nmatchbox\n"), "{answer}");
}

/// A dropped connection task cannot say why it ended, so the announced reason is that pxed stopped.
#[tokio::test]
async fn connection_that_is_dropped_announces_what_was_on_its_way() {
    let mut lab = Lab::new();
    let (connection, _client) = lab.connection("GET /assets/initramfs HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let context = Arc::clone(&lab.context);
    let task = tokio::spawn(connection.run());
    // Wait until the answer is written.
    while context.metrics.sent_bytes() < LENGTH {
        tokio::task::yield_now().await;
    }
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    match lab.events().as_slice() {
        [EventKind::Requested { .. }, EventKind::Failed { bytes, reason, .. }] => {
            assert!(reason.contains("pxed stopped"), "{reason}");
            assert!((1..LENGTH / 2).contains(bytes), "{bytes} bytes acknowledged");
        }
        other => panic!("{other:?}"),
    }
}
