//! The simulator's own HTTP/1.1 client: real TCP from the machine's address, bodies counted and thrown away.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::machine::{HttpRequest, HttpResponse};

/// A connection that may serve the machine's next request.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    host: SocketAddrV4,
}

/// Nothing for so long, and the request has failed.
const SILENCE: Duration = Duration::from_secs(30);
const MAX_HEAD: usize = 64 * 1024;

/// Runs one request, over the machine's last connection where that goes to the same server.
pub(super) async fn request(
    source: Ipv4Addr,
    request: &HttpRequest,
    last: Option<Connection>,
) -> (Result<HttpResponse, String>, Option<Connection>) {
    if let Some(connection) = last.filter(|last| last.host == request.host) {
        // The server may have closed it meanwhile; then a new one is tried.
        if let Ok((response, connection)) = exchange(connection, request).await {
            return (Ok(response), connection);
        }
    }
    let connected = match connect(source, request.host).await {
        Ok(stream) => exchange(Connection { stream, host: request.host }, request).await,
        Err(reason) => Err(reason),
    };
    match connected {
        Ok((response, connection)) => (Ok(response), connection),
        Err(reason) => (Err(format!("http://{}{}: {reason}", request.host, request.path)), None),
    }
}

async fn connect(source: Ipv4Addr, host: SocketAddrV4) -> Result<TcpStream, String> {
    let socket = TcpSocket::new_v4().map_err(|error| format!("no socket: {error}"))?;
    // Without this, the kernel looks for a port that is free for all destinations.
    let _ = nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::IpBindAddressNoPort, &true);
    socket.bind(SocketAddr::new(source.into(), 0)).map_err(|error| format!("cannot use address {source}: {error}"))?;
    match timeout(SILENCE, socket.connect(host.into())).await {
        Err(_) => Err(format!("no connection within {} s", SILENCE.as_secs())),
        Ok(Err(error)) => Err(format!("no connection: {error}")),
        Ok(Ok(stream)) => Ok(stream),
    }
}

/// How the end of a body is known (RFC 9112 §6.3).
enum Framing {
    Length(u64),
    Chunked,
    Close,
}

async fn exchange(
    mut connection: Connection,
    request: &HttpRequest,
) -> Result<(HttpResponse, Option<Connection>), String> {
    let method = if request.head_only { "HEAD" } else { "GET" };
    let HttpRequest { path, host_header, user_agent, .. } = request;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nConnection: keep-alive\r\nUser-Agent: {user_agent}\r\nHost: {host_header}\r\n\r\n"
    );
    connection.stream.write_all(head.as_bytes()).await.map_err(|error| format!("cannot send: {error}"))?;
    let mut reader = Reader { stream: &mut connection.stream, buffer: Vec::new() };
    let head = reader.head().await?;
    let (mut response, framing, keeps_alive) = parse(&head, request.head_only)?;
    let mut sink = Sink { bytes: 0, kept: Vec::new(), keep: request.keep };
    match framing {
        Framing::Length(length) => reader.skip(length, &mut sink).await?,
        Framing::Chunked => reader.chunks(&mut sink).await?,
        Framing::Close => reader.rest(&mut sink).await?,
    }
    let is_reusable = keeps_alive && !matches!(framing, Framing::Close) && reader.buffer.is_empty();
    response.bytes = sink.bytes;
    response.kept = sink.kept;
    Ok((response, is_reusable.then_some(connection)))
}

fn parse(head: &[u8], head_only: bool) -> Result<(HttpResponse, Framing, bool), String> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Response::new(&mut headers);
    parsed.parse(head).map_err(|error| format!("not an HTTP response: {error}"))?;
    let mut response = HttpResponse { status: parsed.code.unwrap_or(0), ..HttpResponse::default() };
    let (mut chunked, mut keeps_alive) = (false, parsed.version == Some(1));
    for header in parsed.headers.iter() {
        let value = String::from_utf8_lossy(header.value);
        let value = value.trim();
        match header.name.to_ascii_lowercase().as_str() {
            "content-length" => {
                let length = value.parse().map_err(|_| format!("Content-Length: {value} is no number"))?;
                response.content_length = Some(length);
            }
            "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
            "connection" if value.eq_ignore_ascii_case("close") => keeps_alive = false,
            "location" => response.location = Some(value.to_owned()),
            _ => {}
        }
    }
    let is_empty = head_only || matches!(response.status, 100..200 | 204 | 304);
    let framing = match response.content_length {
        _ if is_empty => Framing::Length(0),
        _ if chunked => Framing::Chunked,
        Some(length) => Framing::Length(length),
        None => Framing::Close,
    };
    Ok((response, framing, keeps_alive))
}

/// Where a body ends up.
struct Sink {
    bytes: u64,
    kept: Vec<u8>,
    keep: usize,
}

impl Sink {
    fn take(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        let room = self.keep.saturating_sub(self.kept.len());
        self.kept.extend(&bytes[..bytes.len().min(room)]);
    }
}

/// A stream and what was read from it too early.
struct Reader<'a> {
    stream: &'a mut TcpStream,
    buffer: Vec<u8>,
}

impl Reader<'_> {
    /// Reads once more; false at the end of the stream.
    async fn fill(&mut self) -> Result<bool, String> {
        let mut piece = [0; 16 * 1024];
        let length = read(self.stream, &mut piece).await?;
        self.buffer.extend(&piece[..length]);
        Ok(length > 0)
    }

    async fn head(&mut self) -> Result<Vec<u8>, String> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                return Ok(self.buffer.drain(..end + 4).collect());
            }
            if self.buffer.len() > MAX_HEAD {
                return Err("the head of the response does not end".to_owned());
            }
            if !self.fill().await? {
                return Err("the server closed the connection without an answer".to_owned());
            }
        }
    }

    async fn skip(&mut self, length: u64, sink: &mut Sink) -> Result<(), String> {
        let early = self.buffer.len().min(usize::try_from(length).unwrap_or(usize::MAX));
        let mut left = length - early as u64;
        sink.take(&self.buffer.drain(..early).collect::<Vec<_>>());
        let mut piece = vec![0; if left > 16 * 1024 { 256 * 1024 } else { 16 * 1024 }];
        while left > 0 {
            let room = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let got = read(self.stream, &mut piece[..room]).await?;
            if got == 0 {
                return Err(format!("the server closed the connection with {left} of {length} bytes to go"));
            }
            sink.take(&piece[..got]);
            left -= got as u64;
        }
        Ok(())
    }

    /// RFC 9112 §7.1.
    async fn chunks(&mut self, sink: &mut Sink) -> Result<(), String> {
        loop {
            let line = self.line().await?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let length =
                u64::from_str_radix(digits, 16).map_err(|_| format!("{line:?} is not the length of a chunk"))?;
            if length == 0 {
                while !self.line().await?.is_empty() {}
                return Ok(());
            }
            self.skip(length, sink).await?;
            self.line().await?;
        }
    }

    async fn line(&mut self) -> Result<String, String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                let line = self.buffer.drain(..end + 2).collect::<Vec<_>>();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if self.buffer.len() > MAX_HEAD || !self.fill().await? {
                return Err("a chunked body breaks off".to_owned());
            }
        }
    }

    async fn rest(&mut self, sink: &mut Sink) -> Result<(), String> {
        loop {
            sink.take(&std::mem::take(&mut self.buffer));
            if !self.fill().await? {
                return Ok(());
            }
        }
    }
}

async fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<usize, String> {
    match timeout(SILENCE, stream.read(buffer)).await {
        Err(_) => Err(format!("nothing arrived for {} s", SILENCE.as_secs())),
        Ok(Err(error)) => Err(format!("cannot receive: {error}")),
        Ok(Ok(length)) => Ok(length),
    }
}
