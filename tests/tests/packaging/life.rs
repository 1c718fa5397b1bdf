//! The life of an installed package.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, process::ExitStatus, time::Instant};

use anyhow::{Context, ensure};
use pxe_lab::{
    Artifacts, Bridged, Process,
    build::{self, Profile},
    cluster::{self, Machine, SERVER_ADDRESS, VERSION},
    deb::Package,
    pxed::ADMIN,
    requires,
    suite::eventually,
    topology::INTERFACE,
};
use serde_json::json;

use crate::system::{SOON, System};

/// Machines that boot while the package is upgraded.
const MACHINES: u8 = 40;
/// The time over which they are powered on.
const ARRIVAL_SECONDS: &str = "8";

const SPEC: &str = "/etc/pxed/clusters/lab.yaml";
const CONFIG: &str = "/etc/pxed/pxed.toml";
const ARTIFACTS: &str = "/var/lib/pxed/artifacts";
const KERNEL: &str = "/var/lib/pxed/artifacts/vmlinuz-by-hand";
const DOWNLOAD: &str = "/var/lib/pxed/artifacts/downloaded";
const STATE: &str = "/var/lib/pxed/state";

/// A fresh system gets the package, its machines boot, and go on booting while it is upgraded. In the end nothing is left of it but what a
/// person has put there.
pub(crate) fn of_a_package() -> anyhow::Result<()> {
    requires::root()?;
    let pxed = build::choose(Profile::Debug)?;
    let network = Bridged::new(SERVER_ADDRESS, 1)?;
    let system = System::start(&network.server)?;
    let (old, new) = ("1.0-1", "1.0-2");
    for version in [old, new] {
        Package { version: Some(version), ..Package::of(&pxed.path) }
            .build(&system.path(&format!("/root/{version}.deb")))?;
    }
    let install = |version: &str| system.run("dpkg", &["--install", &format!("/root/{version}.deb")]);
    let get = |path: &str| network.server.http_get(&format!("http://{ADMIN}{path}"));
    let machines: Vec<_> = (1..=MACHINES).map(Machine::number).collect();
    let rehearse = |arguments: &[&str]| {
        let mut command = network.clients[0].command(&pxed.path);
        command.args(["rehearse", "--interface", INTERFACE, "--firmware", "uefi-x64", "--limit-seconds", "120"]);
        Process::spawn("rehearse", command.args(arguments))
    };

    install(old).context("the installation")?;
    system.wait_for("ActiveState", |state| state == "active")?;
    let status = system.service("StatusText")?;
    ensure!(status.contains("there is no cluster spec yet"), "a fresh installation waits: {status}");
    ensure!(get("/readyz")?.0 == 503, "nothing is served yet");
    ensure!(system.run("systemctl", &["is-enabled", "pxed"])?.trim() == "enabled");
    // In tenths: what is left is what pxed is for, such as its network.
    system.run("systemd-analyze", &["security", "--offline=true", "--threshold=23", "pxed.service"])?;

    let files = Artifacts::stand_ins(&[VERSION], 300_000)?;
    copy(files.path(), &system.path(ARTIFACTS))?;
    fs::write(system.path(SPEC), cluster::cluster(&machines))?;
    let all = format!("Serving {MACHINES} machines on {INTERFACE}");
    system.wait_for("StatusText", |status| status == all)?;
    ensure!(get("/readyz")?.0 == 200);
    let link = network.server.ip(&["-details", "link", "show", INTERFACE])?;
    ensure!(link.contains("prog/xdp "), "XDP in the driver: {link}\n{}", system.log());
    let one = rehearse(&["--hurry", "--mac", &machines[0].mac])?;
    succeeds(one, "a machine boots")?;

    // Scripts may run again, and a change by the administrator stays.
    system.run("/var/lib/dpkg/info/pxed.postinst", &["configure", old]).context("postinst, again")?;
    let config = fs::read_to_string(system.path(CONFIG))? + "# ours\n";
    fs::write(system.path(CONFIG), &config)?;
    upgrade_in_mid_boot(&system, &rehearse, &get, || install(new))?;
    ensure!(fs::read_to_string(system.path(CONFIG))? == config, "the administrator's change is gone");
    system.wait_for("StatusText", |status| status == all)?;

    let before = system.service("MainPID")?;
    fs::write(system.path(SPEC), cluster::cluster(&machines[1..]))?;
    system.run("systemctl", &["reload", "pxed"])?;
    let fewer = format!("Serving {} machines on {INTERFACE}", MACHINES - 1);
    system.wait_for("StatusText", |status| status == fewer)?;
    system.wait_for("ActiveState", |state| state == "active")?;
    ensure!(system.service("MainPID")? == before, "a reload is no restart");

    watchdog_restarts_what_hangs(&system)?;
    system.wait_for("StatusText", |status| status == fewer)?;

    fs::write(system.path(KERNEL), "by hand")?;
    record_download(&system)?;
    system.run("dpkg", &["--remove", "pxed"])?;
    ensure!(get("/healthz").is_err(), "it runs after its removal");
    let link = network.server.ip(&["-details", "link", "show", INTERFACE])?;
    ensure!(!link.contains("prog/xdp "), "its program is left: {link}");
    for path in [CONFIG, SPEC, KERNEL, DOWNLOAD, STATE] {
        ensure!(system.has(path), "{path} is gone after the removal");
    }
    let said = system.run("dpkg", &["--purge", "pxed"])?;
    for path in [CONFIG, DOWNLOAD, STATE, "/var/lib/pxed/artifacts/.pxed", "/var/lib/pxed/downloads"] {
        ensure!(!system.has(path), "{path} is left after the purge: {said}");
    }
    for path in [SPEC, KERNEL] {
        ensure!(system.has(path), "{path} is a person's: {said}");
    }
    let left = system
        .run("find", &["/etc/systemd/system", "/var/lib/systemd/deb-systemd-helper-enabled", "-name", "*pxed*"])?;
    ensure!(left.lines().all(|line| line.contains("pxed.service.d")), "links are left: {left}");
    Ok(())
}

/// Machines are powered on, and the package is upgraded while some of them load.
fn upgrade_in_mid_boot(
    system: &System,
    rehearse: &impl Fn(&[&str]) -> anyhow::Result<Process>,
    get: &impl Fn(&str) -> anyhow::Result<(u16, String)>,
    upgrade: impl FnOnce() -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    let before = system.service("MainPID")?;
    let spec = system.path(SPEC);
    let spec = spec.to_str().context("a path in UTF-8")?;
    let offers = || -> anyhow::Result<f64> {
        let metrics = get("/metrics")?.1;
        let values = metrics.lines().filter(|line| line.starts_with("pxed_dhcp_replies_total{message=\"offer\""));
        Ok(values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    };
    let begun = offers()?;
    let fleet = rehearse(&["--cluster", spec, "--arrival", "ramp", "--over-seconds", ARRIVAL_SECONDS])?;
    eventually("machines ask", SOON, || Ok(offers()? > begun))?;
    let clock = Instant::now();
    upgrade().context("the upgrade")?;
    let (took, log) = (clock.elapsed(), system.log());
    ensure!(system.service("MainPID")? != before, "it was not restarted: {log}");
    let report = succeeds(fleet, "machines boot through an upgrade")?;
    ensure!(report.contains(&format!("{MACHINES} booted, 0 failed")), "{report}\n{log}");
    println!("dpkg took {:.1} s; {}", took.as_secs_f32(), report.lines().next().unwrap_or_default());
    Ok(())
}

/// A process that is stopped gives no sign of life, so systemd ends it and starts another one.
fn watchdog_restarts_what_hangs(system: &System) -> anyhow::Result<()> {
    let directory = system.path("/etc/systemd/system/pxed.service.d");
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("watchdog.conf"), "[Service]\nWatchdogSec=6s\nRestartSec=100ms\n")?;
    system.run("systemctl", &["daemon-reload"])?;
    system.run("systemctl", &["restart", "pxed"])?;
    let before = system.service("MainPID")?;
    system.run("sh", &["-c", &format!("kill -STOP {before}")])?;
    system.wait_for("NRestarts", |restarts| restarts == "1")?;
    system.wait_for("ActiveState", |state| state == "active")?;
    ensure!(system.service("MainPID")? != before);
    let log = system.log();
    ensure!(log.contains("Watchdog timeout"), "{log}");
    Ok(())
}

/// Puts a file in its place as if pxed had downloaded it.
fn record_download(system: &System) -> anyhow::Result<()> {
    fs::write(system.path(DOWNLOAD), "downloaded")?;
    let stat = fs::metadata(system.path(DOWNLOAD))?;
    let identity = json!({
        "size": stat.size(),
        "inode": stat.ino(),
        "modified_ns": stat.mtime() * 1_000_000_000 + stat.mtime_nsec(),
    });
    let entry = json!({
        "sha256": "0".repeat(64),
        "proof": "published-checksum",
        "source": "https://mirror.example/downloaded",
        "file": identity,
        "needed": 0,
    });
    let manifest = json!({"version": 1, "files": {"downloaded": entry}});
    let path = system.path("/var/lib/pxed/artifacts/.pxed/manifest.json");
    fs::write(path, manifest.to_string()).context("the manifest")
}

fn succeeds(mut process: Process, what: &str) -> anyhow::Result<String> {
    let status: ExitStatus = process.wait(SOON * 3)?;
    let said = process.output();
    ensure!(status.success(), "{what}: {status}: {said}");
    Ok(said)
}

/// Copies the files of a directory, with what links in it lead to.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if fs::metadata(entry.path())?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
