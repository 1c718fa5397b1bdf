//! The DHCP servers, started and stopped.

use pxe_lab::Pxed;
use serde_json::json;
use tempfile::TempDir;

use crate::bench::{
    lab::{self, Pair},
    peers::{
        dhcp::{self, Setup},
        unpacked::Unpacked,
    },
    sysctl::Settings,
};

/// A few thousand machines carry the load of a whole fleet: pxed checks the rate of each, but limits none.
const MACHINE_RATE: &str = "1000000";

/// The server that answers, with its setup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    Pxed { datapath: &'static str },
    Kea(Setup),
    Dnsmasq(Setup),
}

impl Server {
    /// Returns the name in tables.
    pub(super) fn name(self) -> String {
        match self {
            Self::Pxed { datapath } => format!("**pxed**, `--datapath {datapath}`"),
            Self::Kea(Setup::Packaged) => "Kea, as packaged".to_owned(),
            Self::Kea(Setup::Tuned) => "Kea, tuned".to_owned(),
            Self::Kea(Setup::Silent) => "Kea, tuned and silent".to_owned(),
            Self::Dnsmasq(Setup::Packaged) => "dnsmasq, as packaged".to_owned(),
            Self::Dnsmasq(Setup::Tuned | Setup::Silent) => "dnsmasq, tuned".to_owned(),
        }
    }

    /// Returns the rate at which the search for the highest one begins.
    pub(super) const fn likely_rate(self, machines: u32) -> f64 {
        match self {
            Self::Pxed { .. } => 12_000.0,
            Self::Kea(_) => 5_000.0,
            Self::Dnsmasq(Setup::Packaged) if machines > 1_000 => 150.0,
            Self::Dnsmasq(Setup::Packaged) => 300.0,
            Self::Dnsmasq(_) if machines > 1_000 => 800.0,
            Self::Dnsmasq(_) => 5_000.0,
        }
    }

    /// Starts the server, lets `work` load it, and stops it.
    ///
    /// # Errors
    ///
    /// Fails if the server does not start or `work` fails.
    pub(super) fn with<T>(
        self,
        tools: &Tools,
        pair: &Pair,
        machines: u32,
        work: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        // Tuned servers get the large buffer that an administrator sets before an expected storm. perfdhcp always gets one:
        // its own losses would be charged to the server.
        let is_tuned = !matches!(self, Self::Kea(Setup::Packaged) | Self::Dnsmasq(Setup::Packaged));
        let _buffers = is_tuned.then(Settings::large_socket_buffers).transpose()?;
        let work = || {
            let _buffers = (!is_tuned).then(Settings::large_socket_buffers).transpose()?;
            work()
        };
        match self {
            Self::Pxed { datapath } => {
                let spec = lab::spec(machines);
                let _pxed = Pxed::start(
                    &pair.server,
                    &spec,
                    tools.artifacts.path(),
                    &["--datapath", datapath, "--machine-rate", MACHINE_RATE],
                )?;
                work()
            }
            Self::Kea(setup) => {
                let _kea = dhcp::kea(&tools.kea, &pair.server, machines, setup, 1, &json!({}))?;
                work()
            }
            Self::Dnsmasq(setup) => {
                let _dnsmasq = dhcp::dnsmasq(&tools.dnsmasq, &pair.server, machines, setup, &[])?;
                work()
            }
        }
    }
}

/// The programs needed to run the servers.
pub(super) struct Tools {
    pub(super) kea: Unpacked,
    pub(super) dnsmasq: Unpacked,
    pub(super) artifacts: TempDir,
}
