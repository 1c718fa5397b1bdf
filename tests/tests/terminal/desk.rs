//! A pxed with some machines, and the clients that people start.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, ensure};
use pxe_lab::{
    Artifacts, Bridged, Process, Pxed, Terminal, build,
    cluster::{self, Machine, SERVER_ADDRESS, VERSION},
    topology::INTERFACE,
};

/// The time for anything that should happen at once, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// The number of machines.
const MACHINES: u8 = 3;

/// A network with one client.
pub(crate) struct Desk {
    bridged: Bridged,
    artifacts: Artifacts,
}

impl Desk {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self { bridged: Bridged::new(SERVER_ADDRESS, 1)?, artifacts: Artifacts::stand_ins(&[VERSION], 1000)? })
    }

    /// Starts pxed.
    pub(crate) fn pxed(&self) -> anyhow::Result<Pxed<'_>> {
        let spec = cluster::cluster(&machines());
        Pxed::start(&self.bridged.server, &spec, self.artifacts.path(), &["--machine-rate", "0"])
    }

    /// Lets a machine boot.
    pub(crate) fn boot(&self, machine: &Machine) -> anyhow::Result<()> {
        let client = self.bridged.clients.first().context("a client")?;
        let mut command = client.command(build::pxed()?.path);
        command.args(["rehearse", "--interface", INTERFACE, "--hurry", "--firmware", "ipxe", "--mac", &machine.mac]);
        let mut rehearsal = Process::spawn("rehearse", &mut command)?;
        let status = rehearsal.wait(3 * SOON)?;
        ensure!(status.success(), "{}", rehearsal.last_lines());
        Ok(())
    }
}

/// Returns the machines of the spec.
pub(crate) fn machines() -> Vec<Machine> {
    (1..=MACHINES).map(Machine::number).collect()
}

/// Returns a client of this pxed with these arguments.
pub(crate) fn client(pxed: &Pxed<'_>, arguments: &[&str]) -> anyhow::Result<Command> {
    let mut command = pxed.namespace().command(build::pxed()?.path);
    command.args(arguments).env("PXED_ADMIN", format!("unix:{}", pxed.socket().display()));
    Ok(command)
}

/// Starts a client on a terminal, with the signals that a shell at a terminal leaves to it: one in the background ignores SIGINT.
pub(crate) fn on_terminal(pxed: &Pxed<'_>, arguments: &[&str]) -> anyhow::Result<Terminal> {
    let client = client(pxed, arguments)?;
    let mut command = Command::new("env");
    command.arg("--default-signal").arg(client.get_program()).args(client.get_args());
    command.envs(client.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Terminal::start("pxed", command)
}

/// Returns the boot policies of the machines.
pub(crate) fn policies(pxed: &Pxed<'_>) -> anyhow::Result<Vec<String>> {
    let policy = |machine: &Machine| {
        let policy = pxed.machine(&machine.mac)?["policy"].as_str().map(str::to_owned);
        policy.with_context(|| format!("{} has no policy", machine.mac))
    };
    machines().iter().map(policy).collect()
}
