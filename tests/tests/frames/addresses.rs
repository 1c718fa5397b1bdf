//! The IPv4 destination decides whose a request is: ours if it is 255.255.255.255, an address of our interface, or the
//! broadcast address of one of its networks. The Ethernet destination does not matter.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use anyhow::{Context, ensure};
use pxe_lab::{
    Datapath, Pxed,
    cluster::{Machine, SERVER},
    suite,
    topology::INTERFACE,
};

use crate::{
    bench::{Bench, OTHER_SERVER, OTHER_SERVER_MAC, SERVER_MAC, frames, server_at},
    plug::Plug,
    wire::{ACK, BROADCAST, Mac, NAK, Query, REQUEST},
};

/// The time limit for a changed address: less than firmware waits.
const SOON: Duration = Duration::from_secs(10);

const MULTICAST: Mac = [0x01, 0, 0x5e, 0, 0x01, 0x02];

/// The options of a REQUEST of UEFI firmware, which also port 4011 answers.
const FIRMWARE: [(u8, &[u8]); 3] = [(53, &[REQUEST]), (60, b"PXEClient"), (93, &[0, 7])];

/// Returns a renewal, or on port 4011 the question for the boot file, of a machine with this address.
fn question(
    machine: &Machine,
    has: Ipv4Addr,
    ethernet_destination: Mac,
    to: Ipv4Addr,
    port: u16,
) -> anyhow::Result<Query> {
    Ok(Query {
        ciaddr: has,
        source: SocketAddrV4::new(has, 68),
        destination: SocketAddrV4::new(to, port),
        ethernet_destination,
        ..Query::discover(machine)?.with(&FIRMWARE)
    })
}

/// Some clients renew by an Ethernet broadcast, with the address of their server as IPv4 destination. To answer it would be to
/// speak with that server's address, and to refuse what it granted.
pub(crate) fn another_servers(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    // Networks without a broadcast address (RFC 3021).
    for address in ["10.97.0.6/31", "10.97.0.20/32"] {
        bench.server.ip(&["address", "add", address, "dev", INTERFACE])?;
    }
    let machine = Machine::number(1);
    let pxed = bench.pxed(datapath, std::slice::from_ref(&machine), &["--machine-rate", "0"])?;
    let plug = bench.plug()?;
    let reserved: Ipv4Addr = machine.address.parse()?;
    let foreign = [
        OTHER_SERVER,
        Ipv4Addr::UNSPECIFIED,
        // The network itself, and broadcast addresses of networks that are not ours.
        Ipv4Addr::new(10, 99, 0, 0),
        Ipv4Addr::new(10, 99, 1, 255),
        Ipv4Addr::new(10, 99, 255, 255),
        Ipv4Addr::new(10, 97, 0, 7),
        Ipv4Addr::new(10, 97, 0, 255),
        Ipv4Addr::new(224, 0, 1, 2),
        Ipv4Addr::LOCALHOST,
    ];
    let mut strays = Vec::new();
    for to in foreign {
        for ethernet_destination in [BROADCAST, MULTICAST, SERVER_MAC, OTHER_SERVER_MAC] {
            for port in [67, 4011] {
                for has in [reserved, Ipv4Addr::new(10, 99, 0, 200)] {
                    strays.push(question(&machine, has, ethernet_destination, to, port)?.frame());
                }
            }
            let discover =
                Query { destination: SocketAddrV4::new(to, 67), ethernet_destination, ..Query::discover(&machine)? };
            strays.push(discover.frame());
        }
    }
    let before = frames(&pxed.metrics()?, "for_another_server");
    let replies = plug.replies_to(&strays, &Query::discover(&machine)?)?;
    ensure!(replies.is_empty(), "what was for another server was answered: {replies:?}");
    let counted = frames(&pxed.metrics()?, "for_another_server") - before;
    ensure!(counted == strays.len() as f64, "counted {counted} of {}", strays.len());
    Ok(())
}

/// The interface has a second network and an address without a network. A relay may ask any of these addresses. The answer
/// comes from the address that was asked, or from the server's if that is a broadcast address.
pub(crate) fn all_ours(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    for address in ["10.99.0.5/32", "10.97.0.1/22"] {
        bench.server.ip(&["address", "add", address, "dev", INTERFACE])?;
    }
    let machine = Machine::number(1);
    let _pxed = bench.pxed(datapath, std::slice::from_ref(&machine), &["--machine-rate", "0"])?;
    let plug = bench.plug()?;
    let (reserved, wrong) = (machine.address.parse()?, Ipv4Addr::new(10, 99, 0, 200));
    let server: Ipv4Addr = SERVER.parse()?;
    let cases = [
        (Ipv4Addr::BROADCAST, server),
        (server, server),
        (Ipv4Addr::new(10, 99, 0, 255), server),
        (Ipv4Addr::new(10, 97, 3, 255), server),
        (Ipv4Addr::new(10, 99, 0, 5), Ipv4Addr::new(10, 99, 0, 5)),
        (Ipv4Addr::new(10, 97, 0, 1), Ipv4Addr::new(10, 97, 0, 1)),
    ];
    for (to, from) in cases {
        for ethernet_destination in [BROADCAST, MULTICAST, SERVER_MAC] {
            for (port, has, kind) in [(67, reserved, ACK), (67, wrong, NAK), (4011, reserved, ACK)] {
                let question = question(&machine, has, ethernet_destination, to, port)?;
                let reply = plug.ask(&question)?;
                let is_right = reply.kind() == Some(kind) && reply.source == SocketAddrV4::new(from, port);
                ensure!(is_right && reply.option(54) == Some(&server.octets()), "{question:?}: {reply:?}");
            }
        }
        let relay = Ipv4Addr::new(10, 99, 0, 2);
        let relayed = Query {
            giaddr: relay,
            source: SocketAddrV4::new(relay, 67),
            destination: SocketAddrV4::new(to, 67),
            ethernet_destination: SERVER_MAC,
            ..Query::discover(&machine)?
        };
        let offer = plug.ask(&relayed)?;
        let is_right = offer.source == SocketAddrV4::new(from, 67) && offer.destination == SocketAddrV4::new(relay, 67);
        ensure!(is_right && offer.option(54) == Some(&server.octets()), "relayed to {to}: {offer:?}");
    }
    // The server's identifier is its own address, whichever address was asked. Who names another one chose another server.
    for other in [OTHER_SERVER, Ipv4Addr::new(10, 99, 0, 5)] {
        let chosen =
            Query::discover(&machine)?.with(&[(53, &[REQUEST]), (50, &reserved.octets()), (54, &other.octets())]);
        let replies = plug.replies_to(&[chosen.frame()], &Query::discover(&machine)?)?;
        ensure!(replies.is_empty(), "a client of {other} got {replies:?}");
    }
    ensure!(plug.ask(&question(&machine, reserved, SERVER_MAC, server, 67)?)?.source == server_at(67)?);
    Ok(())
}

/// Addresses that the interface gets and loses while pxed runs.
pub(crate) fn come_and_go(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let machine = Machine::number(1);
    let pxed = bench.pxed(datapath, std::slice::from_ref(&machine), &["--machine-rate", "0"])?;
    let plug = bench.plug()?;
    let change = |change: &str| bench.server.ip(&["address", change, "10.97.0.1/24", "dev", INTERFACE]).map(drop);
    for round in 0..2 {
        change("add")?;
        for to in [[10, 97, 0, 1], [10, 97, 0, 255]] {
            becomes(&pxed, &plug, &machine, to.into(), true).with_context(|| format!("round {round}"))?;
        }
        change("delete")?;
        for to in [[10, 97, 0, 1], [10, 97, 0, 255]] {
            becomes(&pxed, &plug, &machine, to.into(), false).with_context(|| format!("round {round}"))?;
        }
    }
    Ok(())
}

/// Waits until a request to this address is answered, or is no longer answered.
fn becomes(pxed: &Pxed<'_>, plug: &Plug, machine: &Machine, to: Ipv4Addr, answered: bool) -> anyhow::Result<()> {
    let what = format!("requests to {to} to be {}", if answered { "answered" } else { "ignored" });
    suite::eventually(&what, SOON, || {
        let destination = SocketAddrV4::new(to, 67);
        let stray = Query { destination, ..Query::discover(machine)? };
        let replies = plug.replies_to(&[stray.frame()], &Query::discover(machine)?)?;
        Ok(replies.is_empty() != answered)
    })
    .with_context(|| pxed.process.last_lines())
}
