//! The options about relays.

use std::sync::Arc;

use anyhow::Context as _;
use pxe_common::MacAddr;
use serde::Deserialize;

/// The options about relays.
#[derive(Debug, Default, clap::Args, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct RelayArgs {
    /// MAC addresses of relays and routers whose DHCP frames count as the machines' own, so that what they show of a machine is remembered. Without it,
    /// machines behind a relay are answered, and what they do by HTTP is remembered
    #[arg(long = "trusted-relay", env = "PXED_TRUSTED_RELAY", value_name = "MAC", num_args = 1.., value_delimiter = ',')]
    trusted_relay: Vec<String>,
}

impl RelayArgs {
    /// Returns the addresses in force, given the options of the `--config` file.
    ///
    /// # Errors
    ///
    /// If one is no MAC address of one card.
    pub(super) fn over(self, file: Self) -> anyhow::Result<Arc<[MacAddr]>> {
        let given = if self.trusted_relay.is_empty() { file.trusted_relay } else { self.trusted_relay };
        let read = |text: String| {
            let mac: MacAddr = text.parse().with_context(|| format!("--trusted-relay {text}"))?;
            anyhow::ensure!(
                !mac.is_group() && !mac.is_zero(),
                "--trusted-relay {text}: no network card has this address"
            );
            Ok(mac)
        };
        given.into_iter().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(macs: &[&str]) -> RelayArgs {
        RelayArgs { trusted_relay: macs.iter().map(|&mac| mac.to_owned()).collect() }
    }

    #[test]
    fn command_line_replaces_the_file() {
        let [a, b] = ["52:54:00:00:00:01", "5254.0000.0002"];
        let macs = |args: RelayArgs| args.over(RelayArgs { trusted_relay: vec![b.to_owned()] }).unwrap();
        assert_eq!(*macs(args(&[a])), [a.parse().unwrap()]);
        assert_eq!(*macs(args(&[])), [b.parse().unwrap()]);
        assert!(args(&[]).over(args(&[])).unwrap().is_empty());
    }

    #[test]
    fn mistakes_are_named() {
        for text in ["router", "10.0.0.1", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"] {
            let error = args(&[text]).over(args(&[])).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--trusted-relay {text}")), "{error}");
        }
    }
}
