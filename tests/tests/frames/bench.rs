//! pxed at one end of a cable, hand-made frames at the other.

use std::net::{Ipv4Addr, SocketAddrV4};

use pxe_lab::{
    Artifacts, Datapath, Namespace, Pxed,
    cluster::{self, Machine, SERVER, SERVER_ADDRESS, VERSION},
    pxed::Metrics,
    topology::{INTERFACE, veth_with_queues},
};

use crate::{plug::Plug, wire::Mac};

/// The MAC of pxed's interface.
pub(crate) const SERVER_MAC: Mac = [0x02, 0, 0, 0, 0, 0x01];
/// Another server on the same network, and its MAC.
pub(crate) const OTHER_SERVER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 77);
pub(crate) const OTHER_SERVER_MAC: Mac = [0x02, 0, 0, 0, 0, 0x77];

/// Two namespaces and the cable between them; `eth0` is the interface at both ends.
pub(crate) struct Bench {
    pub(crate) server: Namespace,
    pub(crate) client: Namespace,
    pub(crate) artifacts: Artifacts,
}

impl Bench {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Self::with_queues(1)
    }

    /// Creates a bench with this number of queues at both ends of the cable.
    pub(crate) fn with_queues(queues: u32) -> anyhow::Result<Self> {
        let bench = Self {
            server: Namespace::new("server")?,
            client: Namespace::new("client")?,
            artifacts: Artifacts::stand_ins(&[VERSION], 1000)?,
        };
        bench.plug_in_with_queues(INTERFACE, SERVER_ADDRESS, queues)?;
        Ok(bench)
    }

    /// Adds a cable between interfaces of this name; the server's has this address and [`SERVER_MAC`].
    pub(crate) fn plug_in(&self, interface: &str, address: &str) -> anyhow::Result<()> {
        self.plug_in_with_queues(interface, address, 1)
    }

    fn plug_in_with_queues(&self, interface: &str, address: &str, queues: u32) -> anyhow::Result<()> {
        veth_with_queues(&self.server, interface, &self.client, interface, queues)?;
        let [a, b, c, d, e, f] = SERVER_MAC;
        let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
        self.server.ip(&["link", "set", interface, "address", &mac])?;
        self.server.ip(&["address", "add", address, "dev", interface]).map(drop)
    }

    /// Sets the MTU of both ends.
    pub(crate) fn set_mtu(&self, bytes: u16) -> anyhow::Result<()> {
        for end in [&self.client, &self.server] {
            end.ip(&["link", "set", INTERFACE, "mtu", &bytes.to_string()])?;
        }
        Ok(())
    }

    /// Starts pxed with these machines.
    pub(crate) fn pxed(&self, datapath: Datapath, machines: &[Machine], extra: &[&str]) -> anyhow::Result<Pxed<'_>> {
        self.pxed_with(datapath, &cluster::cluster(machines), extra)
    }

    /// Starts pxed with this spec.
    pub(crate) fn pxed_with(&self, datapath: Datapath, spec: &str, extra: &[&str]) -> anyhow::Result<Pxed<'_>> {
        self.pxed_by_options(spec, &[&datapath.arguments(), extra].concat())
    }

    /// Starts pxed with this spec and only these options, so that it chooses the datapath itself.
    pub(crate) fn pxed_by_options(&self, spec: &str, options: &[&str]) -> anyhow::Result<Pxed<'_>> {
        Pxed::start(&self.server, spec, self.artifacts.path(), options)
    }

    /// Starts pxed with this spec and these options, without waiting until it is ready.
    pub(crate) fn pxed_without_waiting(&self, spec: &str, options: &[&str]) -> anyhow::Result<Pxed<'_>> {
        Pxed::launch(&self.server, spec, self.artifacts.path(), options)
    }

    /// Opens the client's end.
    pub(crate) fn plug(&self) -> anyhow::Result<Plug> {
        Plug::open(&self.client, INTERFACE)
    }
}

/// Returns the server's address with a port.
pub(crate) fn server_at(port: u16) -> anyhow::Result<SocketAddrV4> {
    Ok(SocketAddrV4::new(SERVER.parse()?, port))
}

/// Returns the frames counted for this reason: by the XDP program, and by pxed for those that bypassed the program.
pub(crate) fn frames(metrics: &Metrics, reason: &str) -> f64 {
    let label = format!("reason=\"{reason}\"");
    ["pxed_xdp_packets_total", "pxed_socket_frames_refused_total"].iter().map(|name| metrics.sum(name, &[&label])).sum()
}

/// Returns the DHCP packets that stayed unanswered for this reason.
pub(crate) fn silences(metrics: &Metrics, reason: &str) -> f64 {
    metrics.sum("pxed_dhcp_silences_total", &[&format!("reason=\"{reason}\"")])
}
