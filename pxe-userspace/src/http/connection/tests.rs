//! Tests that would take a minute: a real socket, with a clock that advances whenever all tasks are idle.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::Ipv4Addr,
};

use arc_swap::ArcSwap;
use socket2::{Domain, Socket, Type};
use tokio::{net::TcpListener, sync::mpsc};

use super::*;
use crate::{
    artifacts::Store,
    http::{places::Client, routes, stream::Broken},
    model::{
        architecture::Architecture,
        event::{BootEvent, EventKind, EventSink},
        inventory::Inventory,
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
            events,
            policies: Arc::default(),
            metrics: Arc::default(),
            coverage: Default::default(),
            places: Default::default(),
            visits: Default::default(),
            check_source: true,
            http_port: 8000,
        };
        Self { directory, context: Arc::new(context), events: receiver, phase: watch::Sender::new(Phase::Serving) }
    }

    /// Creates a connection of the machine at 127.0.0.1, which has sent `request` and reads nothing. Also returns the
    /// client, whose window is small.
    async fn connection(&self, request: &str) -> (Connection, std::net::TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        client.set_recv_buffer_size(16 * 1024).unwrap();
        client.connect(&listener.local_addr().unwrap().into()).unwrap();
        let mut client = std::net::TcpStream::from(client);
        client.write_all(request.as_bytes()).unwrap();
        let (tcp, peer) = listener.accept().await.unwrap();
        let router = routes::router(Arc::clone(&self.context));
        let seated = self.context.places.seat(peer.ip(), Client::Machine).await.unwrap();
        let seat = (peer.ip(), Arc::clone(&seated.seat));
        (Connection::new(tcp, seat, Arc::clone(&self.context), router, self.phase.subscribe()), client)
    }

    fn events(&mut self) -> Vec<EventKind> {
        std::iter::from_fn(|| self.events.try_recv().ok()).map(|event| event.kind).collect()
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
                assert_eq!(reason.to_string(), Broken::Stalled.to_string());
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
            assert_eq!(reason.to_string(), Broken::Stalled.to_string());
            assert!((1..LENGTH).contains(bytes), "{bytes} bytes acknowledged");
        }
        other => panic!("{other:?}"),
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
