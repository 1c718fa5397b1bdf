//! A network with pxed, a mirror beside it, and an artifacts directory that is empty at first.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use pxe_lab::{
    Bridged, Disk, Mirror, Process, Pxed, build,
    cluster::{self, Machine, VERSION},
    suite::eventually,
    topology::INTERFACE,
};
use serde_json::Value;
use tempfile::TempDir;

/// The time limit for whatever takes seconds at most on an idle machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The length of kernels and initramfs images.
pub(crate) const LENGTH: usize = 1 << 20;

pub(crate) struct Lab {
    pub(crate) bridged: Bridged,
    pub(crate) mirror: Mirror,
    pub(crate) artifacts: TempDir,
    /// The file system of the artifacts, if they have one of their own.
    pub(crate) disk: Option<Disk>,
}

/// Returns the path of a file of this version at the mirror.
pub(crate) fn upstream(version: &str, name: &str) -> String {
    format!("/talos/{version}/{name}")
}

pub(crate) const KERNEL: &str = "vmlinuz-amd64";
pub(crate) const INITRAMFS: &str = "initramfs-amd64.xz";

/// Returns bytes that can be a kernel for x86-64, and tell its version.
pub(crate) fn kernel(version: &str) -> Vec<u8> {
    let mut kernel = vec![0; LENGTH];
    kernel[0x1f4] = 16;
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    kernel[0x1000..0x1000 + version.len()].copy_from_slice(version.as_bytes());
    kernel
}

/// Returns bytes that can be an initramfs, and tell its version.
pub(crate) fn initramfs(version: &str) -> Vec<u8> {
    let mut initramfs = vec![b'i'; LENGTH];
    initramfs[..6].copy_from_slice(b"\xfd7zXZ\0");
    initramfs[0x1000..0x1000 + version.len()].copy_from_slice(version.as_bytes());
    initramfs
}

impl Lab {
    /// Returns a lab whose mirror has these versions.
    pub(crate) fn new(versions: &[&str]) -> anyhow::Result<Self> {
        let bridged = Bridged::new(cluster::SERVER_ADDRESS, 1)?;
        let mirror = Mirror::start_in(&bridged.server)?;
        let lab = Self { bridged, mirror, artifacts: TempDir::new()?, disk: None };
        versions.iter().try_for_each(|version| lab.publish(version))?;
        for build in ["x86_64-efi/ipxe.efi", "undionly.kpxe"] {
            lab.mirror.put(&format!("/ipxe/{build}"), "a loader")?;
        }
        Ok(lab)
    }

    /// Returns a lab whose artifacts are on a disk of this size.
    pub(crate) fn with_disk(versions: &[&str], size: &str) -> anyhow::Result<Self> {
        Ok(Self { disk: Some(Disk::new(size)?), ..Self::new(versions)? })
    }

    /// Puts a version on the mirror.
    pub(crate) fn publish(&self, version: &str) -> anyhow::Result<()> {
        self.mirror.release(version, KERNEL, kernel(version))?;
        self.mirror.release(version, INITRAMFS, initramfs(version))
    }

    /// Returns the options with which pxed asks the mirror.
    pub(crate) fn options(&self) -> Vec<String> {
        let mut options = self.mirror.options();
        options.push("--offline=false".to_owned());
        options
    }

    pub(crate) fn start(&self, spec: &str) -> anyhow::Result<Pxed<'_>> {
        let options = self.options();
        let options: Vec<_> = options.iter().map(String::as_str).collect();
        Pxed::start(&self.bridged.server, spec, self.path(), &options)
    }

    /// Starts a simulated machine of the spec, which says what it does.
    pub(crate) fn boot(&self, number: u8) -> anyhow::Result<Process> {
        let client = self.bridged.clients.first().context("a client")?;
        let mut command = client.command(build::pxed()?.path);
        let mac = Machine::number(number).mac;
        command.args(["rehearse", "--interface", INTERFACE, "--firmware", "ipxe", "--until", "kernel", "--mac", &mac]);
        command.args(["--limit-seconds", "120"]);
        Process::spawn("rehearse", &mut command)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.path().join(name).exists()
    }

    pub(crate) fn path(&self) -> &Path {
        self.disk.as_ref().map_or(self.artifacts.path(), Disk::path)
    }
}

/// Returns the spec of this many machines with this version.
pub(crate) fn spec(machines: u8, version: &str) -> String {
    let machines: Vec<_> = (1..=machines).map(Machine::number).collect();
    cluster::cluster(&machines).replace(VERSION, version)
}

/// Returns a file of `GET /api/v1/images`.
pub(crate) fn image(pxed: &Pxed<'_>, path: &str) -> anyhow::Result<Value> {
    let images: Value = serde_json::from_str(&pxed.admin("/api/v1/images")?)?;
    let files = images["files"].as_array().context("no files")?;
    Ok(files.iter().find(|file| file["path"] == path).cloned().unwrap_or_default())
}

/// Waits until a file has this state.
pub(crate) fn wait_for_state(pxed: &Pxed<'_>, path: &str, state: &str) -> anyhow::Result<Value> {
    let mut last = Value::Null;
    eventually(&format!("{path} is {state}"), LIMIT, || {
        last = image(pxed, path)?;
        Ok(last["state"] == state)
    })
    .with_context(|| format!("{last}; {}", pxed.process.last_lines()))?;
    Ok(last)
}

/// Waits until a simulated machine has started its kernel.
pub(crate) fn wait_for_boot(machine: &mut Process) -> anyhow::Result<()> {
    machine.wait_for_line("starts the kernel", Duration::from_secs(100))?;
    let status = machine.wait(LIMIT)?;
    anyhow::ensure!(status.success(), "{status}: {}", machine.last_lines());
    Ok(())
}
