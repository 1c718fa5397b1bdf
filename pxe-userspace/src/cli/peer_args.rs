//! The options about the other nodes of a fleet.

use std::{net::Ipv4Addr, sync::Arc};

use serde::Deserialize;

use crate::daemon::NodeConfig;

/// The most characters of a node's name: the name of a Kubernetes object has 253.
const LONGEST_NAME: usize = 240;

/// The options about the other nodes of a fleet.
#[derive(Debug, Default, clap::Args, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct PeerArgs {
    /// Name of this node, by which the others and people know it; without it, the host name
    #[arg(long, env = "PXED_NODE_NAME", value_name = "NAME")]
    node_name: Option<String>,
    /// Addresses at which other hosts run pxed with the same spec: each machine is answered by one of them first. All may be given
    /// the same list, with their own address in it
    #[arg(long, env = "PXED_PEERS", value_name = "ADDRESS", num_args = 1.., value_delimiter = ',')]
    peers: Vec<Ipv4Addr>,
}

impl PeerArgs {
    /// Returns the options in force, given those of the `--config` file.
    ///
    /// # Errors
    ///
    /// If an address cannot be a host's or comes twice, or the name is none.
    pub(super) fn over(self, file: Self) -> anyhow::Result<NodeConfig> {
        let Self { node_name, peers } = self;
        let peers = if peers.is_empty() { file.peers } else { peers };
        for (index, address) in peers.iter().enumerate() {
            let is_hosts = !(address.octets()[0] == 0
                || address.is_multicast()
                || address.is_broadcast()
                || address.is_loopback());
            anyhow::ensure!(is_hosts, "--peers {address}: this cannot be the address of another host");
            anyhow::ensure!(!peers[..index].contains(address), "--peers {address}: it is in the list twice");
        }
        let name = match node_name.or(file.node_name) {
            Some(name) => {
                anyhow::ensure!(
                    !name.trim().is_empty() && name.len() <= LONGEST_NAME && !name.contains(char::is_control),
                    "--node-name {name:?}: a name has 1 to {LONGEST_NAME} characters"
                );
                name
            }
            None => host_name(),
        };
        Ok(NodeConfig { name: Arc::from(name), peers })
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(name: Option<&str>, peers: &[&str]) -> PeerArgs {
        PeerArgs { node_name: name.map(Into::into), peers: peers.iter().map(|peer| peer.parse().unwrap()).collect() }
    }

    #[test]
    fn command_line_replaces_the_file() {
        let file = || args(Some("of-file"), &["10.0.0.9"]);
        let given = args(Some("given"), &["10.0.0.2", "10.0.0.3"]).over(file()).unwrap();
        assert_eq!((&*given.name, given.peers.len()), ("given", 2));
        let of_file = args(None, &[]).over(file()).unwrap();
        assert_eq!((&*of_file.name, of_file.peers), ("of-file", vec![Ipv4Addr::new(10, 0, 0, 9)]));
        let neither = args(None, &[]).over(args(None, &[])).unwrap();
        assert_eq!(*neither.name, *host_name());
    }

    #[test]
    fn mistakes_are_named() {
        let refused = |name, peers: &[&str]| args(name, peers).over(args(None, &[])).unwrap_err().to_string();
        for address in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "255.255.255.255"] {
            let error = refused(None, &["10.0.0.2", address]);
            assert!(error.starts_with(&format!("--peers {address}: ")), "{error}");
        }
        assert!(refused(None, &["10.0.0.2", "10.0.0.3", "10.0.0.2"]).contains("10.0.0.2: it is in the list twice"));
        for name in ["", " ", "a\nb", &"a".repeat(241)] {
            assert!(refused(Some(name), &[]).starts_with("--node-name "), "{name}");
        }
        let not_an_address = toml::from_str::<PeerArgs>("peers = [\"node-b\"]").unwrap_err().to_string();
        assert!(not_an_address.contains("IPv4"), "{not_an_address}");
    }
}
