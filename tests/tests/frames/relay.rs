//! Packets from relay agents: giaddr, option 82, and the sub-options that change the answer.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context, ensure};
use pxe_lab::{
    Datapath,
    cluster::{self, Machine},
};

use crate::{
    bench::{Bench, SERVER_MAC, server_at, silences},
    plug::Plug,
    wire::{ACK, DISCOVER, Mac, NAK, OFFER, Query, REQUEST, Reply},
};

/// The relay agent's address on the machines' network, and the router that forwards its packets.
const RELAY: Ipv4Addr = Ipv4Addr::new(10, 99, 1, 1);
const ROUTER_MAC: Mac = [0x02, 0, 0, 0, 0, 0x22];

/// A machine behind the relay.
fn machine() -> Machine {
    Machine { address: "10.99.1.50".to_owned(), ..Machine::number(1) }
}

fn spec() -> String {
    let spec = cluster::cluster_with_gateway(&[machine(), Machine::number(2)], &RELAY.to_string());
    cluster::with_annotation(&spec, "pxed.dev/vlans: 7")
}

/// Returns the machine's message as the relay forwards it, with option 82 last.
fn forwarded(list: &[(u8, &[u8])], information: &[u8]) -> anyhow::Result<Query> {
    let list: Vec<_> = list.iter().copied().chain([(82, information)]).collect();
    Ok(Query {
        ethernet_destination: SERVER_MAC,
        ethernet_source: ROUTER_MAC,
        source: SocketAddrV4::new(RELAY, 67),
        destination: server_at(67)?,
        bootp: [1, 1, 6, 1],
        giaddr: RELAY,
        ..Query::discover(&machine())?.with(&list)
    })
}

/// Checks that the answer took the question's way back, with an unchanged option 82 in the last place.
fn came_back(query: &Query, reply: &Reply, information: &[u8]) -> anyhow::Result<()> {
    came_back_to(67, query, reply, information)
}

/// The same to a port of the relay.
fn came_back_to(port: u16, query: &Query, reply: &Reply, information: &[u8]) -> anyhow::Result<()> {
    ensure!(reply.ethernet_destination == ROUTER_MAC, "not to the router: {reply:?}");
    ensure!(reply.tags == query.tags, "other tags: {reply:?}");
    ensure!(reply.destination == SocketAddrV4::new(query.giaddr, port), "not to the relay: {reply:?}");
    ensure!(reply.source == server_at(67)?, "not from where the relay sent it: {reply:?}");
    ensure!(reply.giaddr() == query.giaddr && reply.chaddr() == query.chaddr, "header: {reply:?}");
    let options = reply.options();
    ensure!(options.last() == Some(&(82, information)), "option 82 is not echoed as the last: {options:?}");
    Ok(())
}

/// RFC 2131 §4.1 and RFC 3046 §2.2.
pub(crate) fn relayed(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let _pxed = bench.pxed_with(datapath, &spec(), &["--machine-rate", "0"])?;
    let plug = bench.plug()?;
    // Circuit and remote identifier, subscriber, RFC 6607's VPN, an undefined sub-option, and an empty one.
    let usual =
        b"\x01\x08eth1/7:3\x02\x06\x02\x00\x00\x00\x00\x22\x06\x04rack\x97\x03\x00\xff\x52\xfa\x02\x00\xff\xc8\x00";
    let long = [&[200, 253][..], &[0xa5; 253]].concat();
    let broken = b"\x01\x04eth1\x02\x20cut off";
    for information in [&usual[..], &long, broken] {
        for tags in [vec![], vec![[0x81, 0x00, 0xa0, 0x07]]] {
            let question = Query { tags, ..forwarded(&[(53, &[DISCOVER])], information)? };
            let offer = plug.ask(&question)?;
            came_back(&question, &offer, information)?;
            ensure!(offer.kind() == Some(OFFER) && offer.yiaddr().to_string() == machine().address, "{offer:?}");
            ensure!(offer.option(3) == Some(&RELAY.octets()), "not the machine's router: {offer:?}");
        }
    }

    // RFC 2131 §4.3.2: a DHCPNAK through a relay sets the broadcast bit, so that the relay broadcasts it.
    let wrong_address = [(53, &[REQUEST][..]), (50, &[10, 99, 1, 51][..])];
    let question = forwarded(&wrong_address, usual)?;
    let nak = plug.ask(&question)?;
    came_back(&question, &nak, usual)?;
    ensure!(nak.kind() == Some(NAK) && nak.flags() == 0x8000, "not a DHCPNAK to broadcast: {nak:?}");
    Ok(())
}

/// RFC 5107: the relay's address replaces the server's, so that renewals pass the relay too.
pub(crate) fn server_id_override(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let pxed = bench.pxed_with(datapath, &spec(), &["--machine-rate", "0"])?;
    let plug = bench.plug()?;
    let information = [&[11, 4][..], &RELAY.octets(), &[1, 2, b'e', b'1']].concat();

    let question = forwarded(&[(53, &[DISCOVER])], &information)?;
    let offer = plug.ask(&question)?;
    came_back(&question, &offer, &information)?;
    ensure!(offer.option(54) == Some(&RELAY.octets()), "the server identifier is not the relay's: {offer:?}");

    let chosen =
        |server: Ipv4Addr| forwarded(&[(53, &[REQUEST]), (50, &[10, 99, 1, 50]), (54, &server.octets())], &information);
    let question = chosen(RELAY)?;
    let ack = plug.ask(&question)?;
    came_back(&question, &ack, &information)?;
    ensure!(ack.kind() == Some(ACK) && ack.option(54) == Some(&RELAY.octets()), "{ack:?}");

    let before = silences(&pxed.metrics()?, "other_server");
    is_silent(&plug, &chosen(Ipv4Addr::new(10, 99, 0, 77))?)?;
    ensure!(silences(&pxed.metrics()?, "other_server") - before == 1.0, "another server's choice was not counted");
    Ok(())
}

/// RFC 8357: the relay sends from a port of its own choice, and waits for the reply there.
pub(crate) fn relay_source_port(datapath: Datapath) -> anyhow::Result<()> {
    const PORT: u16 = 10_067;
    let bench = Bench::new()?;
    let _pxed = bench.pxed_with(datapath, &spec(), &["--machine-rate", "0"])?;
    let plug = bench.plug()?;
    let with_sub_option = b"\x01\x04eth1\x13\x00";
    let with_a_value = b"\x01\x04eth1\x13\x02\x27\x53";
    let request = [(53, &[REQUEST][..]), (50, &[10, 99, 1, 50][..])];
    for options in [&[(53, &[DISCOVER][..])][..], &request] {
        for (information, port) in [(&with_sub_option[..], PORT), (with_a_value, 67), (b"\x01\x04eth1", 67)] {
            let question = Query { source: SocketAddrV4::new(RELAY, PORT), ..forwarded(options, information)? };
            let reply = plug.ask(&question)?;
            came_back_to(port, &question, &reply, information)?;
        }
    }
    Ok(())
}

/// A relay sends a reply to the machine's new address, or broadcasts it. So one without an address is to be broadcast.
pub(crate) fn relayed_proxy_offer(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let _pxed = bench.pxed_with(datapath, &spec(), &["--machine-rate", "0", "--mode", "proxy"])?;
    let plug = bench.plug()?;
    let firmware = [(53, &[DISCOVER][..]), (60, b"PXEClient:Arch:00007:UNDI:003000"), (93, &[0, 7])];
    let information = b"\x01\x04eth1";
    let question = forwarded(&firmware, information)?;
    let offer = plug.ask(&question)?;
    came_back(&question, &offer, information)?;
    ensure!(offer.kind() == Some(OFFER) && offer.yiaddr().is_unspecified(), "an address from ProxyDHCP: {offer:?}");
    ensure!(question.flags == 0 && offer.flags() == 0x8000, "nobody to send it to: {offer:?}");
    Ok(())
}

/// RFC 3527: the relay names the machine's link separately from its own address.
pub(crate) fn link_selection(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let pxed = bench.pxed_with(datapath, &spec(), &["--machine-rate", "0"])?;
    let plug = bench.plug()?;
    let far_relay = |link: [u8; 4]| -> anyhow::Result<(Query, Vec<u8>)> {
        let information = [&[1, 2, b'e', b'1', 5, 4][..], &link].concat();
        let giaddr = Ipv4Addr::new(172, 16, 0, 1);
        let query = forwarded(&[(53, &[DISCOVER])], &information)?;
        Ok((Query { giaddr, source: SocketAddrV4::new(giaddr, 67), ..query }, information))
    };
    let (question, information) = far_relay([10, 99, 1, 0])?;
    let offer = plug.ask(&question)?;
    came_back(&question, &offer, &information)?;
    ensure!(offer.yiaddr().to_string() == machine().address, "{offer:?}");

    let before = silences(&pxed.metrics()?, "wrong_network");
    is_silent(&plug, &far_relay([10, 77, 0, 0])?.0)?;
    ensure!(silences(&pxed.metrics()?, "wrong_network") - before == 1.0, "a wrong link was not counted");
    Ok(())
}

fn is_silent(plug: &Plug, question: &Query) -> anyhow::Result<()> {
    let probe = Query::discover(&Machine::number(2))?;
    let replies = plug.replies_to(&[question.frame()], &probe).context("after the silence")?;
    ensure!(replies.is_empty(), "answered: {replies:?}");
    Ok(())
}
