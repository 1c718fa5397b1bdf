//! The host of a link that has an address, as the kernel knows it: one entry of its neighbour table (arp(7)), by one request to rtnetlink(7).

use std::{io, net::Ipv4Addr, time::Duration};

use nix::net::if_::if_nametoindex;
use pxe_common::MacAddr;

use super::rtnetlink::{ATTRIBUTE_HEADER, ask, attribute, attributes_of, number, request};

/// `struct ndmsg`.
const NEIGHBOUR_HEADER: usize = 12;
/// The unit of the times in `struct nda_cacheinfo`: USER_HZ, which is 100 everywhere.
const TICK: Duration = Duration::from_millis(10);

/// Returns the hardware address of the host that has an address on an interface, and the time since the kernel last had it confirmed: by an
/// answer to ARP, or by a connection that goes on. Returns `None` if nobody is known to have it.
///
/// # Errors
///
/// If there is no such interface, or the kernel refuses to answer.
pub fn neighbour(interface: &str, address: Ipv4Addr) -> io::Result<Option<(MacAddr, Duration)>> {
    neighbour_in(&ask(&question(if_nametoindex(interface)?, address))?)
}

/// Returns an `RTM_GETNEIGH` request for one address.
fn question(interface_index: u32, address: Ipv4Addr) -> Vec<u8> {
    let mut body = vec![0; NEIGHBOUR_HEADER];
    body[0] = libc::AF_INET as u8;
    body[4..8].copy_from_slice(&interface_index.to_ne_bytes());
    body.extend(((ATTRIBUTE_HEADER + 4) as u16).to_ne_bytes());
    body.extend(libc::NDA_DST.to_ne_bytes());
    body.extend(address.octets());
    request(libc::RTM_GETNEIGH, &body)
}

/// Parses the answer: `RTM_NEWNEIGH` with its attributes, or an error. An entry whose host did not answer has no hardware address.
fn neighbour_in(answer: &[u8]) -> io::Result<Option<(MacAddr, Duration)>> {
    let attributes = match attributes_of(answer, libc::RTM_NEWNEIGH, NEIGHBOUR_HEADER) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
        attributes => attributes?,
    };
    let mac = attribute(attributes, libc::NDA_LLADDR).and_then(|mac| mac.try_into().ok()).map(MacAddr);
    let confirmed = attribute(attributes, libc::NDA_CACHEINFO).and_then(|times| number(times, 0));
    Ok(mac.zip(confirmed.map(|ticks| TICK * ticks)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::rtnetlink::testing::{attribute_of, message},
        *,
    };

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    fn entry(attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![0; NEIGHBOUR_HEADER];
        body.extend(attributes.concat());
        message(libc::RTM_NEWNEIGH, &body)
    }

    #[test]
    fn neighbour_is_told_with_the_age_of_its_last_answer() {
        let address = attribute_of(libc::NDA_DST, &[10, 0, 0, 1]);
        let mac = attribute_of(libc::NDA_LLADDR, &MAC);
        let times = attribute_of(libc::NDA_CACHEINFO, &[250_u32, 7, 8, 1].map(u32::to_ne_bytes).concat());
        let found = Some((MacAddr(MAC), Duration::from_millis(2_500)));
        for (attributes, expected) in [
            (vec![address.clone(), mac.clone(), times.clone()], found),
            (vec![times.clone(), mac.clone()], found),
            // Nobody has answered yet.
            (vec![address.clone(), times.clone()], None),
            (vec![address, attribute_of(libc::NDA_LLADDR, &[0; 20]), times], None),
            (vec![mac], None),
        ] {
            assert_eq!(neighbour_in(&entry(&attributes)).unwrap(), expected, "{attributes:?}");
        }
    }

    #[test]
    fn address_that_is_not_in_the_table_has_no_host() {
        let refusal = |errno: i32| message(libc::NLMSG_ERROR as u16, &(-errno).to_ne_bytes());
        assert_eq!(neighbour_in(&refusal(libc::ENOENT)).unwrap(), None);
        assert_eq!(neighbour_in(&refusal(libc::EPERM)).unwrap_err().raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn kernel_is_asked() {
        assert_eq!(neighbour("lo", Ipv4Addr::new(127, 9, 9, 9)).unwrap(), None);
        assert_eq!(neighbour("no-interface", Ipv4Addr::LOCALHOST).unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }

    proptest! {
        #[test]
        fn arbitrary_answer_is_survived(mut bytes: Vec<u8>) {
            if let Some(length) = bytes.get_mut(..6) {
                length[..4].copy_from_slice(&40_u32.to_ne_bytes());
                length[4..].copy_from_slice(&libc::RTM_NEWNEIGH.to_ne_bytes());
            }
            let _ = neighbour_in(&bytes);
        }
    }
}
