//! The benchmarks' lab: two hosts on one cable, a fleet as a spec, and the files that it boots.

use std::{fmt::Write as _, fs, net::Ipv4Addr, path::Path};

use pxe_lab::{Namespace, cluster, topology};
use tempfile::TempDir;

/// The server's address; its network has room for 65,000 machines.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// The client's own address, from which perfdhcp relays.
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
/// The prefix length of their network.
pub(crate) const PREFIX_LENGTH: u8 = 16;
/// The name of the interface on either side.
pub(crate) const INTERFACE: &str = topology::INTERFACE;

/// The first machine's hardware address; the others follow.
pub(crate) const FIRST_MAC: [u8; 6] = [0x00, 0x0c, 0x01, 0x02, 0x00, 0x00];
/// The first machine's address; the others follow.
pub(crate) const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 1, 0);

/// A server and a client, each in a namespace of its own, joined by a veth pair.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) server: Namespace,
    pub(crate) client: Namespace,
}

impl Pair {
    /// Creates both namespaces and connects them.
    ///
    /// # Errors
    ///
    /// Fails without root or iproute2.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let pair = Self { server: Namespace::new("server")?, client: Namespace::new("client")? };
        topology::veth(&pair.server, INTERFACE, &pair.client, INTERFACE)?;
        for (namespace, address) in [(&pair.server, SERVER), (&pair.client, CLIENT)] {
            namespace.ip(&["address", "add", &format!("{address}/{PREFIX_LENGTH}"), "dev", INTERFACE])?;
        }
        // A client connects from thousands of addresses to one.
        pair.client.sysctl("net/ipv4/ip_local_port_range", "1024 65535")?;
        Ok(pair)
    }
}

/// The networks of the first 16,000 machines. They contain neither the server nor the client's own address.
const FLEET: [&str; 6] =
    ["10.99.1.0/24", "10.99.2.0/23", "10.99.4.0/22", "10.99.8.0/21", "10.99.16.0/20", "10.99.32.0/19"];

impl Pair {
    /// Gives the client the addresses of the machines, routed through its own address. The limit of the kernel's neighbour table
    /// (1,024 entries by default) is not under test here.
    ///
    /// # Errors
    ///
    /// Fails with the output of `ip`.
    pub(crate) fn route_fleet(&self) -> anyhow::Result<()> {
        for network in FLEET {
            self.server.ip(&["route", "add", network, "via", &CLIENT.to_string()])?;
            self.client.ip(&["route", "add", "local", network, "dev", "lo"])?;
        }
        Ok(())
    }
}

/// Returns the hardware and network address of a machine, by its number counted from 0.
pub(crate) fn machine(number: u32) -> (String, Ipv4Addr) {
    let [a, b, c, d, e, f] = FIRST_MAC;
    let low = u32::from_be_bytes([c, d, e, f]) + number;
    let [c, d, e, f] = low.to_be_bytes();
    let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
    (mac, Ipv4Addr::from_bits(FIRST_ADDRESS.to_bits() + number))
}

/// Returns a `TalosCluster` with this number of machines, all amd64.
pub(crate) fn spec(machines: u32) -> String {
    let mut spec = format!(
        "apiVersion: talos.alperen.cloud/v1alpha1\nkind: TalosCluster\nmetadata: {{name: bench}}\nspec:\n  \
         pxeServerSpec: {{address: {SERVER}, interface: {INTERFACE}}}\n  controlPlane:\n    version: {}\n    mode: metal\n    \
         metalSpec:\n      machineSpec: {{meta: {{subnet: {PREFIX_LENGTH}, gateway: {SERVER}}}}}\n      machines:\n",
        cluster::VERSION
    );
    for (mac, address) in (0..machines).map(machine) {
        let _ = writeln!(
            spec,
            "        - {{address: {address}, pxeClientSpec: {{macAddress: '{mac}', cpuArchitecture: amd64}}}}"
        );
    }
    spec
}

/// The sizes of a boot's files in bytes. Their content is random.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) loader: usize,
    pub(crate) kernel: usize,
    pub(crate) initramfs: usize,
}

/// The name of the loader in the artifacts directory.
pub(crate) const LOADER: &str = "ipxe-efi-x86_64.efi";

/// Returns the name of the kernel in the artifacts directory.
pub(crate) fn kernel() -> String {
    format!("vmlinuz-{}-amd64", cluster::VERSION)
}

/// Returns the name of the initramfs in the artifacts directory.
pub(crate) fn initramfs() -> String {
    format!("initramfs-{}-amd64.xz", cluster::VERSION)
}

/// Writes an artifacts directory.
///
/// # Errors
///
/// Fails if there is no room for it.
pub(crate) fn artifacts(sizes: Sizes) -> anyhow::Result<TempDir> {
    let directory = TempDir::with_prefix("pxed-bench-")?;
    for (name, length) in [
        (LOADER.to_owned(), sizes.loader),
        ("undionly.kpxe".to_owned(), sizes.loader),
        (kernel(), sizes.kernel),
        (initramfs(), sizes.initramfs),
    ] {
        write_random(&directory.path().join(name), length)?;
    }
    Ok(directory)
}

/// Writes a file of random bytes, which nothing on the way can compress.
///
/// # Errors
///
/// Fails if there is no room for it.
pub(crate) fn write_random(path: &Path, length: usize) -> anyhow::Result<()> {
    let random = fs::File::open("/dev/urandom")?;
    let mut file = fs::File::create(path)?;
    std::io::copy(&mut std::io::Read::take(random, length as u64), &mut file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_follow_one_another() {
        assert_eq!(machine(0), ("00:0c:01:02:00:00".to_owned(), Ipv4Addr::new(10, 99, 1, 0)));
        assert_eq!(machine(0x1_0203).0, "00:0c:01:03:02:03");
        assert_eq!(machine(9_999).1, Ipv4Addr::new(10, 99, 40, 15));
    }
}
