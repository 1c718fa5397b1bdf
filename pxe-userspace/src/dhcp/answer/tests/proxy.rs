//! Answers beside another server, which gives the addresses (`--mode proxy`).

use super::*;

#[test]
fn proxy_mode_names_the_file_and_never_an_address() {
    let uefi = Message::new(DISCOVER).firmware("PXEClient", 7);
    let bios = Message::new(DISCOVER).firmware("PXEClient", 0);
    let http = Message::new(DISCOVER).firmware("HTTPClient", 16);
    let ipxe = Message::new(DISCOVER).firmware("PXEClient", 7).option(77, b"iPXE");
    for (message, class, vendor, file) in [
        (uefi, "PXEClient", None, "ipxe-efi-x86_64.efi"),
        (bios, "PXEClient", Some(&[6, 1, 8, 255][..]), "undionly.kpxe"),
        (http, "HTTPClient", None, "http://10.0.0.1:8000/assets/ipxe-efi-x86_64.efi"),
        (ipxe, "PXEClient", None, "http://10.0.0.1:8000/boot/52-54-00-ab-cd-ef.ipxe"),
    ] {
        let (outcome, seen) = ask(message, &from_nowhere(), &machine(), FromNetwork, &proxy());
        let seen = seen.unwrap();
        assert_eq!(outcome.verdict.unwrap().route, ReplyRoute::Broadcast, "{file}: nothing to unicast to");
        assert_eq!(seen.field_address(field::YIADDR), Ipv4Addr::UNSPECIFIED);
        assert_eq!(seen.address(54), Some(SERVER));
        assert_eq!((seen.text(60), seen.option(43), seen.text(67)), (class, vendor, file));
        for network in [1, 3, 6, 12, 28, 51, 58, 59, 175] {
            assert_eq!(seen.option(network), None, "{file}: option {network}");
        }
    }
}

#[test]
fn proxy_mode_answers_again_on_the_boot_server_port() {
    for kind in [REQUEST, INFORM] {
        let message = Message::new(kind).ciaddr(ADDRESS).firmware("PXEClient", 7);
        let (outcome, seen) = ask(message, &from(ADDRESS, 4011), &machine(), FromNetwork, &proxy());
        let sent = outcome.verdict.unwrap();
        assert_eq!(sent.message, MessageType::Ack);
        assert_eq!((sent.source.port(), sent.route), (4011, ReplyRoute::Source(from(ADDRESS, 4011).source)));
        let seen = seen.unwrap();
        assert_eq!(seen.field_address(field::CIADDR), ADDRESS);
        assert_eq!(seen.field_address(field::YIADDR), Ipv4Addr::UNSPECIFIED);
        assert_eq!(seen.text(67), "ipxe-efi-x86_64.efi");
    }
    for kind in [DISCOVER, DECLINE, RELEASE] {
        for server in [proxy(), server()] {
            let message = Message::new(kind).firmware("PXEClient", 7);
            let (outcome, _) = ask(message, &from(ADDRESS, 4011), &machine(), FromNetwork, &server);
            assert_eq!(outcome.verdict, Err(Reason::BootServerPort), "type {kind}");
        }
    }
    for kind in [2, 5, 6, 9] {
        let message = Message::new(kind).firmware("PXEClient", 7);
        let (outcome, _) = ask(message, &from(ADDRESS, 4011), &machine(), FromNetwork, &proxy());
        assert_eq!(outcome.verdict, Err(Reason::NotAClientMessage), "type {kind}");
    }
    let to_other = Message::new(REQUEST).address(54, OTHER).firmware("PXEClient", 7);
    let (outcome, _) = ask(to_other, &from(ADDRESS, 4011), &machine(), FromNetwork, &proxy());
    assert_eq!(outcome.verdict, Err(Reason::OtherServer));
}

#[test]
fn proxy_mode_leaves_addresses_to_the_other_server() {
    let pxe = |kind| Message::new(kind).firmware("PXEClient", 7);
    let cases = [
        (Message::new(DISCOVER), FromNetwork, Reason::NothingToSay),
        (pxe(REQUEST).address(54, OTHER).address(50, ADDRESS), FromNetwork, Reason::NothingToSay),
        (pxe(REQUEST).address(50, OTHER), FromNetwork, Reason::NothingToSay),
        (pxe(INFORM).ciaddr(ADDRESS), FromNetwork, Reason::NothingToSay),
        (pxe(RELEASE), FromNetwork, Reason::NothingToSay),
        (Message::new(DISCOVER).firmware("PXEClient", 41), Disk, Reason::SentToDisk),
        (Message::new(DISCOVER).firmware("PXEClient", 2), FromNetwork, Reason::NoLoader),
    ];
    for (index, (message, disposition, reason)) in cases.into_iter().enumerate() {
        let (outcome, _) = ask(message, &from_nowhere(), &machine(), disposition, &proxy());
        assert_eq!(outcome.verdict, Err(reason), "case {index}");
    }
}

#[test]
fn proxy_mode_reports_requests_for_an_address_of_the_other_server() {
    let message = || Message::new(REQUEST).address(54, OTHER).address(50, ADDRESS);
    let cases = [
        (message(), from_nowhere(), proxy(), true),
        (message().firmware("PXEClient", 7), from_nowhere(), proxy(), true),
        (message().firmware("PXEClient", 7), from(ADDRESS, 4011), proxy(), false),
        (message(), from_nowhere(), server(), false),
    ];
    for (message, arrival, server, expected) in cases {
        let (outcome, _) = ask(message, &arrival, &machine(), FromNetwork, &server);
        let Some(EventKind::Request { of_other_server, other_server, .. }) = outcome.events.into_iter().next() else {
            panic!()
        };
        assert_eq!(of_other_server, expected, "{arrival:?} {:?}", server.mode);
        assert_eq!(other_server, Some(OTHER), "{arrival:?} {:?}", server.mode);
    }
    let (outcome, seen) = ask(message(), &from_nowhere(), &machine(), FromNetwork, &proxy());
    assert!(seen.is_none() && outcome.events.into_iter().count() == 1, "heard but not answered");
}
