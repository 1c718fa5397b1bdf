//! Parses the head of a request (RFC 9112) into a plain value. Strict wherever leniency would allow request smuggling.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

pub use super::head_error::HeadError;
use super::{
    head_error::bad,
    request_line::{self, RequestLine},
};
use crate::model::machine_path::MachinePath;

/// The longest head that is read, request line and headers.
pub const HEAD_LIMIT: usize = 8 * 1024;

/// The most header lines that are read.
const HEADER_LIMIT: usize = 64;

/// The most bytes of a target in a log line. A head may have 32 KiB of them, escaped, and anybody can send one.
const TARGET_LIMIT: usize = 400;

/// A request head.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// The path with its percent-escapes decoded and without empty and `.` components; it may contain any bytes.
    pub path: Vec<u8>,
    /// The query as received, without its question mark; it may contain any bytes but control characters and spaces.
    pub query: Vec<u8>,
    /// Every header.
    pub headers: HeaderMap,
    /// Set if the client can send another request on this connection (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// Set if the answer must say that the connection stays open, which is not the default in HTTP/1.0.
    pub is_http_10: bool,
}

impl Head {
    /// Returns path and query for a log line, cut if they are long, and without the unguessable part of a URL.
    pub(super) fn target(&self) -> String {
        let question_mark = if self.query.is_empty() { "" } else { "?" };
        let mut text =
            format!("{}{question_mark}{}", MachinePath::masked(&self.path).escape_ascii(), self.query.escape_ascii());
        if text.len() > TARGET_LIMIT {
            text.truncate(text.floor_char_boundary(TARGET_LIMIT));
            text.push('…');
        }
        text
    }
}

/// Returns the head at the beginning of `bytes` and its length, or `None` if the head is incomplete.
///
/// # Errors
///
/// If the bytes can never become a valid head.
pub fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, HeadError> {
    const TOO_LONG: HeadError = HeadError { status: 431, reason: "the request head is longer than 8 KiB" };
    let incomplete = || if bytes.len() < HEAD_LIMIT { Ok(None) } else { Err(TOO_LONG) };
    let Some((line, line_length)) = request_line::parse(bytes)? else { return incomplete() };
    let mut slots = [httparse::EMPTY_HEADER; HEADER_LIMIT];
    let (length, fields) = match httparse::parse_headers(bytes.get(line_length..).unwrap_or_default(), &mut slots) {
        Ok(httparse::Status::Complete((length, fields))) => (line_length + length, fields),
        Ok(httparse::Status::Partial) => return incomplete(),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(HeadError { status: 431, reason: "the request head has more than 64 header lines" });
        }
        Err(_) => return Err(bad("a header is malformed")),
    };
    if length > HEAD_LIMIT {
        return Err(TOO_LONG);
    }
    let mut headers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name =
            HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| bad("the name of a header is not a token"))?;
        let value =
            HeaderValue::from_bytes(field.value).map_err(|_| bad("the value of a header has control characters"))?;
        headers.append(name, value);
    }
    let RequestLine { method, path, query, is_http_10 } = line;
    check_host(&headers, is_http_10)?;
    check_no_body(&headers)?;
    let keep_alive = if is_http_10 {
        connection_says(&headers, "keep-alive") && !connection_says(&headers, "close")
    } else {
        !connection_says(&headers, "close")
    };
    Ok(Some((Head { method, path, query, headers, keep_alive, is_http_10 }, length)))
}

/// Requires at most one `Host` header, and exactly one in HTTP/1.1 (RFC 9112 §3.2).
fn check_host(headers: &HeaderMap, is_http_10: bool) -> Result<(), HeadError> {
    match headers.get_all(header::HOST).iter().count() {
        0 if !is_http_10 => Err(bad("no Host header")),
        0 | 1 => Ok(()),
        _ => Err(bad("more than one Host header")),
    }
}

/// Refuses a request with a body, since no route takes one. Two lengths, or a length beside an encoding, are means of
/// request smuggling (RFC 9112 §6.3).
fn check_no_body(headers: &HeaderMap) -> Result<(), HeadError> {
    const BODY: HeadError = HeadError { status: 413, reason: "requests with a body are not accepted" };
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let length = lengths.next();
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(if length.is_some() { bad("both Transfer-Encoding and Content-Length") } else { BODY });
    }
    if lengths.next().is_some() {
        return Err(bad("more than one Content-Length"));
    }
    match length.map(HeaderValue::as_bytes) {
        None => Ok(()),
        Some(digits) if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) => {
            Err(bad("Content-Length is not a number"))
        }
        Some(digits) if digits.iter().all(|&digit| digit == b'0') => Ok(()),
        Some(_) => Err(BODY),
    }
}

fn connection_says(headers: &HeaderMap, option: &str) -> bool {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case(option))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(text: &str) -> Head {
        let (head, length) = parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!(length, text.len(), "{text:?}");
        head
    }

    #[test]
    fn target_is_logged_without_control_characters() {
        let head = parse(b"GET //a%0ab?c=\xff\" HTTP/1.1\r\nHost: x\r\n\r\n").unwrap().unwrap().0;
        assert_eq!(head.target(), "/a\\nb?c=\\xff\\\"");
        assert_eq!(whole("GET /? HTTP/1.1\r\nHost: x\r\n\r\n").target(), "/");
    }

    #[test]
    fn target_is_cut_in_a_log_line() {
        for byte in ["a", "%ff", "%c3%a4"] {
            let target = byte.repeat(2_000 / byte.len());
            let text = whole(&format!("GET /{target}?{target} HTTP/1.1\r\nHost: x\r\n\r\n")).target();
            assert!(text.len() <= TARGET_LIMIT + '…'.len_utf8() && text.ends_with('…'), "{text}");
        }
        let longest = format!("/{}", "a".repeat(TARGET_LIMIT - 1));
        assert_eq!(whole(&format!("GET {longest} HTTP/1.1\r\nHost: x\r\n\r\n")).target(), longest);
    }

    #[test]
    fn connection_is_kept_by_version_and_header() {
        for (text, keep_alive) in [
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: x\r\nConnection: TE, Close\r\n\r\n", false),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
            ("GET / HTTP/1.0\nConnection: keep-alive\n\n", true),
        ] {
            assert_eq!(whole(text).keep_alive, keep_alive, "{text:?}");
        }
    }

    #[test]
    fn body_without_bytes_is_accepted() {
        for text in ["Content-Length: 0", "Content-Length: 000", "Expect: 100-continue", "Expect: a-miracle"] {
            whole(&format!("POST / HTTP/1.1\r\nHost: x\r\n{text}\r\n\r\n"));
        }
    }

    #[test]
    fn head_that_cannot_be_answered_is_refused() {
        let many: String = (0..65).map(|n| format!("X-{n}: y\r\n")).collect();
        let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(HEAD_LIMIT));
        let long_but_whole = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(HEAD_LIMIT));
        for (text, status) in [
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
            ("GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
            ("GET  / HTTP/1.1\r\n\r\n", 400),
            ("\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03", 400),
            ("GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400),
            ("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            ("CONNECT a:80 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            ("GET ftp://a/b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: \r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 413),
            ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n", 413),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 01\r\n\r\n", 413),
            ("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n", 413),
            ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n", 413),
            (&format!("GET / HTTP/1.1\r\n{many}\r\n"), 431),
            (&long, 431),
            (&long_but_whole, 431),
        ] {
            let error = parse(text.as_bytes()).expect_err(text);
            assert_eq!(error.status, status, "{text:?}: {}", error.reason);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn head_in_pieces_is_not_taken_early(cut in 0usize..70) {
            let text = b"GET /assets/vmlinuz HTTP/1.1\r\nHost: 10.0.0.1\r\nUser-Agent: iPXE\r\n\r\n";
            let cut = cut.min(text.len() - 1);
            prop_assert_eq!(parse(&text[..cut]), Ok(None));
        }
    }
}
