//! Parses the first line of a request, as tolerant about its target as Go's `net/http`, which Matchbox is made of.
//!
//! iPXE fills the query with what the firmware says about the machine, and some firmware fills its serial numbers with quotes or
//! with bytes above 0x7f. So a target may contain any byte but control characters and spaces. A `#` has no meaning either: a
//! client keeps the fragment of a URL to itself.

use std::borrow::Cow;

use http::Method;
use percent_encoding::percent_decode;

use super::head_error::{HeadError, bad};

/// The first line of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequestLine {
    pub(super) method: Method,
    pub(super) path: Vec<u8>,
    pub(super) query: Vec<u8>,
    pub(super) is_http_10: bool,
}

/// Returns the line at the beginning of `bytes` and its length, or `None` if it is incomplete. Bytes that cannot become a request
/// are an error at once, since a client of another protocol sends no line end.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(RequestLine, usize)>, HeadError> {
    const NOT_HTTP: HeadError = bad("not an HTTP/1.1 request");
    // Empty lines before a request are ignored (RFC 9112 §2.2).
    let mut rest = bytes;
    while let Some(after) = rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\n")) {
        rest = after;
    }
    if matches!(rest, [] | [b'\r']) {
        return Ok(None);
    }
    let Some((method, after)) = word(rest, is_token) else { return Ok(None) };
    let after = after.strip_prefix(b" ").filter(|_| !method.is_empty()).ok_or(NOT_HTTP)?;
    let method = Method::from_bytes(method).map_err(|_| NOT_HTTP)?;
    let Some((target, after)) = word(after, |byte| byte > b' ' && byte != 0x7f) else { return Ok(None) };
    let after = match after.strip_prefix(b" ") {
        Some(after) if !target.is_empty() => after,
        Some(_) => return Err(NOT_HTTP),
        None => return Err(bad("the target has control characters, or no version follows it")),
    };
    let Some((is_http_10, after)) = version(after)? else { return Ok(None) };
    let target = origin_form(target)?;
    let (path, query) = match target.iter().position(|&byte| byte == b'?') {
        Some(at) => (&target[..at], &target[at + 1..]),
        None => (&*target, &b""[..]),
    };
    let path = normalized(&percent_decode(path).collect::<Vec<_>>());
    let line = RequestLine { method, path, query: query.to_vec(), is_http_10 };
    Ok(Some((line, bytes.len() - after.len())))
}

/// Splits off the leading bytes that belong to a word; `None` if the word may go on.
fn word(bytes: &[u8], belongs: fn(u8) -> bool) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&byte| !belongs(byte))?;
    Some(bytes.split_at(end))
}

/// Returns `true` for the bytes of a token (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Splits off the version and the end of the line; `None` if they are incomplete. Returns `true` for HTTP/1.0.
fn version(bytes: &[u8]) -> Result<Option<(bool, &[u8])>, HeadError> {
    const PREFIX: &[u8] = b"HTTP/";
    /// `HTTP/1.1` and a carriage return.
    const LONGEST: usize = 9;
    const OTHER: HeadError = HeadError { status: 505, reason: "the version is neither HTTP/1.0 nor HTTP/1.1" };
    let end = bytes.iter().take(LONGEST + 1).position(|&byte| byte == b'\n');
    let text = &bytes[..end.unwrap_or(bytes.len().min(LONGEST))];
    let known = text.len().min(PREFIX.len());
    if text[..known] != PREFIX[..known] {
        return Err(bad("the target has a space, or no version follows it"));
    }
    match end {
        Some(end) => match text.strip_suffix(b"\r").unwrap_or(text) {
            b"HTTP/1.0" => Ok(Some((true, &bytes[end + 1..]))),
            b"HTTP/1.1" => Ok(Some((false, &bytes[end + 1..]))),
            _ => Err(OTHER),
        },
        None if bytes.len() > LONGEST => Err(OTHER),
        None => Ok(None),
    }
}

/// Returns path and query of a target in origin form or absolute form (RFC 9112 §3.2).
fn origin_form(target: &[u8]) -> Result<Cow<'_, [u8]>, HeadError> {
    const SCHEME: &[u8] = b"http://";
    if target.starts_with(b"/") {
        return Ok(target.into());
    }
    let rest = target.split_at_checked(SCHEME.len()).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME));
    let Some((_, rest)) = rest else { return Err(bad("the target is neither a path nor an http URL")) };
    let path = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).map_or(&b""[..], |at| &rest[at..]);
    Ok(if path.starts_with(b"/") { path.into() } else { [b"/", path].concat().into() })
}

/// Drops the empty and `.` components of a path: a base URL that ends in a slash gives `//boot.ipxe`, and shim asks for
/// `<dir>//grubx64.efi`. A redirect would do the same, but not all firmware follows it. A slash at the end stays, and so does `..`,
/// which no route has and the store refuses.
fn normalized(path: &[u8]) -> Vec<u8> {
    let is_kept = |component: &&[u8]| !matches!(*component, b"" | b".");
    let mut kept = Vec::with_capacity(path.len());
    for component in path.split(|&byte| byte == b'/').filter(is_kept) {
        kept.push(b'/');
        kept.extend_from_slice(component);
    }
    if kept.is_empty() || path.ends_with(b"/") || path.ends_with(b"/.") {
        kept.push(b'/');
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(target: &[u8]) -> Result<(Vec<u8>, Vec<u8>), u16> {
        let text = [b"GET ", target, b" HTTP/1.1\r\n"].concat();
        match parse(&text) {
            Ok(Some((line, length))) => {
                assert_eq!((line.method, line.is_http_10, length), (Method::GET, false, text.len()));
                Ok((line.path, line.query))
            }
            Ok(None) => panic!("incomplete: {}", text.escape_ascii()),
            Err(error) => Err(error.status),
        }
    }

    #[test]
    fn target_is_a_path_or_an_http_url() {
        for (target, path, query) in [
            ("/", "/", ""),
            ("/ipxe?mac=52-54-00-ab-cd-ef", "/ipxe", "mac=52-54-00-ab-cd-ef"),
            ("/assets/vmlinuz%2Dv1.13.0", "/assets/vmlinuz-v1.13.0", ""),
            ("/a%2e%2e%2fb", "/a../b", ""),
            ("/100%", "/100%", ""),
            ("/a?", "/a", ""),
            ("/a?b?c", "/a", "b?c"),
            // Go splits no fragment off, and a name that firmware reports may contain the character.
            ("/ipxe?hostname=a#1&mac=x", "/ipxe", "hostname=a#1&mac=x"),
            ("/a#b", "/a#b", ""),
            ("http://10.0.0.1:8000/boot.ipxe?a=b", "/boot.ipxe", "a=b"),
            ("http://10.0.0.1:8000//boot.ipxe", "/boot.ipxe", ""),
            ("HTTP://10.0.0.1", "/", ""),
            ("http://10.0.0.1?a=b/c", "/", "a=b/c"),
            ("http://", "/", ""),
        ] {
            let expected = (path.as_bytes().to_vec(), query.as_bytes().to_vec());
            assert_eq!(whole(target.as_bytes()), Ok(expected), "{target}");
        }
        assert_eq!(whole(b"/a%00%ff").unwrap().0, b"/a\0\xff");
    }

    #[test]
    fn target_has_any_byte_but_control_characters_and_spaces() {
        for byte in 0..=255u8 {
            let ordinary = !matches!(byte, b' ' | 0..0x20 | 0x7f);
            for target in [[b"/ipxe?serial=", &[byte][..], b"&mac=x"].concat(), [b"/assets/a", &[byte][..]].concat()] {
                assert_eq!(whole(&target).is_ok(), ordinary, "{}", target.escape_ascii());
            }
        }
        let (path, query) = whole(b"/ipx\xe9?serial=\"<\xff\xfe>\"&mac=\xc3\xa9").unwrap();
        assert_eq!((path, query), (b"/ipx\xe9".to_vec(), b"serial=\"<\xff\xfe>\"&mac=\xc3\xa9".to_vec()));
    }

    #[test]
    fn empty_components_and_dots_are_dropped() {
        for (target, path) in [
            ("//boot.ipxe", "/boot.ipxe"),
            ("///", "/"),
            ("/.", "/"),
            ("/./", "/"),
            ("//assets///x", "/assets/x"),
            ("/assets/./dir//grubx64.efi", "/assets/dir/grubx64.efi"),
            ("/assets/%2F%2fx", "/assets/x"),
            ("/assets/x/", "/assets/x/"),
            ("/assets/x/.", "/assets/x/"),
            ("/assets/.x/..y/...", "/assets/.x/..y/..."),
            // Not resolved: the store refuses it, and no route has it.
            ("/assets//../x", "/assets/../x"),
            ("/assets/%2e%2e//x", "/assets/../x"),
            ("/a/../boot.ipxe", "/a/../boot.ipxe"),
        ] {
            assert_eq!(whole(target.as_bytes()).unwrap().0, path.as_bytes(), "{target}");
        }
    }

    #[test]
    fn line_that_is_no_request_is_refused_as_soon_as_possible() {
        for (text, status) in [
            (&b"GET  / HTTP/1.1\r\n"[..], 400),
            (b" GET / HTTP/1.1\r\n", 400),
            (b"GET /\r\n", 400),
            (b"GET / \r\n", 400),
            (b"GET /\t HTTP/1.1\r\n", 400),
            (b"GET /a b HTTP/1.1\r\n", 400),
            (b"GET / HTTP/1.1 \r\n", 505),
            (b"GET / HTTP/2.0\r\n", 505),
            (b"GET / HTTP/1.1.1\r\n", 505),
            (b"GET / HTTP/1.1 and so on", 505),
            (b"GET / HTTP/\r\n", 505),
            (b"OPTIONS * HTTP/1.1\r\n", 400),
            (b"CONNECT a:80 HTTP/1.1\r\n", 400),
            (b"GET ftp://a/b HTTP/1.1\r\n", 400),
            (b"GET http:/a HTTP/1.1\r\n", 400),
            (b"GET boot.ipxe HTTP/1.1\r\n", 400),
            // The beginnings of a TLS handshake and of other protocols.
            (b"\x16\x03\x01", 400),
            (b"\rGET", 400),
            (b"SSH-2.0-OpenSSH_9.2\r\n", 400),
            (b"GET / SMTP", 400),
        ] {
            assert_eq!(parse(text).map_err(|error| error.status), Err(status), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn empty_lines_come_before_a_request() {
        for text in ["\r\n\r\nGET / HTTP/1.0\r\n", "\n\nGET / HTTP/1.0\n"] {
            let (line, length) = parse(text.as_bytes()).unwrap().unwrap();
            assert!(line.is_http_10 && length == text.len(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn beginning_of_a_line_is_incomplete(target in "/[!-~]{0,20}", cut in 0usize..60) {
            let text = format!("\r\nDELETE {target} HTTP/1.0\r\n");
            let cut = cut.min(text.len() - 1);
            prop_assert_eq!(parse(&text.as_bytes()[..cut]), Ok(None));
            prop_assert!(matches!(parse(text.as_bytes()), Ok(Some((_, length))) if length == text.len()));
        }

        #[test]
        fn path_has_no_component_that_is_dropped(target in prop::collection::vec(any::<u8>(), 0..40)) {
            let text = [b"GET /", target.as_slice(), b" HTTP/1.1\r\n"].concat();
            if let Ok(Some((RequestLine { path, .. }, _))) = parse(&text) {
                prop_assert!(path.starts_with(b"/"));
                let parts: Vec<_> = path.split(|&byte| byte == b'/').collect();
                let inner = &parts[1..parts.len() - 1];
                prop_assert!(inner.iter().all(|part| !matches!(*part, b"" | b".")), "{}", path.escape_ascii());
                prop_assert_eq!(normalized(&path), path);
            }
        }
    }
}
