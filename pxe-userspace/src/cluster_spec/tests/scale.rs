//! Large fleets: `cargo test --release -p pxe-userspace --lib cluster_spec::tests::scale -- --ignored --nocapture`

use std::sync::Arc;
use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use super::{super::Loader, Files};
use crate::model::inventory::{self, Inventory};

const MACHINES: u32 = 1000;

fn cluster(cluster: u32, version: &str) -> String {
    let mut text = format!(
        "---
apiVersion: talos.alperen.cloud/v1alpha1
kind: TalosCluster
metadata:
  name: rack-{cluster}
spec:
  pxeServerSpec:
    address: 10.255.0.1
    interface: eth1
  worker:
    version: {version}
    mode: metal
    kubeVersion: v1.35.0
    metalSpec:
      machines:
"
    );
    for machine in 0..MACHINES {
        let [_, a, b, c] = (0x0001_0000 + cluster * MACHINES + machine).to_be_bytes();
        writeln!(
            text,
            "      - address: 10.{a}.{b}.{c}
        pxeClientSpec:
          macAddress: \"52:54:00:{a:02x}:{b:02x}:{c:02x}\"
          cpuArchitecture: amd64
          kernelCmdlineArgs: \"console=ttyS0 talos.config=http://10.255.0.1/config?mac=${{mac}}&n={machine}\""
        )
        .unwrap();
    }
    text
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn load(loader: &mut Loader, files: &Files) -> (Arc<Inventory>, Duration) {
    let begin = Instant::now();
    let loaded = loader.load(&[files.directory.path().to_owned()]);
    let took = begin.elapsed();
    assert_eq!(loaded.faults.faults, []);
    let inventory = Arc::clone(&loaded.inventory);
    loader.put_in_force(loaded);
    (inventory, took)
}

#[test]
#[ignore = "measures: run it alone, in release"]
fn hundreds_of_thousands_of_machines() {
    for (clusters, one_file) in [(100, true), (100, false), (300, true), (300, false)] {
        let files = Files::new(&[]);
        let write = |changed: &str| {
            let texts = (0..clusters).map(|n| cluster(n, if n == 50 { changed } else { "v1.13.0" }));
            if one_file {
                files.write("fleet.yaml", texts.collect::<String>());
            } else {
                texts.enumerate().for_each(|(n, text)| files.write(&format!("{n:03}.yaml"), text));
            }
        };
        write("v1.13.0");
        let before = resident_kib();
        let mut loader = Loader::new();
        let (old, first) = load(&mut loader, &files);
        let resident = resident_kib();
        assert_eq!(old.machines().len(), (clusters * MACHINES) as usize);
        let (_, same) = load(&mut loader, &files);
        write("v1.13.1");
        let (new, changed) = load(&mut loader, &files);
        let begin = Instant::now();
        let diff = inventory::diff(&old, &new);
        let compared = begin.elapsed();
        assert_eq!(diff.changed.len(), MACHINES as usize);

        let begin = Instant::now();
        let mut found = 0;
        for machine in new.machines() {
            found += usize::from(old.by_mac(machine.mac).is_some());
        }
        let lookup = begin.elapsed() / (clusters * MACHINES);
        assert_eq!(found, new.machines().len());

        // One machine that is wrong, and a file that is not YAML any more.
        let text = cluster(50, "v1.13.1");
        let bad = text.replacen("macAddress: \"52", "macAddress: \"x", 1);
        let [wrong, broken] = [bad.as_str(), "kind: ["].map(|bad| {
            if one_file {
                let others = (0..clusters).filter(|n| *n != 50).map(|n| cluster(n, "v1.13.0"));
                files.write("fleet.yaml", others.chain([format!("---\n{bad}")]).collect::<String>());
            } else {
                files.write("050.yaml", bad);
            }
            let begin = Instant::now();
            let loaded = loader.load(&[files.directory.path().to_owned()]);
            let took = begin.elapsed();
            assert_eq!((loaded.inventory.machines().len(), loaded.faults.faults.len()), (new.machines().len(), 1));
            loader.put_in_force(loaded);
            took
        });

        let form = format!(
            "{} machines in {}",
            clusters * MACHINES,
            if one_file { "one file" } else { "a file each thousand" }
        );
        println!(
            "{form}: first load {first:?}, resident {before} -> {resident} KiB (then {} with two inventories), unchanged \
             {same:?}, one cluster changed {changed:?}, diff {compared:?}, by_mac {lookup:?}, a wrong machine {wrong:?}, a \
             broken document {broken:?}",
            resident_kib()
        );
    }
}

/// Returns a cluster of 10,000 machines with four network cards and a loader each.
fn cluster_of_cards() -> String {
    const FLEET: u32 = 10_000;
    let mac = |card: u32, number: u32| {
        let [_, a, b, c] = number.to_be_bytes();
        format!("52:54:{card:02x}:{a:02x}:{b:02x}:{c:02x}")
    };
    let address = |number: u32| std::net::Ipv4Addr::from(0x0a01_0000 + number);
    let mut text = "apiVersion: talos.alperen.cloud/v1alpha1
kind: TalosCluster
metadata:
  name: cards
  annotations:
    pxed.dev/machines: |
"
    .to_owned();
    for number in 0..FLEET {
        // Half of the keys are MAC addresses.
        let key = if number % 2 == 0 { mac(0, number) } else { address(number).to_string() };
        let others = [1, 2, 3].map(|card| mac(card, number)).join(", ");
        writeln!(text, "      {key}: {{additionalMacAddresses: [{others}], loader: snponly, hostname: n{number}}}")
            .unwrap();
    }
    text.push_str(
        "spec:
  pxeServerSpec: {address: 10.255.0.1, interface: eth1}
  worker:
    version: v1.13.0
    mode: metal
    metalSpec:
      machines:
",
    );
    for number in 0..FLEET {
        let (address, mac) = (address(number), mac(0, number));
        writeln!(text, "      - {{address: {address}, pxeClientSpec: {{macAddress: {mac}, cpuArchitecture: amd64}}}}")
            .unwrap();
    }
    text
}

/// Quadratic work would take minutes.
#[test]
fn ten_thousand_machines_with_four_cards_load_soon() {
    let files = Files::new(&[("cards.yaml", &cluster_of_cards())]);
    let (inventory, duration) = load(&mut Loader::new(), &files);
    assert_eq!(inventory.machines().len(), 10_000);
    let macs: Vec<_> = inventory.machines().iter().flat_map(|machine| machine.macs()).collect();
    assert_eq!(macs.len(), 40_000);
    assert!(macs.iter().all(|mac| inventory.by_mac(*mac).is_some()));
    let mut loaders: Vec<_> =
        inventory.machines().iter().map(|machine| machine.loaders.as_ref().map(Arc::as_ptr)).collect();
    loaders.dedup();
    assert!(matches!(loaders[..], [Some(_)]), "one copy of the loaders serves all machines");
    println!("10,000 machines with four cards each: {duration:?}");
    assert!(duration < Duration::from_secs(30), "{duration:?}");
}
