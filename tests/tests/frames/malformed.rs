//! Malformed, contradictory and truncated packets. pxed keeps running, counts them, and answers the next packet.

use std::net::SocketAddrV4;

use anyhow::{Context, ensure};
use pxe_lab::{Datapath, cluster::Machine, pxed::Metrics};

use crate::{
    bench::{Bench, OTHER_SERVER, SERVER_MAC, frames, server_at, silences},
    wire::{DISCOVER, OFFER, Query, REQUEST, mac, options},
};

/// The expected treatment of a packet.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// A DHCPOFFER, in spite of the fault.
    Offer,
    /// No answer, and one more in the DHCP packets' counter of this reason.
    Dhcp(&'static str),
    /// No answer, and one more for each frame in the frames' counter of this reason.
    Frame(&'static str),
    /// Like `Frame` with an XDP program. Without one it is not counted: the packet socket's filter drops it, or it belongs to
    /// a stranger.
    Program(&'static str),
}

struct Case {
    name: &'static str,
    frames: Vec<Vec<u8>>,
    fate: Fate,
}

fn machine() -> Machine {
    Machine::number(1)
}

/// The machine whose good questions come between the cases.
fn bystander() -> Machine {
    Machine::number(2)
}

pub(crate) fn survived(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let mut pxed = bench.pxed(datapath, &[machine(), bystander()], &["--machine-rate", "0"])?;
    let plug = bench.plug()?;
    let offer = plug.ask(&Query::discover(&machine())?)?.message;
    let bystander_mac = mac(&bystander().mac)?;
    let mut wrong = Vec::new();
    for Case { name, frames: sent, fate } in cases(&offer)? {
        let before = pxed.metrics()?;
        let replies = plug.replies_to(&sent, &Query::discover(&bystander())?);
        let replies = replies.with_context(|| format!("after {name}: {}", pxed.process.last_lines()))?;
        ensure!(pxed.process.is_running()?, "{name} ended pxed: {}", pxed.process.last_lines());
        let after = pxed.metrics()?;
        let moved = |read: fn(&Metrics, &str) -> f64, reason| read(&after, reason) - read(&before, reason);
        // The cases repeat the same question, so each may be answered twice. The second answer to the bystander
        // arrives during the next case.
        let mut replies = replies;
        replies.retain(|reply| reply.chaddr() != bystander_mac);
        replies.dedup_by_key(|reply| (reply.xid(), reply.kind()));
        let kinds: Vec<_> = replies.iter().map(crate::wire::Reply::kind).collect();
        let (right, counted) = match fate {
            Fate::Offer => (kinds == [Some(OFFER)], 1.0),
            Fate::Dhcp(reason) => (kinds.is_empty(), moved(silences, reason)),
            Fate::Program(reason) if !datapath.has_program() => (kinds.is_empty(), 1.0 + moved(frames, reason)),
            Fate::Frame(reason) | Fate::Program(reason) => {
                (kinds.is_empty(), moved(frames, reason) / sent.len() as f64)
            }
        };
        if !right || counted != 1.0 {
            wrong.push(format!("{name}: to be {fate:?}, answered {kinds:?}, counted {counted}"));
        }
    }
    ensure!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), pxed.process.last_lines());
    ensure!(!pxed.process.output().contains("panic"), "a panic: {}", pxed.process.last_lines());
    Ok(())
}

fn cases(offer: &[u8]) -> anyhow::Result<Vec<Case>> {
    let good = Query::discover(&machine())?;
    let mut cases = Vec::new();
    let mut case = |name, frame: Vec<u8>, fate| cases.push(Case { name, frames: vec![frame], fate });
    options_cases(&good, &mut case);
    header_cases(&good, offer, &mut case)?;
    frame_cases(&good, &mut case);
    cases.push(Case { name: "fragments", frames: good.fragments(128).into(), fate: Fate::Program("fragment") });
    Ok(cases)
}

/// Options of RFC 2132.
fn options_cases(good: &Query, case: &mut impl FnMut(&'static str, Vec<u8>, Fate)) {
    use Fate::{Dhcp, Offer};
    let mut raw = |name, bytes: &[u8], fate| case(name, good.clone().with_raw(bytes).frame(), fate);
    raw("message type without its length", &[53], Dhcp("broken_option"));
    raw("message type without its value", &[53, 1], Dhcp("broken_option"));
    raw("message type of two bytes", &[53, 2, 1, 1, 255], Dhcp("broken_option"));
    raw("message type of no byte", &[53, 0, 255], Dhcp("broken_option"));
    raw("server identifier cut off", &[53, 1, 3, 54, 4, 10, 99], Dhcp("broken_option"));
    raw("server identifier of three bytes", &[53, 1, 3, 54, 3, 10, 99, 0, 255], Dhcp("broken_option"));
    raw("requested address of five bytes", &[53, 1, 3, 50, 5, 10, 99, 0, 101, 0, 255], Dhcp("broken_option"));
    raw("no options", &[], Dhcp("bootp"));
    raw("no message type", &[12, 1, b'x', 255], Dhcp("bootp"));
    raw("message type behind the end", &[255, 53, 1, 1], Dhcp("bootp"));
    raw("host name cut off", &[53, 1, 1, 12, 200, b'x'], Offer);
    raw("no end option", &[53, 1, 1], Offer);
    raw("architecture of one byte", &[53, 1, 1, 93, 1, 0, 255], Offer);
    raw("architecture of no byte", &[53, 1, 1, 93, 0, 255], Offer);
    raw("network interface of one byte", &[53, 1, 1, 94, 1, 1, 255], Offer);
    raw("network interface cut off", &[53, 1, 1, 94, 3, 1], Offer);
    raw("machine identifier that is junk", &[53, 1, 1, 97, 3, 9, 255, 0, 255], Offer);
    raw("user class whose length lies", &[53, 1, 1, 77, 3, 200, b'i', b'P', 255], Offer);
    raw("iPXE options cut off", &[53, 1, 1, 175, 2, 19, 9, 255], Offer);
    raw("overload that names both fields", &[53, 1, 1, 52, 1, 3, 255], Offer);
    raw("overload that is nonsense", &[53, 1, 1, 52, 1, 200, 255], Offer);
    raw("maximum size 0", &[53, 1, 1, 57, 2, 0, 0, 255], Offer);
    raw("maximum size 65535", &[53, 1, 1, 57, 2, 255, 255, 255], Offer);
    raw("parameters that ask for everything", &[&[53, 1, 1, 55, 254][..], &everything(), &[255]].concat(), Offer);
    let pieces: Vec<u8> = [&[77, 200][..], &[b'x'; 200]].concat().repeat(6);
    raw(
        "user class in more pieces than are joined",
        &[&[53, 1, 1][..], &pieces, &[255]].concat(),
        Dhcp("broken_option"),
    );
    raw("message type 0", &[53, 1, 0, 255], Dhcp("not_a_client_message"));
    raw("message type 9", &[53, 1, 9, 255], Dhcp("not_a_client_message"));
    raw("a lease query", &[53, 1, 10, 255], Dhcp("not_a_client_message"));
    raw("message type 255", &[53, 1, 255, 255], Dhcp("not_a_client_message"));

    let mut list = |name, list: &[(u8, &[u8])], fate| case(name, good.clone().with(list).frame(), fate);
    let (ours, other) = ([10, 99, 0, 1], OTHER_SERVER.octets());
    let address: &[u8] = &[10, 99, 0, 101];
    list(
        "two server identifiers",
        &[(53, &[REQUEST]), (50, address), (54, &ours), (54, &other)],
        Dhcp("contradiction"),
    );
    list("two message types", &[(53, &[DISCOVER]), (53, &[REQUEST])], Dhcp("contradiction"));
    list("two addresses", &[(53, &[REQUEST]), (50, address), (50, &[10, 99, 0, 102])], Dhcp("contradiction"));
    list("the same message type twice", &[(53, &[DISCOVER]), (53, &[DISCOVER])], Offer);
    list("another server's choice", &[(53, &[REQUEST]), (50, address), (54, &other)], Dhcp("other_server"));
    list("a request without an address", &[(53, &[REQUEST]), (54, &ours)], Dhcp("no_address"));
}

fn everything() -> Vec<u8> {
    (1..=254).collect()
}

/// The fixed fields of RFC 2131 §2.
fn header_cases(good: &Query, offer: &[u8], case: &mut impl FnMut(&'static str, Vec<u8>, Fate)) -> anyhow::Result<()> {
    use Fate::{Dhcp, Frame, Program};
    for (name, hlen) in [
        ("hardware address of 0 bytes", 0),
        ("hardware address of 5 bytes", 5),
        ("hardware address of 16 bytes", 16),
        ("hardware address of 17 bytes", 17),
        ("hardware address of 255 bytes", 255),
    ] {
        case(name, Query { bootp: [1, 1, hlen, 0], ..good.clone() }.frame(), Frame("bad_hardware_address_length"));
    }
    case(
        "hardware that is not Ethernet",
        Query { bootp: [1, 6, 6, 0], ..good.clone() }.frame(),
        Frame("not_an_ethernet_client"),
    );
    case("op 0", Query { bootp: [0, 1, 6, 0], ..good.clone() }.frame(), Frame("not_a_request"));
    case("op 2", Query { bootp: [2, 1, 6, 0], ..good.clone() }.frame(), Frame("not_a_request"));
    case("an offer replayed", good.frame_of(offer), Frame("not_a_request"));
    let mut request = offer.to_vec();
    request[0] = 1;
    case("an offer replayed as a request", good.frame_of(&request), Dhcp("not_a_client_message"));

    let relayed = |giaddr: [u8; 4]| Query { giaddr: giaddr.into(), ..good.clone() }.frame();
    case("giaddr that is ours", relayed([10, 99, 0, 1]), Dhcp("bad_relay"));
    case("giaddr that is broadcast", relayed([255, 255, 255, 255]), Dhcp("bad_relay"));
    case("giaddr that is multicast", relayed([224, 0, 0, 1]), Dhcp("bad_relay"));
    case("giaddr that is the loopback", relayed([127, 0, 0, 1]), Dhcp("bad_relay"));
    case("giaddr that is this network", relayed([0, 0, 0, 1]), Dhcp("bad_relay"));

    let mut no_cookie = options(&[(53, &[DISCOVER])]);
    no_cookie[..4].fill(0);
    case("no cookie", Query { options: no_cookie, ..good.clone() }.frame(), Dhcp("bootp"));
    case("no room for a cookie", Query { options: vec![99, 130], ..good.clone() }.frame(), Dhcp("length"));
    case("BOOTP's fields alone", Query { options: vec![], ..good.clone() }.frame(), Dhcp("length"));
    for (name, chaddr) in [("hardware address zero", [0; 6]), ("hardware address broadcast", [255; 6])] {
        case(name, Query { chaddr, ..good.clone() }.frame(), Program("unknown_machine_passed"));
    }
    let to_boot_server = Query { destination: server_at(4011)?, ethernet_destination: SERVER_MAC, ..good.clone() };
    case("a DISCOVER on port 4011", to_boot_server.frame(), Dhcp("boot_server_port"));
    let elsewhere =
        Query { destination: SocketAddrV4::new(OTHER_SERVER, 67), ethernet_destination: SERVER_MAC, ..good.clone() };
    case("a DISCOVER to another server", elsewhere.frame(), Frame("for_another_server"));
    Ok(())
}

/// The headers of RFC 791, RFC 768 and IEEE 802.1Q.
fn frame_cases(good: &Query, case: &mut impl FnMut(&'static str, Vec<u8>, Fate)) {
    use Fate::{Frame, Program};
    const IP: usize = 14;
    const UDP: usize = IP + 20;
    let whole = good.frame();
    let with = |at: usize, bytes: &[u8]| {
        let mut frame = whole.clone();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    case("no fixed fields", good.frame_of(&[1, 1, 6, 0]), Frame("truncated_bootp"));
    case("no payload", good.frame_of(&[]), Frame("truncated_bootp"));
    case("fixed fields cut off", good.frame_of(&good.payload()[..235]), Frame("truncated_bootp"));
    case("a frame that ends early", whole[..100].to_vec(), Frame("truncated_ipv4"));
    case("IPv4 header that ends early", whole[..IP + 12].to_vec(), Program("truncated_ipv4"));
    case("IPv4 total length beyond the frame", with(IP + 2, &[0xff, 0xff]), Frame("truncated_ipv4"));
    case("IPv4 total length without room for UDP", with(IP + 2, &[0, 20]), Frame("bad_ipv4_length"));
    case("IPv4 header length 16", with(IP, &[0x44]), Program("bad_ipv4_header"));
    case("IP version 6", with(IP, &[0x65]), Frame("bad_ipv4_header"));
    case("UDP length 0", with(UDP + 4, &[0, 0]), Frame("bad_udp_length"));
    case("UDP length beyond the datagram", with(UDP + 4, &[0x7f, 0xff]), Frame("bad_udp_length"));
    case("a first fragment", with(IP + 6, &[0x20, 0]), Program("fragment"));
    let tags = vec![[0x88, 0xa8, 0, 100], [0x81, 0, 0, 7], [0x81, 0, 0, 8]];
    case("three VLAN tags", Query { tags, ..good.clone() }.frame(), Program("too_many_vlan_tags"));
}

/// A message of 9,000 bytes is answered if frames of that size arrive, and otherwise does no harm.
pub(crate) fn jumbo(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    // veth's driver accepts XDP only if a frame fits into a page.
    let (mtu, payload) = if datapath == Datapath::Xdp { (3400, 3300) } else { (9100, 9000) };
    bench.set_mtu(mtu)?;
    let mut pxed = bench.pxed(datapath, &[machine(), bystander()], &["--machine-rate", "0"])?;
    let plug = bench.plug()?;
    let mut sent = Vec::new();
    for filler in [0, 255, 12] {
        let good = Query::discover(&machine())?;
        let mut message = good.with_raw(&[53, 1, 1]).payload();
        message.resize(payload, filler);
        sent.push(Query::discover(&machine())?.frame_of(&message));
    }
    for frame in &sent {
        let replies = plug.replies_to(std::slice::from_ref(frame), &Query::discover(&bystander())?)?;
        ensure!(pxed.process.is_running()?, "pxed ended: {}", pxed.process.last_lines());
        if datapath == Datapath::Generic {
            ensure!(replies.len() <= 1, "{replies:?}");
        } else {
            ensure!(replies.len() == 1 && replies[0].kind() == Some(OFFER), "not answered: {replies:?}");
        }
    }
    Ok(())
}
