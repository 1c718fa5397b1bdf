//! The pods of the DaemonSet.

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, ensure};
use pxe_lab::build;
use serde_json::{Value, json};

use super::helm::{self, Rendered, strings};

pub(crate) fn are_confined() -> anyhow::Result<()> {
    let rendered = helm::with(json!({}))?;
    let (set, pod, container) = (rendered.one("DaemonSet")?, &rendered.pod()?["spec"], rendered.container()?);
    let update = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}});
    ensure!(set["spec"]["updateStrategy"] == update, "{set}");
    ensure!(pod["hostNetwork"] == true && pod["dnsPolicy"] == "ClusterFirstWithHostNet", "{pod}");
    for absent in ["hostPID", "hostIPC", "initContainers"] {
        ensure!(pod.get(absent).is_none(), "{pod}");
    }
    ensure!(pod["nodeSelector"] == json!({"pxed.dev/provisioning": "true"}), "{pod}");
    ensure!(pod["securityContext"]["seccompProfile"] == json!({"type": "RuntimeDefault"}), "{pod}");
    let security = &container["securityContext"];
    for (field, value) in [("privileged", false), ("allowPrivilegeEscalation", false), ("readOnlyRootFilesystem", true)]
    {
        ensure!(security[field] == value, "{field}: {security}");
    }
    ensure!(strings(&security["capabilities"]["drop"]) == ["ALL"], "{security}");
    // pxed ends within five seconds.
    ensure!(pod["terminationGracePeriodSeconds"].as_u64().is_some_and(|seconds| seconds > 5), "{pod}");
    // File capabilities give another user what it needs, which no_new_privs would prevent.
    let other = helm::with(json!({"runAsUser": 65532, "secureBoot": {"secret": "db"}}))?;
    let pod = &other.pod()?["spec"];
    ensure!(pod["securityContext"]["runAsNonRoot"] == true && pod["securityContext"]["runAsUser"] == 65532, "{pod}");
    ensure!(other.container()?["securityContext"]["allowPrivilegeEscalation"] == true, "{pod}");
    let mode = |rendered: &Rendered| -> anyhow::Result<Value> {
        let volumes = rendered.pod()?["spec"]["volumes"].as_array().context("no volumes")?.clone();
        let key = volumes.iter().find(|volume| volume["name"] == "secure-boot").context("no secure-boot")?;
        Ok(key["secret"]["defaultMode"].clone())
    };
    ensure!(mode(&other)? == 0o440 && pod["securityContext"]["fsGroup"] == 65532, "{pod}");
    ensure!(mode(&helm::with(json!({"secureBoot": {"secret": "db"}}))?)? == 0o400, "the key of Secure Boot");
    Ok(())
}

/// The table of the README names them, in the order of need: the first two rows are for the packet socket.
pub(crate) fn have_the_capabilities_of_their_datapath() -> anyhow::Result<()> {
    let readme = fs::read_to_string(build::workspace().join("README.md"))?;
    let rows = readme.lines().filter(|line| line.starts_with("| `CAP_"));
    let rows: Vec<Vec<_>> =
        rows.map(|row| row.split('`').filter_map(|word| word.strip_prefix("CAP_")).collect()).collect();
    let (socket, all) = (rows.iter().take(2).flatten().copied().collect(), rows.iter().flatten().copied().collect());
    let expected = |datapath| -> &BTreeSet<&str> { if datapath == "socket" { &socket } else { &all } };
    ensure!((expected("socket").len(), expected("xdp").len()) == (2, 6), "{rows:?}");
    for datapath in ["auto", "xdp", "generic", "socket"] {
        let rendered = helm::with(json!({"options": {"datapath": datapath}}))?;
        let added = strings(&rendered.container()?["securityContext"]["capabilities"]["add"]);
        let added: BTreeSet<_> = added.iter().map(String::as_str).collect();
        ensure!(&added == expected(datapath), "{datapath}: {added:?}");
    }
    Ok(())
}

pub(crate) fn are_probed_where_they_listen() -> anyhow::Result<()> {
    for listen in ["loopback", "node"] {
        let rendered = helm::with(json!({"admin": {"listen": listen, "port": 9001}, "readinessPath": "/readyz"}))?;
        let container = rendered.container()?;
        for (probe, path) in
            [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")]
        {
            let get = &container[probe]["httpGet"];
            ensure!(
                get["path"] == path && get["host"] == "127.0.0.1" && get["port"] == "admin",
                "{listen}: {probe}: {get}"
            );
        }
        let ports = container["ports"].as_array().context("no ports")?;
        let admin = ports.iter().find(|port| port["name"] == "admin").context("no admin port")?;
        // In the host's network both numbers have to be the same.
        ensure!(admin["containerPort"] == 9001 && admin["hostPort"] == 9001, "{admin}");
    }
    let rendered = helm::with(json!({"options": {"http-port": 8080}}))?;
    let ports = &rendered.container()?["ports"];
    ensure!(ports[0]["name"] == "http" && ports[0]["hostPort"] == 8080, "{ports}");
    Ok(())
}

/// Values that are not about the pods must not change their template, and those that pxed reads only at its start must.
pub(crate) fn restart_only_if_needed() -> anyhow::Result<()> {
    let certificates = |text: &str| json!({"caCertificates": {"pem": format!("-----BEGIN CERTIFICATE-----\n{text}")}});
    let template = |values: Value| -> anyhow::Result<Value> { Ok(helm::with(values)?.pod()?.clone()) };
    let plain = template(json!({}))?;
    for values in [
        json!({"rbac": {"create": false}}),
        json!({"serviceAccount": {"annotations": {"a": "b"}}}),
        json!({"minReadySeconds": 60}),
        json!({"metrics": {"interval": "10s", "labels": {"a": "b"}}}),
    ] {
        ensure!(template(values.clone())? == plain, "{values} restarts pods");
    }
    ensure!(template(certificates("a"))? == template(certificates("a"))?, "the same certificates");
    ensure!(template(certificates("a"))? != template(certificates("b"))?, "other certificates");
    for values in [json!({"options": {"mode": "proxy"}}), json!({"podAnnotations": {"restarted": "today"}})] {
        ensure!(template(values.clone())? != plain, "{values} restarts no pods");
    }
    // The version of the chart is none of the pods'.
    let labels = plain["metadata"]["labels"].as_object().context("no labels")?;
    let labels: BTreeSet<_> = labels.keys().map(String::as_str).collect();
    ensure!(labels == BTreeSet::from(["app.kubernetes.io/instance", "app.kubernetes.io/name"]), "{labels:?}");
    Ok(())
}

/// Every path of the command line is below a mount, and every mount has its volume.
pub(crate) fn find_their_files() -> anyhow::Result<()> {
    let rendered = helm::with(json!({
        "talosConfig": {"secret": "configs", "key": "all.yaml"},
        "secureBoot": {"secret": "db"},
        "caCertificates": {"configMap": "site", "key": "bundle.pem"},
        "artifacts": {"claim": "images"},
        "state": {"claim": "state"},
    }))?;
    let args = rendered.args()?;
    let mounts = rendered.container()?["volumeMounts"].as_array().context("no mounts")?;
    let paths: BTreeSet<_> = args.iter().filter_map(|arg| arg.split_once("=/")).map(|(_, path)| path).collect();
    let expected = [
        "etc/pxed/ca-certificates/bundle.pem",
        "etc/pxed/secure-boot/tls.crt",
        "etc/pxed/secure-boot/tls.key",
        "etc/pxed/talos-config/all.yaml",
        "var/lib/pxed/artifacts",
        "var/lib/pxed/state",
    ];
    ensure!(paths == BTreeSet::from(expected), "{paths:?}");
    for path in paths {
        let holds =
            |mount: &&Value| mount["mountPath"].as_str().is_some_and(|mount| format!("/{path}").starts_with(mount));
        let mount = mounts.iter().find(holds).with_context(|| format!("no mount has {path}"))?;
        let writable = path.starts_with("var/");
        ensure!(mount["readOnly"].as_bool().unwrap_or_default() != writable, "{mount}");
        // A mounted subPath does not follow changes of a Secret or a ConfigMap. Each node has its own state.
        let sub = mount.get("subPathExpr").or_else(|| mount.get("subPath"));
        ensure!(sub == (path == "var/lib/pxed/state").then_some(&json!("$(PXED_NODE_NAME)")), "{mount}");
    }
    let names = |list: &Value| -> BTreeSet<String> {
        list.as_array().into_iter().flatten().filter_map(|item| item["name"].as_str().map(str::to_owned)).collect()
    };
    let pod = &rendered.pod()?["spec"];
    ensure!(names(&pod["volumes"]) == names(&pod["containers"][0]["volumeMounts"]), "{pod}");
    let directory = helm::with(json!({"talosConfig": {"configMap": "configs"}}))?;
    ensure!(directory.args()?.contains(&"--talos-config=/etc/pxed/talos-config".to_owned()), "{:?}", directory.args());
    Ok(())
}
