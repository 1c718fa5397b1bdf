//! DHCP loads that perfdhcp cannot generate: firmware's own broadcasts, exchanges as fast as the server answers, and one burst.

use std::time::Duration;

use pxe_lab::Namespace;

use super::server::{Server, Tools};
use crate::bench::{
    cpu::{self, Meter},
    lab::Pair,
    peers::dhcp::Setup,
    plan::Plan,
    rehearse::{self, figure},
    report::{Chapter, Goal, Samples, Table, ratio},
};

/// Exchanges in flight: enough to keep any server busy, and few enough for every socket's buffer.
const OUTSTANDING: &str = "256";
/// The fleet.
const MACHINES: u32 = 10_000;

/// The samples of one server over several rounds.
#[derive(Clone, Debug, Default)]
struct Figures {
    rate: Samples,
    total_us: Samples,
    process_us: Samples,
    p99_ms: Samples,
    lost_percent: Samples,
    answered: Samples,
    last_ms: Samples,
}

/// Adds the tables and goals of both loads to the chapter.
///
/// # Errors
///
/// Fails if a peer does not start.
pub(super) fn measure(plan: &Plan, tools: &Tools, chapter: &mut Chapter) -> anyhow::Result<()> {
    let telling = [Server::Pxed { datapath: "xdp" }, Server::Kea(Setup::Tuned)];
    let rest = [Server::Pxed { datapath: "socket" }, Server::Kea(Setup::Silent), Server::Dnsmasq(Setup::Tuned)];
    let servers: Vec<_> = telling.into_iter().chain(rest.into_iter().filter(|_| !plan.quick)).collect();
    let mut figures = vec![Figures::default(); servers.len()];
    for _ in 0..plan.rounds {
        for (server, figures) in servers.iter().zip(&mut figures) {
            let pair = Pair::new()?;
            cpu::settle(Duration::from_secs(5));
            // The burst comes first, while no machine has a lease.
            server.with(tools, &pair, MACHINES, || figures.burst(&pair.client))?;
            cpu::settle(Duration::from_secs(5));
            server.with(tools, &pair, MACHINES, || figures.load(&pair))?;
        }
    }
    let mut sustained = Table::new([
        "server",
        "exchanges/s",
        "lost %",
        "CPU µs per exchange",
        "of which the server's processes",
        "DISCOVER→OFFER p99 ms",
    ]);
    let mut burst = Table::new(["server", "answered of 10,000", "the last after ms"]);
    for (server, figures) in servers.iter().zip(&figures) {
        let Figures { rate, total_us, process_us, p99_ms, lost_percent, answered, last_ms } = figures;
        let [rate, total, process, p99, lost] = [rate, total_us, process_us, p99_ms, lost_percent].map(Samples::show);
        sustained.row([server.name(), rate, lost, total, process, p99]);
        burst.row([server.name(), answered.show(), last_ms.show()]);
    }
    chapter.tables.push((
        format!(
            "As fast as the server answers: `pxed rehearse` keeps {OUTSTANDING} exchanges of {MACHINES} machines in flight, broadcast as \
             firmware does, without a relay:"
        ),
        sustained,
    ));
    chapter.tables.push(("One burst of 10,000 DISCOVERs, none of them repeated within 4 s:".to_owned(), burst));
    let of = |wanted: Server| servers.iter().position(|server| *server == wanted).and_then(|index| figures.get(index));
    let rate = |server: Server| of(server)?.rate.median();
    let cost = |server: Server| of(server)?.total_us.median();
    let (pxed, kea, silent) = (telling[0], Server::Kea(Setup::Tuned), Server::Kea(Setup::Silent));
    let dnsmasq = Server::Dnsmasq(Setup::Tuned);
    let ours = of(pxed).cloned().unwrap_or_default();
    for (goal, wanted, measured) in [
        ("sustained exchanges/s by rehearse, pxed ÷ Kea tuned", 15.0, ratio(rate(pxed), rate(kea))),
        ("the same, pxed ÷ Kea tuned and silent", 15.0, ratio(rate(pxed), rate(silent))),
        ("CPU per exchange by rehearse, Kea tuned ÷ pxed", 12.0, ratio(cost(kea), cost(pxed))),
        ("the same, Kea tuned and silent ÷ pxed", 12.0, ratio(cost(silent), cost(pxed))),
        ("the same, dnsmasq tuned ÷ pxed", 100.0, ratio(cost(dnsmasq), cost(pxed))),
    ] {
        // A ratio that was not measured is not a goal of this run.
        chapter.goals.extend(measured.map(|measured| Goal::at_least(goal, wanted, Some(measured))));
    }
    chapter.goals.extend([
        Goal::at_most(
            "one burst of 10,000 DISCOVERs: unanswered",
            0.0,
            "DISCOVERs",
            ours.answered.median().map(|n| 10_000.0 - n),
        ),
        Goal::at_most("one burst of 10,000 DISCOVERs: the last OFFER after", 150.0, "ms", ours.last_ms.median()),
    ]);
    Ok(())
}

impl Figures {
    fn burst(&mut self, client: &Namespace) -> anyhow::Result<()> {
        // The limit is shorter than the first retransmission.
        let arguments = ["--hurry", "--until", "offer", "--limit-seconds", "3"];
        let summary = rehearse::boot(client, MACHINES, &arguments)?;
        self.answered.push(figure(&summary, &["milestones", "offer", "count"]).unwrap_or(0.0));
        let last = figure(&summary, &["milestones", "offer", "all_seconds"]);
        last.into_iter().for_each(|seconds| self.last_ms.push(seconds * 1e3));
        Ok(())
    }

    fn load(&mut self, pair: &Pair) -> anyhow::Result<()> {
        let meter = Meter::start(&pair.server)?;
        let report = rehearse::load(&pair.client, MACHINES, &["--outstanding", OUTSTANDING, "--seconds", "3"])?;
        let used = meter.used()?;
        let number = |path: &[&str]| figure(&report, path).unwrap_or(0.0);
        let completed = number(&["completed"]);
        self.rate.push(number(&["exchanges_per_second"]));
        self.lost_percent.push(100.0 * (1.0 - completed / number(&["begun"]).max(1.0)));
        self.total_us.push(used.total() * 1e6 / completed.max(1.0));
        self.process_us.push(used.process * 1e6 / completed.max(1.0));
        self.p99_ms.push(number(&["latencies", "offer", "p99_us"]) / 1e3);
        Ok(())
    }
}
