//! What a web page that an operator happens to have open may do to the admin listener: nothing.
//!
//! Two attacks reach a listener on a loopback address through a browser. *DNS rebinding*: a name of the
//! attacker's is made to resolve to 127.0.0.1, and his page reads and writes the API as its own origin. The
//! browser sends that name as `Host`, so a `Host` that is neither an IP address nor `localhost` is refused.
//! *Cross-site request forgery*: a page posts a form to `http://127.0.0.1:8001/…`. A form cannot set
//! `Content-Type: application/json`, and a script that does has to ask first (CORS), which we never
//! grant; so a POST must have that type, and its `Origin`, if it has one, must be ours.
//!
//! Health and metrics stay outside: probes and Prometheus come by name, change nothing, and learn nothing of a machine.

use std::net::IpAddr;

use axum::{
    extract::Request,
    http::{HeaderMap, Method, StatusCode, header},
    middleware::Next,
    response::Response,
};

use super::refusal::refuse;

/// Lets through what no foreign web page can have sent.
pub(super) async fn guard(request: Request, next: Next) -> Response {
    match check(request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => refuse(StatusCode::FORBIDDEN, error),
    }
}

fn check(method: &Method, headers: &HeaderMap) -> Result<(), &'static str> {
    let text = |name: header::HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    let host = text(header::HOST);
    if !host.is_none_or(is_address_or_localhost) {
        return Err("call this API by IP address or as localhost: other names may be a web page's (DNS rebinding)");
    }
    if method == Method::GET || method == Method::HEAD {
        return Ok(());
    }
    let content_type = text(header::CONTENT_TYPE).unwrap_or("");
    let media_type = content_type.split(';').next().unwrap_or("").trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err("a change needs the header Content-Type: application/json, which no web form can send");
    }
    match (text(header::ORIGIN), host) {
        (None, _) => Ok(()),
        (Some(origin), Some(host)) if origin.strip_prefix("http://") == Some(host) => Ok(()),
        _ => Err("a change must not come from another site's page"),
    }
}

/// `Host` is a host and perhaps a port (RFC 9110 §7.2); an IPv6 address stands in brackets.
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
    fn only_addresses_and_localhost_are_hosts() {
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
    fn what_a_page_can_send_is_refused() {
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
