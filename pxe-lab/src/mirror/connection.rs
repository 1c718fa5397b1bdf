//! Connections to a mirror.

use std::{
    io::{self, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    ops::Range,
    sync::Arc,
    thread,
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::{
    content::Published,
    fault::Fault,
    head::{self, Part, STORAGE},
    log::Request,
    site::{Hit, Site},
};

/// Bytes that are sent at once.
const PIECE: usize = 1 << 16;

/// The moment of every change; only content changes.
const LAST_MODIFIED: &str = "Thu, 01 Jan 2026 00:00:00 GMT";

/// A page as it comes from a network that wants a login first.
const LOGIN_PAGE: &[u8] =
    b"<!DOCTYPE html>\n<html><head><title>Login</title></head><body>Please log in.</body></html>\n";

/// The listening side of a mirror.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) site: Arc<Site>,
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// The beginning of the mirror's URLs.
    pub(super) origin: String,
}

/// The end of a connection.
enum End {
    /// By an error of the network, or because the client closed it.
    Broken,
    /// By a fault.
    Wanted,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Broken
    }
}

impl From<anyhow::Error> for End {
    fn from(_: anyhow::Error) -> Self {
        Self::Broken
    }
}

impl Door {
    /// Accepts connections until the listener is shut down, each served by a thread of its own.
    pub(super) fn accept(self, listener: &TcpListener) {
        let door = Arc::new(self);
        while let Ok((stream, _)) = listener.accept() {
            let Ok(kept) = stream.try_clone() else { continue };
            if !door.site.admit(kept) {
                break;
            }
            let door = Arc::clone(&door);
            thread::spawn(move || door.serve(stream));
        }
    }

    fn serve(&self, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let closing = stream.try_clone();
        match &self.tls {
            None => self.answer_all(stream),
            Some(config) => {
                if let Ok(connection) = ServerConnection::new(Arc::clone(config)) {
                    self.answer_all(StreamOwned::new(connection, stream));
                }
            }
        }
        // The mirror keeps a copy of the socket, which must not keep the connection open.
        if let Ok(stream) = closing {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    fn answer_all(&self, stream: impl Read + Write) {
        let mut stream = BufReader::new(stream);
        while let Ok(Some(mut request)) = head::read(&mut stream) {
            let stored = request.path.strip_prefix(STORAGE).map(str::to_owned);
            let is_stored = stored.is_some();
            if let Some(path) = stored {
                request.path = path;
            }
            let number = self.site.begin(request.clone());
            let exchange = Exchange { site: &self.site, origin: &self.origin, request, is_stored, number };
            let answered = exchange.answer(stream.get_mut());
            self.site.note(number, |request| request.ended = true);
            if answered.is_err() {
                break;
            }
        }
    }
}

/// One request and its answer.
struct Exchange<'d> {
    site: &'d Site,
    origin: &'d str,
    request: Request,
    /// It was asked at the storage server.
    is_stored: bool,
    number: usize,
}

impl Exchange<'_> {
    fn answer(&self, stream: &mut impl Write) -> Result<(), End> {
        let path = self.request.path.as_str();
        let file = self.site.lock().files.get(path).cloned();
        // The storage server has the content, and what is wrong with it.
        let redirected = file.is_some()
            && !self.is_stored
            && self.request.method == "GET"
            && ["/talos/", "/factory/"].iter().any(|start| path.starts_with(start));
        let is_of_redirection = |fault: &Fault| matches!(fault, Fault::RedirectLoop | Fault::Redirect(_));
        let hit = self.site.hit(path, |fault| is_of_redirection(fault) || !redirected);
        match hit.as_ref().map(|hit| &hit.fault) {
            Some(Fault::RedirectLoop) => return self.redirect(stream, &format!("{}{path}", self.origin)),
            Some(Fault::Redirect(url)) => return self.redirect(stream, url),
            _ if redirected => {
                return self
                    .redirect(stream, &format!("{}{STORAGE}{path}?X-Signature=a%2Fb%3D&X-Expires=300", self.origin));
            }
            Some(Fault::Status(status)) => return self.text(stream, *status, "", b"out of order\n"),
            Some(Fault::RetryAfter(status, seconds)) => {
                return self.text(stream, *status, &format!("Retry-After: {seconds}\r\n"), b"too many\n");
            }
            Some(Fault::Html) => return self.text(stream, 200, "Content-Type: text/html\r\n", LOGIN_PAGE),
            Some(Fault::Close) => return Err(End::Wanted),
            Some(Fault::Garbage) => {
                stream.write_all(b"\x16\x03\x01 this is no HTTP\r\n\r\n")?;
                stream.flush()?;
                return Err(End::Wanted);
            }
            _ => {}
        }
        if let Some(hit) = hit.as_ref().filter(|hit| hit.fault == Fault::Silent) {
            self.stall(hit)?;
        }
        match file {
            None => self.text(stream, 404, "", b"Not Found\n"),
            Some(file) => self.send(stream, &file, hit.as_ref()),
        }
    }

    fn redirect(&self, stream: &mut impl Write, url: &str) -> Result<(), End> {
        self.text(stream, 302, &format!("Location: {url}\r\n"), b"Found\n")
    }

    fn text(&self, stream: &mut impl Write, status: u16, headers: &str, body: &[u8]) -> Result<(), End> {
        self.site.note(self.number, |request| request.status = status);
        write!(stream, "HTTP/1.1 {status} {}\r\n{headers}Content-Length: {}\r\n\r\n", reason(status), body.len())?;
        if self.request.method != "HEAD" {
            stream.write_all(body)?;
        }
        Ok(stream.flush()?)
    }

    fn send(&self, stream: &mut impl Write, file: &Published, hit: Option<&Hit>) -> Result<(), End> {
        let fault = hit.map(|hit| &hit.fault);
        let (length, etag) = (file.length, file.etag());
        if self.request.header("if-none-match") == Some(&etag) {
            return self.text(stream, 304, &format!("ETag: {etag}\r\n"), b"");
        }
        let part = if fault == Some(&Fault::NoRange) { Part::Whole } else { head::part(&self.request, length, &etag) };
        let (status, mut range) = match part {
            Part::Whole => (200, 0..length),
            Part::Some(range) => (206, range),
            Part::Beyond => {
                return self.text(stream, 416, &format!("Content-Range: bytes */{length}\r\n"), b"beyond the end\n");
            }
        };
        if status == 206 && fault == Some(&Fault::WrongRange) {
            range = range.start.saturating_sub(1)..range.end.saturating_sub(1);
        }
        let announced = match fault {
            Some(Fault::Length(announced)) => *announced,
            _ => range.end - range.start,
        };
        self.site.note(self.number, |request| request.status = status);
        let mut head = format!(
            "HTTP/1.1 {status} {}\r\nContent-Type: application/octet-stream\r\nAccept-Ranges: bytes\r\nETag: {etag}\r\n\
             Last-Modified: {LAST_MODIFIED}\r\n",
            reason(status)
        );
        if status == 206 {
            head += &format!("Content-Range: bytes {}-{}/{length}\r\n", range.start, range.end - 1);
        }
        head += &match fault {
            Some(Fault::Chunked) => "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
            _ => format!("Content-Length: {announced}\r\n\r\n"),
        };
        stream.write_all(head.as_bytes())?;
        stream.flush()?;
        if self.request.method == "HEAD" {
            return Ok(());
        }
        self.site.sending();
        let sent = self.content(stream, file, range, hit);
        self.site.sent();
        sent?;
        if let Some(Fault::Length(_)) = fault { Err(End::Wanted) } else { Ok(()) }
    }

    fn content(
        &self,
        stream: &mut impl Write,
        file: &Published,
        range: Range<u64>,
        hit: Option<&Hit>,
    ) -> Result<(), End> {
        let mut buffer = vec![0; PIECE];
        let mut hit = hit;
        let mut at = range.start;
        while at < range.end {
            let sent = at - range.start;
            let mut piece = range.end - at;
            match hit.map(|hit| &hit.fault) {
                Some(Fault::Stall { after }) if *after <= sent => {
                    if let Some(hit) = hit.take() {
                        self.stall(hit)?;
                    }
                }
                Some(Fault::Truncate { after }) if *after <= sent => return Err(End::Wanted),
                Some(Fault::Stall { after } | Fault::Truncate { after }) => piece = piece.min(after - sent),
                Some(Fault::Slow { .. }) if hit.is_some_and(|hit| !self.site.is_in_force(&self.request.path, hit)) => {
                    hit = None;
                }
                Some(Fault::Slow { bytes_per_second }) => {
                    piece = piece.min((bytes_per_second / 20).max(1));
                    thread::sleep(Duration::from_millis(50));
                }
                _ => {}
            }
            let wanted = usize::try_from(piece).unwrap_or(PIECE).min(PIECE);
            let count = file.read_at(&mut buffer[..wanted], at)?;
            if count == 0 {
                return Err(End::Broken);
            }
            let bytes = &mut buffer[..count];
            if let Some(Fault::Altered { at: altered }) = hit.map(|hit| &hit.fault)
                && let Some(byte) = altered.checked_sub(at).and_then(|at| bytes.get_mut(usize::try_from(at).ok()?))
            {
                *byte ^= 1;
            }
            let chunked = hit.is_some_and(|hit| hit.fault == Fault::Chunked);
            if chunked {
                write!(stream, "{count:x}\r\n")?;
            }
            stream.write_all(bytes)?;
            if chunked {
                stream.write_all(b"\r\n")?;
            }
            stream.flush()?;
            at += count as u64;
            self.site.note(self.number, |request| request.sent += count as u64);
        }
        if hit.is_some_and(|hit| hit.fault == Fault::Chunked) {
            stream.write_all(b"0\r\n\r\n")?;
            stream.flush()?;
        }
        Ok(())
    }

    fn stall(&self, hit: &Hit) -> Result<(), End> {
        self.site.note(self.number, |request| request.stalled = true);
        let goes_on = self.site.wait_for_the_end_of(&self.request.path, hit);
        self.site.note(self.number, |request| request.stalled = false);
        if goes_on { Ok(()) } else { Err(End::Wanted) }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        302 => "Found",
        304 => "Not Modified",
        403 => "Forbidden",
        404 => "Not Found",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Unknown",
    }
}
