//! Forged ARP.

use std::{
    net::{Ipv4Addr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use pxe_common::MacAddr;
use pxe_lab::{
    Artifacts, Bridged, Namespace, Pxed,
    attack::frames::Wire,
    cluster::{self, Machine, SERVER, SERVER_ADDRESS, VERSION},
    topology::{INTERFACE, veth},
};

/// The router's addresses: on the server's network, and on the machine's.
const ROUTER: &str = "10.99.0.2";
const GATEWAY: &str = "10.99.1.1";
/// The file that is requested, and its length: many windows.
const FILE: &str = "ipxe-efi-x86_64.efi";
const LENGTH: usize = 60_000;
/// The time by which the attack may delay a transfer, besides what a busy machine needs. It took twelve seconds longer.
const DELAY: Duration = Duration::from_secs(5);
/// The time after which a client asks again.
const AGAIN: Duration = Duration::from_secs(4);

/// A host that says to have the address of a machine behind a router, on a network that it does not belong to.
pub(crate) fn of_another_network() -> anyhow::Result<()> {
    let switch = Bridged::new(SERVER_ADDRESS, 2)?;
    let [attacker, router] = &switch.clients[..] else { bail!("two clients") };
    let machine = Machine { address: "10.99.1.50".to_owned(), ..Machine::number(1) };
    let client = Namespace::new("client")?;
    veth(&client, INTERFACE, router, "down0")?;
    client.ip(&["link", "set", INTERFACE, "address", &machine.mac])?;
    client.ip(&["address", "add", &format!("{}/24", machine.address), "dev", INTERFACE])?;
    client.ip(&["route", "add", "default", "via", GATEWAY])?;
    router.ip(&["address", "add", &format!("{ROUTER}/24"), "dev", INTERFACE])?;
    router.ip(&["address", "add", &format!("{GATEWAY}/24"), "dev", "down0"])?;
    router.sysctl("net/ipv4/ip_forward", "1")?;
    switch.server.ip(&["route", "add", "10.99.1.0/24", "via", ROUTER])?;
    let artifacts = Artifacts::stand_ins(&[VERSION], LENGTH)?;
    let spec = cluster::cluster_with_gateway(std::slice::from_ref(&machine), GATEWAY);
    let pxed = Pxed::start(&switch.server, &spec, artifacts.path(), &[])?;
    let usual = client.enter(fetch)??;

    let wire = Wire::open(attacker, INTERFACE)?;
    let forged = arp_request(wire.mac, machine.address.parse()?, SERVER.parse()?);
    pxed.eventually("the kernel to believe it", Duration::from_secs(30), |_| {
        wire.send(&forged)?;
        let known = switch.server.ip(&["neighbour", "show", &machine.address, "dev", INTERFACE])?;
        Ok(known.contains(&wire.mac.to_string()))
    })?;
    let attacked = client.enter(fetch)??;
    println!("{attacked:?} instead of {usual:?}");
    ensure!(attacked < usual + DELAY, "{attacked:?} instead of {usual:?}");
    Ok(())
}

/// Returns a question for the server's MAC address that pretends to come from this IP address.
fn arp_request(source: MacAddr, pretended: Ipv4Addr, server: Ipv4Addr) -> Vec<u8> {
    // RFC 826: Ethernet, IPv4, the lengths of their addresses, a request.
    let mut frame = [&MacAddr::BROADCAST.0[..], &source.0, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]].concat();
    frame.extend_from_slice(&source.0);
    frame.extend_from_slice(&pretended.octets());
    frame.extend_from_slice(&[0; 6]);
    frame.extend_from_slice(&server.octets());
    frame
}

/// Loads the file block by block, as simple firmware does. Returns the time that it took.
fn fetch() -> anyhow::Result<Duration> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(AGAIN))?;
    let begun = Instant::now();
    let request = format!("\0\x01{FILE}\0octet\0blksize\x001024\0");
    socket.send_to(request.as_bytes(), (SERVER, 69))?;
    let (mut loaded, mut space) = (0, [0; 2048]);
    let mut next = 1_u16;
    loop {
        ensure!(begun.elapsed() < Duration::from_secs(120), "{loaded} bytes came in {:?}", begun.elapsed());
        let Ok((length, server)) = socket.recv_from(&mut space) else { continue };
        let block = match space.get(..length).context("a datagram")? {
            [0, 6, ..] => &[],
            &[0, 3, high, low, ref block @ ..] if [high, low] == next.to_be_bytes() => {
                next += 1;
                loaded += block.len();
                block
            }
            _ => continue,
        };
        let [high, low] = (next - 1).to_be_bytes();
        socket.send_to(&[0, 4, high, low], server)?;
        if next > 1 && block.len() < 1024 {
            ensure!(loaded == LENGTH, "{loaded} bytes");
            return Ok(begun.elapsed());
        }
    }
}
