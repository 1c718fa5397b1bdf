//! A BOOTREPLY read by its offsets: as much of it as an exchange is decided by, and nothing copied.

use std::net::Ipv4Addr;

use pxe_common::MacAddr;

use crate::dhcp::code;

/// What a server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) xid: u32,
    pub(super) mac: MacAddr,
    /// `yiaddr`.
    pub(super) address: Ipv4Addr,
    /// Option 53; 0 when there is none.
    pub(super) kind: u8,
    /// Option 54.
    pub(super) server: Ipv4Addr,
}

const OPTIONS: usize = 240;

impl Answer {
    /// Reads a UDP payload; none where it is no DHCP reply to an Ethernet client.
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let (header, mut options) = payload.split_at_checked(OPTIONS)?;
        // op, htype, hlen; the magic cookie (RFC 2131 §2, §3).
        if header[..3] != [2, 1, 6] || header[236..] != [99, 130, 83, 99] {
            return None;
        }
        let (mut kind, mut server) = (0, [0; 4]);
        // A server puts both near the beginning.
        while let [code, rest @ ..] = options {
            options = match (*code, rest) {
                (code::PAD, _) => rest,
                (code::END, _) => break,
                (code, [length, rest @ ..]) => {
                    let (value, rest) = rest.split_at_checked(usize::from(*length))?;
                    match (code, value) {
                        (code::MESSAGE_TYPE, [number]) => kind = *number,
                        (code::SERVER_ID, [a, b, c, d]) => server = [*a, *b, *c, *d],
                        _ => {}
                    }
                    if kind != 0 && server != [0; 4] {
                        break;
                    }
                    rest
                }
                _ => return None,
            };
        }
        Some(Self {
            xid: u32::from_be_bytes(*header[4..].first_chunk()?),
            mac: MacAddr(*header[28..].first_chunk()?),
            address: Ipv4Addr::from(*header[16..].first_chunk::<4>()?),
            kind,
            server: server.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{captures, dhcp::Reply};

    #[test]
    fn replies_of_a_real_server_mean_what_the_whole_codec_says() {
        let mut checked = 0;
        for datagram in captures::datagrams("ovmf-x64-pxe").iter().filter(|datagram| datagram.from.port() == 67) {
            let (ours, whole) = (Answer::read(&datagram.payload).unwrap(), Reply::decode(&datagram.payload).unwrap());
            assert_eq!((ours.xid, ours.mac, ours.address), (whole.xid, whole.chaddr, whole.yiaddr));
            assert_eq!(Some(ours.kind), whole.message_type().map(crate::dhcp::MessageType::number));
            assert_eq!(Some(ours.server), whole.address(code::SERVER_ID));
            checked += 1;
        }
        assert!(checked >= 2, "{checked}");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived(options in proptest::collection::vec(proptest::num::u8::ANY, 0..60), length in 0..300_usize) {
            let mut payload = vec![2, 1, 6];
            payload.resize(236, 0);
            payload.extend([99, 130, 83, 99]);
            payload.extend(options);
            payload.truncate(length);
            let _ = Answer::read(&payload);
        }
    }
}
