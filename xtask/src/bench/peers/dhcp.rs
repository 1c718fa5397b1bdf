//! DHCP servers: dnsmasq and Kea, as packaged and as an administrator would tune them for a storm.

use std::{fmt::Write as _, fs, net::Ipv4Addr, path::Path, time::Duration};

use anyhow::Context;
use pxe_lab::{Namespace, Process};
use serde_json::json;
use tempfile::TempDir;

use super::unpacked::Unpacked;
use crate::bench::lab::{INTERFACE, PREFIX_LENGTH, SERVER, machine};

/// The limit for a start with 10,000 reservations.
const START: Duration = Duration::from_secs(60);

/// The setup of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setup {
    /// Debian's default: leases on the disk, every exchange logged.
    Packaged,
    /// No lease file; dnsmasq logs no exchange. The benchmark adds large socket buffers, see [`SocketBuffers`].
    Tuned,
    /// Tuned, and Kea logs no exchange either.
    Silent,
}

/// A running server with its files.
#[derive(Debug)]
pub(crate) struct Running {
    _process: Process,
    _files: TempDir,
}

/// Starts dnsmasq with a static reservation for each machine. `extra` are further options: TFTP, boot files.
///
/// # Errors
///
/// Fails if it does not start.
pub(crate) fn dnsmasq(
    unpacked: &Unpacked,
    namespace: &Namespace,
    machines: u32,
    setup: Setup,
    extra: &[String],
) -> anyhow::Result<Running> {
    let files = TempDir::with_prefix("pxed-bench-")?;
    let mut hosts = String::new();
    for (mac, address) in (0..machines).map(machine) {
        let _ = writeln!(hosts, "{mac},{address},1h");
    }
    let hosts_file = files.path().join("hosts");
    fs::write(&hosts_file, hosts)?;
    let network = Ipv4Addr::from_bits(SERVER.to_bits() & (u32::MAX << (32 - PREFIX_LENGTH)));
    let mut command = unpacked.command(namespace, "dnsmasq")?;
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--bind-interfaces", "--user=root"]);
    command.args(["--pid-file=", "--dhcp-lease-max=200000", &format!("--interface={INTERFACE}")]);
    command.arg(format!("--log-facility={}", files.path().join("log").display()));
    command.arg(format!("--dhcp-range={network},static,255.255.0.0,1h"));
    command.arg(format!("--dhcp-hostsfile={}", hosts_file.display())).args(extra);
    match setup {
        Setup::Packaged => command.arg(format!("--dhcp-leasefile={}", files.path().join("leases").display())),
        Setup::Tuned | Setup::Silent => command.args(["--leasefile-ro", "--quiet-dhcp", "--no-ping"]),
    };
    let process = Process::spawn("dnsmasq", &mut command)?;
    wait_for_log(&files.path().join("log"), "read ")?;
    Ok(Running { _process: process, _files: files })
}

/// Starts Kea with a static reservation for each machine and this number of threads.
///
/// # Errors
///
/// Fails if it does not start.
pub(crate) fn kea(
    unpacked: &Unpacked,
    namespace: &Namespace,
    machines: u32,
    setup: Setup,
    threads: u32,
    options: &serde_json::Value,
) -> anyhow::Result<Running> {
    let files = TempDir::with_prefix("pxed-bench-")?;
    let reservations: Vec<_> =
        (0..machines).map(machine).map(|(mac, address)| json!({"hw-address": mac, "ip-address": address})).collect();
    let network = Ipv4Addr::from_bits(SERVER.to_bits() & (u32::MAX << (32 - PREFIX_LENGTH)));
    let severity = if setup == Setup::Silent { "WARN" } else { "INFO" };
    let log = files.path().join("log");
    let mut dhcp4 = json!({
        "interfaces-config": {"interfaces": [INTERFACE], "dhcp-socket-type": "raw"},
        "lease-database": {
            "type": "memfile",
            "persist": setup == Setup::Packaged,
            "name": files.path().join("leases"),
            "lfc-interval": 3600,
        },
        "valid-lifetime": 3600,
        "host-reservation-identifiers": ["hw-address"],
        "multi-threading": {"enable-multi-threading": threads > 1, "thread-pool-size": threads, "packet-queue-size": 16384},
        "subnet4": [{
            "id": 1,
            "subnet": format!("{network}/{PREFIX_LENGTH}"),
            "reservations-global": false,
            "reservations-in-subnet": true,
            "reservations-out-of-pool": true,
            "pools": [],
            "reservations": reservations,
        }],
        "loggers": [{"name": "kea-dhcp4", "severity": severity, "output_options": [{"output": &log}]}],
    });
    if let (Some(dhcp4), Some(options)) = (dhcp4.as_object_mut(), options.as_object()) {
        dhcp4.extend(options.clone());
    }
    let configuration = files.path().join("kea.json");
    fs::write(&configuration, json!({ "Dhcp4": dhcp4 }).to_string())?;
    let mut command = unpacked.command(namespace, "kea-dhcp4")?;
    command.arg("-c").arg(&configuration);
    command.env("KEA_LOCKFILE_DIR", files.path()).env("KEA_PIDFILE_DIR", files.path());
    let process = Process::spawn("kea-dhcp4", &mut command)?;
    // Kea reports its start only at INFO: ask the kernel for its socket instead.
    wait_until(|| {
        let sockets = namespace.run("cat", &["/proc/net/packet", "/proc/net/udp"])?;
        Ok(sockets.lines().any(|line| line.contains(":0043 ")))
    })
    .with_context(|| format!("kea-dhcp4: {}", process.last_lines()))?;
    Ok(Running { _process: process, _files: files })
}

fn wait_for_log(file: &Path, pattern: &str) -> anyhow::Result<()> {
    wait_until(|| Ok(fs::read_to_string(file).is_ok_and(|text| text.contains(pattern))))
        .with_context(|| format!("{}: {}", file.display(), fs::read_to_string(file).unwrap_or_default()))
}

fn wait_until(holds: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    pxe_lab::suite::eventually("the start of a peer", START, holds)
}
