//! The options about TFTP.

use serde::Deserialize;

use crate::model::port_range::PortRange;

/// The options about TFTP.
#[derive(Debug, Default, clap::Args, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct TftpArgs {
    /// UDP ports from which TFTP transfers are sent, for a firewall between pxed and the machines. A few thousand at least, so that none can be
    /// guessed. Without it, the kernel chooses among net.ipv4.ip_local_port_range
    #[arg(long, env = "PXED_TFTP_PORTS", value_name = "FIRST-LAST")]
    tftp_ports: Option<PortRange>,
}

impl TftpArgs {
    /// Returns the ports in force, given those of the `--config` file.
    pub(super) fn over(self, file: &Self) -> Option<PortRange> {
        self.tftp_ports.or(file.tftp_ports)
    }
}
