//! TFTP servers: tftpd-hpa, atftpd and dnsmasq of Debian, and rs-tftpd, which cargo installs.
//!
//! None of them is installed on the system: missing ones are unpacked below the target directory.

use std::{
    ffi::OsStr,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, bail};
use pxe_lab::{Namespace, Process, build, requires::Skip, suite};

use super::unpacked::Unpacked;

/// The time limit for a server to open its port.
const START: Duration = Duration::from_secs(10);
/// The version of the crate `tftpd` that is measured.
pub(super) const RS_TFTPD: &str = "1.0.0";

/// A TFTP server to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TftpPeer {
    /// tftpd-hpa: one process per transfer.
    Hpa,
    /// atftpd: one thread per transfer.
    Atftpd,
    /// dnsmasq: one loop for all transfers.
    Dnsmasq,
    /// rs-tftpd: one thread per transfer.
    RsTftpd,
}

impl TftpPeer {
    /// All of these servers.
    pub(crate) const ALL: [Self; 4] = [Self::Hpa, Self::Atftpd, Self::Dnsmasq, Self::RsTftpd];

    /// Returns the name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hpa => "tftpd-hpa",
            Self::Atftpd => "atftpd",
            Self::Dnsmasq => "dnsmasq",
            Self::RsTftpd => "rs-tftpd",
        }
    }

    /// Returns `true` if the server supports windows (RFC 7440).
    pub(crate) fn knows_windows(self) -> bool {
        matches!(self, Self::Atftpd | Self::RsTftpd)
    }

    /// Starts the server in the namespace on this address, serving a directory, and waits until it listens.
    ///
    /// # Errors
    ///
    /// Fails with [`Skip`] if the server cannot be fetched, and with its last lines if it does not start.
    pub(crate) fn start(self, namespace: &Namespace, address: Ipv4Addr, files: &Path) -> anyhow::Result<Process> {
        let address = address.to_string();
        let mut command = self.command(namespace)?;
        match self {
            Self::Hpa => {
                command.args(["--foreground", "--user", "root", "--address", &address, "--secure"]).arg(files);
            }
            Self::Atftpd => {
                command.args(["--daemon", "--no-fork", "--user", "root.root", "--logfile", "/dev/null"]);
                command.args(["--maxthread", "2000", "--bind-address", &address]).arg(files);
            }
            Self::Dnsmasq => {
                command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--log-facility=-", "--quiet-tftp"]);
                command.args(["--port=0", "--bind-interfaces", "--user=root", "--pid-file=", "--enable-tftp"]);
                command.arg("--tftp-max=20000").arg(format!("--listen-address={address}"));
                command.arg(format!("--tftp-root={}", files.display()));
            }
            Self::RsTftpd => {
                command.args(["--quiet", "--read-only", "--ip-address", &address, "--directory"]).arg(files);
            }
        }
        let process = Process::spawn(self.name(), &mut command)?;
        suite::eventually("the server to listen on port 69", START, || {
            Ok(!namespace.run("ss", &["-Hlun", "sport = 69"])?.is_empty())
        })
        .with_context(|| process.last_lines())?;
        Ok(process)
    }

    fn command(self, namespace: &Namespace) -> anyhow::Result<Command> {
        match self {
            Self::Hpa => Unpacked::of(&["tftpd-hpa"])?.command(namespace, "in.tftpd"),
            Self::Atftpd => Unpacked::of(&["atftpd"])?.command(namespace, "atftpd"),
            Self::Dnsmasq => Unpacked::of(&["dnsmasq-base"])?.command(namespace, "dnsmasq"),
            Self::RsTftpd => Ok(namespace.command(rs_tftpd()?)),
        }
    }
}

/// Returns the binary of rs-tftpd, after building it the first time.
fn rs_tftpd() -> anyhow::Result<PathBuf> {
    let root = build::target().join("peers");
    let binary = root.join("bin/tftpd");
    if !binary.exists() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let arguments: [&OsStr; 7] =
            ["install", "tftpd", "--version", RS_TFTPD, "--quiet", "--root", root.as_os_str().to_str().unwrap_or(".")]
                .map(OsStr::new);
        let status = Command::new(cargo).args(arguments).status()?;
        if !status.success() {
            bail!(Skip(format!("cannot build rs-tftpd: cargo install tftpd: {status}")));
        }
    }
    Ok(binary)
}
