//! The options of a node that is one of several, each of which serves the same spec.

use std::{net::Ipv4Addr, sync::Arc};

use serde::Deserialize;

use crate::dataplane::Addressing;

/// The options of a node among several.
#[derive(Debug, Default, clap::Args, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct NodeArgs {
    /// Addresses of this host to serve at where it does not have pxeServerSpec.address, which another node has. By default it is the
    /// host's own address in that network, if there are several nodes
    #[arg(long, env = "PXED_ADVERTISE", value_name = "ADDRESS", num_args = 1.., value_delimiter = ',')]
    advertise: Vec<Ipv4Addr>,
}

/// The options of a node among several, in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeOptions {
    /// The addresses that it may serve at.
    pub addressing: Addressing,
}

impl NodeArgs {
    /// Returns the options in force, given those of the `--config` file.
    ///
    /// # Errors
    ///
    /// If an address cannot be a host's.
    pub(super) fn over(self, file: Self) -> anyhow::Result<NodeOptions> {
        let Self { advertise } = self;
        let advertised = if advertise.is_empty() { file.advertise } else { advertise };
        for (index, address) in advertised.iter().enumerate() {
            let is_hosts = !(address.is_unspecified() || address.is_multicast() || address.is_broadcast());
            anyhow::ensure!(is_hosts, "--advertise {address}: name an address that an interface of this host has");
            anyhow::ensure!(!advertised[..index].contains(address), "--advertise {address} is given twice");
        }
        let addressing = match advertised.is_empty() {
            true => Addressing::OfSpec,
            false => Addressing::OfNode { advertised: Arc::from(advertised) },
        };
        Ok(NodeOptions { addressing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(given: &[[u8; 4]], of_file: &[[u8; 4]]) -> anyhow::Result<NodeOptions> {
        let args = |addresses: &[[u8; 4]]| NodeArgs { advertise: addresses.iter().copied().map(Into::into).collect() };
        args(given).over(args(of_file))
    }

    fn advertised(addresses: &[[u8; 4]]) -> NodeOptions {
        let advertised = addresses.iter().copied().map(Ipv4Addr::from).collect();
        NodeOptions { addressing: Addressing::OfNode { advertised } }
    }

    #[test]
    fn addresses_of_the_command_line_replace_those_of_the_file() {
        let (first, second) = ([10, 0, 0, 3], [10, 0, 0, 2]);
        assert_eq!(options(&[], &[]).unwrap(), NodeOptions::default());
        assert_eq!(options(&[first, second], &[[10, 9, 9, 9]]).unwrap(), advertised(&[first, second]));
        assert_eq!(options(&[], &[second]).unwrap(), advertised(&[second]));
    }

    #[test]
    fn addresses_that_no_host_has_are_refused() {
        for address in [[0, 0, 0, 0], [224, 0, 0, 1], [255; 4]] {
            let error = options(&[[10, 0, 0, 2], address], &[]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--advertise {}: ", Ipv4Addr::from(address))), "{error}");
        }
        assert!(options(&[[10, 0, 0, 2]; 2], &[]).unwrap_err().to_string().contains("twice"));
    }
}
