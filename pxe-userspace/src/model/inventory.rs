//! The fleet as the program uses it: validated, immutable, and found by MAC or by address.

use std::{collections::HashMap, fmt, net::Ipv4Addr, path::Path, sync::Arc};

use arc_swap::ArcSwap;
use pxe_common::MacAddr;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    architecture::Architecture,
    boot_method::BootMethod,
    dhcp_answers::DhcpAnswers,
    loader::{Loader, LoaderFile, OwnLoaders, is_shim},
    policy::{BootPolicy, DiskRoute},
    secrets::Secrets,
    talos_config::TalosConfig,
};

/// The role of a machine in its Kubernetes cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// From a `TalosControlPlane`.
    ControlPlane,
    /// From a `TalosWorker`.
    Worker,
}

/// An interface and address that pxed serves: `pxeServerSpec` of a `TalosCluster`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site {
    /// The Linux network interface.
    pub interface: Arc<str>,
    /// The address of pxed on it.
    pub address: Ipv4Addr,
}

/// A place in the spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file, or the object of the API.
    pub file: Arc<Path>,
    /// The line, counted from 1; 0 in an object.
    pub line: u32,
}

impl Source {
    /// Returns the place in words: `lab.yaml line 12`, or `TalosMachine ns/name`.
    #[must_use]
    pub fn in_words(&self) -> String {
        let Self { file, line } = self;
        if self.is_object() { file.display().to_string() } else { format!("{} line {line}", file.display()) }
    }

    /// Returns `true` for an object of the API of Kubernetes, which has no lines.
    #[must_use]
    pub const fn is_object(&self) -> bool {
        self.line == 0
    }
}

/// Writes `file:line`, or the object.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line } = self;
        write!(f, "{}", file.display())?;
        if self.is_object() { Ok(()) } else { write!(f, ":{line}") }
    }
}

/// A machine of the spec. A value of this type is always validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// `pxeClientSpec.macAddress`: neither zero nor broadcast, and unique in the inventory.
    pub mac: MacAddr,
    /// The MAC addresses of its other network cards, unique in the inventory like the first. A request from any of them is the
    /// machine's.
    pub additional_macs: Arc<[MacAddr]>,
    /// The reserved address, unique in the inventory.
    pub address: Ipv4Addr,
    /// The name of its `TalosCluster`.
    pub cluster: Arc<str>,
    /// Its role in the cluster.
    pub role: Role,
    /// `pxeClientSpec.cpuArchitecture`.
    pub architecture: Architecture,
    /// The Talos version with its `v`: the machine's own, or its role's.
    pub version: Arc<str>,
    /// The Image Factory schematic, if `image` names one.
    pub schematic: Option<Arc<str>>,
    /// `pxeClientSpec.kernelCmdlineArgs`, byte for byte.
    pub kernel_args: Arc<str>,
    /// `machineSpec.meta.hostname`.
    pub hostname: Option<Arc<str>>,
    /// `machineSpec.meta.subnet`: the length of the network prefix in bits. `None` means that of the interface.
    pub prefix_length: Option<u8>,
    /// `machineSpec.meta.gateway`.
    pub gateway: Option<Ipv4Addr>,
    /// `machineSpec.meta.dnsServers`.
    pub dns_servers: Arc<[Ipv4Addr]>,
    /// The boot policy of the spec. The API may override it.
    pub policy: BootPolicy,
    /// The way to its disk when it does not boot from the network.
    pub disk_route: DiskRoute,
    /// `pxed.dev/boot`: the way in which it gets its kernel.
    pub boot: BootMethod,
    /// The loaders that the spec names for it, unless all are the usual ones.
    pub loaders: Option<Arc<OwnLoaders>>,
    /// Its machine configuration, if it gets one from pxed.
    pub talos_config: Option<TalosConfig>,
    /// `pxed.dev/vlans`: the VLANs on which it may ask, besides the untagged network, from 1 to 4094, sorted.
    pub vlans: Arc<[u16]>,
    /// `pxed.dev/dhcp-answers`: the frames in which it gets DHCP answers.
    pub answers: DhcpAnswers,
    /// The protection of what may be secret of its kernel arguments and its machine configuration.
    pub secrets: Secrets,
    /// The interface and address that serve it.
    pub site: Arc<Site>,
    /// The place in the spec that names it.
    pub source: Source,
}

impl Machine {
    /// Returns the MAC addresses of all its network cards, the main one first.
    pub fn macs(&self) -> impl Iterator<Item = MacAddr> + '_ {
        std::iter::once(self.mac).chain(self.additional_macs.iter().copied())
    }

    /// Returns the loader for its firmware, given the usual loader of the firmware's class; `None` if there is none.
    #[must_use]
    pub fn loader(&self, class: Option<LoaderFile>) -> Option<Loader<'_>> {
        let own = self.loaders.as_ref().and_then(|loaders| loaders.get(class));
        own.map(Loader::Own).or(class.map(Loader::Usual))
    }

    /// Returns the shim that its firmware of this class loads, if the spec names one.
    #[must_use]
    pub fn shim(&self, class: Option<LoaderFile>) -> Option<&Arc<str>> {
        self.loaders.as_ref()?.get(class).filter(|name| is_shim(name))
    }

    /// Returns whether both are served in the same way. Their places in the spec do not matter: a line that is added at the
    /// top of a file moves every machine below it.
    #[must_use]
    pub fn is_served_like(&self, other: &Self) -> bool {
        let Self {
            mac,
            additional_macs,
            address,
            cluster,
            role,
            architecture,
            version,
            schematic,
            kernel_args,
            hostname,
            prefix_length,
            gateway,
            dns_servers,
            policy,
            disk_route,
            boot,
            loaders,
            talos_config,
            vlans,
            answers,
            secrets,
            site,
            source: _,
        } = self;
        *mac == other.mac
            && *additional_macs == other.additional_macs
            && *address == other.address
            && *cluster == other.cluster
            && *role == other.role
            && *architecture == other.architecture
            && *version == other.version
            && *schematic == other.schematic
            && *kernel_args == other.kernel_args
            && *hostname == other.hostname
            && *prefix_length == other.prefix_length
            && *gateway == other.gateway
            && *dns_servers == other.dns_servers
            && *policy == other.policy
            && *disk_route == other.disk_route
            && *boot == other.boot
            && *loaders == other.loaders
            && *talos_config == other.talos_config
            && *vlans == other.vlans
            && *answers == other.answers
            && *secrets == other.secrets
            && *site == other.site
    }
}

/// The inventory in force. Readers load it for each packet or request, and a reload stores a new one.
pub type SharedInventory = Arc<ArcSwap<Inventory>>;

/// Builds the hasher of every table that hardware or network addresses are looked up in, which happens for each packet.
///
/// The seed is fixed: the keys of the tables come from the cluster spec, so nobody outside can choose them to collide.
// A lookup among 100,000 machines takes 6.4 ns, an insertion 8.4 ns (`lookup_cost` below; SipHash: 20 and 19 ns).
pub type AddressHashBuilder = foldhash::fast::FixedState;

/// All machines of all clusters: an immutable snapshot, replaced as a whole when the spec changes.
#[derive(Debug, Default)]
pub struct Inventory {
    machines: Vec<Arc<Machine>>,
    by_mac: HashMap<MacAddr, u32, AddressHashBuilder>,
    by_address: HashMap<Ipv4Addr, u32, AddressHashBuilder>,
}

impl Inventory {
    /// Builds the snapshot. MACs and addresses must be unique: of two machines that share one, only the later is found.
    #[must_use]
    pub fn new(machines: Vec<Arc<Machine>>) -> Self {
        let mut by_mac = HashMap::with_capacity_and_hasher(machines.len(), AddressHashBuilder::default());
        for (index, machine) in (0..).zip(&machines) {
            by_mac.extend(machine.macs().map(|mac| (mac, index)));
        }
        let by_address = (0..).zip(&machines).map(|(index, machine)| (machine.address, index)).collect();
        Self { machines, by_mac, by_address }
    }

    /// Returns all machines, in the order of the spec.
    #[must_use]
    pub fn machines(&self) -> &[Arc<Machine>] {
        &self.machines
    }

    /// Returns the machine of which a network card has this hardware address.
    #[must_use]
    pub fn by_mac(&self, mac: MacAddr) -> Option<&Arc<Machine>> {
        self.by_mac.get(&mac).map(|&index| &self.machines[index as usize])
    }

    /// Returns the machine that this address is reserved for.
    #[must_use]
    pub fn by_address(&self, address: Ipv4Addr) -> Option<&Arc<Machine>> {
        self.by_address.get(&address).map(|&index| &self.machines[index as usize])
    }
}

/// The changes of a reload. A machine is identified by its interface and its MAC address, as in the maps of the kernel: one
/// that moves to another interface is removed from the first and added to the second.
#[derive(Debug, Default)]
pub struct Diff {
    /// Machines that are new.
    pub added: Vec<Arc<Machine>>,
    /// Machines that are gone.
    pub removed: Vec<Arc<Machine>>,
    /// Machines that are served differently: the old and the new one.
    pub changed: Vec<(Arc<Machine>, Arc<Machine>)>,
}

impl Diff {
    /// Returns whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { added, removed, changed } = self;
        added.is_empty() && removed.is_empty() && changed.is_empty()
    }
}

/// Returns the changes from the old inventory to the new one.
#[must_use]
pub fn diff(old: &Inventory, new: &Inventory) -> Diff {
    // Both have to lead to each other: the machine of a card that another machine took over is gone.
    let counterpart = |from: &Inventory, to: &Inventory, machine: &Machine| {
        let other = to.by_mac(machine.mac)?;
        let is_mutual = from.by_mac(other.mac).is_some_and(|back| back.mac == machine.mac);
        (is_mutual && other.site.interface == machine.site.interface).then(|| Arc::clone(other))
    };
    let mut diff = Diff::default();
    for machine in &new.machines {
        match counterpart(new, old, machine) {
            None => diff.added.push(Arc::clone(machine)),
            Some(before) if before.is_served_like(machine) => {}
            Some(before) => diff.changed.push((before, Arc::clone(machine))),
        }
    }
    diff.removed.extend(old.machines.iter().filter(|machine| counterpart(old, new, machine).is_none()).cloned());
    diff
}

#[cfg(test)]
mod tests {
    use std::{hash::BuildHasher as _, hint::black_box, time::Instant};

    use super::*;

    fn machine(number: u8, interface: &str, line: u32) -> Machine {
        Machine {
            mac: MacAddr([2, 0, 0, 0, 0, number]),
            additional_macs: Arc::default(),
            address: Ipv4Addr::new(10, 0, 0, number),
            cluster: Arc::from("lab"),
            role: Role::Worker,
            architecture: Architecture::Amd64,
            version: Arc::from("v1.13.0"),
            schematic: None,
            kernel_args: Arc::from(""),
            hostname: None,
            prefix_length: None,
            gateway: None,
            dns_servers: Arc::from([]),
            policy: BootPolicy::Auto,
            disk_route: DiskRoute::Auto,
            boot: Default::default(),
            loaders: None,
            talos_config: None,
            vlans: Arc::default(),
            answers: Default::default(),
            secrets: Default::default(),
            site: Arc::new(Site { interface: Arc::from(interface), address: Ipv4Addr::new(10, 0, 0, 254) }),
            source: Source { file: Arc::from(Path::new("lab.yaml")), line },
        }
    }

    fn inventory(machines: impl IntoIterator<Item = Machine>) -> Inventory {
        Inventory::new(machines.into_iter().map(Arc::new).collect())
    }

    fn macs(machines: &[Arc<Machine>]) -> Vec<u8> {
        machines.iter().map(|machine| machine.mac.0[5]).collect()
    }

    #[test]
    fn machines_are_found_by_either_address() {
        let inventory = inventory((1..=200).map(|number| machine(number, "eth1", 1)));
        for number in 1..=200 {
            let wanted = machine(number, "eth1", 1);
            assert_eq!(inventory.by_mac(wanted.mac).map(|found| &**found), Some(&wanted));
            assert_eq!(inventory.by_address(wanted.address).map(|found| &**found), Some(&wanted));
        }
        assert_eq!(inventory.by_mac(MacAddr([2, 0, 0, 0, 0, 201])), None);
        assert_eq!(inventory.by_address(Ipv4Addr::new(10, 0, 0, 201)), None);
    }

    #[test]
    fn diff_names_what_changed_and_nothing_else() {
        let old = inventory([1, 2, 3, 4].map(|number| machine(number, "eth1", 1)));
        let other_version = Machine { version: Arc::from("v1.14.0"), ..machine(2, "eth1", 1) };
        let new = inventory([machine(1, "eth1", 9), other_version, machine(4, "eth2", 1), machine(5, "eth1", 1)]);
        let diff = diff(&old, &new);
        assert_eq!(macs(&diff.added), [4, 5]);
        assert_eq!(macs(&diff.removed), [3, 4]);
        assert_eq!(diff.changed.len(), 1);
        assert_eq!(&*diff.changed[0].0.version, "v1.13.0");
        assert_eq!(&*diff.changed[0].1.version, "v1.14.0");
    }

    #[test]
    fn machine_is_found_by_each_of_its_cards() {
        let cards: Arc<[MacAddr]> = [7, 8, 9].map(|number| MacAddr([2, 0, 0, 0, 0, number])).into();
        let two = Machine { additional_macs: Arc::clone(&cards), ..machine(2, "eth1", 1) };
        let inventory = inventory([machine(1, "eth1", 1), two]);
        assert_eq!(inventory.machines().len(), 2);
        for mac in cards.iter().copied().chain([MacAddr([2, 0, 0, 0, 0, 2])]) {
            assert_eq!(inventory.by_mac(mac).map(|found| found.address), Some(Ipv4Addr::new(10, 0, 0, 2)), "{mac}");
        }
    }

    #[test]
    fn diff_follows_a_machine_whose_cards_swap_and_removes_one_that_another_takes_in() {
        let with = |number, other: u8| Machine {
            additional_macs: [MacAddr([2, 0, 0, 0, 0, other])].into(),
            ..machine(number, "eth1", 1)
        };
        let swapped = diff(&inventory([with(1, 2)]), &inventory([with(2, 1)]));
        assert_eq!((swapped.added.len(), swapped.removed.len(), swapped.changed.len()), (0, 0, 1));
        let merged = diff(&inventory([machine(1, "eth1", 1), machine(2, "eth1", 1)]), &inventory([with(2, 1)]));
        assert_eq!((macs(&merged.added), macs(&merged.removed)), (vec![], vec![1]));
        assert_eq!(merged.changed.len(), 1);
        let split = diff(&inventory([with(2, 1)]), &inventory([machine(1, "eth1", 1), machine(2, "eth1", 1)]));
        assert_eq!((macs(&split.added), macs(&split.removed)), (vec![1], vec![]));
        assert_eq!(split.changed.len(), 1);
    }

    #[test]
    fn line_that_moves_changes_nothing() {
        let old = inventory([machine(1, "eth1", 1)]);
        assert!(diff(&old, &inventory([machine(1, "eth1", 2)])).is_empty());
    }

    /// A figure, not a test: `cargo test --release -p pxe-userspace --lib model::inventory -- --ignored --nocapture`
    #[test]
    #[ignore = "measures"]
    fn lookup_cost() {
        const MACHINES: u32 = 100_000;
        let in_order: Vec<_> = (0..MACHINES)
            .map(|number| {
                let [_, a, b, c] = number.to_be_bytes();
                MacAddr([0x52, 0x54, 0, a, b, c])
            })
            .collect();
        let mut shuffled = in_order.clone();
        let mut random = 1_u64;
        for last in (1..shuffled.len()).rev() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shuffled.swap(last, (random >> 33) as usize % (last + 1));
        }
        let nanoseconds = |begin: Instant| begin.elapsed().as_nanos() as f64 / f64::from(MACHINES);
        let (mut building, mut looking_up) = (f64::MAX, f64::MAX);
        for _ in 0..50 {
            let begin = Instant::now();
            let by_mac: HashMap<MacAddr, u32, AddressHashBuilder> = in_order.iter().copied().zip(0..).collect();
            building = building.min(nanoseconds(begin));
            let begin = Instant::now();
            let sum: u64 = shuffled.iter().map(|mac| u64::from(by_mac[black_box(mac)])).sum();
            looking_up = looking_up.min(nanoseconds(begin));
            assert_eq!(sum, (0..u64::from(MACHINES)).sum::<u64>());
        }
        println!("{MACHINES} machines: {building:.2} ns to insert one, {looking_up:.2} ns to look one up");
    }

    #[test]
    fn addresses_in_a_row_spread_over_the_whole_table() {
        const BUCKETS: u64 = 1 << 17;
        let mut buckets = std::collections::HashSet::new();
        let mut tags = std::collections::HashSet::new();
        for number in 0..100_000_u32 {
            let [_, a, b, c] = number.to_be_bytes();
            let hash = AddressHashBuilder::default().hash_one(MacAddr([0x52, 0x54, 0, a, b, c]));
            buckets.insert(hash % BUCKETS);
            tags.insert(hash >> 57);
        }
        // Thrown at random, 100,000 of 131,072 hit 1 - exp(-100/131) = 53 % of the buckets.
        assert!(buckets.len() > 65_000, "{} buckets", buckets.len());
        assert_eq!(tags.len(), 128);
    }
}
