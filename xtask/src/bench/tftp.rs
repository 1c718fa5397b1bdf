//! TFTP: throughput, CPU time and losses, by clients and windows.

use std::{
    fs,
    io::Write as _,
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use pxe_common::MacAddr;
use pxe_lab::{
    Artifacts, Namespace, Pxed,
    assets::Architecture,
    cluster::{self, Machine},
    topology::{INTERFACE, veth},
};

use super::{
    cpu::{self, Cpu, Meter},
    load::{
        tftp::{TftpOutcome, run as load},
        tftp_client::{TftpLoad, pattern},
    },
    peers::tftp::TftpPeer,
    plan::Plan,
    report::{Chapter, Goal, Samples, Table, ratio},
};

/// The server's address; the network is wide enough for every client.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// A gateway in the machines' network. No traffic passes it.
const GATEWAY: &str = "10.99.16.254";
/// Concurrent transfers of one address: the share of a site behind one translated address.
const CLIENTS_AN_ADDRESS: usize = 32;
/// The duration of a cell in seconds; a cell with a thousand clients runs to its end.
const SECONDS: f64 = 1.5;
/// The largest block size that fits an Ethernet frame. Every loader requests it.
const BLOCK_SIZE: u16 = 1468;
/// A file like a kernel or an initramfs.
const LARGE: File = File { name: "large", length: 100 << 20 };
/// A file like a loader.
const SMALL: File = File { name: "small", length: 1 << 20 };

#[derive(Clone, Copy, Debug)]
struct File {
    name: &'static str,
    length: usize,
}

/// The server under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    /// pxed; veth hands a window over in one piece.
    Pxed,
    /// pxed on an interface without UDP segmentation offload, where the kernel segments windows.
    PxedCut,
    Peer(TftpPeer),
}

impl Server {
    fn all() -> impl Iterator<Item = Self> {
        [Self::Pxed, Self::PxedCut].into_iter().chain(TftpPeer::ALL.map(Self::Peer))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Pxed => "**pxed**",
            Self::PxedCut => "**pxed**, cut",
            Self::Peer(peer) => peer.name(),
        }
    }
}

/// One cell of the table.
#[derive(Clone, Copy, Debug)]
struct Cell {
    clients: usize,
    window: u16,
    file: File,
    limit: Duration,
}

/// Measures all servers.
///
/// # Errors
///
/// Fails if the network cannot be created or a server does not start.
pub(super) fn measure(plan: &Plan) -> anyhow::Result<Chapter> {
    let clients: &[usize] = if plan.quick { &[32] } else { &[1, 32, 1_000] };
    let windows: &[u16] = if plan.quick { &[1, 64] } else { &[1, 4, 8, 64] };
    let wire = Wire::new(clients.iter().copied().max().unwrap_or_default())?;
    let mut chapter = Chapter {
        title: "TFTP".to_owned(),
        text: format!(
            "Block size {BLOCK_SIZE}; files of {} MiB, of {} MiB with a thousand clients, from the page cache. The load client is our own \
             and checks every block. *Timeouts* are requests and acknowledgements that it had to repeat. veth hands the windows that \
             pxed sends in one piece (UDP GSO) to the other side uncut, which flatters them; *cut* is pxed on an interface without \
             that offload, like some cards, where the kernel segments them first. tftpd-hpa and dnsmasq do not support windows.",
            LARGE.length >> 20,
            SMALL.length >> 20
        ),
        ..Chapter::default()
    };
    for &clients in clients {
        let mut table = Table::new([
            "window",
            "server",
            "MB/s",
            "CPU s per GB",
            "of which the server's processes",
            "timeouts",
            "failed",
            "p99 of a transfer, s",
        ]);
        for &window in windows {
            let (file, seconds) = if clients > 100 { (SMALL, 20.0) } else { (LARGE, SECONDS) };
            let cell = Cell { clients, window, file, limit: Duration::from_secs_f64(seconds) };
            let results = wire.rounds(plan, &cell)?;
            for (server, figures) in &results {
                table.row(figures.row(window, *server));
            }
            chapter.goals.extend(goals(&cell, &results));
        }
        chapter.tables.push((format!("{clients} client{}:", if clients == 1 { "" } else { "s" }), table));
    }
    Ok(chapter)
}

/// The samples of a server in one cell.
#[derive(Clone, Debug, Default)]
struct Figures {
    rate: Samples,
    total: Samples,
    process: Samples,
    timeouts: Samples,
    failed: Samples,
    p99: Samples,
}

impl Figures {
    fn add(
        &mut self,
        TftpOutcome { bytes, timeouts, failed, .. }: &TftpOutcome,
        rate: f64,
        p99: Option<f64>,
        used: Cpu,
    ) {
        let gigabytes = (*bytes as f64 / 1e9).max(1e-9);
        self.rate.push(rate);
        self.total.push(used.total() / gigabytes);
        self.process.push(used.process / gigabytes);
        self.timeouts.push(*timeouts as f64);
        self.failed.push(*failed as f64);
        // `None` if no transfer finished in time.
        p99.into_iter().for_each(|p99| self.p99.push(p99));
    }

    fn row(&self, window: u16, server: Server) -> [String; 8] {
        let Self { rate, total, process, timeouts, failed, p99 } = self;
        let [rate, total, process, timeouts, failed, p99] =
            [rate, total, process, timeouts, failed, p99].map(Samples::show);
        [window.to_string(), server.name().to_owned(), rate, total, process, timeouts, failed, p99]
    }
}

/// Returns the goals of a cell: the factor over the best peer's throughput, and the factor below its CPU time.
const fn wanted(clients: usize, window: u16) -> Option<(f64, Option<f64>)> {
    match (clients, window) {
        (32 | 1_000, 1) => Some((1.2, None)),
        (32, 8) => Some((3.0, None)),
        (32, 64) => Some((5.0, Some(5.0))),
        _ => None,
    }
}

fn goals(cell: &Cell, results: &[(Server, Figures)]) -> Vec<Goal> {
    let Some((throughput, cost)) = wanted(cell.clients, cell.window) else { return Vec::new() };
    let Some((_, ours)) = results.iter().find(|(server, _)| *server == Server::Pxed) else { return Vec::new() };
    let peers = || results.iter().filter(|(server, _)| matches!(server, Server::Peer(_))).map(|(_, figures)| figures);
    let best = peers().filter_map(|peer| peer.rate.median()).reduce(f64::max);
    let cheapest = peers().filter_map(|peer| peer.total.median()).reduce(f64::min);
    let what = format!("{} clients, window {}", cell.clients, cell.window);
    let throughput =
        Goal::at_least(format!("{what}: MB/s, pxed ÷ the best peer"), throughput, ratio(ours.rate.median(), best));
    let cost = cost.map(|cost| {
        let reached = ratio(cheapest, ours.total.median());
        Goal::at_least(format!("{what}: CPU per GB, the cheapest peer ÷ pxed"), cost, reached)
    });
    let lost = (cell.window == 1).then(|| {
        let lost = ours.timeouts.median().zip(ours.failed.median()).map(|(timeouts, failed)| timeouts + failed);
        Goal::at_most(format!("{what}: timeouts and failures of pxed"), 0.0, "", lost)
    });
    [Some(throughput), cost, lost].into_iter().flatten().collect()
}

/// Two namespaces, a cable between them, and files to serve.
struct Wire {
    server: Namespace,
    client: Namespace,
    files: Artifacts,
    /// The MACs of the client's interface and of the server's.
    macs: (MacAddr, MacAddr),
}

impl Wire {
    /// Creates the network for this number of concurrent clients.
    fn new(clients: usize) -> anyhow::Result<Self> {
        let files = Artifacts::stand_ins(&[cluster::VERSION], 1000)?;
        for File { name, length } in [LARGE, SMALL] {
            let path = files.path().join(name);
            fs::write(&path, pattern(length))?;
            // The files that machines boot were not written a second ago.
            fs::File::options().write(true).open(path)?.set_modified(SystemTime::now() - Duration::from_secs(3600))?;
        }
        // The peers drop their privileges.
        fs::set_permissions(files.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let (server, client) = (Namespace::new("server")?, Namespace::new("client")?);
        veth(&server, INTERFACE, &client, INTERFACE)?;
        server.ip(&["address", "add", &format!("{SERVER}/16"), "dev", INTERFACE])?;
        client.ip(&["address", "add", "10.99.0.2/16", "dev", INTERFACE])?;
        // Every address of this network belongs to the clients.
        client.ip(&["route", "add", "local", "10.99.16.0/20", "dev", "lo"])?;
        // Real machines have resolved MACs by ARP before they speak TFTP; resolving all of them at once would lose packets here.
        let macs = (mac(&client)?, mac(&server)?);
        neighbours(&server, addresses(clients), macs.0)?;
        neighbours(&client, [SERVER].into_iter(), macs.1)?;
        Ok(Self { server, client, files, macs })
    }

    /// Runs one cell against every server that supports it; the servers take turns.
    fn rounds(&self, plan: &Plan, cell: &Cell) -> anyhow::Result<Vec<(Server, Figures)>> {
        let suits = |server: &Server| match server {
            Server::Peer(peer) => cell.window == 1 || peer.knows_windows(),
            Server::PxedCut => cell.window > 1,
            Server::Pxed => true,
        };
        let mut results: Vec<_> = Server::all().filter(suits).map(|server| (server, Figures::default())).collect();
        for _ in 0..plan.rounds {
            for (server, figures) in &mut results {
                cpu::settle(Duration::from_secs(2));
                let (outcome, used) = self.measure(*server, cell).with_context(|| server.name())?;
                if let Some(failure) = &outcome.first_failure {
                    eprintln!("xtask: {}: {failure}", server.name());
                }
                let p99 = outcome.quantile(0.99).map(|time| time.as_secs_f64());
                figures.add(&outcome, outcome.megabytes_per_second(), p99, used);
            }
        }
        Ok(results)
    }

    /// Runs one cell against a newly started server.
    fn measure(&self, server: Server, cell: &Cell) -> anyhow::Result<(TftpOutcome, Cpu)> {
        let cut = if server == Server::PxedCut { "off" } else { "on" };
        self.server.run("ethtool", &["-K", INTERFACE, "tx-udp-segmentation", cut])?;
        match server {
            Server::Pxed | Server::PxedCut => {
                let pxed = Pxed::start(&self.server, &spec(addresses(cell.clients)), self.files.path(), &[])?;
                let sample = self.sample(cell);
                drop(pxed);
                sample
            }
            Server::Peer(peer) => {
                let process = peer.start(&self.server, SERVER, self.files.path())?;
                let sample = self.sample(cell);
                drop(process);
                sample
            }
        }
    }

    fn sample(&self, cell: &Cell) -> anyhow::Result<(TftpOutcome, Cpu)> {
        let load_ = self.load(cell);
        let meter = Meter::start(&self.server)?;
        let outcome = self.client.enter(|| load(&load_))??;
        Ok((outcome, meter.used()?))
    }

    fn load(&self, cell: &Cell) -> TftpLoad {
        let &Cell { clients, window, file: File { name, length }, limit } = cell;
        TftpLoad {
            server: SocketAddrV4::new(SERVER, 69),
            file: name.to_owned(),
            length: length as u64,
            addresses: addresses(clients).collect(),
            clients,
            block_size: BLOCK_SIZE,
            window,
            transfers: clients as u64 * if clients > 100 { 1 } else { 1000 },
            limit,
            macs: self.macs,
        }
    }
}

fn addresses(clients: usize) -> impl Iterator<Item = Ipv4Addr> {
    let first = Ipv4Addr::new(10, 99, 16, 0).to_bits();
    (1..=clients.div_ceil(CLIENTS_AN_ADDRESS) as u32).map(move |number| Ipv4Addr::from_bits(first + number))
}

/// Returns the MAC of a namespace's interface.
fn mac(namespace: &Namespace) -> anyhow::Result<MacAddr> {
    let text = namespace.ip(&["-o", "link", "show", "dev", INTERFACE])?;
    let mac = text.split_whitespace().skip_while(|word| *word != "link/ether").nth(1);
    mac.and_then(|mac| mac.parse().ok()).with_context(|| format!("no MAC in {text}"))
}

/// Adds the MAC of these addresses to a namespace's neighbour table.
fn neighbours(namespace: &Namespace, of: impl Iterator<Item = Ipv4Addr>, mac: MacAddr) -> anyhow::Result<()> {
    let mut commands = tempfile::NamedTempFile::new()?;
    for address in of {
        writeln!(commands, "neighbour replace {address} lladdr {mac} dev {INTERFACE} nud permanent")?;
    }
    namespace.ip(&["-batch", commands.path().to_str().context("a path that is not UTF-8")?]).map(drop)
}

/// Returns a cluster with a machine at each of the clients' addresses.
fn spec(addresses: impl Iterator<Item = Ipv4Addr>) -> String {
    let machines: Vec<_> = addresses
        .map(|address| {
            let [_, _, high, low] = address.octets();
            Machine {
                mac: format!("52:54:00:99:{high:02x}:{low:02x}"),
                address: address.to_string(),
                architecture: Architecture::Amd64,
                kernel_args: String::new(),
            }
        })
        .collect();
    cluster::cluster_with_gateway(&machines, GATEWAY)
}
