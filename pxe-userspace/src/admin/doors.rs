//! The ways into the admin API, open.

use std::fmt;

use tokio::net::TcpListener;

use super::{socket::AdminSocket, token::Token};

/// The ways into the admin API, open and ready for [`super::serve`].
#[derive(Debug, Default)]
pub struct Doors {
    /// The Unix socket.
    pub socket: Option<AdminSocket>,
    /// The TCP listener of API and dashboard.
    pub tcp: Option<TcpListener>,
    /// The TCP listener of health and metrics alone.
    pub probes: Option<TcpListener>,
    /// The token of `tcp`. Without one, an address that is not loopback has health and metrics alone.
    pub token: Option<Token>,
}

/// The places where the doors are, for a log line.
impl fmt::Display for Doors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { socket, tcp, probes, token: _ } = self;
        let socket = socket.iter().map(|socket| format!("unix:{}", socket.path().display()));
        let listeners = [tcp, probes].into_iter().flatten().filter_map(|listener| listener.local_addr().ok());
        let places: Vec<_> = socket.chain(listeners.map(|address| address.to_string())).collect();
        f.write_str(&places.join(", "))
    }
}
