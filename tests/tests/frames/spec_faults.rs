//! One cluster has mistakes, and the machines of another are served.

use std::time::Duration;

use anyhow::{Context, ensure};
use pxe_lab::{
    Datapath,
    cluster::{self, Machine},
    suite,
    topology::INTERFACE,
};

use crate::{
    bench::Bench,
    wire::{OFFER, Query},
};

/// The time limit for a change of the spec to take effect.
const SOON: Duration = Duration::from_secs(20);

/// Returns a cluster of another name on an interface that this host does not have, with a Talos version that has no files.
fn elsewhere() -> String {
    let machine =
        Machine { mac: "52:54:00:99:01:01".to_owned(), address: "10.98.0.9".to_owned(), ..Machine::number(9) };
    cluster::cluster(&[machine])
        .replace("name: lab", "name: elsewhere")
        .replace(&format!("interface: {INTERFACE}"), "interface: nosuch0")
        .replace("10.99.0.", "10.98.0.")
        .replace(cluster::VERSION, "v1.12.9")
}

pub(crate) fn leave_others_alone(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let [first, second] = [1, 2].map(Machine::number);
    let good = cluster::cluster(&[first.clone(), second.clone()]);
    // The second machine has a mistake, another cluster is on no interface of ours, and a document is not YAML.
    let wrong = good.replace(&second.mac, "52:54:00:*");
    let spec = format!("{wrong}---\n{}---\nkind: [\n", elsewhere());
    let arguments = [&datapath.arguments()[..], &["--machine-rate", "0"]].concat();
    let pxed = bench.pxed_without_waiting(&spec, &arguments)?;
    pxed.process.wait_for_line("ready", SOON)?;
    let plug = bench.plug()?;
    let asked = |machine: &Machine| -> anyhow::Result<bool> {
        let question = Query::discover(machine)?;
        plug.send(&question.frame())?;
        let reply = plug.await_reply(question.xid, Duration::from_millis(500))?;
        Ok(reply.is_some_and(|reply| reply.kind() == Some(OFFER)))
    };
    suite::eventually("an answer for the machine without mistakes", SOON, || asked(&first))
        .with_context(|| pxed.process.last_lines())?;
    ensure!(!asked(&second)?, "the machine with a wrong MAC address was answered");
    let log = pxed.process.output();
    for part in ["nosuch0", "v1.12.9", "is not a MAC address", "not YAML"] {
        ensure!(log.contains(part), "no {part:?} in {log}");
    }
    let errors = pxed.admin("/api/v1/spec/errors")?;
    ensure!(errors.contains("is not a MAC address") && errors.contains("not YAML"), "{errors}");
    // While it runs, the mistake moves to the first machine, which stays, and the second one is served.
    pxed.rewrite_spec(&good.replace(&first.mac, "52:54:00:*"))?;
    suite::eventually("an answer for the corrected machine", SOON, || asked(&second))
        .with_context(|| pxed.process.last_lines())?;
    ensure!(asked(&first)?, "the mistake took the address of a machine away: {}", pxed.process.last_lines());
    Ok(())
}
