//! A machine whose Talos API accepts connections.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, TcpListener},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use pxe_lab::{
    cluster::{self, Machine, SERVER},
    topology::INTERFACE,
};

use crate::{
    bench::{Bench, server_at},
    wire::{ACK, Query, REQUEST},
};

const SOON: Duration = Duration::from_secs(20);
/// The port of the Talos API.
const PORT: u16 = 50_000;
/// What an operating system asks for.
const SYSTEM: (u8, &[u8]) = (55, &[1, 3, 6, 42, 121]);

pub(crate) fn verified() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let (up, refuses) = (Machine::number(1), Machine::number(2));
    for machine in [&up, &refuses] {
        bench.client.ip(&["address", "add", &format!("{}/24", machine.address), "dev", INTERFACE])?;
    }
    let address: Ipv4Addr = up.address.parse()?;
    let listener = bench.client.enter(|| TcpListener::bind((address, PORT)))??;
    let pxed = bench.pxed_by_options(&cluster::cluster(&[up.clone(), refuses.clone()]), &["--machine-rate", "0"])?;
    let plug = bench.plug()?;
    for machine in [&refuses, &up] {
        plug.ask(&Query::discover(machine)?)?;
        let wanted: Ipv4Addr = machine.address.parse()?;
        let server: Ipv4Addr = SERVER.parse()?;
        let request =
            Query::discover(machine)?.with(&[(53, &[REQUEST]), (50, &wanted.octets()), (54, &server.octets()), SYSTEM]);
        ensure!(plug.ask(&request)?.kind() == Some(ACK), "{request:?}");
    }

    pxed.eventually("a machine that is up", SOON, |pxed| Ok(pxed.machine(&up.mac)?["stage"] == "up"))?;
    let told = pxed.machine(&up.mac)?;
    let events = told["events"].as_array().context("events")?;
    let last = events.last().context("an event")?;
    ensure!(last["event"] == "up" && last["port"] == PORT && told["step"] == "up", "{told}");
    ensure!(told["boots_from"] == "network" && told["boots"] == 0, "a connection changes no policy: {told}");
    ensure!(pxed.machine(&refuses.mac)?["stage"] == "running", "the other one refuses");

    // It was asked once, by pxed's address, and is left alone now.
    listener.set_nonblocking(true)?;
    let (_, from) = listener.accept().context("the connection")?;
    ensure!(from.ip() == *server_at(0)?.ip(), "{from}");
    ensure!(listener.accept().is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "a second connection");
    Ok(())
}
