//! DHCP: exchanges a second, CPU time per exchange, and latency.

use std::time::Duration;

use super::{
    cpu::{self, Cpu, Meter},
    lab::{self, Pair, Sizes},
    peers::{dhcp::Setup, unpacked::Unpacked},
    plan::Plan,
    report::{Chapter, Goal, Samples, Table, ratio},
};

mod perfdhcp;
mod rehearsed;
mod server;

use perfdhcp::Load;
use server::{Server, Tools};

/// A server keeps up with a rate if it loses less than this part.
const LOSS_LIMIT: f64 = 0.01;
/// The factor between the rates that are tried.
const STEP: f64 = 1.2;
/// Beyond this, perfdhcp itself gives up.
const PERFDHCP_LIMIT: f64 = 24_000.0;
/// The duration of each rate.
const SECONDS: u32 = 3;

/// The samples of one server.
#[derive(Clone, Debug, Default)]
struct Figures {
    /// Exchanges a second: the highest rate with less than 1 % lost.
    rate: Samples,
    /// Microseconds of CPU per exchange at that rate: the server's processes alone, and with softirq.
    process_us: Samples,
    total_us: Samples,
    p50_ms: Samples,
    p99_ms: Samples,
}

/// Measures all servers.
///
/// # Errors
///
/// Fails if a peer cannot be fetched or does not start.
pub(super) fn measure(plan: &Plan) -> anyhow::Result<Chapter> {
    let tools = Tools {
        kea: Unpacked::of(&["kea-dhcp4-server", "kea-admin"])?,
        dnsmasq: Unpacked::of(&["dnsmasq-base"])?,
        artifacts: lab::artifacts(Sizes { loader: 1_000, kernel: 1_000, initramfs: 1_000 })?,
    };
    let mut chapter = Chapter {
        title: "DHCP".to_owned(),
        text: "perfdhcp plays a relay agent that forwards complete four-way exchanges (DISCOVER, OFFER, REQUEST, ACK), each from the \
               next machine of the fleet, all with static reservations. The rate is the highest, in steps of 20 %, at which less than \
               1 % was lost within 3 s; perfdhcp's own limit is near 25,000 here. CPU per exchange and the time from \
               DISCOVER to OFFER are measured at that rate. *As packaged*: as Debian's package sets it up, leases on the disk. \
               *Tuned*: no lease file, 16 MiB socket buffers, and dnsmasq logs no exchange; *silent*: Kea logs none either. \
               perfdhcp always has 16 MiB socket buffers."
            .to_owned(),
        ..Chapter::default()
    };
    let sizes: &[u32] = if plan.quick { &[10_000] } else { &[1_000, 10_000] };
    for &machines in sizes {
        let servers = servers(plan);
        let mut figures = vec![Figures::default(); servers.len()];
        for _ in 0..plan.rounds {
            for (server, figures) in servers.iter().zip(&mut figures) {
                let pair = Pair::new()?;
                cpu::settle(Duration::from_secs(5));
                let likely = figures.rate.median().unwrap_or_else(|| server.likely_rate(machines));
                server.with(&tools, &pair, machines, || figures.take(&tools, &pair, machines, likely))?;
            }
        }
        chapter.tables.push((format!("{machines} reservations:"), table(&servers, &figures)));
        if machines == 10_000 {
            chapter.goals = goals(&servers, &figures);
        }
    }
    rehearsed::measure(plan, &tools, &mut chapter)?;
    Ok(chapter)
}

fn servers(plan: &Plan) -> Vec<Server> {
    let telling = [Server::Pxed { datapath: "xdp" }, Server::Kea(Setup::Tuned), Server::Dnsmasq(Setup::Tuned)];
    let rest = [
        Server::Pxed { datapath: "socket" },
        Server::Kea(Setup::Silent),
        Server::Kea(Setup::Packaged),
        Server::Dnsmasq(Setup::Packaged),
    ];
    if plan.quick { telling.into() } else { telling.into_iter().chain(rest).collect() }
}

impl Figures {
    /// Runs one round: finds the highest rate and measures at it.
    fn take(&mut self, tools: &Tools, pair: &Pair, machines: u32, likely: f64) -> anyhow::Result<()> {
        let mut rate = likely;
        let mut best: Option<(f64, Cpu, f64)> = None;
        let mut has_failed = false;
        // Bounded: the search may go from the likely rate to either end.
        for _ in 0..24 {
            let load = Load { machines, rate: rate as u32, seconds: SECONDS };
            let meter = Meter::start(&pair.server)?;
            let outcome = perfdhcp::run(&tools.kea, &pair.client, load, false)?;
            let used = meter.used()?;
            let reached = outcome.completed as f64 / f64::from(SECONDS);
            if outcome.lost() < LOSS_LIMIT {
                if best.is_none_or(|(before, ..)| reached > before) {
                    best = Some((reached, used, outcome.completed as f64));
                }
                // The generator has reached its limit: a higher rate cannot be measured with it.
                if has_failed || reached < rate * 0.9 || rate >= PERFDHCP_LIMIT {
                    break;
                }
                rate *= STEP;
            } else {
                has_failed = true;
                if best.is_some() || rate < 20.0 {
                    break;
                }
                rate /= STEP;
            }
        }
        let Some((reached, used, completed)) = best else { return Ok(()) };
        self.rate.push(reached);
        self.process_us.push(used.process * 1e6 / completed);
        self.total_us.push(used.total() * 1e6 / completed);
        let load = Load { machines, rate: reached as u32, seconds: 1 };
        let outcome = perfdhcp::run(&tools.kea, &pair.client, load, true)?;
        self.p50_ms.push(outcome.offers_within(0.5).unwrap_or(f64::NAN));
        self.p99_ms.push(outcome.offers_within(0.99).unwrap_or(f64::NAN));
        Ok(())
    }
}

fn table(servers: &[Server], figures: &[Figures]) -> Table {
    let mut table = Table::new([
        "server",
        "exchanges/s",
        "CPU µs per exchange",
        "of which the server's processes",
        "DISCOVER→OFFER p50 ms",
        "p99 ms",
    ]);
    for (server, Figures { rate, process_us, total_us, p50_ms, p99_ms }) in servers.iter().zip(figures) {
        let cells = [rate, total_us, process_us, p50_ms, p99_ms].map(Samples::show);
        let [rate, total, process, p50, p99] = cells;
        table.row([server.name(), rate, total, process, p50, p99]);
    }
    table
}

fn goals(servers: &[Server], figures: &[Figures]) -> Vec<Goal> {
    let of =
        |wanted: Server| servers.iter().zip(figures).find(|(server, _)| **server == wanted).map(|(_, figures)| figures);
    let cost = |server| of(server).and_then(|figures| figures.total_us.median());
    let ours = cost(Server::Pxed { datapath: "xdp" });
    let goals = [
        ("CPU per exchange, Kea tuned ÷ pxed", 12.0, Server::Kea(Setup::Tuned)),
        ("the same, Kea tuned and silent ÷ pxed", 12.0, Server::Kea(Setup::Silent)),
        ("CPU per exchange, dnsmasq tuned ÷ pxed", 100.0, Server::Dnsmasq(Setup::Tuned)),
    ];
    let goals = goals.into_iter().filter(|(.., server)| servers.contains(server));
    goals.map(|(name, wanted, server)| Goal::at_least(name, wanted, ratio(cost(server), ours))).collect()
}
