//! The IPv4 networks of an interface, as a server on it sees them.

use std::{cmp::Reverse, net::Ipv4Addr, sync::Arc};

use super::prefix;

/// The networks of an interface, each with one of our addresses in it, in the order in which a server prefers them.
///
/// An address without a network (`/32`, as keepalived adds its addresses) is not among them: no other host is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Arc<[(Ipv4Addr, u8)]>);

impl Networks {
    /// Returns the networks of an interface with these addresses, for the server at one of them. The network of the server's
    /// own address comes first, then the others that the server is in, then the rest, each from the longest prefix on.
    ///
    /// ```
    /// use std::net::Ipv4Addr;
    ///
    /// use pxe_userspace::net::networks::Networks;
    ///
    /// let (fixed, virtual_one) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 5));
    /// let networks = Networks::around(virtual_one, &[(fixed, 24), (virtual_one, 32)]);
    /// assert_eq!(networks.holding(Ipv4Addr::new(10, 0, 0, 50)), Some((fixed, 24)));
    /// ```
    #[must_use]
    pub fn around(server: Ipv4Addr, addresses: &[(Ipv4Addr, u8)]) -> Self {
        let mut networks: Vec<_> = addresses.iter().copied().filter(|&(_, length)| length < 32).collect();
        networks.sort_unstable_by_key(|&(address, length)| {
            (address != server, !prefix::same(address, server, length), Reverse(length), address)
        });
        let mut distinct = Vec::<(Ipv4Addr, u8)>::new();
        for (address, length) in networks {
            let is_known = |&(known, known_length): &_| known_length == length && prefix::same(known, address, length);
            if !distinct.iter().any(is_known) {
                distinct.push((address, length));
            }
        }
        Self(distinct.into())
    }

    /// Returns our address and the prefix length in the first network that holds a host.
    #[must_use]
    pub fn holding(&self, host: Ipv4Addr) -> Option<(Ipv4Addr, u8)> {
        self.0.iter().copied().find(|&(ours, length)| prefix::same(ours, host, length))
    }

    /// Returns the prefix length of the first network, or 32 if there is none.
    #[must_use]
    pub fn first_prefix_length(&self) -> u8 {
        self.0.first().map_or(32, |&(_, length)| length)
    }

    /// Returns `true` if this is the first or last address of one of the networks, which is no host's.
    #[must_use]
    pub fn has_edge(&self, address: Ipv4Addr) -> bool {
        self.0.iter().any(|&(ours, length)| prefix::same(ours, address, length) && prefix::is_edge(address, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    fn around(server: &str, addresses: &[(&str, u8)]) -> Networks {
        let addresses: Vec<_> = addresses.iter().map(|&(address, length)| (ip(address), length)).collect();
        Networks::around(ip(server), &addresses)
    }

    #[test]
    fn network_of_a_host_is_the_one_that_the_server_is_in_if_possible() {
        type Case<'a> = (&'a str, &'a str, &'a [(&'a str, u8)], Option<(&'a str, u8)>);
        let cases: [Case<'_>; 9] = [
            ("alone", "10.0.0.1", &[("10.0.0.1", 24)], Some(("10.0.0.1", 24))),
            ("virtual address", "10.0.0.5", &[("10.0.0.1", 24), ("10.0.0.5", 32)], Some(("10.0.0.1", 24))),
            ("only a virtual address", "10.0.0.5", &[("10.0.0.5", 32)], None),
            ("in no network", "10.9.0.1", &[("10.9.0.1", 24), ("10.8.0.1", 24)], None),
            ("the second network's", "10.9.0.1", &[("10.9.0.1", 24), ("10.0.0.2", 24)], Some(("10.0.0.2", 24))),
            ("the server's is wider", "10.0.1.1", &[("10.0.0.2", 24), ("10.0.1.1", 16)], Some(("10.0.1.1", 16))),
            (
                "virtual, wider",
                "10.0.1.5",
                &[("10.0.0.2", 24), ("10.0.1.1", 16), ("10.0.1.5", 32)],
                Some(("10.0.1.1", 16)),
            ),
            (
                "the server in none of two",
                "10.9.0.1",
                &[("10.9.0.1", 32), ("10.0.0.2", 16), ("10.0.0.3", 24)],
                Some(("10.0.0.3", 24)),
            ),
            ("point to point", "10.0.0.51", &[("10.0.0.51", 31)], Some(("10.0.0.51", 31))),
        ];
        for (name, server, addresses, expected) in cases {
            let expected = expected.map(|(address, length)| (ip(address), length));
            assert_eq!(around(server, addresses).holding(ip("10.0.0.50")), expected, "{name}");
        }
    }

    #[test]
    fn network_with_many_addresses_counts_once() {
        let aliases: Vec<_> = (1..=200).map(|number| (Ipv4Addr::new(10, 0, 0, number), 24)).collect();
        let networks = Networks::around(aliases[90].0, &aliases);
        assert_eq!(*networks.0, [aliases[90]]);
    }

    #[test]
    fn edges_of_all_networks_are_known() {
        let networks = around("10.0.0.5", &[("10.0.0.5", 32), ("10.0.0.1", 24), ("192.168.4.9", 22), ("10.7.0.0", 31)]);
        for edge in ["10.0.0.0", "10.0.0.255", "192.168.4.0", "192.168.7.255"] {
            assert!(networks.has_edge(ip(edge)), "{edge}");
        }
        for host in ["10.0.0.5", "10.0.0.50", "192.168.4.255", "10.7.0.0", "10.7.0.1", "10.0.1.255"] {
            assert!(!networks.has_edge(ip(host)), "{host}");
        }
        assert_eq!(around("10.0.0.5", &[("10.0.0.5", 32)]).first_prefix_length(), 32);
        assert_eq!(networks.first_prefix_length(), 24);
    }
}
