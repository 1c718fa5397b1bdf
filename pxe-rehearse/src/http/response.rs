//! An incremental parser of HTTP responses. Does no I/O.

use super::message::HttpResponse;

/// The length of a head.
const MAX_HEAD: usize = 64 * 1024;
/// The length of a line with the length of a chunk and its extensions, or of a trailer.
const MAX_LINE: usize = 4096;

/// The part of the response that its next byte belongs to.
#[derive(Debug, PartialEq, Eq)]
enum State {
    Head,
    /// A body of known length, of which this many bytes are missing.
    Length(u64),
    /// A body that ends with the stream.
    Close,
    /// The line with the length of the next chunk (RFC 9112 §7.1).
    ChunkLength,
    /// A chunk of which this many bytes are missing.
    Chunk(u64),
    /// The line break behind a chunk.
    ChunkEnd,
    Trailer,
    Complete,
}

/// A response that is being received.
#[derive(Debug)]
pub(super) struct Response {
    head_only: bool,
    keep: usize,
    state: State,
    /// The beginning of a head, or of a line of a chunked body.
    partial: Vec<u8>,
    response: HttpResponse,
    keeps_alive: bool,
    is_touched: bool,
}

impl Response {
    /// Expects a response to HEAD or to GET, of whose body the first `keep` bytes are kept.
    pub(super) fn new(head_only: bool, keep: usize) -> Self {
        let (partial, response) = (Vec::new(), HttpResponse::default());
        Self { head_only, keep, state: State::Head, partial, response, keeps_alive: false, is_touched: false }
    }

    /// Returns `true` if no byte has arrived yet.
    pub(super) const fn is_untouched(&self) -> bool {
        !self.is_touched
    }

    /// Returns `true` if the whole response has arrived.
    pub(super) fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// Returns the number of bytes to come that are only counted.
    pub(super) fn discardable(&self) -> Option<u64> {
        match self.state {
            State::Length(left) | State::Chunk(left) if self.response.kept.len() >= self.keep => Some(left),
            _ => None,
        }
    }

    /// Counts bytes of the body that were discarded.
    pub(super) fn discarded(&mut self, length: u64) {
        self.response.bytes += length;
        self.advance(length);
    }

    fn advance(&mut self, length: u64) {
        match &mut self.state {
            State::Length(left) => {
                *left -= length;
                if *left == 0 {
                    self.state = State::Complete;
                }
            }
            State::Chunk(left) => {
                *left -= length;
                if *left == 0 {
                    self.state = State::ChunkEnd;
                }
            }
            _ => {}
        }
    }

    /// Takes in the next bytes.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the response, for people.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        self.is_touched |= !bytes.is_empty();
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Head => self.head(bytes)?,
                State::Length(left) | State::Chunk(left) => {
                    let (taken, rest) = bytes.split_at(bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
                    self.keep(taken);
                    self.advance(taken.len() as u64);
                    rest
                }
                State::Close => {
                    self.keep(bytes);
                    &[]
                }
                State::ChunkLength | State::ChunkEnd | State::Trailer => self.line(bytes)?,
                State::Complete => {
                    // More bytes than were announced. Nothing can follow them on this connection.
                    self.keeps_alive = false;
                    &[]
                }
            };
        }
        Ok(())
    }

    /// Handles the end of the stream.
    ///
    /// # Errors
    ///
    /// Returns how the response is incomplete, for people.
    pub(super) fn end(&mut self) -> Result<(), String> {
        match self.state {
            State::Close => {
                self.state = State::Complete;
                Ok(())
            }
            State::Head => Err("the server closed the connection without an answer".to_owned()),
            State::Length(left) => {
                let all = self.response.bytes + left;
                Err(format!("the server closed the connection with {left} of {all} bytes to go"))
            }
            _ => Err("a chunked body breaks off".to_owned()),
        }
    }

    /// Returns the response, and `true` if the connection can be used again.
    pub(super) fn finish(self) -> (HttpResponse, bool) {
        (self.response, self.keeps_alive)
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.response.bytes += bytes.len() as u64;
        let room = self.keep.saturating_sub(self.response.kept.len());
        self.response.kept.extend(&bytes[..bytes.len().min(room)]);
    }

    fn head<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], String> {
        // The end of the head may lie across two pieces.
        let known = self.partial.len();
        self.partial.extend(bytes);
        let from = known.saturating_sub(3);
        let Some(end) = self.partial[from..].windows(4).position(|window| window == b"\r\n\r\n") else {
            return if self.partial.len() > MAX_HEAD {
                Err("the head of the response does not end".to_owned())
            } else {
                Ok(&[])
            };
        };
        let end = from + end + 4;
        self.partial.truncate(end);
        let head = std::mem::take(&mut self.partial);
        self.read_head(&head)?;
        Ok(&bytes[end - known..])
    }

    fn read_head(&mut self, head: &[u8]) -> Result<(), String> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Response::new(&mut headers);
        parsed.parse(head).map_err(|error| format!("not an HTTP response: {error}"))?;
        self.response.status = parsed.code.unwrap_or(0);
        self.keeps_alive = parsed.version == Some(1);
        let mut is_chunked = false;
        for header in parsed.headers.iter() {
            let value = String::from_utf8_lossy(header.value);
            let value = value.trim();
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if is("content-length") {
                let length = value.parse().map_err(|_| format!("Content-Length: {value} is not a number"))?;
                self.response.content_length = Some(length);
            } else if is("transfer-encoding") {
                is_chunked = value.eq_ignore_ascii_case("chunked");
            } else if is("connection") && value.eq_ignore_ascii_case("close") {
                self.keeps_alive = false;
            } else if is("location") {
                self.response.location = Some(value.to_owned());
            }
        }
        // RFC 9112 §6.3: message body length.
        self.state = match self.response.content_length {
            _ if self.head_only || matches!(self.response.status, 100..200 | 204 | 304) => State::Complete,
            _ if is_chunked => State::ChunkLength,
            Some(0) => State::Complete,
            Some(length) => State::Length(length),
            None => {
                self.keeps_alive = false;
                State::Close
            }
        };
        Ok(())
    }

    /// Takes in a line of the framing of a chunked body.
    fn line<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], String> {
        let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
            self.partial.extend(bytes);
            return if self.partial.len() > MAX_LINE { Err("a chunked body breaks off".to_owned()) } else { Ok(&[]) };
        };
        self.partial.extend(&bytes[..end]);
        let line = std::mem::take(&mut self.partial);
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches('\r');
        self.state = match self.state {
            State::ChunkLength => {
                let digits = line.split(';').next().unwrap_or_default().trim();
                match u64::from_str_radix(digits, 16) {
                    Ok(0) => State::Trailer,
                    Ok(length) => State::Chunk(length),
                    Err(_) => return Err(format!("{line:?} is not the length of a chunk")),
                }
            }
            State::Trailer if line.is_empty() => State::Complete,
            State::Trailer => State::Trailer,
            _ => State::ChunkLength,
        };
        Ok(&bytes[end + 1..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses a response in pieces of this length.
    fn read(text: &str, piece: usize, head_only: bool, keep: usize) -> Result<(HttpResponse, bool), String> {
        let mut response = Response::new(head_only, keep);
        for bytes in text.as_bytes().chunks(piece) {
            response.feed(bytes)?;
        }
        if !response.is_complete() {
            response.end()?;
        }
        Ok(response.finish())
    }

    #[test]
    fn body_ends_where_its_framing_says_in_pieces_of_any_length() {
        let length = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        let chunked =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nA: b\r\n\r\n";
        let close = "HTTP/1.1 200 OK\r\n\r\nhello";
        let old = "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        let closes = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: Close\r\n\r\nhello";
        for (text, keeps_alive) in [(length, true), (chunked, true), (close, false), (old, false), (closes, false)] {
            for piece in 1..=text.len() {
                let (response, reusable) = read(text, piece, false, 3).unwrap();
                assert_eq!((response.status, response.bytes, &response.kept[..]), (200, 5, &b"hel"[..]), "{text}");
                assert_eq!(reusable, keeps_alive, "{text}");
            }
        }
    }

    #[test]
    fn response_to_head_has_no_body() {
        let (response, reusable) = read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 7, true, 0).unwrap();
        assert_eq!((response.content_length, response.bytes, reusable), (Some(5), 0, true));
        let (response, _) =
            read("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", 99, false, 0).unwrap();
        assert_eq!((response.status, response.location.as_deref()), (302, Some("/x")));
    }

    #[test]
    fn bytes_that_are_not_kept_can_be_discarded() {
        let mut response = Response::new(false, 2);
        response.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nh").unwrap();
        assert_eq!(response.discardable(), None);
        response.feed(b"e").unwrap();
        assert_eq!(response.discardable(), Some(7));
        response.discarded(7);
        assert!(response.is_complete());
        assert_eq!(response.finish().0.bytes, 9);
    }

    #[test]
    fn truncated_or_malformed_response_is_an_error() {
        for (text, expected) in [
            ("", "without an answer"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "4 of 9 bytes"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello", "breaks off"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "not the length of a chunk"),
            ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "not a number"),
            ("SSH-2.0-OpenSSH\r\n\r\n", "not an HTTP response"),
        ] {
            let reason = read(text, 1000, false, 0).unwrap_err();
            assert!(reason.contains(expected), "{text:?}: {reason}");
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            for prefix in [&b""[..], b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"] {
                let mut response = Response::new(false, 10);
                let _ = response.feed(prefix).and_then(|()| response.feed(&bytes)).and_then(|()| response.end());
            }
        }
    }
}
