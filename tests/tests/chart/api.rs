//! The chart's objects before a real API server.

use std::{collections::BTreeSet, fs};

use anyhow::Context as _;
use pxe_lab::kubernetes::ApiServer;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::{cases, helm};

/// Everything that the cases render, at once; the kinds of the Prometheus operator apart, which the server does not know.
pub(crate) fn accepts_every_object() -> anyhow::Result<()> {
    let releases: Vec<_> = cases::accepted().into_iter().map(|values| helm::Release("pxed", "boot", values)).collect();
    let (mut seen, mut items): (BTreeSet<String>, Vec<Value>) = Default::default();
    for rendered in helm::render(&releases)? {
        for object in rendered.map_err(anyhow::Error::msg)?.objects {
            if !matches!(object["kind"].as_str(), Some("ServiceMonitor" | "PrometheusRule"))
                && seen.insert(object.to_string())
            {
                items.push(object);
            }
        }
    }
    let api = ApiServer::start()?;
    for namespace in ["boot", "metal", "lab"] {
        api.kubectl(&["create", "namespace", namespace])?;
    }
    let file = NamedTempFile::new()?;
    fs::write(file.path(), json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())?;
    let path = file.path().to_string_lossy();
    api.kubectl(&["create", "--dry-run=server", "--validate=true", "-f", &path]).map(drop).context("kubectl create")
}
