//! `pxed hold` and `pxed release`: for machines that are named, and for those of a selection, with a confirmation.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::json;

use super::{
    client::AdminClient,
    machine,
    machines::{self, Machine},
    output::{complain, print, print_json},
    select::SelectorArgs,
    target,
};
use crate::cli::exit::{Ended, Exit, status_of};

/// The most machines that a question lists.
const LISTED: usize = 10;

/// The decision about a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Hold,
    Release,
}

impl Decision {
    /// Returns the name in the API and on the command line.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Release => "release",
        }
    }

    const fn past(self) -> &'static str {
        match self {
            Self::Hold => "held",
            Self::Release => "released",
        }
    }
}

/// The machines that a person wants changed.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) names: Vec<String>,
    pub(super) selector: SelectorArgs,
    /// Set if the question is answered already.
    pub(super) yes: bool,
}

/// Decides about machines and prints a line for each.
pub(super) fn run(client: &AdminClient, decision: Decision, wanted: Wanted, json: bool) -> anyhow::Result<Exit> {
    let Wanted { names, selector, yes } = wanted;
    let is_selection = names.is_empty();
    if is_selection && selector.is_empty() {
        let message = format!(
            "no machine is named: pxed {0} MACHINE, or pxed {0} with --cluster, --stage or --role",
            decision.name()
        );
        return Err(Ended::new(Exit::Usage, message).into());
    }
    let text = client.get("/api/v1/machines", &[("events", "0".to_owned())])?;
    let listed = machines::read(&text)?;
    let all: Vec<&Machine> = listed.iter().map(|listed| &listed.machine).collect();
    let mut chosen: Vec<&Machine> = Vec::new();
    if is_selection {
        let selection = selector.resolve(all.iter().copied())?;
        chosen = selection.of(all.iter().copied(), Timestamp::now());
        if chosen.is_empty() {
            complain(&format!("no machine matches: nothing to {}", decision.name()));
            return Ok(Exit::Success);
        }
        if !yes {
            confirm(decision, &chosen)?;
        }
    } else {
        for name in &names {
            let machine = target::find(&all, name)?;
            if !chosen.iter().any(|other| other.mac == machine.mac) {
                chosen.push(machine);
            }
        }
    }
    apply(client, decision, &chosen, json)
}

/// Asks at the terminal. Without one, nobody can answer.
fn confirm(decision: Decision, chosen: &[&Machine]) -> anyhow::Result<()> {
    let question = question(decision, chosen);
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        let message = format!("{question}add --yes: there is no terminal to ask at, and nothing was changed");
        return Err(Ended::new(Exit::Usage, message).into());
    }
    let mut stderr = io::stderr().lock();
    write!(stderr, "{question}Go on? [y/N] ").and_then(|()| stderr.flush()).context("standard error")?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("standard input")?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Ended::new(Exit::Failure, "nothing was changed").into()),
    }
}

/// Returns which machines are about to be changed.
fn question(decision: Decision, chosen: &[&Machine]) -> String {
    let machines = if chosen.len() == 1 { "1 machine".to_owned() } else { format!("{} machines", chosen.len()) };
    let mut text = format!("about to {} {machines}:\n", decision.name());
    for machine in chosen.iter().take(LISTED) {
        let Machine { role, cluster, stage, .. } = machine;
        text.push_str(&format!("  {}, {role} of {cluster}, {stage}\n", machine.title()));
    }
    if let Some(more @ 1..) = chosen.len().checked_sub(LISTED) {
        text.push_str(&format!("  and {more} more\n"));
    }
    text
}

/// Changes one machine after the other. A failure leaves the others alone, unless nobody answers any more.
fn apply(client: &AdminClient, decision: Decision, chosen: &[&Machine], json: bool) -> anyhow::Result<Exit> {
    let (mut done, mut held, mut failed, mut first) = (0, 0, 0, None);
    for machine in chosen {
        let mac = &machine.mac;
        match client.post(&format!("/api/v1/machines/{mac}/{}", decision.name())) {
            Ok(answer) => {
                let machine::Decided { text, policy } = machine::decided(&answer)?;
                let is_read = if json { print_json(&answer)? } else { print(&text)? };
                // A release does not end a hold of the spec.
                if decision == Decision::Release && &*policy == "hold" {
                    held += 1;
                    first.get_or_insert(Exit::Failure);
                } else {
                    done += 1;
                }
                if !is_read && chosen.len() == 1 {
                    break;
                }
            }
            Err(error) if chosen.len() == 1 => return Err(error),
            Err(error) => {
                failed += 1;
                let words = crate::cli::ending::text_of(&error);
                match json {
                    true => _ = print_json(&json!({"mac": **mac, "error": words}).to_string())?,
                    false => complain(&format!("{mac}: {words}")),
                }
                let status = status_of(&error);
                first.get_or_insert(status);
                if status == Exit::Unreachable {
                    break;
                }
            }
        }
    }
    if chosen.len() > 1 {
        let left = chosen.len() - done - held - failed;
        let held = if held > 0 { format!(", {held} still held by the spec") } else { String::new() };
        let left = if left > 0 { format!(", {left} not tried") } else { String::new() };
        let failed = if failed > 0 { format!(", {failed} failed") } else { String::new() };
        complain(&format!("{done} of {} machines {}{held}{failed}{left}", chosen.len(), decision.past()));
    }
    Ok(match first {
        None => Exit::Success,
        Some(_) if done > 0 => Exit::Partial,
        Some(status) => status,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn question_names_the_first_machines() {
        let json = |number: usize| {
            format!(
                r#"{{"mac":"52:54:00:00:00:{number:02x}","address":"10.0.0.{number}","cluster":"lab","role":"worker",
                "architecture":"amd64","version":"v1","policy":"auto","boots_from":"network","stage":"failed",
                "stage_since":"2026-01-01T00:00:00Z","boots":1,"last_error":null,"hostname":null}}"#
            )
        };
        let machines: Vec<Machine> = (1..=12).map(|number| serde_json::from_str(&json(number)).unwrap()).collect();
        let all: Vec<_> = machines.iter().collect();
        let text = question(Decision::Hold, &all);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "about to hold 12 machines:");
        assert_eq!(lines[1], "  52:54:00:00:00:01 (10.0.0.1), worker of lab, failed");
        assert_eq!((lines.len(), lines[11]), (12, "  and 2 more"));
        assert_eq!(question(Decision::Release, &all[..1]).lines().count(), 2);
    }
}
