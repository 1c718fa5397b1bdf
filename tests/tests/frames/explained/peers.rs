//! Machines of another node, which dies.

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use pxe_lab::{
    Artifacts, Bridged, Pxed,
    cluster::{self, Machine, VERSION},
    topology::INTERFACE,
};

use super::{FIRMWARE, SOON, says};
use crate::{
    plug::Plug,
    wire::{ACK, DISCOVER, OFFER, Query, REQUEST},
};

const NODES: [&str; 2] = ["10.99.0.1", "10.99.0.2"];
const PEER: [u8; 4] = [10, 99, 0, 2];
/// With this many machines, the other node is the first to answer some of them.
const MACHINES: u8 = 24;

pub(crate) fn of_another_node() -> anyhow::Result<()> {
    let network = Bridged::new(cluster::SERVER_ADDRESS, 2)?;
    let [other, client] = &network.clients[..] else { unreachable!("two clients") };
    other.ip(&["address", "add", &format!("{}/24", NODES[1]), "dev", INTERFACE])?;
    let artifacts = Artifacts::stand_ins(&[VERSION], 1_000)?;
    let machines: Vec<_> = (1..=MACHINES).map(Machine::number).collect();
    let spec = cluster::cluster(&machines);
    let options = ["--machine-rate", "0", "--peers", NODES[0], NODES[1], "--advertise", "10.99.0.1,10.99.0.2"];
    let first = Pxed::start(&network.server, &spec, artifacts.path(), &options)?;
    let mut second = Pxed::start(other, &spec, artifacts.path(), &options)?;
    let plug = Plug::open(client, INTERFACE)?;

    let answers_first = "If it asks, the pxed at 10.99.0.2 answers first.";
    let mut theirs = Vec::new();
    for machine in &machines {
        if first.machine(&machine.mac)?["diagnosis"].to_string().contains(answers_first) {
            theirs.push(machine);
        }
    }
    let [asks, chooses, ..] = theirs[..] else { anyhow::bail!("the other node answers {} first", theirs.len()) };
    says(&first, asks, &["It has sent nothing in the ", answers_first])?;

    let firmware = |machine: &Machine, kind: u8, more: &[(u8, &[u8])]| -> anyhow::Result<Query> {
        Ok(Query::discover(machine)?.with(&[&[(53, &[kind][..])], &FIRMWARE[..], more].concat()))
    };
    for machine in [asks, chooses] {
        let offer = plug.ask(&firmware(machine, DISCOVER, &[])?)?;
        ensure!(offer.kind() == Some(OFFER) && offer.option(54) == Some(&PEER), "{offer:?}");
    }
    let silent = "This node stays silent meanwhile.";
    says(&first, asks, &["It asked, and the pxed at 10.99.0.2 answers it, ", silent, "Nothing from this node."])?;
    let address: std::net::Ipv4Addr = chooses.address.parse()?;
    let ack = plug.ask(&firmware(chooses, REQUEST, &[(50, &address.octets()), (54, &PEER)])?)?;
    ensure!(ack.kind() == Some(ACK), "{ack:?}");
    let there = format!("How far it came is known there: pxed explain {} on the pxed at 10.99.0.2.", chooses.mac);
    let chosen = [
        "It chose the offer of the pxed at 10.99.0.2, ",
        silent,
        &there,
        "If that host is dead, this node answers as soon as the machine asks again",
    ];
    says(&first, chooses, &chosen)?;
    says(&second, chooses, &["Its firmware has had an address for "])?;

    // It dies without a word, and the machine does as it is told.
    second.process.signal(Signal::SIGKILL)?;
    second.process.wait(SOON)?;
    says(&first, chooses, &chosen)?;
    first.eventually("an offer of the node that lives", SOON, |_| {
        let again = firmware(chooses, DISCOVER, &[])?;
        plug.send(&again.frame())?;
        let offer = plug.await_reply(again.xid, std::time::Duration::from_secs(1))?;
        Ok(offer.is_some_and(|offer| offer.option(54) == Some(&[10, 99, 0, 1])))
    })?;
    says(&first, chooses, &["Its firmware asked for an address ", "pxed offered "]).context("after the death")
}
