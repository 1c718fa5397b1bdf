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

/// The load of a whole fleet comes from a few thousand machines: none of them is held to its rate, the check is made.
const MACHINE_RATE: &str = "1000000";

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    Pxed { datapath: &'static str },
    Kea(Setup),
    Dnsmasq(Setup),
}

impl Server {
    /// As tables call it.
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

    /// Where the search for its highest rate begins.
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

    /// Starts it, lets `work` load it, and stops it.
    ///
    /// # Errors
    ///
    /// When it does not start, and those of `work`.
    pub(super) fn with<T>(
        self,
        tools: &Tools,
        pair: &Pair,
        machines: u32,
        work: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        // A large buffer is what an administrator gives a server that he expects a storm on. perfdhcp has one in any case:
        // what it loses would be charged to the server.
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

/// What is needed to run them.
pub(super) struct Tools {
    pub(super) kea: Unpacked,
    pub(super) dnsmasq: Unpacked,
    pub(super) artifacts: TempDir,
}
