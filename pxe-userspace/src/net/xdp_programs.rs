//! Lists the XDP programs that are attached to an interface, by one request to rtnetlink(7).

use std::io;

use super::rtnetlink::{ask, attribute, attributes_of, number, request};

/// `struct ifinfomsg`.
const LINK_HEADER: usize = 16;
/// The attribute from linux/if_link.h.
const IFLA_XDP: u16 = 43;
/// `IFLA_XDP_PROG_ID` if there is one program; also `IFLA_XDP_DRV_PROG_ID`, `IFLA_XDP_SKB_PROG_ID` and
/// `IFLA_XDP_HW_PROG_ID`, by its mode.
const IFLA_XDP_PROGRAMS: std::ops::RangeInclusive<u16> = 4..=7;

/// Returns the identifiers of the XDP programs that are attached to the interface with this index, in any mode.
///
/// # Errors
///
/// If there is no such interface, or the kernel refuses to answer.
pub fn programs(interface_index: u32) -> io::Result<Vec<u32>> {
    programs_in(&ask(&question(interface_index))?)
}

/// Returns an `RTM_GETLINK` request for one interface.
fn question(interface_index: u32) -> Vec<u8> {
    let mut link = [0; LINK_HEADER];
    link[4..8].copy_from_slice(&interface_index.to_ne_bytes());
    request(libc::RTM_GETLINK, &link)
}

/// Parses the answer: `RTM_NEWLINK` with its attributes, or an error.
fn programs_in(answer: &[u8]) -> io::Result<Vec<u32>> {
    let attributes = attributes_of(answer, libc::RTM_NEWLINK, LINK_HEADER)?;
    let xdp = attribute(attributes, IFLA_XDP).unwrap_or_default();
    let mut programs: Vec<_> = IFLA_XDP_PROGRAMS.filter_map(|kind| number(attribute(xdp, kind)?, 0)).collect();
    programs.sort_unstable();
    programs.dedup();
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::rtnetlink::testing::{attribute_of, message},
        *,
    };

    fn link(attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![0; LINK_HEADER];
        body.extend(attributes.concat());
        message(libc::RTM_NEWLINK, &body)
    }

    #[test]
    fn attached_programs_are_found_among_the_attributes() {
        const NESTED: u16 = 0x8000;
        let name = attribute_of(libc::IFLA_IFNAME, b"eth0\0");
        // The mode comes first.
        let xdp = |kind, programs: &[(u16, u32)]| {
            let programs = programs.iter().flat_map(|(kind, id)| attribute_of(*kind, &id.to_ne_bytes()));
            attribute_of(kind, &attribute_of(2, &[1]).into_iter().chain(programs).collect::<Vec<_>>())
        };
        for (attributes, expected) in [
            (vec![name.clone()], vec![]),
            (vec![name.clone(), xdp(IFLA_XDP, &[])], vec![]),
            (vec![name.clone(), xdp(IFLA_XDP, &[(4, 77)]), name.clone()], vec![77]),
            (vec![name.clone(), xdp(IFLA_XDP | NESTED, &[(4, 77), (6, 77)])], vec![77]),
            (vec![xdp(IFLA_XDP, &[(5, 77), (7, 78)]), name], vec![77, 78]),
        ] {
            assert_eq!(programs_in(&link(&attributes)).unwrap(), expected, "{attributes:?}");
        }
    }

    #[test]
    fn refusal_is_an_error() {
        let refusal = message(libc::NLMSG_ERROR as u16, &(-libc::ENODEV).to_ne_bytes());
        assert_eq!(programs_in(&refusal).unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn kernel_is_asked() {
        let loopback = nix::net::if_::if_nametoindex("lo").unwrap();
        assert!(programs(loopback).unwrap().is_empty());
        assert_eq!(programs(i32::MAX as u32).unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }

    proptest! {
        #[test]
        fn arbitrary_answer_is_survived(mut bytes: Vec<u8>, kind: bool) {
            if let Some(length) = bytes.get_mut(..6) {
                length[..4].copy_from_slice(&48_u32.to_ne_bytes());
                length[4..].copy_from_slice(&(if kind { libc::RTM_NEWLINK } else { libc::NLMSG_ERROR as u16 }).to_ne_bytes());
            }
            let _ = programs_in(&bytes);
        }
    }
}
