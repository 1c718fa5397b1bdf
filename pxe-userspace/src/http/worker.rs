//! A thread with its own event loop, and the connections that it serves.

use std::{
    io,
    net::{self, IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    thread,
    time::Duration,
};

use axum::Router;
use http::StatusCode;
use rustix::net::{RecvFlags, SendFlags};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    sync::{
        mpsc::{self, UnboundedReceiver, UnboundedSender, error::SendError},
        watch,
    },
    task::JoinSet,
};

use super::{
    admission::{Connections, Ticket},
    answer,
    connection::{Connection, Phase},
    context::Context,
    metrics::Refused,
    places::Client,
};

/// A connection that another worker has accepted. The limit on connections also limits how many wait here.
pub(super) type Handed = (net::TcpStream, Ticket);

/// The resources of one worker thread.
#[derive(Clone)]
pub(super) struct Worker {
    pub(super) number: usize,
    /// The address that it listens on.
    pub(super) address: SocketAddr,
    /// The mailbox of each worker, for connections that others hand over.
    pub(super) mailboxes: Arc<[UnboundedSender<Handed>]>,
    pub(super) connections: Arc<Connections>,
    pub(super) context: Arc<Context>,
    pub(super) router: Router,
    pub(super) phase: watch::Receiver<Phase>,
}

impl Worker {
    /// Starts the thread, which serves until the shutdown is complete and holds `running` until then. All workers accept
    /// from the same sockets, so an idle worker usually gets the connection.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the thread.
    pub(super) fn start(
        self,
        listeners: Vec<net::TcpListener>,
        inbox: UnboundedReceiver<Handed>,
        running: mpsc::Sender<()>,
    ) -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let work = move || {
            // Dropped last, even after a panic.
            let _running = running;
            self.run(runtime, listeners, inbox);
        };
        thread::Builder::new().name("pxed-http".to_owned()).spawn(work).map(drop)
    }

    fn run(self, runtime: Runtime, listeners: Vec<net::TcpListener>, inbox: UnboundedReceiver<Handed>) {
        let mut phase = self.phase.clone();
        runtime.block_on(async {
            let mut acceptors = JoinSet::new();
            for listener in listeners {
                match TcpListener::from_std(listener) {
                    Ok(listener) => drop(acceptors.spawn(self.clone().accept(listener))),
                    Err(error) => tracing::error!(%error, "boot HTTP cannot wait for connections"),
                }
            }
            acceptors.spawn(self.take_over(inbox));
            tokio::select! {
                _ = phase.wait_for(|&phase| phase != Phase::Serving) => {}
                // An acceptor ends only by a panic. Without this, its thread would go on without accepting connections. The other threads
                // accept them instead, and the server is started again when all of its threads have ended.
                _ = acceptors.join_next() => return,
            }
            acceptors.shutdown().await;
            let _ = phase.wait_for(|&phase| phase == Phase::Over).await;
        });
        // A read from a hanging disk must not keep the thread.
        runtime.shutdown_background();
    }

    /// Accepts connections forever.
    async fn accept(self, listener: TcpListener) {
        let mut reserve = Reserve::of(&listener);
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let peer = peer.ip().to_canonical();
                    let client = self.context.client_at(peer);
                    // Without the reserve, a stranger would take the last descriptor from a machine.
                    if !reserve.is_kept(&listener) && client == Client::Stranger {
                        self.context.metrics.refused(Refused::Connection);
                        turn_away(&stream);
                        continue;
                    }
                    let Some(ticket) = self.connections.admit(peer, client, self.number).await else {
                        self.context.metrics.refused(Refused::Connection);
                        turn_away(&stream);
                        continue;
                    };
                    match self.mailboxes.get(ticket.worker).filter(|_| ticket.worker != self.number) {
                        Some(mailbox) => {
                            // An error means that the connection is broken.
                            let Ok(stream) = stream.into_std() else { continue };
                            if let Err(SendError(handed)) = mailbox.send((stream, ticket)) {
                                // That worker has ended, which happens only after a panic.
                                self.take(handed);
                            }
                        }
                        None => self.serve(stream, ticket),
                    }
                }
                Err(error) => {
                    // Usually no descriptor is free. The kernel keeps the connection until one is, or is accepted with the reserve.
                    tracing::debug!(%error, "boot HTTP could not accept a connection");
                    self.context.places.relieve();
                    if !reserve.release() {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        }
    }

    /// Serves connections that other workers have accepted.
    async fn take_over(self, mut inbox: UnboundedReceiver<Handed>) {
        while let Some(handed) = inbox.recv().await {
            self.take(handed);
        }
    }

    fn take(&self, (stream, ticket): Handed) {
        match TcpStream::from_std(stream) {
            Ok(stream) => self.serve(stream, ticket),
            Err(error) => {
                tracing::debug!(%error, "boot HTTP cannot wait for a connection");
                self.context.metrics.refused(Refused::Connection);
            }
        }
    }

    fn serve(&self, stream: TcpStream, ticket: Ticket) {
        let (context, router) = (Arc::clone(&self.context), self.router.clone());
        let ends = (ticket.peer, self.reached_at(&stream));
        let connection = Connection::new(stream, ends, ticket.seat(), context, router, self.phase.clone());
        tokio::spawn(async move {
            connection.run().await;
            drop(ticket);
        });
    }
}

impl Worker {
    /// Returns the address of ours that a connection was opened to, with the port that URLs name. Only a socket that listens on every
    /// address has to ask the kernel.
    fn reached_at(&self, stream: &TcpStream) -> SocketAddrV4 {
        let ip = match self.address.ip() {
            ip if ip.is_unspecified() => stream.local_addr().map_or(ip, |local| local.ip()),
            ip => ip,
        };
        let address = match ip.to_canonical() {
            IpAddr::V4(address) => address,
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        };
        SocketAddrV4::new(address, self.context.http_port)
    }
}

/// A descriptor that is kept for the time when none is free: then one more connection can be accepted, to see whose it is. It is a
/// duplicate of the listener, since no file may be opened that confinement does not allow.
struct Reserve(Option<OwnedFd>);

impl Reserve {
    fn of(listener: &TcpListener) -> Self {
        Self(listener.as_fd().try_clone_to_owned().ok())
    }

    /// Returns whether there is one, after an attempt to get it again.
    fn is_kept(&mut self, listener: &TcpListener) -> bool {
        if self.0.is_none() {
            *self = Self::of(listener);
        }
        self.0.is_some()
    }

    /// Gives it up. Returns whether there was one.
    fn release(&mut self) -> bool {
        self.0.take().is_some()
    }
}

/// Tells a client that there is no place for it now. It has not been asked what it wants, so this may be the only write.
fn turn_away(stream: &TcpStream) {
    let text = "too many connections are open; try again";
    let answer = answer::line(None, StatusCode::SERVICE_UNAVAILABLE, text, false);
    // Unread bytes of its request would otherwise reset the connection before it reads the answer.
    let _ = rustix::net::recv(stream, &mut [0; 4096], RecvFlags::DONTWAIT);
    let _ = rustix::net::send(stream, &answer, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
}
