use dhcproto::{Decodable as _, Decoder, v4};
use proptest::prelude::*;

use super::*;
use crate::captures;

/// A reply with these options, built without the code under test.
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

#[test]
fn replies_of_a_real_server_mean_what_another_codec_says() {
    let mut checked = 0;
    for capture in ["ovmf-x64-pxe", "ovmf-x64-proxydhcp", "ovmf-httpboot", "seabios-ipxe", "aavmf-arm64"] {
        for datagram in captures::datagrams(capture).iter().filter(|datagram| matches!(datagram.from.port(), 67 | 4011))
        {
            if datagram.payload[0] != 2 {
                continue;
            }
            let ours = Reply::decode(&datagram.payload).unwrap();
            let other = v4::Message::decode(&mut Decoder::new(&datagram.payload)).unwrap();
            let case = format!("{capture}, frame {}", datagram.number);
            assert_eq!((ours.xid, ours.yiaddr, ours.siaddr), (other.xid(), other.yiaddr(), other.siaddr()), "{case}");
            let kind = other.opts().msg_type().map(u8::from);
            assert_eq!(ours.message_type().map(MessageType::number), kind, "{case}");
            let file = match other.opts().get(v4::OptionCode::BootfileName) {
                Some(v4::DhcpOption::BootfileName(name)) => Some(until_nul(name)),
                _ => other.fname().map(until_nul),
            };
            let file = file.map(|name| String::from_utf8(name).unwrap()).filter(|name| !name.is_empty());
            assert_eq!(ours.boot_file(), file, "{case}");
            checked += 1;
        }
    }
    assert!(checked > 15, "{checked}");
}

#[test]
fn what_is_no_reply_to_an_ethernet_client_is_refused() {
    let good = reply(&[53, 1, 2, 255]);
    assert!(Reply::decode(&good).is_ok());
    for (case, offset, value) in
        [("a request", 0, 1), ("hlen 255", 2, 255), ("hlen 0", 2, 0), ("token ring", 1, 6), ("no cookie", 236, 0)]
    {
        let mut bad = good.clone();
        bad[offset] = value;
        assert!(Reply::decode(&bad).is_err(), "{case}");
    }
    for (case, options) in [("no length", &[53][..]), ("too long", &[53, 9, 1]), ("ends in a value", &[54, 4, 10, 0])] {
        assert!(Reply::decode(&reply(options)).is_err(), "{case}");
    }
    assert!(Reply::decode(&good[..200]).is_err());
}

#[test]
fn split_and_overloaded_options_are_put_together() {
    // RFC 3396: the parts of option 67 are one value.
    let split = Reply::decode(&reply(&[67, 2, b'a', b'b', 53, 1, 2, 67, 1, b'c', 255])).unwrap();
    assert_eq!(split.boot_file().as_deref(), Some("abc"));
    // RFC 2132 §9.3: options in `file` and `sname`, whose own meaning is gone.
    let mut bytes = reply(&[52, 1, 3, 255]);
    bytes[108..112].copy_from_slice(&[53, 1, 5, 255]);
    bytes[44..49].copy_from_slice(&[67, 2, b'x', b'y', 255]);
    let overloaded = Reply::decode(&bytes).unwrap();
    assert_eq!(overloaded.message_type(), Some(MessageType::Ack));
    assert_eq!(overloaded.boot_file().as_deref(), Some("xy"));
}

#[test]
fn the_next_server_is_looked_for_in_every_place() {
    let siaddr = |mut bytes: Vec<u8>| {
        bytes[20..24].copy_from_slice(&[10, 0, 0, 9]);
        bytes
    };
    for (case, bytes, expected) in [
        ("siaddr", siaddr(reply(&[54, 4, 10, 0, 0, 1, 255])), Some([10, 0, 0, 9])),
        ("option 66", reply(&[66, 8, b'1', b'0', b'.', b'0', b'.', b'0', b'.', b'8', 255]), Some([10, 0, 0, 8])),
        ("server id", reply(&[54, 4, 10, 0, 0, 1, 255]), Some([10, 0, 0, 1])),
        ("nowhere", reply(&[255]), None),
    ] {
        assert_eq!(Reply::decode(&bytes).unwrap().next_server(), expected.map(Ipv4Addr::from), "{case}");
    }
}

#[test]
fn discovery_control_is_bit_3_of_tag_6() {
    for (value, expected) in [
        (&[43, 3, 6, 1, 8][..], true),
        (&[43, 3, 6, 1, 7], false),
        (&[43, 7, 1, 2, 6, 8, 6, 1, 11], true),
        (&[43, 2, 6, 9], false),
        (&[53, 1, 2], false),
    ] {
        assert_eq!(Reply::decode(&reply(value)).unwrap().skips_discovery(), expected, "{value:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
        let _ = Reply::decode(&bytes);
    }

    #[test]
    fn any_options_are_survived(options in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(reply) = Reply::decode(&reply(&options)) {
            let _ = (reply.describe(), reply.boot_file(), reply.next_server(), reply.skips_discovery());
        }
    }
}
