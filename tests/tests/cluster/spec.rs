//! The spec from the API: changes, mistakes, and an API server that is away.

use std::time::Duration;

use anyhow::ensure;
use nix::sys::signal::Signal;
use pxe_lab::{
    Artifacts, Bridged, Pxed,
    cluster::{Machine, SERVER_ADDRESS, VERSION, cluster},
    kubernetes::{Account, ApiServer, Operator},
    pxed::Launch,
    suite,
};

const SOON: Duration = Duration::from_secs(20);

/// A network with a server that reaches the API, and files for its machines.
struct Lab {
    api: ApiServer,
    account: Account,
    network: Bridged,
    artifacts: Artifacts,
}

impl Lab {
    fn new() -> anyhow::Result<Self> {
        let api = ApiServer::start()?;
        let network = Bridged::new(SERVER_ADDRESS, 1)?;
        api.connect(&network.server)?;
        let account = api.pxed_account("pxed")?;
        Ok(Self { api, account, network, artifacts: Artifacts::stand_ins(&[VERSION], 1000)? })
    }

    fn start(&self) -> anyhow::Result<Pxed<'_>> {
        Pxed::start_in_cluster(&self.network.server, &self.account, self.artifacts.path(), &[])
    }

    fn ready(&self) -> anyhow::Result<(u16, String)> {
        self.network.server.http_get("http://127.0.0.1:8001/readyz")
    }
}

/// Waits until exactly these machines are served.
fn serves(pxed: &Pxed<'_>, numbers: &[u8]) -> anyhow::Result<()> {
    let mut expected: Vec<_> = numbers.iter().map(|number| Machine::number(*number).mac).collect();
    expected.sort_unstable();
    pxed.eventually(&format!("the machines {numbers:?}"), SOON, |pxed| {
        let machines = pxed.machines()?;
        let macs = machines.as_array().into_iter().flatten().filter_map(|machine| machine["mac"].as_str());
        let mut macs: Vec<_> = macs.collect();
        macs.sort_unstable();
        Ok(macs == expected)
    })
}

fn machines(numbers: &[u8]) -> Vec<Machine> {
    numbers.iter().map(|number| Machine::number(*number)).collect()
}

pub(crate) fn changes() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    lab.api.define_resources()?;
    lab.api.apply(&cluster(&machines(&[1])))?;
    let pxed = lab.start()?;
    serves(&pxed, &[1])?;
    // What the operator derives counts once, and is no mistake.
    lab.api.apply(&cluster(&machines(&[1, 2])))?;
    Operator::new(&lab.api).reconcile("default", "lab")?;
    serves(&pxed, &[1, 2])?;
    ensure!(pxed.admin("/api/v1/spec/errors")? == "[]", "{}", pxed.admin("/api/v1/spec/errors")?);

    // A copy in another namespace costs only its own machine.
    lab.api.kubectl(&["create", "namespace", "other"])?;
    let copy = cluster(&machines(&[2, 3])).replace("  name: lab\n", "  name: lab\n  namespace: other\n");
    lab.api.apply(&copy)?;
    serves(&pxed, &[1, 2, 3])?;
    pxed.eventually("the error", SOON, |pxed| {
        let errors = pxed.admin("/api/v1/spec/errors")?;
        Ok(errors.contains("TalosCluster other/lab")
            && errors.contains("already used by the machine in TalosCluster default/lab"))
    })?;
    lab.api.kubectl(&["delete", "taloscluster", "-n", "other", "lab"])?;
    serves(&pxed, &[1, 2])?;
    lab.api.kubectl(&["delete", "talosmachines,taloscontrolplanes,talosclusters", "--all"])?;
    serves(&pxed, &[])?;
    ensure!(lab.ready()?.0 == 200, "an empty API is not ready: {:?}", lab.ready()?);
    lab.api.apply(&cluster(&machines(&[4])))?;
    serves(&pxed, &[4])
}

pub(crate) fn away() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    lab.api.define_resources()?;
    lab.api.apply(&cluster(&machines(&[1, 2])))?;
    let mut pxed = lab.start()?;
    serves(&pxed, &[1, 2])?;
    let saved = pxed.state_path().join("objects.json");
    suite::eventually("the objects on disk", SOON, || Ok(saved.exists()))?;

    lab.api.kill();
    pxed.eventually("the trouble", SOON, |pxed| Ok(pxed.metrics()?.sum("pxed_kubernetes_up", &[]) < 0.5))?;
    pxed.eventually("the warning", SOON, |pxed| Ok(pxed.admin("/api/v1/health")?.contains("cannot be reached")))?;
    ensure!(lab.ready()?.0 == 200, "the last spec is not served: {:?}", lab.ready()?);
    serves(&pxed, &[1, 2])?;

    // A start while it is away.
    pxed.process.signal(Signal::SIGTERM)?;
    pxed.process.wait(SOON)?;
    pxed.start_again(lab.artifacts.path(), &[])?;
    serves(&pxed, &[1, 2])?;
    ensure!(pxed.admin("/api/v1/health")?.contains("\"from_disk\":true"), "{}", pxed.admin("/api/v1/health")?);

    // Meanwhile every token has become worthless.
    lab.api.revoke_tokens()?;
    pxed.eventually("the refusal", Duration::from_secs(60), |pxed| {
        Ok(pxed.admin("/api/v1/health")?.contains("does not accept the credentials"))
    })?;
    lab.account.set_token(&lab.api.token(&lab.account, Duration::from_secs(600))?)?;
    lab.api.apply(&cluster(&machines(&[2, 3])))?;
    pxed.process.signal(Signal::SIGHUP)?;
    serves(&pxed, &[2, 3])?;
    pxed.eventually("no trouble", Duration::from_secs(60), |pxed| {
        let health = pxed.admin("/api/v1/health")?;
        Ok(health.contains("\"troubles\":[]") && health.contains("\"synced\":true"))
    })
}

pub(crate) fn definitions() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let kubeconfig = Some(lab.account.kubeconfig());
    let launch = Launch { kubeconfig, ..Launch::default() };
    let mut pxed = Pxed::launch_by(&lab.network.server, "", lab.artifacts.path(), &[], &launch)?;
    suite::eventually("the reason", SOON, || {
        let Ok((status, reasons)) = lab.ready() else { return Ok(false) };
        Ok(status == 503 && reasons.contains("install the CustomResourceDefinitions"))
    })?;
    lab.api.define_resources()?;
    lab.api.apply(&cluster(&machines(&[1])))?;
    pxed.process.signal(Signal::SIGHUP)?;
    pxed.eventually("the machine", Duration::from_secs(60), |pxed| {
        Ok(pxed.machines()?.as_array().is_some_and(|all| all.len() == 1))
    })?;
    pxed.wait_until_ready()
}
