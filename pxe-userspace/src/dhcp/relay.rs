//! Relay agents: `giaddr`, and the sub-options of option 82 that change an answer.

use std::net::Ipv4Addr;

use super::decode::Query;

/// Sub-option 5 (RFC 3527): an address on the client's link, for relays whose `giaddr` is not on it.
const LINK_SELECTION: u8 = 5;
/// Sub-option 11 (RFC 5107): the relay's address, to be used as server identifier so that renewals also pass through the relay.
const SERVER_ID_OVERRIDE: u8 = 11;
/// Sub-option 19 (RFC 8357), without a value: the relay waits for the reply on the port that it sent the query from.
const SOURCE_PORT: u8 = 19;
/// Cisco's number for link selection, from before RFC 3527.
const CISCO_LINK_SELECTION: u8 = 150;
/// Cisco's number for the server-id override, from before RFC 5107. RFC 6607 has since given the number another meaning, without a
/// value.
const CISCO_SERVER_ID_OVERRIDE: u8 = 152;

/// The information that a relay agent adds to a client's message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relay {
    /// `giaddr`, if a relay forwarded the message.
    pub address: Option<Ipv4Addr>,
    /// The client's link, if option 82 or option 118 (RFC 3011) names it.
    pub link_selection: Option<Ipv4Addr>,
    /// The server identifier to use, if option 82 sets one.
    pub server_id_override: Option<Ipv4Addr>,
    /// The reply goes to the UDP port that the query came from, instead of port 67.
    pub uses_source_port: bool,
}

impl Relay {
    /// Reads the relay's information. A malformed sub-option ends the reading. The option is echoed as it came in any case.
    #[must_use]
    pub fn of(query: &Query<'_>) -> Self {
        let giaddr = query.giaddr();
        let information = query.option(super::wire::code::RELAY_INFORMATION).unwrap_or_default();
        let in_option = |code| sub_option(information, code).and_then(host_address);
        Self {
            address: (!giaddr.is_unspecified()).then_some(giaddr),
            // RFC 3527 §3: the relay takes precedence over the client.
            link_selection: in_option(LINK_SELECTION)
                .or_else(|| in_option(CISCO_LINK_SELECTION))
                .or_else(|| query.subnet_selection()),
            server_id_override: in_option(SERVER_ID_OVERRIDE).or_else(|| in_option(CISCO_SERVER_ID_OVERRIDE)),
            uses_source_port: sub_option(information, SOURCE_PORT) == Some(&[]),
        }
    }

    /// Returns an address on the client's own link, as far as the relay names one.
    #[must_use]
    pub fn link(&self) -> Option<Ipv4Addr> {
        self.link_selection.or(self.address)
    }
}

/// Returns `true` if the address can belong to one host.
#[must_use]
pub fn is_host(address: Ipv4Addr) -> bool {
    !(address.octets()[0] == 0 || address.is_broadcast() || address.is_multicast() || address.is_loopback())
}

fn sub_option(mut bytes: &[u8], wanted: u8) -> Option<&[u8]> {
    while let [code, length, rest @ ..] = bytes {
        let (value, next) = rest.split_at_checked(usize::from(*length))?;
        if *code == wanted {
            return Some(value);
        }
        bytes = next;
    }
    None
}

fn host_address(value: &[u8]) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = value.try_into().ok()?;
    Some(Ipv4Addr::from(octets)).filter(|&address| is_host(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_options_are_found_up_to_a_malformed_one() {
        let bytes = [1, 2, b'e', b'1', 5, 4, 10, 1, 0, 0, 11, 9, 10];
        assert_eq!(sub_option(&bytes, 1), Some(&b"e1"[..]));
        assert_eq!(sub_option(&bytes, 5).and_then(host_address), Some(Ipv4Addr::new(10, 1, 0, 0)));
        assert_eq!(sub_option(&bytes, 11), None);
        assert_eq!(host_address(&[255, 255, 255, 255]), None);
        assert_eq!(host_address(&[10, 0, 0]), None);
    }
}
