//! A fleet of 100,000 machines: the time to start, the memory, and the time to apply a change of one machine.

use std::{
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use pxe_lab::{Pxed, cluster};

use super::{
    cpu::resident_bytes,
    lab::{self, INTERFACE, Pair, SERVER, Sizes},
    plan::Plan,
    report::{Chapter, Goal, Samples, Table},
};

const CLUSTERS: u32 = 100;
const MACHINES_EACH: u32 = 1000;

/// The number of reloads before the memory is measured again.
const RELOADS: u32 = 3;

/// The samples of starts and reloads.
#[derive(Default)]
struct Figures {
    start_ms: Samples,
    ready_ms: Samples,
    resident_mb: Samples,
    load_ms: Samples,
    change_ms: Samples,
    resident_after_mb: Samples,
}

/// Measures starts and reloads of pxed with the fleet.
///
/// # Errors
///
/// Fails if pxed does not start or does not notice a change.
pub(super) fn measure(plan: &Plan) -> anyhow::Result<Chapter> {
    let mut figures = Figures::default();
    for _ in 0..plan.rounds {
        figures.measure()?;
    }
    let Figures { start_ms, ready_ms, resident_mb, load_ms, change_ms, resident_after_mb } = &figures;
    let mut table = Table::new(["", "median (range)"]);
    for (name, samples) in [
        ("from exec to /readyz, ms (seen every 20 ms)", ready_ms),
        ("of which, as pxed logs it, until the XDP map is filled, ms", start_ms),
        ("resident after start, MB", resident_mb),
        ("reload with one more machine: reading and comparing, ms", load_ms),
        ("the same, from the changed file to the entry in the XDP map, ms", change_ms),
        ("resident after three reloads, MB", resident_after_mb),
    ] {
        table.row([name.to_owned(), samples.show()]);
    }
    Ok(Chapter {
        title: "Scale".to_owned(),
        text: format!(
            "{} machines in {CLUSTERS} clusters of one file. The time from the changed file to the map includes the wait until \
             the file is stable.",
            CLUSTERS * MACHINES_EACH
        ),
        tables: vec![("One node:".to_owned(), table)],
        goals: vec![
            Goal::at_most("100,000 machines: start until ready", 1000.0, "ms", ready_ms.median()),
            Goal::at_most("100,000 machines: resident after three reloads", 150.0, "MB", resident_after_mb.median()),
        ],
    })
}

impl Figures {
    fn measure(&mut self) -> anyhow::Result<()> {
        let pair = Pair::new()?;
        let files = lab::artifacts(Sizes { loader: 1, kernel: 1, initramfs: 1 })?;
        let text = spec(0);
        let begun = Instant::now();
        let pxed = Pxed::start(&pair.server, &text, files.path(), &[])?;
        self.ready_ms.push(milliseconds(begun));
        let line = pxed.process.wait_for_line("startup_ms=", Duration::from_secs(5))?;
        self.start_ms.push(field(&line, "startup_ms=").context("no startup_ms in the log")?);
        // By then the events of the start are written.
        thread::sleep(Duration::from_millis(500));
        self.resident_mb.push(resident_bytes(&pair.server)? as f64 / 1e6);
        for reload in 1..=RELOADS {
            let text = spec(reload);
            let seen = |pattern: &str| pxed.process.output().matches(pattern).count() >= reload as usize;
            let begun = Instant::now();
            pxed.rewrite_spec(&text)?;
            wait("the new machine in the map", || seen("machines changed"))?;
            self.change_ms.push(milliseconds(begun));
            wait("the loaded spec", || seen("cluster spec loaded"))?;
            let output = pxed.process.output();
            let line = output.lines().rfind(|line| line.contains("cluster spec loaded")).unwrap_or_default();
            self.load_ms.push(field(line, "duration_ms=").context("no duration_ms in the log")?);
            thread::sleep(Duration::from_millis(500));
        }
        self.resident_after_mb.push(resident_bytes(&pair.server)? as f64 / 1e6);
        Ok(())
    }
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn wait(what: &str, holds: impl Fn() -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        ensure!(Instant::now() < deadline, "{what}: not within 20 s");
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Returns the number after `key` in a line of the log.
fn field(line: &str, key: &str) -> Option<f64> {
    line.split_once(key)?.1.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Returns the fleet, with `more` extra machines in the last cluster.
fn spec(more: u32) -> String {
    let mut text = String::new();
    for cluster in 0..CLUSTERS {
        let _ = write!(
            text,
            "---\napiVersion: talos.alperen.cloud/v1alpha1\nkind: TalosCluster\nmetadata: {{name: rack-{cluster}}}\nspec:\n  \
             pxeServerSpec: {{address: {SERVER}, interface: {INTERFACE}}}\n  worker:\n    version: {}\n    mode: metal\n    \
             kubeVersion: v1.35.0\n    metalSpec:\n      machines:\n",
            cluster::VERSION
        );
        let count = if cluster + 1 == CLUSTERS { MACHINES_EACH + more } else { MACHINES_EACH };
        for machine in 0..count {
            let [_, a, b, c] = (0x0001_0000 + cluster * MACHINES_EACH + machine).to_be_bytes();
            let _ = write!(
                text,
                "      - address: 10.{a}.{b}.{c}\n        pxeClientSpec:\n          macAddress: \
                 \"52:54:00:{a:02x}:{b:02x}:{c:02x}\"\n          cpuArchitecture: amd64\n          kernelCmdlineArgs: \
                 \"console=ttyS0 talos.config=http://{SERVER}/config?mac=${{mac}}&n={machine}\"\n"
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_the_log_are_read() {
        assert_eq!(field("ready machines=3 startup_ms=712 admin=x", "startup_ms="), Some(712.0));
        assert_eq!(field("ready", "startup_ms="), None);
    }
}
