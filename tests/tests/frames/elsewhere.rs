//! Frames in a machine's name that another host sends.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, ensure};
use pxe_lab::{Datapath, Pxed, cluster::Machine};
use serde_json::Value;

use crate::{
    bench::{Bench, SERVER_MAC, frames, server_at, silences},
    wire::{ACK, Mac, NAK, OFFER, Query, REQUEST, mac},
};

const ATTACKER: Mac = [0x06, 0, 0, 0, 0, 0x09];
/// The relay that an attacker pretends to be.
const RELAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The frames of each flood between two steps of the victim.
const FLOOD: u32 = 500;
/// What operating systems ask for (option 55), here Talos.
const TALOS: &[u8] = &[1, 3, 15, 6, 121, 119, 42, 26, 12];

/// Returns a frame in a machine's name, from another MAC address.
fn forged(machine: &Machine, source: Mac) -> anyhow::Result<Query> {
    Ok(Query { ethernet_source: source, ..Query::discover(machine)? })
}

/// Returns the same, as if a relay had forwarded it.
fn relayed(machine: &Machine, source: Mac) -> anyhow::Result<Query> {
    let destination = server_at(67)?;
    Ok(Query { giaddr: RELAY, destination, ethernet_destination: SERVER_MAC, ..forged(machine, source)? })
}

/// Every kind of flood, between the steps of its exchanges: the machine gets each answer at its first question.
pub(crate) fn flood(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let [victim, honest] = [1, 2].map(Machine::number);
    let mut pxed = bench.pxed(datapath, &[victim.clone(), honest.clone()], &[])?;
    let plug = bench.plug()?;
    let many = |number: u32| {
        let [_, b, c, d] = number.to_be_bytes();
        [0x0a, 0, 0, b, c, d]
    };
    let floods: [Vec<Vec<u8>>; 4] = [
        vec![forged(&victim, ATTACKER)?.frame(); FLOOD as usize],
        vec![relayed(&victim, ATTACKER)?.frame(); FLOOD as usize],
        (0..FLOOD).map(|number| Ok(forged(&victim, many(number))?.frame())).collect::<anyhow::Result<_>>()?,
        vec![forged(&victim, mac(&honest.mac)?)?.frame(); FLOOD as usize],
    ];
    for (round, flood) in floods.iter().cycle().take(8).enumerate() {
        let discover = Query::discover(&victim)?;
        for frame in flood {
            plug.send(frame)?;
        }
        let offer = plug.ask(&discover)?;
        ensure!(offer.kind() == Some(OFFER), "round {round}: {offer:?}");
        for frame in flood {
            plug.send(frame)?;
        }
        let address: Ipv4Addr = victim.address.parse()?;
        let ack = plug.ask(&Query::discover(&victim)?.with(&[(53, &[REQUEST]), (50, &address.octets())]))?;
        ensure!(ack.kind() == Some(ACK), "round {round}: {ack:?}");
        plug.drain()?;
    }
    ensure!(pxed.process.is_running()?, "pxed ended: {}", pxed.process.last_lines());
    let metrics = pxed.metrics()?;
    ensure!(frames(&metrics, "rate_limited") == 0.0, "the machine's own questions were refused");
    let limited = frames(&metrics, "others_rate_limited");
    ensure!(limited > f64::from(FLOOD), "{limited} forged frames were refused");
    // A relay that is no attacker's is heard.
    let relay = plug.ask(&relayed(&victim, [0x02, 0, 0, 0, 0, 0x0c])?)?;
    ensure!(relay.kind() == Some(OFFER) && relay.giaddr() == RELAY, "{relay:?}");
    let text = pxed.process.output();
    ensure!(text.lines().count() < 1_000, "{} lines were logged", text.lines().count());
    Ok(())
}

/// What another host sends moves no machine on, sends none to its disk, and is told apart.
pub(crate) fn changes_nothing(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let [victim, idle] = [1, 2].map(Machine::number);
    let pxed = bench.pxed(datapath, &[victim.clone(), idle.clone()], &[])?;
    let plug = bench.plug()?;
    let address: Ipv4Addr = victim.address.parse()?;
    let pxe = |query: Query| query.with(&[(53, &[1]), (60, b"PXEClient:Arch:00007:UNDI:003000"), (93, &[0, 7])]);
    plug.ask(&pxe(Query::discover(&victim)?))?;
    let before = until(&pxed, &victim, |machine| machine["stage"] == "offered")?;

    // The two frames that look like a start from the disk, and everything else that a machine may say.
    let system = |query: Query| query.with(&[(53, &[REQUEST]), (50, &address.octets()), (55, TALOS)]);
    let lie = |kind: u8| forged(&victim, ATTACKER).map(|query| query.with(&[(53, &[kind]), (50, &address.octets())]));
    let wrong = forged(&victim, ATTACKER)?.with(&[(53, &[REQUEST]), (50, &[10, 99, 0, 9])]);
    let mut lies = vec![system(forged(&victim, ATTACKER)?), system(relayed(&victim, ATTACKER)?), wrong.clone()];
    for kind in [4, 7, 8] {
        lies.push(lie(kind)?);
    }
    for machine in [&victim, &idle] {
        lies.extend([pxe(forged(machine, ATTACKER)?), system(forged(machine, ATTACKER)?)]);
    }
    let lies: Vec<_> = lies.iter().map(Query::frame).collect();
    let replies = plug.replies_to(&lies, &pxe(Query::discover(&victim)?))?;
    ensure!(replies.iter().all(|reply| reply.kind() != Some(NAK)), "a DHCPNAK for a forged question: {replies:?}");
    // The one for another address, and that of the idle machine for the victim's.
    let silent = silences(&pxed.metrics()?, "from_elsewhere");
    ensure!(silent == 2.0, "{silent} forged questions for other addresses");

    let count = |machine: &Value| machine["frames_of_others"]["count"].as_u64();
    let attacked = until(&pxed, &victim, |machine| count(machine) == Some(8))?;
    let others = &attacked["frames_of_others"];
    ensure!(others["last_from"] == "06:00:00:00:00:09", "{others}");
    let text = others["text"].as_str().unwrap_or_default();
    ensure!(text.contains("from 06:00:00:00:00:09 on eth0"), "{text}");
    for field in ["stage", "boots", "boots_from", "last_error", "policy"] {
        ensure!(attacked[field] == before[field], "{field}: {} became {}", before[field], attacked[field]);
    }
    // Two questions of its own, each with its answer, are all that it did.
    let events = attacked["events"].as_array().context("events")?;
    ensure!(events.len() == 4, "{events:?}");
    let idle = until(&pxed, &idle, |machine| count(machine) == Some(2))?;
    ensure!(idle["stage"] == "never-seen" && idle["boots_from"] == "network", "{idle}");
    ensure!(idle["events"].as_array().is_some_and(Vec::is_empty), "{idle}");
    Ok(())
}

/// The time for the journal to take an event, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Waits until the API says this of a machine.
pub(crate) fn until(pxed: &Pxed<'_>, machine: &Machine, is_so: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
    let mut last = Value::Null;
    let found = pxed.eventually("the machine in the API", SOON, |pxed| {
        last = pxed.machine(&machine.mac)?;
        Ok(is_so(&last))
    });
    found.with_context(|| last.to_string())?;
    Ok(last)
}
