//! Interfaces with several receive queues, like every server card.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, ensure};
use pxe_common::layout::QUEUES_CAPACITY;
use pxe_lab::{Datapath, Namespace, cluster::Machine, requires, suite, topology::INTERFACE};

use crate::{
    bench::{Bench, frames},
    plug::Plug,
    wire::{OFFER, Query},
};

const QUEUES: u32 = 4;

/// The time limit for an added queue to be served.
const SOON: Duration = Duration::from_secs(10);

/// A frame on any queue is answered; with an XDP program, by the socket of that queue.
pub(crate) fn all_answered(datapath: Datapath) -> anyhow::Result<()> {
    requires::tools(&["ethtool"])?;
    let bench = Bench::with_queues(QUEUES)?;
    let machine = Machine::number(1);
    let pxed = bench.pxed(datapath, std::slice::from_ref(&machine), &["--machine-rate", "0"])?;
    let plug = bench.plug()?;
    let mut client = Steering::new(&bench.client);
    for queue in 0..QUEUES {
        client.send_by(queue)?;
        let (before, redirected) = (received(&bench.server)?, frames(&pxed.metrics()?, "redirected"));
        ensure!(plug.ask(&Query::discover(&machine)?)?.kind() == Some(OFFER), "queue {queue}");
        if datapath.has_program() {
            ensure!(frames(&pxed.metrics()?, "redirected") > redirected, "queue {queue} was answered past the program");
        }
        // The driver counts only the frames of a program that it runs itself.
        if datapath == Datapath::Xdp {
            let now = received(&bench.server)?;
            let others = now.iter().filter(|&(number, count)| *number != queue && before.get(number) != Some(count));
            ensure!(now.get(&queue) > before.get(&queue) && others.count() == 0, "not by queue {queue}: {now:?}");
        }
    }
    Ok(())
}

/// `ethtool -L` while pxed runs: frames of new queues have no socket until pxed has noticed the queues.
pub(crate) fn added(datapath: Datapath) -> anyhow::Result<()> {
    requires::tools(&["ethtool"])?;
    let bench = Bench::with_queues(QUEUES)?;
    bench.client.run("ethtool", &["-L", INTERFACE, "rx", "1", "tx", "1"])?;
    bench.server.run("ethtool", &["-L", INTERFACE, "rx", "1", "tx", "1"])?;
    let machine = Machine::number(1);
    let pxed = bench.pxed(datapath, std::slice::from_ref(&machine), &["--machine-rate", "0"])?;
    let plug = bench.plug()?;
    let mut client = Steering::new(&bench.client);
    plug.ask(&Query::discover(&machine)?)?;

    bench.server.run("ethtool", &["-L", INTERFACE, "rx", &QUEUES.to_string(), "tx", &QUEUES.to_string()])?;
    bench.client.run("ethtool", &["-L", INTERFACE, "rx", &QUEUES.to_string(), "tx", &QUEUES.to_string()])?;
    for queue in 0..QUEUES {
        client.send_by(queue)?;
        suite::eventually(&format!("an answer by queue {queue}"), SOON, || is_answered(&plug, &machine))
            .with_context(|| pxed.process.last_lines())?;
    }
    Ok(())
}

/// The program's map limits the number of sockets. Frames of further queues go to the host's stack, and pxed reports it.
pub(crate) fn too_many(datapath: Datapath) -> anyhow::Result<()> {
    // With generic XDP, veth's receive queues have numbers one less than the queues that sent the frames.
    let (last, unserved) = (QUEUES_CAPACITY - 1, QUEUES_CAPACITY + 1);
    let bench = Bench::with_queues(unserved + 1)?;
    let machine = Machine::number(1);
    let pxed = bench.pxed(datapath, std::slice::from_ref(&machine), &["--machine-rate", "0"])?;
    let plug = bench.plug()?;
    let mut client = Steering::new(&bench.client);
    let said = pxed.process.output().contains(&format!("only the first {QUEUES_CAPACITY} are served"));
    ensure!(said == datapath.has_program(), "said: {said}: {}", pxed.process.last_lines());
    client.send_by(last)?;
    plug.ask(&Query::discover(&machine)?)?;
    if datapath.has_program() {
        let before = frames(&pxed.metrics()?, "no_socket_on_queue");
        client.send_by(unserved)?;
        let unanswered = Query::discover(&machine)?;
        plug.send(&unanswered.frame())?;
        client.send_by(last)?;
        // It comes by another queue, and there is no order between queues.
        pxed.eventually("the frame of the last queue among those that pass", SOON, |pxed| {
            Ok(frames(&pxed.metrics()?, "no_socket_on_queue") - before == 1.0)
        })?;
        let replies = plug.replies_to(&[], &Query::discover(&machine)?)?;
        ensure!(replies.iter().all(|reply| reply.xid() != unanswered.xid), "answered: {replies:?}");
    }
    Ok(())
}

/// The choice of the client's send queue: the other end of the cable receives on the queue of the same number.
struct Steering<'n> {
    client: &'n Namespace,
    queue: Option<u32>,
}

impl<'n> Steering<'n> {
    fn new(client: &'n Namespace) -> Self {
        Self { client, queue: None }
    }

    /// Sends by this queue from now on, on any processor.
    fn send_by(&mut self, queue: u32) -> anyhow::Result<()> {
        let directory = format!("/sys/class/net/{INTERFACE}/queues");
        let clear =
            self.queue.map_or_else(|| "true".to_owned(), |before| format!("echo 0 > {directory}/tx-{before}/xps_cpus"));
        // A range of processors such as `0-1` becomes a mask.
        let script = format!(
            "all=$(cat /sys/devices/system/cpu/possible) && {clear} && \
             printf '%x' $(( (1 << (${{all##*-}} + 1)) - 1 )) > {directory}/tx-{queue}/xps_cpus"
        );
        self.queue = Some(queue);
        self.client.run("sh", &["-c", &script]).map(drop)
    }
}

/// Returns the driver's counts of redirected frames, by queue.
fn received(namespace: &Namespace) -> anyhow::Result<BTreeMap<u32, u64>> {
    let text = namespace.run("ethtool", &["-S", INTERFACE])?;
    let count = |line: &str| {
        let (name, count) = line.trim().split_once(": ")?;
        let queue = name.strip_prefix("rx_queue_")?.strip_suffix("_xdp_redirect")?;
        Some((queue.parse().ok()?, count.parse().ok()?))
    };
    let counts: BTreeMap<_, _> = text.lines().filter_map(count).collect();
    ensure!(!counts.is_empty(), "the driver counts nothing: {text}");
    Ok(counts)
}

fn is_answered(plug: &Plug, machine: &Machine) -> anyhow::Result<bool> {
    let question = Query::discover(machine)?;
    plug.send(&question.frame())?;
    Ok(plug.await_reply(question.xid, Duration::from_millis(200))?.is_some())
}
