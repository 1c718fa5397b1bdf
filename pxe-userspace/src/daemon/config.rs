//! What a daemon is told at its start.

use std::{path::PathBuf, sync::Arc};

use pxe_common::{MacAddr, layout::Settings};

use super::{cluster::Kubernetes, membership::NodeConfig, secure_boot::SecureBoot};
use crate::{
    admin::AdminConfig,
    dataplane::{Addressing, Datapath},
    dhcp::Mode,
    fetch::FetchConfig,
    model::{confinement::SharedConfinement, history_limits::HistoryLimits, port_range::PortRange},
    telemetry::Endpoint,
};

/// The configuration of a daemon.
#[derive(Clone, Debug)]
pub struct Config {
    /// Files and directories of the cluster spec; at least one unless `kubernetes` or `matchbox` is set.
    pub cluster: Vec<PathBuf>,
    /// The API server that has the cluster spec, instead of files.
    pub kubernetes: Option<Kubernetes>,
    /// The data directory of Matchbox.
    pub matchbox: Option<PathBuf>,
    /// Set if only specs without errors come into force.
    pub strict: bool,
    /// The artifacts directory.
    pub artifacts: PathBuf,
    /// The state directory.
    pub state: PathBuf,
    /// The file or directory of machine configurations.
    pub talos_config: Option<PathBuf>,
    /// Server or proxy mode.
    pub mode: Mode,
    /// The datapath that the operator chose.
    pub datapath: Datapath,
    /// The XDP program's settings: its treatment of unknown machines, and the rate limit of each machine.
    pub settings: Settings,
    /// The addresses at which the sites of the spec are served.
    pub addressing: Addressing,
    /// The port of the boot HTTP server.
    pub http_port: u16,
    /// The ways into the admin API.
    pub admin: AdminConfig,
    /// The lease time in seconds.
    pub lease_seconds: u32,
    /// The key that signs unified kernel images.
    pub secure_boot: Option<SecureBoot>,
    /// Set if files are never downloaded.
    pub offline: bool,
    /// The settings of downloads.
    pub fetch: FetchConfig,
    /// This node and the others of the fleet.
    pub node: NodeConfig,
    /// The MAC addresses of relays and routers whose DHCP frames count as the machines' own.
    pub trusted_relays: Arc<[MacAddr]>,
    /// The collector that gets traces of boots.
    pub otlp_endpoint: Option<Endpoint>,
    /// The privileges that this process has given up.
    pub confinement: SharedConfinement,
    /// The ports of TFTP transfers, if they are not the kernel's choice.
    pub tftp_ports: Option<PortRange>,
    /// The limits of the history of boot events on disk, if one is kept.
    pub history: Option<HistoryLimits>,
    /// Set if the Talos API of machines is tried.
    pub verify_up: bool,
}
