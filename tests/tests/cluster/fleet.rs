//! Two nodes on one provisioning network, and the machines of a TalosCluster.

use std::{collections::BTreeMap, fs, process::Command, time::Duration};

use anyhow::{Context as _, ensure};
use pxe_lab::{
    Artifacts, Bridged, Namespace, Pxed, build,
    cluster::{Machine, SERVER, cluster},
    kubernetes::{Account, ApiServer},
    pxed::{Launch, Metrics},
    topology::INTERFACE,
};
use serde_json::Value;

/// The time limit for what takes a moment on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The second node's address; the first one has that of the spec.
pub(crate) const SECOND: &str = "10.99.0.2";

/// An API server, a network with two nodes and a client, and the files that machines boot.
pub(crate) struct Fleet {
    pub(crate) api: ApiServer,
    pub(crate) account: Account,
    pub(crate) network: Bridged,
    second: Namespace,
    pub(crate) artifacts: Artifacts,
}

impl Fleet {
    /// Makes all of it. Both nodes have addresses of this prefix length, and nothing runs on them.
    pub(crate) fn new(prefix: u8, artifacts: Artifacts) -> anyhow::Result<Self> {
        let api = ApiServer::start()?;
        api.define_resources()?;
        let account = api.pxed_account("pxed")?;
        let network = Bridged::new(&format!("{SERVER}/{prefix}"), 1)?;
        let second = Namespace::new("second")?;
        network.plug_in(&second, INTERFACE)?;
        second.ip(&["address", "add", &format!("{SECOND}/{prefix}"), "dev", INTERFACE])?;
        api.connect(&network.server)?;
        api.connect(&second)?;
        Ok(Self { api, account, network, second, artifacts })
    }

    /// Returns the namespace of a node.
    pub(crate) fn node(&self, number: usize) -> &Namespace {
        if number == 0 { &self.network.server } else { &self.second }
    }

    /// Starts pxed on a node.
    pub(crate) fn pxed(&self, number: usize) -> anyhow::Result<Pxed<'_>> {
        self.pxed_as(number, &self.account, &[])
    }

    /// Starts pxed on a node, with this account.
    pub(crate) fn pxed_as(&self, number: usize, account: &Account, arguments: &[&str]) -> anyhow::Result<Pxed<'_>> {
        let name = format!("PXED_NODE_NAME=node-{number}");
        let launch = Launch { kubeconfig: Some(account.kubeconfig()), wrapper: &["env", &name], ..Launch::default() };
        let mut pxed = Pxed::launch_by(self.node(number), "", self.artifacts.path(), arguments, &launch)?;
        pxed.wait_until_ready()?;
        Ok(pxed)
    }

    /// Returns a rehearsal on the client's host.
    pub(crate) fn rehearsal(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let client = self.network.clients.first().context("a client")?;
        let mut command = client.command(build::pxed()?.path);
        command.args(["rehearse", "--interface", INTERFACE, "--json", "--hurry"]).args(arguments);
        Ok(command)
    }

    /// Boots a simulated machine, for this number of seconds at most, and returns how that went.
    pub(crate) fn boot(&self, machine: &Machine, seconds: &str) -> anyhow::Result<Value> {
        let arguments = ["--firmware", "uefi-x64", "--limit-seconds", seconds, "--mac", &machine.mac];
        let output = self.rehearsal(&arguments)?.output()?;
        let mut done = values(&String::from_utf8_lossy(&output.stdout), "done");
        ensure!(done.len() == 1, "{} machines: {}", done.len(), String::from_utf8_lossy(&output.stderr));
        Ok(done.remove(0))
    }

    /// Boots a simulated machine, which must succeed.
    pub(crate) fn boots(&self, machine: &Machine) -> anyhow::Result<()> {
        let done = self.boot(machine, "60")?;
        ensure!(done["outcome"] == "booted", "{done}");
        Ok(())
    }
}

impl Fleet {
    /// Boots machines at once and returns the summary. All of them must succeed.
    pub(crate) fn boot_all(&self, machines: &[Machine]) -> anyhow::Result<Value> {
        let spec = tempfile::NamedTempFile::new()?;
        fs::write(spec.path(), cluster(machines))?;
        let spec = spec.path().to_string_lossy().into_owned();
        let output = self.rehearsal(&["--limit-seconds", "60", "--cluster", &spec])?.output()?;
        let summary = values(&String::from_utf8_lossy(&output.stdout), "summary").pop();
        let summary = summary.with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        ensure!(summary["booted"] == machines.len(), "not all machines booted: {summary}");
        Ok(summary)
    }

    /// Boots machines, whose owners live: exactly one node answers each first question, and each machine boots once on one of them.
    pub(crate) fn shares(&self, nodes: &[Pxed<'_>; 2], machines: &[Machine]) -> anyhow::Result<()> {
        let booted = || -> anyhow::Result<[BTreeMap<String, u64>; 2]> { Ok([boots(&nodes[0])?, boots(&nodes[1])?]) };
        let answered = || -> anyhow::Result<[Answers; 2]> { Ok([answers(&nodes[0])?, answers(&nodes[1])?]) };
        let (boots_before, answers_before) = (booted()?, answered()?);
        let summary = self.boot_all(machines)?;
        ensure!(repeated_questions(&summary) == 0, "questions were repeated: {summary}");
        let mut gave = answered()?;
        gave.iter_mut().zip(answers_before).for_each(|(now, before)| *now = now.since(before));
        let [one, two] = &gave;
        // Firmware, iPXE and the operating system ask once each.
        let questions = 3.0 * machines.len() as f64;
        ensure!(one.offers + two.offers == questions, "{gave:?} of {questions}: {summary}");
        ensure!(one.left == two.offers && two.left == one.offers, "each is silent where the other answers: {gave:?}");
        ensure!(one.offers > 0.0 && two.offers > 0.0, "the machines are not shared: {gave:?}");

        // The journal is a moment behind.
        for Machine { mac, .. } in machines {
            let mut counts = Vec::new();
            let once = pxe_lab::suite::eventually("it has booted once, on one node", SOON, || {
                counts = booted()?.iter().zip(&boots_before).map(|(now, before)| now[mac] - before[mac]).collect();
                Ok(counts == [0, 1] || counts == [1, 0])
            });
            once.with_context(|| format!("{mac} has booted {counts:?} times"))?;
        }
        Ok(())
    }

    /// Fails if the API server has refused a request for lack of rights (403), of whichever client.
    pub(crate) fn nothing_is_forbidden(&self) -> anyhow::Result<()> {
        let text = self.api.kubectl(&["get", "--raw", "/metrics"])?;
        let requests = |code| Metrics::parse(&text).sum("apiserver_request_total", &[code]);
        ensure!(requests("code=\"200\"") > 0.0, "the API server counts no requests");
        let refused: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("apiserver_request") && line.contains("code=\"403\""))
            .collect();
        ensure!(refused.is_empty(), "requests were refused: {refused:#?}");
        Ok(())
    }
}

/// The first answers of a node, and the questions that it left to another one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answers {
    pub(crate) offers: f64,
    pub(crate) left: f64,
}

impl Answers {
    /// Returns what was added since an earlier look.
    pub(crate) fn since(self, before: Self) -> Self {
        Self { offers: self.offers - before.offers, left: self.left - before.left }
    }
}

/// Returns what a node has answered since its start.
pub(crate) fn answers(node: &Pxed<'_>) -> anyhow::Result<Answers> {
    let metrics = node.metrics()?;
    Ok(Answers {
        offers: metrics.sum("pxed_dhcp_replies_total", &["message=\"offer\""]),
        left: metrics.sum("pxed_dhcp_silences_total", &["reason=\"left_to_peer\""]),
    })
}

/// Returns the number of times that each machine has booted, as a node has seen it.
pub(crate) fn boots(node: &Pxed<'_>) -> anyhow::Result<BTreeMap<String, u64>> {
    let machines = node.machines()?;
    let count = |machine: &Value| Some((machine["mac"].as_str()?.to_owned(), machine["boots"].as_u64()?));
    Ok(machines.as_array().into_iter().flatten().filter_map(count).collect())
}

/// Returns the number of first questions that were asked again in a rehearsal.
pub(crate) fn repeated_questions(summary: &Value) -> u64 {
    summary["retransmissions"]["discover"].as_u64().unwrap_or_default()
}

/// Returns `GET /api/v1/nodes`.
pub(crate) fn nodes_as_seen(node: &Pxed<'_>) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&node.admin("/api/v1/nodes")?)?)
}

/// Returns the names of the other nodes that live and serve a site, as a node sees them.
pub(crate) fn living(node: &Pxed<'_>) -> anyhow::Result<Vec<String>> {
    let nodes = nodes_as_seen(node)?;
    let is_living =
        |node: &&Value| node["this"] == false && node["alive"] == true && node["sites"] != serde_json::json!({});
    let names = nodes["nodes"].as_array().into_iter().flatten().filter(is_living);
    Ok(names.filter_map(|node| Some(node["name"].as_str()?.to_owned())).collect())
}

/// Waits until exactly these other nodes live, as a node sees them.
pub(crate) fn sees(node: &Pxed<'_>, names: &[&str], within: Duration) -> anyhow::Result<()> {
    node.eventually(&format!("{names:?} live"), within, |node| Ok(living(node)? == names))
}

/// Waits until the two nodes see each other.
pub(crate) fn meet(nodes: &[Pxed<'_>; 2]) -> anyhow::Result<()> {
    sees(&nodes[0], &["node-1"], SOON)?;
    sees(&nodes[1], &["node-0"], SOON)
}

/// Returns the values of this kind in a rehearsal's JSON.
pub(crate) fn values(output: &str, kind: &str) -> Vec<Value> {
    let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter_map(|mut line| line.get_mut(kind).map(Value::take)).collect()
}

/// Waits until the node knows the machine.
pub(crate) fn knows(pxed: &Pxed<'_>, machine: &Machine) -> anyhow::Result<()> {
    pxed.eventually("the machine is known", SOON, |pxed| Ok(pxed.machine(&machine.mac).is_ok()))
}
