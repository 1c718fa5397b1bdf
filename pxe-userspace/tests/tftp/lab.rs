//! A TFTP server on loopback, and a client by hand.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use pxe_common::MacAddr;
use pxe_userspace::{
    artifacts::Store,
    model::{
        architecture::Architecture,
        event::{BootEvent, EventKind, EventSink},
        inventory::{Inventory, Machine, Role, Site, Source},
        policy::{BootPolicy, DiskRoute},
        progress::ProgressBoard,
    },
    tftp::{Context, Metrics, TftpServer},
};
use tokio::{
    net::UdpSocket,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};

pub(crate) const MACHINE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 7);
pub(crate) const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 7]);
/// Files that a test writes to while they are being sent.
pub(crate) const CHANGING: [&str; 3] = ["shrinks", "grows", "replaced"];
/// The longest wait of any test.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A server on 127.0.0.1 over a directory with a few files. Its one machine has the address 127.0.0.7.
pub(crate) struct Lab {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) server: SocketAddrV4,
    pub(crate) events: mpsc::Receiver<BootEvent>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) progress: Arc<ProgressBoard>,
    pub(crate) task: JoinHandle<()>,
    /// Tells the server to end.
    stop: Option<oneshot::Sender<()>>,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Returns bytes that differ from block to block for any block size.
pub(crate) fn content(length: usize) -> Vec<u8> {
    (0..length as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

impl Lab {
    pub(crate) fn new(files: &[(&str, usize)]) -> Self {
        Self::with_networks(files, vec![(Ipv4Addr::LOCALHOST, 8)])
    }

    pub(crate) fn with_networks(files: &[(&str, usize)], networks: Vec<(Ipv4Addr, u8)>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for &(name, length) in files {
            fs::write(directory.path().join(name), content(length)).unwrap();
            // A file that was just written is not cached. Files that change in a test have to be in that state.
            if !CHANGING.contains(&name) {
                let file = fs::File::options().write(true).open(directory.path().join(name)).unwrap();
                file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
            }
        }
        let machine = Machine {
            mac: MAC,
            additional_macs: Arc::default(),
            address: MACHINE,
            cluster: "test".into(),
            role: Role::Worker,
            architecture: Architecture::Amd64,
            version: "v1.13.0".into(),
            schematic: None,
            kernel_args: "".into(),
            hostname: None,
            prefix_length: None,
            gateway: None,
            dns_servers: Arc::new([]),
            policy: BootPolicy::Auto,
            disk_route: DiskRoute::default(),
            boot: Default::default(),
            loaders: None,
            talos_config: None,
            vlans: Arc::default(),
            answers: Default::default(),
            secrets: Default::default(),
            site: Arc::new(Site { interface: "lo".into(), address: Ipv4Addr::LOCALHOST }),
            source: Source { file: Path::new("test.yaml").into(), line: 1 },
        };
        let inventory = Arc::new(ArcSwap::from_pointee(Inventory::new(vec![Arc::new(machine)])));
        let (sink, events) = EventSink::channel(1000);
        let metrics = Arc::new(Metrics::default());
        let server = TftpServer::bind(Ipv4Addr::LOCALHOST, 0, networks, None).unwrap();
        let address = server.address();
        let store = Arc::new(Store::new(directory.path().to_owned()));
        let progress = Arc::new(ProgressBoard::new(64));
        let context = Context::new(store, inventory, sink, Arc::clone(&metrics)).with_progress(Arc::clone(&progress));
        let (stop, stopped) = oneshot::channel();
        let stopped = async { drop(stopped.await) };
        let task = tokio::spawn(async move { server.serve(context, stopped).await.unwrap() });
        Self { directory, server: address, events, metrics, progress, task, stop: Some(stop) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Tells the server to end.
    pub(crate) fn stop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
    }

    /// Waits until the server has ended. Returns the time that this took.
    pub(crate) async fn ended(&mut self) -> Duration {
        let begun = Instant::now();
        timeout(LIMIT, &mut self.task).await.expect("the server ends").unwrap();
        begun.elapsed()
    }

    /// Returns what the journal was told, without times, until a transfer or request has ended.
    pub(crate) async fn story(&mut self) -> Vec<String> {
        let mut story = Vec::new();
        loop {
            let event = timeout(LIMIT, self.events.recv()).await.expect("an event").expect("a running server");
            assert_eq!(event.mac, MAC);
            match event.kind {
                EventKind::Requested { path, .. } => story.push(format!("requested {path}")),
                EventKind::Done { path, bytes, .. } => {
                    story.push(format!("done {path} {bytes}"));
                    return story;
                }
                EventKind::Unconfirmed { path, bytes, .. } => {
                    story.push(format!("unconfirmed {path} {bytes}"));
                    return story;
                }
                EventKind::Failed { path, reason, .. } => {
                    story.push(format!("failed {path}: {reason}"));
                    return story;
                }
                other => panic!("not an event of the TFTP server: {other:?}"),
            }
        }
    }

    pub(crate) fn metric(&self, name: &str) -> u64 {
        let mut registry = prometheus_client::registry::Registry::default();
        self.metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    }

    /// Waits until the metric has this value, or the number of requests at least this one.
    pub(crate) async fn until(&self, name: &str, value: u64) {
        // A test that sends to every port of the host reaches this server, too.
        let is_reached = |now| if name == "tftp_requests_total" { now >= value } else { now == value };
        let waiting = async {
            while !is_reached(self.metric(name)) {
                tokio::task::yield_now().await;
            }
        };
        assert!(timeout(LIMIT, waiting).await.is_ok(), "{name} is {} instead of {value}", self.metric(name));
    }
}

/// Sends a datagram from any address of 127.0.0.0/8.
pub(crate) fn forge(socket: &std::net::UdpSocket, source: Ipv4Addr, server: SocketAddrV4, datagram: &[u8]) {
    use nix::{
        libc,
        sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg},
    };
    let source = u32::from_ne_bytes(source.octets());
    let info = libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: libc::in_addr { s_addr: source },
        ipi_addr: libc::in_addr { s_addr: 0 },
    };
    let (to, control) = (SockaddrIn::from(server), [ControlMessage::Ipv4PacketInfo(&info)]);
    let bytes = [std::io::IoSlice::new(datagram)];
    sendmsg(std::os::fd::AsRawFd::as_raw_fd(socket), &bytes, &control, MsgFlags::empty(), Some(&to)).unwrap();
}

/// A transfer by hand: sends datagrams from an address of its own and remembers the source of the answers.
pub(crate) struct Client {
    pub(crate) socket: UdpSocket,
    pub(crate) server: SocketAddrV4,
    pub(crate) peer: Option<SocketAddrV4>,
}

impl Client {
    pub(crate) async fn new(from: Ipv4Addr, server: SocketAddrV4) -> Self {
        Self { socket: UdpSocket::bind((from, 0)).await.unwrap(), server, peer: None }
    }

    pub(crate) async fn request(&mut self, path: &str, options: &[(&str, u32)]) {
        self.request_in("octet", path, options).await;
    }

    /// Requests a file in the name of a client that does not know of it.
    pub(crate) async fn request_alone(&self, path: &str, options: &[(&str, u32)]) {
        let options: String = options.iter().map(|(name, value)| format!("{name}\0{value}\0")).collect();
        let packet = format!("\0\x01{path}\0octet\0{options}");
        self.socket.send_to(packet.as_bytes(), self.server).await.unwrap();
    }

    pub(crate) async fn request_in(&mut self, mode: &str, path: &str, options: &[(&str, u32)]) {
        let mut packet = format!("\0\x01{path}\0{mode}\0").into_bytes();
        for (name, value) in options {
            packet.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
        }
        self.socket.send_to(&packet, self.server).await.unwrap();
    }

    pub(crate) async fn send(&self, packet: &[u8]) {
        self.socket.send_to(packet, self.peer.unwrap_or(self.server)).await.unwrap();
    }

    pub(crate) async fn acknowledge(&self, block: u16) {
        let [high, low] = block.to_be_bytes();
        self.send(&[0, 4, high, low]).await;
    }

    pub(crate) async fn receive(&mut self) -> Vec<u8> {
        let mut buffer = vec![0; 65536];
        let (length, from) = loop {
            let received = timeout(LIMIT, self.socket.recv_from(&mut buffer)).await.expect("an answer").unwrap();
            let (length, std::net::SocketAddr::V4(from)) = received else { panic!("{received:?}") };
            // The answer comes from the address that was asked. A test that sends to every port of the host reaches this one, too.
            if from.ip() == self.server.ip() {
                break (length, from);
            }
        };
        assert_eq!(*self.peer.get_or_insert(from), from, "the server's port stays the same");
        buffer.truncate(length);
        buffer
    }

    /// Returns `true` if nothing arrives before the answer to a request that is made now.
    pub(crate) async fn is_silent(&mut self) -> bool {
        let mut other = Self::new(Ipv4Addr::LOCALHOST, self.server).await;
        other.request("not there", &[]).await;
        other.receive().await;
        // Another worker may have answered that request, so the socket gets a little more time.
        timeout(Duration::from_millis(50), self.receive()).await.is_err()
    }

    /// Receives blocks until this one comes.
    pub(crate) async fn receive_block(&mut self, block: u16) {
        let [high, low] = block.to_be_bytes();
        while !self.receive().await.starts_with(&[0, 3, high, low]) {}
    }

    /// Fetches a file with a window, asking again whenever a second passes in silence.
    pub(crate) async fn fetch(&mut self, path: &str, block_size: u16, window: u16) -> Vec<u8> {
        self.fetch_in("octet", path, block_size, window).await
    }

    pub(crate) async fn fetch_in(&mut self, mode: &str, path: &str, block_size: u16, window: u16) -> Vec<u8> {
        let options = [("blksize", u32::from(block_size)), ("windowsize", u32::from(window)), ("tsize", 0)];
        let mut content = Vec::new();
        let mut buffer = vec![0; 65536];
        let (mut next, mut in_window) = (1u64, 0);
        self.request_in(mode, path, &options).await;
        loop {
            let Ok(received) = timeout(Duration::from_secs(1), self.socket.recv_from(&mut buffer)).await else {
                match self.peer {
                    None => self.request_in(mode, path, &options).await,
                    Some(_) => self.acknowledge((next - 1) as u16).await,
                }
                continue;
            };
            let (length, std::net::SocketAddr::V4(from)) = received.unwrap() else { panic!("IPv4") };
            if from.ip() != self.server.ip() {
                continue;
            }
            assert_eq!(*self.peer.get_or_insert(from), from);
            match buffer[..length] {
                [0, 6, ..] => self.acknowledge(0).await,
                [0, 3, high, low, ref block @ ..] if [high, low] == (next as u16).to_be_bytes() => {
                    content.extend_from_slice(block);
                    in_window += 1;
                    let last = block.len() < block_size.into();
                    if last || in_window == window {
                        self.acknowledge(next as u16).await;
                        in_window = 0;
                    }
                    if last {
                        return content;
                    }
                    next += 1;
                }
                [0, 3, ..] => {
                    in_window = 0;
                    self.acknowledge((next - 1) as u16).await;
                }
                ref other => panic!("{}", other.escape_ascii()),
            }
        }
    }
}
