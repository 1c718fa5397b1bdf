//! The fleet as the program uses it: validated, immutable, looked up by MAC and by address.

use std::{collections::HashMap, fmt, net::Ipv4Addr, path::Path, sync::Arc};

use arc_swap::ArcSwap;
use pxe_common::MacAddr;
use serde::Serialize;

/// The processor architecture that a machine's kernel is built for (`pxeClientSpec.cpuArchitecture`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// AArch64.
    Arm64,
}

/// As the spec, Talos' release files and our JSON spell it.
impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        })
    }
}

/// What a machine is to its Kubernetes cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// From a `TalosControlPlane`.
    ControlPlane,
    /// From a `TalosWorker`.
    Worker,
}

/// Whether a machine boots from the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum BootPolicy {
    /// Until it has been seen to run from its own disk, so that an install loop cannot happen.
    #[default]
    Auto,
    /// At every power-on.
    Always,
    /// Until it was given its kernel once; afterwards it is sent to its disk.
    Once,
    /// Not at all: it is sent to its disk.
    Hold,
}

/// Where pxed answers: `pxeServerSpec` of a `TalosCluster`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Site {
    /// The Linux network interface.
    pub interface: Arc<str>,
    /// Our own address on it.
    pub address: Ipv4Addr,
}

/// Where in the spec something was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file.
    pub file: Arc<Path>,
    /// The line, counted from 1.
    pub line: u32,
}

/// One machine that is ours to boot. It exists only validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// `pxeClientSpec.macAddress`: never zero, never a group address, unique in the inventory.
    pub mac: MacAddr,
    /// The reserved address, unique in the inventory.
    pub address: Ipv4Addr,
    /// The name of its `TalosCluster`.
    pub cluster: Arc<str>,
    /// What it is to the cluster.
    pub role: Role,
    /// `pxeClientSpec.cpuArchitecture`.
    pub architecture: Architecture,
    /// The Talos version with its `v`: the machine's own, else its role's.
    pub version: Arc<str>,
    /// The Image Factory schematic, where `image` names one.
    pub schematic: Option<Arc<str>>,
    /// `pxeClientSpec.kernelCmdlineArgs`, byte for byte.
    pub kernel_args: Arc<str>,
    /// `machineSpec.meta.hostname`.
    pub hostname: Option<Arc<str>>,
    /// `machineSpec.meta.subnet`: bits in the network mask; without it, the interface's.
    pub prefix_length: Option<u8>,
    /// `machineSpec.meta.gateway`.
    pub gateway: Option<Ipv4Addr>,
    /// `machineSpec.meta.dnsServers`.
    pub dns_servers: Arc<[Ipv4Addr]>,
    /// Whether it boots from the network, as the spec says; the API may override it.
    pub policy: BootPolicy,
    /// Where it is served.
    pub site: Arc<Site>,
    /// Where the spec names it.
    pub source: Source,
}

/// The inventory in force. Readers load it for each packet or request; a reload stores the next one.
pub type SharedInventory = Arc<ArcSwap<Inventory>>;

/// Every machine of every cluster: an immutable snapshot, swapped whole when the spec changes.
#[derive(Debug, Default)]
pub struct Inventory {
    machines: Vec<Arc<Machine>>,
    by_mac: HashMap<MacAddr, usize>,
    by_address: HashMap<Ipv4Addr, usize>,
}

impl Inventory {
    /// Builds the snapshot. The caller has made sure that MACs and addresses are unique; of two
    /// machines that share one, the later is found.
    #[must_use]
    pub fn new(machines: Vec<Arc<Machine>>) -> Self {
        let by_mac = machines.iter().enumerate().map(|(index, machine)| (machine.mac, index)).collect();
        let by_address = machines.iter().enumerate().map(|(index, machine)| (machine.address, index)).collect();
        Self { machines, by_mac, by_address }
    }

    /// Every machine, in the order of the spec.
    #[must_use]
    pub fn machines(&self) -> &[Arc<Machine>] {
        &self.machines
    }

    /// The machine with this hardware address.
    #[must_use]
    pub fn by_mac(&self, mac: MacAddr) -> Option<&Arc<Machine>> {
        self.by_mac.get(&mac).map(|&index| &self.machines[index])
    }

    /// The machine that this address is reserved for.
    #[must_use]
    pub fn by_address(&self, address: Ipv4Addr) -> Option<&Arc<Machine>> {
        self.by_address.get(&address).map(|&index| &self.machines[index])
    }
}
