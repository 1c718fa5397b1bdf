//! What the chart says to pxed, against the definition of pxed's command line.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use pxe_userspace::cli;
use serde_json::json;

use super::{
    cases, helm,
    options::{of_pxed, of_schema},
};

/// The options that are not values below `options`, with what sets them.
const SET_BY_THE_CHART: &[(&str, &str)] = &[
    ("kubernetes", "always given"),
    ("namespace", "namespaces"),
    ("node-name", "the node of the pod, in the environment"),
    ("artifacts", "a mount"),
    ("state", "a mount"),
    ("talos-config", "talosConfig"),
    ("secure-boot-key", "secureBoot"),
    ("secure-boot-cert", "secureBoot"),
    ("ca-certificates", "caCertificates"),
    ("admin", "admin"),
    ("admin-socket", "a mount for its usual place"),
    ("metrics", "admin.listen, in the environment"),
];

/// The options that make no sense in a pod, with the reason.
const WITHOUT_A_PLACE: &[(&str, &str)] = &[
    ("cluster", "the objects come from the API server"),
    ("matchbox", "its directory is of another host"),
    ("kubeconfig", "the pod has its service account"),
    ("peers", "nodes find each other by their Leases"),
    ("config", "the values are the configuration"),
    ("user", "the pod's security context says it"),
    ("admin-token", "changes come by kubectl exec, which the API server authenticates"),
];

pub(crate) fn each_is_a_value_or_set_by_the_chart() -> anyhow::Result<()> {
    let values = of_schema()?;
    let values = values.as_object().context("no options")?.keys().map(String::as_str);
    let elsewhere = [SET_BY_THE_CHART, WITHOUT_A_PLACE].concat();
    let mut known = BTreeSet::new();
    for name in values.chain(elsewhere.iter().map(|&(name, _)| name)) {
        ensure!(known.insert(name), "{name} has two places");
    }
    let pxed = of_pxed()?;
    let without_a_place: Vec<_> = pxed.keys().filter(|name| !known.contains(name.as_str())).collect();
    ensure!(
        without_a_place.is_empty(),
        "{without_a_place:?}: give each a place in values.schema.json, or a reason here why it has none"
    );
    Ok(())
}

pub(crate) fn command_line_is_one_that_pxed_understands() -> anyhow::Result<()> {
    let cases = cases::accepted();
    let releases: Vec<_> = cases.iter().map(|values| helm::Release("pxed", "boot", values.clone())).collect();
    for (values, rendered) in cases.iter().zip(helm::render(&releases)?) {
        let mut words = vec!["pxed".to_owned()];
        words.extend(rendered.map_err(anyhow::Error::msg)?.args()?);
        let parsed = cli::command().try_get_matches_from(&words);
        parsed.map_err(|error| anyhow::anyhow!("{values}: {words:?}: {error}"))?;
    }
    Ok(())
}

/// The environment of the container names options of pxed alone.
pub(crate) fn environment_is_one_that_pxed_understands() -> anyhow::Result<()> {
    let command = cli::command();
    let run = command.find_subcommand("run").context("no `run`")?;
    let variables: BTreeSet<_> = run.get_arguments().filter_map(|option| option.get_env()?.to_str()).collect();
    for listen in ["loopback", "node"] {
        let rendered = helm::with(json!({"admin": {"listen": listen, "port": 9001}}))?;
        let env = &rendered.container()?["env"];
        let env = env.as_array().context("no environment")?;
        let find = |name: &str| env.iter().position(|variable| variable["name"] == name);
        for name in env.iter().filter_map(|variable| variable["name"].as_str()).filter(|name| name.starts_with("PXED_"))
        {
            ensure!(variables.contains(name), "pxed does not read {name}");
        }
        let admin = find("PXED_ADMIN").context("no PXED_ADMIN")?;
        ensure!(env[admin]["value"] == "127.0.0.1:9001", "{env:?}");
        // Others than the node itself get health and metrics alone. Kubernetes knows only variables that stand before.
        let metrics = find("PXED_METRICS");
        ensure!((listen == "node") == metrics.is_some(), "{env:?}");
        if let Some(metrics) = metrics {
            ensure!(env[metrics]["value"] == "$(HOST_IP):9001", "{env:?}");
            ensure!(find("HOST_IP").is_some_and(|host| host < metrics), "{env:?}");
        }
        let node = find("PXED_NODE_NAME").context("no PXED_NODE_NAME")?;
        ensure!(env[node]["valueFrom"]["fieldRef"]["fieldPath"] == "spec.nodeName", "{env:?}");
    }
    // The variables of a Service pxed-http would be taken for the option --http-port.
    ensure!(variables.contains("PXED_HTTP_PORT"), "{variables:?}");
    ensure!(helm::with(json!({}))?.pod()?["spec"]["enableServiceLinks"] == false, "service links");
    Ok(())
}
