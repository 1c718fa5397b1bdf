//! What a pxed that is killed in the middle of a boot knows when it is started again.

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use pxe_lab::{Datapath, cluster::Machine};

use crate::{
    bench::Bench,
    elsewhere::{SOON, until},
    wire::Query,
};

/// SIGKILL in the middle of a boot costs neither the stage nor the events.
pub(crate) fn killed(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let machine = Machine::number(1);
    let mut pxed = bench.pxed(datapath, std::slice::from_ref(&machine), &[])?;
    let plug = bench.plug()?;
    let pxe = [(53, &[1][..]), (60, b"PXEClient:Arch:00007:UNDI:003000"), (93, &[0, 7])];
    plug.ask(&Query::discover(&machine)?.with(&pxe))?;
    let before = until(&pxed, &machine, |machine| machine["stage"] == "offered")?;
    pxed.eventually(
        "the event on disk",
        SOON,
        |pxed| Ok(pxed.metrics()?.sum("pxed_history_events_total", &[]) == 2.0),
    )?;
    pxed.process.signal(Signal::SIGKILL)?;
    pxed.process.wait(SOON)?;
    pxed.start_again(bench.artifacts.path(), &datapath.arguments())?;
    let after = pxed.machine(&machine.mac)?;
    for field in ["stage", "step", "stage_since"] {
        ensure!(after[field] == before[field], "{field}: {} became {}", before[field], after[field]);
    }
    let events = after["events"].as_array().context("events")?;
    ensure!(events.len() == 2, "{after}");
    for event in events {
        let text = event["text"].as_str().unwrap_or_default();
        ensure!(event["before_restart"] == true && text.ends_with("(before pxed was restarted)"), "{event}");
    }
    Ok(())
}
