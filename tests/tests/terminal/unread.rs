//! Clients whose output goes into a pipe, of which the reader goes away.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    os::unix::process::ExitStatusExt as _,
    process::{Child, ChildStdout, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use pxe_lab::{Pxed, suite};

use crate::desk::{Desk, client, machines};

/// The time within which a client has to notice. It must not need anything to print.
const NOTICED: Duration = Duration::from_secs(10);

/// The clients that go on for ever, and whether they print something at once.
const CLIENTS: [(&[&str], bool); 8] = [
    (&["status", "--watch"], true),
    (&["status", "--watch", "--json"], true),
    (&["status", "--watch", "-o", "wide"], true),
    (&["status", "--watch", "-o", "yaml"], true),
    (&["status", "--watch", "-o", "name"], true),
    (&["watch"], false),
    (&["watch", "--json"], false),
    (&["watch", "--cluster", "lab"], false),
];

fn start(pxed: &Pxed<'_>, arguments: &[&str]) -> anyhow::Result<Child> {
    let mut command = client(pxed, arguments)?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command.spawn()?)
}

/// Closes the client's standard output, and waits for its end.
fn abandon(mut child: Child, output: ChildStdout, arguments: &[&str]) -> anyhow::Result<()> {
    drop(output);
    let ended = suite::eventually("the end of the client", NOTICED, || Ok(child.try_wait()?.is_some()));
    if ended.is_err() {
        child.kill()?;
    }
    let status = child.wait()?;
    ended.with_context(|| format!("{arguments:?}"))?;
    let mut said = String::new();
    child.stderr.take().context("standard error")?.read_to_string(&mut said)?;
    let is_usual = status.success() || status.signal() == Some(Signal::SIGPIPE as i32);
    ensure!(is_usual && said.is_empty(), "{arguments:?}: {status}: {said}");
    Ok(())
}

/// Nothing happens, so that no client has anything to print.
pub(crate) fn waiting() -> anyhow::Result<()> {
    let desk = Desk::new()?;
    let pxed = desk.pxed()?;
    for (arguments, prints) in CLIENTS {
        let mut child = start(&pxed, arguments)?;
        let mut output = BufReader::new(child.stdout.take().context("standard output")?);
        if prints {
            ensure!(output.read_line(&mut String::new())? > 0, "{arguments:?} prints nothing");
        }
        abandon(child, output.into_inner(), arguments)?;
    }
    Ok(())
}

/// Machines boot, so that each client has something to print again and again.
pub(crate) fn printing() -> anyhow::Result<()> {
    let desk = Desk::new()?;
    let pxed = desk.pxed()?;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                // Their ends are nothing to the clients.
                machines().iter().for_each(|machine| _ = desk.boot(machine));
            }
        });
        let abandoned = CLIENTS.iter().try_for_each(|(arguments, _)| {
            let mut child = start(&pxed, arguments)?;
            let mut output = BufReader::new(child.stdout.take().context("standard output")?);
            ensure!(output.read_line(&mut String::new())? > 0, "{arguments:?} prints nothing");
            abandon(child, output.into_inner(), arguments)
        });
        is_over.store(true, Ordering::Relaxed);
        abandoned
    })
}
