//! Two nodes with the very same spec on one network. One has the address of the spec, the other only its own.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use pxe_lab::{
    Artifacts, Bridged, Datapath, Namespace, Pxed, build,
    cluster::{self, Machine, SERVER, VERSION},
    namespace, requires,
    suite::eventually,
    topology::INTERFACE,
};
use tempfile::TempDir;

use crate::{
    plug::Plug,
    wire::{ACK, OFFER, Query, REQUEST, Reply},
};

const FIRST: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
/// The address of the spec, where it moves between the nodes.
const VIRTUAL: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 5);

const SOON: Duration = Duration::from_secs(20);

/// Two hosts on a switch, and a machine.
struct Lab {
    bridged: Bridged,
    second: Namespace,
    artifacts: Artifacts,
    configs: TempDir,
}

impl Lab {
    fn new() -> anyhow::Result<Self> {
        let bridged = Bridged::new(&format!("{FIRST}/24"), 1)?;
        let second = Namespace::new("second")?;
        bridged.plug_in(&second, INTERFACE)?;
        second.ip(&["address", "add", &format!("{SECOND}/24"), "dev", INTERFACE])?;
        let (artifacts, configs) = (Artifacts::stand_ins(&[VERSION], 50_000)?, TempDir::new()?);
        std::fs::write(configs.path().join("config.yaml"), "version: v1alpha1\n")?;
        Ok(Self { bridged, second, artifacts, configs })
    }

    /// Starts both nodes with the same spec and the same options, which name the addresses of both.
    fn nodes(&self, datapath: Datapath, spec: &str) -> anyhow::Result<[Pxed<'_>; 2]> {
        let config = self.configs.path().join("config.yaml");
        let options = ["--machine-rate", "0", "--advertise", "10.99.0.1,10.99.0.2", "--talos-config"];
        let options = [&datapath.arguments()[..], &options, &[config.to_str().context("a path")?]].concat();
        // Its configurations are fetched here as GRUB and U-Boot would.
        let spec = cluster::with_annotation(spec, "pxed.dev/secrets: by-address");
        let start = |host| Pxed::start(host, &spec, self.artifacts.path(), &options);
        Ok([start(&self.bridged.server)?, start(&self.second)?])
    }

    fn client(&self) -> anyhow::Result<&Namespace> {
        self.bridged.clients.first().context("a client")
    }

    /// Returns the replies of both nodes to a question, in the order of their server identifiers.
    fn replies(&self, plug: &Plug, question: &Query, count: usize) -> anyhow::Result<Vec<Reply>> {
        let mut replies = Vec::<Reply>::new();
        eventually("the replies of all nodes", SOON, || {
            plug.send(&question.frame())?;
            let deadline = Instant::now() + Duration::from_millis(300);
            while replies.len() < count
                && let Some(reply) =
                    plug.await_reply(question.xid, deadline.saturating_duration_since(Instant::now()))?
            {
                // A question that is repeated has two answers.
                if !replies.iter().any(|known| known.option(54) == reply.option(54)) {
                    replies.push(reply);
                }
            }
            Ok(replies.len() >= count)
        })?;
        replies.sort_by_key(|reply| reply.option(54).map(<[u8]>::to_vec));
        Ok(replies)
    }
}

/// Returns the options of firmware that boots by PXE, or by HTTP.
fn firmware(class: &'static str, architecture: [u8; 2]) -> Vec<(u8, Vec<u8>)> {
    vec![(60, class.into()), (93, architecture.to_vec())]
}

fn discover(machine: &Machine, firmware: &[(u8, Vec<u8>)]) -> anyhow::Result<Query> {
    let mut options = vec![(53, &[1][..])];
    options.extend(firmware.iter().map(|(code, value)| (*code, &**value)));
    Ok(Query::discover(machine)?.with(&options))
}

/// Each node names its own address as server, as next server and in URLs.
pub(crate) fn named(datapath: Datapath) -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let machine = Machine::number(1);
    let _nodes = lab.nodes(datapath, &cluster::cluster(std::slice::from_ref(&machine)))?;
    let plug = Plug::open(lab.client()?, INTERFACE)?;
    for (class, architecture) in [("PXEClient", [0, 7]), ("HTTPClient", [0, 16])] {
        let offers = lab.replies(&plug, &discover(&machine, &firmware(class, architecture))?, 2)?;
        for (offer, node) in offers.iter().zip([FIRST, SECOND]) {
            let text = |code| String::from_utf8_lossy(offer.option(code).unwrap_or_default()).into_owned();
            ensure!(offer.kind() == Some(OFFER) && offer.option(54) == Some(&node.octets()), "{offer:?}");
            ensure!(*offer.source.ip() == node, "{offer:?}");
            match class {
                "PXEClient" => ensure!(text(66) == node.to_string(), "next server: {offer:?}"),
                _ => ensure!(text(67).starts_with(&format!("http://{node}:8000/")), "URL: {offer:?}"),
            }
        }
        // A machine that chose one of them is acknowledged by that one alone.
        let reserved: Ipv4Addr = machine.address.parse()?;
        for node in [FIRST, SECOND] {
            let chosen = [(53, &[REQUEST][..]), (50, &reserved.octets()), (54, &node.octets())];
            let replies = lab.replies(&plug, &Query::discover(&machine)?.with(&chosen), 1)?;
            let is_right = |reply: &Reply| reply.kind() == Some(ACK) && reply.option(54) == Some(&node.octets());
            ensure!(replies.iter().all(is_right), "{node}: {replies:?}");
            let probe = discover(&machine, &[])?;
            let late = plug.replies_to(&[], &probe)?;
            ensure!(late.iter().all(|reply| is_right(reply) || reply.kind() == Some(OFFER)), "{node}: {late:?}");
        }
    }
    Ok(())
}

/// Either node boots machines to the end while the other is not connected. The second one never has the address of the spec.
pub(crate) fn boots(datapath: Datapath) -> anyhow::Result<()> {
    requires::tools(&["curl"])?;
    let lab = Lab::new()?;
    let machines: Vec<_> = (1..=8).map(Machine::number).collect();
    let nodes = lab.nodes(datapath, &cluster::cluster(&machines))?;
    let hosts = [(&lab.bridged.server, FIRST), (&lab.second, SECOND)];
    for (pxed, (alone, address)) in nodes.iter().zip(hosts) {
        for (host, _) in hosts {
            let state = if host.name() == alone.name() { "up" } else { "down" };
            host.ip(&["link", "set", INTERFACE, state])?;
        }
        eventually("readiness", SOON, || {
            Ok(alone.http_get("http://127.0.0.1:8001/readyz").is_ok_and(|(status, _)| status == 200))
        })?;
        for kind in ["bios", "uefi-x64", "http-x64", "ipxe"] {
            let mut command = lab.client()?.command(build::pxed()?.path);
            command.args([
                "rehearse",
                "--interface",
                INTERFACE,
                "--hurry",
                "--limit-seconds",
                "60",
                "--firmware",
                kind,
            ]);
            command.args(["--mac", &machines.iter().map(|machine| &*machine.mac).collect::<Vec<_>>().join(",")]);
            namespace::output(&mut command)
                .with_context(|| format!("{kind} from {address}: {}", pxed.process.last_lines()))?;
        }
        configurations(&lab, &machines[0], address)?;
        let explained = pxed.machine(&machines[0].mac)?;
        ensure!(!explained.to_string().contains("left unanswered"), "{explained}");
    }
    Ok(())
}

/// GRUB's and U-Boot's configurations, the script and the arguments of the kernel lead back to the node that answers.
fn configurations(lab: &Lab, machine: &Machine, node: Ipv4Addr) -> anyhow::Result<()> {
    let client = lab.client()?;
    let address = format!("{}/24", machine.address);
    client.ip(&["address", "add", &address, "dev", INTERFACE])?;
    let dashed = machine.mac.replace(':', "-");
    for (path, by_tftp, roots) in [
        ("grub.cfg".to_owned(), true, format!("(tftp,{node})/")),
        ("grub.cfg".to_owned(), false, format!("(http,{node}:8000)/assets/")),
        (format!("pxelinux.cfg/01-{dashed}"), true, format!("talos.config=http://{node}:8000/boot/")),
        (format!("pxelinux.cfg/01-{dashed}"), false, format!("kernel http://{node}:8000/assets/")),
        (format!("boot/{}.ipxe", machine.mac), false, format!(" http://{node}:8000/assets/vmlinuz")),
        (format!("grub?mac={dashed}"), false, format!("(http,{node}:8000)/assets/")),
    ] {
        let assets = if by_tftp || path.starts_with("boot/") || path.contains('?') { "" } else { "assets/" };
        let url = match by_tftp {
            true => format!("tftp://{node}/{path}"),
            false => format!("http://{node}:8000/{assets}{path}"),
        };
        let text = client.run("curl", &["-sS", "--fail", "--max-time", "20", &url])?;
        ensure!(text.contains(&roots), "no {roots} in {url}: {text}");
        ensure!(text.contains(&format!("talos.config=http://{node}:8000/")), "{url}: {text}");
        let other = if node == FIRST { SECOND } else { FIRST };
        ensure!(!text.contains(&format!("{other}:")) && !text.contains(&format!("{other})")), "{url}: {text}");
    }
    client.ip(&["address", "delete", &address, "dev", INTERFACE]).map(drop)
}

/// The address of the spec moves from one node to the other while a machine boots. Whoever has it answers for it, and each node goes on
/// at its own address.
pub(crate) fn moves(datapath: Datapath) -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let machine = Machine::number(1);
    let spec = cluster::cluster(std::slice::from_ref(&machine))
        .replace(&format!("address: {SERVER}\n"), &format!("address: {VIRTUAL}\n"));
    let [first, second] = lab.nodes(datapath, &spec)?;
    let plug = Plug::open(lab.client()?, INTERFACE)?;
    let machine_address = format!("{}/24", machine.address);
    let reserved: Ipv4Addr = machine.address.parse()?;
    let identifiers = || -> anyhow::Result<Vec<Ipv4Addr>> {
        let offers = lab.replies(&plug, &discover(&machine, &firmware("PXEClient", [0, 7]))?, 2)?;
        offers.iter().map(|offer| Ok(<[u8; 4]>::try_from(offer.option(54).context("no server")?)?.into())).collect()
    };
    let change = |host: &Namespace, change| host.ip(&["address", change, &format!("{VIRTUAL}/32"), "dev", INTERFACE]);
    let chosen = |server: Ipv4Addr| -> anyhow::Result<Query> {
        Ok(Query::discover(&machine)?.with(&[(53, &[REQUEST]), (50, &reserved.octets()), (54, &server.octets())]))
    };
    ensure!(identifiers()? == [FIRST, SECOND]);

    // A machine that was offered a lease by the first node takes it after the address came to that node.
    change(&lab.bridged.server, "add")?;
    eventually("the first node has the address", SOON, || Ok(identifiers()? == [SECOND, VIRTUAL]))?;
    for server in [FIRST, VIRTUAL, SECOND] {
        let ack = plug.ask(&chosen(server)?)?;
        ensure!(ack.kind() == Some(ACK) && ack.option(54) == Some(&server.octets()), "{server}: {ack:?}");
    }
    change(&lab.bridged.server, "delete")?;
    change(&lab.second, "add")?;
    eventually("the second node has the address", SOON, || Ok(identifiers()? == [FIRST, VIRTUAL]))?;
    for server in [FIRST, VIRTUAL, SECOND] {
        let ack = plug.ask(&chosen(server)?)?;
        ensure!(ack.kind() == Some(ACK) && ack.option(54) == Some(&server.octets()), "{server}: {ack:?}");
    }
    // Its script comes from each of the addresses, and leads back there.
    lab.client()?.ip(&["address", "add", &machine_address, "dev", INTERFACE])?;
    for server in [FIRST, VIRTUAL, SECOND] {
        let url = format!("http://{server}:8000/boot/{}.ipxe", machine.mac);
        eventually(&url, SOON, || {
            let script = lab.client()?.http_get(&url);
            Ok(script
                .is_ok_and(|(status, text)| status == 200 && text.contains(&format!("http://{server}:8000/assets/"))))
        })?;
    }
    for (pxed, host) in [(&first, &lab.bridged.server), (&second, &lab.second)] {
        let (status, text) = host.http_get("http://127.0.0.1:8001/readyz")?;
        ensure!(status == 200, "{text}: {}", pxed.process.last_lines());
    }
    let line = second.process.wait_for_line(&format!("address={VIRTUAL}"), SOON)?;
    ensure!(line.contains(&SECOND.to_string()), "{line}");
    Ok(())
}

/// A renewal by unicast at an address that was the node's before keeps its server.
pub(crate) fn renewed(datapath: Datapath) -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let machine = Machine::number(1);
    let spec = cluster::cluster(std::slice::from_ref(&machine))
        .replace(&format!("address: {SERVER}\n"), &format!("address: {VIRTUAL}\n"));
    let _nodes = lab.nodes(datapath, &spec)?;
    let plug = Plug::open(lab.client()?, INTERFACE)?;
    lab.bridged.server.ip(&["address", "add", &format!("{VIRTUAL}/32"), "dev", INTERFACE])?;
    let link = lab.bridged.server.ip(&["-br", "link", "show", "dev", INTERFACE])?;
    let mac = link.split_whitespace().find(|word| word.matches(':').count() == 5).context("no MAC")?.to_owned();
    let reserved: Ipv4Addr = machine.address.parse()?;
    for server in [FIRST, VIRTUAL] {
        let renewal = || -> anyhow::Result<Query> {
            Ok(Query {
                ciaddr: reserved,
                source: SocketAddrV4::new(reserved, 68),
                destination: SocketAddrV4::new(server, 67),
                ethernet_destination: crate::wire::mac(&mac)?,
                ..Query::discover(&machine)?.with(&[(53, &[REQUEST])])
            })
        };
        eventually(&format!("a renewal at {server}"), SOON, || {
            let question = renewal()?;
            plug.send(&question.frame())?;
            let ack = plug.await_reply(question.xid, Duration::from_millis(300))?;
            Ok(ack.is_some_and(|ack| ack.kind() == Some(ACK) && ack.option(54) == Some(&server.octets())))
        })?;
    }
    Ok(())
}

/// A host without an address in the network says so, and what to do.
pub(crate) fn missing(datapath: Datapath) -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let machine = Machine::number(1);
    lab.second.ip(&["address", "flush", "dev", INTERFACE])?;
    let options = [&datapath.arguments()[..], &["--advertise", "10.99.0.2"]].concat();
    let spec = cluster::cluster(std::slice::from_ref(&machine));
    let mut pxed = Pxed::launch(&lab.second, &spec, lab.artifacts.path(), &options)?;
    let status = pxed.process.wait(SOON)?;
    let text = pxed.process.output();
    ensure!(!status.success(), "{text}");
    for part in [INTERFACE, SERVER, "it has: none", "ip address add", "--advertise"] {
        ensure!(text.contains(part), "no {part} in {text}");
    }
    Ok(())
}
