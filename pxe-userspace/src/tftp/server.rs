//! The listening socket, and the workers among which it divides the clients.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    num::NonZero,
    os::fd::AsFd as _,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use tokio::{runtime::Handle, sync::mpsc};

use super::{
    bind::{Buffers, bind},
    context::Context,
    mailbox::{Mailbox, Message},
    metrics::RefusedReason,
    ports::{LEAST_SOCKETS, Ports, SOCKETS_LIMIT},
    sender::Sender,
    socket::{BATCH, Inbox},
    transfers::Transfers,
    worker::Worker,
};
use crate::{
    descriptors,
    model::{inventory::Inventory, port_range::PortRange},
    net::{interface::Interface, prefix, raw_udp::RawUdp},
    second_pxed::SecondPxed,
};

/// The most transfers that run at once at one address of ours.
pub const TRANSFERS_LIMIT: usize = 20_000;
/// The most workers at one address of ours. Measured on a veth pair, a gigabyte costs a worker about a second of processor time in
/// windows of 64, and about six in single blocks of 1468 bytes.
const WORKERS_LIMIT: usize = 4;
/// The share of the process's descriptors that the transfers at one address may take: one in so many.
const SHARE_OF_DESCRIPTORS: u64 = 8;
/// The buffers of the listening socket: requests of 10,000 clients at once, each with about 800 bytes of kernel memory, several times over.
const LISTENER: Buffers = Buffers { receive: 32 << 20, send: 64 << 10 };
/// The buffers of a socket that asks the kernel about routes.
const PROBE: Buffers = Buffers { receive: 4 << 10, send: 4 << 10 };
/// The longest request that is read whole, in bytes; RFC 2347 allows 512.
const REQUEST_LIMIT: usize = 1024;

/// The time that transfers may continue after the server was told to stop, as those of boot HTTP.
const GRACE: Duration = Duration::from_millis(2_500);

/// A TFTP server at one address, with its sockets bound.
#[derive(Debug)]
pub struct TftpServer {
    address: SocketAddrV4,
    networks: Vec<(Ipv4Addr, u8)>,
    listener: UdpSocket,
    shares: Vec<Share>,
}

/// The sockets of one worker.
#[derive(Debug)]
struct Share {
    ports: Ports,
    probe: UdpSocket,
    direct: Option<RawUdp>,
}

/// Returns the most sockets for transfers at one address, if the process may have this many descriptors.
#[must_use]
pub fn sockets_limit(descriptors: u64) -> usize {
    let share = usize::try_from(descriptors / SHARE_OF_DESCRIPTORS).unwrap_or(usize::MAX);
    share.clamp(LEAST_SOCKETS, SOCKETS_LIMIT * WORKERS_LIMIT)
}

/// A socket cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("TFTP on {address}: {source}{}", advice(source))]
pub struct BindError {
    /// The requested address and port.
    pub address: SocketAddrV4,
    /// The kernel's error.
    pub source: io::Error,
}

fn advice(error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => match SecondPxed::find() {
            Some(pxed) => return format!("; {pxed}"),
            None => "; another TFTP server runs here: stop it (`ss -lunp 'sport = 69'` shows which)",
        },
        io::ErrorKind::AddrNotAvailable => "; no interface has this address: see `ip -4 address`",
        io::ErrorKind::PermissionDenied => "; a port below 1024 needs root or CAP_NET_BIND_SERVICE",
        _ => "",
    };
    advice.to_owned()
}

impl TftpServer {
    /// Binds the listening socket to an address of ours, and a socket for each worker's refusals. So replies leave from the
    /// address that the client spoke to. Port 69 is TFTP's; 0 lets the kernel choose. Transfers have ports in `ports`; without it, the
    /// kernel chooses among net.ipv4.ip_local_port_range.
    ///
    /// Machines of the inventory are served wherever they are. Other clients are served only within `networks`, each an address
    /// with the bits of its mask: a source address is easily forged, and answers are larger than requests.
    ///
    /// # Errors
    ///
    /// The address is not ours, the port is taken, or the process may not bind it.
    pub fn bind(
        address: Ipv4Addr,
        port: u16,
        networks: Vec<(Ipv4Addr, u8)>,
        ports: Option<PortRange>,
    ) -> Result<Self, BindError> {
        let failed = |source| BindError { address: SocketAddrV4::new(address, port), source };
        let listener = bind(address, port, LISTENER).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        // Half of the processors: fewer workers make larger batches, and DHCP and HTTP need their share.
        let workers = thread::available_parallelism().map_or(1, NonZero::get).div_ceil(2).min(WORKERS_LIMIT);
        let limit = (sockets_limit(descriptors::limit()) / workers).min(SOCKETS_LIMIT);
        let share =
            || Ok(Share { ports: Ports::new(address, ports, limit)?, probe: bind(address, 0, PROBE)?, direct: None });
        let shares = (0..workers).map(|_| share()).collect::<Result<_, _>>().map_err(failed)?;
        Ok(Self { address: SocketAddrV4::new(address, port), networks, listener, shares })
    }

    /// Sends blocks to neighbours on this interface past the host's IP stack, those of many transfers by one system call. If no packet socket
    /// can be opened, the stack sends them.
    #[must_use]
    pub fn on_interface(mut self, interface: &Interface) -> Self {
        for share in &mut self.shares {
            share.direct = RawUdp::open(interface)
                .inspect_err(|error| tracing::debug!(%error, interface = interface.name, "no packet socket for TFTP"))
                .ok();
        }
        self
    }

    /// Returns the address and port on which it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Serves until `shutdown` completes, on threads of its own, then gives running transfers a few seconds to finish. If the future is
    /// dropped, they are broken off. Must be called within a runtime, whose threads for blocking work wait for the disk.
    ///
    /// # Errors
    ///
    /// A thread cannot be started, or has ended, which is a defect.
    pub async fn serve(self, context: Context, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let Self { address, networks, listener, shares } = self;
        let limit = TRANSFERS_LIMIT.div_ceil(shares.len().max(1));
        let (ended, mut end) = mpsc::channel(1);
        // Tells the threads to end when it is dropped.
        let mut threads = Threads::default();
        let mut workers = Vec::new();
        for Share { ports, probe, direct } in shares {
            let (mailbox, messages) = Mailbox::new()?;
            let mailbox = Arc::new(mailbox);
            workers.push(Arc::clone(&mailbox));
            let sender = Sender::new(ports, probe, direct, Arc::clone(&context.metrics));
            let disk = (Arc::clone(&mailbox), Handle::current());
            let transfers = Transfers::new(context.clone(), *address.ip(), sender, limit, disk);
            let worker = Worker::new(Arc::clone(&mailbox), transfers);
            threads.start(mailbox, ended.clone(), move |_| worker.run(&messages))?;
        }
        let (mailbox, _) = Mailbox::new()?;
        let listening = move |mailbox: &Mailbox| listen(&listener, &networks, &workers, &context, mailbox);
        threads.start(Arc::new(mailbox), ended, listening)?;
        tokio::select! {
            () = shutdown => {}
            // In whatever way.
            _ = end.recv() => return Err(io::Error::other(format!("TFTP on {address}: a thread ended"))),
        }
        threads.finish();
        // The senders are those of the threads.
        let all_ended = async { while end.recv().await.is_some() {} };
        if tokio::time::timeout(GRACE, all_ended).await.is_err() {
            tracing::info!("TFTP on {address} is breaking off the transfers that are still running");
        }
        Ok(())
    }
}

/// The threads of a server.
#[derive(Default)]
struct Threads {
    mailboxes: Vec<Arc<Mailbox>>,
}

/// Sends a message when it is dropped, also by a panic.
struct AtEnd(mpsc::Sender<()>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        // An error means that another thread has sent one.
        let _ = self.0.try_send(());
    }
}

impl Threads {
    fn start(
        &mut self,
        mailbox: Arc<Mailbox>,
        ended: mpsc::Sender<()>,
        work: impl FnOnce(&Mailbox) + Send + 'static,
    ) -> io::Result<()> {
        self.mailboxes.push(Arc::clone(&mailbox));
        let work = move || {
            let _at_end = AtEnd(ended);
            work(&mailbox);
        };
        thread::Builder::new().name("pxed-tftp".to_owned()).spawn(work).map(drop)
    }
}

impl Threads {
    /// Tells the threads to end when nothing is under way. The last one takes the requests.
    fn finish(&self) {
        let Some((listener, workers)) = self.mailboxes.split_last() else { return };
        listener.close();
        workers.iter().for_each(|mailbox| mailbox.finish());
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // They are not joined: one may be reading from a disk that hangs.
        self.mailboxes.iter().for_each(|mailbox| mailbox.close());
    }
}

/// Hands each request to the worker of its client's address, so that one worker knows all transfers of an address.
fn listen(
    listener: &UdpSocket,
    networks: &[(Ipv4Addr, u8)],
    workers: &[Arc<Mailbox>],
    context: &Context,
    own_mailbox: &Mailbox,
) {
    let Context { metrics, inventory, refusals, .. } = context;
    let mut inbox = Inbox::new(REQUEST_LIMIT, BATCH);
    while own_mailbox.is_open() {
        match inbox.receive(listener) {
            Ok(()) => {}
            Err(Errno::EAGAIN) => {
                let mut sources =
                    [listener.as_fd(), own_mailbox.as_fd()].map(|source| PollFd::new(source, PollFlags::POLLIN));
                // The next receive reports any error.
                let _ = poll(&mut sources, PollTimeout::NONE);
                continue;
            }
            Err(error) => {
                tracing::warn!(%error, "TFTP requests cannot be received; trying again");
                thread::sleep(Duration::from_millis(100));
            }
        }
        let (fleet, received) = (inventory.load(), Instant::now());
        for (client, datagram) in (0..inbox.len()).filter_map(|index| inbox.datagram(index)) {
            metrics.requests.inc();
            let Some(worker) = worker_of(client, workers) else { continue };
            if !can_answer(client) {
                metrics.refuse(RefusedReason::Malformed);
            } else if !is_served(*client.ip(), &fleet, networks) {
                metrics.refuse(RefusedReason::Foreign);
                refusals.log(client, None, "", "neither a machine of the cluster spec nor in a network of ours");
            } else if !worker.leave(Message::Request { client, datagram: datagram.into(), received }) {
                metrics.refuse(RefusedReason::Busy);
            }
        }
        drop(fleet);
        workers.iter().for_each(|worker| worker.ring());
    }
}

fn worker_of(client: SocketAddrV4, workers: &[Arc<Mailbox>]) -> Option<&Arc<Mailbox>> {
    let mut hasher = DefaultHasher::new();
    client.ip().hash(&mut hasher);
    workers.get((hasher.finish() % workers.len().max(1) as u64) as usize)
}

/// Returns `true` if this address gets answers.
fn is_served(client: Ipv4Addr, fleet: &Inventory, networks: &[(Ipv4Addr, u8)]) -> bool {
    networks.iter().any(|&(ours, prefix_length)| prefix::same(client, ours, prefix_length))
        || fleet.by_address(client).is_some()
}

/// Returns `true` if a datagram to this source reaches one host.
fn can_answer(client: SocketAddrV4) -> bool {
    let ip = client.ip();
    client.port() != 0 && !ip.is_unspecified() && !ip.is_broadcast() && !ip.is_multicast()
}
