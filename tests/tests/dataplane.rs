//! The life of the XDP program, and the messages if it cannot be attached.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use pxe_common::MacAddr;
use pxe_lab::{
    Artifacts, Bridged, Datapath, Namespace, Process, Pxed, build,
    cluster::{self, Machine, SERVER_ADDRESS, VERSION},
    requires, suite,
    topology::INTERFACE,
};

const SOON: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    suite::main(suite::on_datapaths(
        &Datapath::ALL,
        &[
            ("interface_of_a_killed_pxed_is_free_for_its_successor", killed_pxed_leaves_the_interface),
            ("reload_adds_a_machine_without_detaching", reload_adds_a_machine_without_detaching),
            ("broken_spec_leaves_the_last_good_one_in_force", broken_spec_leaves_the_last_good_one_in_force),
            ("interface_that_cannot_be_served_is_named", interface_that_cannot_be_served_is_named),
            ("repeated_question_is_answered_twice", repeated_question_is_answered_twice),
            ("network_cards_of_a_machine_share_everything", network_cards_of_a_machine_share_everything),
            ("stream_of_exchanges_loses_nothing", stream_of_exchanges_loses_nothing),
        ],
    ))
}

fn killed_pxed_leaves_the_interface(datapath: Datapath) -> anyhow::Result<()> {
    let arguments = datapath.arguments();
    let network = Bridged::new(SERVER_ADDRESS, 1)?;
    let machine = Machine::number(1);
    network.set_mac(0, &machine.mac)?;
    let artifacts = Artifacts::stand_ins(&[VERSION], 1000)?;
    let mut pxed =
        Pxed::start(&network.server, &cluster::cluster(std::slice::from_ref(&machine)), artifacts.path(), &arguments)?;
    ensure!(program_on(&network.server)?.is_some() == datapath.has_program(), "not served by {datapath}");

    pxed.process.signal(Signal::SIGKILL)?;
    pxed.process.wait(SOON)?;
    ensure!(program_on(&network.server)?.is_none(), "SIGKILL left the XDP program on the interface");

    pxed.start_again(artifacts.path(), &arguments)?;
    ensure!(program_on(&network.server)?.is_some() == datapath.has_program(), "the successor uses another datapath");
    gets(&network.clients[0], &machine)?;

    pxed.process.signal(Signal::SIGTERM)?;
    let status = pxed.process.wait(SOON)?;
    ensure!(status.success(), "SIGTERM: {status}: {}", pxed.process.last_lines());
    ensure!(program_on(&network.server)?.is_none(), "SIGTERM left the XDP program on the interface");
    Ok(())
}

fn reload_adds_a_machine_without_detaching(datapath: Datapath) -> anyhow::Result<()> {
    let arguments = datapath.arguments();
    let network = Bridged::new(SERVER_ADDRESS, 2)?;
    let machines = [Machine::number(1), Machine::number(2)];
    network.set_mac(0, &machines[0].mac)?;
    network.set_mac(1, &machines[1].mac)?;
    let artifacts = Artifacts::stand_ins(&[VERSION], 1000)?;
    let pxed = Pxed::start(&network.server, &cluster::cluster(&machines[..1]), artifacts.path(), &arguments)?;
    let before = program_on(&network.server)?;
    ensure!(before.is_some() == datapath.has_program(), "not served by {datapath}");
    gets(&network.clients[0], &machines[0])?;
    let refused = lease(&network.clients[1], "1")?;
    ensure!(!refused.contains("lease of"), "a machine that the spec does not name got {refused}");

    pxed.rewrite_spec(&cluster::cluster(&machines))?;
    pxed.eventually("the second machine in the API", SOON, |pxed| {
        Ok(pxed.machines()?.to_string().contains(&machines[1].mac))
    })?;
    gets(&network.clients[1], &machines[1])?;
    gets(&network.clients[0], &machines[0])?;
    let after = program_on(&network.server)?;
    ensure!(after == before, "the program was {before:?} and is {after:?}");
    Ok(())
}

fn broken_spec_leaves_the_last_good_one_in_force(datapath: Datapath) -> anyhow::Result<()> {
    let arguments = datapath.arguments();
    let network = Bridged::new(SERVER_ADDRESS, 1)?;
    let machine = Machine::number(1);
    network.set_mac(0, &machine.mac)?;
    let artifacts = Artifacts::stand_ins(&[VERSION], 1000)?;
    let spec = cluster::cluster(std::slice::from_ref(&machine));
    let pxed = Pxed::start(&network.server, &spec, artifacts.path(), &arguments)?;
    pxed.rewrite_spec(&spec.replace(&machine.mac, "52:54:00:99:00"))?;
    pxed.process.wait_for_line("macAddress", SOON)?;
    gets(&network.clients[0], &machine)
}

fn interface_that_cannot_be_served_is_named(datapath: Datapath) -> anyhow::Result<()> {
    let arguments = datapath.arguments();
    let server = Namespace::new("server")?;
    let artifacts = Artifacts::stand_ins(&[VERSION], 1000)?;
    let spec = cluster::cluster(&[Machine::number(1)]);
    let fails_with = |words: &[&str]| {
        let mut pxed = Pxed::launch(&server, &spec, artifacts.path(), &arguments)?;
        let status = pxed.process.wait(SOON)?;
        let said = pxed.process.output();
        ensure!(!status.success(), "it runs with {words:?}: {said}");
        let silent = words.iter().find(|word| !said.contains(**word));
        ensure!(silent.is_none(), "it does not say {silent:?}: {said}");
        Ok(())
    };
    fails_with(&["eth0", "does not exist"])?;
    server.ip(&["link", "add", "eth0", "type", "veth", "peer", "name", "peer0"])?;
    server.ip(&["link", "set", "peer0", "up"])?;
    fails_with(&["eth0", "down", "ip link set"])?;
    server.ip(&["link", "set", "eth0", "up"])?;
    fails_with(&["eth0", cluster::SERVER, "ip addr"])
}

/// A repetition means that the question or its answer was lost: it is answered again.
fn repeated_question_is_answered_twice(datapath: Datapath) -> anyhow::Result<()> {
    let arguments = datapath.arguments();
    let network = Bridged::new(SERVER_ADDRESS, 1)?;
    let (machine, other) = (Machine::number(1), Machine::number(2));
    let client = &network.clients[0];
    // Repetitions of other hosts are not remembered.
    client.ip(&["link", "set", "eth0", "address", &machine.mac])?;
    client.ip(&["address", "add", "10.99.0.250/24", "dev", "eth0"])?;
    client.ip(&["route", "add", "255.255.255.255", "dev", "eth0"])?;
    let artifacts = Artifacts::stand_ins(&[VERSION], 1000)?;
    let spec = cluster::cluster(&[machine.clone(), other.clone()]);
    let _pxed = Pxed::start(&network.server, &spec, artifacts.path(), &arguments)?;
    let socket = client.enter(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68))?;
        socket.set_broadcast(true)?;
        socket.set_read_timeout(Some(SOON))?;
        io::Result::Ok(socket)
    })??;
    // The other machine's question comes last: once it is answered, so are all before it.
    let asked = [(&machine, 1), (&machine, 1), (&machine, 2), (&other, 1)];
    for (machine, xid) in asked {
        let bytes = discover(machine.mac.parse()?, xid);
        socket.send_to(&bytes, SocketAddrV4::new(Ipv4Addr::BROADCAST, 67))?;
    }
    let mut answered = Vec::new();
    let mut buffer = [0; 1500];
    while answered.last() != Some(&(other.mac.parse()?, 1)) {
        let length = socket.recv(&mut buffer).with_context(|| format!("{answered:?}"))?;
        let [_, _, _, _, a, b, c, d, ..] = buffer[..length] else { continue };
        let mac = MacAddr(*buffer[28..].first_chunk().context("a short answer")?);
        answered.push((mac, u32::from_be_bytes([a, b, c, d])));
    }
    let mac: MacAddr = machine.mac.parse()?;
    let wanted = [(mac, 1), (mac, 1), (mac, 1), (mac, 2), (other.mac.parse()?, 1)];
    ensure!(answered == wanted, "{answered:?}");
    Ok(())
}

/// A machine boots by its second card. What that proves counts for its first one, too, and one machine is counted.
fn network_cards_of_a_machine_share_everything(datapath: Datapath) -> anyhow::Result<()> {
    let arguments = datapath.arguments();
    let network = Bridged::new(SERVER_ADDRESS, 1)?;
    let (machine, other, stranger) = (Machine::number(1), Machine::number(2), Machine::number(3));
    let client = &network.clients[0];
    let artifacts = Artifacts::stand_ins(&[VERSION], 1000)?;
    let spec = |annotations: &str| {
        let annotated = format!("name: lab\n  annotations:\n    pxed.dev/machines: |\n      {annotations}\n");
        cluster::cluster(std::slice::from_ref(&machine)).replace("name: lab\n", &annotated)
    };
    let cards = format!("{}: {{bootPolicy: once, additionalMacAddresses: [{}]}}", machine.address, other.mac);
    let pxed = Pxed::start(&network.server, &spec(&cards), artifacts.path(), &arguments)?;

    let rehearse = |mac: &str, arguments: &[&str]| {
        let mut command = client.command(build::pxed()?.path);
        command.args(["rehearse", "--interface", INTERFACE, "--hurry", "--firmware", "uefi-x64", "--mac", mac]);
        let output = command.args(arguments).output()?;
        anyhow::Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
    };
    let (booted, said) = rehearse(&other.mac, &["--limit-seconds", "60"])?;
    ensure!(booted, "no boot by the second card: {said}");
    pxed.eventually("the machine to be sent to its disk", SOON, |pxed| {
        Ok(pxed.machine(&machine.mac)?["boots_from"] == "disk")
    })?;
    for mac in [&machine.mac, &other.mac] {
        let shown = pxed.machine(mac)?;
        ensure!(shown["mac"] == machine.mac.as_str() && shown["boots"] != 0, "{shown}");
        ensure!(shown["events"][0]["card"] == other.mac.as_str(), "{shown}");
    }
    ensure!(pxed.machines()?.as_array().map(Vec::len) == Some(1), "{}", pxed.machines()?);

    network.set_mac(0, &stranger.mac)?;
    ensure!(!lease(client, "1")?.contains("lease of"), "a third card is answered");
    for mac in [&machine.mac, &other.mac] {
        network.set_mac(0, mac)?;
        gets(client, &machine)?;
    }

    // The spec names the other card first now, and a third one beside it.
    let boots = pxed.machine(&machine.mac)?["boots"].clone();
    let machine = Machine { mac: other.mac.clone(), ..machine.clone() };
    let swapped = format!(
        "{}: {{bootPolicy: once, additionalMacAddresses: [{}, {}]}}",
        machine.address,
        Machine::number(1).mac,
        stranger.mac
    );
    pxed.rewrite_spec(&spec(&swapped).replacen(
        &format!("macAddress: \"{}\"", Machine::number(1).mac),
        &format!("macAddress: \"{}\"", machine.mac),
        1,
    ))?;
    pxed.eventually("the third card in the API", SOON, |pxed| {
        Ok(pxed.machines()?.to_string().contains(&stranger.mac))
    })?;
    let shown = pxed.machine(&stranger.mac)?;
    ensure!(
        shown["mac"] == machine.mac.as_str() && shown["boots_from"] == "disk" && shown["boots"] == boots,
        "{shown}"
    );
    for mac in [&machine.mac, &Machine::number(1).mac, &stranger.mac] {
        network.set_mac(0, mac)?;
        gets(client, &machine)?;
    }
    Ok(())
}

/// Returns a DHCPDISCOVER of UEFI firmware that asks for a broadcast answer (RFC 2131 §2, RFC 4578 §2).
fn discover(mac: MacAddr, xid: u32) -> Vec<u8> {
    let mut bytes = vec![1, 1, 6, 0];
    bytes.extend(xid.to_be_bytes());
    bytes.extend([0, 0, 0x80, 0]);
    bytes.resize(28, 0);
    bytes.extend(mac.0);
    bytes.resize(236, 0);
    bytes.extend([99, 130, 83, 99, 53, 1, 1, 93, 2, 0, 7, 60, 32]);
    bytes.extend(b"PXEClient:Arch:00007:UNDI:003016");
    bytes.push(255);
    bytes.resize(300, 0);
    bytes
}

/// perfdhcp plays 200 clients at a rate that any machine can serve; every exchange must complete.
fn stream_of_exchanges_loses_nothing(datapath: Datapath) -> anyhow::Result<()> {
    requires::tools(&["perfdhcp"])?;
    let arguments = datapath.arguments();
    let network = Bridged::new(SERVER_ADDRESS, 1)?;
    let client = &network.clients[0];
    client.ip(&["address", "add", "10.99.0.3/24", "dev", "eth0"])?;
    let machine = |number: u8| Machine {
        mac: format!("00:0c:01:02:03:{number:02x}"),
        address: format!("10.99.0.{}", 10 + u16::from(number)),
        ..Machine::number(0)
    };
    let machines: Vec<_> = (0..200).map(machine).collect();
    let artifacts = Artifacts::stand_ins(&[VERSION], 1000)?;
    let pxed = Pxed::start(&network.server, &cluster::cluster(&machines), artifacts.path(), &arguments)?;
    let mut command = client.command("perfdhcp");
    command.args([
        "-4",
        "-r",
        "100",
        "-p",
        "5",
        "-R",
        "200",
        "-b",
        "mac=00:0c:01:02:03:00",
        "-l",
        "eth0",
        "-W",
        "2000000",
    ]);
    let mut perfdhcp = Process::spawn("perfdhcp", &mut command)?;
    perfdhcp.wait(SOON)?;
    let report = perfdhcp.output();
    let drops: Vec<_> = report.lines().filter(|line| line.starts_with("drops:")).collect();
    ensure!(drops.len() == 2 && drops.iter().all(|line| *line == "drops: 0"), "{report}\n{:?}", pxed.metrics()?);
    Ok(())
}

/// Returns the id of the XDP program on the server's interface.
fn program_on(server: &Namespace) -> anyhow::Result<Option<u64>> {
    let text = server.ip(&["-details", "-json", "link", "show", "dev", "eth0"])?;
    let links: serde_json::Value = serde_json::from_str(&text)?;
    Ok(links[0]["xdp"]["prog"]["id"].as_u64())
}

/// Checks that the machine gets its address.
fn gets(client: &Namespace, machine: &Machine) -> anyhow::Result<()> {
    let said = lease(client, "10")?;
    ensure!(said.contains(&format!("lease of {}", machine.address)), "no lease of {}: {said}", machine.address);
    Ok(())
}

/// Asks for a lease, at most this number of times, and returns the client's output.
fn lease(client: &Namespace, tries: &str) -> anyhow::Result<String> {
    requires::tools(&["udhcpc"])?;
    let mut command = client.command("udhcpc");
    command.args(["-f", "-q", "-n", "-t", tries, "-T", "1", "-i", "eth0", "-s", "/bin/true"]);
    let mut process = Process::spawn("udhcpc", &mut command)?;
    process.wait(SOON)?;
    Ok(process.output())
}
