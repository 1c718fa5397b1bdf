//! An address that two hosts have, and a machine that has another one than the spec says.

use std::net::{Ipv4Addr, UdpSocket};

use anyhow::ensure;
use pxe_lab::cluster::SERVER;

use super::{
    host::{BLOCK, FIRMWARE, IPXE, LOADER, Lab},
    says,
};

const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 250);
/// A port on which nobody waits.
const DISCARD: u16 = 9;

pub(crate) fn of_two_hosts() -> anyhow::Result<()> {
    let lab = Lab::new(4, 1_000_000)?;
    let [victim, alone, intruder, from_elsewhere] = &lab.hosts()?;
    let pxed = lab.pxed(&lab.spec(), &[])?;
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
    let socket = intruder.namespace.enter(|| UdpSocket::bind((victim.address, 0)))??;
    socket.send_to(b"hello", (SERVER, DISCARD))?;
    let two_hosts = [
        &format!("Another host, {}, answered for its address {} on eth0 ", intruder.machine.mac, victim.address),
        &format!("Two hosts have {}, and {} gets what is sent there", victim.address, intruder.machine.mac),
        &format!("arping -I eth0 {}", victim.address),
    ];
    says(&pxed, victim.machine, &two_hosts.map(String::as_str))?;
    let diagnosis = pxed.machine(&alone.machine.mac)?["diagnosis"].to_string();
    ensure!(!diagnosis.contains("host"), "{diagnosis}");

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
