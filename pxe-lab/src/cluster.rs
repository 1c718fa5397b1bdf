//! Cluster specs for tests.

use std::fmt::Write;

use crate::{assets::Architecture, topology::INTERFACE};

/// The server's address in the tests' networks.
pub const SERVER: &str = "10.99.0.1";
/// [`SERVER`] with its prefix length.
pub const SERVER_ADDRESS: &str = "10.99.0.1/24";
/// The gateway in the specs.
pub const GATEWAY: &str = "10.99.0.254";
/// The name server in the specs.
pub const DNS: &str = "10.99.0.53";
/// The Talos version in the specs.
pub const VERSION: &str = "v1.13.0";

/// One machine of a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// `pxeClientSpec.macAddress`.
    pub mac: String,
    /// The machine's reserved address.
    pub address: String,
    /// `pxeClientSpec.cpuArchitecture`.
    pub architecture: Architecture,
    /// `pxeClientSpec.kernelCmdlineArgs`.
    pub kernel_args: String,
}

impl Machine {
    /// Returns the machine of this number, at most 99: `52:54:00:99:00:NN` at `10.99.0.(100 + NN)`, amd64.
    #[must_use]
    pub fn number(number: u8) -> Self {
        Self {
            mac: format!("52:54:00:99:00:{number:02x}"),
            address: format!("10.99.0.{}", 100 + u16::from(number)),
            architecture: Architecture::Amd64,
            kernel_args: String::new(),
        }
    }
}

/// Returns a `TalosCluster` of these machines on the lab's usual network.
#[must_use]
pub fn cluster(machines: &[Machine]) -> String {
    cluster_with_gateway(machines, GATEWAY)
}

/// Returns a spec with an annotation on its first cluster.
#[must_use]
pub fn with_annotation(spec: &str, annotation: &str) -> String {
    spec.replacen("  name: lab\n", &format!("  name: lab\n  annotations:\n    {annotation}\n"), 1)
}

/// Returns a spec whose machines boot this schematic of the Image Factory.
#[must_use]
pub fn with_schematic(spec: &str, schematic: &str) -> String {
    let image = format!("        image: factory.talos.dev/metal-installer/{schematic}:{VERSION}\n");
    spec.replacen("      machineSpec:\n", &format!("      machineSpec:\n{image}"), 1)
}

/// Returns the same as [`cluster`] with another gateway for the machines.
#[must_use]
pub fn cluster_with_gateway(machines: &[Machine], gateway: &str) -> String {
    let mut spec = format!(
        "apiVersion: talos.alperen.cloud/v1alpha1
kind: TalosCluster
metadata:
  name: lab
spec:
  pxeServerSpec:
    address: {SERVER}
    interface: {INTERFACE}
  controlPlane:
    version: {VERSION}
    mode: metal
    metalSpec:
      machineSpec:
        meta:
          subnet: 24
          gateway: {gateway}
          dnsServers: [{DNS}]
      machines:
"
    );
    for Machine { mac, address, architecture, kernel_args } in machines {
        // A JSON string is also a YAML string.
        let kernel_args = serde_json::Value::from(kernel_args.as_str());
        let _ = write!(
            spec,
            "        - address: {address}
          pxeClientSpec:
            macAddress: \"{mac}\"
            cpuArchitecture: {}
            kernelCmdlineArgs: {kernel_args}
",
            architecture.name()
        );
    }
    spec
}
