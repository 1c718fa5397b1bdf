//! The boot HTTP server: artifacts by sendfile(2), scripts and Matchbox's routes by an axum router, on one port.
//!
//! The connection loop is our own, so that a file goes from the page cache to the socket without passing
//! through the process, and so that every answer has the `Content-Length` without which iPXE waits for ever.
//! What a head means ([`head`]), what part of a file is sent ([`range`]) and what a script says
//! ([`crate::boot::script`]) are pure functions.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use crate::{
    artifacts::Store,
    inventory::SharedInventory,
    journal::{EventSink, policy::PolicyBook},
    spec::matchbox::SharedCatalog,
};

mod answer;
mod connection;
mod file;
pub mod head;
pub mod matchbox;
mod metrics;
pub mod range;
mod routes;

pub use metrics::{Metrics, Refused};

/// Connections that the kernel completes before we accept them: a whole fleet that powers on at once. The
/// kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 16_384;

/// The most connections served at once.
const CONNECTION_LIMIT: usize = 32_768;

/// The most connections served at once for one address. A machine needs two or three; a site may come through one
/// translated address.
const CONNECTION_LIMIT_PER_SOURCE: usize = 2_048;

/// How long transfers may go on after the server was told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// What the server answers from. Shared by every listener and connection.
#[derive(Debug)]
pub struct Context {
    /// The fleet.
    pub inventory: SharedInventory,
    /// The machines of a Matchbox directory, asked where the fleet does not have one.
    pub catalog: SharedCatalog,
    /// The files below `/assets/`.
    pub store: Arc<Store>,
    /// Where boot events go.
    pub events: EventSink,
    /// Who boots from the network now.
    pub policies: Arc<ArcSwap<PolicyBook>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whether scripts are given only to the machine's own address. Right wherever we give the addresses
    /// ourselves; not so in ProxyDHCP, where another server does.
    pub check_source: bool,
    /// The port in the URLs of scripts.
    pub http_port: u16,
}

/// A listening socket on an address, ready for [`serve`].
///
/// # Errors
///
/// The address is not ours, the port is taken, or too low for our privileges; the message names both.
pub fn bind(address: Ipv4Addr, port: u16) -> io::Result<TcpListener> {
    let wanted = SocketAddr::from((address, port));
    let listen = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        // Connections of the process before us linger in TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.bind(&wanted.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    listen().map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => "another process listens there; stop it or choose another --http-port",
            io::ErrorKind::AddrNotAvailable => "no interface has this address; give it to the interface first",
            io::ErrorKind::PermissionDenied => "a port below 1024 needs CAP_NET_BIND_SERVICE",
            _ => "see the error",
        };
        io::Error::new(error.kind(), format!("boot HTTP on {wanted}: {error} ({advice})"))
    })
}

/// Answers connections until `shutdown` is done, then lets running transfers end for a few seconds.
pub async fn serve(listener: TcpListener, context: Arc<Context>, shutdown: impl Future<Output = ()>) {
    let (close, closing) = watch::channel(false);
    let router = routes::router(Arc::clone(&context));
    let mut connections = Connections::default();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            () = connections.ended(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let peer = peer.ip().to_canonical();
                    if connections.admits(peer) {
                        let connection = connection::Connection::new(
                            stream, peer, Arc::clone(&context), router.clone(), closing.clone(),
                        );
                        connections.add(peer, connection.run());
                    } else {
                        context.metrics.refused(Refused::Connection);
                    }
                }
                Err(error) => {
                    // Mostly descriptors that ran out: they come back as connections end.
                    tracing::debug!(%error, "boot HTTP could not accept a connection");
                    context.metrics.refused(Refused::Connection);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    drop(listener);
    let _ = close.send(true);
    let all_ended = async {
        while !connections.is_empty() {
            connections.ended().await;
        }
    };
    if tokio::time::timeout(GRACE, all_ended).await.is_err() {
        tracing::info!("boot HTTP breaks off the transfers that are still running");
    }
}

/// The connections being served, counted by address.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    peers: HashMap<tokio::task::Id, IpAddr>,
    by_source: HashMap<IpAddr, usize>,
}

impl Connections {
    fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    fn admits(&self, peer: IpAddr) -> bool {
        let of_source = self.by_source.get(&peer).copied().unwrap_or(0);
        self.tasks.len() < CONNECTION_LIMIT && of_source < CONNECTION_LIMIT_PER_SOURCE
    }

    fn add(&mut self, peer: IpAddr, connection: impl Future<Output = ()> + Send + 'static) {
        let id = self.tasks.spawn(connection).id();
        self.peers.insert(id, peer);
        *self.by_source.entry(peer).or_default() += 1;
    }

    /// Waits until one has ended.
    async fn ended(&mut self) {
        let id = match self.tasks.join_next_with_id().await {
            Some(Ok((id, ()))) => id,
            Some(Err(error)) => error.id(),
            None => return,
        };
        let Some(peer) = self.peers.remove(&id) else { return };
        if let Some(count) = self.by_source.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.by_source.remove(&peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_address_cannot_take_every_connection() {
        let (greedy, other) = (IpAddr::from([10, 0, 0, 66]), IpAddr::from([10, 0, 0, 1]));
        let (end, ended) = watch::channel(false);
        let mut connections = Connections::default();
        while connections.admits(greedy) {
            let mut ended = ended.clone();
            connections.add(greedy, async move {
                let _ = ended.wait_for(|&ended| ended).await;
            });
        }
        assert_eq!(connections.tasks.len(), CONNECTION_LIMIT_PER_SOURCE);
        assert!(connections.admits(other));
        end.send(true).unwrap();
        connections.ended().await;
        assert!(connections.admits(greedy));
        while !connections.is_empty() {
            connections.ended().await;
        }
        assert!(connections.peers.is_empty() && connections.by_source.is_empty());
    }

    /// A connection whose task panics must not count for ever.
    #[tokio::test]
    async fn a_connection_that_panics_is_forgotten() {
        let mut connections = Connections::default();
        connections.add(IpAddr::from([10, 0, 0, 1]), async { panic!("as a test") });
        connections.ended().await;
        assert!(connections.is_empty() && connections.by_source.is_empty());
    }

    #[tokio::test]
    async fn a_taken_port_is_an_error_that_says_what_to_do() {
        let first = bind(Ipv4Addr::LOCALHOST, 0).unwrap();
        let port = first.local_addr().unwrap().port();
        let message = bind(Ipv4Addr::LOCALHOST, port).unwrap_err().to_string();
        assert!(message.contains(&format!("127.0.0.1:{port}")) && message.contains("--http-port"), "{message}");
        let message = bind(Ipv4Addr::new(203, 0, 113, 1), 0).unwrap_err().to_string();
        assert!(message.contains("no interface has this address"), "{message}");
    }
}
