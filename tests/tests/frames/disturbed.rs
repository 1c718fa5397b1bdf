//! Disturbed interfaces: the wrong one, one that goes down, one that is replaced.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    process::Command,
    time::Duration,
};

use anyhow::ensure;
use pxe_lab::{
    Datapath,
    cluster::{self, Machine, SERVER, SERVER_ADDRESS},
    namespace::output,
    pxed::ADMIN,
    requires, suite,
    topology::INTERFACE,
};

use crate::{
    bench::{Bench, frames, server_at},
    plug::Plug,
    wire::{Mac, OFFER, Query},
};

/// The time limit for an interface to be served again: less than firmware waits.
const AGAIN: Duration = Duration::from_secs(10);

/// The second interface, with a cluster of its own.
const SECOND: &str = "eth1";
const SECOND_SERVER: &str = "10.98.0.1";

pub(crate) fn wrong_interface(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    bench.plug_in(SECOND, "10.98.0.1/24")?;
    let here = Machine::number(1);
    let there = Machine { address: "10.98.0.102".to_owned(), ..Machine::number(2) };
    let second = cluster::cluster_with_gateway(std::slice::from_ref(&there), "10.98.0.254")
        .replace("name: lab", "name: second")
        .replace(&format!("address: {SERVER}\n"), &format!("address: {SECOND_SERVER}\n"))
        .replace(&format!("interface: {INTERFACE}"), &format!("interface: {SECOND}"));
    let spec = format!("{}---\n{second}", cluster::cluster(std::slice::from_ref(&here)));
    let pxed = bench.pxed_with(datapath, &spec, &["--machine-rate", "0"])?;
    let plugs = [bench.plug()?, Plug::open(&bench.client, SECOND)?];

    // Each machine is answered on its own interface only. A question on the other one has no answer on either.
    for (plug, stranger, native) in [(&plugs[0], &there, &here), (&plugs[1], &here, &there)] {
        let before = frames(&pxed.metrics()?, "unknown_machine_passed");
        let stray = Query::discover(stranger)?;
        let replies = plug.replies_to(&[stray.frame()], &Query::discover(native)?)?;
        ensure!(replies.is_empty(), "{} is not at home here and got {replies:?}", stranger.mac);
        // Without the program, strangers are not counted: on a bridge, every host is one.
        if datapath.has_program() {
            let counted = frames(&pxed.metrics()?, "unknown_machine_passed") - before;
            ensure!(counted == 1.0, "{}: counted {counted} instead of 1", stranger.mac);
        }
    }
    for plug in &plugs {
        let more = plug.drain()?;
        ensure!(more.is_empty(), "answered on the other interface: {more:?}");
    }
    Ok(())
}

pub(crate) fn down_and_up(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let machine = Machine::number(1);
    let _pxed = bench.pxed(datapath, std::slice::from_ref(&machine), &["--machine-rate", "0"])?;
    let plug = bench.plug()?;
    plug.ask(&Query::discover(&machine)?)?;
    for round in 0..3 {
        bench.server.ip(&["link", "set", INTERFACE, "down"])?;
        bench.server.ip(&["link", "set", INTERFACE, "up"])?;
        is_served(&plug, &machine, &format!("round {round}"))?;
    }
    Ok(())
}

pub(crate) fn replaced(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let machine = Machine::number(1);
    let pxed = bench.pxed(datapath, std::slice::from_ref(&machine), &["--machine-rate", "0"])?;
    bench.plug()?.ask(&Query::discover(&machine)?)?;
    for round in 0..2 {
        bench.server.ip(&["link", "delete", INTERFACE])?;
        bench.plug_in(INTERFACE, SERVER_ADDRESS)?;
        is_served(&bench.plug()?, &machine, &format!("round {round}\n{}", pxed.process.last_lines()))?;
        let details = bench.server.ip(&["-details", "link", "show", "dev", INTERFACE])?;
        ensure!(details.contains("prog/xdp") == datapath.has_program(), "not served by {datapath}: {details}");
    }
    Ok(())
}

/// The interface has another name for a while.
pub(crate) fn renamed(datapath: Datapath) -> anyhow::Result<()> {
    const OTHER: &str = "eth9";
    let bench = Bench::new()?;
    let machine = Machine::number(1);
    let pxed = bench.pxed(datapath, std::slice::from_ref(&machine), &["--machine-rate", "0"])?;
    let plug = bench.plug()?;
    plug.ask(&Query::discover(&machine)?)?;
    let rename = |from: &str, to: &str| {
        bench.server.ip(&["link", "set", from, "down"])?;
        bench.server.ip(&["link", "set", from, "name", to])?;
        bench.server.ip(&["link", "set", to, "up"])
    };
    rename(INTERFACE, OTHER)?;
    pxed.eventually("a look that misses the interface", AGAIN, |_| {
        let (status, reason) = bench.server.http_get(&format!("http://{ADMIN}/readyz"))?;
        Ok(status == 503 && reason.contains(INTERFACE))
    })?;
    rename(OTHER, INTERFACE)?;
    is_served(&plug, &machine, "under its own name again")?;
    pxed.eventually("a look that finds the interface", AGAIN, |pxed| Ok(pxed.admin("/readyz").is_ok()))
}

/// The interface takes frames of other lengths.
pub(crate) fn other_mtu(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let machine = Machine::number(1);
    let pxed = bench.pxed(datapath, std::slice::from_ref(&machine), &["--machine-rate", "0"])?;
    let plug = bench.plug()?;
    plug.ask(&Query::discover(&machine)?)?;
    // veth's driver accepts XDP only if a frame fits into a page.
    let large = if datapath == Datapath::Xdp { 3400 } else { 9000 };
    for bytes in [1400, large, 1500] {
        bench.set_mtu(bytes)?;
        is_served(&plug, &machine, &format!("with frames of {bytes} bytes\n{}", pxed.process.last_lines()))?;
        pxed.eventually("a look after the change", AGAIN, |pxed| Ok(pxed.admin("/readyz").is_ok()))?;
    }
    Ok(())
}

/// The interface's address is removed and added again, as by a reconfiguration of the network.
pub(crate) fn address_lost(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let machine = Machine::number(1);
    let mut pxed = bench.pxed(datapath, std::slice::from_ref(&machine), &["--machine-rate", "0"])?;
    let plug = bench.plug()?;
    plug.ask(&Query::discover(&machine)?)?;
    for _ in 0..2 {
        bench.server.ip(&["address", "delete", SERVER_ADDRESS, "dev", INTERFACE])?;
        bench.server.ip(&["address", "add", SERVER_ADDRESS, "dev", INTERFACE])?;
        is_served(&plug, &machine, "without its address in between")?;
    }
    ensure!(pxed.process.is_running()?, "pxed ended: {}", pxed.process.last_lines());
    Ok(())
}

/// The interface gets another MAC. From then on pxed answers from it, and is reached at it.
pub(crate) fn another_mac(datapath: Datapath) -> anyhow::Result<()> {
    const MAC: Mac = [0x02, 0, 0, 0, 0, 0x0a];
    let bench = Bench::new()?;
    let machine = Machine::number(1);
    let _pxed = bench.pxed(datapath, std::slice::from_ref(&machine), &["--machine-rate", "0"])?;
    let plug = bench.plug()?;
    plug.ask(&Query::discover(&machine)?)?;
    bench.server.ip(&["link", "set", INTERFACE, "address", "02:00:00:00:00:0a"])?;
    suite::eventually("an answer to a unicast to the new MAC, from it", AGAIN, || {
        let relay = Ipv4Addr::new(10, 99, 0, 2);
        let question = Query {
            ethernet_destination: MAC,
            source: SocketAddrV4::new(relay, 67),
            destination: server_at(67)?,
            giaddr: relay,
            ..Query::discover(&machine)?
        };
        plug.send(&question.frame())?;
        let reply = plug.await_reply(question.xid, Duration::from_millis(200))?;
        Ok(reply.is_some_and(|reply| reply.ethernet_source == MAC))
    })
}

/// Without a free descriptor the kernel cannot be asked about its interfaces. DHCP continues undisturbed.
pub(crate) fn failed_look(datapath: Datapath) -> anyhow::Result<()> {
    requires::tools(&["prlimit", "setpriv"])?;
    let bench = Bench::new()?;
    let machine = Machine::number(1);
    let pxed = bench.pxed(datapath, std::slice::from_ref(&machine), &["--machine-rate", "0"])?;
    let plug = bench.plug()?;
    let details = || bench.server.ip(&["-details", "link", "show", "dev", INTERFACE]);
    let before = details()?;
    let process = pxed.process.id().to_string();
    let limit = |descriptors: &str| {
        let user = pxe_lab::USER.to_string();
        let descriptors = format!("--nofile={descriptors}:");
        // A user sets the limits of its own processes; root would need CAP_SYS_RESOURCE.
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "prlimit", "--pid", &process]);
        output(command.arg(&descriptors))
    };

    limit(&every_descriptor_taken_below(&process)?.to_string())?;
    pxed.process.wait_for_line("interface eth0 cannot be looked up", AGAIN)?;
    for _ in 0..3 {
        plug.ask(&Query::discover(&machine)?)?;
    }
    ensure!(details()? == before, "the interface was {before} and is {}", details()?);
    limit("1024")?;
    pxed.process.wait_for_line("everything is served again", AGAIN)?;
    plug.ask(&Query::discover(&machine)?)?;
    ensure!(details()? == before, "the interface was {before} and is {}", details()?);
    let serving = pxed.process.output().matches("serving").count();
    ensure!(serving == 1, "opened again: {}", pxed.process.output());
    Ok(())
}

/// Returns a limit of descriptors below which the process has every one open, but high enough for its calls of poll(2).
fn every_descriptor_taken_below(process: &str) -> anyhow::Result<u32> {
    const LEAST: u32 = 8;
    let open = fs::read_dir(format!("/proc/{process}/fd"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().parse()?))
        .collect::<anyhow::Result<BTreeSet<u32>>>()?;
    let free = (0..).find(|descriptor| !open.contains(descriptor)).unwrap_or_default();
    ensure!(free >= LEAST, "descriptor {free} is free");
    Ok(free)
}

/// Repeats a question, as firmware does, until it is answered.
fn is_served(plug: &Plug, machine: &Machine, when: &str) -> anyhow::Result<()> {
    suite::eventually(&format!("an answer after the interface came back, {when}"), AGAIN, || {
        let question = Query::discover(machine)?;
        // Sending fails while an interface of the pair is down.
        let reply = match plug.send(&question.frame()) {
            Ok(()) => plug.await_reply(question.xid, Duration::from_millis(200))?,
            Err(_) => None,
        };
        Ok(reply.is_some_and(|reply| reply.kind() == Some(OFFER)))
    })
}
