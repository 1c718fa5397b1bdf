//! The lab's API server itself.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use pxe_lab::{
    Namespace,
    cluster::{Machine, cluster},
    kubernetes::{self, ApiServer, Operator},
    suite,
};

pub(crate) fn roles() -> anyhow::Result<()> {
    let api = ApiServer::start()?;
    let account = api.account("pxed", "reader")?;
    let read = ["get", "configmaps"];
    let Err(refused) = api.kubectl_as(&account, &read) else { anyhow::bail!("an account without a role may read") };
    ensure!(refused.to_string().contains("system:serviceaccount:pxed:reader"), "{refused}");
    api.kubectl(&["-n", "pxed", "create", "role", "reader", "--verb=list", "--resource=configmaps"])?;
    api.kubectl(&["-n", "pxed", "create", "rolebinding", "reader", "--role=reader", "--serviceaccount=pxed:reader"])?;
    suite::eventually("the role is in force", Duration::from_secs(10), || Ok(api.kubectl_as(&account, &read).is_ok()))?;
    let written = api.kubectl_as(&account, &["create", "configmap", "x"]);
    ensure!(written.is_err(), "a reader may write");
    Ok(())
}

pub(crate) fn chart() -> anyhow::Result<()> {
    let api = ApiServer::start()?;
    api.define_resources()?;
    let account = api.pxed_account("pxed")?;
    let may = |arguments: &[&str]| {
        let answer = api.kubectl_as(&account, &[&["auth", "can-i"], arguments].concat());
        answer.is_ok_and(|answer| answer.trim() == "yes")
    };
    suite::eventually("the roles are in force", Duration::from_secs(10), || {
        Ok(may(&["watch", "talosmachines", "-A"]))
    })?;
    for allowed in [
        &["patch", "talosmachines", "--subresource=status", "-A"][..],
        &["create", "events.events.k8s.io", "-A"],
        &["delete", "leases.coordination.k8s.io", "-n", "pxed"],
    ] {
        ensure!(may(allowed), "may not {allowed:?}");
    }
    for refused in [
        &["create", "talosmachines", "-A"][..],
        &["update", "talosmachines", "--subresource=status", "-A"],
        &["delete", "talosclusters", "-A"],
        &["list", "leases.coordination.k8s.io", "-n", "default"],
        &["get", "secrets", "-n", "pxed"],
    ] {
        ensure!(!may(refused), "may {refused:?}");
    }
    Ok(())
}

pub(crate) fn tokens() -> anyhow::Result<()> {
    let api = ApiServer::start()?;
    let account = api.account("pxed", "reader")?;
    let ask = || api.kubectl_as(&account, &["get", "--raw", "/api"]);
    ask()?;
    account.set_token(&api.token(&account, Duration::ZERO)?)?;
    ensure!(ask().is_err(), "a token that has ended is good");
    let lasting = api.token(&account, Duration::from_secs(60))?;
    account.set_token(&lasting)?;
    ask()?;
    api.revoke_tokens()?;
    ensure!(ask().is_err(), "a revoked token is good");
    account.set_token(&api.token(&account, Duration::from_secs(60))?)?;
    ask().map(drop)
}

pub(crate) fn away() -> anyhow::Result<()> {
    let api = ApiServer::start()?;
    api.kubectl(&["create", "configmap", "x"])?;
    api.stop()?;
    ensure!(api.kubectl(&["get", "configmap", "x"]).is_err(), "the server answers after its end");
    api.start_again()?;
    api.kubectl(&["get", "configmap", "x"])?;
    api.kill();
    ensure!(api.kubectl(&["get", "configmap", "x"]).is_err(), "the server answers after its end");
    api.start_again()?;
    api.kubectl(&["get", "configmap", "x"]).map(drop)
}

pub(crate) fn partition() -> anyhow::Result<()> {
    let api = ApiServer::start()?;
    let nodes = [Namespace::new("node0")?, Namespace::new("node1")?];
    for node in &nodes {
        api.connect(node)?;
    }
    let address = format!("{}:6443", kubernetes::ADDRESS).parse()?;
    let reaches = |node: &Namespace| {
        node.enter(|| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok())
    };
    ensure!(reaches(&nodes[0])? && reaches(&nodes[1])?, "a connected node does not reach the server");
    api.partition(&nodes[0])?;
    ensure!(!reaches(&nodes[0])? && reaches(&nodes[1])?, "the partition is not that of one node");
    api.heal(&nodes[0])?;
    suite::eventually("the partition ends", Duration::from_secs(5), || reaches(&nodes[0]))
}

pub(crate) fn operator() -> anyhow::Result<()> {
    let api = ApiServer::start()?;
    api.define_resources()?;
    api.apply(&cluster(&[Machine::number(1), Machine::number(2)]))?;
    let wrong = cluster(&[Machine::number(3)]).replace("amd64", "riscv64").replace("name: lab", "name: wrong");
    ensure!(api.apply(&wrong).is_err(), "an architecture that the definition does not have is taken");
    let operator = Operator::new(&api);
    let names = operator.reconcile("default", "lab")?;
    ensure!(names == ["lab-10.99.0.101", "lab-10.99.0.102"], "{names:?}");
    ensure!(operator.reconcile("default", "lab")? == names, "the second round differs");
    let machine = api.get("talosmachine", "default", &names[0])?;
    ensure!(machine["spec"]["pxeClientSpec"]["macAddress"] == Machine::number(1).mac, "{machine:#}");
    ensure!(machine["metadata"]["ownerReferences"][0]["kind"] == "TalosControlPlane", "{machine:#}");

    // Beside the operator's own field, a condition by server-side apply.
    let stale = operator.read("default", &names[0])?;
    api.with_client(|client| async move {
        let condition = serde_json::json!({
            "apiVersion": "talos.alperen.cloud/v1alpha1", "kind": "TalosMachine",
            "status": {"conditions": [{
                "type": "PxeBooted", "status": "True", "reason": "Booted", "message": "has its kernel",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }]},
        });
        let parameters = kube::api::PatchParams::apply("pxed").force();
        let machines = kubernetes::objects(&client, "TalosMachine", "default");
        machines.patch_status("lab-10.99.0.101", &parameters, &kube::api::Patch::Apply(condition)).await?;
        Ok(())
    })?;
    ensure!(!stale.put_state("Booting")?, "a stale PUT is taken");
    ensure!(operator.set_state("default", &names[0], "Booting")? == 0, "a fresh PUT is refused");
    let status = api.get("talosmachine", "default", &names[0])?["status"].clone();
    ensure!(status["state"] == "Booting" && status["conditions"][0]["type"] == "PxeBooted", "{status:#}");

    api.apply(&cluster(&[Machine::number(2)]))?;
    ensure!(operator.reconcile("default", "lab")? == names[1..], "the machine that is gone stays");
    let gone = api.get("talosmachine", "default", &names[0]).err().context("its TalosMachine stays")?;
    ensure!(gone.to_string().contains("NotFound"), "{gone}");
    Ok(())
}
