use std::{net::Ipv4Addr, path::Path};

use super::*;
use crate::{
    cluster_status::condition::tests::{at, is_reason},
    model::{
        architecture::Architecture,
        finding::Finding,
        images::{FileState, ImageFile, Stubs},
        testing::machine,
    },
};

const SITE: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn node(name: &str, address: Option<Ipv4Addr>, is_alive: bool, problems: &[&str]) -> Node {
    let sites = address.map(|address| (SITE, address)).into_iter().collect();
    Node {
        name: name.into(),
        sites,
        is_alive,
        problems: problems.iter().map(ToString::to_string).collect(),
        ..Node::default()
    }
}

fn fault(number: usize) -> SpecFault {
    let finding = Finding {
        file: Path::new("TalosCluster ns/metal").into(),
        line: 0,
        column: 0,
        field: format!("spec.worker.metalSpec.machines[{number}].address"),
        message: "is not an address".to_owned(),
    };
    SpecFault { finding, objects: "machine", left_out: 1, kept: 0 }
}

fn images(state: FileState) -> Images {
    let file = ImageFile { remedy: ["pxed fetch".to_owned()].into(), ..state.into() };
    Images::new([("vmlinuz-v1.13.0-amd64".into(), file)].into(), Default::default(), Stubs::default())
}

fn assessed(faults: &[SpecFault], nodes: &Nodes, images: &Images) -> Assessed {
    let machines = [machine(1, Architecture::Amd64, "v1.13.0", None), machine(2, Architecture::Amd64, "v1.13.0", None)];
    let cluster = Cluster { machines: machines.iter().collect(), faults: faults.iter().collect() };
    let assessed = assess(&cluster, nodes, images, at(0)).unwrap();
    assert!(is_reason(assessed.assessment.reason));
    assessed
}

#[test]
fn condition_follows_from_mistakes_nodes_and_files() {
    let own = Some(Ipv4Addr::new(127, 0, 0, 8));
    let both = Nodes::new(node("node-1", Some(SITE), true, &[]), [node("node-2", own, true, &[])]);
    let dead = node("node-2", own, false, &[]);
    let none = Nodes::new(node("node-1", None, true, &["interface lo: no such interface"]), [dead]);
    let missing = || images(FileState::Missing { reason: "pxed runs with --offline".into() });
    let failed = || images(FileState::Failed { reason: "refused".into(), again: at(60) });
    let fetching = || images(FileState::Fetching { done: 1, total: Some(2), rest: None });
    let there = || images(FileState::Verified);
    let served = "127.0.0.1 on lo is served by node-1 (127.0.0.1), node-2 (127.0.0.8).";
    let mistake = "TalosCluster ns/metal: spec.worker.metalSpec.machines[1].address: is not";
    for (faults, nodes, images, reason, occasion, parts) in [
        (0, &both, there(), "Ready", false, &["2 machines", served][..]),
        (0, &both, fetching(), "ImagesPending", false, &["kernel vmlinuz-v1.13.0-amd64 is being downloaded"]),
        (0, &both, failed(), "ImagesMissing", true, &["refused", "Get it: pxed fetch."]),
        (0, &both, missing(), "ImagesMissing", true, &["is missing: pxed runs with --offline"]),
        (0, &none, missing(), "NotServed", true, &["served by no node", "node-1: interface lo: no such interface."]),
        (2, &both, there(), "SpecFaults", true, &[mistake]),
        (30, &none, there(), "SpecFaults", true, &["There are 10 more mistakes"]),
    ] {
        let faults: Vec<_> = (0..faults).map(fault).collect();
        let Assessed { assessment, sentence, occasion: of, is_served } = assessed(&faults, nodes, &images);
        let status = if reason == "Ready" { Status::True } else { Status::False };
        assert_eq!((assessment.status, assessment.reason), (status, reason), "{sentence}");
        assert_eq!(of.is_some(), occasion, "{reason}");
        assert_eq!(is_served, std::ptr::eq(nodes, &raw const both));
        assert!(parts.iter().all(|part| sentence.contains(part)), "{parts:?}\n{sentence}");
    }
}

#[test]
fn detail_changes_with_what_matters_and_not_with_every_byte() {
    let nodes = Nodes::new(node("node-1", Some(SITE), true, &[]), []);
    let detail = |images| assessed(&[], &nodes, &images).assessment.detail;
    let fetching = |done| images(FileState::Fetching { done, total: Some(100), rest: None });
    assert_eq!(detail(fetching(1)), detail(fetching(50)));
    assert_ne!(detail(fetching(1)), detail(images(FileState::Queued)));
    let with = |problems| Nodes::new(node("node-1", Some(SITE), true, problems), []);
    let of = |nodes: &Nodes| assessed(&[], nodes, &Images::default()).assessment.detail;
    assert_ne!(of(&with(&[])), of(&with(&["interface lo runs generic XDP"])));
    // Problems of other interfaces do not concern this cluster.
    assert_eq!(of(&with(&[])), of(&with(&["interface eth9 is down"])));
}

#[test]
fn cluster_without_machines_and_mistakes_is_left_alone() {
    let nodes = Nodes::default();
    assert_eq!(assess(&Cluster::default(), &nodes, &Images::default(), at(0)), None);
    let fault = fault(1);
    let only_faults = Cluster { machines: Vec::new(), faults: vec![&fault] };
    let assessed = assess(&only_faults, &nodes, &Images::default(), at(0)).unwrap();
    assert_eq!(assessed.assessment.reason, "SpecFaults");
}

#[test]
fn node_that_serves_another_site_is_not_named() {
    let nodes = Nodes::new(node("node-1", None, true, &[]), [node("node-2", Some(SITE), true, &[])]);
    let Assessed { sentence, is_served, .. } = assessed(&[], &nodes, &Images::default());
    assert!(is_served && !sentence.contains("node-1"), "{sentence}");
}
