//! Arithmetic on IPv4 networks.

use std::net::Ipv4Addr;

/// Returns the mask of a network with this prefix length; values above 32 count as 32.
#[must_use]
pub fn mask(prefix_length: u8) -> Ipv4Addr {
    let host_bits = 32 - u32::from(prefix_length.min(32));
    Ipv4Addr::from_bits(u32::MAX.checked_shl(host_bits).unwrap_or(0))
}

/// Returns the broadcast address of the network of `address`, or `None` if the network is too small to have one (RFC 3021).
///
/// ```
/// use std::net::Ipv4Addr;
///
/// use pxe_userspace::net::prefix::broadcast;
///
/// let address = Ipv4Addr::new(10, 99, 3, 168);
/// assert_eq!(broadcast(address, 22), Some(Ipv4Addr::new(10, 99, 3, 255)));
/// assert_eq!(broadcast(address, 31), None);
/// ```
#[must_use]
pub fn broadcast(address: Ipv4Addr, prefix_length: u8) -> Option<Ipv4Addr> {
    (prefix_length < 31).then(|| address | !mask(prefix_length))
}

/// Returns `true` if two addresses are in the same network.
#[must_use]
pub fn same(a: Ipv4Addr, b: Ipv4Addr, prefix_length: u8) -> bool {
    a & mask(prefix_length) == b & mask(prefix_length)
}

/// Returns `true` if the address is the first or last of its network, which no host has.
#[must_use]
pub fn is_edge(address: Ipv4Addr, prefix_length: u8) -> bool {
    prefix_length < 31
        && (address & mask(prefix_length) == address || broadcast(address, prefix_length) == Some(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_and_broadcasts_follow_the_prefix_length() {
        let address = Ipv4Addr::new(10, 99, 3, 168);
        for (prefix, expected, last) in [
            (0, "0.0.0.0", Some("255.255.255.255")),
            (8, "255.0.0.0", Some("10.255.255.255")),
            (22, "255.255.252.0", Some("10.99.3.255")),
            (30, "255.255.255.252", Some("10.99.3.171")),
            (31, "255.255.255.254", None),
            (32, "255.255.255.255", None),
            (77, "255.255.255.255", None),
        ] {
            assert_eq!(mask(prefix).to_string(), expected, "/{prefix}");
            assert_eq!(broadcast(address, prefix).map(|last| last.to_string()).as_deref(), last, "/{prefix}");
        }
        assert!(is_edge(address, 29) && !is_edge(address, 28) && !is_edge(address, 32));
    }
}
