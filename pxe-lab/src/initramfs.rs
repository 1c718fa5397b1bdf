//! A tiny system for guests: it reports on the serial console how it was booted, gets an address by DHCP like any
//! operating system, and powers the machine off.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, ensure};

use crate::{
    assets::{self, Architecture},
    cpio::Archive,
    requires,
};

/// The beginning of every line that the guest writes for the tests.
pub const MARKER: &str = "PXED-MARKER";

/// The modules of the driver for QEMU's virtio card, in load order.
const MODULES: [&str; 3] = ["net/core/failover", "drivers/net/net_failover", "drivers/net/virtio_net"];

/// Opens the console by name: the kernel's command line decides which device it is.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
dmesg -n 1
case $(uname -m) in
    x86_64) console=/dev/ttyS0 ;;
    *) console=/dev/ttyAMA0 ;;
esac
exec <$console >$console 2>&1
# Whatever the firmware left unfinished on the line.
echo
echo "PXED-MARKER machine=$(uname -m)"
echo "PXED-MARKER cmdline=$(cat /proc/cmdline)"
for module in /lib/modules/*.ko; do insmod $module; done
ip link set lo up
ip link set eth0 up
echo "PXED-MARKER mac=$(cat /sys/class/net/eth0/address)"
udhcpc -i eth0 -f -n -q -t 20 -T 1 -s /bin/lease
echo "PXED-MARKER interface=$(ip -4 -o address show dev eth0 | awk '{print $4}')"
echo "PXED-MARKER done"
poweroff -f
"#;

const LEASE: &str = r#"#!/bin/busybox sh
if [ "$1" = bound ]; then
    ip address add $ip/$mask dev eth0
    echo "PXED-MARKER lease=$ip/$mask router=$router dns=$dns hostname=$hostname server=$serverid seconds=$lease"
fi
"#;

/// Writes the initramfs for the kernel of [`kernel`] as an `.xz` file.
///
/// # Errors
///
/// Fails with [`requires::Skip`] if its parts cannot be fetched.
pub fn write(architecture: Architecture, destination: &Path) -> anyhow::Result<()> {
    fs::write(destination, content(architecture)?).with_context(|| format!("cannot write {}", destination.display()))
}

/// Returns the content of that file.
///
/// # Errors
///
/// Fails like [`write`].
pub fn content(architecture: Architecture) -> anyhow::Result<Vec<u8>> {
    requires::tools(&["xz"])?;
    let busybox = assets::unpacked("busybox-static", architecture)?.join("usr/bin/busybox");
    let modules = assets::unpacked(kernel_package(architecture), architecture)?.join("usr/lib/modules");
    let modules = only_entry(&modules)?.join("kernel");
    let mut archive = Archive::default();
    for directory in ["bin", "dev", "lib", "lib/modules", "proc", "sys"] {
        archive.directory(directory);
    }
    // The kernel opens the console for init before anything is mounted.
    archive.character_device("dev/console", (5, 1));
    archive.file("bin/busybox", &fs::read(&busybox).with_context(|| format!("cannot read {}", busybox.display()))?);
    archive.file("bin/lease", LEASE.as_bytes());
    archive.file("init", INIT.as_bytes());
    for (number, module) in MODULES.iter().enumerate() {
        let content = xz(&["-dc"], &fs::read(modules.join(format!("{module}.ko.xz")))?)?;
        archive.file(&format!("lib/modules/{number}.ko"), &content);
    }
    // The kernel's decompressor supports no other checksum.
    xz(&["-zc", "-1", "--check=crc32"], &archive.finish())
}

/// Returns a kernel that boots on any virtual machine.
///
/// # Errors
///
/// Fails with [`requires::Skip`] if it cannot be fetched.
pub fn kernel(architecture: Architecture) -> anyhow::Result<PathBuf> {
    let boot = assets::unpacked(kernel_package(architecture), architecture)?.join("boot");
    let entries = fs::read_dir(&boot)?.flatten().map(|entry| entry.path());
    let is_kernel =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"));
    entries.into_iter().find(is_kernel).with_context(|| format!("no kernel in {}", boot.display()))
}

fn kernel_package(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Amd64 => "linux-image-cloud-amd64",
        Architecture::Arm64 => "linux-image-cloud-arm64",
    }
}

fn only_entry(directory: &Path) -> anyhow::Result<PathBuf> {
    let entry = fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?.next();
    Ok(entry.with_context(|| format!("{} is empty", directory.display()))??.path())
}

fn xz(arguments: &[&str], input: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut child = Command::new("xz").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("no pipe to xz")?;
    let output = thread::scope(|scope| {
        // An error here appears as xz's own.
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output()
    })?;
    ensure!(output.status.success(), "xz: {}", output.status);
    Ok(output.stdout)
}
