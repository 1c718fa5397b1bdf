//! Frames to the machine alone, and the unguessable parts of URLs.

use std::net::SocketAddrV4;

use pxe_common::MacAddr;

use super::*;
use crate::{
    dhcp::Arrival,
    guard::{Guard, Purpose},
    model::{
        boot_method::BootMethod,
        dhcp_answers::DhcpAnswers,
        machine_path::{MachineFile, MachinePath},
        secrets::Secrets,
        token::Token,
    },
};

const NOW: u32 = 1_795_000_000;
const ATTACKER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x66]);

fn guard() -> Arc<Guard> {
    Arc::new(Guard::new(&[7; 32]))
}

fn guarded_server() -> Server {
    Server { guard: Some(guard()), ..server() }
}

fn guarded_machine() -> Machine {
    Machine { secrets: Secrets::Guarded, ..machine() }
}

/// Returns the arrival of a broadcast in a frame of this sender.
fn from_mac(sender: MacAddr) -> Arrival {
    Arrival { sender, at: NOW, ..from_nowhere() }
}

fn ipxe(message: u8) -> Message {
    Message::new(message).option(77, b"iPXE")
}

/// Returns the token in the URL of a reply.
fn token_in(seen: &Seen) -> Option<Token> {
    let url = seen.text(67);
    assert!(seen.field_text(field::FILE).is_empty() || seen.field_text(field::FILE) == url, "{url}");
    let path = url.strip_prefix("http://10.0.0.1:8000").unwrap_or_default();
    MachinePath::split(path.as_bytes()).and_then(|(path, _)| path.token)
}

#[test]
fn answer_for_all_goes_to_the_hardware_address_that_asked() {
    use DhcpAnswers::{Broadcast, Unicast};
    let to_machine = ReplyRoute::AllByHardware(MAC);
    let hardware = ReplyRoute::Hardware { address: ADDRESS, mac: MAC };
    let nak = || Message::new(REQUEST).address(50, OTHER);
    let relay = ReplyRoute::Relay(SocketAddrV4::new(RELAY, 67));
    for (name, message, sender, answers, expected) in [
        ("flag", Message::new(DISCOVER).broadcast(), MAC, Unicast, to_machine),
        ("flag, ACK", Message::new(REQUEST).address(50, ADDRESS).broadcast(), MAC, Unicast, to_machine),
        ("flag, through a bridge", Message::new(DISCOVER).broadcast(), ATTACKER, Unicast, ReplyRoute::Broadcast),
        ("flag, annotated", Message::new(DISCOVER).broadcast(), MAC, Broadcast, ReplyRoute::Broadcast),
        ("no flag", Message::new(DISCOVER), MAC, Unicast, hardware),
        ("no flag, through a bridge", Message::new(DISCOVER), ATTACKER, Unicast, hardware),
        ("no flag, annotated", Message::new(DISCOVER), MAC, Broadcast, ReplyRoute::Broadcast),
        ("NAK", nak(), MAC, Unicast, to_machine),
        ("NAK, through a bridge", nak(), ATTACKER, Unicast, ReplyRoute::Broadcast),
        ("NAK, annotated", nak(), MAC, Broadcast, ReplyRoute::Broadcast),
        ("relayed", Message::new(DISCOVER).giaddr(RELAY).broadcast(), MAC, Unicast, relay),
        ("relayed, annotated", Message::new(DISCOVER).giaddr(RELAY), MAC, Broadcast, relay),
        ("renewal, annotated", Message::new(REQUEST).ciaddr(ADDRESS), MAC, Broadcast, ReplyRoute::Client(ADDRESS)),
    ] {
        let machine = Machine { answers, ..machine() };
        let (outcome, _) = ask(message, &from_mac(sender), &machine, FromNetwork, &server());
        assert_eq!(outcome.verdict.unwrap().route, expected, "{name}");
    }
    let (outcome, _) =
        ask(Message::new(DISCOVER).firmware("PXEClient", 7), &from_mac(MAC), &machine(), FromNetwork, &proxy());
    assert_eq!(outcome.verdict.unwrap().route, to_machine, "ProxyDHCP");
}

#[test]
fn script_of_a_machine_with_secrets_has_a_url_that_nobody_guesses() {
    let (server, machine) = (guarded_server(), guarded_machine());
    for message in [ipxe(DISCOVER), ipxe(REQUEST).address(50, ADDRESS), ipxe(DISCOVER).broadcast()] {
        let (outcome, seen) = ask(message, &from_mac(MAC), &machine, FromNetwork, &server);
        let (sent, seen) = (outcome.verdict.unwrap(), seen.unwrap());
        assert!(sent.has_token && sent.route != ReplyRoute::Broadcast, "{sent:?}");
        let token = token_in(&seen).expect("a token");
        assert_eq!((token.made, token.nonce), (NOW, 0xdead_beef));
        assert_eq!(guard().check(Purpose::Boot, Some(token), MAC, SERVER, NOW), Ok(token));
        assert!(seen.text(67).ends_with(".ipxe") && seen.text(67).len() < 128, "{}", seen.text(67));
        // What goes into logs has no part of it.
        assert!(!format!("{:?}", outcome.events).contains("http"), "{:?}", outcome.events);
    }
    // Another boot, another URL.
    let later = Arrival { at: NOW + 1, ..from_mac(MAC) };
    let url = |message, arrival: &Arrival| {
        ask(message, arrival, &machine, FromNetwork, &server).1.unwrap().text(67).to_owned()
    };
    let other_xid = ipxe(DISCOVER).field(field::XID, &[1, 2, 3, 4]);
    let urls = [url(ipxe(DISCOVER), &from_mac(MAC)), url(ipxe(DISCOVER), &later), url(other_xid, &from_mac(MAC))];
    assert!(urls[0] != urls[1] && urls[0] != urls[2] && urls[1] != urls[2], "{urls:?}");
}

#[test]
fn token_goes_to_nobody_but_the_machine() {
    let guarded = guarded_machine();
    let annotated = Machine { answers: DhcpAnswers::Broadcast, ..guarded_machine() };
    let remote = Machine { address: Ipv4Addr::new(10, 7, 0, 50), gateway: Some(RELAY), ..guarded_machine() };
    let near = Machine { gateway: Some(OTHER), ..guarded_machine() };
    let plain = machine();
    let by_address = Machine { secrets: Secrets::ByAddress, ..machine() };
    for (name, message, sender, machine, expected) in [
        ("machine", ipxe(DISCOVER), MAC, &guarded, true),
        ("machine, annotated with broadcast", ipxe(DISCOVER).broadcast(), MAC, &annotated, true),
        ("somebody with its chaddr", ipxe(DISCOVER), ATTACKER, &guarded, false),
        ("somebody with its chaddr and the flag", ipxe(DISCOVER).broadcast(), ATTACKER, &guarded, false),
        ("somebody who asks as its renewal", ipxe(REQUEST).ciaddr(ADDRESS), ATTACKER, &guarded, false),
        ("somebody who asks as its INFORM", ipxe(INFORM).ciaddr(OTHER), ATTACKER, &guarded, false),
        ("somebody who says to be a relay", ipxe(DISCOVER).giaddr(OTHER), ATTACKER, &guarded, false),
        ("the same, with its hardware address", ipxe(DISCOVER).giaddr(OTHER), MAC, &guarded, false),
        ("the same, as the gateway of this network", ipxe(DISCOVER).giaddr(OTHER), ATTACKER, &near, false),
        ("its gateway in another network", ipxe(DISCOVER).giaddr(RELAY), ATTACKER, &remote, true),
        ("another relay", ipxe(DISCOVER).giaddr(Ipv4Addr::new(10, 7, 0, 2)), ATTACKER, &remote, false),
        ("machine without secrets", ipxe(DISCOVER), MAC, &plain, false),
        ("machine with the annotation", ipxe(DISCOVER), MAC, &by_address, false),
    ] {
        let (outcome, seen) = ask(message, &from_mac(sender), machine, FromNetwork, &guarded_server());
        let (sent, seen) = (outcome.verdict.unwrap(), seen.unwrap());
        assert_eq!((sent.has_token, token_in(&seen).is_some()), (expected, expected), "{name}: {}", seen.text(67));
        assert!(!expected || sent.route != ReplyRoute::Broadcast, "{name}");
        // Whoever is not the machine still learns where its script would be.
        assert!(seen.text(67).starts_with("http://10.0.0.1:8000/boot/52-54-00-ab-cd-ef"), "{name}: {}", seen.text(67));
    }
    let trusted = Arrival { by_trusted_relay: true, ..from_mac(ATTACKER) };
    let (outcome, _) = ask(ipxe(DISCOVER).giaddr(OTHER), &trusted, &guarded, FromNetwork, &guarded_server());
    assert!(outcome.verdict.unwrap().has_token, "through a relay that the operator trusts");
    // A relay would broadcast it.
    let (_, seen) =
        ask(ipxe(DISCOVER).giaddr(RELAY).broadcast(), &from_mac(ATTACKER), &remote, FromNetwork, &guarded_server());
    assert_eq!(seen.unwrap().bytes[field::FLAGS], [0, 0]);
    // In ProxyDHCP, scripts are given to whoever asks.
    let (outcome, _) = ask(ipxe(DISCOVER), &from_mac(MAC), &guarded, FromNetwork, &proxy());
    assert!(!outcome.verdict.unwrap().has_token);
}

#[test]
fn what_holds_no_secrets_has_no_token() {
    let mut loaders = OwnLoaders::default();
    loaders.set(Some(LoaderFile::EfiX64), Some("shimx64.efi".into()));
    let by_uki = Machine { boot: BootMethod::Uki, ..guarded_machine() };
    let by_shim = Machine { loaders: Some(loaders.into()), ..by_uki.clone() };
    let http_boot = || Message::new(DISCOVER).firmware("HTTPClient", 16);
    let pxe = || Message::new(DISCOVER).firmware("PXEClient", 7);
    for (name, message, machine, expected) in [
        ("loader by TFTP", pxe(), guarded_machine(), None),
        ("loader by HTTP", http_boot(), guarded_machine(), None),
        ("plain client", Message::new(DISCOVER), guarded_machine(), None),
        ("image", http_boot(), by_uki, Some("talos.efi")),
        ("shim before an image", http_boot(), by_shim, Some("shimx64.efi")),
    ] {
        let (outcome, seen) = ask(message, &from_mac(MAC), &machine, FromNetwork, &guarded_server());
        assert_eq!(outcome.verdict.unwrap().has_token, expected.is_some(), "{name}");
        let seen = seen.unwrap();
        assert_eq!(token_in(&seen).is_some(), expected.is_some(), "{name}");
        if let Some(expected) = expected {
            let path = seen.text(67).strip_prefix("http://10.0.0.1:8000").unwrap();
            let (_, file) = MachinePath::split(path.as_bytes()).unwrap();
            assert_eq!(file, MachineFile::Below(expected.as_bytes()), "{name}");
        }
    }
}
