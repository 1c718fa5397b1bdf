//! dnsmasq, the DHCP server that others run beside pxed.

use std::time::Duration;

use crate::{namespace::Namespace, process::Process, requires, topology::INTERFACE};

/// A running dnsmasq, ended when it is dropped. It logs every packet.
#[derive(Debug)]
pub struct Dnsmasq {
    /// The process itself, with what it logs.
    pub process: Process,
}

impl Dnsmasq {
    /// Starts one that gives addresses from the range (`FIRST,LAST`) of a /24 network.
    ///
    /// # Errors
    ///
    /// [`requires::Skip`] when it is not installed; else when it does not start.
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

    /// Whether a packet of this machine has reached it.
    #[must_use]
    pub fn has_seen(&self, mac: &str) -> bool {
        self.process.output().contains(mac)
    }
}
