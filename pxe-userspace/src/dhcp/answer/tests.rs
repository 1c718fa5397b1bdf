//! The answer to each message, from bytes to bytes.

use super::*;
use crate::{
    dhcp::{
        Outcome, ReplyRoute, Sent,
        testing::{
            ADDRESS, DECLINE, DISCOVER, INFORM, MAC, Message, OTHER, RELAY, RELEASE, REQUEST, SERVER, Seen, ask, from,
            from_nowhere, machine, proxy, server,
        },
        wire::code,
    },
    model::{
        architecture::Architecture,
        boot_method::BootMethod,
        event::{BootFileName, EventKind, Signs},
        loader::{LOADER_FILE_LIMIT, LOADER_NAME_LIMIT, LoaderFile, OwnLoaders},
    },
};
mod own_addresses;
mod own_files;
mod proxy;
mod relay;
mod secrets;

use crate::net::networks::Networks;
use Disposition::{Disk, Network as FromNetwork};
use pxe_common::bootp::field;
use relay::to_relay;
use std::sync::Arc;

fn asked(message: Message) -> (Outcome, Option<Seen>) {
    ask(message, &from_nowhere(), &machine(), FromNetwork, &server())
}

fn sent(message: Message) -> (Sent, Seen) {
    let (outcome, seen) = asked(message);
    (outcome.verdict.unwrap(), seen.unwrap())
}

fn silence(message: Message) -> Option<Reason> {
    asked(message).0.verdict.err()
}

#[test]
fn discover_is_offered_the_reservation_whatever_it_requests() {
    let (sent, seen) = sent(Message::new(DISCOVER).address(50, OTHER).address(54, OTHER));
    assert_eq!(sent.message, MessageType::Offer);
    assert_eq!(seen.option(53), Some(&[2][..]));
    assert_eq!(seen.field_address(field::YIADDR), ADDRESS);
    assert_eq!(seen.field_address(field::SIADDR), Ipv4Addr::UNSPECIFIED, "nothing to boot");
    assert_eq!(seen.address(54), Some(SERVER));
    assert_eq!(seen.option(51), Some(&3600_u32.to_be_bytes()[..]));
    assert_eq!(seen.option(58), Some(&1800_u32.to_be_bytes()[..]));
    assert_eq!(seen.option(59), Some(&3150_u32.to_be_bytes()[..]));
    assert_eq!(seen.address(1), Some(Ipv4Addr::new(255, 255, 255, 0)));
    assert_eq!(seen.address(3), Some(SERVER));
    assert_eq!(seen.address(6), Some(Ipv4Addr::new(9, 9, 9, 9)));
    assert_eq!(seen.address(28), Some(Ipv4Addr::new(10, 0, 0, 255)));
    assert_eq!(seen.text(12), "worker-1");
    for boot in [43, 60, 66, 67, 175] {
        assert_eq!(seen.option(boot), None, "option {boot} for an operating system");
    }
}

#[test]
fn parameter_list_selects_the_options_beside_the_fixed_ones() {
    let (_, seen) = sent(Message::new(DISCOVER).option(55, &[3, 28]));
    assert_eq!(seen.order, [53, 54, 51, 1, 3, 28]);
}

/// RFC 2131 §4.3.2: selecting, init-reboot, renewing, rebinding.
#[test]
fn requests_are_acknowledged_refused_or_ignored_by_their_state() {
    let new = || Message::new(REQUEST);
    let elsewhere = Ipv4Addr::new(10, 0, 0, 51);
    let ack = Ok(MessageType::Ack);
    let nak = Ok(MessageType::Nak);
    let unicast = from(ADDRESS, 67);
    let cases = [
        ("selecting us", from_nowhere(), new().address(54, SERVER).address(50, ADDRESS), ack),
        ("selecting us, another address", from_nowhere(), new().address(54, SERVER).address(50, elsewhere), nak),
        ("selecting us, no address", from_nowhere(), new().address(54, SERVER), Err(Reason::NoAddress)),
        ("selecting another", from_nowhere(), new().address(54, OTHER).address(50, ADDRESS), Err(Reason::OtherServer)),
        (
            "selecting another, another address",
            from_nowhere(),
            new().address(54, OTHER).address(50, elsewhere),
            Err(Reason::OtherServer),
        ),
        ("init-reboot", from_nowhere(), new().address(50, ADDRESS), ack),
        ("init-reboot, another address", from_nowhere(), new().address(50, elsewhere), nak),
        ("renewing", unicast, new().ciaddr(ADDRESS), ack),
        ("renewing another address", from(elsewhere, 67), new().ciaddr(elsewhere), nak),
        ("rebinding", from_nowhere(), new().ciaddr(ADDRESS), ack),
        ("rebinding another address", from_nowhere(), new().ciaddr(elsewhere), nak),
        ("renewing with option 50 too", unicast, new().ciaddr(ADDRESS).address(50, ADDRESS), ack),
        ("nothing said", from_nowhere(), new(), Err(Reason::NoAddress)),
    ];
    for (name, arrival, message, expected) in cases {
        let (outcome, seen) = ask(message, &arrival, &machine(), FromNetwork, &server());
        assert_eq!(outcome.verdict.map(|sent| sent.message), expected, "{name}");
        let Some(seen) = seen else { continue };
        if expected == ack {
            assert_eq!(seen.field_address(field::YIADDR), ADDRESS, "{name}");
            assert_eq!(seen.option(51), Some(&3600_u32.to_be_bytes()[..]), "{name}");
        } else {
            // RFC 2131 table 3: a DHCPNAK gives nothing but its reason.
            assert_eq!(seen.order, [53, 54, 56], "{name}");
            for empty in [field::CIADDR, field::YIADDR, field::SIADDR] {
                assert_eq!(seen.field_address(empty), Ipv4Addr::UNSPECIFIED, "{name}");
            }
        }
    }
}

#[test]
fn inform_gets_parameters_without_an_address_or_a_lease() {
    let (outcome, seen) = ask(Message::new(INFORM).ciaddr(OTHER), &from(OTHER, 67), &machine(), FromNetwork, &server());
    let seen = seen.unwrap();
    assert_eq!(outcome.verdict.unwrap().route, ReplyRoute::Client(OTHER));
    assert_eq!(seen.field_address(field::YIADDR), Ipv4Addr::UNSPECIFIED);
    assert_eq!(seen.field_address(field::CIADDR), OTHER);
    assert_eq!(seen.address(3), Some(SERVER));
    for lease in [51, 58, 59] {
        assert_eq!(seen.option(lease), None, "option {lease}");
    }
}

/// The client has the address that it reports, whatever is reserved for it.
#[test]
fn inform_gets_a_mask_and_a_router_that_fit_its_own_address() {
    let ip = |text: &str| text.parse::<Ipv4Addr>().unwrap();
    let networks = Networks::around(SERVER, &[(SERVER, 24), (ip("192.168.7.1"), 28)]);
    let server = Server { networks, ..server() };
    let usual = machine();
    let far = Machine { address: ip("10.9.0.50"), prefix_length: Some(20), gateway: Some(ip("10.9.0.1")), ..machine() };
    let beside = Machine { gateway: Some(OTHER), ..machine() };
    let nobody = Ipv4Addr::UNSPECIFIED;
    let [wide, slash_24, slash_28] = [20, 24, 28].map(prefix::mask);
    let cases = [
        ("its own address", &usual, ADDRESS, ADDRESS, Some(slash_24), Some(SERVER)),
        ("one beside it", &usual, OTHER, OTHER, Some(slash_24), Some(SERVER)),
        ("the router's", &beside, OTHER, OTHER, Some(slash_24), None),
        ("another network of the interface", &usual, ip("192.168.7.9"), nobody, Some(slash_28), None),
        ("a foreign network", &usual, ip("172.16.0.9"), nobody, None, None),
        ("a far machine's", &far, far.address, far.address, Some(wide), Some(ip("10.9.0.1"))),
        ("our network, with a far reservation", &far, ADDRESS, ADDRESS, Some(slash_24), None),
        ("none, sent from a foreign network", &usual, nobody, ip("172.16.0.9"), None, None),
        ("none, sent from its own", &usual, nobody, ADDRESS, Some(slash_24), Some(SERVER)),
        ("none at all", &usual, nobody, nobody, Some(slash_24), Some(SERVER)),
    ];
    for (name, machine, ciaddr, source, mask, router) in cases {
        let (_, seen) = ask(Message::new(INFORM).ciaddr(ciaddr), &from(source, 68), machine, FromNetwork, &server);
        let seen = seen.unwrap();
        assert_eq!((seen.address(1), seen.address(3)), (mask, router), "{name}");
        assert_eq!(seen.address(28).is_some(), mask.is_some(), "{name}");
        if let (Some(broadcast), false) = (seen.address(28), ciaddr.is_unspecified()) {
            let length = mask.map_or(32, |mask| mask.to_bits().count_ones() as u8);
            assert_eq!(Some(broadcast), prefix::broadcast(ciaddr, length), "{name}");
        }
        assert_eq!((seen.address(6), seen.text(12)), (Some(Ipv4Addr::new(9, 9, 9, 9)), "worker-1"), "{name}");
    }
}

#[test]
fn decline_and_release_are_events_without_a_reply() {
    let decline = Message::new(DECLINE).address(50, ADDRESS).address(54, SERVER);
    let (outcome, _) = asked(decline);
    assert_eq!(outcome.verdict, Err(Reason::NoReplyDue));
    assert_eq!(outcome.events.into_iter().collect::<Vec<_>>(), [EventKind::Decline { address: ADDRESS }]);
    let (outcome, _) = asked(Message::new(RELEASE).ciaddr(ADDRESS).address(54, SERVER));
    assert_eq!(outcome.verdict, Err(Reason::NoReplyDue));
    assert_eq!(outcome.events.into_iter().collect::<Vec<_>>(), [EventKind::Release]);
    assert_eq!(silence(Message::new(RELEASE).ciaddr(ADDRESS).address(54, OTHER)), Some(Reason::OtherServer));
}

#[test]
fn messages_of_servers_strangers_and_impossible_relays_are_ignored() {
    for message in [0, 2, 5, 6, 9, 10, 200] {
        let replayed = Message::new(message).address(54, SERVER);
        assert_eq!(silence(replayed), Some(Reason::NotAClientMessage), "type {message}");
    }
    let stranger = Message::new(DISCOVER).field(field::CHADDR, &[2, 0, 0, 0, 0, 9]);
    let (outcome, _) = asked(stranger);
    assert_eq!((outcome.mac, outcome.verdict), (None, Err(Reason::UnknownMachine)));
    for giaddr in [SERVER, Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 1)] {
        assert_eq!(silence(Message::new(DISCOVER).giaddr(giaddr)), Some(Reason::BadRelay), "{giaddr}");
    }
}

/// Architecture, class, then options 43 and 66, and the file.
#[test]
fn firmware_classes_get_their_boot_fields() {
    const NO_DISCOVERY: &[u8] = &[6, 1, 8, 255];
    let url = |file: &str| format!("http://10.0.0.1:8000/assets/{file}");
    let x64 = || "ipxe-efi-x86_64.efi".to_owned();
    let arm64 = || "ipxe-efi-arm64.efi".to_owned();
    let cases = [
        (0, "PXEClient:Arch:00000", Some(NO_DISCOVERY), true, "undionly.kpxe".to_owned()),
        (6, "PXEClient:Arch:00006", Some(NO_DISCOVERY), true, "ipxe-efi-i386.efi".to_owned()),
        (7, "PXEClient:Arch:00007", Some(NO_DISCOVERY), true, x64()),
        (9, "PXEClient:Arch:00009", Some(NO_DISCOVERY), true, x64()),
        (11, "PXEClient:Arch:00011", Some(NO_DISCOVERY), true, arm64()),
        (22, "U-Boot.armv8", Some(NO_DISCOVERY), true, arm64()),
        (15, "HTTPClient:Arch:00015", None, false, url("ipxe-efi-i386.efi")),
        (16, "HTTPClient:Arch:00016", None, false, url("ipxe-efi-x86_64.efi")),
        (19, "HTTPClient:Arch:00019", None, false, url("ipxe-efi-arm64.efi")),
    ];
    for (architecture, class, vendor, by_tftp, file) in cases {
        let (_, seen) = sent(Message::new(DISCOVER).firmware(class, architecture));
        let expected = if by_tftp { "PXEClient" } else { "HTTPClient" };
        assert_eq!(seen.text(code::VENDOR_CLASS), expected, "{class}");
        assert_eq!(seen.option(code::VENDOR_SPECIFIC), vendor, "{class}");
        assert_eq!(seen.text(code::TFTP_SERVER), if by_tftp { "10.0.0.1" } else { "" }, "{class}");
        assert_eq!(seen.field_text(field::SNAME), if by_tftp { "10.0.0.1" } else { "" }, "{class}");
        assert_eq!(seen.field_address(field::SIADDR), SERVER, "{class}");
        assert_eq!(seen.text(code::BOOT_FILE), file, "{class}");
        assert_eq!(seen.field_text(field::FILE), file, "{class}");
        assert_eq!(seen.option(code::IPXE), None, "{class}");
    }
}

#[test]
fn ipxe_gets_its_script_and_is_told_not_to_wait() {
    let (_, seen) = sent(Message::new(DISCOVER).firmware("PXEClient", 7).option(77, b"iPXE"));
    let url = "http://10.0.0.1:8000/boot/52-54-00-ab-cd-ef.ipxe";
    assert_eq!((seen.text(67), seen.field_text(field::FILE)), (url, url));
    assert_eq!(seen.option(175), Some(&[176, 1, 1][..]));
    assert_eq!((seen.option(60), seen.option(43)), (None, None));
    let (_, seen) = sent(Message::new(DISCOVER).firmware("PXEClient", 0).option(175, &[0x15, 1, 1]));
    assert_eq!(seen.text(67), "undionly.kpxe", "an iPXE without HTTP gets one that has it");
}

#[test]
fn raspberry_pi_gets_the_menu_that_it_requires() {
    let (_, seen) = sent(Message::new(DISCOVER).firmware("PXEClient", 0).option(97, b"\x00RPi4"));
    let menu = seen.option(43).unwrap();
    assert!(menu.windows(17).any(|window| window == b"Raspberry Pi Boot"));
    assert_eq!(menu.last(), Some(&255));
    let (outcome, _) = asked(Message::new(DISCOVER).firmware("PXEClient", 0).option(97, b"\x00RPi4"));
    let said: Vec<_> = outcome.events.iter().map(ToString::to_string).collect();
    assert!(said[0].contains("(Raspberry Pi)"), "its ROM says 0, like a PC's BIOS: {said:?}");
}

/// U-Boot takes the server of its configuration from `siaddr`, and the directory from the boot file's name.
#[test]
fn u_boot_without_an_architecture_gets_an_address_and_its_server() {
    for (server, yiaddr) in [(server(), ADDRESS), (proxy(), Ipv4Addr::UNSPECIFIED)] {
        let message = Message::new(DISCOVER).option(57, &[2, 64]).option(60, b"U-Boot").option(94, &[1, 0, 0]);
        let (_, seen) = ask(message, &from_nowhere(), &machine(), FromNetwork, &server);
        let seen = seen.unwrap();
        assert_eq!(seen.field_address(field::YIADDR), yiaddr);
        assert_eq!((seen.field_address(field::SIADDR), seen.address(54)), (SERVER, Some(SERVER)));
        assert_eq!((seen.text(66), seen.field_text(field::SNAME)), ("10.0.0.1", "10.0.0.1"));
        assert_eq!((seen.text(67), seen.field_text(field::FILE)), ("ipxe-efi-x86_64.efi", "ipxe-efi-x86_64.efi"));
    }
}

#[test]
fn firmware_of_the_wrong_architecture_gets_its_own_loader_and_is_reported() {
    let (outcome, seen) = asked(Message::new(DISCOVER).firmware("PXEClient", 11));
    assert_eq!(seen.unwrap().text(67), "ipxe-efi-arm64.efi");
    assert!(outcome.events.into_iter().any(|event| event == EventKind::WrongArchitecture { client_architecture: 11 }));
    let (outcome, seen) = asked(Message::new(DISCOVER).firmware("PXEClient:Arch:00006:UNDI:003000", 6));
    assert_eq!(seen.unwrap().text(67), "ipxe-efi-i386.efi", "what its firmware can start");
    assert!(outcome.events.into_iter().any(|event| event == EventKind::WrongArchitecture { client_architecture: 6 }));
    let (_, seen) = sent(Message::new(DISCOVER).firmware("PXEClient", 2));
    assert_eq!((seen.option(60), seen.option(67)), (None, None), "Itanium has no loader");
    let mut arm = machine();
    arm.architecture = Architecture::Arm64;
    let (_, seen) = ask(Message::new(DISCOVER).option(60, b"PXEClient"), &from_nowhere(), &arm, FromNetwork, &server());
    assert_eq!(seen.unwrap().text(67), "ipxe-efi-arm64.efi", "without option 93, the spec's architecture counts");
}

#[test]
fn machine_for_its_disk_is_given_a_file_that_is_refused() {
    let url = "http://10.0.0.1:8000/boot-from-disk";
    let script = "http://10.0.0.1:8000/boot/52-54-00-ab-cd-ef.ipxe";
    let pi = Message::new(DISCOVER).firmware("PXEClient", 41);
    let cases = [
        (Message::new(DISCOVER).firmware("PXEClient", 7), "boot-from-disk", true),
        (Message::new(DISCOVER).firmware("PXEClient", 0).option(175, &[0x15, 1, 1]), "boot-from-disk", true),
        (Message::new(DISCOVER).firmware("HTTPClient", 16), url, true),
        (Message::new(DISCOVER).firmware("PXEClient", 7).option(77, b"iPXE"), script, false),
        (pi, "", true),
        (Message::new(DISCOVER), "", false),
    ];
    for (message, file, told) in cases {
        let (outcome, seen) = ask(message.clone(), &from_nowhere(), &machine(), Disk, &server());
        let seen = seen.unwrap();
        assert_eq!(seen.field_address(field::YIADDR), ADDRESS);
        assert_eq!((seen.text(67), seen.field_text(field::FILE)), (file, file));
        assert_eq!(seen.text(66), if file == "boot-from-disk" { "10.0.0.1" } else { "" });
        assert_eq!(outcome.events.into_iter().any(|event| event == EventKind::SentToDisk), told, "{file}");
        let (_, seen) = ask(message, &from_nowhere(), &machine(), Disk, &proxy());
        assert_eq!(seen.map_or(String::new(), |seen| seen.text(67).to_owned()), file, "ProxyDHCP");
    }
}

#[test]
fn router_is_reachable_for_the_machine() {
    let mut machine = machine();
    let router = |machine: &Machine, message: Message| {
        ask(message, &from_nowhere(), machine, FromNetwork, &server()).1.unwrap().address(3)
    };
    assert_eq!(router(&machine, Message::new(DISCOVER)), Some(SERVER));
    machine.address = Ipv4Addr::new(10, 7, 0, 50);
    assert_eq!(router(&machine, Message::new(DISCOVER)), None, "we are not on its network");
    assert_eq!(router(&machine, Message::new(DISCOVER).giaddr(RELAY)), Some(RELAY));
    let network_address = Message::new(DISCOVER).giaddr(OTHER).option(82, &[5, 4, 10, 7, 0, 0]);
    assert_eq!(router(&machine, network_address), None, "a network's own address routes nothing");
    machine.gateway = Some(Ipv4Addr::new(10, 7, 0, 254));
    assert_eq!(router(&machine, Message::new(DISCOVER).giaddr(RELAY)), machine.gateway);
}

/// RFC 2131 §4.1.
#[test]
fn replies_take_the_route_of_the_rfc() {
    let hardware = ReplyRoute::Hardware { address: ADDRESS, mac: MAC };
    let nowhere = from_nowhere();
    let bound = from(ADDRESS, 67);
    let cases = [
        ("no flag", nowhere, Message::new(DISCOVER), hardware),
        ("broadcast flag", nowhere, Message::new(DISCOVER).broadcast(), ReplyRoute::Broadcast),
        ("relay", from(RELAY, 67), Message::new(DISCOVER).giaddr(RELAY).broadcast(), to_relay(67)),
        ("renewing", bound, Message::new(REQUEST).ciaddr(ADDRESS), ReplyRoute::Client(ADDRESS)),
        ("renewing, flag set", bound, Message::new(REQUEST).ciaddr(ADDRESS).broadcast(), ReplyRoute::Client(ADDRESS)),
        ("refused", bound, Message::new(REQUEST).ciaddr(OTHER), ReplyRoute::Broadcast),
        ("inform without ciaddr", bound, Message::new(INFORM), ReplyRoute::Source(bound.source)),
        ("inform from nowhere", nowhere, Message::new(INFORM), ReplyRoute::Broadcast),
    ];
    let route_of = |message, arrival| {
        let (outcome, _) = ask(message, &arrival, &machine(), FromNetwork, &server());
        outcome.verdict.map(|sent| sent.route)
    };
    for (name, arrival, message, route) in cases {
        assert_eq!(route_of(message, arrival), Ok(route), "{name}");
    }
    for no_host in [[127, 0, 0, 1], [224, 0, 0, 1], [255; 4], [0, 0, 0, 9]].map(Ipv4Addr::from) {
        let inform = || Message::new(INFORM).ciaddr(no_host);
        assert_eq!(route_of(inform(), bound), Ok(ReplyRoute::Source(bound.source)), "{no_host}");
        assert_eq!(route_of(inform(), nowhere), Ok(ReplyRoute::Broadcast), "{no_host}");
        assert_eq!(route_of(Message::new(DISCOVER).ciaddr(no_host), nowhere), Ok(hardware), "{no_host}");
    }
}

#[test]
fn reply_comes_from_the_address_that_was_spoken_to() {
    let source = |destination: Ipv4Addr| {
        let mut arrival = from_nowhere();
        arrival.destination.set_ip(destination);
        *ask(Message::new(DISCOVER), &arrival, &machine(), FromNetwork, &server()).0.verdict.unwrap().source.ip()
    };
    let second = Ipv4Addr::new(192, 0, 2, 7);
    assert_eq!(source(Ipv4Addr::BROADCAST), SERVER);
    assert_eq!(source(Ipv4Addr::new(10, 0, 0, 255)), SERVER);
    assert_eq!(source(SERVER), SERVER);
    assert_eq!(source(second), second);
}

#[test]
fn exchange_makes_four_events_in_order() {
    let (outcome, _) = asked(Message::new(DISCOVER).firmware("PXEClient", 7));
    let (client, signs) = (ClientKind::Pxe, Signs::None);
    let client_architecture = Some(7);
    let boot_file = Some(BootFileName::Loader(LoaderFile::EfiX64));
    let address = Some(ADDRESS);
    let events: Vec<_> = outcome.events.into_iter().collect();
    let offer = EventKind::Offer { address, boot_file: boot_file.clone() };
    assert_eq!(events, [EventKind::Discover { client, client_architecture }, offer]);
    let (outcome, _) = asked(Message::new(REQUEST).firmware("PXEClient", 7).address(54, SERVER).address(50, ADDRESS));
    let events: Vec<_> = outcome.events.into_iter().collect();
    let ack = EventKind::Ack { address, client, signs, boot_file };
    let (of_other_server, other_server) = (false, None);
    let request = EventKind::Request { client, client_architecture, of_other_server, other_server, signs };
    assert_eq!(events, [request, ack]);
    let (outcome, _) = asked(Message::new(REQUEST).address(54, OTHER));
    let ignored = EventKind::Ignored { reason: Reason::OtherServer.text() };
    assert_eq!(outcome.events.into_iter().last(), Some(ignored));
}

#[test]
fn signs_of_an_operating_system_are_reported() {
    let signs_of = |message: Message, server: &Server| {
        let (outcome, _) = ask(message, &from_nowhere(), &machine(), FromNetwork, server);
        outcome.events.iter().find_map(EventKind::plain_exchange)
    };
    let talos: &[u8] = &[1, 3, 15, 6, 121, 119, 42, 26, 12];
    let request = || Message::new(REQUEST).address(50, ADDRESS).address(54, SERVER);
    assert_eq!(signs_of(request().option(55, talos), &server()), Some(Signs::Talos));
    assert_eq!(signs_of(request().option(55, &[1, 3, 6, 15]), &server()), Some(Signs::None));
    assert_eq!(signs_of(request().option(55, talos).firmware("PXEClient", 7), &server()), None);
    let to_other = Message::new(REQUEST).address(50, ADDRESS).address(54, OTHER);
    assert_eq!(signs_of(to_other.option(55, talos), &proxy()), Some(Signs::Talos));
}

/// Beside another server there is no ACK of ours to show that an operating system came up, only its REQUEST.
#[test]
fn other_server_is_named_unless_it_is_ours() {
    let named = |message: Message, server: &Server| {
        let (outcome, _) = ask(message, &from_nowhere(), &machine(), FromNetwork, server);
        outcome.events.iter().find_map(|event| match event {
            EventKind::Request { other_server, .. } => Some(*other_server),
            _ => None,
        })
    };
    let request = || Message::new(REQUEST).address(50, ADDRESS);
    for (message, server, expected) in [
        (request().address(54, OTHER), server(), Some(Some(OTHER))),
        (request().address(54, SERVER), server(), Some(None)),
        (request(), server(), Some(None)),
        // The server that gives the addresses may be on this host.
        (request().address(54, SERVER), proxy(), Some(Some(SERVER))),
        (request(), proxy(), Some(None)),
        (Message::new(DISCOVER).address(54, OTHER), server(), None),
    ] {
        assert_eq!(named(message, &server), expected);
    }
}

/// Users' scripts read this JSON.
#[test]
fn boot_file_is_a_string_in_json() {
    let (outcome, _) = asked(Message::new(DISCOVER).firmware("PXEClient", 7));
    let json = serde_json::to_value(outcome.events.into_iter().last()).unwrap();
    assert_eq!(json["boot_file"], "ipxe-efi-x86_64.efi");
    let (outcome, _) = asked(Message::new(DISCOVER).option(77, b"iPXE"));
    let json = serde_json::to_value(outcome.events.into_iter().last()).unwrap();
    assert_eq!((&json["event"], &json["boot_file"]), (&"offer".into(), &"script".into()));
}

/// A release build would cut a name that does not fit.
#[test]
fn longest_boot_file_names_fit() {
    let server = Server { address: Ipv4Addr::BROADCAST, http_port: u16::MAX, ..server() };
    let path = MachinePath { mac: MAC, token: Some(Token { made: 0, nonce: 0, tag: [0; 16] }) };
    let longest: Arc<str> = "n".repeat(LOADER_NAME_LIMIT).into();
    let loaders = LoaderFile::ALL.map(Loader::Usual).into_iter().chain([Loader::Own(&longest)]);
    let files = loaders.flat_map(|loader| [BootFile::Tftp(loader), BootFile::Http(loader)]);
    let longest_file: Arc<str> = format!("shim/{}", "f".repeat(LOADER_FILE_LIMIT)).into();
    let of_machine = [BootFile::Script, BootFile::Disk, BootFile::Uki, BootFile::LoaderOfUki(&longest_file)];
    for file in files.chain(of_machine) {
        for by_http in [false, true] {
            let name = name(file, by_http, &server, path);
            let wanted = match file {
                BootFile::Tftp(loader) | BootFile::Http(loader) => loader.name(),
                BootFile::Script => ".ipxe",
                BootFile::Disk => BOOT_FROM_DISK,
                BootFile::Uki => "/talos.efi",
                BootFile::LoaderOfUki(name) => file_name(name),
            };
            assert!(name.ends_with(wanted), "{file:?}: {name}");
        }
    }
    for longest in [BootFile::Http(Loader::Own(&longest)), BootFile::LoaderOfUki(&longest_file)] {
        assert_eq!(name(longest, true, &server, path).remaining_capacity(), 0);
    }
}
