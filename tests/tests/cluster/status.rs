//! What the API tells of machines, and policy that lives there.

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, ensure};
use pxe_lab::{
    Artifacts, Bridged, Namespace, Pxed, build,
    cluster::{Machine, SERVER_ADDRESS, VERSION, cluster},
    kubernetes::{Account, ApiServer, Operator},
    namespace::output,
    pxed::ADMIN,
    suite,
    topology::INTERFACE,
};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);

/// An API server with a cluster, a network with machines, and the files that they boot.
struct Place {
    api: ApiServer,
    account: Account,
    bridged: Bridged,
    artifacts: Artifacts,
}

impl Place {
    fn new(machines: &[Machine]) -> anyhow::Result<Self> {
        let api = ApiServer::start()?;
        api.define_resources()?;
        let account = api.pxed_account("pxed")?;
        let bridged = Bridged::new(SERVER_ADDRESS, 1)?;
        api.connect(&bridged.server)?;
        api.apply(&cluster(machines))?;
        Operator::new(&api).reconcile("default", "lab")?;
        Ok(Self { api, account, bridged, artifacts: Artifacts::stand_ins(&[VERSION], 50_000)? })
    }

    fn pxed(&self) -> anyhow::Result<Pxed<'_>> {
        Pxed::start_in_cluster(&self.bridged.server, &self.account, self.artifacts.path(), &[])
    }

    /// Boots a simulated machine.
    fn boot(&self, machine: &Machine, firmware: &str) -> anyhow::Result<String> {
        let mut command = self.client()?.command(build::pxed()?.path);
        command.args(["rehearse", "--interface", INTERFACE, "--hurry", "--limit-seconds", "5"]);
        output(command.args(["--mac", &machine.mac, "--firmware", firmware]))
    }

    fn client(&self) -> anyhow::Result<&Namespace> {
        self.bridged.clients.first().context("a client")
    }

    /// Returns the condition of a type.
    fn condition(&self, kind: &str, name: &str, of: &str) -> anyhow::Result<Value> {
        let object = self.api.get(kind, "default", name)?;
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        Ok(conditions.into_iter().find(|condition| condition["type"] == of).unwrap_or_default())
    }

    /// Waits until the condition of a machine has this status and reason.
    fn is_told(&self, name: &str, status: &str, reason: &str) -> anyhow::Result<Value> {
        let mut last = Value::Null;
        let told = suite::eventually(&format!("{name} is {status}, {reason}"), SOON, || {
            last = self.condition("talosmachine", name, "PxeBooted")?;
            Ok(last["status"] == status && last["reason"] == reason)
        });
        told.with_context(|| format!("the last condition is {last:#}"))?;
        Ok(last)
    }

    fn pxed_says(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let program: PathBuf = build::pxed()?.path;
        let mut command: Command = self.bridged.server.command(program);
        output(command.args(arguments).args(["--admin", ADMIN]))
    }
}

fn name(machine: &Machine) -> String {
    format!("lab-{}", machine.address)
}

/// `kubectl get` and `kubectl describe` tell what happened, beside what the operator writes.
pub(crate) fn told() -> anyhow::Result<()> {
    let machines = [Machine::number(1), Machine::number(2)];
    let place = Place::new(&machines)?;
    let pxed = place.pxed()?;
    let cluster_is_ready = || Ok(place.condition("taloscluster", "lab", "PxeReady")?["status"] == "True");
    suite::eventually("the cluster is ready", SOON, cluster_is_ready)?;

    let operator = Operator::new(&place.api);
    place.boot(&machines[0], "uefi-x64")?;
    let mut conflicts = 0;
    suite::eventually("the machine is told to have booted", SOON, || {
        conflicts += operator.set_state("default", &name(&machines[0]), "Booting")?;
        Ok(place.condition("talosmachine", &name(&machines[0]), "PxeBooted")?["status"] == "True")
    })?;
    ensure!(conflicts <= 5, "{conflicts} writes of the operator were refused");
    // The rehearsal ends with the operating system's address.
    let condition = place.is_told(&name(&machines[0]), "True", "Running")?;
    let message = condition["message"].as_str().unwrap_or_default();
    ensure!(message.contains(", 20"), "{message}");
    ensure!(condition["observedGeneration"].is_number(), "{condition:#}");
    let status = place.api.get("talosmachine", "default", &name(&machines[0]))?["status"].clone();
    ensure!(status["state"] == "Booting", "the operator's field is gone: {status:#}");

    // A firmware that cannot start the kernel of the spec.
    let wrong = place.boot(&machines[1], "uefi-arm64");
    ensure!(wrong.is_err(), "it booted: {wrong:?}");
    place.is_told(&name(&machines[1]), "False", "WrongArchitecture")?;
    suite::eventually("kubectl describe shows the Event", SOON, || {
        let text = place.api.kubectl(&["describe", "talosmachine", &name(&machines[1])])?;
        Ok(text.contains("PxeBooted") && text.contains("Warning") && text.contains("cpuArchitecture amd64"))
    })?;

    // Without news nothing is written, whatever the operator writes.
    let written =
        || Ok::<_, anyhow::Error>(pxed.metrics()?.sum("pxed_kubernetes_writes_total", &["outcome=\"written\""]));
    let before = written()?;
    ensure!(before >= 3.0, "{before} writes");
    for round in 0..50 {
        let conflicts = operator.set_state("default", &name(&machines[0]), &format!("Round{round}"))?;
        ensure!(conflicts == 0, "the operator's write was refused");
    }
    ensure!(written()? == before, "something was written without a reason");
    Ok(())
}

/// A hold lives in the API: whoever sets it, and whatever pxed forgets.
pub(crate) fn policy() -> anyhow::Result<()> {
    let machine = Machine::number(1);
    let place = Place::new(std::slice::from_ref(&machine))?;
    let pxed = place.pxed()?;
    let object = name(&machine);
    let annotation = |expected: Option<&str>| -> anyhow::Result<()> {
        let object = place.api.get("talosmachine", "default", &object)?;
        let policy = object["metadata"]["annotations"]["pxed.dev/boot-policy"].as_str();
        ensure!(policy == expected, "the annotation is {policy:?}");
        Ok(())
    };
    let policy_is = |pxed: &Pxed<'_>, expected: &str| {
        pxed.eventually(&format!("its policy is {expected}"), SOON, |pxed| {
            Ok(pxed.machine(&machine.mac)?["policy"] == expected)
        })
    };

    let said = place.pxed_says(&["hold", &machine.mac])?;
    ensure!(
        said.contains(&format!("wrote the annotation pxed.dev/boot-policy: hold on TalosMachine default/{object}")),
        "{said}"
    );
    annotation(Some("hold"))?;
    // A pxed that remembers nothing.
    drop(pxed);
    let pxed = place.pxed()?;
    policy_is(&pxed, "hold")?;
    let said = place.pxed_says(&["explain", &machine.mac])?;
    ensure!(said.contains("annotation pxed.dev/boot-policy: hold"), "{said}");

    let said = place.pxed_says(&["release", &machine.mac])?;
    ensure!(said.contains("policy auto"), "{said}");
    annotation(None)?;
    place.is_told(&object, "Unknown", "Released")?;

    place.api.kubectl(&["annotate", "talosmachine", &object, "pxed.dev/boot-policy=once"])?;
    policy_is(&pxed, "once")?;
    place.boot(&machine, "uefi-x64")?;
    let told = |status: &str| {
        suite::eventually(&format!("it is {status}"), SOON, || {
            Ok(place.condition("talosmachine", &object, "PxeBooted")?["status"] == status)
        })
    };
    told("True")?;
    drop(pxed);
    let pxed = place.pxed()?;
    let next = |expected: &str| {
        pxed.eventually(&format!("it boots from {expected}"), SOON, |pxed| {
            Ok(pxed.machine(&machine.mac)?["boots_from"] == expected)
        })
    };
    next("disk")?;
    place.pxed_says(&["release", &machine.mac])?;
    next("network")?;
    annotation(Some("once"))?;
    place.is_told(&object, "Unknown", "Released").map(drop)
}
