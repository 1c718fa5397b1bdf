//! TFTP servers: tftpd-hpa, atftpd and dnsmasq of Debian, and rs-tftpd of crates.io.
//!
//! None of them is installed on the system: what is not there is unpacked below the target directory.

use std::{
    ffi::OsStr,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, bail};
use pxe_tests::{
    Namespace, Process, assets, build,
    namespace::output,
    requires::{self, Skip},
    suite,
};

/// How long a server may take to open its port.
const START: Duration = Duration::from_secs(10);
/// The version of the crate `tftpd` that is measured.
const RS_TFTPD: &str = "1.0.0";

/// A TFTP server of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TftpPeer {
    /// tftpd-hpa: a process a transfer.
    Hpa,
    /// atftpd: a thread a transfer.
    Atftpd,
    /// dnsmasq: one loop for all.
    Dnsmasq,
    /// rs-tftpd: a thread a transfer.
    RsTftpd,
}

impl TftpPeer {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Hpa, Self::Atftpd, Self::Dnsmasq, Self::RsTftpd];

    /// As tables call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hpa => "tftpd-hpa",
            Self::Atftpd => "atftpd",
            Self::Dnsmasq => "dnsmasq",
            Self::RsTftpd => "rs-tftpd",
        }
    }

    /// The windows that it can be asked for; the others do not know RFC 7440.
    pub(crate) fn knows_windows(self) -> bool {
        matches!(self, Self::Atftpd | Self::RsTftpd)
    }

    /// Starts it in the namespace, on this address of it, over a directory, and waits until it listens.
    ///
    /// # Errors
    ///
    /// [`Skip`] when it is not to be had; else when it does not start, with its last lines.
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
        let program = match self {
            Self::Hpa => unpacked("tftpd-hpa")?.join("usr/sbin/in.tftpd"),
            Self::Atftpd => unpacked("atftpd")?.join("usr/sbin/atftpd"),
            Self::Dnsmasq => {
                requires::tools(&["dnsmasq"])?;
                "dnsmasq".into()
            }
            Self::RsTftpd => rs_tftpd()?,
        };
        let mut command = namespace.command(program.to_str().context("a path that is not UTF-8")?);
        if matches!(self, Self::Hpa | Self::Atftpd) {
            command.env("LD_LIBRARY_PATH", libraries(&unpacked("libwrap0")?)?);
        }
        Ok(command)
    }
}

/// The files of a package of this system's Debian, which is not installed.
fn unpacked(package: &str) -> anyhow::Result<PathBuf> {
    let cache = assets::cache().join("peers");
    let done = cache.join(package);
    if !done.exists() {
        requires::tools(&["apt-get", "dpkg"])?;
        fs::create_dir_all(&cache)?;
        let scratch = tempfile::TempDir::new_in(&cache)?;
        output(Command::new("apt-get").args(["--quiet", "download", package]).current_dir(scratch.path()))
            .map_err(|error| Skip(format!("cannot fetch {package}: {error:#}")))?;
        let archive = fs::read_dir(scratch.path())?.next().context("nothing was downloaded")??.path();
        let files = scratch.path().join("unpacked");
        output(Command::new("dpkg").arg("-x").args([&archive, &files]))?;
        fs::rename(files, &done).context("cannot keep what was unpacked")?;
    }
    Ok(done)
}

/// The directory of a package's shared libraries.
fn libraries(package: &Path) -> anyhow::Result<PathBuf> {
    let directories = fs::read_dir(package.join("usr/lib"))?;
    let found = directories.flatten().find(|entry| entry.file_name().to_string_lossy().contains("-linux-"));
    found.map(|entry| entry.path()).with_context(|| format!("no libraries in {}", package.display()))
}

/// The binary of rs-tftpd, built once.
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
