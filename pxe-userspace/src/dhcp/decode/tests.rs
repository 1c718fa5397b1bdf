use super::*;
use crate::dhcp::testing::{ADDRESS, DISCOVER, Message, OTHER, REQUEST, SERVER};

/// Crafted packets, and the reason for which each is dropped.
#[test]
fn crafted_packets_are_dropped_with_their_reason() {
    let good = || Message::new(DISCOVER);
    let cases: Vec<(&str, Vec<u8>, Reason)> = vec![
        ("nothing", vec![], Reason::Length),
        ("a header without its last byte", good().bytes()[..239].to_vec(), Reason::Length),
        ("longer than UDP", vec![1; 65_536], Reason::Length),
        ("a server's packet", good().byte(field::OP, 2).bytes(), Reason::NotARequest),
        ("op 0", good().byte(field::OP, 0).bytes(), Reason::NotARequest),
        ("hlen 17, past chaddr", good().byte(field::HLEN, 17).bytes(), Reason::HardwareAddress),
        ("hlen 255", good().byte(field::HLEN, 255).bytes(), Reason::HardwareAddress),
        ("hlen 0", good().byte(field::HLEN, 0).bytes(), Reason::HardwareAddress),
        ("hlen 16, which fits", good().byte(field::HLEN, 16).bytes(), Reason::HardwareAddress),
        ("Infiniband", good().byte(field::HTYPE, 32).bytes(), Reason::HardwareAddress),
        ("an erased MAC", good().field(field::CHADDR, &[0; 6]).bytes(), Reason::NotOneMachine),
        ("a broadcast MAC", good().field(field::CHADDR, &[0xff; 6]).bytes(), Reason::NotOneMachine),
        ("a multicast MAC", good().field(field::CHADDR, &[1, 0, 0x5e, 0, 0, 1]).bytes(), Reason::NotOneMachine),
        ("no cookie", good().field(field::COOKIE, &[0; 4]).bytes(), Reason::Bootp),
        ("BOOTP with a cookie", Message::bootp().bytes(), Reason::Bootp),
        ("the header alone", Message::bootp().bytes()[..240].to_vec(), Reason::Bootp),
        ("message type of length 0", Message::bootp().option(53, &[]).bytes(), Reason::BrokenOption),
        ("message type of length 2", Message::bootp().option(53, &[1, 1]).bytes(), Reason::BrokenOption),
        ("message type cut off", Message::bootp().raw(&[53, 200, 1]).bytes(), Reason::BrokenOption),
        ("a code without its length", Message::bootp().raw(&[53]).bytes()[..241].to_vec(), Reason::BrokenOption),
        ("two message types", good().option(53, &[3]).bytes(), Reason::Contradiction),
        (
            "two server identifiers",
            Message::new(REQUEST).address(54, SERVER).address(54, OTHER).bytes(),
            Reason::Contradiction,
        ),
        (
            "two requested addresses",
            Message::new(REQUEST).address(50, ADDRESS).address(50, OTHER).bytes(),
            Reason::Contradiction,
        ),
        ("requested address of 3 bytes", good().option(50, &[10, 0, 0]).bytes(), Reason::BrokenOption),
        ("server identifier of 5 bytes", good().option(54, &[10, 0, 0, 1, 0]).bytes(), Reason::BrokenOption),
        ("server identifier cut off", good().raw(&[54, 4, 10, 0]).bytes(), Reason::BrokenOption),
        ("a broken tail before the type", Message::bootp().raw(&[12, 250]).bytes(), Reason::Bootp),
    ];
    for (name, packet, reason) in cases {
        assert_eq!(decode(&packet).err(), Some(reason), "{name}");
    }
}

#[test]
fn harmless_irregularities_are_tolerated() {
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("no end option", Message::new(DISCOVER).bytes()[..243].to_vec()),
        ("junk behind the end", Message::new(DISCOVER).raw(&[255, 53, 1, 3, 54, 200]).bytes()),
        ("padding between", Message::bootp().raw(&[0, 0, 0]).option(53, &[1]).raw(&[0, 0]).bytes()),
        ("a broken tail", Message::new(DISCOVER).raw(&[12, 250, b'h']).bytes()),
        ("a code as last byte", Message::new(DISCOVER).raw(&[12]).bytes()[..244].to_vec()),
        ("the same type twice", Message::new(DISCOVER).option(53, &[1]).bytes()),
        ("odd option 94", Message::new(DISCOVER).option(94, &[1]).bytes()),
        ("option 57 of one byte", Message::new(DISCOVER).option(57, &[1]).bytes()),
        ("overload of no known value", Message::new(DISCOVER).option(52, &[9]).bytes()),
        ("overload of length 0", Message::new(DISCOVER).option(52, &[]).bytes()),
    ];
    for (name, packet) in cases {
        let query = decode(&packet).unwrap_or_else(|reason| panic!("{name}: {reason:?}"));
        assert_eq!(query.message(), MessageType::Discover, "{name}");
        assert_eq!(query.maximum_size(), None, "{name}");
    }
}

#[test]
fn options_before_a_malformed_tail_are_kept() {
    let packet = Message::new(DISCOVER).option(93, &[0, 7]).raw(&[12, 250, b'h']).bytes();
    assert_eq!(decode(&packet).unwrap().option(code::ARCHITECTURES), Some(&[0, 7][..]));
}

#[test]
fn split_options_are_joined_in_the_order_of_the_fields() {
    let packet = Message::new(DISCOVER)
        .option(60, b"PXE")
        .option(93, &[0])
        .option(60, b"Client")
        .option(52, &[3])
        .field(field::SNAME, &[60, 3, b'0', b'7', b':', 93, 1, 9, 255])
        .field(field::FILE, &[60, 6, b':', b'A', b'r', b'c', b'h', b':', 93, 1, 7, 255])
        .bytes();
    let query = decode(&packet).unwrap();
    assert_eq!(query.option(code::VENDOR_CLASS), Some(&b"PXEClient:Arch:07:"[..]));
    assert_eq!(query.option(code::ARCHITECTURES), Some(&[0, 7, 9][..]));
    assert_eq!(query.option(code::USER_CLASS), None);
}

#[test]
fn overloaded_fields_are_read_only_if_option_52_says_so() {
    for (overload, in_file, in_sname) in [(0, false, false), (1, true, false), (2, false, true), (3, true, true)] {
        let packet = Message::new(DISCOVER)
            .option(52, &[overload])
            .field(field::FILE, &[77, 4, b'i', b'P', b'X', b'E', 255])
            .field(field::SNAME, &[93, 2, 0, 7, 255])
            .bytes();
        let query = decode(&packet).unwrap();
        assert_eq!(query.option(code::USER_CLASS).is_some(), in_file, "overload {overload}");
        assert_eq!(query.option(code::ARCHITECTURES).is_some(), in_sname, "overload {overload}");
    }
}

#[test]
fn overload_option_inside_an_overloaded_field_is_ignored() {
    let packet = Message::new(DISCOVER)
        .option(52, &[1])
        .field(field::FILE, &[52, 1, 3, 255])
        .field(field::SNAME, &[93, 2, 0, 7, 255])
        .bytes();
    assert_eq!(decode(&packet).unwrap().option(code::ARCHITECTURES), None);
}

#[test]
fn pieces_beyond_the_capacity_are_dropped() {
    let packet = (0..8).fold(Message::new(DISCOVER), |message, _| message.option(61, &[7; 255])).bytes();
    assert_eq!(decode(&packet).err(), Some(Reason::BrokenOption));
}

#[test]
fn header_and_options_are_read_from_their_places() {
    let packet = Message::new(REQUEST)
        .ciaddr(ADDRESS)
        .giaddr(OTHER)
        .broadcast()
        .address(50, ADDRESS)
        .address(54, SERVER)
        .address(118, OTHER)
        .option(55, &[1, 3])
        .option(57, &[5, 220])
        .bytes();
    let query = decode(&packet).unwrap();
    assert_eq!((query.ciaddr(), query.giaddr()), (ADDRESS, OTHER));
    assert!(query.wants_broadcast());
    assert_eq!(query.requested_address(), Some(ADDRESS));
    assert_eq!(query.server_id(), Some(SERVER));
    assert_eq!(query.subnet_selection(), Some(OTHER));
    assert!(query.wants(3) && !query.wants(6));
    assert_eq!(query.maximum_size(), Some(1500));
    let small = Message::new(DISCOVER).option(57, &[0, 1]).bytes();
    let small = decode(&small).unwrap();
    assert_eq!(small.maximum_size(), Some(576), "no client may ask for less than every host accepts");
    assert!(small.wants(6), "without a list the server chooses");
}
