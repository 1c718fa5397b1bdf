//! dnsmasq, a DHCP server beside pxed.

use std::time::Duration;

use crate::{namespace::Namespace, process::Process, requires, topology::INTERFACE};

/// A running dnsmasq, which logs every packet. It is stopped when it is dropped.
#[derive(Debug)]
pub struct Dnsmasq {
    /// The process, with its log.
    pub process: Process,
}

impl Dnsmasq {
    /// Starts a dnsmasq that gives addresses from the range (`FIRST,LAST`) of a /24 network.
    ///
    /// # Errors
    ///
    /// Fails with [`requires::Skip`] if it is not installed, or if it does not start.
    pub fn start(namespace: &Namespace, range: &str, extra: &[&str]) -> anyhow::Result<Self> {
        requires::tools(&["dnsmasq"])?;
        let mut command = namespace.command("dnsmasq");
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--log-facility=-", "--log-dhcp", "--port=0"]);
        command.args(["--leasefile-ro", "--no-ping", "--bind-interfaces", "--user=root", "--pid-file="]);
        command
            .arg(format!("--interface={INTERFACE}"))
            .arg(format!("--dhcp-range={range},255.255.255.0,1h"))
            .args(extra);
        let process = Process::spawn("dnsmasq", &mut command)?;
        process.wait_for_line("DHCP, IP range", Duration::from_secs(10))?;
        Ok(Self { process })
    }

    /// Returns `true` if a packet of this machine has reached it.
    #[must_use]
    pub fn has_seen(&self, mac: &str) -> bool {
        self.process.output().contains(mac)
    }
}
