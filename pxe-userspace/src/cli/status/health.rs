//! The health of pxed, below the table of machines.

use std::fmt::Write as _;

use serde::Deserialize;

use crate::cli::shown::Shown;

/// The fields of `GET /api/v1/health` that are shown.
#[derive(Debug, Deserialize)]
pub(super) struct Health {
    problems: Vec<Shown>,
    warnings: Vec<Shown>,
    /// Empty from an older pxed.
    #[serde(default)]
    datapath: Vec<Shown>,
    file_descriptors: FileDescriptors,
    log_lines_dropped: u64,
    /// Empty from an older pxed.
    #[serde(default)]
    confinement: Vec<Measure>,
    kubernetes: Option<Kubernetes>,
    /// Absent from an older pxed.
    spec: Option<Spec>,
    /// The way in which the machines' secrets are guarded. Empty from an older pxed.
    #[serde(default)]
    secrets: Shown,
}

/// The errors of the spec.
#[derive(Debug, Deserialize)]
struct Spec {
    text: Option<String>,
}

/// The connection to the API server.
#[derive(Debug, Deserialize)]
struct Kubernetes {
    server: Shown,
    synced: bool,
    from_disk: bool,
    troubles: Vec<Trouble>,
}

#[derive(Debug, Deserialize)]
struct Trouble {
    since: u64,
}

/// A measure by which pxed confines itself.
#[derive(Debug, Deserialize)]
struct Measure {
    name: Shown,
    in_force: bool,
    detail: Shown,
}

#[derive(Debug, Deserialize)]
struct FileDescriptors {
    open: Option<u64>,
    limit: u64,
}

/// Formats one line for each finding, and one for the descriptors.
pub(super) fn render(health: &Health) -> String {
    let Health {
        problems,
        warnings,
        datapath,
        file_descriptors,
        log_lines_dropped,
        confinement,
        kubernetes,
        spec,
        secrets,
    } = health;
    let FileDescriptors { open, limit } = file_descriptors;
    let mut text = String::new();
    // Writing to a string cannot fail.
    for problem in problems {
        let _ = writeln!(text, "not served: {problem}");
    }
    for warning in warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    if let Some(Spec { text: Some(refused) }) = spec {
        let _ = writeln!(text, "spec: {refused}");
    }
    for service in datapath {
        let _ = writeln!(text, "datapath: {service}");
    }
    if *log_lines_dropped > 0 {
        let _ = writeln!(text, "warning: {log_lines_dropped} log lines were dropped");
    }
    if let Some(Kubernetes { server, synced, from_disk, troubles }) = kubernetes {
        let since = troubles.iter().map(|trouble| trouble.since).filter(|since| *since > 0).min();
        let since = since.and_then(|since| jiff::Timestamp::from_second(i64::try_from(since).ok()?).ok());
        let since = since.map_or_else(String::new, |since| format!(" since {since}"));
        let state = match (troubles.is_empty(), synced, from_disk) {
            (true, _, _) => "in step".to_owned(),
            (false, _, true) => format!("away{since}; serving what the last run left on disk"),
            (false, true, false) => format!("out of step{since}; serving what was last read"),
            (false, false, false) => format!("not read yet{since}; what is missing is not served"),
        };
        let _ = writeln!(text, "kubernetes: {server}: {state}");
    }
    if !secrets.is_empty() {
        let _ = writeln!(text, "secrets: {secrets}");
    }
    for Measure { name, detail, .. } in confinement.iter().filter(|measure| !measure.in_force) {
        let _ = writeln!(text, "not confined by {name}: {detail}");
    }
    let in_force: Vec<_> =
        confinement.iter().filter(|measure| measure.in_force).map(|measure| &*measure.detail).collect();
    if !in_force.is_empty() {
        let _ = writeln!(text, "confined: {}", in_force.join("; "));
    }
    let open = open.map_or_else(|| "all".to_owned(), |open| open.to_string());
    let _ = writeln!(text, "file descriptors: {open} of {limit} in use");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_come_before_the_descriptors() {
        let json = r#"{"ready":false,"problems":["interface eth7 is down"],"warnings":["slow"],"later":1,"datapath":["eth0: socket"],
            "file_descriptors":{"open":61,"limit":1024},"log_lines_dropped":7,"secrets":"no machine has any","confinement":[
            {"name":"user","in_force":true,"detail":"user pxed"},{"name":"landlock","in_force":false,"detail":"no Landlock"},
            {"name":"no_new_privs","in_force":true,"detail":"no_new_privs"}]}"#;
        let expected = "not served: interface eth7 is down\nwarning: slow\ndatapath: eth0: socket\nwarning: 7 log lines were dropped\n\
                        secrets: no machine has any\n\
                        not confined by landlock: no Landlock\nconfined: user pxed; no_new_privs\n\
                        file descriptors: 61 of 1024 in use\n";
        assert_eq!(render(&serde_json::from_str(json).unwrap()), expected);
        let json =
            r#"{"problems":[],"warnings":[],"file_descriptors":{"open":null,"limit":256},"log_lines_dropped":0}"#;
        assert_eq!(render(&serde_json::from_str(json).unwrap()), "file descriptors: all of 256 in use\n");
    }
}
