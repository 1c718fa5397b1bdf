//! Those who ask and are not answered: a mistake in the spec, and a machine on the wrong port.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, ensure};
use pxe_lab::{Datapath, Pxed, cluster::Machine};
use serde_json::Value;

use crate::{
    bench::{Bench, server_at},
    plug::Plug,
    wire::{DISCOVER, Query},
};

const SOON: Duration = Duration::from_secs(10);
const VLAN_300: [u8; 4] = [0x81, 0x00, 0x01, 0x2c];
/// An interface that pxed does not serve.
const SECOND: &str = "eth1";

/// Waits until the stranger with this address is in the list, and returns it.
fn stranger(pxed: &Pxed<'_>, mac: &str, count: u64) -> anyhow::Result<Value> {
    let find = || -> anyhow::Result<Value> {
        let list: Value = serde_json::from_str(&pxed.admin("/api/v1/strangers")?)?;
        let found = list.as_array().and_then(|list| list.iter().find(|stranger| stranger["mac"] == mac).cloned());
        Ok(found.unwrap_or_default())
    };
    pxed.eventually(&format!("{count} questions of the stranger {mac}"), SOON, |_| Ok(find()?["count"] == count))?;
    find()
}

pub(crate) fn named(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    bench.plug_in(SECOND, "10.98.0.1/24")?;
    let (machine, heard) = (Machine::number(1), Machine::number(2));
    let pxed = bench.pxed(datapath, &[machine.clone(), heard.clone()], &["--machine-rate", "0"])?;
    let (plug, second) = (bench.plug()?, Plug::open(&bench.client, SECOND)?);
    let firmware = |mac: &str| -> anyhow::Result<Query> {
        let asks = Query::discover(&Machine { mac: mac.to_owned(), ..machine.clone() })?;
        Ok(asks.with(&[(53, &[DISCOVER]), (60, b"PXEClient:Arch:00007:UNDI:003016"), (93, &[0, 7])]))
    };

    // One digit off, twice.
    let digit = machine.mac.replace(":01", ":11");
    ensure!(digit != machine.mac, "{digit}");
    for _ in 0..2 {
        plug.send(&firmware(&digit)?.frame())?;
    }
    let found = stranger(&pxed, &digit, 2)?;
    let nearest = &found["nearest"];
    ensure!(
        found["interface"] == "eth0" && found["vlan"].is_null() && found["firmware"] == "x86-64 UEFI, PXE",
        "{found}"
    );
    ensure!(nearest["mac"] == machine.mac && nearest["digits"] == 1 && nearest["cluster"] == "lab", "{found}");
    ensure!(nearest["text"] == "one digit off", "{found}");

    // On a VLAN that this host does not have, through a relay, without DHCP, and on an interface that is not served.
    let [tagged, relayed, bootp, elsewhere] =
        ["aa:01", "aa:02", "aa:03", "aa:04"].map(|end| format!("06:00:00:00:{end}"));
    plug.send(&Query { tags: vec![VLAN_300], ..firmware(&tagged)? }.frame())?;
    ensure!(stranger(&pxed, &tagged, 1)?["vlan"] == 300);
    let giaddr = Ipv4Addr::new(10, 98, 7, 1);
    plug.send(&Query { giaddr, destination: server_at(67)?, ..firmware(&relayed)? }.frame())?;
    ensure!(stranger(&pxed, &relayed, 1)?["relay"] == "10.98.7.1");
    plug.send(&Query { options: vec![0; 64], ..firmware(&bootp)? }.frame())?;
    ensure!(stranger(&pxed, &bootp, 1)?["problem"] == "the packet is BOOTP without DHCP");
    second.send(&firmware(&elsewhere)?.frame())?;
    let found = stranger(&pxed, &elsewhere, 1)?;
    ensure!(found["interface"] == SECOND && found["nearest"].is_null(), "{found}");

    // A machine that is answered is no stranger, nor is one that the spec names now.
    plug.ask(&Query::discover(&heard)?)?;
    let corrected = Machine { mac: digit.clone(), ..machine.clone() };
    pxed.rewrite_spec(&pxe_lab::cluster::cluster(&[corrected.clone(), heard.clone()]))?;
    pxed.eventually("an answer to the corrected machine", SOON, |_| {
        Ok(!plug.replies_to(&[Query::discover(&corrected)?.frame()], &Query::discover(&heard)?)?.is_empty())
    })?;
    let list = pxed.admin("/api/v1/strangers")?;
    ensure!(!list.contains(&digit) && !list.contains(&heard.mac), "{list}");
    pxed.admin(&format!("/api/v1/strangers/{tagged}")).map(drop).context("one stranger")
}
