//! Two nodes on one provisioning network, and the machines of a TalosCluster.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, ensure};
use pxe_lab::{
    Artifacts, Bridged, Namespace, Pxed, build,
    cluster::{Machine, SERVER},
    kubernetes::{Account, ApiServer},
    pxed::Launch,
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

/// Returns the values of this kind in a rehearsal's JSON.
pub(crate) fn values(output: &str, kind: &str) -> Vec<Value> {
    let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter_map(|mut line| line.get_mut(kind).map(Value::take)).collect()
}

/// Waits until the node knows the machine.
pub(crate) fn knows(pxed: &Pxed<'_>, machine: &Machine) -> anyhow::Result<()> {
    pxed.eventually("the machine is known", SOON, |pxed| Ok(pxed.machine(&machine.mac).is_ok()))
}
