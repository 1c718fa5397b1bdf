//! The address of a machine that is to be added to a cluster: which one is free, and what is wrong with one that a person chose. Pure.

use std::net::Ipv4Addr;

use anyhow::bail;
use serde::Deserialize;

use crate::cli::shown::Shown;

/// A machine of the spec, as far as its address and its network are concerned.
#[derive(Debug, Deserialize)]
pub(super) struct Member {
    pub(super) mac: Shown,
    pub(super) cluster: Shown,
    pub(super) address: Ipv4Addr,
    pub(super) architecture: Shown,
    /// The address of pxed that serves it. Absent from an older pxed, as the following are.
    server: Option<Ipv4Addr>,
    prefix_length: Option<u8>,
    gateway: Option<Ipv4Addr>,
}

impl Member {
    /// Returns the first and the last address of its network, if the spec has its mask.
    fn network(&self) -> Option<(u32, u32)> {
        let length = self.prefix_length.filter(|length| (1..31).contains(length))?;
        let hosts = u32::MAX >> length;
        let first = u32::from(self.address) & !hosts;
        Some((first, first | hosts))
    }
}

/// Returns the reason why an address cannot be another machine's, if there is one.
fn conflict(address: Ipv4Addr, members: &[Member]) -> Option<String> {
    let network =
        |member: &Member| member.network().is_some_and(|(first, last)| [first, last].contains(&address.into()));
    members.iter().find_map(|member| {
        let Member { mac, cluster, .. } = member;
        if member.address == address {
            Some(format!("it is that of {mac} (cluster {cluster})"))
        } else if member.server == Some(address) {
            Some("it is that of pxed".to_owned())
        } else if member.gateway == Some(address) {
            Some(format!("it is the gateway of {mac} (cluster {cluster})"))
        } else if network(member) {
            Some(format!("it is no host's, but the first or the last address of the network of {mac}"))
        } else {
            None
        }
    })
}

/// Returns a free address for another machine of a cluster: the next one after its highest, or else the lowest one in the same network.
pub(super) fn next_free(cluster: &str, members: &[Member]) -> Option<Ipv4Addr> {
    let highest = members.iter().filter(|member| *member.cluster == *cluster).max_by_key(|member| member.address)?;
    let address = u32::from(highest.address);
    let (first, last) = highest.network().unwrap_or((address, u32::MAX - 1));
    // Each conflict is with one of a few addresses of a machine, so that a free one is found before they are used up.
    let tried = members.len().saturating_mul(5).saturating_add(1);
    let above = (address.saturating_add(1)..=last).take(tried);
    let below = (first..address).take(tried);
    above.chain(below).map(Ipv4Addr::from).find(|&address| conflict(address, members).is_none())
}

/// Checks an address that a person chose for another machine of a cluster.
///
/// # Errors
///
/// If it is in use, or in none of the networks of the cluster's machines.
pub(super) fn check(address: Ipv4Addr, cluster: &str, members: &[Member]) -> anyhow::Result<()> {
    let propose =
        || next_free(cluster, members).map(|free| format!("; {free} is free in the spec")).unwrap_or_default();
    if let Some(reason) = conflict(address, members) {
        bail!("{address} cannot be the address of another machine: {reason}{}", propose());
    }
    let is_inside =
        |member: &Member| member.network().is_none_or(|(first, last)| (first..=last).contains(&u32::from(address)));
    let mut of_cluster = members.iter().filter(|member| *member.cluster == *cluster).peekable();
    if of_cluster.peek().is_some() && !of_cluster.any(is_inside) {
        bail!("{address} is in none of the networks of the machines of cluster {cluster}{}", propose());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(json: &str) -> Vec<Member> {
        serde_json::from_str(json).unwrap()
    }

    fn lab() -> Vec<Member> {
        members(
            r#"[{"mac": "52:54:00:00:00:01", "cluster": "lab", "address": "10.0.0.11", "architecture": "amd64", "server": "10.0.0.13",
            "prefix_length": 28, "gateway": "10.0.0.1"},
            {"mac": "52:54:00:00:00:02", "cluster": "edge", "address": "10.0.0.12", "architecture": "amd64", "server": "10.0.0.13",
            "prefix_length": 28, "gateway": "10.0.0.1"}]"#,
        )
    }

    #[test]
    fn proposed_address_is_used_by_nobody() {
        assert_eq!(next_free("lab", &lab()), Some(Ipv4Addr::new(10, 0, 0, 14)), "after another cluster's and pxed's");
        let mut members = lab();
        members[1].address = Ipv4Addr::new(10, 0, 0, 14);
        members[0].address = Ipv4Addr::new(10, 0, 0, 12);
        // The last address of the network is broadcast, and the first two are the network's and the gateway's.
        assert_eq!(next_free("edge", &members), Some(Ipv4Addr::new(10, 0, 0, 2)));
        members[0].prefix_length = Some(30);
        (members[0].address, members[0].gateway) = (Ipv4Addr::new(10, 9, 0, 2), Some(Ipv4Addr::new(10, 9, 0, 1)));
        assert_eq!(next_free("lab", &members), None, "the network is full");
        assert_eq!(next_free("typo", &members), None);
    }

    #[test]
    fn address_that_a_person_chose_is_checked() {
        let refused = |address: &str| check(address.parse().unwrap(), "lab", &lab()).unwrap_err().to_string();
        for (address, reason) in [
            ("10.0.0.12", "that of 52:54:00:00:00:02 (cluster edge)"),
            ("10.0.0.13", "that of pxed"),
            ("10.0.0.1", "the gateway of 52:54:00:00:00:01"),
            ("10.0.0.15", "the first or the last"),
            ("10.0.0.0", "the first or the last"),
            ("10.0.1.5", "in none of the networks"),
        ] {
            let text = refused(address);
            assert!(text.contains(reason) && text.contains("10.0.0.14 is free in the spec"), "{address}: {text}");
        }
        check(Ipv4Addr::new(10, 0, 0, 7), "lab", &lab()).unwrap();
        // Without a mask in the spec, and from an older pxed, nothing is known of the network.
        let unknown = members(
            r#"[{"mac": "52:54:00:00:00:01", "cluster": "lab", "address": "10.0.0.255", "architecture": "amd64"}]"#,
        );
        check(Ipv4Addr::new(10, 7, 0, 7), "lab", &unknown).unwrap();
        assert_eq!(next_free("lab", &unknown), Some(Ipv4Addr::new(10, 0, 1, 0)));
    }
}
