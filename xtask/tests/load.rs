//! The TFTP clients of the benchmark against a real pxed.

#[allow(dead_code, unreachable_pub, unused_imports, reason = "the benchmark uses all of it, its own tests included")]
#[path = "../src/bench/load/mod.rs"]
mod load;

use std::{fs, net::SocketAddrV4, process::ExitCode, time::Duration};

use anyhow::{Context as _, ensure};
use load::{
    tftp::{self, TftpOutcome},
    tftp_client::{TftpLoad, pattern},
};
use pxe_common::MacAddr;
use pxe_lab::{
    Artifacts, Namespace, Pxed,
    cluster::{self, Machine, SERVER, SERVER_ADDRESS, VERSION},
    suite,
    topology::{INTERFACE, veth},
};

const FILE: &str = "loader.efi";
const LENGTH: usize = 1 << 20;
const TRANSFERS: u64 = 6;

fn main() -> ExitCode {
    suite::main(vec![suite::test("load_takes_whole_files_and_loses_nothing", load_takes_whole_files_and_loses_nothing)])
}

fn load_takes_whole_files_and_loses_nothing() -> anyhow::Result<()> {
    let (server, client) = (Namespace::new("server")?, Namespace::new("client")?);
    let (machine, artifacts) = (Machine::number(1), Artifacts::stand_ins(&[VERSION], 1000)?);
    fs::write(artifacts.path().join(FILE), pattern(LENGTH))?;
    veth(&server, INTERFACE, &client, INTERFACE)?;
    server.ip(&["address", "add", SERVER_ADDRESS, "dev", INTERFACE])?;
    client.ip(&["address", "add", &format!("{}/24", machine.address), "dev", INTERFACE])?;
    let spec = cluster::cluster(std::slice::from_ref(&machine));
    let _pxed = Pxed::start(&server, &spec, artifacts.path(), &[])?;
    let macs = (mac(&client)?, mac(&server)?);
    for window in [1, 8, 64] {
        let load = TftpLoad {
            server: SocketAddrV4::new(SERVER.parse()?, 69),
            file: FILE.to_owned(),
            length: LENGTH as u64,
            addresses: vec![machine.address.parse()?],
            clients: 3,
            block_size: 1468,
            window,
            transfers: TRANSFERS,
            limit: Duration::from_secs(30),
            macs,
        };
        let outcome = client.enter(|| tftp::run(&load))??;
        let TftpOutcome { bytes, finished, failed, timeouts, window: granted, .. } = outcome;
        let everything = (TRANSFERS * LENGTH as u64, TRANSFERS, 0, 0, window);
        ensure!((bytes, finished, failed, timeouts, granted) == everything, "window {window}: {outcome:?}");
    }
    Ok(())
}

/// The MAC of the namespace's interface.
fn mac(namespace: &Namespace) -> anyhow::Result<MacAddr> {
    let text = namespace.ip(&["-json", "link", "show", "dev", INTERFACE])?;
    let links: serde_json::Value = serde_json::from_str(&text)?;
    links[0]["address"].as_str().context("no MAC")?.parse().context("a MAC")
}
