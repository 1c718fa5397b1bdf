//! Ten thousand machines in the API.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use aya::maps::{HashMap, Map, MapData};
use kube::api::{DeleteParams, DynamicObject, PostParams};
use pxe_common::{Bucket, MacAddr, MachineKey};
use pxe_lab::{
    Artifacts, Namespace,
    cluster::{Machine, SERVER, VERSION, cluster_with_gateway},
    kubernetes,
    topology::INTERFACE,
};

use crate::fleet::Fleet;

const CLUSTERS: u16 = 40;
const EACH: u16 = 250;

fn machine(number: u16) -> Machine {
    let [high, low] = number.to_be_bytes();
    let address = format!("10.99.{}.{low}", 16 + high);
    Machine { mac: format!("02:70:78:00:{high:02x}:{low:02x}"), address, ..Machine::number(1) }
}

fn spec(name: &str, machines: &[Machine]) -> String {
    let spec = cluster_with_gateway(machines, SERVER).replace("subnet: 24", "subnet: 16");
    spec.replacen("name: lab", &format!("name: {name}"), 1)
}

/// A change is in the BPF map soon, however large the fleet is.
pub(crate) fn ten_thousand() -> anyhow::Result<()> {
    let fleet = Fleet::new(16, Artifacts::stand_ins(&[VERSION], 1000)?)?;
    let begin = Instant::now();
    for number in 0..CLUSTERS {
        // The numbers of addresses begin with 1: the first one names the network.
        let machines: Vec<_> = (number * EACH + 1..=(number + 1) * EACH).map(machine).collect();
        fleet.api.apply(&spec(&format!("lab-{number}"), &machines))?;
    }
    println!("{CLUSTERS} clusters of {EACH} machines were created in {} ms", begin.elapsed().as_millis());
    let pxed = fleet.pxed(0)?;
    let last = machine(CLUSTERS * EACH);
    pxed.eventually("all machines are known", Duration::from_secs(60), |pxed| Ok(pxed.machine(&last.mac).is_ok()))?;

    let map = machines_of(fleet.node(0))?;
    let known = map.keys().count();
    ensure!(known == usize::from(CLUSTERS * EACH), "{known} machines are in the map");
    let new = machine(CLUSTERS * EACH + 1);
    let key = MachineKey::from(new.mac.parse::<MacAddr>().map_err(|_| anyhow::anyhow!("{}", new.mac))?);
    // The server has the object from a client of ours: the end of kubectl would be part of the time.
    fleet.api.apply(&spec("new", std::slice::from_ref(&new)))?;
    let object = fleet.api.get("taloscluster", "default", "new")?;
    let object: DynamicObject = serde_json::from_value(serde_json::json!({
        "apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": {"name": "new"}, "spec": object["spec"],
    }))?;
    pxe_lab::suite::eventually("the new machine is in the map", Duration::from_secs(20), || {
        Ok(map.get(&key, 0).is_ok())
    })?;
    let mut times = Vec::new();
    for round in 1..6 {
        let is_there = round % 2 == 0;
        let object = object.clone();
        let begin = fleet.api.with_client(|client| async move {
            let clusters = kubernetes::objects(&client, "TalosCluster", "default");
            if is_there {
                clusters.create(&PostParams::default(), &object).await?;
            } else {
                clusters.delete("new", &DeleteParams::default()).await?;
            }
            Ok(Instant::now())
        })?;
        pxe_lab::suite::eventually("the change is in the map", Duration::from_secs(20), || {
            Ok(map.get(&key, 0).is_ok() == is_there)
        })?;
        times.push(begin.elapsed().as_millis());
    }
    println!("a change of {known} machines was in the BPF map within {times:?} ms");
    Ok(())
}

/// Opens the map of machines of the program on a node's interface.
fn machines_of(node: &Namespace) -> anyhow::Result<HashMap<MapData, MachineKey, Bucket>> {
    let text = node.ip(&["-details", "-json", "link", "show", "dev", INTERFACE])?;
    let links: serde_json::Value = serde_json::from_str(&text)?;
    let id = links[0]["xdp"]["prog"]["id"].as_u64().context("no XDP program")?;
    for program in aya::programs::loaded_programs().flatten().filter(|program| u64::from(program.id()) == id) {
        for id in program.map_ids()?.unwrap_or_default() {
            let data = MapData::from_id(id)?;
            if data.info()?.name_as_str() == Some("MACHINES") {
                return Ok(Map::from_map_data(data)?.try_into()?);
            }
        }
    }
    anyhow::bail!("the program has no map of machines")
}
