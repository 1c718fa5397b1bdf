use proptest::prelude::*;

use super::*;
use crate::captures;

const ROUTER: u8 = 3;
const MESSAGE_TYPE: u8 = 53;
const SERVER_ID: u8 = 54;
const TFTP_SERVER: u8 = 66;
const BOOT_FILE: u8 = 67;

/// A reply with these options.
fn reply(options: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 236];
    bytes[..3].copy_from_slice(&[2, 1, 6]);
    bytes[4..8].copy_from_slice(&[1, 2, 3, 4]);
    bytes[16..20].copy_from_slice(&[10, 0, 0, 5]);
    bytes[28..34].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    bytes.extend([99, 130, 83, 99]);
    bytes.extend(options);
    bytes
}

fn standard(bytes: &[u8]) -> Result<Reply, String> {
    Reply::decode(bytes, Reading::Standard)
}

/// The value of an option that a capture holds once, found without the code under test.
fn value(message: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = &message[240..];
    while let [code, length, after @ ..] = rest {
        let (value, next) = after.split_at(usize::from(*length));
        if *code == wanted {
            return Some(value);
        }
        rest = next;
    }
    None
}

#[test]
fn replies_of_real_servers_mean_what_their_bytes_say() {
    let mut checked = 0;
    for capture in ["ovmf-x64-pxe", "ovmf-x64-proxydhcp", "ovmf-httpboot", "seabios-ipxe", "aavmf-arm64"] {
        for datagram in captures::datagrams(capture) {
            let payload = &datagram.payload;
            if !matches!(datagram.from.port(), 67 | 4011) || payload[0] != 2 {
                continue;
            }
            let case = format!("{capture}, frame {}", datagram.number);
            let reply = standard(payload).unwrap();
            let address = |at: usize| Ipv4Addr::from(*payload[at..].first_chunk::<4>().unwrap());
            let option = |code| value(payload, code).map(|value| Ipv4Addr::from(*value.first_chunk::<4>().unwrap()));
            assert_eq!(reply.xid.to_be_bytes(), payload[4..8], "{case}");
            assert_eq!((reply.yiaddr, reply.siaddr), (address(16), address(20)), "{case}");
            assert_eq!(reply.chaddr.0, payload[28..34], "{case}");
            assert_eq!(reply.message_type.map(u8::from), value(payload, MESSAGE_TYPE).map(|value| value[0]), "{case}");
            assert_eq!((reply.server, reply.router), (option(SERVER_ID), option(ROUTER)), "{case}");
            let named = value(payload, BOOT_FILE).unwrap_or(&payload[108..236]);
            let named = String::from_utf8(named.iter().copied().take_while(|&byte| byte != 0).collect()).unwrap();
            assert_eq!(reply.boot_file.unwrap_or_default(), named, "{case}");
            checked += 1;
        }
    }
    assert!(checked > 15, "{checked}");
}

#[test]
fn malformed_reply_is_refused() {
    let good = reply(&[53, 1, 2, 255]);
    assert!(standard(&good).is_ok());
    for (case, offset, bad) in [
        ("a request", 0, 1),
        ("hlen 255", 2, 255),
        ("hlen 17", 2, 17),
        ("hlen 0", 2, 0),
        ("token ring", 1, 6),
        ("no cookie", 236, 0),
    ] {
        let mut reply = good.clone();
        reply[offset] = bad;
        assert!(standard(&reply).is_err(), "{case}");
    }
    for (case, options) in [
        ("no length", &[53][..]),
        ("a value that is cut off", &[54, 4, 10, 0]),
        ("a length beyond the end", &[53, 9, 1, 255]),
        ("no end", &[53, 1, 2]),
        ("a server identifier of five bytes", &[54, 5, 10, 0, 0, 1, 2, 255]),
        ("a router of three bytes", &[3, 3, 10, 0, 0, 255]),
        ("an empty message type", &[53, 0, 255]),
    ] {
        assert!(standard(&reply(options)).is_err(), "{case}");
    }
    assert!(standard(&good[..239]).is_err());
}

#[test]
fn option_that_dhcproto_cannot_read_hides_none_behind_it() {
    for (case, option) in [
        ("a host name that is not UTF-8", &[12, 1, 0xff][..]),
        ("rapid commit with a value", &[80, 1, 0]),
        ("an empty client FQDN", &[81, 0]),
        ("a client interface of one byte", &[94, 1, 1]),
        ("a name that points at itself", &[119, 2, 0xc0, 0]),
        ("a route of 33 bits", &[121, 5, 33, 10, 0, 0, 0]),
        ("an empty status", &[151, 0]),
        ("an empty time", &[152, 0]),
    ] {
        let options = [option, &[53, 1, 2, 54, 4, 10, 0, 0, 1, 255]].concat();
        let reply = standard(&reply(&options)).unwrap();
        assert_eq!(
            (reply.message_type, reply.server),
            (Some(MessageType::Offer), Some([10, 0, 0, 1].into())),
            "{case}"
        );
    }
}

#[test]
fn parts_of_an_option_are_joined() {
    // RFC 3396 §5: next to each other or not.
    for options in [&[67, 2, b'a', b'b', 67, 1, b'c', 255][..], &[67, 2, b'a', b'b', 53, 1, 2, 0, 67, 1, b'c', 255]] {
        let reply = standard(&reply(options)).unwrap();
        assert_eq!(reply.boot_file.as_deref(), Some("abc"), "{options:?}");
    }
    let long = [&[67, 255][..], &[b'a'; 255], &[67, 45], &[b'a'; 45], &[255]].concat();
    assert_eq!(standard(&reply(&long)).unwrap().boot_file, Some("a".repeat(300)));
}

#[test]
fn overloaded_fields_hold_options() {
    // RFC 2132 §9.3.
    let mut bytes = reply(&[52, 1, 3, 255]);
    bytes[108..112].copy_from_slice(&[53, 1, 5, 255]);
    bytes[44..49].copy_from_slice(&[67, 2, b'x', b'y', 255]);
    let overloaded = standard(&bytes).unwrap();
    assert_eq!((overloaded.message_type, overloaded.boot_file.as_deref()), (Some(MessageType::Ack), Some("xy")));
    // iPXE takes what is in the field for a name, whatever option 52 says.
    let ipxe = Reply::decode(&bytes, Reading::Ipxe).unwrap();
    assert_eq!((ipxe.message_type, ipxe.boot_file.as_deref()), (None, Some("5\u{1}\u{5}\u{fffd}")));
    // An overloaded field must end as well.
    bytes[108..236].fill(0);
    assert!(standard(&bytes).is_err());
}

#[test]
fn boot_file_is_read_from_the_field_and_from_option_67() {
    let (field, option) = (&b"field"[..], &[67, 6, b'o', b'p', b't', b'i', b'o', b'n', 255][..]);
    let nul = &[67, 3, b'a', 0, b'b', 255][..];
    let full = &[b'f'; 128][..];
    let full_text = "f".repeat(128);
    for (case, file, options, standard, ipxe) in [
        ("field", field, &[255][..], Some("field"), Some("field")),
        ("option", &[], option, Some("option"), Some("option")),
        ("both", field, option, Some("option"), Some("field")),
        ("an option that ends in NUL", &[], nul, Some("a"), Some("a")),
        ("an empty option", field, &[67, 0, 255], Some("field"), Some("field")),
        ("a field without NUL", full, &[255], Some(&full_text), Some(&full_text)),
        ("neither", &[], &[255], None, None),
    ] {
        let mut bytes = reply(options);
        bytes[108..108 + file.len()].copy_from_slice(file);
        for (reading, expected) in [(Reading::Standard, standard), (Reading::Ipxe, ipxe)] {
            let reply = Reply::decode(&bytes, reading).unwrap();
            assert_eq!(reply.boot_file.as_deref(), expected, "{case}, {reading:?}");
        }
    }
}

#[test]
fn next_server_is_looked_for_in_every_place() {
    let siaddr = |mut bytes: Vec<u8>| {
        bytes[20..24].copy_from_slice(&[10, 0, 0, 9]);
        bytes
    };
    let option = [&[TFTP_SERVER, 8][..], b"10.0.0.8", &[255]].concat();
    let name = [&[TFTP_SERVER, 4][..], b"host", &[54, 4, 10, 0, 0, 1, 255]].concat();
    let mut sname = reply(&[54, 4, 10, 0, 0, 1, 255]);
    sname[44..52].copy_from_slice(b"10.0.0.7");
    for (case, bytes, expected) in [
        ("siaddr", siaddr(reply(&[54, 4, 10, 0, 0, 1, 255])), Some([10, 0, 0, 9])),
        ("option 66", reply(&option), Some([10, 0, 0, 8])),
        ("a name in option 66", reply(&name), Some([10, 0, 0, 1])),
        ("sname", sname, Some([10, 0, 0, 7])),
        ("server id", reply(&[54, 4, 10, 0, 0, 1, 255]), Some([10, 0, 0, 1])),
        ("nowhere", reply(&[255]), None),
    ] {
        assert_eq!(standard(&bytes).unwrap().next_server, expected.map(Ipv4Addr::from), "{case}");
    }
}

#[test]
fn discovery_control_is_bit_3_of_tag_6() {
    for (options, expected) in [
        (&[43, 3, 6, 1, 8, 255][..], true),
        (&[43, 3, 6, 1, 7, 255], false),
        (&[43, 7, 1, 2, 6, 8, 6, 1, 11, 255], true),
        (&[43, 2, 6, 9, 255], false),
        (&[53, 1, 2, 255], false),
    ] {
        assert_eq!(standard(&reply(options)).unwrap().skips_discovery(), expected, "{options:?}");
    }
}

#[test]
fn description_names_what_matters() {
    let options = [&[54, 4, 10, 0, 0, 1, 67, 1, b'f', 60, 2, b'P', b'X', 56, 2, b'n', b'o'][..], &[255]].concat();
    let text = standard(&reply(&options)).unwrap().describe();
    assert_eq!(text, "address 10.0.0.5, server 10.0.0.1, file f, class PX, message no");
}

/// Decodes in both ways and asks for everything that is computed later.
fn use_up(payload: &[u8]) {
    for reading in [Reading::Standard, Reading::Ipxe] {
        if let Ok(reply) = Reply::decode(payload, reading) {
            let _ = (reply.describe(), reply.skips_discovery(), reply.vendor_class_is("PXEClient"));
        }
    }
}

/// Every reply of the captures.
fn real_replies() -> Vec<Vec<u8>> {
    let datagrams = ["ovmf-x64-pxe", "ovmf-x64-proxydhcp", "seabios-ipxe"].into_iter().flat_map(captures::datagrams);
    datagrams
        .filter(|datagram| matches!(datagram.from.port(), 67 | 4011) && datagram.payload[0] == 2)
        .map(|datagram| datagram.payload)
        .collect()
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
        use_up(&bytes);
    }

    #[test]
    fn arbitrary_bytes_as_options_do_not_panic(options in proptest::collection::vec(any::<u8>(), 0..300)) {
        use_up(&reply(&options));
    }

    /// Lists that are well formed get past the guard, so that dhcproto sees the values.
    #[test]
    fn arbitrary_options_do_not_panic(
        options in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..20)), 0..20),
        overload in 0..4_u8,
        fields in proptest::collection::vec(any::<u8>(), 192),
    ) {
        let mut list = vec![52, 1, overload];
        for (code, value) in options {
            list.extend([code, value.len() as u8]);
            list.extend(value);
        }
        list.push(255);
        let mut bytes = reply(&list);
        bytes[44..236].copy_from_slice(&fields);
        use_up(&bytes);
    }

    #[test]
    fn mutated_replies_do_not_panic(
        which in any::<proptest::sample::Index>(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
        length in any::<proptest::sample::Index>(),
    ) {
        let replies = real_replies();
        let mut bytes = which.get(&replies).clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        use_up(&bytes);
        bytes.truncate(length.index(bytes.len()));
        use_up(&bytes);
    }
}
