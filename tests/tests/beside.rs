//! dnsmasq and pxed on the same host, interface and port 67.

use std::{process::ExitCode, time::Duration};

use anyhow::ensure;
use pxe_lab::{
    Artifacts, Bridged, Capture, Datapath, Dnsmasq, Namespace, Process, Pxed,
    capture::Kind,
    cluster::{self, Machine, SERVER_ADDRESS, VERSION},
    requires, suite,
};

const SOON: Duration = Duration::from_secs(30);
/// A machine that is not in the spec.
const STRANGER: &str = "52:54:00:aa:00:01";

fn main() -> ExitCode {
    // Without the packet socket: it takes no frames away, so dnsmasq would see the machine too.
    suite::main(suite::on_datapaths(
        &Datapath::WITH_PROGRAM,
        &[(
            "dnsmasq_serves_strangers_on_the_same_port_of_the_same_host",
            dnsmasq_serves_strangers_on_the_same_port_of_the_same_host,
        )],
    ))
}

fn dnsmasq_serves_strangers_on_the_same_port_of_the_same_host(datapath: Datapath) -> anyhow::Result<()> {
    requires::tools(&["udhcpc"])?;
    let network = Bridged::new(SERVER_ADDRESS, 2)?;
    let machine = Machine::number(1);
    network.set_mac(0, &machine.mac)?;
    network.set_mac(1, STRANGER)?;
    let dnsmasq = Dnsmasq::start(&network.server, "10.99.0.200,10.99.0.250", &[])?;
    let artifacts = Artifacts::stand_ins(&[VERSION], 1000)?;
    let spec = cluster::cluster(std::slice::from_ref(&machine));
    let pxed = Pxed::start(&network.server, &spec, artifacts.path(), &datapath.arguments())?;
    let capture = Capture::start(&network.clients[0])?;

    let known = lease(&network.clients[0])?;
    ensure!(known.contains(&format!("lease of {}", machine.address)), "{known}\n{}", pxed.process.last_lines());
    let stranger = lease(&network.clients[1])?;
    ensure!(stranger.contains("lease of 10.99.0.2"), "dnsmasq did not serve the stranger: {stranger}");

    let offers =
        capture.messages().iter().filter(|found| found.kind == Kind::Offer && found.chaddr == machine.mac).count();
    ensure!(offers == 1, "{offers} offers for our machine");
    ensure!(!dnsmasq.has_seen(&machine.mac), "our machine's packets reached dnsmasq:\n{}", dnsmasq.process.output());
    ensure!(dnsmasq.has_seen(STRANGER), "dnsmasq has not logged the stranger");
    // After pxed has ended, dnsmasq must serve as before.
    drop(pxed);
    let afterwards = lease(&network.clients[0])?;
    ensure!(afterwards.contains("lease of 10.99.0.2"), "dnsmasq is cut off after pxed: {afterwards}");
    Ok(())
}

/// Gets a lease and returns the client's output.
fn lease(client: &Namespace) -> anyhow::Result<String> {
    let mut command = client.command("udhcpc");
    command.args(["-f", "-q", "-n", "-t", "10", "-T", "2", "-i", "eth0", "-s", "/bin/true"]);
    let mut process = Process::spawn("udhcpc", &mut command)?;
    process.wait(SOON)?;
    Ok(process.output())
}
