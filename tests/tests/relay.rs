//! Machines behind a real relay agent, which adds option 82.

use std::{net::Ipv4Addr, process::ExitCode, time::Duration};

use anyhow::{Context, ensure};
use pxe_lab::{
    Artifacts, Capture, Datapath, Namespace, Process, Pxed,
    capture::Kind,
    cluster::{self, Machine, SERVER, SERVER_ADDRESS, VERSION},
    requires, suite,
    topology::{INTERFACE, veth},
};

/// The relay's address on the machines' side, and their gateway.
const GATEWAY: &str = "10.99.1.1";
/// The relay's address on the server's side.
const RELAY: &str = "10.99.0.2";
const SOON: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    suite::main(suite::on_datapaths(&Datapath::ALL, &[("isc_dhcrelay_with_option_82", isc_dhcrelay_with_option_82)]))
}

fn isc_dhcrelay_with_option_82(datapath: Datapath) -> anyhow::Result<()> {
    requires::tools(&["dhcrelay", "udhcpc"])?;
    let (client, relay, server) = (Namespace::new("client")?, Namespace::new("relay")?, Namespace::new("server")?);
    veth(&client, INTERFACE, &relay, "down0")?;
    veth(&server, INTERFACE, &relay, "up0")?;
    let machine = Machine { address: "10.99.1.50".to_owned(), ..Machine::number(1) };
    client.ip(&["link", "set", INTERFACE, "address", &machine.mac])?;
    server.ip(&["address", "add", SERVER_ADDRESS, "dev", INTERFACE])?;
    server.ip(&["route", "add", "10.99.1.0/24", "via", RELAY])?;
    relay.ip(&["address", "add", &format!("{RELAY}/24"), "dev", "up0"])?;
    relay.ip(&["address", "add", &format!("{GATEWAY}/24"), "dev", "down0"])?;
    relay.sysctl("net/ipv4/ip_forward", "1")?;

    let artifacts = Artifacts::stand_ins(&[VERSION], 1000)?;
    let spec = cluster::cluster_with_gateway(std::slice::from_ref(&machine), GATEWAY);
    let pxed = Pxed::start(&server, &spec, artifacts.path(), &datapath.arguments())?;
    let at_relay = Capture::start(&relay)?;
    let mut agent = relay.command("dhcrelay");
    agent.args(["-4", "-d", "--no-pid", "-a", "-id", "down0", "-iu", "up0", SERVER]);
    let agent = Process::spawn("dhcrelay", &mut agent)?;
    agent.wait_for_line("Sending on   Socket/fallback", SOON)?;

    let mut command = client.command("udhcpc");
    command.args(["-f", "-q", "-n", "-t", "10", "-T", "2", "-i", INTERFACE, "-s", "/bin/true"]);
    let mut lease = Process::spawn("udhcpc", &mut command)?;
    ensure!(
        lease.wait(SOON)?.success(),
        "no lease\n{}\n{}\n{}",
        lease.output(),
        agent.last_lines(),
        pxed.process.last_lines()
    );
    ensure!(lease.output().contains(&machine.address), "{}", lease.output());

    let gateway: Ipv4Addr = GATEWAY.parse()?;
    let messages = at_relay.messages();
    let to_the_server =
        |message: &&pxe_lab::capture::Message| message.giaddr == gateway && message.kind == Kind::Request;
    let request = messages.iter().find(to_the_server).context("the relay sent no request")?;
    let ack = messages.iter().find(|message| message.kind == Kind::Ack && message.giaddr == gateway);
    let ack = ack.context("the relay got no ACK")?;
    ensure!(ack.to == gateway && ack.to_port == 67 && !ack.ethernet_broadcast, "not to the relay: {ack:?}");
    let agent_information = request.option(82).context("the relay added no option 82")?;
    let last = ack.options.last().context("no options")?;
    ensure!(last.0 == 82 && last.1 == agent_information, "option 82 is not echoed as the last: {ack:?}");
    ensure!(ack.option(3) == Some(&gateway.octets()[..]), "not the machines' router: {ack:?}");
    Ok(())
}
