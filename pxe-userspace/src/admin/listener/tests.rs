use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::SocketAddr,
};

use axum::{Router, routing::get};
use tokio::{task::yield_now, time::advance};

use super::*;

const LIMIT: usize = 3;

/// Serves a page of this length.
async fn serve(length: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limited = Limited::new(listener, LIMIT);
    let page = "x".repeat(length);
    let router = Router::new().route("/", get(async move || page));
    tokio::spawn(axum::serve(limited, router).into_future());
    address
}

fn connect(address: SocketAddr) -> std::net::TcpStream {
    let client = std::net::TcpStream::connect(address).unwrap();
    client.set_nonblocking(true).unwrap();
    client
}

/// Reads until something arrives. Returns `None` if the connection has ended.
async fn read(client: &mut std::net::TcpStream) -> Option<usize> {
    let mut buffer = [0; 1 << 16];
    loop {
        match client.read(&mut buffer) {
            Ok(0) => return None,
            Ok(count) => return Some(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => yield_now().await,
            Err(_) => return None,
        }
    }
}

async fn ask(client: &mut std::net::TcpStream) -> Option<usize> {
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").ok()?;
    read(client).await
}

fn is_open(client: &mut std::net::TcpStream) -> bool {
    matches!(client.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

#[tokio::test(start_paused = true)]
async fn connection_that_was_never_answered_makes_room_then_the_one_answered_first() {
    let address = serve(1).await;
    let mut clients = Vec::new();
    for _ in 0..LIMIT {
        clients.push(connect(address));
    }
    assert!(ask(&mut clients[2]).await.is_some());
    assert!(ask(&mut clients[0]).await.is_some());
    // The one in between has asked nothing.
    let mut newcomer = connect(address);
    assert!(ask(&mut newcomer).await.is_some());
    assert_eq!(read(&mut clients[1]).await, None);
    let mut another = connect(address);
    assert!(ask(&mut another).await.is_some());
    assert_eq!(read(&mut clients[2]).await, None);
    assert!(is_open(&mut clients[0]) && is_open(&mut newcomer));
}

#[tokio::test(start_paused = true)]
async fn many_idle_connections_keep_nobody_out() {
    let address = serve(1).await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(connect(address));
        let mut client = connect(address);
        assert!(ask(&mut client).await.is_some());
    }
    let mut open = 0;
    for client in &mut idle {
        open += usize::from(is_open(client));
    }
    assert!(open <= LIMIT, "{open} are open");
}

#[tokio::test(start_paused = true)]
async fn idle_client_is_left_after_its_time() {
    let address = serve(1).await;
    let mut client = connect(address);
    assert!(ask(&mut client).await.is_some());
    let begun = Instant::now();
    assert_eq!(read_later(&mut client).await, None);
    assert!((IDLE..IDLE + STALLED).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn request_that_trickles_in_is_left_after_its_time() {
    let address = serve(1).await;
    let mut client = connect(address);
    let begun = Instant::now();
    let request = b"GET / HTTP/1.1\r\nx: ".iter().chain(std::iter::repeat(&b'x'));
    for byte in request {
        if client.write_all(&[*byte]).is_err() || !is_open(&mut client) {
            break;
        }
        advance(Duration::from_secs(1)).await;
        yield_now().await;
        assert!(begun.elapsed() < IDLE, "still open");
    }
    assert!(begun.elapsed() >= REQUEST, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn client_that_reads_nothing_is_left_after_its_time() {
    let address = serve(64 << 20).await;
    let mut client = connect(address);
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let begun = Instant::now();
    while begun.elapsed() < STALLED + Duration::from_secs(5) {
        advance(Duration::from_secs(1)).await;
        yield_now().await;
    }
    let mut received = 0;
    while let Some(count) = read(&mut client).await {
        received += count;
    }
    assert!(received < 64 << 20, "the whole page arrived");
}

#[tokio::test(start_paused = true)]
async fn request_without_end_is_left() {
    let address = serve(1).await;
    let mut client = connect(address);
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 999999999\r\n\r\n").unwrap();
    let mut sent = 0;
    loop {
        match client.write(&[b'x'; 4096]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
        yield_now().await;
        assert!(sent < 64 << 20, "the request is read for ever");
    }
}

/// A source with many connections makes room, not the one whose only answer is older.
#[tokio::test(start_paused = true)]
async fn source_with_most_connections_makes_room() {
    let address = serve(1).await;
    let from = |host: u8| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, host], 0)).into()).unwrap();
        socket.connect(&address.into()).unwrap();
        socket.set_nonblocking(true).unwrap();
        std::net::TcpStream::from(socket)
    };
    let mut honest = from(2);
    assert!(ask(&mut honest).await.is_some());
    for _ in 0..20 {
        let mut greedy = from(3);
        assert!(ask(&mut greedy).await.is_some());
        // Dropped only by the listener.
        std::mem::forget(greedy);
    }
    assert!(ask(&mut honest).await.is_some());
}

/// Reads while the clock advances.
async fn read_later(client: &mut std::net::TcpStream) -> Option<usize> {
    while is_open(client) {
        advance(Duration::from_secs(1)).await;
        yield_now().await;
    }
    read(client).await
}
