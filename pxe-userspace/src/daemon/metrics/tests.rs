use prometheus_client::encoding::text;
use pxe_common::Counter;

use super::*;
use crate::{
    dataplane::{datapath::Path, metrics::QueueLosses, shortfall::Service},
    model::{
        confinement::{Confinement, Measure},
        inventory::SharedInventory,
        policy_book::SharedPolicies,
        testing::assert_golden,
    },
};

/// Returns one port of each kind.
fn ports() -> Vec<PortCounts> {
    let verdicts: Vec<_> = Counter::ALL.iter().map(|&counter| (counter, 0)).collect();
    let queues = vec![QueueLosses { queue: 0, received: 0, replies: 0 }];
    let port = |interface: &str, path, frames: &[(Counter, u64)]| PortCounts {
        interface: interface.to_owned(),
        service: Service { interface: interface.to_owned(), path, is_slower: false, queues: 1, served: 1, copying: 0 },
        frames: frames.to_vec(),
        queues: queues.clone(),
    };
    vec![port("eth1", Path::Driver, &verdicts), port("eth2", Path::Generic, &verdicts), port("eth3", Path::Socket, &[])]
}

/// Returns the metrics that a daemon exposes before the first packet.
fn exposition() -> String {
    let state = tempfile::tempdir().unwrap();
    let journal = Journal::new(SharedInventory::default(), SharedPolicies::default(), state.path()).unwrap();
    let confinement = Arc::new(Confinement { measures: vec![Measure::taken("landlock", "")] });
    let registry = registry(Metered {
        fetch: &FetchMetrics::default(),
        images: &SharedImages::default(),
        tftp: &tftp::Metrics::default(),
        http: &http::Metrics::default(),
        journal: &Arc::new(journal),
        events: &EventSink::channel(1).0,
        replies: &ReplyCounters::default(),
        nodes: &SharedNodes::default(),
        faults: &AllSpecFaults::default(),
        confinement: &confinement,
        ports,
    });
    let mut exposed = String::new();
    text::encode(&mut exposed, &registry).unwrap();
    // They are those of the build.
    let build = [env!("CARGO_PKG_VERSION"), std::env::consts::ARCH].map(|value| format!("=\"{value}\""));
    build.iter().fold(exposed, |exposed, value| exposed.replace(value, "=\"x\""))
}

/// Names, types and labels are a contract: dashboards and alerts depend on them. `PXED_BLESS=1` rewrites the file.
#[test]
fn exposition_is_a_contract() {
    let is_sample = |line: &str| !line.starts_with('#');
    let exposition = exposition();
    let without_value = |line| if is_sample(line) { line.rsplit_once(' ').unwrap().0 } else { line };
    let mut lines: Vec<_> = exposition.lines().map(without_value).collect();
    // The members of some families have no fixed order.
    lines.chunk_by_mut(|line, next| is_sample(line) && is_sample(next)).for_each(<[_]>::sort_unstable);
    let contract = lines.join("\n") + "\n";
    assert_golden("src/daemon/metrics/exposition.txt", &contract);
}

/// Alerts and the dashboard name metrics that exist: another name would be silence.
#[test]
fn alerts_and_dashboard_name_metrics_that_exist() {
    let exposition = exposition();
    let types = exposition.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let samples: std::collections::BTreeSet<_> = types
        .flat_map(|(name, kind)| {
            let suffixes: &[&str] = match kind {
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_count", "_sum"],
                _ => &[""],
            };
            suffixes.iter().map(move |suffix| format!("{name}{suffix}"))
        })
        .collect();
    for file in ["alerts.yaml", "alerts_test.yaml", "dashboard.json"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/monitoring").join(file);
        let text = std::fs::read_to_string(path).unwrap();
        let words = text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
        let named: Vec<_> = words.filter(|word| word.starts_with("pxed_") || word.starts_with("process_")).collect();
        assert!(named.len() > 5, "{file}: {named:?}");
        for name in named {
            assert!(samples.contains(name), "{file}: {name} does not exist");
        }
    }
}

#[test]
fn label_values_are_lower_case_words_joined_by_underscores() {
    for line in exposition().lines().filter(|line| !line.starts_with('#')) {
        let Some((_, labels)) = line.split_once('{') else { continue };
        for (name, value) in labels.split('"').collect::<Vec<_>>().chunks_exact(2).map(|label| (label[0], label[1])) {
            if name.ends_with("le=") {
                continue;
            }
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            assert!(value.bytes().all(plain), "{value} in {line}");
        }
    }
}

#[test]
fn metrics_have_one_sentence_of_help_each() {
    for line in exposition().lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        let (name, help) = line.split_once(' ').unwrap();
        assert!(name.starts_with("pxed_") || name.starts_with("process_"), "{name}");
        assert!(help.ends_with('.') && !help.ends_with(".."), "{line}");
    }
}
