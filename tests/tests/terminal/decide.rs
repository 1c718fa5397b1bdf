//! `pxed hold` and `pxed release` for a selection: the question at the terminal, and what happens without one.

use std::process::{Output, Stdio};

use anyhow::ensure;
use pxe_lab::{Pxed, Terminal};

use crate::desk::{Desk, SOON, client, machines, on_terminal, policies};

/// The end of the question.
const QUESTION: &str = "Go on? [y/N] ";
const ALL: [&str; 2] = ["--cluster", "lab"];

/// Starts a command and waits for its question.
fn asked(pxed: &Pxed<'_>, command: &str) -> anyhow::Result<Terminal> {
    let terminal = on_terminal(pxed, &[command, ALL[0], ALL[1]])?;
    terminal.process.wait_for_text(QUESTION, SOON)?;
    let text = terminal.process.output();
    ensure!(text.contains(&format!("about to {command} 3 machines:")), "{text:?}");
    ensure!(machines().iter().all(|machine| text.contains(&machine.mac)), "a machine is not named: {text:?}");
    Ok(terminal)
}

fn policies_are(pxed: &Pxed<'_>, expected: &str) -> anyhow::Result<()> {
    let policies = policies(pxed)?;
    ensure!(policies.iter().all(|policy| policy == expected), "{policies:?} instead of {expected}");
    Ok(())
}

pub(crate) fn asks() -> anyhow::Result<()> {
    let desk = Desk::new()?;
    let pxed = desk.pxed()?;
    for (command, before, answer, code, after, said) in [
        // Enter, another word, and the end of the input are no consent.
        ("hold", "auto", "\n", 1, "auto", "nothing was changed"),
        ("hold", "auto", "n\n", 1, "auto", "nothing was changed"),
        ("hold", "auto", "yikes\n", 1, "auto", "nothing was changed"),
        ("hold", "auto", "\x04", 1, "auto", "nothing was changed"),
        ("hold", "auto", "y\n", 0, "hold", "3 of 3 machines held"),
        ("release", "hold", "\n", 1, "hold", "nothing was changed"),
        ("release", "hold", "Yes\n", 0, "auto", "3 of 3 machines released"),
    ] {
        policies_are(&pxed, before)?;
        let terminal = asked(&pxed, command)?;
        policies_are(&pxed, before)?;
        terminal.press(answer)?;
        let (status, output) = terminal.finish(SOON)?;
        ensure!(status.code() == Some(code), "{command} {answer:?}: {status}: {output:?}");
        let (_, rest) = output.split_once(QUESTION).unwrap_or_default();
        ensure!(rest.contains(said), "{command} {answer:?}: {rest:?}");
        policies_are(&pxed, after)?;
    }
    // Control-C at the question is the end.
    let terminal = asked(&pxed, "hold")?;
    terminal.process.signal(nix::sys::signal::Signal::SIGINT)?;
    let (status, output) = terminal.finish(SOON)?;
    ensure!(!status.success(), "{status}: {output:?}");
    policies_are(&pxed, "auto")
}

/// Runs a command without a terminal, with this on its standard input.
fn run(pxed: &Pxed<'_>, arguments: &[&str], input: Stdio) -> anyhow::Result<Output> {
    Ok(client(pxed, arguments)?.stdin(input).output()?)
}

pub(crate) fn without_terminal() -> anyhow::Result<()> {
    let desk = Desk::new()?;
    let pxed = desk.pxed()?;
    let [cluster, lab] = ALL;
    // A word on a pipe is not one of a person who has read the question.
    let (reader, mut writer) = std::io::pipe()?;
    std::io::Write::write_all(&mut writer, b"y\n")?;
    for input in [Stdio::null(), reader.into()] {
        let output = run(&pxed, &["hold", cluster, lab], input)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2), "{}: {said}", output.status);
        ensure!(said.contains("about to hold 3 machines:") && said.contains("add --yes"), "{said}");
        policies_are(&pxed, "auto")?;
    }
    for (arguments, after) in [(["hold", cluster, lab, "--yes"], "hold"), (["release", cluster, lab, "-y"], "auto")] {
        let output = run(&pxed, &arguments, Stdio::null())?;
        ensure!(output.status.code() == Some(0), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8_lossy(&output.stdout).lines().count();
        ensure!(lines == 3, "{lines} lines for 3 machines");
        policies_are(&pxed, after)?;
    }
    for (arguments, code, said) in [
        (&["hold", "--stage", "failed"][..], 0, "no machine matches: nothing to hold"),
        (&["hold", "--cluster", "lap", "--yes"], 4, "lap"),
        (&["hold"], 2, "no machine is named"),
        (&["hold", "--yes"], 2, "no machine is named"),
        (&["hold", "52:54:00:99:00:01", "--cluster", "lab"], 2, "--cluster"),
    ] {
        let output = run(&pxed, arguments, Stdio::null())?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(code) && text.contains(said), "{arguments:?}: {}: {text}", output.status);
        policies_are(&pxed, "auto")?;
    }
    Ok(())
}
