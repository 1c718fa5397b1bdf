//! Machines that do not boot, and what `explain` says of them: one situation a machine.

mod addresses;
mod disks;
mod files;
mod host;
mod late;
mod loaders;
mod past;
mod peers;
mod places;
mod transfers;

pub(crate) use self::{
    addresses::{of_another_card_or_router, of_two_hosts},
    disks::boot_from_their_disks,
    files::{missing_or_changed, not_as_verified, not_verified_in_time},
    late::{stay_where_they_are, stay_with_other_programs},
    loaders::{have_odd_names, lead_nowhere, lead_to_no_script},
    peers::of_another_node,
    places::{beside_an_unexpected_server, beside_another_server, in_the_wrong_place},
    transfers::stand_still,
};

use std::{net::Ipv4Addr, time::Duration};

use anyhow::Context as _;
use pxe_lab::{Datapath, Pxed, cluster::Machine, suite};
use serde_json::Value;

use crate::{
    bench::Bench,
    plug::Plug,
    wire::{DISCOVER, Query, REQUEST},
};

const SOON: Duration = Duration::from_secs(20);
const DECLINE: u8 = 4;
/// Options 60 and 93 of UEFI firmware.
const FIRMWARE: [(u8, &[u8]); 2] = [(60, b"PXEClient:Arch:00007:UNDI:003016"), (93, &[0, 7])];

/// Waits until the diagnosis of a machine has all these parts.
fn says(pxed: &Pxed<'_>, machine: &Machine, parts: &[&str]) -> anyhow::Result<()> {
    says_within(SOON, pxed, machine, parts)
}

fn says_within(within: Duration, pxed: &Pxed<'_>, machine: &Machine, parts: &[&str]) -> anyhow::Result<()> {
    let mut last = Value::Null;
    suite::eventually(&format!("a diagnosis with {parts:?}"), within, || {
        last = pxed.machine(&machine.mac)?;
        let diagnosis = last["diagnosis"].to_string();
        Ok(parts.iter().all(|part| diagnosis.contains(part)))
    })
    .with_context(|| last.to_string())
}

/// Sends a message with these options in the transaction of another, after which pxed has answered that.
fn follow(plug: &Plug, first: &Query, options: &[(u8, &[u8])]) -> anyhow::Result<()> {
    plug.ask(first)?;
    plug.send(&Query { xid: first.xid, ..first.clone() }.with(options).frame())
}

pub(crate) fn explained(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let machines: Vec<_> = (1..=4).map(Machine::number).collect();
    let [elsewhere, declines, without_http, floods] = &machines[..] else { unreachable!("four machines") };
    let pxed = bench.pxed(datapath, &machines, &[])?;
    let plug = bench.plug()?;
    let firmware = |machine: &Machine, kind: u8, more: &[(u8, &[u8])]| -> anyhow::Result<Query> {
        Ok(Query::discover(machine)?.with(&[&[(53, &[kind][..])], &FIRMWARE[..], more].concat()))
    };

    // It takes the offer of another server, and tells everybody.
    let discover = firmware(elsewhere, DISCOVER, &[])?;
    let other = Ipv4Addr::new(10, 0, 0, 7).octets();
    let address = elsewhere.address.parse::<Ipv4Addr>()?.octets();
    follow(&plug, &discover, &[&[(53, &[REQUEST][..]), (54, &other), (50, &address)], &FIRMWARE[..]].concat())?;
    let exclude = format!("dhcp-host={},ignore", elsewhere.mac);
    says(&pxed, elsewhere, &["took the offer of 10.0.0.7 (another DHCP server on eth0)", &exclude, "--mode proxy"])?;

    // It found another host at its address.
    let address = declines.address.parse::<Ipv4Addr>()?.octets();
    follow(&plug, &firmware(declines, DISCOVER, &[])?, &[(53, &[DECLINE]), (50, &address)])?;
    says(&pxed, declines, &["another host answers there", &format!("arping -I eth0 {}", declines.address)])?;

    // iPXE whose features (option 175) lack HTTP.
    let address = without_http.address.parse::<Ipv4Addr>()?.octets();
    let ipxe: [(u8, &[u8]); 2] = [(77, b"iPXE"), (175, &[0xeb, 3, 1, 0, 0, 0x18, 1, 1])];
    plug.ask(&firmware(without_http, DISCOVER, &ipxe)?)?;
    plug.ask(&firmware(without_http, REQUEST, &[&ipxe[..], &[(50, &address[..])]].concat())?)?;
    says(&pxed, without_http, &["built without HTTP", "Its request for ipxe-efi-x86_64.efi."])?;

    // Its firmware asks in a loop.
    let discover = firmware(floods, DISCOVER, &[])?.frame();
    for _ in 0..100 {
        plug.send(&discover)?;
    }
    says(&pxed, floods, &["dropped by its rate limit", &format!("pxed capture {}", floods.mac), "--machine-rate"])?;
    Ok(())
}
