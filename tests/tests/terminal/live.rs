//! The live view on a terminal: what it shows, what ends it, and the terminal afterwards.

use anyhow::ensure;
use nix::sys::signal::Signal;
use pxe_lab::Terminal;

use crate::desk::{Desk, SOON, machines, on_terminal};

/// Waits until all machines are on the screen.
fn wait_for_machines(terminal: &Terminal) -> anyhow::Result<()> {
    for machine in machines() {
        terminal.process.wait_for_text(&machine.mac, SOON)?;
        terminal.process.wait_for_text(&machine.address, SOON)?;
    }
    ensure!(terminal.is_taken()?, "the terminal is not taken: {:?}", terminal.process.output());
    Ok(())
}

pub(crate) fn status() -> anyhow::Result<()> {
    let desk = Desk::new()?;
    let pxed = desk.pxed()?;
    // Escape and Control-C are keys as well.
    for key in ["q", "\x1b", "\x03"] {
        let terminal = on_terminal(&pxed, &["status", "--watch"])?;
        wait_for_machines(&terminal)?;
        terminal.press(key)?;
        let (status, rest) = terminal.finish(SOON)?;
        ensure!(status.code() == Some(0) && rest.is_empty(), "{key:?}: {status}: {rest:?}");
    }
    Ok(())
}

pub(crate) fn watch() -> anyhow::Result<()> {
    let desk = Desk::new()?;
    let pxed = desk.pxed()?;
    let terminal = on_terminal(&pxed, &["watch"])?;
    terminal.process.wait_for_text("none so far", SOON)?;
    ensure!(terminal.is_taken()?, "the terminal is not taken: {:?}", terminal.process.output());
    // Its machines are not listed, so its address comes from the events.
    let [machine, ..] = &machines()[..] else { anyhow::bail!("no machine") };
    desk.boot(machine)?;
    terminal.process.wait_for_text(&machine.mac, SOON)?;
    terminal.press("q")?;
    let (status, rest) = terminal.finish(SOON)?;
    ensure!(status.code() == Some(0) && rest.is_empty(), "{status}: {rest:?}");
    Ok(())
}

pub(crate) fn signals() -> anyhow::Result<()> {
    let desk = Desk::new()?;
    let pxed = desk.pxed()?;
    for (arguments, signal) in [
        (&["status", "--watch"][..], Signal::SIGTERM),
        (&["status", "--watch"], Signal::SIGINT),
        (&["status", "--watch"], Signal::SIGHUP),
        (&["watch"], Signal::SIGTERM),
    ] {
        let terminal = on_terminal(&pxed, arguments)?;
        match arguments {
            ["watch"] => terminal.process.wait_for_text("none so far", SOON)?,
            _ => wait_for_machines(&terminal)?,
        }
        terminal.process.signal(signal)?;
        let (status, rest) = terminal.finish(SOON)?;
        ensure!(status.code() == Some(128 + signal as i32) && rest.is_empty(), "{signal}: {status}: {rest:?}");
    }
    Ok(())
}

/// pxed ends, and is there again.
pub(crate) fn lost() -> anyhow::Result<()> {
    let desk = Desk::new()?;
    let mut pxed = desk.pxed()?;
    let terminal = on_terminal(&pxed, &["status", "--watch"])?;
    wait_for_machines(&terminal)?;
    pxed.process.signal(Signal::SIGTERM)?;
    pxed.process.wait(SOON)?;
    terminal.process.wait_for_text("CONNECTION LOST", SOON)?;
    terminal.press("q")?;
    let (status, rest) = terminal.finish(SOON)?;
    ensure!(status.code() == Some(0) && rest.is_empty(), "{status}: {rest:?}");
    // Before the first frame, it is an error like any other.
    let (status, rest) = on_terminal(&pxed, &["status", "--watch"])?.finish(SOON)?;
    ensure!(status.code() == Some(5) && rest.contains("no pxed answers"), "{status}: {rest:?}");
    Ok(())
}
