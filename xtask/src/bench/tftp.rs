//! TFTP: throughput, its cost, and what was lost, by clients and windows.

use std::{
    fs,
    io::Write as _,
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, ensure};
use pxe_tests::{
    Artifacts, Namespace, Pxed,
    assets::Architecture,
    cluster::{self, Machine},
    namespace::ip,
    requires::Skip,
    topology::{INTERFACE, veth},
};

use super::{
    load::tftp::{TftpLoad, TftpOutcome, pattern, run as load},
    peers::tftp::TftpPeer,
};

/// The server's address; the network is wide enough for every client.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// A gateway in the machines' network, which nothing goes through.
const GATEWAY: &str = "10.99.16.254";
/// Transfers of one address at once: what a site behind one translated address may have.
const CLIENTS_AN_ADDRESS: usize = 32;
/// What every loader asks for that fits an Ethernet frame.
const BLOCK_SIZE: u16 = 1468;
/// What a kernel or an initramfs is like.
const LARGE: File = File { name: "large", length: 100 << 20 };
/// What a loader is like.
const SMALL: File = File { name: "small", length: 1 << 20 };

/// What the section takes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Runs of each cell and server
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
    /// Seconds that a cell runs, at most; those of a thousand clients run to their end
    #[arg(long, default_value_t = 1.5)]
    pub(crate) seconds: f64,
    /// Clients at once
    #[arg(long, value_delimiter = ',', default_values_t = [1, 32, 1000])]
    pub(crate) clients: Vec<usize>,
    /// Windowsizes
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4, 8, 64])]
    pub(crate) windows: Vec<u16>,
    /// Servers: pxed, pxed-cut (the kernel cuts windows into datagrams before the network), tftpd-hpa, atftpd, dnsmasq, rs-tftpd
    #[arg(long, value_delimiter = ',')]
    pub(crate) servers: Vec<String>,
    /// Do not repeat what has no peer: windows with servers that do not know them
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Clone, Copy, Debug)]
struct File {
    name: &'static str,
    length: usize,
}

/// Who serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    /// pxed. veth hands a window over in one piece.
    Pxed,
    /// pxed on an interface that, like a card without the offload, has the kernel cut windows.
    PxedCut,
    Peer(TftpPeer),
}

impl Server {
    fn all() -> impl Iterator<Item = Self> {
        [Self::Pxed, Self::PxedCut].into_iter().chain(TftpPeer::ALL.map(Self::Peer))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Pxed => "pxed",
            Self::PxedCut => "pxed-cut",
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

/// What one run of a cell gave.
#[derive(Clone, Debug)]
struct Sample {
    outcome: TftpOutcome,
    /// Processor time of the server's processes, in seconds.
    server: f64,
    /// Time of the whole machine in soft interrupts, in seconds; partly the same.
    softirq: f64,
}

/// Measures all cells and prints their table.
///
/// # Errors
///
/// When the network cannot be made or pxed does not start.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let wire = Wire::new(args)?;
    let cells = args.clients.iter().flat_map(|&clients| args.windows.iter().map(move |&window| (clients, window)));
    let servers: Vec<_> = Server::all()
        .filter(|server| args.servers.is_empty() || args.servers.iter().any(|name| name == server.name()))
        .collect();
    println!(
        "TFTP, blksize {BLOCK_SIZE}; medians (lowest to highest) of {} rounds; CPU in s/GB. veth hands segmented sends over \
         whole, which flatters pxed; pxed-cut is pxed without that.",
        args.rounds
    );
    println!(
        "{:>7} {:>6} {:<10} {:>22} {:>7} {:>20} {:>7} {:>8} {:>6} {:>6} {:>6} {:>9}",
        "clients",
        "window",
        "server",
        "MB/s",
        "x best",
        "CPU",
        "softirq",
        "timeouts",
        "failed",
        "done",
        "granted",
        "p50/p99 ms"
    );
    for (clients, window) in cells {
        let (file, limit) = if clients > 100 { (SMALL, 20.0) } else { (LARGE, args.seconds) };
        let cell = Cell { clients, window, file, limit: Duration::from_secs_f64(limit) };
        let suited: Vec<_> = servers
            .iter()
            .copied()
            .filter(|server| match server {
                Server::Peer(peer) => args.all || window == 1 || peer.knows_windows(),
                Server::PxedCut => window > 1,
                Server::Pxed => true,
            })
            .collect();
        let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); suited.len()];
        for _ in 0..args.rounds {
            for (server, samples) in suited.iter().zip(&mut samples) {
                match wire.measure(*server, &cell) {
                    Ok(sample) => samples.push(sample),
                    Err(error) if error.is::<Skip>() => eprintln!("SKIPPED {}: {error}", server.name()),
                    Err(error) => eprintln!("{}: {error:#}", server.name()),
                }
            }
        }
        print(&cell, &suited, &samples);
    }
    Ok(())
}

fn print(cell: &Cell, servers: &[Server], samples: &[Vec<Sample>]) {
    let rate = |sample: &Sample| sample.outcome.megabytes_per_second();
    let is_peer = |server: &Server| matches!(server, Server::Peer(_));
    let medians = servers.iter().zip(samples).filter(|(server, _)| is_peer(server));
    let best = medians.map(|(_, samples)| spread(samples, rate).1).fold(0.0, f64::max);
    for (server, samples) in servers.iter().zip(samples) {
        let per_gigabyte = |seconds: f64, sample: &Sample| seconds / (sample.outcome.bytes as f64 / 1e9).max(1e-9);
        let (lowest, median, highest) = spread(samples, rate);
        let (cpu_lowest, cpu, cpu_highest) = spread(samples, |sample| per_gigabyte(sample.server, sample));
        let softirq = spread(samples, |sample| per_gigabyte(sample.softirq, sample)).1;
        let sum = |count: fn(&TftpOutcome) -> u64| samples.iter().map(|sample| count(&sample.outcome)).sum::<u64>();
        let granted = samples.iter().map(|sample| sample.outcome.window).max().unwrap_or_default();
        let quantile =
            |share| spread(samples, |sample| sample.outcome.quantile(share).unwrap_or_default().as_secs_f64() * 1e3).1;
        println!(
            "{:>7} {:>6} {:<10} {:>22} {:>7} {:>20} {softirq:>7.2} {:>8} {:>6} {:>6} {granted:>6} {:>9}",
            cell.clients,
            cell.window,
            server.name(),
            format!("{median:.0} ({lowest:.0} to {highest:.0})"),
            if best > 0.0 { format!("{:.2}", median / best) } else { "-".to_owned() },
            format!("{cpu:.2} ({cpu_lowest:.2} to {cpu_highest:.2})"),
            sum(|outcome| outcome.timeouts),
            sum(|outcome| outcome.failed),
            sum(|outcome| outcome.finished),
            format!("{:.0}/{:.0}", quantile(0.5), quantile(0.99)),
        );
        if let Some(failure) = samples.iter().find_map(|sample| sample.outcome.first_failure.as_ref()) {
            println!("        {}: {failure}", server.name());
        }
    }
}

/// Lowest, median and highest.
fn spread(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> (f64, f64, f64) {
    let mut values: Vec<_> = samples.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or_default();
    (at(0), at(values.len() / 2), at(values.len().saturating_sub(1)))
}

/// Two namespaces and a cable; files to serve.
struct Wire {
    server: Namespace,
    client: Namespace,
    files: Artifacts,
}

impl Wire {
    fn new(args: &Args) -> anyhow::Result<Self> {
        let files = Artifacts::stand_ins(&[cluster::VERSION], 1000)?;
        for File { name, length } in [LARGE, SMALL] {
            let path = files.path().join(name);
            fs::write(&path, pattern(length))?;
            // What machines boot was not written this second.
            fs::File::options().write(true).open(path)?.set_modified(SystemTime::now() - Duration::from_secs(3600))?;
        }
        // Peers give up their privileges.
        fs::set_permissions(files.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let (server, client) = (Namespace::new("server")?, Namespace::new("client")?);
        veth(&server, INTERFACE, &client, INTERFACE)?;
        server.ip(&["address", "add", &format!("{SERVER}/16"), "dev", INTERFACE])?;
        client.ip(&["address", "add", "10.99.0.2/16", "dev", INTERFACE])?;
        // Every address of this network is the clients'.
        client.ip(&["route", "add", "local", "10.99.16.0/20", "dev", "lo"])?;
        // Machines have asked for each other's MACs before they speak TFTP; here that many at once would lose packets.
        let most = args.clients.iter().copied().max().unwrap_or_default();
        neighbours(&server, addresses(most), &mac(&client)?)?;
        neighbours(&client, [SERVER].into_iter(), &mac(&server)?)?;
        Ok(Self { server, client, files })
    }

    /// Runs one cell against a server of its own.
    fn measure(&self, server: Server, cell: &Cell) -> anyhow::Result<Sample> {
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

    fn sample(&self, cell: &Cell) -> anyhow::Result<Sample> {
        let &Cell { clients, window, file: File { name, length }, limit } = cell;
        let load_ = TftpLoad {
            server: SocketAddrV4::new(SERVER, 69),
            file: name.to_owned(),
            length: length as u64,
            addresses: addresses(clients).collect(),
            clients,
            block_size: BLOCK_SIZE,
            window,
            transfers: clients as u64 * if clients > 100 { 1 } else { 1000 },
            limit,
        };
        let (server_before, softirq_before) = (processor_seconds(&self.server)?, softirq_seconds()?);
        let outcome = self.client.enter(|| load(&load_))??;
        let (server_after, softirq_after) = (processor_seconds(&self.server)?, softirq_seconds()?);
        Ok(Sample { outcome, server: server_after - server_before, softirq: softirq_after - softirq_before })
    }
}

fn addresses(clients: usize) -> impl Iterator<Item = Ipv4Addr> {
    let first = Ipv4Addr::new(10, 99, 16, 0).to_bits();
    (1..=clients.div_ceil(CLIENTS_AN_ADDRESS) as u32).map(move |number| Ipv4Addr::from_bits(first + number))
}

/// The MAC of a namespace's interface.
fn mac(namespace: &Namespace) -> anyhow::Result<String> {
    let text = namespace.ip(&["-o", "link", "show", "dev", INTERFACE])?;
    let mac = text.split_whitespace().skip_while(|word| *word != "link/ether").nth(1);
    Ok(mac.with_context(|| format!("no MAC in {text}"))?.to_owned())
}

/// Tells a namespace the MAC of these addresses.
fn neighbours(namespace: &Namespace, of: impl Iterator<Item = Ipv4Addr>, mac: &str) -> anyhow::Result<()> {
    let mut commands = tempfile::NamedTempFile::new()?;
    for address in of {
        writeln!(commands, "neighbour replace {address} lladdr {mac} dev {INTERFACE} nud permanent")?;
    }
    namespace.ip(&["-batch", commands.path().to_str().context("a path that is not UTF-8")?]).map(drop)
}

/// A cluster with a machine at each of the clients' addresses.
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

/// Processor time of all processes in a namespace, with their children that have ended, in seconds.
fn processor_seconds(namespace: &Namespace) -> anyhow::Result<f64> {
    let mut ticks = 0;
    for process in ip(&["netns", "pids", namespace.name()])?.lines() {
        // One that ended meanwhile is counted by its parent.
        let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else { continue };
        // proc(5): behind the name come state (3) and others; utime is 14, cstime 17.
        let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ');
        ticks += fields.skip(11).take(4).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>();
    }
    Ok(ticks as f64 / TICKS_A_SECOND)
}

/// USER_HZ, which is part of the kernel's interface.
const TICKS_A_SECOND: f64 = 100.0;

/// Time of all processors in soft interrupts, in seconds.
fn softirq_seconds() -> anyhow::Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let all = stat.lines().next().context("an empty /proc/stat")?;
    let fields: Vec<_> = all.split_whitespace().collect();
    ensure!(fields.len() > 7, "/proc/stat: {all}");
    Ok(fields[7].parse::<f64>()? / TICKS_A_SECOND)
}
