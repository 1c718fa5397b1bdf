//! Sizes, spilling and order.

use std::net::Ipv4Addr;

use super::*;
use crate::{
    dhcp::testing::{DISCOVER, Message, RELAY, Seen, ask, from_nowhere, machine, server},
    model::{inventory::Machine, policy::Disposition},
};

fn asked(message: Message) -> Result<Seen, Reason> {
    let (outcome, seen) = ask(message, &from_nowhere(), &machine(), Disposition::Network, &server());
    outcome.verdict.map(|_| seen.unwrap())
}

#[test]
fn short_replies_are_padded_for_old_clients() {
    let seen = asked(Message::new(DISCOVER).option(55, &[])).unwrap();
    assert_eq!(seen.bytes.len(), MINIMUM_LENGTH);
    assert!(seen.bytes[..MINIMUM_LENGTH].ends_with(&[0; 16]), "padding is zero");
}

#[test]
fn fields_are_copied_and_cleared_as_in_the_rfc() {
    let message = Message::new(DISCOVER)
        .broadcast()
        .giaddr(RELAY)
        .byte(3, 4)
        .field(8..10, &[0, 9])
        .field(34..44, &[7; 10])
        .field(field::SNAME, b"asked for")
        .field(field::FILE, b"asked for");
    let seen = asked(message).unwrap();
    assert_eq!(seen.bytes[..4], [2, 1, 6, 0], "op, htype, hlen, hops");
    assert_eq!(seen.bytes[field::XID], [0xde, 0xad, 0xbe, 0xef]);
    assert_eq!(seen.bytes[8..10], [0, 0], "secs");
    assert_eq!(seen.bytes[field::FLAGS], [0x80, 0]);
    assert_eq!(seen.bytes[34..44], [7; 10], "the padding of chaddr");
    assert_eq!(seen.bytes[field::SNAME.start..field::FILE.end], [0; 192]);
}

#[test]
fn message_type_comes_first_however_much_a_relay_wants_back() {
    for length in 200..=255 {
        let message = Message::new(DISCOVER).giaddr(RELAY).option(82, &[7; 60]).option(82, &vec![7; length]);
        let seen = asked(message).unwrap();
        assert_eq!(seen.bytes[field::OPTIONS..][..3], [53, 1, 2], "{length}");
    }
}

#[test]
fn identifiers_are_returned_unaltered() {
    let id: Vec<u8> = (0..=254).collect();
    let seen = asked(Message::new(DISCOVER).option(57, &[5, 220]).option(61, &id).option(97, &[9; 40])).unwrap();
    assert_eq!(seen.option(61), Some(&id[..]));
    assert_eq!(seen.option(97), Some(&[9; 40][..]));
    let seen = asked(Message::new(DISCOVER).option(61, &[]).option(97, &[])).unwrap();
    assert_eq!((seen.option(61), seen.option(97)), (Some(&[][..]), Some(&[][..])));
}

/// The limit is option 57 without the 28 bytes of IP and UDP headers.
#[test]
fn maximum_size_is_respected() {
    for (said, limit) in [(None, 548), (Some(0), 548), (Some(576), 548), (Some(700), 672), (Some(65_280), 1472)] {
        let mut message = Message::new(DISCOVER).firmware("PXEClient", 7).option(61, &[1; 200]).option(97, &[2; 100]);
        if let Some(said) = said {
            message = message.option(57, &u16::to_be_bytes(said));
        }
        let seen = asked(message).unwrap();
        assert!(seen.bytes.len() <= limit, "{said:?}: {}", seen.bytes.len());
        assert_eq!(seen.text(67), "ipxe-efi-x86_64.efi", "{said:?}");
    }
}

#[test]
fn options_that_do_not_fit_spill_into_free_fields() {
    let plain = asked(Message::new(DISCOVER).option(61, &[1; 250]).option(97, &[2; 100])).unwrap();
    assert_eq!(plain.option(52), Some(&[1][..]), "an operating system has no boot file: `file` is free");
    assert_eq!(plain.option(97), Some(&[2; 100][..]));

    let message = Message::new(DISCOVER).firmware("PXEClient", 7).option(61, &[1; 200]).option(97, &[2; 40]);
    let firmware = asked(message).unwrap();
    assert_eq!(firmware.option(52), Some(&[2][..]), "`file` names the boot file");
    assert_eq!(firmware.field_text(field::FILE), "ipxe-efi-x86_64.efi");
    assert_eq!(firmware.text(66), "10.0.0.1", "in place of `sname`");
    assert_eq!(firmware.text(12), "worker-1");

    let roomy = Message::new(DISCOVER).firmware("PXEClient", 7).option(61, &[1; 200]).option(57, &[5, 220]);
    let roomy = asked(roomy).unwrap();
    assert_eq!((roomy.option(52), roomy.field_text(field::SNAME)), (None, "10.0.0.1"));
}

#[test]
fn options_of_every_length_find_room_to_the_byte() {
    for length in 0..=255 {
        for other in [0, 20, 100, 180] {
            let message = Message::new(DISCOVER).option(61, &vec![1; other]).option(97, &vec![2; length]);
            let plain = asked(message.clone()).unwrap();
            let firmware = asked(message.firmware("PXEClient", 7)).unwrap();
            for seen in [plain, firmware] {
                assert_eq!(seen.option(61).map(<[u8]>::len), Some(other));
                // An option without room is left out whole.
                assert!(seen.option(97).is_none_or(|id| id.len() == length), "{other} and {length}");
            }
        }
    }
}

#[test]
fn relay_information_is_last_and_whole() {
    let circuit: Vec<u8> = [1, 250].into_iter().chain([b'x'; 250]).collect();
    let seen = asked(Message::new(DISCOVER).firmware("PXEClient", 7).giaddr(RELAY).option(82, &circuit)).unwrap();
    assert_eq!(seen.option(82), Some(&circuit[..]));
    assert_eq!(seen.text(67), "ipxe-efi-x86_64.efi");
    // Two pieces, joined for reading and split again.
    let long = Message::new(DISCOVER).giaddr(RELAY).option(57, &[5, 220]).option(82, &[3; 255]).option(82, &[4; 100]);
    let seen = asked(long).unwrap();
    assert_eq!(seen.option(82).map(<[u8]>::len), Some(355));
    assert_eq!(seen.order.last(), Some(&82));
}

/// The relay removes its information before the client gets the reply.
#[test]
fn relay_information_may_exceed_the_limit_of_the_client() {
    for pieces in 2..=4 {
        let message = Message::new(DISCOVER).firmware("PXEClient", 7).giaddr(RELAY);
        let message = (0..pieces).fold(message, |message, _| message.option(82, &[3; 255]));
        let seen = asked(message).unwrap();
        assert_eq!(seen.option(82).map(<[u8]>::len), Some(255 * pieces));
        assert_eq!(seen.order.last(), Some(&82));
        assert!(seen.bytes.len() <= 548 + 257 * pieces, "{pieces} pieces: {}", seen.bytes.len());
        assert_eq!(seen.text(67), "ipxe-efi-x86_64.efi");
    }
}

/// A relayed client without option 57, whose identifiers and relay information leave nothing for the usual layout.
#[test]
fn long_identifiers_through_a_relay_use_every_field() {
    let message = Message::new(DISCOVER).firmware("PXEClient", 7).giaddr(RELAY).option(97, &[0; 17]);
    let seen = asked(message.option(61, &[1; 55]).option(82, &[3; 220])).unwrap();
    assert_eq!(seen.option(52), Some(&[1][..]));
    assert_eq!(seen.field_text(field::SNAME), "10.0.0.1", "it is not needed for options");
    assert_eq!((seen.option(61), seen.option(97)), (Some(&[1; 55][..]), Some(&[0; 17][..])));
    assert_eq!(seen.option(82), Some(&[3; 220][..]));
    assert_eq!((seen.text(60), seen.text(66), seen.text(67)), ("PXEClient", "10.0.0.1", "ipxe-efi-x86_64.efi"));
    assert_eq!(seen.field_address(field::SIADDR), Ipv4Addr::new(10, 0, 0, 1));
}

#[test]
fn least_important_options_are_dropped_first() {
    let machine = Machine { hostname: Some("n".repeat(60).into()), ..machine() };
    let mut last = (true, true);
    for length in 0..=255 {
        let message = Message::new(DISCOVER).firmware("PXEClient", 7).giaddr(RELAY).option(97, &[0; 17]);
        let message = message.option(61, &[1; 90]).option(82, &vec![3; length]);
        let seen = ask(message, &from_nowhere(), &machine, Disposition::Network, &server()).1.unwrap();
        for code in [53, 54, 60, 51, 1, 43, 67, 82] {
            assert!(seen.option(code).is_some(), "option {code} is gone, with {length} bytes of option 82");
        }
        let has = (seen.option(12).is_some(), seen.option(61).is_some());
        assert!(has <= last && (has.0 <= has.1), "{length}: {has:?} after {last:?}");
        last = has;
    }
    assert_eq!(last, (false, true), "the host name went, the identifier stayed");
}

/// Some ROMs copy options 66 and 67 up to the first NUL, and ask TFTP for `undionly.kpxe\xff` if an END follows.
#[test]
fn nul_follows_each_text_that_roms_read_as_a_c_string() {
    for relay_length in (0..=250).step_by(10) {
        for id in (1..=255).step_by(6) {
            for (class, architecture) in [("PXEClient", 0), ("PXEClient", 7), ("HTTPClient", 16)] {
                let message = Message::new(DISCOVER).firmware(class, architecture).giaddr(RELAY);
                let seen = asked(message.option(61, &vec![1; id]).option(82, &vec![3; relay_length])).unwrap();
                assert!(!seen.text(67).is_empty());
                for code in [66, 67] {
                    assert!(seen.next_bytes(code).iter().all(|&byte| byte == 0), "{relay_length} {id}: option {code}");
                }
                for range in [field::SNAME, field::FILE] {
                    assert!(seen.bytes[range].contains(&0), "{relay_length} {id}: a header field without an end");
                }
            }
        }
    }
}

#[test]
fn raspberry_pi_gets_no_padding_between_options() {
    for length in 0..=255 {
        let message = Message::new(DISCOVER).firmware("PXEClient", 41).option(61, &vec![1; length]);
        let seen = asked(message).unwrap();
        assert_ne!(seen.next_bytes(67), [0], "{length}");
        assert!(seen.next_bytes(66).iter().all(|&byte| byte != 0), "{length}");
    }
}

#[test]
fn boot_file_is_the_last_option_for_the_client() {
    let seen = asked(Message::new(DISCOVER).firmware("PXEClient", 7)).unwrap();
    assert_eq!(seen.order.last(), Some(&code::BOOT_FILE));
}

#[test]
fn dns_servers_beyond_one_option_are_left_out() {
    let mut machine = machine();
    machine.dns_servers = (0..100).map(|last| [10, 1, 0, last].into()).collect();
    let message = Message::new(DISCOVER).option(57, &[5, 220]);
    let (_, seen) = ask(message, &from_nowhere(), &machine, Disposition::Network, &server());
    assert_eq!(seen.unwrap().option(6).map(<[u8]>::len), Some(252));
}

#[test]
fn buffer_below_the_minimum_is_no_room() {
    let packet = Message::new(DISCOVER).bytes();
    let query = crate::dhcp::decode::decode(&packet).unwrap();
    let machine = machine();
    let arrival = from_nowhere();
    let client = crate::dhcp::client::classify(&query);
    let question =
        crate::dhcp::answer::Question { query: &query, client: &client, arrival: &arrival, in_place_of: None };
    let answer = crate::dhcp::answer::answer(question, &machine, &server(), Disposition::Network);
    let crate::dhcp::answer::Answer::Reply(reply) = answer else { panic!("an offer is due") };
    assert_eq!(encode(&reply, &query, &mut [0; 299]), Err(Reason::NoRoom));
    assert_eq!(encode(&reply, &query, &mut [0; 300]).map(|length| length <= 300), Ok(true));
}
