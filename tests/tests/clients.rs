//! Plain DHCP clients get, renew, rebind and release a lease.

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use pxe_lab::{
    Artifacts, Bridged, Capture, Datapath, Namespace, Process, Pxed,
    capture::{Kind, Message},
    cluster::{self, Machine, SERVER, SERVER_ADDRESS, VERSION},
    requires, suite,
    topology::SWITCH_MAC,
};
use tempfile::TempDir;

/// More than the lease time, with a reserve for a busy machine.
const NEXT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    // All at once: a client without a command for renewal waits for half of its lease.
    suite::main_at_once(suite::on_datapaths(
        &Datapath::ALL,
        &[("udhcpc", udhcpc), ("isc_dhclient", isc_dhclient), ("systemd_networkd", systemd_networkd)],
    ))
}

/// A machine beside pxed whose client is under test.
struct Bench {
    network: Bridged,
    machine: Machine,
    artifacts: Artifacts,
    scratch: TempDir,
}

impl Bench {
    fn new() -> anyhow::Result<Self> {
        let network = Bridged::new(SERVER_ADDRESS, 1)?;
        let machine = Machine::number(1);
        network.set_mac(0, &machine.mac)?;
        Ok(Self { network, machine, artifacts: Artifacts::stand_ins(&[VERSION], 1000)?, scratch: TempDir::new()? })
    }

    fn client(&self) -> &Namespace {
        &self.network.clients[0]
    }

    /// Starts pxed with leases so short that clients without a command for renewal renew them soon.
    fn pxed(&self, datapath: Datapath) -> anyhow::Result<Pxed<'_>> {
        let spec = cluster::cluster(std::slice::from_ref(&self.machine));
        Pxed::start(
            &self.network.server,
            &spec,
            self.artifacts.path(),
            &[&datapath.arguments()[..], &["--lease-seconds", "16"]].concat(),
        )
    }

    /// Writes a program that the client calls to configure the interface, instead of the system's own.
    fn hook(&self, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.scratch.path().join("hook");
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }

    /// Loses all unicasts from the client to the server from now on, as if a router had failed.
    fn lose_unicast(&self) -> anyhow::Result<()> {
        let neighbour = ["neighbour", "replace", SERVER, "lladdr", SWITCH_MAC, "dev", "eth0", "nud", "permanent"];
        self.client().ip(&neighbour).map(drop)
    }

    fn find_unicast_again(&self) -> anyhow::Result<()> {
        self.client().ip(&["neighbour", "del", SERVER, "dev", "eth0"]).map(drop)
    }

    /// Checks the whole life of a lease. `renew` makes a client renew it if the client has a command for that.
    fn lease_lives(
        &self,
        client: &mut Process,
        renew: impl Fn(&Process) -> anyhow::Result<()>,
        release: impl FnOnce(&mut Process) -> anyhow::Result<()>,
        capture: &Capture,
    ) -> anyhow::Result<()> {
        let address: Ipv4Addr = self.machine.address.parse()?;
        let server: Ipv4Addr = SERVER.parse()?;
        let acked = |message: &Message| message.kind == Kind::Ack && message.yiaddr == address;

        let (_, position) = capture.wait_for("lease", 0, NEXT, acked).with_context(|| client.last_lines())?;
        self.wait_for_address()?;

        renew(client)?;
        let renewal =
            |message: &Message| message.kind == Kind::Request && message.ciaddr == address && message.to == server;
        let (request, position) = capture.wait_for("renewal", position, NEXT, renewal)?;
        ensure!(request.option(50).is_none() && request.option(54).is_none(), "not a renewal: {request:?}");
        let (ack, position) = capture.wait_for("answer to it", position, NEXT, acked)?;
        ensure!(ack.to == address && !ack.ethernet_broadcast, "the answer to a renewal is not a unicast: {ack:?}");

        self.lose_unicast()?;
        renew(client)?;
        let rebinding = |message: &Message| {
            message.kind == Kind::Request && message.ciaddr == address && message.to == Ipv4Addr::BROADCAST
        };
        let (_, position) = capture.wait_for("rebinding", position, NEXT, rebinding)?;
        let (_, position) = capture.wait_for("answer to it", position, NEXT, acked)?;
        self.find_unicast_again()?;

        release(client)?;
        let released = |message: &Message| message.kind == Kind::Release && message.ciaddr == address;
        capture.wait_for("release", position, NEXT, released).map(drop)
    }

    /// Waits until the client has assigned its address to the interface.
    fn wait_for_address(&self) -> anyhow::Result<()> {
        let wanted = format!("{}/24", self.machine.address);
        suite::eventually("the address on the interface", NEXT, || {
            Ok(self.client().ip(&["address", "show", "dev", "eth0"])?.contains(&wanted))
        })
    }
}

fn udhcpc(datapath: Datapath) -> anyhow::Result<()> {
    requires::tools(&["udhcpc"])?;
    let bench = Bench::new()?;
    let pxed = bench.pxed(datapath)?;
    let capture = Capture::start(bench.client())?;
    let hook = bench.hook("#!/bin/sh\n[ \"$1\" != bound ] || ip address add $ip/$mask dev $interface\n")?;
    let mut command = bench.client().command("udhcpc");
    let mut client = Process::spawn("udhcpc", command.args(["-f", "-T", "1", "-i", "eth0", "-R", "-s"]).arg(hook))?;
    bench.lease_lives(
        &mut client,
        |client| client.signal(Signal::SIGUSR1),
        |client| client.signal(Signal::SIGUSR2),
        &capture,
    )?;
    knows_the_release(&pxed, &bench.machine)
}

fn isc_dhclient(datapath: Datapath) -> anyhow::Result<()> {
    requires::tools(&["dhclient"])?;
    let bench = Bench::new()?;
    let pxed = bench.pxed(datapath)?;
    let capture = Capture::start(bench.client())?;
    let hook =
        bench.hook("#!/bin/sh\n[ \"$reason\" != BOUND ] || ip address add $new_ip_address/24 dev $interface\n")?;
    let file = |name: &str| bench.scratch.path().join(name);
    // These times replace half and seven eighths of the lease.
    fs::write(file("conf"), "supersede dhcp-renewal-time 2;\nsupersede dhcp-rebinding-time 4;\n")?;
    let arguments = |command: &mut Command| {
        command.arg("-cf").arg(file("conf")).arg("-lf").arg(file("leases")).arg("-pf").arg(file("pid"));
        command.arg("-sf").arg(&hook).args(["-v", "eth0"]);
    };
    let mut command = bench.client().command("dhclient");
    arguments(command.args(["-4", "-d"]));
    let mut client = Process::spawn("dhclient", &mut command)?;
    let release = |_: &mut Process| {
        let mut command = bench.client().command("dhclient");
        arguments(command.args(["-4", "-r"]));
        let mut released = Process::spawn("dhclient -r", &mut command)?;
        released.wait(NEXT).map(drop)
    };
    bench.lease_lives(&mut client, |_| Ok(()), release, &capture)?;
    knows_the_release(&pxed, &bench.machine)
}

fn systemd_networkd(datapath: Datapath) -> anyhow::Result<()> {
    let networkd = Path::new("/lib/systemd/systemd-networkd");
    if !networkd.exists() {
        return Err(requires::Skip("not installed: systemd-networkd (package systemd)".to_owned()).into());
    }
    let bench = Bench::new()?;
    let pxed = bench.pxed(datapath)?;
    let capture = Capture::start(bench.client())?;
    let network = "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n";
    let file = bench.scratch.path().join("lab.network");
    fs::write(&file, network)?;
    // Run it in a mount namespace of its own (`ip netns exec` creates one), which protects the system's configuration
    // and state. With a read-only /sys it does not wait for udev.
    let start = "mount -o remount,bind,ro /sys &&
        mount -t tmpfs tmpfs /run/systemd && mount -t tmpfs tmpfs /etc/systemd/network &&
        mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp &&
        cp $0 /run/systemd/network && chmod -R a+rwX /run/systemd/netif && exec $1";
    let mut command = bench.client().command("sh");
    command.args(["-c", start]).arg(file).arg(networkd).env("SYSTEMD_LOG_LEVEL", "debug");
    let mut client = Process::spawn("systemd-networkd", &mut command)?;
    bench.lease_lives(&mut client, |_| Ok(()), |client| client.signal(Signal::SIGTERM), &capture)?;
    knows_the_release(&pxed, &bench.machine)
}

/// Checks that the release reached pxed: a release has no answer.
fn knows_the_release(pxed: &Pxed<'_>, machine: &Machine) -> anyhow::Result<()> {
    pxed.eventually("the release among the machine's events", Duration::from_secs(10), |pxed| {
        Ok(pxed.machine(&machine.mac)?.to_string().contains("\"release\""))
    })
}
