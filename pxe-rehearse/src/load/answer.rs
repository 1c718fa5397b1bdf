//! The parts of a server's reply that decide an exchange. Nothing is copied.

use std::net::Ipv4Addr;

use dhcproto::v4::{MessageType, OptionCode};
use pxe_common::MacAddr;

use crate::dhcp;

/// A server's reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) xid: u32,
    pub(super) mac: MacAddr,
    /// `yiaddr`.
    pub(super) address: Ipv4Addr,
    /// Option 53.
    pub(super) kind: Option<MessageType>,
    /// Option 54.
    pub(super) server: Option<Ipv4Addr>,
}

impl Answer {
    /// Reads a UDP payload. Returns `None` if it is not a DHCP reply to an Ethernet client.
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let message = dhcp::open(payload).ok()?;
        let (mut kind, mut server) = (None, None);
        for option in message.opts() {
            match (option.code(), option.data()) {
                (OptionCode::MessageType, [number]) => kind = Some(MessageType::from(*number)),
                (OptionCode::ServerIdentifier, [a, b, c, d]) => server = Some(Ipv4Addr::new(*a, *b, *c, *d)),
                _ => {}
            }
            // Both come early in real replies.
            if kind.is_some() && server.is_some() {
                break;
            }
        }
        let mac = dhcp::addressee(payload)?;
        Some(Self { xid: message.xid(), mac, address: message.yiaddr(), kind, server })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        captures,
        dhcp::{Reading, Reply},
    };

    #[test]
    fn answers_equal_the_replies_that_machines_read() {
        let mut checked = 0;
        for datagram in captures::datagrams("ovmf-x64-pxe").iter().filter(|datagram| datagram.from.port() == 67) {
            let answer = Answer::read(&datagram.payload).unwrap();
            let reply = Reply::decode(&datagram.payload, Reading::Standard).unwrap();
            assert_eq!((answer.xid, answer.mac, answer.address), (reply.xid, reply.chaddr, reply.yiaddr));
            assert!(answer.kind.is_some() && answer.kind == reply.message_type);
            assert!(answer.server.is_some() && answer.server == reply.server);
            checked += 1;
        }
        assert!(checked >= 2, "{checked}");
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(options in proptest::collection::vec(proptest::num::u8::ANY, 0..60), length in 0..300_usize) {
            let mut payload = vec![2, 1, 6];
            payload.resize(236, 0);
            payload.extend([99, 130, 83, 99]);
            payload.extend(options);
            payload.truncate(length);
            let _ = Answer::read(&payload);
        }
    }
}
