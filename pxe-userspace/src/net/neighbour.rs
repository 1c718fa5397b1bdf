//! The host of a link that has an address, as the kernel knows it: an entry of its neighbour table (arp(7)), by requests to rtnetlink(7).

use std::{ffi::CString, io, net::Ipv4Addr, time::Duration};

use nix::net::if_::{if_indextoname, if_nametoindex};
use pxe_common::MacAddr;

use super::{
    interface::Interface,
    prefix,
    rtnetlink::{ATTRIBUTE_HEADER, ask, attribute, attributes_of, number, request},
};

/// `struct ndmsg`.
const NEIGHBOUR_HEADER: usize = 12;
/// `struct rtmsg`.
const ROUTE_HEADER: usize = 12;
/// The bits of an address, all of which a request for its route names.
const ADDRESS_BITS: u8 = 32;
/// The unit of the times in `struct nda_cacheinfo`: USER_HZ, which is 100 everywhere.
const TICK: Duration = Duration::from_millis(10);

/// A host that has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The interface on which it answered.
    pub interface: String,
    /// Its hardware address.
    pub mac: MacAddr,
    /// The time since the kernel last had it confirmed: by an answer to ARP, or by a connection that goes on.
    pub confirmed: Duration,
}

/// Returns the host that has an address on an interface, or on the one to which this host's routes lead: machines on a VLAN are reached by an
/// interface of their own. If both know a host, the one that was confirmed last. Returns `None` if nobody is known to have it.
///
/// An entry for an address that is in none of the interface's networks says nothing: the kernel makes one for whoever asks for our address.
///
/// # Errors
///
/// If there is no such interface, or the kernel refuses to answer.
pub fn neighbour(interface: &str, address: Ipv4Addr) -> io::Result<Option<Found>> {
    let site = if_nametoindex(interface)?;
    let networks = Interface::read(interface).map_err(io::Error::other)?.addresses;
    let is_in_its_networks = networks.iter().any(|&(ours, length)| prefix::same(address, ours, length));
    let mut last: Option<(u32, MacAddr, Duration)> = None;
    for index in
        [is_in_its_networks.then_some(site), link_to(address)?.filter(|link| *link != site)].into_iter().flatten()
    {
        if let Some((mac, confirmed)) = neighbour_in(&ask(&question(index, address))?)?
            && last.is_none_or(|(.., before)| confirmed < before)
        {
            last = Some((index, mac, confirmed));
        }
    }
    let Some((index, mac, confirmed)) = last else { return Ok(None) };
    let interface = if_indextoname(index)
        .map_or_else(|_| interface.to_owned(), |name: CString| name.to_string_lossy().into_owned());
    Ok(Some(Found { interface, mac, confirmed }))
}

/// Returns the interface to whose link the address belongs. Returns `None` if it is behind a router, or cannot be reached.
fn link_to(address: Ipv4Addr) -> io::Result<Option<u32>> {
    let mut body = vec![0; ROUTE_HEADER];
    (body[0], body[1]) = (libc::AF_INET as u8, ADDRESS_BITS);
    body.extend(address_attribute(libc::RTA_DST, address));
    link_in(&ask(&request(libc::RTM_GETROUTE, &body))?)
}

/// Parses the answer: `RTM_NEWROUTE` with its attributes, or an error, which says that there is no route.
fn link_in(answer: &[u8]) -> io::Result<Option<u32>> {
    let attributes = match attributes_of(answer, libc::RTM_NEWROUTE, ROUTE_HEADER) {
        Err(error) if error.raw_os_error().is_some() => return Ok(None),
        attributes => attributes?,
    };
    let is_routed = [libc::RTA_GATEWAY, RTA_VIA].iter().any(|kind| attribute(attributes, *kind).is_some());
    Ok(attribute(attributes, libc::RTA_OIF).and_then(|index| number(index, 0)).filter(|_| !is_routed))
}

/// The attribute of a router that has an address of another family.
const RTA_VIA: u16 = 18;

/// Returns an `RTM_GETNEIGH` request for one address.
fn question(interface_index: u32, address: Ipv4Addr) -> Vec<u8> {
    let mut body = vec![0; NEIGHBOUR_HEADER];
    body[0] = libc::AF_INET as u8;
    body[4..8].copy_from_slice(&interface_index.to_ne_bytes());
    body.extend(address_attribute(libc::NDA_DST, address));
    request(libc::RTM_GETNEIGH, &body)
}

fn address_attribute(kind: u16, address: Ipv4Addr) -> impl Iterator<Item = u8> {
    let [length, kind] = [(ATTRIBUTE_HEADER + 4) as u16, kind].map(u16::to_ne_bytes);
    length.into_iter().chain(kind).chain(address.octets())
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
    fn address_on_a_link_has_the_interface_of_its_route() {
        let route = |attributes: &[Vec<u8>]| {
            message(libc::RTM_NEWROUTE, &[vec![0; ROUTE_HEADER], attributes.concat()].concat())
        };
        let (out, router) = (attribute_of(libc::RTA_OIF, &7_u32.to_ne_bytes()), [10, 0, 0, 254]);
        assert_eq!(link_in(&route(std::slice::from_ref(&out))).unwrap(), Some(7));
        for kind in [libc::RTA_GATEWAY, RTA_VIA] {
            assert_eq!(link_in(&route(&[attribute_of(kind, &router), out.clone()])).unwrap(), None);
        }
        assert_eq!(link_in(&message(libc::NLMSG_ERROR as u16, &(-libc::ENETUNREACH).to_ne_bytes())).unwrap(), None);
        assert_eq!(link_in(&route(&[])).unwrap(), None);
    }

    #[test]
    fn kernel_is_asked() {
        assert_eq!(link_to(Ipv4Addr::LOCALHOST).unwrap(), Some(if_nametoindex("lo").unwrap()));
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
            let _ = link_in(&bytes);
        }
    }
}
