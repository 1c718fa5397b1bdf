//! The server's address is one that keepalived moves between hosts: a /32 beside the interface's own address.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use anyhow::{Context, ensure};
use pxe_lab::{
    Datapath,
    cluster::{self, Machine, SERVER, SERVER_ADDRESS},
    pxed::ADMIN,
    suite,
    topology::INTERFACE,
};

use crate::{
    bench::{Bench, SERVER_MAC},
    wire::{ACK, OFFER, Query, REQUEST, Reply},
};

/// The virtual address, as keepalived adds it.
const VIRTUAL: &str = "10.99.0.5/32";
const VIRTUAL_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 5);

/// The time limit for a change of addresses to take effect: less than firmware waits.
const SOON: Duration = Duration::from_secs(10);

/// Returns a spec whose server has the virtual address, and which says nothing of the machine's network.
fn spec(machine: &Machine) -> String {
    cluster::cluster(std::slice::from_ref(machine))
        .replace(&format!("address: {SERVER}\n"), &format!("address: {VIRTUAL_ADDRESS}\n"))
        .lines()
        .filter(|line| !["subnet:", "gateway:"].iter().any(|key| line.trim().starts_with(key)))
        .map(|line| format!("{line}\n"))
        .collect()
}

pub(crate) fn served(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    bench.server.ip(&["address", "add", VIRTUAL, "dev", INTERFACE])?;
    let machine = Machine::number(1);
    let pxed = bench.pxed_with(datapath, &spec(&machine), &["--machine-rate", "0"])?;
    let plug = bench.plug()?;
    let reserved: Ipv4Addr = machine.address.parse()?;
    let is_right = |reply: &Reply, kind: u8, from: Ipv4Addr| {
        let octets = VIRTUAL_ADDRESS.octets();
        let network = reply.option(1) == Some(&[255, 255, 255, 0]) && reply.option(3) == Some(&octets);
        let is_ours = *reply.source.ip() == from && reply.option(54) == Some(&octets);
        ensure!(reply.kind() == Some(kind) && network && is_ours, "{reply:?}");
        Ok(())
    };
    is_right(&plug.ask(&Query::discover(&machine)?)?, OFFER, VIRTUAL_ADDRESS)?;
    let chosen = [(53, &[REQUEST][..]), (50, &reserved.octets()), (54, &VIRTUAL_ADDRESS.octets())];
    is_right(&plug.ask(&Query::discover(&machine)?.with(&chosen))?, ACK, VIRTUAL_ADDRESS)?;
    // A machine renews at the virtual address, or at the interface's own one if that was the server's before.
    let own: Ipv4Addr = SERVER.parse()?;
    for at in [VIRTUAL_ADDRESS, own] {
        let renewal = Query {
            ciaddr: reserved,
            source: SocketAddrV4::new(reserved, 68),
            destination: SocketAddrV4::new(at, 67),
            ethernet_destination: SERVER_MAC,
            ..Query::discover(&machine)?.with(&[(53, &[REQUEST])])
        };
        is_right(&plug.ask(&renewal)?, ACK, at)?;
    }
    // The relay's helper address is the interface's own one.
    let relay = Ipv4Addr::new(10, 99, 0, 2);
    let relayed = Query {
        giaddr: relay,
        source: SocketAddrV4::new(relay, 67),
        destination: SocketAddrV4::new(own, 67),
        ethernet_destination: SERVER_MAC,
        ..Query::discover(&machine)?
    };
    let offer = plug.ask(&relayed)?;
    is_right(&offer, OFFER, own)?;
    ensure!(offer.destination == SocketAddrV4::new(relay, 67), "not to the relay: {offer:?}");
    // The log is written in order, a little later.
    pxed.process.wait_for_line("ready", SOON)?;
    let log = pxed.process.output();
    ensure!(!log.contains("cannot reach its server"), "warned without a reason: {log}");
    Ok(())
}

/// The host waits for the virtual address, gets it, loses it, and gets it again.
pub(crate) fn moves(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let machine = Machine::number(1);
    let arguments = [&datapath.arguments()[..], &["--machine-rate", "0"]].concat();
    let mut pxed = bench.pxed_without_waiting(&spec(&machine), &arguments)?;
    let plug = bench.plug()?;
    pxed.process.wait_for_line("It is served as soon as the interface has it", SOON)?;
    let asked = || -> anyhow::Result<bool> {
        let question = Query::discover(&machine)?;
        plug.send(&question.frame())?;
        let reply = plug.await_reply(question.xid, Duration::from_millis(200))?;
        Ok(reply.is_some_and(|reply| reply.kind() == Some(OFFER) && *reply.source.ip() == VIRTUAL_ADDRESS))
    };
    let change = |change: &str| bench.server.ip(&["address", change, VIRTUAL, "dev", INTERFACE]).map(drop);
    let is_ready = || -> anyhow::Result<bool> {
        Ok(bench.server.http_get(&format!("http://{ADMIN}/readyz")).is_ok_and(|(status, _)| status == 200))
    };
    for round in 0..2 {
        suite::eventually("silence without the virtual address", SOON, || Ok(!asked()? && !is_ready()?))?;
        change("add")?;
        suite::eventually("an answer with the virtual address", SOON, asked)
            .with_context(|| format!("round {round}: {}", pxed.process.last_lines()))?;
        suite::eventually("readiness", SOON, is_ready)?;
        change("delete")?;
    }
    ensure!(pxed.process.is_running()?, "pxed ended: {}", pxed.process.last_lines());
    Ok(())
}

/// Without another address in its network the server knows no mask, and says what to do.
pub(crate) fn alone(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    bench.server.ip(&["address", "delete", SERVER_ADDRESS, "dev", INTERFACE])?;
    bench.server.ip(&["address", "add", VIRTUAL, "dev", INTERFACE])?;
    let machine = Machine::number(1);
    let pxed = bench.pxed_with(datapath, &spec(&machine), &[])?;
    let line = pxed.process.wait_for_line("cannot reach its server", SOON)?;
    for part in ["WARN", INTERFACE, VIRTUAL, &machine.address, &machine.mac, "255.255.255.255", "meta.subnet"] {
        ensure!(line.contains(part), "no {part} in {line}");
    }
    Ok(())
}
