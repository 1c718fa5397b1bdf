//! ProxyDHCP: another server assigns the addresses, and pxed provides the boot files.

use std::{net::Ipv4Addr, process::ExitCode};

use anyhow::{Context, ensure};
use pxe_lab::{
    Artifacts, Bridged, Capture, Dnsmasq, Firmware, Guest, Pxed,
    assets::{Architecture, Edition},
    capture::Kind,
    cluster::{self, Machine, SERVER, SERVER_ADDRESS, VERSION},
    guest::PC_KERNEL_ARGS,
    suite,
};

/// The DHCP server's own address.
const DHCP: &str = "10.99.0.2";

fn main() -> ExitCode {
    suite::main(vec![
        suite::test("ovmf_boots_beside_dnsmasq", || boots(Firmware::UefiX64(Edition::Newer), Edition::Newer)),
        suite::test("seabios_boots_beside_dnsmasq", || boots(Firmware::Bios(Edition::Newer), Edition::Newer)),
    ])
}

fn boots(firmware: Firmware, loaders: Edition) -> anyhow::Result<()> {
    let machine = Machine { kernel_args: PC_KERNEL_ARGS.to_owned(), ..Machine::number(1) };
    let network = Bridged::new(SERVER_ADDRESS, 1)?;
    let other = &network.clients[0];
    other.ip(&["address", "add", &format!("{DHCP}/24"), "dev", "eth0"])?;
    let reservation = format!("--dhcp-host={},{}", machine.mac, machine.address);
    let dnsmasq = Dnsmasq::start(other, "10.99.0.200,10.99.0.250", &[&reservation])?;
    let artifacts = Artifacts::lay_out(loaders, &[(VERSION, Architecture::Amd64)])?;
    let spec = cluster::cluster(std::slice::from_ref(&machine));
    let pxed = Pxed::start(&network.server, &spec, artifacts.path(), &["--mode", "proxy"])?;
    // Every packet passes `net`, on the bridge and its ports.
    let capture = Capture::start(&network.net)?;

    let guest = Guest::power_on(&network, firmware, &machine.mac)?;
    let report = guest.report().map_err(|error| error.context(pxed.process.last_lines()))?;
    ensure!(report.interface == format!("{}/24", machine.address), "{report:?}");
    ensure!(report.lease.contains(&format!("server={DHCP}")), "not dnsmasq's lease: {report:?}");
    ensure!(dnsmasq.has_seen(&machine.mac), "dnsmasq has not seen the machine");

    let ours: Ipv4Addr = SERVER.parse()?;
    let from_us: Vec<_> = capture.messages().into_iter().filter(|message| message.from == ours).collect();
    let first = from_us.first().context("pxed offered nothing")?;
    ensure!(first.kind == Kind::Offer && first.option(60) == Some(b"PXEClient"), "not a proxy offer: {first:?}");
    // Firmware whose question on port 4011 fails goes on to its next boot entry, HTTP boot.
    let by_http = from_us.iter().find(|message| message.option(60) == Some(b"HTTPClient"));
    ensure!(by_http.is_none(), "the firmware gave PXE up: {by_http:?}");
    let giving = from_us.iter().find(|message| !message.yiaddr.is_unspecified() || message.option(51).is_some());
    ensure!(giving.is_none(), "a proxy gave an address: {giving:?}");
    Ok(())
}
