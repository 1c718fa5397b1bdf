//! The network of a machine, from bytes to bytes.

use super::*;
use crate::{
    dhcp::testing::{DISCOVER, Message, SERVER, ask, from_nowhere, machine, server},
    model::policy::Disposition,
};

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn on_interface(server_address: Ipv4Addr, addresses: &[(&str, u8)]) -> Server {
    let addresses: Vec<_> = addresses.iter().map(|&(address, length)| (ip(address), length)).collect();
    Server { address: server_address, networks: Networks::around(server_address, &addresses), ..server() }
}

/// The server's address may have no network of its own: keepalived adds its addresses as /32. And the interface may have several
/// networks, of which the machine is in one, or in none if it is behind a relay.
#[test]
fn mask_and_router_come_from_the_network_that_holds_the_machine() {
    let vip = ip("10.0.0.5");
    type Case<'a> = (&'a str, &'a [(&'a str, u8)], (&'a str, Option<&'a str>), (u8, Option<&'a str>));
    let cases: [Case<'_>; 11] = [
        ("one network", &[("10.0.0.5", 24)], ("10.0.0.50", None), (24, Some("10.0.0.5"))),
        ("VIP", &[("10.0.0.1", 24), ("10.0.0.5", 32)], ("10.0.0.50", None), (24, Some("10.0.0.5"))),
        ("VIP first", &[("10.0.0.5", 32), ("10.0.0.1", 22)], ("10.0.3.50", None), (22, Some("10.0.0.5"))),
        ("other network", &[("10.0.0.5", 24), ("10.9.0.1", 16)], ("10.9.3.50", None), (16, Some("10.9.0.1"))),
        ("VIP elsewhere", &[("10.9.0.1", 16), ("10.0.0.5", 32)], ("10.9.3.50", None), (16, Some("10.9.0.1"))),
        ("relayed", &[("10.0.0.5", 24)], ("10.7.0.50", Some("10.7.0.1")), (24, Some("10.7.0.1"))),
        (
            "relayed, VIP",
            &[("10.0.0.1", 22), ("10.0.0.5", 32)],
            ("10.7.0.50", Some("10.7.3.1")),
            (22, Some("10.7.3.1")),
        ),
        (
            "relayed, several networks",
            &[("10.9.0.1", 16), ("10.0.0.1", 24), ("10.0.0.5", 32)],
            ("10.7.0.50", Some("10.7.0.1")),
            (24, Some("10.7.0.1")),
        ),
        (
            "relayed, VIP elsewhere",
            &[("10.9.0.1", 16), ("10.0.0.5", 32)],
            ("10.7.0.50", Some("10.7.9.1")),
            (16, Some("10.7.9.1")),
        ),
        ("nothing but the VIP", &[("10.0.0.5", 32)], ("10.0.0.50", None), (32, None)),
        ("point to point", &[("10.0.0.5", 31)], ("10.0.0.4", None), (31, Some("10.0.0.5"))),
    ];
    for (name, addresses, (address, relay), (prefix_length, router)) in cases {
        let server = on_interface(vip, addresses);
        let machine = Machine { address: ip(address), ..machine() };
        let message = || match relay {
            Some(relay) => Message::new(DISCOVER).giaddr(ip(relay)),
            None => Message::new(DISCOVER),
        };
        let offer = |machine| ask(message(), &from_nowhere(), machine, Disposition::Network, &server).1.unwrap();
        let seen = offer(&machine);
        assert_eq!(seen.address(1), Some(prefix::mask(prefix_length)), "{name}");
        assert_eq!(seen.address(3), router.map(ip), "{name}");
        assert_eq!(seen.address(54), Some(vip), "{name}");

        // The spec's mask and gateway take precedence.
        let machine = Machine { prefix_length: Some(20), gateway: Some(ip("10.0.15.254")), ..machine.clone() };
        let seen = offer(&machine);
        assert_eq!((seen.address(1), seen.address(3)), (Some(prefix::mask(20)), machine.gateway), "{name}");
    }
}

#[test]
fn reply_to_a_broadcast_of_any_network_comes_from_the_server() {
    let server = on_interface(SERVER, &[("10.0.0.1", 32), ("10.0.0.9", 24), ("10.9.0.1", 16)]);
    for broadcast in ["255.255.255.255", "10.0.0.255", "10.9.255.255"] {
        let mut arrival = from_nowhere();
        arrival.destination.set_ip(ip(broadcast));
        let (outcome, _) = ask(Message::new(DISCOVER), &arrival, &machine(), Disposition::Network, &server);
        assert_eq!(*outcome.verdict.unwrap().source.ip(), SERVER, "{broadcast}");
    }
}
