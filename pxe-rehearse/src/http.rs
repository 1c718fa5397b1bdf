//! The simulator's own HTTP/1.1 client: TCP from the machine's address; bodies are counted and discarded.
//!
//! Nothing here blocks: the owner of the sockets polls them and calls when there is something to do.

use std::{
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    os::fd::AsRawFd as _,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, recv, setsockopt, sockopt},
};
use socket2::{Domain, Protocol, Socket, Type};

mod message;
mod response;

pub(crate) use message::{HttpRequest, HttpResponse};
use response::Response;

/// The time that a connection may take. iPXE sends six SYNs, first a quarter of a second apart, then doubled. Here the kernel
/// sends them, but the limit is the same.
const CONNECT_LIMIT: Duration = Duration::from_secs(16);
/// The silence after which a request has failed. iPXE itself waits as long as the connection lives.
const SILENCE: Duration = Duration::from_secs(30);
/// The number of reads from one connection before another gets its turn.
const READS: usize = 4;
/// The length of the buffer for reading. Only its first few KiB are ever touched: discarded bytes are not copied.
const SCRATCH_BYTES: usize = 1024 * 1024;
/// The room for a head. It is small, so that little of the body behind it is copied in vain.
const HEAD_BYTES: usize = 2048;

/// The buffer that all connections are read into.
pub(crate) struct Scratch(Vec<u8>);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(vec![0; SCRATCH_BYTES])
    }
}

/// The state of a request.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Waits for the socket.
    Waits,
    /// There may be more to read right away.
    HasMore,
    /// The response, or why there is none.
    Over(Result<HttpResponse, String>),
}

/// A connection, which the next request to the same server may use as well.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    host: SocketAddrV4,
}

#[derive(Debug)]
struct Job {
    request: Box<HttpRequest>,
    head: String,
    /// The number of bytes of the head that were sent.
    sent: usize,
    response: Response,
    deadline: Duration,
    /// The connection was used before, so the server may have closed it since.
    is_reused: bool,
    is_connected: bool,
}

/// The HTTP client of one machine: one request at a time.
#[derive(Debug)]
pub(crate) struct Client {
    source: Ipv4Addr,
    connection: Option<Connection>,
    job: Option<Box<Job>>,
}

/// The connection, if it is a new one.
pub(crate) type Fresh<'a> = Option<&'a TcpStream>;

impl Client {
    pub(crate) const fn new(source: Ipv4Addr) -> Self {
        Self { source, connection: None, job: None }
    }

    /// Begins a request, on the last connection if that leads to the same server. Returns a new connection.
    ///
    /// # Errors
    ///
    /// Returns why the kernel refuses a connection, for people.
    pub(crate) fn begin(&mut self, now: Duration, request: Box<HttpRequest>) -> Result<Fresh<'_>, String> {
        let method = if request.head_only { "HEAD" } else { "GET" };
        let HttpRequest { path, host_header, user_agent, .. } = &*request;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nConnection: keep-alive\r\nUser-Agent: {user_agent}\r\nHost: {host_header}\r\n\r\n"
        );
        let is_reused = self.connection.as_ref().is_some_and(|last| last.host == request.host);
        let response = Response::new(request.head_only, request.keep);
        let deadline = now + if is_reused { SILENCE } else { CONNECT_LIMIT };
        let job = Job { request, head, sent: 0, response, deadline, is_reused, is_connected: is_reused };
        let host = job.request.host;
        self.job = Some(Box::new(job));
        if is_reused { Ok(None) } else { self.connect(host).map(Some) }
    }

    fn connect(&mut self, host: SocketAddrV4) -> Result<&TcpStream, String> {
        self.connection = None;
        let opened = open(self.source, host).map_err(|reason| self.failed(&reason));
        let connection = self.connection.insert(Connection { stream: opened?, host });
        Ok(&connection.stream)
    }

    /// Returns when [`Self::on_timer`] must be called.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.job.as_ref().map(|job| job.deadline)
    }

    /// Handles the passing of time. Returns why the request failed, if its time is up.
    pub(crate) fn on_timer(&mut self, now: Duration) -> Option<String> {
        let job = self.job.as_ref().filter(|job| job.deadline <= now)?;
        let reason = if job.is_connected {
            format!("nothing arrived for {} s", SILENCE.as_secs())
        } else {
            format!("no connection within {} s", CONNECT_LIMIT.as_secs())
        };
        Some(self.failed(&reason))
    }

    /// Ends the request and returns why it failed, with its URL.
    fn failed(&mut self, reason: &str) -> String {
        self.connection = None;
        match self.job.take() {
            Some(job) => format!("http://{}{}: {reason}", job.request.host, job.request.path),
            None => reason.to_owned(),
        }
    }

    /// Sends and receives as much as possible without blocking. Calls `on_fresh` if the connection had to be replaced.
    pub(crate) fn advance(
        &mut self,
        now: Duration,
        scratch: &mut Scratch,
        on_fresh: impl FnOnce(&TcpStream),
    ) -> Progress {
        match self.try_advance(now, scratch) {
            Ok(progress) => progress,
            Err(reason) => {
                let again = match &mut self.job {
                    Some(job) if job.is_reused && job.response.is_untouched() => {
                        (job.is_reused, job.is_connected, job.sent) = (false, false, 0);
                        job.deadline = now + CONNECT_LIMIT;
                        Some(job.request.host)
                    }
                    _ => None,
                };
                match again.map(|host| self.connect(host)) {
                    Some(Ok(stream)) => {
                        on_fresh(stream);
                        Progress::Waits
                    }
                    Some(Err(reason)) => Progress::Over(Err(reason)),
                    None => Progress::Over(Err(self.failed(&reason))),
                }
            }
        }
    }

    fn try_advance(&mut self, now: Duration, scratch: &mut Scratch) -> Result<Progress, String> {
        let (Some(connection), Some(job)) = (&mut self.connection, &mut self.job) else { return Ok(Progress::Waits) };
        while job.sent < job.head.len() {
            match connection.stream.write(&job.head.as_bytes()[job.sent..]) {
                Ok(length) => {
                    job.sent += length;
                    job.is_connected = true;
                    job.deadline = now + SILENCE;
                }
                // The connection is not established yet.
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => {
                    return Ok(Progress::Waits);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if job.is_connected => return Err(format!("cannot send: {error}")),
                Err(error) => return Err(format!("no connection: {error}")),
            }
        }
        let socket = connection.stream.as_raw_fd();
        for _ in 0..READS {
            let (room, flags) = match job.response.discardable() {
                // Linux discards that much of the stream without copying it (tcp(7), MSG_TRUNC).
                Some(left) => (usize::try_from(left).unwrap_or(usize::MAX).min(SCRATCH_BYTES), MsgFlags::MSG_TRUNC),
                None => (HEAD_BYTES, MsgFlags::empty()),
            };
            let result = match recv(socket, &mut scratch.0[..room], flags | MsgFlags::MSG_DONTWAIT) {
                Ok(0) => job.response.end(),
                Ok(length) if flags.contains(MsgFlags::MSG_TRUNC) => {
                    job.response.discarded(length as u64);
                    Ok(())
                }
                Ok(length) => job.response.feed(&scratch.0[..length]),
                Err(Errno::EAGAIN) => return Ok(Progress::Waits),
                Err(Errno::EINTR) => continue,
                Err(error) => Err(format!("cannot receive: {error}")),
            };
            result?;
            job.deadline = now + SILENCE;
            if job.response.is_complete() {
                break;
            }
        }
        if !job.response.is_complete() {
            return Ok(Progress::HasMore);
        }
        let (response, is_reusable) = self.job.take().map(|job| job.response.finish()).unwrap_or_default();
        if !is_reusable {
            self.connection = None;
        }
        Ok(Progress::Over(Ok(response)))
    }
}

/// Starts a connection.
fn open(source: Ipv4Addr, host: SocketAddrV4) -> Result<TcpStream, String> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))
        .map_err(|error| format!("no socket: {error}"))?;
    // Otherwise the kernel looks for a port that is free for every destination.
    let _ = setsockopt(&socket, sockopt::IpBindAddressNoPort, &true);
    let bound = socket.bind(&SocketAddrV4::new(source, 0).into());
    bound.map_err(|error| format!("cannot use address {source}: {error}"))?;
    match socket.connect(&host.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(format!("no connection: {error}")),
    }
    Ok(socket.into())
}
