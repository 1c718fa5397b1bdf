//! The configuration of the doors, and how they are opened.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tokio::net::TcpListener;

use super::{
    doors::Doors,
    socket::{AdminSocket, SOCKET},
    token::{self, Token},
};

/// The ways into the admin API that an operator wants.
#[derive(Clone, Debug, Default)]
pub struct AdminConfig {
    /// The Unix socket. Without one it is in the usual place, or else in the state directory.
    pub socket: Option<PathBuf>,
    /// The address of API and dashboard, unless the socket is the only way.
    pub tcp: Option<SocketAddr>,
    /// The address of health and metrics alone.
    pub probes: Option<SocketAddr>,
    /// The file of the token.
    pub token: Option<PathBuf>,
}

impl AdminConfig {
    /// Opens the doors. Without a socket of its own choice, pxed also serves without one. It must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// Every door that cannot be opened, with the reason and the remedy.
    pub async fn open(&self, state: &Path) -> Result<Doors, Vec<String>> {
        let (mut doors, mut problems) = (Doors::default(), Vec::new());
        match self.token.as_deref().map(token::read).transpose() {
            Ok(token) => doors.token = token.as_deref().map(Token::new),
            Err(error) => problems.push(error.to_string()),
        }
        match &self.socket {
            Some(path) => match AdminSocket::bind(path) {
                Ok(socket) => doors.socket = Some(socket),
                Err(error) => problems.push(format!("--admin-socket {error}")),
            },
            None => match AdminSocket::bind_somewhere(Path::new(SOCKET), state) {
                Ok(socket) => doors.socket = Some(socket),
                Err([usual, other]) => tracing::warn!(
                    "no Unix socket of the admin API, so pxed hold and pxed release need a token: {usual}; {other}: name another place with \
                     --admin-socket PATH"
                ),
            },
        }
        let mut listen = async |option: &str, address: Option<SocketAddr>| match TcpListener::bind(address?).await {
            Ok(listener) => Some(listener),
            Err(error) => {
                let address = address?;
                problems.push(format!(
                    "admin listener on {address}: {error}: choose another address or port with {option}"
                ));
                None
            }
        };
        doors.tcp = listen("--admin", self.tcp).await;
        doors.probes = listen("--metrics", self.probes).await;
        if problems.is_empty() { Ok(doors) } else { Err(problems) }
    }
}
