//! One of several interfaces is down.

use anyhow::ensure;
use pxe_lab::{
    Pxed,
    cluster::{self, Machine, SERVER},
    pxed::ADMIN,
    topology::INTERFACE,
};

use crate::place::{Place, SOON};

const SECOND: &str = "eth1";
const SECOND_SERVER: &str = "10.98.0.1";

pub(crate) fn down() -> anyhow::Result<()> {
    let place = Place::new(1000)?;
    let server = &place.bridged.server;
    place.bridged.plug_in(server, SECOND)?;
    server.ip(&["address", "add", &format!("{SECOND_SERVER}/24"), "dev", SECOND])?;
    let there = Machine { address: "10.98.0.102".to_owned(), ..Machine::number(2) };
    let second = cluster::cluster_with_gateway(&[there], "10.98.0.254")
        .replace("name: lab", "name: second")
        .replace(&format!("address: {SERVER}\n"), &format!("address: {SECOND_SERVER}\n"))
        .replace(&format!("interface: {INTERFACE}"), &format!("interface: {SECOND}"));
    let spec = format!("{}---\n{second}", cluster::cluster(&[Machine::number(1)]));
    let pxed = Pxed::start(server, &spec, place.artifacts.path(), &[])?;
    let ready = || server.http_get(&format!("http://{ADMIN}/readyz"));

    for (down, up) in [(SECOND, INTERFACE), (INTERFACE, SECOND)] {
        server.ip(&["link", "set", down, "down"])?;
        pxed.eventually(&format!("{down} that is down"), SOON, |_| Ok(ready()?.0 == 503))?;
        let (_, reason) = ready()?;
        ensure!(reason.contains(down) && reason.contains("down") && !reason.contains(up), "{reason}");
        // A probe that restarts pxed must not.
        ensure!(pxed.admin("/healthz")? == "ok\n", "unhealthy");
        server.ip(&["link", "set", down, "up"])?;
        pxed.eventually(&format!("{down} that is up"), SOON, |_| Ok(ready()? == (200, "ready\n".to_owned())))?;
    }
    Ok(())
}
