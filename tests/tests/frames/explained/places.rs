//! Machines that ask from another place, or for another machine, than the spec says.

use std::net::Ipv4Addr;

use anyhow::ensure;
use pxe_lab::{cluster::Machine, topology::veth};

use super::{
    host::{Client, FIRMWARE, Host, IPXE, Lab, TALOS},
    says,
};
use crate::{
    bench::server_at,
    plug::Plug,
    wire::{DISCOVER, NAK, OFFER, Query, REQUEST},
};

/// An interface that the spec does not name.
const SECOND: &str = "eth1";
/// Addresses outside the network of the machines, and inside.
const RELAY: Ipv4Addr = Ipv4Addr::new(10, 98, 7, 1);
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 250);
/// UEFI for other processors.
const ARM: Client<'_> = &[(60, b"PXEClient:Arch:00011:UNDI:003000"), (93, &[0, 11])];
const IA32: Client<'_> = &[(60, b"PXEClient:Arch:00006:UNDI:003000"), (93, &[0, 6])];
const ITANIUM: Client<'_> = &[(60, b"PXEClient:Arch:00002:UNDI:003000"), (93, &[0, 2])];
/// UEFI's own network stack, which wants an address for purposes of its own.
const TOOL: Client<'_> = &[(55, &[1, 3, 6])];

pub(crate) fn in_the_wrong_place() -> anyhow::Result<()> {
    let lab = Lab::new(11, 10_000)?;
    let [astray, mistyped, relayed, arm, ia32, wrong_build, broken, moved, from_elsewhere, installed, tool] =
        &lab.hosts()?;
    let server = &lab.network.server;
    veth(server, SECOND, astray.namespace, SECOND)?;
    server.ip(&["address", "add", "10.98.0.1/24", "dev", SECOND])?;
    let pxed = lab.pxed(&lab.spec(), &[])?;

    let wrong_port = Plug::open(astray.namespace, SECOND)?;
    wrong_port.send(&astray.message(DISCOVER, FIRMWARE)?.frame())?;
    let there =
        ["It asks on eth1; the spec expects eth0. It asked there 1 time, the last ", "Move its cable", "name eth1 as"];
    says(&pxed, astray.machine, &there)?;

    // One digit of its MAC is another in the spec.
    let stranger = Machine { mac: mistyped.machine.mac.replace(":02", ":f2"), ..mistyped.machine.clone() };
    mistyped.plug.send(
        &Query { options: mistyped.message(DISCOVER, FIRMWARE)?.options, ..Query::discover(&stranger)? }.frame(),
    )?;
    let asked = format!("{}, one digit off, asked on eth0 ", stranger.mac);
    let line = format!(": macAddress: {}", stranger.mac);
    says(&pxed, mistyped.machine, &[&asked, "If that is this machine, write in ", &line])?;

    let forwarded = Query { giaddr: RELAY, destination: server_at(67)?, ..relayed.message(DISCOVER, FIRMWARE)? };
    relayed.plug.send(&forwarded.frame())?;
    let other_rack =
        "The relay 10.98.7.1 forwards its requests, but is outside the network of its address 10.99.0.103.";
    says(&pxed, relayed.machine, &[other_rack, "(RFC 3527)"])?;

    arm.discover(ARM)?;
    says(&pxed, arm.machine, &["(type 11), but ", "says cpuArchitecture amd64: correct the spec, or the MAC"])?;
    ia32.discover(IA32)?;
    says(&pxed, ia32.machine, &["32-bit x86 UEFI (type 6)", "iPXE cannot start a 64-bit kernel"])?;
    wrong_build.lease(IPXE)?;
    wrong_build.use_address()?;
    wrong_build.get(&format!("/ipxe?mac={}&arch=arm64", wrong_build.dashed_mac()))?;
    says(&pxed, wrong_build.machine, &["It failed ", "says cpuArchitecture amd64: correct the spec, or the MAC"])?;

    let cut_off = Query::discover(broken.machine)?.with_raw(&[53, 1, DISCOVER, 54, 200]);
    broken.plug.send(&cut_off.frame())?;
    let left_unanswered = "A packet of it was left unanswered: ";
    says(&pxed, broken.machine, &[left_unanswered, "an option in the packet is cut off or has a wrong length."])?;
    let two_servers = broken.message(DISCOVER, &[(54, &[10, 99, 0, 1]), (54, &[10, 99, 0, 7])])?;
    broken.plug.send(&two_servers.frame())?;
    says(&pxed, broken.machine, &[left_unanswered, "the packet has two different values for one option."])?;

    // It asks for an address that it had elsewhere.
    moved.discover(FIRMWARE)?;
    let refused = moved.plug.ask(&moved.message(REQUEST, &[FIRMWARE, &[(50, &ELSEWHERE.octets()[..])]].concat())?)?;
    ensure!(refused.kind() == Some(NAK), "{refused:?}");
    says(&pxed, moved.machine, &["and requested one; pxed refused: ", "It may have chosen another server's offer"])?;

    from_elsewhere.lease(FIRMWARE)?;
    from_elsewhere.has_address(ELSEWHERE)?;
    from_elsewhere.is_refused_from(ELSEWHERE, format!("pxelinux.cfg/01-{}", from_elsewhere.dashed_mac()).as_bytes())?;
    let its_own = "given to 10.99.0.109 alone, but the request came from another address";
    says(&pxed, from_elsewhere.machine, &["asked from 10.99.0.250", its_own])?;

    installed.lease(FIRMWARE)?;
    installed.lease(TALOS)?;
    let as_before = [
        "An operating system that pxed did not serve has been running for ",
        "does not count as proof of its disk: it was never given its kernel",
        &format!("To prevent that: pxed hold {}.", installed.machine.mac),
    ];
    says(&pxed, installed.machine, &as_before)?;
    tool.lease(FIRMWARE)?;
    tool.lease(TOOL)?;
    let no_system = "A DHCP client without a sign of an operating system asked ";
    says(&pxed, tool.machine, &["Its firmware has had an address for ", no_system, "(Intel AMT, a lifecycle tool"])
}

/// pxed gives the boot files beside another DHCP server.
pub(crate) fn beside_another_server() -> anyhow::Result<()> {
    let lab = Lab::new(4, 10_000)?;
    let [addressed, ipxe, offered, no_loader] = &lab.hosts()?;
    let pxed = lab.pxed(&lab.spec(), &["--mode", "proxy"])?;
    let other = Ipv4Addr::new(10, 99, 0, 7).octets();
    for (host, client) in [(addressed, FIRMWARE), (ipxe, IPXE)] {
        let offer = host.plug.ask(&host.message(DISCOVER, client)?)?;
        ensure!(offer.kind() == Some(OFFER) && offer.yiaddr().is_unspecified(), "{offer:?}");
        let address = host.address.octets();
        let chosen = [client, &[(50, &address[..]), (54, &other)]].concat();
        host.plug.send(&host.message(REQUEST, &chosen)?.frame())?;
    }
    let its_server = ["Its firmware has had an address for ", "The DHCP server 10.99.0.7 assigns it."];
    says(&pxed, addressed.machine, &its_server)?;
    says(&pxed, ipxe.machine, &["iPXE has had an address for ", "Its request for the boot script."])?;

    offered.discover(FIRMWARE)?;
    let beside =
        ["pxed offered its boot file, and another DHCP server is to give the address.", "Its request to that server."];
    says(&pxed, offered.machine, &beside)?;
    no_loader.plug.send(&no_loader.message(DISCOVER, ITANIUM)?.frame())?;
    says(&pxed, no_loader.machine, &["It failed ", "Its firmware is Itanium (type 2), for which there is no iPXE"])
}

/// Another DHCP server is on the network, and nobody expects it.
pub(crate) fn beside_an_unexpected_server() -> anyhow::Result<()> {
    let lab = Lab::new(4, 10_000)?;
    let [unseen, boots, elsewhere, wrong_link] = &lab.hosts()?;
    let pxed = lab.pxed(&lab.spec(), &[])?;
    let other = Ipv4Addr::new(10, 99, 0, 7).octets();
    let takes_other = |host: &Host<'_>, client: Client<'_>, address: Ipv4Addr| -> anyhow::Result<()> {
        let address = address.octets();
        let chosen = [client, &[(50, &address[..]), (54, &other)]].concat();
        host.plug.send(&host.message(REQUEST, &chosen)?.frame())
    };
    let exclude = |host: &Host<'_>| format!("dhcp-host={},ignore", host.machine.mac);
    let named = "took the offer of 10.99.0.7 (another DHCP server on eth0).";

    // It has run since before pxed.
    takes_other(unseen, TALOS, unseen.address)?;
    says(&pxed, unseen.machine, &["It asked for an address and took the offer of 10.99.0.7", &exclude(unseen)])?;

    boots.use_address()?;
    boots.lease(IPXE)?;
    boots.get_script()?;
    boots.get_kernel()?;
    boots.get_initramfs()?;
    boots.comes_to("booting", &pxed)?;
    boots.discover(TALOS)?;
    takes_other(boots, TALOS, boots.address)?;
    says(&pxed, boots.machine, &["It asked for an address ", named, "arping -I eth0 10.99.0.7", &exclude(boots)])?;

    elsewhere.discover(IPXE)?;
    takes_other(elsewhere, IPXE, ELSEWHERE)?;
    elsewhere.has_address(ELSEWHERE)?;
    elsewhere.is_answered(&elsewhere.script(), 403)?;
    let assigned =
        ["was asked for from 10.99.0.250 ", "10.99.0.7, another DHCP server, assigned it.", &exclude(elsewhere)];
    says(&pxed, elsewhere.machine, &assigned)?;

    // Its relay names the link, which is not that of its address (RFC 3527).
    let link = [&[5, 4][..], &RELAY.octets()].concat();
    let relayed = wrong_link.message(DISCOVER, &[FIRMWARE, &[(82, &link[..])]].concat())?;
    let relayed = Query { giaddr: RELAY, destination: server_at(67)?, ..relayed };
    wrong_link.plug.send(&relayed.frame())?;
    let unanswered = [
        "and was left unanswered: the relay reports the machine on a network that its address does not belong to",
        "Fix the cause above; the machine retries on its own.",
    ];
    says(&pxed, wrong_link.machine, &unanswered)
}
