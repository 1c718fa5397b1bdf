//! pxed's HTTP beside nginx: a kernel or an initramfs for many machines, and each machine's script.

use std::{
    fs,
    net::{SocketAddrV4, TcpListener},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use aya::programs::XdpMode;
use pxe_lab::{Pxed, suite};
use tempfile::TempDir;

use super::{
    cpu::{self, Cpu, Meter},
    lab::{self, Pair, SERVER, Sizes},
    load::http::{self, HttpLoad, HttpOutcome, Target},
    pass::Pass,
    peers::nginx::Nginx,
    plan::Plan,
    report::{Chapter, Goal, Samples, Table, number, ratio},
};

/// A large initramfs.
const FILE_BYTES: usize = 300 << 20;
const SCRIPT: &str = "script.ipxe";

/// The number of machines. Each asks for its script.
const MACHINES: u32 = 10_000;

/// The duration of a file load.
const LOADING: Duration = Duration::from_secs(2);

/// The limit for scripts and starts, even with a slow server.
const PATIENCE: Duration = Duration::from_secs(30);

/// The port of both servers, which run one at a time.
const PORT: u16 = 8000;

/// One kind of load.
struct Kind {
    name: &'static str,
    connections: usize,
    what: What,
    quick: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum What {
    File,
    /// The number of scripts for each machine, and on each connection.
    Scripts {
        each: usize,
        per_connection: usize,
    },
}

const ONE_BY_ONE: What = What::Scripts { each: 2, per_connection: 1 };

const KINDS: &[Kind] = &[
    Kind { name: "file, 1 client", connections: 1, what: What::File, quick: false },
    Kind { name: "file, 16 clients", connections: 16, what: What::File, quick: false },
    Kind { name: "file, 128 clients", connections: 128, what: What::File, quick: true },
    Kind { name: "scripts, 64 connections at once", connections: 64, what: ONE_BY_ONE, quick: true },
    Kind {
        name: "scripts, 10,000 connections at once",
        connections: 10_000,
        what: What::Scripts { each: 1, per_connection: 1 },
        quick: false,
    },
    Kind {
        name: "scripts, 10 on a connection, 64 at once",
        connections: 64,
        what: What::Scripts { each: 10, per_connection: 10 },
        quick: false,
    },
];

#[derive(Clone, Copy, Debug)]
enum Server {
    /// pxed's default, with its XDP program on the interface.
    Pxed,
    /// nginx with an empty XDP program on the interface.
    NginxXdp,
    /// pxed without an XDP program.
    PxedSocket,
    Nginx,
}

/// The servers in their order. They take turns, and are compared in pairs.
const SERVERS: [Server; 4] = [Server::Pxed, Server::NginxXdp, Server::PxedSocket, Server::Nginx];

/// The samples of one server under one kind of load.
#[derive(Default)]
struct Figures {
    rate: Samples,
    cpu: Samples,
    total_cpu: Samples,
    median_ms: Samples,
    slowest_ms: Samples,
    failed: Samples,
}

/// Measures both servers.
///
/// # Errors
///
/// Fails if a server cannot be fetched or does not start, or if a request to pxed fails.
pub(super) fn measure(plan: &Plan) -> anyhow::Result<Chapter> {
    let bench = Bench::new()?;
    let mut chapter = Chapter {
        title: "HTTP".to_owned(),
        text: format!(
            "A file of {} MiB in the page cache, read by clients that discard it in the kernel; and the script of each of {MACHINES} \
             machines, from its own address, against a file of the same length. nginx uses sendfile, tcp_nopush, one worker per \
             processor, an open-file cache and no log; pxed writes its events. Any XDP program, \
             even an empty one, makes TCP more expensive on veth (see Bystander). pxed's default is therefore compared to nginx with an \
             empty program on the interface (*XDP*), and pxed with `--datapath socket`, which attaches none, to nginx alone.",
            FILE_BYTES >> 20
        ),
        ..Chapter::default()
    };
    for kind in KINDS.iter().filter(|kind| kind.quick || !plan.quick) {
        let mut figures = SERVERS.map(|_| Figures::default());
        for round in 0..plan.rounds {
            // Rotate: each server finds the machine as its predecessor left it.
            let mut order = SERVERS;
            let length = order.len();
            order.rotate_left(round as usize % length);
            for server in order {
                let (outcome, cpu) = bench.measure(server, kind).with_context(|| kind.name)?;
                figures[server as usize].push(kind.what, &outcome, cpu);
            }
        }
        chapter.goals.extend(goals(kind, &figures));
        chapter.tables.push((format!("{}:", kind.name), table(kind.what, &figures)));
    }
    Ok(chapter)
}

/// Returns the pairs that are compared: with XDP on both sides, and without it.
fn pairs(figures: &[Figures; 4]) -> [(&'static str, &Figures, &Figures); 2] {
    let [pxed, nginx_xdp, socket, nginx] = figures;
    [("XDP", pxed, nginx_xdp), ("no XDP", socket, nginx)]
}

fn goals(kind: &Kind, figures: &[Figures; 4]) -> Vec<Goal> {
    let mut goals = Vec::new();
    for (how, pxed, nginx) in pairs(figures) {
        let name = format!("{}, {how}", kind.name);
        match (kind.connections, kind.what) {
            (128, What::File) | (64, What::Scripts { per_connection: 1, .. }) => {
                let rate = ratio(pxed.rate.median(), nginx.rate.median());
                let cpu = ratio(nginx.cpu.median(), pxed.cpu.median());
                let total = ratio(nginx.total_cpu.median(), pxed.total_cpu.median());
                goals.push(Goal::at_least(format!("{name}: rate, pxed ÷ nginx"), 1.0, rate));
                goals.push(Goal::at_least(format!("{name}: CPU, nginx ÷ pxed"), 1.0, cpu));
                goals.push(Goal::at_least(format!("{name}: CPU with softirq, nginx ÷ pxed"), 1.0, total));
            }
            (10_000, _) => {
                goals.push(Goal::at_most(format!("{name}: failed with pxed"), 0.0, "requests", pxed.failed.median()));
            }
            _ => {}
        }
    }
    goals
}

fn table(what: What, figures: &[Figures; 4]) -> Table {
    let columns = ["", "**pxed**, XDP", "nginx, XDP", "÷", "**pxed**, no XDP", "nginx, no XDP", "÷"];
    let mut table = Table::new(columns);
    let unit = if what == What::File { "GiB" } else { "1,000 requests" };
    let mut row = |name: String, of: fn(&Figures) -> &Samples| {
        let [with, without] = pairs(figures).map(|(_, pxed, nginx)| {
            let (ours, theirs) = (of(pxed), of(nginx));
            let times = ratio(ours.median(), theirs.median()).map_or_else(|| "–".to_owned(), number);
            [ours.show(), theirs.show(), times]
        });
        let ([ours, theirs, times], [bare, their_bare, bare_times]) = (with, without);
        table.row([name, ours, theirs, times, bare, their_bare, bare_times]);
    };
    row(format!("{unit} a second"), |figures| &figures.rate);
    row(format!("CPU s per {unit}, processes"), |figures| &figures.cpu);
    row(format!("CPU s per {unit}, with softirq"), |figures| &figures.total_cpu);
    if what != What::File {
        row("median, ms".to_owned(), |figures| &figures.median_ms);
        row("slowest, ms".to_owned(), |figures| &figures.slowest_ms);
        row("failed".to_owned(), |figures| &figures.failed);
    }
    table
}

struct Bench {
    pair: Pair,
    spec: String,
    files: TempDir,
    listen: SocketAddrV4,
}

impl Bench {
    fn new() -> anyhow::Result<Self> {
        let pair = Pair::new()?;
        pair.route_fleet()?;
        let files = lab::artifacts(Sizes { loader: 1, kernel: 1, initramfs: FILE_BYTES })?;
        let bench = Self { pair, spec: lab::spec(MACHINES), files, listen: SocketAddrV4::new(SERVER, PORT) };
        bench.keep_script()?;
        Ok(bench)
    }

    /// Saves pxed's script of the first machine, so that nginx serves the same text.
    fn keep_script(&self) -> anyhow::Result<()> {
        let _pxed = self.pxed("socket")?;
        let url = format!("http://{}{}", self.listen, script(0));
        let (_, source) = lab::machine(0);
        let text = self.pair.client.run("curl", &["-sSf", "--interface", &source.to_string(), &url])?;
        ensure!(text.starts_with("#!ipxe"), "{url} is no script: {text}");
        fs::write(self.files.path().join(SCRIPT), text).context("cannot keep the script")
    }

    fn pxed(&self, datapath: &str) -> anyhow::Result<Pxed<'_>> {
        Pxed::start(&self.pair.server, &self.spec, self.files.path(), &["--datapath", datapath])
    }

    fn measure(&self, server: Server, kind: &Kind) -> anyhow::Result<(HttpOutcome, Cpu)> {
        let load = self.load(server, kind);
        // Workers of the previous server may hold its port for a while after it ended, with thousands of connections to close.
        suite::eventually("the previous server to release its port", PATIENCE, || {
            Ok(self.pair.server.enter(|| TcpListener::bind(self.listen))?.is_ok())
        })?;
        match server {
            Server::Pxed | Server::PxedSocket => {
                let pxed = self.pxed(if matches!(server, Server::Pxed) { "auto" } else { "socket" })?;
                let (outcome, cpu) = self.under(&load)?;
                let reason = outcome.first_failure.as_deref().unwrap_or_default();
                let lines = || pxed.process.last_lines();
                ensure!(outcome.failures == 0, "{} requests failed: {reason}\n{}", outcome.failures, lines());
                Ok((outcome, cpu))
            }
            Server::NginxXdp | Server::Nginx => {
                let _pass = match server {
                    Server::NginxXdp => Some(self.empty_program()?),
                    _ => None,
                };
                let _nginx = Nginx::start(&self.pair.server, self.listen, self.files.path())?;
                self.under(&load)
            }
        }
    }

    fn empty_program(&self) -> anyhow::Result<Pass> {
        let mut pass = Pass::load()?;
        self.pair.server.enter(|| pass.attach(lab::INTERFACE, XdpMode::Driver))??;
        Ok(pass)
    }

    fn load(&self, server: Server, kind: &Kind) -> HttpLoad {
        let file = lab::initramfs();
        let (path, requests, requests_per_connection, within): (Box<dyn Fn(u32) -> String>, _, _, _) =
            match (kind.what, server) {
                (What::File, Server::Pxed | Server::PxedSocket) => {
                    (Box::new(move |_| format!("/assets/{file}")), None, 1, LOADING)
                }
                (What::File, Server::NginxXdp | Server::Nginx) => {
                    (Box::new(move |_| format!("/{file}")), None, 1, LOADING)
                }
                (What::Scripts { each, per_connection }, server) => {
                    let path: Box<dyn Fn(u32) -> String> = match server {
                        Server::Pxed | Server::PxedSocket => Box::new(script),
                        Server::NginxXdp | Server::Nginx => Box::new(|_| format!("/{SCRIPT}")),
                    };
                    (path, Some(MACHINES as usize * each), per_connection, PATIENCE)
                }
            };
        let target = |number| Target { source: Some(lab::machine(number).1), path: path(number) };
        HttpLoad {
            server: self.listen,
            connections: kind.connections,
            targets: (0..MACHINES).map(target).collect(),
            requests,
            requests_per_connection,
            within,
        }
    }

    fn under(&self, load: &HttpLoad) -> anyhow::Result<(HttpOutcome, Cpu)> {
        cpu::settle(Duration::from_secs(2));
        let meter = Meter::start(&self.pair.server)?;
        let outcome = self.pair.client.enter(|| http::run(load))??;
        Ok((outcome, meter.used()?))
    }
}

fn script(number: u32) -> String {
    format!("/boot/{}.ipxe", lab::machine(number).0)
}

impl Figures {
    fn push(&mut self, what: What, outcome: &HttpOutcome, cpu: Cpu) {
        let (rate, units) = match what {
            What::File => (outcome.gib_per_second(), outcome.gib()),
            What::Scripts { .. } => (outcome.requests_per_second() / 1e3, outcome.requests as f64 / 1e3),
        };
        let milliseconds = |share| outcome.latency(share).as_secs_f64() * 1e3;
        self.rate.push(rate);
        self.cpu.push(cpu.process / units);
        self.total_cpu.push(cpu.total() / units);
        self.median_ms.push(milliseconds(0.5));
        self.slowest_ms.push(milliseconds(1.0));
        self.failed.push(outcome.failures as f64);
    }
}
