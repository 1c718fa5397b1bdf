//! An address that two hosts have, or that seems to be another's, and a machine that has another one than the spec says.

use std::net::{Ipv4Addr, UdpSocket};

use anyhow::{Context as _, ensure};
use pxe_lab::{
    Namespace, Pxed,
    cluster::{self, Machine, SERVER},
    suite,
    topology::{INTERFACE, veth},
};

use super::{
    SOON,
    host::{BLOCK, FIRMWARE, Host, IPXE, LOADER, Lab},
    says,
};

const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 250);
/// A port on which nobody waits.
const DISCARD: u16 = 9;
/// A VLAN, its tag, and the interface through which this host reaches it. Not every kernel has 802.1Q interfaces, so it has a cable of its own.
const VLAN: &str = "7";
const TAG: [u8; 4] = [0x81, 0, 0, 7];
const ON_VLAN: &str = "eth0.7";
/// The second network card of a machine.
const SECOND: &str = "eth1";
/// A router's interface in the network behind it.
const BEHIND: &str = "lan";

pub(crate) fn of_two_hosts() -> anyhow::Result<()> {
    let lab = Lab::new(6, 1_000_000)?;
    let mut hosts = lab.hosts::<6>()?;
    hosts[4].tags = vec![TAG];
    let [victim, alone, intruder, from_elsewhere, on_vlan, intruder_on_vlan] = &hosts;
    let vlans = format!("pxed.dev/machines: '{{\"{}\": {{vlans: \"{VLAN}\"}}}}'", on_vlan.machine.mac);
    veth(&lab.network.server, ON_VLAN, intruder_on_vlan.namespace, ON_VLAN)?;
    let route = [&format!("{}/32", on_vlan.address), "dev", ON_VLAN];
    lab.network.server.ip(&[&["route", "add"], &route[..]].concat())?;
    let pxed = lab.pxed(&cluster::with_annotation(&lab.spec(), &vlans), &[])?;
    let mut transfers = Vec::new();
    for host in [victim, alone] {
        host.lease(FIRMWARE)?;
        host.use_address()?;
        let mut transfer = host.request(LOADER.as_bytes(), BLOCK)?;
        transfer.load_blocks(10)?;
        transfers.push(transfer);
    }

    // From its first packet on, pxed's host sends to it what is for the machine.
    intruder.has_address(victim.address)?;
    send(intruder.namespace, victim.address)?;
    names_other_machine(&pxed, victim, intruder, INTERFACE)?;
    let diagnosis = pxed.machine(&alone.machine.mac)?["diagnosis"].to_string();
    ensure!(!diagnosis.contains("answered for"), "{diagnosis}");

    on_vlan.lease(FIRMWARE)?;
    intruder_on_vlan.namespace.ip(&["link", "set", ON_VLAN, "address", &intruder_on_vlan.machine.mac])?;
    intruder_on_vlan.has_address_on(ON_VLAN, on_vlan.address)?;
    send(intruder_on_vlan.namespace, on_vlan.address)?;
    names_other_machine(&pxed, on_vlan, intruder_on_vlan, ON_VLAN)?;

    from_elsewhere.lease(IPXE)?;
    from_elsewhere.has_address(ELSEWHERE)?;
    from_elsewhere.is_answered(&from_elsewhere.script(), 403)?;
    let asked_from = [
        "iPXE has had an address for ",
        "was asked for from 10.99.0.250 ",
        "given to 10.99.0.104 alone, but the request came from another address",
    ];
    says(&pxed, from_elsewhere.machine, &asked_from)
}

/// Waits until the diagnosis of a machine says that another machine of the spec has its address.
fn names_other_machine(pxed: &Pxed<'_>, victim: &Host<'_>, other: &Host<'_>, interface: &str) -> anyhow::Result<()> {
    let Machine { mac, address, .. } = other.machine;
    let two_hosts = [
        &format!("Another machine of the spec, {mac}, answered for its address {} on {interface} ", victim.address),
        &format!("Two hosts have {}, and {mac} gets what is sent there", victim.address),
        &format!("which is to have {address} ("),
        &format!("arping -I {interface} {} while the machine is switched off", victim.address),
    ];
    says(pxed, victim.machine, &two_hosts.map(String::as_str))
}

/// The answers come from another MAC address than the firmware's, and need not be another host's.
pub(crate) fn of_another_card_or_router() -> anyhow::Result<()> {
    let lab = Lab::new(3, 10_000)?;
    let [two_cards, unnamed_card, behind] = &lab.hosts()?;
    let (router, server) = (Namespace::new("router")?, &lab.network.server);
    lab.network.plug_in(&router, INTERFACE)?;
    let second = Machine::number(51).mac;
    let cards =
        format!("pxed.dev/machines: '{{\"{}\": {{additionalMacAddresses: [\"{second}\"]}}}}'", two_cards.machine.mac);
    let pxed = lab.pxed(&cluster::with_annotation(&lab.spec(), &cards), &[])?;

    // Their firmware asked by one card, and the address is on the other.
    for host in [two_cards, unnamed_card] {
        lab.network.plug_in(host.namespace, SECOND)?;
        host.lease(FIRMWARE)?;
        host.namespace.ip(&["link", "set", INTERFACE, "down"])?;
    }
    two_cards.namespace.ip(&["link", "set", SECOND, "address", &second])?;
    for host in [two_cards, unnamed_card] {
        host.has_address_on(SECOND, host.address)?;
        send(host.namespace, host.address)?;
    }
    let unnamed = mac_of(unnamed_card.namespace, SECOND)?;
    let one_of_three = [
        &format!("{unnamed}, which the spec does not name, answered for its address {} on eth0 ", unnamed_card.address),
        "another host with that address, a router with proxy ARP, or a network card of this machine",
        "name the card (additionalMacAddresses in pxed.dev/machines)",
    ];
    says(&pxed, unnamed_card.machine, &one_of_three)?;
    has_answered(server, two_cards.address, &second)?;
    let diagnosis = pxed.machine(&two_cards.machine.mac)?["diagnosis"].to_string();
    ensure!(diagnosis.contains("has had an address") && !diagnosis.contains("answered for"), "{diagnosis}");

    // Its router answers in its place.
    behind.lease(FIRMWARE)?;
    behind.namespace.ip(&["link", "set", INTERFACE, "down"])?;
    veth(&router, BEHIND, behind.namespace, SECOND)?;
    for setting in ["ip_forward", "conf/eth0/proxy_arp"] {
        router.sysctl(&format!("net/ipv4/{setting}"), "1")?;
    }
    let gateway: Ipv4Addr = cluster::GATEWAY.parse()?;
    router.ip(&["address", "add", &format!("{gateway}/24"), "dev", INTERFACE])?;
    router.ip(&["route", "add", &format!("{}/32", behind.address), "dev", BEHIND])?;
    behind.namespace.ip(&["address", "add", &format!("{}/32", behind.address), "dev", SECOND])?;
    behind.namespace.ip(&["route", "add", &format!("{gateway}/32"), "dev", SECOND])?;
    behind.namespace.ip(&["route", "add", "default", "via", cluster::GATEWAY])?;
    send(&router, gateway)?;
    send(behind.namespace, behind.address)?;
    let by_proxy = [
        &format!(
            "Its router {gateway} ({}) answered for its address {} on eth0 ",
            mac_of(&router, INTERFACE)?,
            behind.address
        ),
        "answers ARP in its place (proxy ARP). If the machine is not behind it, switch proxy ARP off there.",
    ];
    says(&pxed, behind.machine, &by_proxy)?;
    let diagnosis = pxed.machine(&behind.machine.mac)?["diagnosis"].to_string();
    ensure!(!diagnosis.contains("nother host with"), "{diagnosis}");
    Ok(())
}

/// Sends a packet to pxed's host, whose answer needs the sender's MAC address.
fn send(namespace: &Namespace, from: Ipv4Addr) -> anyhow::Result<()> {
    let socket = namespace.enter(|| UdpSocket::bind((from, 0)))??;
    socket.send_to(b"hello", (SERVER, DISCARD)).map(drop).context("cannot send")
}

/// Waits until a host knows who has an address.
fn has_answered(host: &Namespace, address: Ipv4Addr, mac: &str) -> anyhow::Result<()> {
    let mut known = String::new();
    suite::eventually("an answer to ARP", SOON, || {
        known = host.ip(&["neighbour", "show", &address.to_string()])?;
        Ok(known.contains(mac))
    })
    .with_context(|| known.clone())
}

/// Returns the MAC address of an interface.
fn mac_of(namespace: &Namespace, interface: &str) -> anyhow::Result<String> {
    let link = namespace.ip(&["-br", "link", "show", "dev", interface])?;
    let mac = link.split_whitespace().find(|word| word.matches(':').count() == 5);
    mac.map(str::to_owned).with_context(|| format!("`ip link` printed no MAC address: {link}"))
}
