//! VLAN tags. Frames without a VLAN are answered, and those on VLANs that the spec names; all others pass.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use pxe_lab::{
    Datapath, Pxed,
    cluster::{self, Machine},
    namespace::output,
    requires, suite,
    topology::INTERFACE,
};

use crate::{
    bench::{Bench, SERVER_MAC, frames, server_at},
    plug::Plug,
    wire::{OFFER, Query},
};

/// The time limit for a changed spec and for an event.
const SOON: Duration = Duration::from_secs(10);

const VLAN_100: [u8; 4] = [0x81, 0x00, 0x00, 0x64];

/// Returns a cluster with this machine, which is served on these VLANs.
fn spec(machine: &Machine, vlans: &str) -> String {
    cluster::with_annotation(&cluster::cluster(std::slice::from_ref(machine)), &format!("pxed.dev/vlans: {vlans}"))
}

/// IEEE 802.1Q and 802.1ad: a reply has the tags of its question, including priority and drop eligibility; otherwise
/// the switch would send it to another network.
pub(crate) fn tags_come_back(datapath: Datapath) -> anyhow::Result<()> {
    let tags: [(&str, &[[u8; 4]]); 5] = [
        ("untagged", &[]),
        ("VLAN 7, priority 5", &[[0x81, 0x00, 0xa0, 0x07]]),
        ("priority alone", &[[0x81, 0x00, 0xe0, 0x00]]),
        ("VLAN 4094, drop eligible", &[[0x81, 0x00, 0x1f, 0xfe]]),
        ("VLAN 7 in service VLAN 100", &[[0x88, 0xa8, 0x60, 0x64], [0x81, 0x00, 0xb0, 0x07]]),
    ];
    let bench = Bench::new()?;
    let machine = Machine::number(1);
    let _pxed = bench.pxed_with(datapath, &spec(&machine, "[7, 100, 4094]"), &["--machine-rate", "0"])?;
    let plug = bench.plug()?;
    for (name, tags) in tags {
        for broadcast in [false, true] {
            let question =
                Query { tags: tags.to_vec(), flags: if broadcast { 0x8000 } else { 0 }, ..Query::discover(&machine)? };
            let offer = plug.ask(&question).with_context(|| name)?;
            let is = |what: &str, holds: bool| {
                ensure!(holds, "{name}, broadcast {broadcast}: {what} is wrong: {offer:?}");
                Ok(())
            };
            is("a tag", offer.tags == tags)?;
            is("the length", offer.length >= 60)?;
            is("the Ethernet source", offer.ethernet_source == SERVER_MAC)?;
            is("the Ethernet destination", offer.ethernet_destination == question.chaddr)?;
            let to = if broadcast { "255.255.255.255:68".to_owned() } else { format!("{}:68", machine.address) };
            is("the destination", offer.destination.to_string() == to)?;
            is("the source", offer.source == server_at(67)?)?;
            is("the kind", offer.kind() == Some(OFFER))?;
            is("yiaddr", offer.yiaddr().to_string() == machine.address)?;
            is("the flags", offer.flags() == question.flags)?;
        }
    }
    Ok(())
}

/// A machine in the spec may use VLANs for other purposes, by the same network card. Its requests there are for another server, or
/// for an interface of this host on that VLAN.
pub(crate) fn others(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let machine = Machine::number(1);
    // Not even strangers are dropped there.
    let unknown = if datapath.has_program() { "drop" } else { "pass" };
    let options = ["--machine-rate", "0", "--unknown", unknown];
    let pxed = bench.pxed_with(datapath, &spec(&machine, "200"), &options)?;
    let plug = bench.plug()?;
    // Sees what goes on up the stack.
    let behind = Plug::open(&bench.server, INTERFACE)?;
    let stranger = Machine::number(2);
    let service_100 = [0x88, 0xa8, 0x00, 0x64];
    let (vlan_200, priority) = ([0x81, 0x00, 0x00, 0xc8], [0x81, 0x00, 0xe0, 0x00]);
    let tags = [
        vec![VLAN_100],
        vec![[0x81, 0x00, 0xf0, 0x64]],
        vec![service_100],
        vec![service_100, vlan_200],
        vec![vlan_200, VLAN_100],
        vec![priority, VLAN_100],
        vec![[0x81, 0x00, 0x0f, 0xff]],
    ];
    let mut strays = Vec::new();
    for tags in tags {
        for who in [&machine, &stranger] {
            strays.push(Query { tags: tags.clone(), ..Query::discover(who)? }.frame());
        }
    }
    let probe = Query { tags: vec![priority], ..Query::discover(&machine)? };
    let replies = plug.replies_to(&strays, &probe)?;
    ensure!(replies.is_empty(), "answered on another VLAN: {replies:?}");
    // A packet socket cannot tell whose requests were none of its business, so it counts those of its machines only.
    let expected = if datapath.has_program() { strays.len() } else { strays.len() / 2 };
    let metrics = pxed.metrics()?;
    let counted = frames(&metrics, "on_another_vlan");
    ensure!(counted == expected as f64, "counted {counted} of {expected}: {metrics:?}");
    for stray in &strays {
        let passed = behind.receive(Instant::now() + SOON)?.context("a stray did not pass")?;
        ensure!(passed == *stray, "{passed:02x?} instead of {stray:02x?}");
    }

    suite::eventually("an event that names the VLAN", SOON, || {
        let events = pxed.machine(&machine.mac)?["events"].to_string();
        Ok(events.contains("\"event\":\"other-vlan\"") && events.contains("\"vlan\":4095"))
    })
    .with_context(|| pxed.process.last_lines())?;
    Ok(())
}

/// A machine that asks nowhere else is told apart from a silent one, and is answered as soon as the spec names its VLAN.
pub(crate) fn come_and_go(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let machine = Machine::number(1);
    let without = cluster::cluster(std::slice::from_ref(&machine));
    let pxed = bench.pxed_with(datapath, &without, &["--machine-rate", "0"])?;
    let plug = bench.plug()?;
    plug.send(&Query { tags: vec![VLAN_100], ..Query::discover(&machine)? }.frame())?;
    suite::eventually("advice that names the VLAN", SOON, || {
        let diagnosis = pxed.machine(&machine.mac)?["diagnosis"].to_string();
        Ok(diagnosis.contains("It asked on VLAN 100") && diagnosis.contains("pxed.dev/vlans"))
    })
    .with_context(|| pxed.process.last_lines())?;
    for round in 0..2 {
        pxed.rewrite_spec(&spec(&machine, "\"7, 100\""))?;
        becomes(&pxed, &plug, &machine, true).with_context(|| format!("round {round}"))?;
        pxed.rewrite_spec(&without)?;
        becomes(&pxed, &plug, &machine, false).with_context(|| format!("round {round}"))?;
    }
    Ok(())
}

/// Waits until a request on VLAN 100 is answered, or is no longer answered.
fn becomes(pxed: &Pxed<'_>, plug: &Plug, machine: &Machine, answered: bool) -> anyhow::Result<()> {
    suite::eventually(if answered { "an answer on VLAN 100" } else { "silence on VLAN 100" }, SOON, || {
        let stray = Query { tags: vec![VLAN_100], ..Query::discover(machine)? };
        let replies = plug.replies_to(&[stray.frame()], &Query::discover(machine)?)?;
        ensure!(replies.iter().all(|reply| reply.tags == stray.tags), "other tags: {replies:?}");
        Ok(replies.is_empty() != answered)
    })
    .with_context(|| pxed.process.last_lines())
}

/// Two clusters on one interface and address.
pub(crate) fn of_another_cluster(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let (tagged, untagged) = (Machine::number(1), Machine::number(2));
    let second = cluster::cluster(std::slice::from_ref(&untagged)).replace("name: lab", "name: second");
    let both = format!("{}---\n{second}", spec(&tagged, "100"));
    let _pxed = bench.pxed_with(datapath, &both, &["--machine-rate", "0"])?;
    let plug = bench.plug()?;
    let on_vlan = |machine| anyhow::Ok(Query { tags: vec![VLAN_100], ..Query::discover(machine)? });
    let replies = plug.replies_to(&[on_vlan(&untagged)?.frame()], &on_vlan(&tagged)?)?;
    ensure!(replies.is_empty(), "answered on the other cluster's VLAN: {replies:?}");
    plug.ask(&Query::discover(&untagged)?)?;
    plug.ask(&Query::discover(&tagged)?).map(drop)
}

/// The card takes the tags out of the frames, and XDP does not see them.
pub(crate) fn stripped(datapath: Datapath) -> anyhow::Result<()> {
    requires::tools(&["ethtool"])?;
    let bench = Bench::new()?;
    let strip = |on: &str| output(bench.server.command("ethtool").args(["-K", INTERFACE, "rxvlan", on]));
    let machine = Machine::number(1);
    for (state, is_told) in [("on", true), ("off", false)] {
        strip(state)?;
        let pxed = bench.pxed_with(datapath, &spec(&machine, "100"), &[])?;
        if is_told {
            pxed.process.wait_for_line("`ethtool -K eth0 rxvlan off`", SOON)?;
        } else {
            bench.plug()?.ask(&Query { tags: vec![VLAN_100], ..Query::discover(&machine)? })?;
            let log = pxed.process.output();
            ensure!(!log.contains("rxvlan"), "told without a reason: {log}");
        }
    }
    Ok(())
}
