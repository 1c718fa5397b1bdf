//! The listening sockets, the workers behind them, and the shutdown.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    num::NonZero,
    sync::Arc,
    thread,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{mpsc, watch};

use super::{admission::Connections, connection::Phase, context::Context, routes, worker::Worker};
use crate::second_pxed::SecondPxed;

/// The connections that the kernel completes before they are accepted: a whole fleet that powers on at once. The kernel
/// lowers the number to `net.core.somaxconn` for each socket, so there are several sockets.
const BACKLOG: i32 = 16_384;

/// The most listening sockets on one address, for kernels whose limit is the old 128.
const LISTENER_LIMIT: i32 = 8;

/// The most workers for one address. On a veth pair, one worker sends 2.8 GiB/s to a single client.
const WORKER_LIMIT: usize = 4;

/// The time that transfers may continue after the server was told to stop. The daemon ends within five seconds.
const GRACE: Duration = Duration::from_millis(2_500);

/// The listening sockets on one address and port, ready for [`serve`]. There are several because the kernel limits the
/// connections that wait in each, and would drop those of a fleet that connects all at once.
#[derive(Debug)]
pub struct Bound(Vec<TcpListener>);

impl Bound {
    /// Returns the address and port that the sockets listen on.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.first().ok_or(io::ErrorKind::NotConnected)?.local_addr()
    }
}

/// Opens the listening sockets on an address, ready for [`serve`].
///
/// # Errors
///
/// If the address is not ours, the port is taken, or the port is too low for our privileges. The message names both.
pub fn bind(address: Ipv4Addr, port: u16) -> io::Result<Bound> {
    let wanted = SocketAddr::from((address, port));
    listen(wanted).map(Bound).map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => match SecondPxed::find() {
                Some(pxed) => &format!("{pxed}, or choose another --http-port"),
                None => "another process listens there; stop it or choose another --http-port",
            },
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
        // Connections of the previous process may still be in TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(shared)?;
        socket.bind(&address.into())?;
        io::Result::Ok(socket)
    };
    // Sockets that share a port would share it with another process too. This one detects such a process.
    let alone = bound(wanted, false)?;
    let address = alone.local_addr()?.as_socket().unwrap_or(wanted);
    let listen = |_| {
        let socket = bound(address, true)?;
        // Connections inherit the option. The last write of an answer completes it, so waiting for more would only delay it.
        socket.set_tcp_nodelay(true)?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    (0..(BACKLOG / backlog_limit()).clamp(1, LISTENER_LIMIT)).map(listen).collect()
}

/// Returns the kernel's limit for the backlog of a socket.
fn backlog_limit() -> i32 {
    const SINCE_LINUX_5_4: i32 = 4096;
    let text = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default();
    text.trim().parse().ok().filter(|&limit| limit > 0).unwrap_or(SINCE_LINUX_5_4)
}

/// Serves connections until `shutdown` completes, then gives running transfers a few seconds to finish.
///
/// # Errors
///
/// If a worker cannot be started, or all have ended.
pub async fn serve(bound: Bound, context: Arc<Context>, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let (phase, follow) = watch::channel(Phase::Serving);
    let router = routes::router(Arc::clone(&context));
    let address = bound.local_addr()?;
    let count = thread::available_parallelism().map_or(1, NonZero::get).min(WORKER_LIMIT);
    let connections = Arc::new(Connections::new(count, context.places.clone(), Arc::clone(&context.metrics)));
    let (mailboxes, inboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::unbounded_channel()).unzip();
    let mailboxes: Arc<[_]> = mailboxes.into();
    let (running, mut ended) = mpsc::channel::<()>(1);
    for (number, inbox) in inboxes.into_iter().enumerate() {
        let listeners = bound.0.iter().map(TcpListener::try_clone).collect::<io::Result<Vec<_>>>()?;
        let worker = Worker {
            number,
            address,
            mailboxes: Arc::clone(&mailboxes),
            connections: Arc::clone(&connections),
            context: Arc::clone(&context),
            router: router.clone(),
            phase: follow.clone(),
        };
        worker.start(listeners, inbox, running.clone())?;
    }
    // The workers have their own sockets. After they have ended, the kernel refuses further connections.
    drop((bound, running));
    tokio::select! {
        () = shutdown => {}
        // A worker ends early only if it panics.
        _ = ended.recv() => return Err(io::Error::other("every worker has ended")),
    }
    let _ = phase.send(Phase::Closing);
    if tokio::time::timeout(GRACE, connections.all_ended()).await.is_err() {
        tracing::info!("boot HTTP is breaking off the transfers that are still running");
    }
    let _ = phase.send(Phase::Over);
    let _ = ended.recv().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_that_cannot_be_bound_is_an_error_with_advice() {
        let first = bind(Ipv4Addr::LOCALHOST, 0).unwrap();
        let port = first.local_addr().unwrap().port();
        let message = bind(Ipv4Addr::LOCALHOST, port).unwrap_err().to_string();
        assert!(message.contains(&format!("127.0.0.1:{port}")) && message.contains("--http-port"), "{message}");
        let message = bind(Ipv4Addr::new(203, 0, 113, 1), 0).unwrap_err().to_string();
        assert!(message.contains("no interface has this address"), "{message}");
    }
}
