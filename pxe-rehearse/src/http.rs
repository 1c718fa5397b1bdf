//! The simulator's own HTTP/1.1 client: real TCP from the machine's address, bodies counted and thrown away.
//!
//! Nothing here waits: whoever polls the sockets says when there is something to do.

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

/// iPXE sends six SYNs, a quarter of a second and doubled apart. Ours are the kernel's, but the end is the same.
const CONNECT_LIMIT: Duration = Duration::from_secs(16);
/// Nothing for so long, and the request has failed. iPXE itself would wait as long as the connection lives.
const SILENCE: Duration = Duration::from_secs(30);
/// How many times a connection is read before another gets its turn.
const READS: usize = 4;
/// Of these, only the first few KiB are ever touched: what is thrown away is not copied.
const SCRATCH_BYTES: usize = 1024 * 1024;
/// Room for a head, with little of the body behind it that would be copied for nothing.
const HEAD_BYTES: usize = 2048;

/// What reading needs once for all connections.
pub(super) struct Scratch(Vec<u8>);

impl Scratch {
    pub(super) fn new() -> Self {
        Self(vec![0; SCRATCH_BYTES])
    }
}

/// How a request is getting on.
#[derive(Debug)]
pub(super) enum Progress {
    /// Until the socket has something.
    Waits,
    /// There may be more to read at once.
    HasMore,
    Over(Result<HttpResponse, String>),
}

/// A connection that may serve the machine's next request.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    host: SocketAddrV4,
}

#[derive(Debug)]
struct Job {
    request: Box<HttpRequest>,
    head: String,
    /// How much of the head has been sent.
    sent: usize,
    response: Response,
    deadline: Duration,
    /// The connection has served before: the server may have closed it meanwhile.
    is_reused: bool,
    is_connected: bool,
}

/// The HTTP client of one machine: one request at a time.
#[derive(Debug)]
pub(super) struct Client {
    source: Ipv4Addr,
    connection: Option<Connection>,
    job: Option<Box<Job>>,
}

/// The connection, when it is a new one.
pub(super) type Fresh<'a> = Option<&'a TcpStream>;

impl Client {
    pub(super) const fn new(source: Ipv4Addr) -> Self {
        Self { source, connection: None, job: None }
    }

    /// Begins a request, over the last connection where that goes to the same server.
    ///
    /// # Errors
    ///
    /// What the kernel says, for a person.
    pub(super) fn begin(&mut self, now: Duration, request: Box<HttpRequest>) -> Result<Fresh<'_>, String> {
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

    /// When [`Self::on_timer`] wants to be called.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.job.as_ref().map(|job| job.deadline)
    }

    /// The request has failed when its time is up.
    pub(super) fn on_timer(&mut self, now: Duration) -> Option<String> {
        let job = self.job.as_ref().filter(|job| job.deadline <= now)?;
        let reason = if job.is_connected {
            format!("nothing arrived for {} s", SILENCE.as_secs())
        } else {
            format!("no connection within {} s", CONNECT_LIMIT.as_secs())
        };
        Some(self.failed(&reason))
    }

    fn failed(&mut self, reason: &str) -> String {
        self.connection = None;
        match self.job.take() {
            Some(job) => format!("http://{}{}: {reason}", job.request.host, job.request.path),
            None => reason.to_owned(),
        }
    }

    /// Sends and receives what can be without waiting. `on_fresh` is told of a connection that had to be made anew.
    pub(super) fn advance(
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
                // Before the connection stands, this is how the kernel says so.
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
                // Linux throws that much of the stream away and copies nothing (tcp(7), MSG_TRUNC).
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

/// A connection on its way.
fn open(source: Ipv4Addr, host: SocketAddrV4) -> Result<TcpStream, String> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))
        .map_err(|error| format!("no socket: {error}"))?;
    // Without this, the kernel looks for a port that is free for all destinations.
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
