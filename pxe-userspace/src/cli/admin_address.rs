//! The address of the admin listener, which the server and its clients read from the same option, variable and file key.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
};

use http::uri::Authority;
use serde::{Deserialize, Deserializer, de::Error as _};

/// An address of the admin listener, as `ADDRESS:PORT`, `HOST:PORT`, `http://HOST[:PORT][/PATH]` or `unix:PATH`.
///
/// A server needs an IP address and a port to listen on, or a path. A client may also use a host name, and a path where a reverse proxy
/// stands before the listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AdminAddress {
    /// The text as it was written, for messages.
    text: String,
    place: AdminPlace,
}

/// The place of an admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
enum AdminPlace {
    /// A Unix socket.
    Socket(PathBuf),
    /// An address of HTTP over TCP.
    Tcp {
        /// The host with its port, if there is one.
        authority: String,
        /// Empty, or a path that begins with a slash and ends without one.
        path: String,
    },
}

/// The reason why a text is not an address of an admin listener.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdminAddressError {
    /// The URL has a scheme other than `http`.
    #[error("the admin listener speaks http or is a socket (unix:/run/pxed/admin.sock), not {0}")]
    Scheme(String),
    /// A port is missing.
    #[error("the port is missing: write ADDRESS:PORT, for example 127.0.0.1:8001")]
    Port,
    /// The text is something else.
    #[error(
        "write ADDRESS:PORT, http://HOST:PORT or unix:PATH, for example 127.0.0.1:8001, http://[::1]:8001 or unix:/run/pxed/admin.sock"
    )]
    Malformed,
    /// A server cannot listen on it.
    #[error("{0} {1}: pxed run listens on an IP address: write ADDRESS:PORT, for example 127.0.0.1:8001")]
    NotListenable(&'static str, String),
}

impl AdminAddress {
    /// Returns the address of this option that a server listens on by TCP.
    ///
    /// # Errors
    ///
    /// If the address is a socket, has a host name or a path, or has no port.
    pub(super) fn to_listen(&self, option: &'static str) -> Result<SocketAddr, AdminAddressError> {
        let address = match &self.place {
            AdminPlace::Tcp { authority, path } if path.is_empty() => authority.parse().ok(),
            AdminPlace::Tcp { .. } | AdminPlace::Socket(_) => None,
        };
        address.ok_or_else(|| AdminAddressError::NotListenable(option, self.text.clone()))
    }

    /// Returns the address of a Unix socket.
    pub(super) fn of_socket(path: PathBuf) -> Self {
        Self { text: format!("unix:{}", path.display()), place: AdminPlace::Socket(path) }
    }

    /// Returns the path of the Unix socket, if it is one.
    pub(super) fn socket(&self) -> Option<&Path> {
        match &self.place {
            AdminPlace::Socket(path) => Some(path),
            AdminPlace::Tcp { .. } => None,
        }
    }

    /// Returns the URL that a client connects to, without a slash at its end. A server that listens on every address is
    /// reached on the loopback address. A socket has no address, and is `localhost`.
    #[must_use]
    pub(super) fn to_url(&self) -> String {
        let AdminPlace::Tcp { authority, path } = &self.place else { return "http://localhost".to_owned() };
        match authority.parse::<SocketAddr>() {
            Ok(mut address) if address.ip().is_unspecified() => {
                address.set_ip(match address.ip() {
                    IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                    IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
                });
                format!("http://{address}{path}")
            }
            _ => format!("http://{authority}{path}"),
        }
    }
}

impl Default for AdminAddress {
    fn default() -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 8001)).to_string();
        Self { text: address.clone(), place: AdminPlace::Tcp { authority: address, path: String::new() } }
    }
}

impl FromStr for AdminAddress {
    type Err = AdminAddressError;

    fn from_str(text: &str) -> Result<Self, AdminAddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            // As in a URL, unix:///run/pxed/admin.sock.
            let path = path.strip_prefix("//").unwrap_or(path);
            if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
                return Err(AdminAddressError::Malformed);
            }
            return Ok(Self::of_socket(path.into()));
        }
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
        let place = AdminPlace::Tcp { authority: authority.to_owned(), path: path.to_owned() };
        Ok(Self { text: text.to_owned(), place })
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
            match (address.to_listen("--admin"), listen) {
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
    fn socket_is_a_path() {
        for text in ["unix:/run/pxed/admin.sock", "unix:///run/pxed/admin.sock"] {
            let address: AdminAddress = text.parse().unwrap();
            assert_eq!(address.socket(), Some(Path::new("/run/pxed/admin.sock")), "{text}");
            assert_eq!(address.to_url(), "http://localhost");
            assert_eq!(address.to_string(), "unix:/run/pxed/admin.sock");
            assert!(address.to_listen("--metrics").unwrap_err().to_string().contains("--metrics unix:"));
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
            ("https://127.0.0.1:8001", "not https"),
            ("unix:", "unix:PATH"),
            ("unix:admin.sock", "unix:PATH"),
            ("unix://run/pxed/", "unix:PATH"),
            ("unix:/run/pxed/", "unix:PATH"),
        ] {
            let message = text.parse::<AdminAddress>().unwrap_err().to_string();
            assert!(message.contains(words), "{text}: {message}");
        }
    }
}
