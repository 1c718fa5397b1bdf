//! A transmitter that completes no frame, because a queue behind the cable holds every reply.

use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use pxe_lab::{
    Artifacts, Bridged, Datapath, Namespace, Pxed,
    cluster::{self, Machine, SERVER_ADDRESS, VERSION},
    requires::Skip,
    topology::INTERFACE,
};

use crate::{plug::Plug, wire::Query};

/// Queries while the transmitter is stuck: more than the frames of a queue (16,384 to receive and 4,096 for replies).
const QUERIES: usize = 25_000;

/// Queries that come while pxed is stopped. The rings have to hold them.
const BURST: usize = 10_000;

/// Queries sent between two checks that all were received.
const ROUND: usize = 1_000;

/// Rounds after the release: more queries than there are frames for replies.
const ROUNDS_AFTERWARDS: usize = 10;

/// The time limit for a round on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// The switch's end of the server's cable.
const SERVER_PORT: &str = "port0";

/// While the transmitter is stuck, every query is received, and replies without a free frame are counted. When it works
/// again, nothing is lost any more.
pub(crate) fn stuck_transmitter(datapath: Datapath) -> anyhow::Result<()> {
    let network = Bridged::new(SERVER_ADDRESS, 1)?;
    let machine = Machine::number(1);
    let artifacts = Artifacts::stand_ins(&[VERSION], 1000)?;
    let spec = cluster::cluster(std::slice::from_ref(&machine));
    let pxed =
        Pxed::start(&network.server, &spec, artifacts.path(), &["--datapath", datapath.name(), "--machine-rate", "0"])?;
    let plug = Plug::open(&network.clients[0], INTERFACE)?;
    plug.ask(&Query::discover(&machine)?)?;

    hold_replies(&network.net)?;
    let before = Counts::read(&pxed)?;
    let mut sent = 0;
    let mut ask = |queries: usize, meanwhile: &dyn Fn() -> anyhow::Result<()>| {
        for _ in 0..queries {
            plug.send(&Query::discover(&machine)?.frame())?;
        }
        meanwhile()?;
        sent += queries;
        let mut counts = before;
        pxed.eventually("all queries received", SOON, |pxed| {
            counts = Counts::read(pxed)?;
            Ok(counts.received() - before.received() >= sent as f64)
        })
        .with_context(|| format!("{sent} sent; {before:?}, {counts:?}"))?;
        anyhow::Ok(counts)
    };
    for _ in 0..QUERIES / ROUND {
        ask(ROUND, &|| Ok(()))?;
    }
    let last = Counts::read(&pxed)?;
    pxed.process.signal(Signal::SIGSTOP)?;
    let counts = ask(BURST, &|| pxed.process.signal(Signal::SIGCONT))?;
    ensure!(counts.lost_replies - last.lost_replies == BURST as f64, "replies were sent: {last:?}, {counts:?}");
    ensure!(counts.lost_queries == 0.0, "queries were lost: {counts:?}");

    release_replies(&network.net)?;
    plug.ask(&Query::discover(&machine)?)?;
    plug.drain()?;
    let released = Counts::read(&pxed)?;
    for round in 0..ROUNDS_AFTERWARDS {
        let queries = (0..ROUND).map(|_| Ok(Query::discover(&machine)?.frame())).collect::<anyhow::Result<Vec<_>>>()?;
        let replies = plug.replies_to(&queries, &Query::discover(&machine)?)?;
        ensure!(replies.len() == ROUND, "round {round}: {} replies to {ROUND} queries", replies.len());
    }
    let counts = Counts::read(&pxed)?;
    let lost = (counts.lost_replies - released.lost_replies, counts.lost_queries);
    ensure!(lost == (0.0, 0.0), "frames are still lost: {released:?}, {counts:?}");
    Ok(())
}

/// The counters of pxed that show what happened to the queries.
#[derive(Clone, Copy, Debug)]
struct Counts {
    replies: f64,
    lost_replies: f64,
    lost_queries: f64,
}

impl Counts {
    fn read(pxed: &Pxed<'_>) -> anyhow::Result<Self> {
        let metrics = pxed.metrics()?;
        Ok(Self {
            replies: metrics.sum("pxed_dhcp_replies_total", &["message=\"offer\""]),
            lost_replies: metrics.sum("pxed_queue_lost_total", &["way=\"reply\""]),
            lost_queries: metrics.sum("pxed_queue_lost_total", &["way=\"receive\""]),
        })
    }

    fn received(&self) -> f64 {
        self.replies + self.lost_replies
    }
}

/// Makes the switch put all frames of the server into a queue that releases none of them.
///
/// In copy mode the kernel completes a frame when its packet is freed, and a packet that has passed the bridge
/// counts as freed. So the queue is in front of the bridge.
fn hold_replies(switch: &Namespace) -> anyhow::Result<()> {
    switch.ip(&["link", "add", "held", "type", "veth", "peer", "name", "void"])?;
    switch.ip(&["link", "set", "held", "up"])?;
    switch.ip(&["link", "set", "void", "up"])?;
    for command in [
        "qdisc add dev held root tbf rate 8bit burst 2000 limit 100000000".to_owned(),
        format!("qdisc add dev {SERVER_PORT} ingress"),
        format!(
            "filter add dev {SERVER_PORT} parent ffff: protocol all u32 match u32 0 0 action mirred egress redirect dev held"
        ),
    ] {
        let arguments: Vec<_> = command.split(' ').collect();
        switch.run("tc", &arguments).map_err(|error| Skip(format!("the kernel lacks a part of tc: {error:#}")))?;
    }
    Ok(())
}

/// Lets replies pass again, and frees the held ones.
fn release_replies(switch: &Namespace) -> anyhow::Result<()> {
    switch.run("tc", &["qdisc", "delete", "dev", SERVER_PORT, "ingress"])?;
    switch.run("tc", &["qdisc", "delete", "dev", "held", "root"]).map(drop)
}
