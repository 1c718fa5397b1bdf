//! The chart: what Helm makes of values, and whether pxed and Kubernetes accept it.

mod api;
mod cases;
mod helm;
mod options;
mod pods;
mod rights;
mod understood;

use std::{collections::BTreeSet, process::ExitCode};

use anyhow::{Context as _, ensure};
use pxe_lab::{build, suite};
use serde_json::{Value, json};

use self::helm::Release;

fn main() -> ExitCode {
    suite::main(vec![
        suite::test("version_is_the_workspaces", version_is_the_workspaces),
        suite::test("values_and_schema_have_the_same_names", values_and_schema_have_the_same_names),
        suite::test("accepted_values_render_what_kubernetes_accepts", accepted_values_render_what_kubernetes_accepts),
        suite::test("api_server_accepts_every_object", api::accepts_every_object),
        suite::test("wrong_values_are_refused_by_name", wrong_values_are_refused_by_name),
        suite::test("releases_share_no_object", releases_share_no_object),
        suite::test("metrics_have_a_service_only_if_asked_for", metrics_have_a_service_only_if_asked_for),
        suite::test("notes_say_what_to_do_next", notes_say_what_to_do_next),
        suite::test("option_of_pxed_is_a_value_or_set_by_the_chart", understood::each_is_a_value_or_set_by_the_chart),
        suite::test("command_line_is_one_that_pxed_understands", understood::command_line_is_one_that_pxed_understands),
        suite::test("environment_is_one_that_pxed_understands", understood::environment_is_one_that_pxed_understands),
        suite::test("option_values_are_those_of_the_command_line", options::choices_are_those_of_the_command_line),
        suite::test("option_reaches_the_command_line_as_it_was_given", options::each_reaches_the_command_line),
        suite::test("rights_are_the_list_and_no_more", rights::are_the_list_and_no_more),
        suite::test("rights_hold_in_all_namespaces_or_in_those_that_are_named", rights::hold_where_they_should),
        suite::test("pod_is_confined", pods::are_confined),
        suite::test("pod_has_the_capabilities_of_its_datapath", pods::have_the_capabilities_of_their_datapath),
        suite::test("pod_is_probed_where_it_listens", pods::are_probed_where_they_listen),
        suite::test("pod_restarts_only_for_what_it_does_not_read_again", pods::restart_only_if_needed),
        suite::test("pod_finds_its_files", pods::find_their_files),
    ])
}

fn version_is_the_workspaces() -> anyhow::Result<()> {
    let text = std::fs::read_to_string(helm::chart().join("Chart.yaml"))?;
    let version = env!("CARGO_PKG_VERSION");
    for key in ["version", "appVersion"] {
        ensure!(text.lines().any(|line| line == format!("{key}: {version}")), "Chart.yaml: {key} is not {version}");
    }
    Ok(())
}

/// A value without a place in the schema would be refused, and one without a default would be known to nobody.
fn values_and_schema_have_the_same_names() -> anyhow::Result<()> {
    let text = std::fs::read_to_string(helm::chart().join("values.yaml"))?;
    let keys = text.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_alphabetic()));
    let keys: BTreeSet<_> = keys.filter_map(|line| line.split_once(':')).map(|(key, _)| key.to_owned()).collect();
    let schema = helm::file("values.schema.json")?;
    let mut known: BTreeSet<_> = schema["properties"].as_object().context("no properties")?.keys().cloned().collect();
    // What Helm itself adds.
    known.remove("global");
    ensure!(keys == known, "only in one: {:?}", keys.symmetric_difference(&known).collect::<Vec<_>>());
    Ok(())
}

fn accepted_values_render_what_kubernetes_accepts() -> anyhow::Result<()> {
    let cases = cases::accepted();
    let releases: Vec<_> = cases.iter().map(|values| Release("pxed", "boot", values.clone())).collect();
    for (values, rendered) in cases.iter().zip(helm::checked(&releases)?) {
        let rendered = rendered.map_err(|error| anyhow::anyhow!("{values}: {error}"))?;
        ensure!(rendered.findings.is_empty(), "{values}: {:#?}", rendered.findings);
        for object in &rendered.objects {
            let name = object["metadata"]["name"].as_str().context("an object without a name")?;
            ensure!(name.len() <= 63, "{values}: {name}");
            ensure!(object["metadata"]["labels"]["app.kubernetes.io/name"] == "pxed", "{values}: {object}");
        }
    }
    Ok(())
}

fn wrong_values_are_refused_by_name() -> anyhow::Result<()> {
    let cases = cases::refused();
    let releases: Vec<_> = cases.iter().map(|(values, _)| Release("pxed", "boot", values.clone())).collect();
    for ((values, words), rendered) in cases.iter().zip(helm::render(&releases)?) {
        let Err(message) = rendered else { anyhow::bail!("{values} is accepted") };
        for word in *words {
            ensure!(message.contains(word), "{values}: {word:?} is not in: {message}");
        }
    }
    Ok(())
}

/// Two releases in one namespace, and two of one name in two namespaces.
fn releases_share_no_object() -> anyhow::Result<()> {
    let values = || json!({"admin": {"listen": "node"}, "metrics": {"serviceMonitor": true}, "caCertificates": {"pem": "-----BEGIN CERTIFICATE-----"}});
    let scoped = || json!({"namespaces": ["metal"]});
    let releases = [
        Release("pxed", "boot", values()),
        Release("second", "boot", values()),
        Release("pxed", "boot2", values()),
        Release("pxed", "boot3", scoped()),
        Release("pxed", "boot4", scoped()),
    ];
    let mut seen = BTreeSet::new();
    for rendered in helm::render(&releases)? {
        for object in rendered.map_err(anyhow::Error::msg)?.objects {
            let Value::Object(metadata) = &object["metadata"] else { anyhow::bail!("{object}") };
            let key = format!("{} {:?}/{}", object["kind"], metadata.get("namespace"), metadata["name"]);
            ensure!(seen.insert(key.clone()), "two releases have {key}");
        }
    }
    Ok(())
}

fn metrics_have_a_service_only_if_asked_for() -> anyhow::Result<()> {
    let plain = helm::with(json!({"admin": {"listen": "node"}}))?;
    ensure!(plain.all("Service").is_empty() && plain.all("ServiceMonitor").is_empty(), "{:?}", plain.objects);
    let values = json!({"admin": {"listen": "node", "port": 9001}, "metrics": {"serviceMonitor": true, "labels": {"release": "p"}}});
    let rendered = helm::with(values)?;
    let (service, monitor) = (rendered.one("Service")?, rendered.one("ServiceMonitor")?);
    let ports = &rendered.container()?["ports"];
    let admin =
        ports.as_array().into_iter().flatten().find(|port| port["name"] == service["spec"]["ports"][0]["targetPort"]);
    ensure!(admin.is_some_and(|port| port["containerPort"] == 9001), "{ports}");
    ensure!(service["spec"]["ports"][0]["name"] == monitor["spec"]["endpoints"][0]["port"], "{service} {monitor}");
    let labels = &service["metadata"]["labels"];
    for (key, value) in monitor["spec"]["selector"]["matchLabels"].as_object().context("no selector")? {
        ensure!(&labels[key] == value, "{key}: {labels}");
    }
    let pods = &rendered.pod()?["metadata"]["labels"];
    for (key, value) in service["spec"]["selector"].as_object().context("no selector")? {
        ensure!(&pods[key] == value, "{key}: {pods}");
    }
    ensure!(monitor["metadata"]["labels"]["release"] == "p", "{monitor}");
    Ok(())
}

fn notes_say_what_to_do_next() -> anyhow::Result<()> {
    let notes = helm::with(
        json!({"nodeSelector": {"pxed.dev/provisioning": null, "rack": "7"}, "namespaces": ["metal", "lab"]}),
    )?
    .notes;
    let expected = [
        "the namespaces lab, metal",
        "kubectl label namespace boot pod-security.kubernetes.io/enforce=privileged",
        "kubectl label node NODE rack=7\n",
        "Leave enablePxeBootStack of talos-operator false",
        "kubectl describe talosmachine",
        "kubectl --namespace boot exec daemonset/pxed -- pxed status",
        "kubectl --namespace boot port-forward daemonset/pxed 8001",
    ];
    for words in expected {
        ensure!(notes.contains(words), "{words:?} is not in:\n{notes}");
    }
    ensure!(!notes.contains("Health and metrics are also on port") && !notes.contains("state is lost"), "{notes}");
    let notes = helm::with(json!({"admin": {"listen": "node"}, "state": {"hostPath": ""}}))?.notes;
    ensure!(notes.contains("Health and metrics are also on port") && notes.contains("state is lost"), "{notes}");
    ensure!(build::workspace().join("deploy/chart/README.md").exists(), "the chart has no README");
    Ok(())
}
