//! The chart as Helm renders it.

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};
use pxe_lab::{build, python};
use serde_json::{Value, json};

/// The objects that Helm makes of one set of values.
#[derive(Clone, Debug)]
pub(crate) struct Rendered {
    pub(crate) objects: Vec<Value>,
    pub(crate) notes: String,
    /// The objections of the linter and of Kubernetes' schemas.
    pub(crate) findings: Vec<String>,
}

/// A release, its namespace and its values.
#[derive(Clone, Debug)]
pub(crate) struct Release(pub(crate) &'static str, pub(crate) &'static str, pub(crate) Value);

/// Returns the directory of the chart.
pub(crate) fn chart() -> PathBuf {
    build::workspace().join("deploy/chart")
}

/// Returns a file of the chart, as JSON.
pub(crate) fn file(name: &str) -> anyhow::Result<Value> {
    let path = chart().join(name);
    serde_json::from_str(&fs::read_to_string(&path)?).with_context(|| path.display().to_string())
}

/// Renders the chart for each release. An error is Helm's message.
pub(crate) fn render(releases: &[Release]) -> anyhow::Result<Vec<Result<Rendered, String>>> {
    ask(releases, false)
}

/// Renders the chart as [`render`] does, and has the objects checked.
pub(crate) fn checked(releases: &[Release]) -> anyhow::Result<Vec<Result<Rendered, String>>> {
    ask(releases, true)
}

fn ask(releases: &[Release], check: bool) -> anyhow::Result<Vec<Result<Rendered, String>>> {
    let script = build::workspace().join("tests/tests/chart/helm.py");
    let mut helm = Command::new(python::interpreter()?);
    helm.arg(script).arg(chart()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut helm = helm.spawn()?;
    let requests: Vec<_> = releases
        .iter()
        .map(|Release(name, namespace, values)| json!({"name": name, "namespace": namespace, "values": values, "check": check}))
        .collect();
    helm.stdin.take().context("no standard input")?.write_all(&serde_json::to_vec(&requests)?)?;
    let output = helm.wait_with_output()?;
    ensure!(output.status.success(), "helm.py: {}", output.status);
    let answers: Vec<Value> = serde_json::from_slice(&output.stdout)?;
    answers.iter().map(read).collect()
}

/// Renders the chart with these values as the release pxed in the namespace boot.
pub(crate) fn with(values: Value) -> anyhow::Result<Rendered> {
    match render(&[Release("pxed", "boot", values)])?.pop() {
        Some(Ok(rendered)) => Ok(rendered),
        other => bail!("{other:?}"),
    }
}

fn read(answer: &Value) -> anyhow::Result<Result<Rendered, String>> {
    if let Some(error) = answer["error"].as_str() {
        return Ok(Err(error.to_owned()));
    }
    let objects = answer["objects"].as_array().context("no objects")?.clone();
    let findings = strings(&answer["findings"]);
    Ok(Ok(Rendered { objects, notes: answer["notes"].as_str().unwrap_or_default().to_owned(), findings }))
}

/// Returns the strings of an array.
pub(crate) fn strings(array: &Value) -> Vec<String> {
    array.as_array().into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

impl Rendered {
    /// Returns the objects of a kind.
    pub(crate) fn all(&self, kind: &str) -> Vec<&Value> {
        self.objects.iter().filter(|object| object["kind"] == kind).collect()
    }

    /// Returns the only object of a kind.
    pub(crate) fn one(&self, kind: &str) -> anyhow::Result<&Value> {
        match self.all(kind)[..] {
            [object] => Ok(object),
            ref objects => bail!("{} objects of kind {kind}", objects.len()),
        }
    }

    /// Returns the template of the pods.
    pub(crate) fn pod(&self) -> anyhow::Result<&Value> {
        Ok(&self.one("DaemonSet")?["spec"]["template"])
    }

    /// Returns the only container of the pods.
    pub(crate) fn container(&self) -> anyhow::Result<&Value> {
        let containers = &self.pod()?["spec"]["containers"];
        ensure!(containers.as_array().is_some_and(|containers| containers.len() == 1), "{containers}");
        Ok(&containers[0])
    }

    /// Returns the words of the command line.
    pub(crate) fn args(&self) -> anyhow::Result<Vec<String>> {
        Ok(strings(&self.container()?["args"]))
    }
}
