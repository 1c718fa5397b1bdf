//! The fleet as the program uses it: validated, immutable, looked up by MAC and by address.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, Hasher},
    net::Ipv4Addr,
    path::Path,
    sync::Arc,
};

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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// Hashes hardware and network addresses by a multiplication, as rustc's FxHash does. An address
/// is looked up for each packet, and the keys of the tables come from the spec alone, so nobody
/// from outside can choose them to collide.
#[derive(Clone, Copy, Debug, Default)]
pub struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        // The table takes its bucket from the low bits and its tag from the high ones, while a multiplication
        // mixes upwards only.
        self.0.rotate_left(26)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let word = chunk.iter().fold(0, |word, &byte| word << 8 | u64::from(byte));
            self.write_u64(word);
        }
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    /// The length of an array, which is the same for all keys of a table.
    fn write_usize(&mut self, _length: usize) {}
}

/// Makes an [`AddressHasher`].
#[derive(Clone, Copy, Debug, Default)]
pub struct AddressHashBuilder;

impl BuildHasher for AddressHashBuilder {
    type Hasher = AddressHasher;

    fn build_hasher(&self) -> AddressHasher {
        AddressHasher::default()
    }
}

/// Every machine of every cluster: an immutable snapshot, swapped whole when the spec changes.
#[derive(Debug, Default)]
pub struct Inventory {
    machines: Vec<Arc<Machine>>,
    by_mac: HashMap<MacAddr, u32, AddressHashBuilder>,
    by_address: HashMap<Ipv4Addr, u32, AddressHashBuilder>,
}

impl Inventory {
    /// Builds the snapshot. The caller has made sure that MACs and addresses are unique; of two
    /// machines that share one, the later is found.
    #[must_use]
    pub fn new(machines: Vec<Arc<Machine>>) -> Self {
        let by_mac = (0..).zip(&machines).map(|(index, machine)| (machine.mac, index)).collect();
        let by_address = (0..).zip(&machines).map(|(index, machine)| (machine.address, index)).collect();
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
        self.by_mac.get(&mac).map(|&index| &self.machines[index as usize])
    }

    /// The machine that this address is reserved for.
    #[must_use]
    pub fn by_address(&self, address: Ipv4Addr) -> Option<&Arc<Machine>> {
        self.by_address.get(&address).map(|&index| &self.machines[index as usize])
    }
}
