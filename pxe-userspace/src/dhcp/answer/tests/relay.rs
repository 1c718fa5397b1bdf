//! Answers through relay agents.

use std::net::SocketAddrV4;

use super::*;
use crate::dhcp::{client::classify, decode::decode};

pub(super) fn to_relay(port: u16) -> ReplyRoute {
    ReplyRoute::Relay(SocketAddrV4::new(RELAY, port))
}

#[test]
fn relay_gets_its_information_back_and_its_identifier_used() {
    let information = [1, 2, b'e', b'1', 11, 4, 10, 7, 0, 1, 151, 0];
    let through = |kind| Message::new(kind).giaddr(RELAY).option(82, &information);
    let (sent, seen) = sent(through(DISCOVER));
    assert_eq!(sent.route, to_relay(67));
    assert_eq!(seen.address(54), Some(RELAY));
    assert_eq!(seen.option(82), Some(&information[..]));
    assert_eq!(seen.order.last(), Some(&82));
    assert_eq!(seen.field_address(field::GIADDR), RELAY);
    assert_eq!(silence(through(REQUEST).address(54, RELAY).address(50, ADDRESS)), None);
    assert_eq!(silence(through(REQUEST).address(54, SERVER).address(50, ADDRESS)), None);
    assert_eq!(silence(through(REQUEST).address(54, OTHER).address(50, ADDRESS)), Some(Reason::OtherServer));
    let (sent, seen) = self::sent(through(REQUEST).address(54, RELAY).address(50, OTHER));
    assert_eq!((sent.message, sent.route), (MessageType::Nak, to_relay(67)));
    assert_eq!(seen.bytes[field::FLAGS], [0x80, 0], "the relay must broadcast a DHCPNAK");
    assert_eq!(seen.option(82), Some(&information[..]));
}

/// Cisco's numbers, from before the RFCs. RFC 6607 uses 151 and 152 (without a value) for VPNs.
#[test]
fn sub_options_of_cisco_count_unless_those_of_the_rfcs_are_there() {
    let far = Ipv4Addr::new(10, 9, 0, 1);
    let vpn = [151, 4, 0, b'v', b'p', b'n'];
    let link = Some(Ipv4Addr::new(10, 7, 0, 0));
    let cases = [
        ([&[150, 4, 10, 7, 0, 0][..], &vpn, &[152, 4, 10, 7, 0, 1]].concat(), RELAY, link),
        ([&vpn[..], &[152, 0]].concat(), SERVER, None),
        (vec![150, 4, 10, 9, 0, 0, 5, 4, 10, 7, 0, 0], SERVER, link),
        (vec![152, 4, 10, 9, 0, 1, 11, 4, 10, 7, 0, 1], RELAY, None),
        (vec![152, 3, 10, 9, 0, 150, 5, 10, 7, 0, 0, 0], SERVER, None),
        (vec![152, 4, 255, 255, 255, 255, 150, 4, 0, 0, 0, 0], SERVER, None),
        (vec![1, 2, b'e', b'1', 150, 4, 10, 7], SERVER, None),
        (vec![152, 4, 10, 9, 0, 1, 152], far, None),
    ];
    for (information, server_id, link) in cases {
        let message = Message::new(DISCOVER).giaddr(RELAY).option(82, &information);
        let (_, seen) = sent(message.clone());
        assert_eq!(seen.address(54), Some(server_id), "{information:?}");
        assert_eq!(seen.option(82), Some(&information[..]), "echoed as it came");
        let packet = message.bytes();
        let query = decode(&packet).unwrap();
        assert_eq!(classify(&query).relay.link_selection, link, "{information:?}");
        let chosen = Message::new(REQUEST).giaddr(RELAY).option(82, &information);
        assert_eq!(silence(chosen.address(54, server_id).address(50, ADDRESS)), None, "{information:?}");
    }
}

/// RFC 8357: the relay may send from any port, and waits for the reply there. The frame of the query has the port.
#[test]
fn relay_source_port_is_the_destination_of_the_reply() {
    let cases: [(&str, &[u8], u16, u16); 7] = [
        ("without the sub-option", &[1, 2, b'e', b'1'], 1067, 67),
        ("with it", &[1, 2, b'e', b'1', 19, 0], 1067, 1067),
        ("the first", &[19, 0, 1, 2, b'e', b'1'], 65_535, 65_535),
        ("from the usual port", &[19, 0], 67, 67),
        ("with a value, which it never has", &[19, 2, 4, 43], 1067, 67),
        ("cut off", &[1, 2, b'e', b'1', 19], 1067, 67),
        ("from port 0, which no reply reaches", &[19, 0], 0, 67),
    ];
    for (name, information, source, expected) in cases {
        let arrival = Arrival { source: SocketAddrV4::new(RELAY, source), ..from(RELAY, 67) };
        for kind in [DISCOVER, REQUEST, INFORM] {
            let message = Message::new(kind).giaddr(RELAY).option(82, information).address(50, ADDRESS);
            let (outcome, seen) = ask(message, &arrival, &machine(), FromNetwork, &server());
            let sent = outcome.verdict.unwrap();
            assert_eq!((sent.route, sent.source.port()), (to_relay(expected), 67), "{name}");
            assert_eq!(seen.unwrap().option(82), Some(information), "{name}");
        }
    }
    let direct = Message::new(DISCOVER).option(82, &[19, 0]);
    let arrival = Arrival { source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 1067), ..from_nowhere() };
    let (outcome, _) = ask(direct, &arrival, &machine(), FromNetwork, &server());
    assert!(matches!(outcome.verdict.unwrap().route, ReplyRoute::Hardware { .. }), "without a relay's address");
}

/// A relay sends a reply to the client's new address, unless the broadcast flag is set. So a reply without one needs the flag.
#[test]
fn reply_through_a_relay_that_assigns_no_address_is_to_be_broadcast() {
    const FLAG: u16 = BROADCAST_FLAG;
    let pxe = |kind| Message::new(kind).firmware("PXEClient", 7).giaddr(RELAY);
    let (near, boot) = (from(RELAY, 67), from(RELAY, 4011));
    let direct = Message::new(DISCOVER).firmware("PXEClient", 7);
    let other = Ipv4Addr::new(10, 0, 0, 51);
    let cases = [
        ("ProxyDHCP offer", proxy(), near, pxe(DISCOVER), FLAG, to_relay(67)),
        ("ProxyDHCP offer, flag set", proxy(), near, pxe(DISCOVER).broadcast(), FLAG, to_relay(67)),
        ("boot server's answer", proxy(), boot, pxe(REQUEST), FLAG, ReplyRoute::Source(boot.source)),
        (
            "the same with an address",
            proxy(),
            boot,
            pxe(REQUEST).ciaddr(ADDRESS),
            FLAG,
            ReplyRoute::Source(boot.source),
        ),
        ("the same of a DHCPINFORM", proxy(), boot, pxe(INFORM).ciaddr(ADDRESS), FLAG, ReplyRoute::Source(boot.source)),
        ("offer of an address", server(), near, pxe(DISCOVER), 0, to_relay(67)),
        ("offer of an address, flag set", server(), near, pxe(DISCOVER).broadcast(), FLAG, to_relay(67)),
        ("DHCPNAK", server(), near, pxe(REQUEST).address(50, other), FLAG, to_relay(67)),
        ("DHCPINFORM without an address", server(), near, pxe(INFORM), FLAG, to_relay(67)),
        ("DHCPINFORM from an address", server(), near, pxe(INFORM).ciaddr(ADDRESS), 0, ReplyRoute::Client(ADDRESS)),
        ("DHCPINFORM from no host", server(), near, pxe(INFORM).ciaddr(Ipv4Addr::BROADCAST), FLAG, to_relay(67)),
        ("renewal", server(), near, pxe(REQUEST).ciaddr(ADDRESS), 0, to_relay(67)),
        ("ProxyDHCP offer without a relay", proxy(), from_nowhere(), direct, 0, ReplyRoute::Broadcast),
    ];
    for (name, server, arrival, message, flags, route) in cases {
        let (outcome, seen) = ask(message, &arrival, &machine(), FromNetwork, &server);
        assert_eq!(outcome.verdict.map(|sent| sent.route), Ok(route), "{name}");
        assert_eq!(seen.unwrap().bytes[field::FLAGS], flags.to_be_bytes(), "{name}");
    }
}

#[test]
fn link_selection_outside_the_reservation_gets_no_offer() {
    let mut machine = machine();
    machine.prefix_length = Some(24);
    let through = |kind, link: [u8; 6]| Message::new(kind).giaddr(RELAY).option(82, &link);
    let wrong = [5, 4, 10, 9, 0, 0];
    let right = [5, 4, 10, 0, 0, 0];
    let verdict = |message| ask(message, &from(RELAY, 67), &machine, FromNetwork, &server()).0.verdict;
    assert_eq!(verdict(through(DISCOVER, wrong)), Err(Reason::WrongNetwork));
    let nak = verdict(through(REQUEST, wrong).address(50, ADDRESS)).map(|sent| sent.message);
    assert_eq!(nak, Ok(MessageType::Nak));
    assert!(verdict(through(DISCOVER, right)).is_ok());
    assert!(verdict(Message::new(DISCOVER).giaddr(RELAY)).is_ok(), "giaddr alone proves nothing");
}

/// The relay is answered all the same.
#[test]
fn relay_outside_the_network_of_the_machine_is_reported() {
    let near = Ipv4Addr::new(10, 0, 0, 254);
    let far = Ipv4Addr::new(10, 0, 1, 1);
    let wide = Machine { prefix_length: Some(23), ..machine() };
    let through = |relay| Message::new(DISCOVER).firmware("PXEClient", 7).giaddr(relay);
    let named = through(far).option(82, &[5, 4, 10, 0, 0, 0]);
    let cases = [
        ("its own rack's", through(near), machine(), server(), None),
        ("another rack's, by our own mask", through(far), machine(), server(), Some(far)),
        ("within the mask of its own", through(far), wide, server(), None),
        ("one that names the link", named, machine(), server(), None),
        ("beside another server", through(far), machine(), proxy(), None),
        ("no relay", Message::new(DISCOVER), machine(), server(), None),
    ];
    let foreign = |event: &EventKind| match event {
        EventKind::ForeignRelay { relay } => Some(*relay),
        _ => None,
    };
    for (name, message, machine, server, expected) in cases {
        let (outcome, _) = ask(message, &from(far, 67), &machine, FromNetwork, &server);
        let events: Vec<_> = outcome.events.into_iter().collect();
        assert!(matches!(events.last(), Some(EventKind::Offer { .. })), "{name}: {events:?}");
        assert_eq!(events.iter().find_map(foreign), expected, "{name}");
    }
    // One packet can make five events.
    let arm = Message::new(DISCOVER).firmware("PXEClient", 11).giaddr(far);
    let (outcome, _) = ask(arm, &from(far, 67), &machine(), Disk, &server());
    let events: Vec<_> = outcome.events.into_iter().collect();
    assert!(matches!(events.last(), Some(EventKind::Offer { .. })) && events.len() == 5, "{events:?}");
}
