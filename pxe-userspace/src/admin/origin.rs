//! Protection of the admin listener against web pages in an operator's browser.
//!
//! Two attacks reach a listener on a loopback address through a browser:
//!
//! - *DNS rebinding*: the attacker's host name resolves to 127.0.0.1, and the attacker's page reads and writes the API as its own
//!   origin. The browser sends the name as `Host`, so a `Host` that is neither an IP address nor `localhost` is refused.
//! - *Cross-site request forgery*: a page posts a form to `http://127.0.0.1:8001/…`. A form cannot set
//!   `Content-Type: application/json`, and a script that sets it must ask first (CORS), which pxed never grants. So a POST must
//!   have that type, and its `Origin`, if there is one, must be that of the listener.
//!
//! A request with the token needs none of this: no page knows the token, and no browser adds it by itself.
//!
//! Health and metrics are not protected: probes and Prometheus use host names, change nothing, and learn nothing about a machine.

use std::net::IpAddr;

use axum::http::{HeaderMap, Method, header};

/// Refuses a request that a foreign web page may have sent.
///
/// # Errors
///
/// The reason, in a sentence.
pub(super) fn check(method: &Method, headers: &HeaderMap) -> Result<(), &'static str> {
    let text = |name: header::HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    let host = text(header::HOST);
    if !host.is_none_or(is_address_or_localhost) {
        return Err(
            "call this API by IP address or as localhost: another name may come from a web page (DNS rebinding)",
        );
    }
    if method == Method::GET || method == Method::HEAD {
        return Ok(());
    }
    let content_type = text(header::CONTENT_TYPE).unwrap_or("");
    let media_type = content_type.split(';').next().unwrap_or("").trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err("a change needs the header Content-Type: application/json, which a web form cannot send");
    }
    match (text(header::ORIGIN), host) {
        (None, _) => Ok(()),
        (Some(origin), Some(host)) if origin.strip_prefix("http://") == Some(host) => Ok(()),
        _ => Err("a change must not come from the page of another site"),
    }
}

/// Returns whether a `Host` is an IP address or `localhost`, with or without a port (RFC 9110 §7.2). An IPv6 address is in brackets.
fn is_address_or_localhost(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port),
        _ => (host, ""),
    };
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn host_is_an_address_or_localhost() {
        for host in ["127.0.0.1:8001", "127.0.0.1", "localhost:8001", "LOCALHOST", "[::1]:8001", "[::1]", "10.0.0.5:80"]
        {
            assert!(is_address_or_localhost(host), "{host}");
        }
        for host in ["evil.example:8001", "127.0.0.1.evil.example", "", "localhost.evil.example", "127.0.0.1:80@evil"] {
            assert!(!is_address_or_localhost(host), "{host}");
        }
    }

    type Headers = Vec<(header::HeaderName, &'static str)>;

    #[test]
    fn request_that_a_web_page_can_send_is_refused() {
        let headers = |pairs: &[(header::HeaderName, &'static str)]| -> HeaderMap {
            pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
        };
        let (host, json) =
            ((header::HOST, "127.0.0.1:8001"), (header::CONTENT_TYPE, "application/json; charset=utf-8"));
        let own = (header::ORIGIN, "http://127.0.0.1:8001");
        let cases: [(&str, Method, Headers, bool); 9] = [
            ("a person's GET", Method::GET, vec![host.clone()], true),
            ("a rebound GET", Method::GET, vec![(header::HOST, "evil.example:8001")], false),
            ("pxed hold", Method::POST, vec![host.clone(), json.clone()], true),
            ("the dashboard", Method::POST, vec![host.clone(), json.clone(), own], true),
            ("a POST without a type", Method::POST, vec![host.clone()], false),
            ("a form", Method::POST, vec![host.clone(), (header::CONTENT_TYPE, "text/plain")], false),
            (
                "a foreign page",
                Method::POST,
                vec![host.clone(), json.clone(), (header::ORIGIN, "http://evil.example")],
                false,
            ),
            ("a sandboxed page", Method::POST, vec![host, json.clone(), (header::ORIGIN, "null")], false),
            ("a rebound POST", Method::POST, vec![(header::HOST, "evil.example:8001"), json], false),
        ];
        for (name, method, pairs, allowed) in cases {
            assert_eq!(check(&method, &headers(&pairs)).is_ok(), allowed, "{name}");
        }
    }
}
