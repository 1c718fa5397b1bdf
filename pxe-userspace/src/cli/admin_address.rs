//! The address of the admin listener, which the server and its clients read from the same option, variable and file key.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use http::uri::Authority;
use serde::{Deserialize, Deserializer, de::Error as _};

/// An address of the admin listener, as `ADDRESS:PORT`, `HOST:PORT` or `http://HOST[:PORT][/PATH]`.
///
/// A server needs an IP address and a port to listen on. A client may also use a host name, and a path where a reverse proxy
/// stands before the listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AdminAddress {
    /// The text as it was written, for messages.
    text: String,
    /// The host with its port, if there is one.
    authority: String,
    /// Empty, or a path that begins with a slash and ends without one.
    path: String,
}

/// The reason why a text is not an address of an admin listener.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdminAddressError {
    /// The URL has a scheme other than `http`.
    #[error("the admin listener speaks http, not {0}")]
    Scheme(String),
    /// A port is missing.
    #[error("the port is missing: write ADDRESS:PORT, for example 127.0.0.1:8001")]
    Port,
    /// The text is something else.
    #[error("write ADDRESS:PORT or http://HOST:PORT, for example 127.0.0.1:8001 or http://[::1]:8001")]
    Malformed,
    /// A server cannot listen on it.
    #[error("--admin {0}: pxed run listens on an IP address: write ADDRESS:PORT, for example 127.0.0.1:8001")]
    NotListenable(String),
}

impl AdminAddress {
    /// Returns the address that a server listens on.
    ///
    /// # Errors
    ///
    /// If the address has a host name or a path, or has no port.
    pub(super) fn to_listen(&self) -> Result<SocketAddr, AdminAddressError> {
        let address = self.socket_address().filter(|_| self.path.is_empty());
        address.ok_or_else(|| AdminAddressError::NotListenable(self.text.clone()))
    }

    /// Returns the URL that a client connects to, without a slash at its end. A server that listens on every address is
    /// reached on the loopback address.
    #[must_use]
    pub(super) fn to_url(&self) -> String {
        let Self { authority, path, .. } = self;
        match self.socket_address() {
            Some(mut address) if address.ip().is_unspecified() => {
                address.set_ip(match address.ip() {
                    IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                    IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
                });
                format!("http://{address}{path}")
            }
            _ => format!("http://{authority}{path}"),
        }
    }

    fn socket_address(&self) -> Option<SocketAddr> {
        self.authority.parse().ok()
    }
}

impl Default for AdminAddress {
    fn default() -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 8001)).to_string();
        Self { text: address.clone(), authority: address, path: String::new() }
    }
}

impl FromStr for AdminAddress {
    type Err = AdminAddressError;

    fn from_str(text: &str) -> Result<Self, AdminAddressError> {
        let (is_url, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (true, rest),
            Some((scheme, _)) => return Err(AdminAddressError::Scheme(scheme.to_owned())),
            None => (false, text),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let path = path.trim_end_matches('/');
        let parsed: Authority = authority.parse().map_err(|_| AdminAddressError::Malformed)?;
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"?#\\\"<>".contains(&byte);
        if authority.contains('@')
            || parsed.host().is_empty()
            || !path.bytes().all(is_plain)
            || (!is_url && !path.is_empty())
        {
            return Err(AdminAddressError::Malformed);
        }
        match parsed.port() {
            None if authority.len() > parsed.host().len() => return Err(AdminAddressError::Malformed),
            None if !is_url => return Err(AdminAddressError::Port),
            Some(port) if port.as_u16() == 0 => return Err(AdminAddressError::Port),
            None | Some(_) => {}
        }
        Ok(Self { text: text.to_owned(), authority: authority.to_owned(), path: path.to_owned() })
    }
}

impl<'de> Deserialize<'de> for AdminAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The text as it was written.
impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_means_the_same_to_server_and_client() {
        for (text, listen, url) in [
            ("127.0.0.1:8001", Some("127.0.0.1:8001"), "http://127.0.0.1:8001"),
            ("http://127.0.0.1:8001", Some("127.0.0.1:8001"), "http://127.0.0.1:8001"),
            ("HTTP://127.0.0.1:8001/", Some("127.0.0.1:8001"), "http://127.0.0.1:8001"),
            ("127.0.0.1:8001/", Some("127.0.0.1:8001"), "http://127.0.0.1:8001"),
            ("[::1]:8001", Some("[::1]:8001"), "http://[::1]:8001"),
            ("http://[2001:db8::1]:8001/", Some("[2001:db8::1]:8001"), "http://[2001:db8::1]:8001"),
            ("0.0.0.0:8001", Some("0.0.0.0:8001"), "http://127.0.0.1:8001"),
            ("[::]:8001", Some("[::]:8001"), "http://[::1]:8001"),
            ("localhost:8001", None, "http://localhost:8001"),
            ("http://pxed.example:8001", None, "http://pxed.example:8001"),
            ("http://pxed.example", None, "http://pxed.example"),
            ("http://10.0.0.1", None, "http://10.0.0.1"),
            ("http://10.0.0.1:80/pxed/", None, "http://10.0.0.1:80/pxed"),
        ] {
            let address: AdminAddress = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(address.to_url(), url, "{text}");
            match (address.to_listen(), listen) {
                (Ok(address), Some(listen)) => assert_eq!(address, listen.parse().unwrap(), "{text}"),
                (Err(error), None) => {
                    let message = error.to_string();
                    assert!(message.contains(text) && message.contains("ADDRESS:PORT"), "{message}");
                }
                (result, _) => panic!("{text}: {result:?}"),
            }
        }
    }

    #[test]
    fn mistake_is_answered_with_what_to_write() {
        for (text, words) in [
            ("", "write ADDRESS:PORT"),
            ("127.0.0.1", "port is missing"),
            ("127.0.0.1:0", "port is missing"),
            ("pxed.example", "port is missing"),
            ("::1:8001", "[::1]:8001"),
            ("127.0.0.1:http", "write ADDRESS:PORT"),
            ("127.0.0.1:80010", "write ADDRESS:PORT"),
            ("127.0.0.1:8001/pxed", "http://HOST:PORT"),
            ("http://", "http://HOST:PORT"),
            ("http://root@127.0.0.1:8001", "http://HOST:PORT"),
            ("http://127.0.0.1:8001/?x", "http://HOST:PORT"),
            ("127.0.0.1:8001 ", "write ADDRESS:PORT"),
            ("https://127.0.0.1:8001", "speaks http, not https"),
            ("unix:///run/pxed", "speaks http, not unix"),
        ] {
            let message = text.parse::<AdminAddress>().unwrap_err().to_string();
            assert!(message.contains(words), "{text}: {message}");
        }
    }
}
