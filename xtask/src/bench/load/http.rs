//! Many HTTP clients on one thread. They share two processors with the server, so they must be cheap: a body is discarded
//! in the kernel (`recv` with `MSG_TRUNC`), never copied.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, bind, connect, getsockopt, recv, send, setsockopt,
            socket, sockopt,
        },
    },
};

/// The load that the clients generate.
pub(crate) struct HttpLoad {
    /// The server's address.
    pub(crate) server: SocketAddrV4,
    /// Connections that are open at once.
    pub(crate) connections: usize,
    /// The requested targets, in turn; after the last one comes the first again.
    pub(crate) targets: Vec<Target>,
    /// Ends after this number of requests; `None` ends when the time is up.
    pub(crate) requests: Option<usize>,
    /// Requests that one connection makes before its client closes it. A machine's iPXE makes one.
    pub(crate) requests_per_connection: usize,
    /// The time limit. Requests that still run then are aborted: failures if `requests` is given.
    pub(crate) within: Duration,
}

/// The request of one machine.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The source address; `None` leaves the choice to the kernel.
    pub(crate) source: Option<Ipv4Addr>,
    /// Path and query.
    pub(crate) path: String,
}

/// The result of a load.
#[derive(Debug, Default)]
pub(crate) struct HttpOutcome {
    /// Bytes of bodies, including aborted ones.
    pub(crate) bytes: u64,
    /// Requests answered completely with 200.
    pub(crate) requests: usize,
    /// Requests that failed, and the first reason.
    pub(crate) failures: usize,
    pub(crate) first_failure: Option<String>,
    /// From the first connection to the last byte.
    pub(crate) elapsed: Duration,
    /// From the connection (on a kept-alive connection, from the request) to the last byte; sorted.
    latencies: Vec<Duration>,
    /// From the same moment to the first byte of the body; sorted. Requests that failed later are among them.
    first_bytes: Vec<Duration>,
}

impl HttpOutcome {
    /// Returns GiB of bodies a second.
    pub(crate) fn gib_per_second(&self) -> f64 {
        self.gib() / self.elapsed.as_secs_f64()
    }

    /// Returns GiB of bodies.
    pub(crate) fn gib(&self) -> f64 {
        self.bytes as f64 / f64::from(1 << 30)
    }

    /// Returns complete answers a second.
    pub(crate) fn requests_per_second(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }

    /// Returns the time within which this share (0 to 1) of the requests were answered.
    pub(crate) fn latency(&self, share: f64) -> Duration {
        quantile(&self.latencies, share)
    }

    /// Returns the time within which this share (0 to 1) of the requests got the first byte of their body.
    pub(crate) fn first_byte(&self, share: f64) -> Duration {
        quantile(&self.first_bytes, share)
    }
}

fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
}

/// The number of bytes that one call may discard. The memory is never written to.
const DISCARD: usize = 1 << 20;

/// The longest response head.
const HEAD_LIMIT: usize = 4096;

/// Runs the clients on the calling thread, in its network namespace.
///
/// # Errors
///
/// Fails if there is no target, or the kernel gives out no socket. Errors of the server are in the outcome.
pub(crate) fn run(load: &HttpLoad) -> anyhow::Result<HttpOutcome> {
    ensure!(!load.targets.is_empty() && load.requests_per_connection > 0, "nothing to ask for");
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll")?;
    let mut clients = Clients { load, epoll, begun: 0, outcome: HttpOutcome::default(), scratch: vec![0; DISCARD] };
    let started = Instant::now();
    let deadline = started + load.within;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    for slot in 0..load.connections {
        connections.push(clients.open(slot)?);
    }
    let mut events = vec![EpollEvent::empty(); 256];
    let mut open = connections.iter().flatten().count();
    while open > 0 {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let timeout = EpollTimeout::try_from(left.min(Duration::from_millis(100))).context("epoll")?;
        let count = match clients.epoll.wait(&mut events, timeout) {
            Err(Errno::EINTR) => continue,
            count => count.context("epoll")?,
        };
        for event in &events[..count] {
            let slot = usize::try_from(event.data())?;
            let Some(connection) = connections.get_mut(slot).and_then(Option::as_mut) else { continue };
            if clients.advance(connection) == Progress::Over {
                connections[slot] = None;
                connections[slot] = clients.open(slot)?;
                open -= usize::from(connections[slot].is_none());
            }
        }
    }
    let Clients { mut outcome, .. } = clients;
    outcome.elapsed = started.elapsed();
    if load.requests.is_some() && open > 0 {
        outcome.failures += open;
        outcome.first_failure.get_or_insert_with(|| "not answered in time".to_owned());
    }
    outcome.latencies.sort_unstable();
    outcome.first_bytes.sort_unstable();
    Ok(outcome)
}

struct Connection {
    socket: OwnedFd,
    /// The request, and the number of bytes sent.
    request: Vec<u8>,
    sent: usize,
    /// The response head received so far; empty once it was complete.
    head: Vec<u8>,
    /// Bytes of the body still missing, once the head is complete.
    body: Option<u64>,
    /// Set once a byte of the body has come.
    has_begun: bool,
    began: Instant,
    /// Requests left, including this one.
    requests: usize,
}

#[derive(PartialEq)]
enum Progress {
    Waiting,
    Over,
}

struct Clients<'l> {
    load: &'l HttpLoad,
    epoll: Epoll,
    /// Requests started.
    begun: usize,
    outcome: HttpOutcome,
    scratch: Vec<u8>,
}

impl Clients<'_> {
    /// Opens the next connection. Returns `None` if there are no more requests to make.
    fn open(&mut self, slot: usize) -> anyhow::Result<Option<Connection>> {
        loop {
            let left = self.load.requests.map_or(usize::MAX, |requests| requests.saturating_sub(self.begun));
            if left == 0 {
                return Ok(None);
            }
            let requests = self.load.requests_per_connection.min(left);
            let target = &self.load.targets[self.begun / self.load.requests_per_connection % self.load.targets.len()];
            self.begun += requests;
            let began = Instant::now();
            let socket = match self.connect(target) {
                Ok(socket) => socket,
                Err(error) => {
                    self.fail(requests, &format!("connecting: {error}"));
                    continue;
                }
            };
            // Edge-triggered: a connection needs only one registration in its lifetime.
            let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
            self.epoll.add(&socket, EpollEvent::new(interest, slot as u64)).context("epoll")?;
            let request = format!(
                "GET {} HTTP/1.1\r\nConnection: keep-alive\r\nUser-Agent: iPXE/1.21.1\r\nHost: {}\r\n\r\n",
                target.path, self.load.server
            );
            return Ok(Some(Connection {
                socket,
                request: request.into_bytes(),
                sent: 0,
                head: Vec::new(),
                body: None,
                has_begun: false,
                began,
                requests,
            }));
        }
    }

    fn connect(&self, target: &Target) -> nix::Result<OwnedFd> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
        setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
        if let Some(source) = target.source {
            bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(source, 0)))?;
        }
        match connect(socket.as_raw_fd(), &SockaddrIn::from(self.load.server)) {
            Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket),
            Err(error) => Err(error),
        }
    }

    fn fail(&mut self, requests: usize, reason: &str) {
        self.outcome.failures += requests;
        self.outcome.first_failure.get_or_insert_with(|| reason.to_owned());
    }

    /// Makes all progress that is possible without waiting.
    fn advance(&mut self, connection: &mut Connection) -> Progress {
        match self.try_advance(connection) {
            Ok(progress) => progress,
            Err(error) => {
                self.fail(connection.requests, &error.to_string());
                Progress::Over
            }
        }
    }

    fn try_advance(&mut self, connection: &mut Connection) -> io::Result<Progress> {
        loop {
            let done = if connection.sent < connection.request.len() {
                self.send(connection)?
            } else if let Some(left) = connection.body {
                self.discard(connection, left)?
            } else {
                self.read_head(connection)?
            };
            if !done {
                return Ok(Progress::Waiting);
            }
            if connection.body == Some(0) {
                self.outcome.requests += 1;
                self.outcome.latencies.push(connection.began.elapsed());
                connection.requests -= 1;
                if connection.requests == 0 {
                    return Ok(Progress::Over);
                }
                connection.began = Instant::now();
                connection.sent = 0;
                connection.body = None;
            }
        }
    }

    /// Sends the request. Returns `false` if the socket would block.
    fn send(&self, connection: &mut Connection) -> io::Result<bool> {
        let socket = connection.socket.as_raw_fd();
        match send(socket, &connection.request[connection.sent..], MsgFlags::MSG_NOSIGNAL) {
            Ok(count) => connection.sent += count,
            // Not connected yet, or never.
            Err(Errno::EAGAIN | Errno::ENOTCONN) => {
                return match getsockopt(&connection.socket, sockopt::SocketError)? {
                    0 => Ok(false),
                    error => Err(io::Error::from_raw_os_error(error)),
                };
            }
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }

    fn read_head(&mut self, connection: &mut Connection) -> io::Result<bool> {
        let room = HEAD_LIMIT.saturating_sub(connection.head.len());
        match recv(connection.socket.as_raw_fd(), &mut self.scratch[..room], MsgFlags::empty()) {
            Ok(0) => return Err(io::Error::other("no response head, or one longer than the limit")),
            Ok(count) => connection.head.extend_from_slice(&self.scratch[..count]),
            Err(Errno::EAGAIN) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let Some(end) = connection.head.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return Ok(true) };
        let length = content_length(&connection.head[..end])?;
        let came = (connection.head.len() - end - 4) as u64;
        if came > 0 {
            self.outcome.first_bytes.push(connection.began.elapsed());
        }
        connection.has_begun = came > 0;
        connection.head.clear();
        self.outcome.bytes += came;
        let left = length.checked_sub(came).ok_or_else(|| io::Error::other("more came than was announced"))?;
        connection.body = Some(left);
        Ok(true)
    }

    fn discard(&mut self, connection: &mut Connection, left: u64) -> io::Result<bool> {
        let room = left.min(DISCARD as u64) as usize;
        match recv(connection.socket.as_raw_fd(), &mut self.scratch[..room], MsgFlags::MSG_TRUNC) {
            Ok(0) => Err(io::Error::other("the server closed the connection within a body")),
            Ok(count) => {
                self.outcome.bytes += count as u64;
                if !connection.has_begun {
                    connection.has_begun = true;
                    self.outcome.first_bytes.push(connection.began.elapsed());
                }
                connection.body = Some(left - count as u64);
                // A short count means that the socket is drained: more bytes raise an event.
                Ok(count == room)
            }
            Err(Errno::EAGAIN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn content_length(head: &[u8]) -> io::Result<u64> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        return Err(io::Error::other(format!("the server said {status:?}")));
    }
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    length.ok_or_else(|| io::Error::other("no Content-Length"))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{SocketAddr, TcpListener},
        thread,
    };

    use super::*;

    fn load(server: SocketAddr, requests: usize, requests_per_connection: usize) -> HttpLoad {
        let SocketAddr::V4(server) = server else { panic!("not IPv4") };
        HttpLoad {
            server,
            connections: 2,
            targets: vec![Target { source: None, path: "/x".to_owned() }],
            requests: Some(requests),
            requests_per_connection,
            within: Duration::from_secs(20),
        }
    }

    #[test]
    fn bodies_are_counted_and_failures_too() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let mut request = [0; 4096];
                    while let Ok(1..) = stream.read(&mut request) {
                        let status = if number == 3 { "500 Broken" } else { "200 OK" };
                        let body = vec![b'x'; 3_000_000];
                        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
                        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
                    }
                });
            }
        });
        let outcome = run(&load(server, 9, 2)).unwrap();
        // The fourth connection was refused both of its requests.
        assert_eq!((outcome.requests, outcome.failures), (7, 2), "{:?}", outcome.first_failure);
        assert_eq!(outcome.bytes, 7 * 3_000_000);
        assert!(outcome.latency(1.0) >= outcome.latency(0.5) && outcome.gib_per_second() > 0.0);
    }

    #[test]
    fn first_byte_has_a_clock_of_its_own() {
        const PAUSE: Duration = Duration::from_millis(50);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n");
                // The head is not the first byte.
                thread::sleep(PAUSE);
                let _ = stream.write_all(b"x");
                // The last byte never comes, and the end is an event of its own.
                thread::sleep(PAUSE);
            }
        });
        let outcome = run(&load(server, 3, 1)).unwrap();
        assert_eq!((outcome.requests, outcome.failures), (0, 3), "{:?}", outcome.first_failure);
        assert_eq!((outcome.first_bytes.len(), outcome.bytes), (3, 3));
        assert!(outcome.first_byte(0.0) >= PAUSE, "{:?}", outcome.first_byte(0.0));
        assert!(outcome.first_byte(1.0) >= outcome.first_byte(0.5));
    }

    #[test]
    fn absent_server_is_a_failure() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        drop(listener);
        let outcome = run(&load(server, 3, 1)).unwrap();
        assert_eq!((outcome.requests, outcome.failures), (0, 3));
        assert!(outcome.first_failure.unwrap().contains("refused"));
    }
}
