//! The boot HTTP server: artifacts by sendfile(2), scripts and Matchbox's routes by an axum router, on one port.
//!
//! The connection loop is our own, so that a file goes from the page cache to the socket without passing
//! through the process, and so that every answer has the `Content-Length` without which iPXE waits for ever.
//! Each worker is a thread with a loop of its own, so that a connection never waits for another thread to be woken.
//! What a head means ([`head`]), what part of a file is sent ([`range`]) and what a script says
//! ([`crate::boot::script`]) are pure functions.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    num::NonZero,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{Notify, mpsc, watch};

use crate::{
    artifacts::Store,
    cluster_spec::matchbox::SharedCatalog,
    model::{event::EventSink, inventory::SharedInventory, policy_book::PolicyBook},
};

mod answer;
mod connection;
mod file;
pub mod head;
pub mod matchbox;
mod metrics;
pub mod range;
mod routes;
mod worker;

pub use metrics::{Metrics, Refused};

use worker::Worker;

/// Connections that the kernel completes before we accept them: a whole fleet that powers on at once. The
/// kernel lowers it to `net.core.somaxconn` for each socket, so there are several.
const BACKLOG: i32 = 16_384;

/// The most listening sockets on one address, where the kernel's limit is an old one's 128.
const MOST_LISTENERS: i32 = 8;

/// Workers at one address, at most. On a veth pair one sends 2.8 GiB/s to a single client.
const WORKERS_LIMIT: usize = 4;

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

/// The listening sockets on one address and port, ready for [`serve`]. There are several because the kernel bounds what waits
/// in each, and drops the connections of a fleet that comes all at once beyond it.
#[derive(Debug)]
pub struct Bound(Vec<TcpListener>);

impl Bound {
    /// Where they listen.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.first().ok_or(io::ErrorKind::NotConnected)?.local_addr()
    }
}

/// Listening sockets on an address, ready for [`serve`].
///
/// # Errors
///
/// The address is not ours, the port is taken, or too low for our privileges; the message names both.
pub fn bind(address: Ipv4Addr, port: u16) -> io::Result<Bound> {
    let wanted = SocketAddr::from((address, port));
    listen(wanted).map(Bound).map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => "another process listens there; stop it or choose another --http-port",
            io::ErrorKind::AddrNotAvailable => "no interface has this address; give it to the interface first",
            io::ErrorKind::PermissionDenied => "a port below 1024 needs CAP_NET_BIND_SERVICE",
            _ => "see the error",
        };
        io::Error::new(error.kind(), format!("boot HTTP on {wanted}: {error} ({advice})"))
    })
}

fn listen(wanted: SocketAddr) -> io::Result<Vec<TcpListener>> {
    let bound = |address: SocketAddr, shared| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        // Connections of the process before us linger in TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(shared)?;
        socket.bind(&address.into())?;
        io::Result::Ok(socket)
    };
    // Sockets that share a port would share it with those of another process too: this one finds out.
    let alone = bound(wanted, false)?;
    let address = alone.local_addr()?.as_socket().unwrap_or(wanted);
    let listen = |_| {
        let socket = bound(address, true)?;
        // Connections inherit it. Heads and files are pushed out by their last write; waiting for more would only delay them.
        socket.set_tcp_nodelay(true)?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    (0..(BACKLOG / backlog_limit()).clamp(1, MOST_LISTENERS)).map(listen).collect()
}

/// What the kernel lowers the backlog of each socket to.
fn backlog_limit() -> i32 {
    const SINCE_LINUX_5_4: i32 = 4096;
    let text = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default();
    text.trim().parse().ok().filter(|&limit| limit > 0).unwrap_or(SINCE_LINUX_5_4)
}

/// Answers connections until `shutdown` is done, then lets running transfers end for a few seconds.
///
/// # Errors
///
/// When a worker cannot be started, or all have ended.
pub async fn serve(bound: Bound, context: Arc<Context>, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let (phase, follow) = watch::channel(Phase::Serving);
    let router = routes::router(Arc::clone(&context));
    let count = thread::available_parallelism().map_or(1, NonZero::get).min(WORKERS_LIMIT);
    let connections = Arc::new(Connections::new(count, Arc::clone(&context.metrics)));
    let (doors, rooms): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::unbounded_channel()).unzip();
    let doors: Arc<[_]> = doors.into();
    let (running, mut ended) = mpsc::channel::<()>(1);
    for (number, room) in rooms.into_iter().enumerate() {
        let listeners = bound.0.iter().map(TcpListener::try_clone).collect::<io::Result<Vec<_>>>()?;
        let worker = Worker {
            number,
            doors: Arc::clone(&doors),
            connections: Arc::clone(&connections),
            context: Arc::clone(&context),
            router: router.clone(),
            phase: follow.clone(),
        };
        worker.start(listeners, room, running.clone())?;
    }
    // Workers have their own; connections that come when they have ended are refused by the kernel.
    drop((bound, running));
    tokio::select! {
        () = shutdown => {}
        // A worker ends before only when it panics.
        _ = ended.recv() => return Err(io::Error::other("every worker has ended")),
    }
    let _ = phase.send(Phase::Closing);
    if tokio::time::timeout(GRACE, connections.all_ended()).await.is_err() {
        tracing::info!("boot HTTP breaks off the transfers that are still running");
    }
    let _ = phase.send(Phase::Over);
    let _ = ended.recv().await;
    Ok(())
}

/// What connections are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    /// End after the answer that is being given.
    Closing,
    /// Break off.
    Over,
}

/// The connections being served, counted by address and by worker.
#[derive(Debug)]
struct Connections {
    open: Mutex<Open>,
    none_left: Notify,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Open {
    total: usize,
    by_source: HashMap<IpAddr, usize>,
    by_worker: Vec<usize>,
}

/// The right to be served, given back when it is dropped.
#[derive(Debug)]
struct Ticket {
    connections: Arc<Connections>,
    peer: IpAddr,
    worker: usize,
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new(workers: usize, metrics: Arc<Metrics>) -> Self {
        let open = Open { total: 0, by_source: HashMap::new(), by_worker: vec![0; workers] };
        Self { open: Mutex::new(open), none_left: Notify::new(), metrics }
    }

    /// The right to be served, by the worker that has accepted the connection or by one with clearly less to do. Nothing when
    /// there are too many already.
    fn admit(self: &Arc<Self>, peer: IpAddr, accepted_by: usize) -> Option<Ticket> {
        let mut open = self.lock();
        if open.total >= CONNECTION_LIMIT {
            return None;
        }
        let of_source = open.by_source.entry(peer).or_default();
        if *of_source >= CONNECTION_LIMIT_PER_SOURCE {
            return None;
        }
        *of_source += 1;
        open.total += 1;
        let worker = fitting(&open.by_worker, accepted_by);
        if let Some(count) = open.by_worker.get_mut(worker) {
            *count += 1;
        }
        self.metrics.opened();
        Some(Ticket { connections: Arc::clone(self), peer, worker })
    }

    /// Waits until none is left.
    async fn all_ended(&self) {
        loop {
            let notified = self.none_left.notified();
            if self.lock().total == 0 {
                return;
            }
            notified.await;
        }
    }
}

/// Who is to serve a connection, by how many each has: who has accepted it, unless another has fewer by more than a third.
/// Handing over costs a wake-up; but a few transfers that fill the link must not all be one worker's.
fn fitting(by_worker: &[usize], accepted_by: usize) -> usize {
    let own = by_worker.get(accepted_by).copied().unwrap_or_default();
    let least = by_worker.iter().enumerate().min_by_key(|(_, count)| **count);
    match least {
        Some((number, &count)) if count + own / 3 < own => number,
        _ => accepted_by,
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        open.total -= 1;
        if let Some(count) = open.by_worker.get_mut(self.worker) {
            *count -= 1;
        }
        self.connections.metrics.closed();
        if let Some(count) = open.by_source.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                open.by_source.remove(&self.peer);
            }
        }
        if open.total == 0 {
            self.connections.none_left.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections() -> Arc<Connections> {
        Arc::new(Connections::new(2, Arc::default()))
    }

    #[test]
    fn work_goes_to_whoever_has_accepted_it_unless_another_has_less() {
        for (by_worker, accepted_by, wanted) in [
            (&[0, 0][..], 1, 1),
            (&[1, 0], 0, 1),
            (&[1, 1], 0, 0),
            (&[2, 1], 1, 1),
            (&[64, 43], 0, 0),
            (&[64, 42], 0, 1),
            (&[9, 9, 3, 4], 0, 2),
            (&[], 0, 0),
        ] {
            assert_eq!(fitting(by_worker, accepted_by), wanted, "{by_worker:?} {accepted_by}");
        }
    }

    #[tokio::test]
    async fn connections_are_counted_where_they_are_served() {
        let connections = connections();
        let peer = IpAddr::from([10, 0, 0, 1]);
        let tickets: Vec<_> = (0..10).filter_map(|_| connections.admit(peer, 0)).collect();
        assert_eq!(connections.lock().by_worker, [6, 4]);
        drop(tickets);
        assert_eq!(connections.lock().by_worker, [0, 0]);
    }

    #[tokio::test]
    async fn one_address_cannot_take_every_connection() {
        let (greedy, other) = (IpAddr::from([10, 0, 0, 66]), IpAddr::from([10, 0, 0, 1]));
        let connections = connections();
        let mut tickets: Vec<_> = std::iter::from_fn(|| connections.admit(greedy, 0)).collect();
        assert_eq!(tickets.len(), CONNECTION_LIMIT_PER_SOURCE);
        assert!(connections.admit(other, 0).is_some());
        tickets.pop();
        tickets.extend(connections.admit(greedy, 0));
        assert_eq!(tickets.len(), CONNECTION_LIMIT_PER_SOURCE);
        drop(tickets);
        connections.all_ended().await;
        assert!(connections.lock().by_source.is_empty());
    }

    /// A connection whose task panics must not count for ever.
    #[tokio::test]
    async fn a_connection_that_panics_is_forgotten() {
        let connections = connections();
        let ticket = connections.admit(IpAddr::from([10, 0, 0, 1]), 0);
        let panicking = tokio::spawn(async move {
            let _ticket = ticket;
            panic!("as a test");
        });
        connections.all_ended().await;
        assert!(panicking.await.is_err());
        assert_eq!(connections.lock().total, 0);
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
