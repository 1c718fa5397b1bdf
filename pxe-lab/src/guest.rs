//! Machines with real firmware, in QEMU.
//!
//! Emulated, not virtualized: KVM is not available everywhere, and emulation is fast enough. On a quiet
//! machine a guest takes some ten seconds to Linux' userspace.

use std::{env, path::PathBuf, time::Duration};

use anyhow::{Context, ensure};

use crate::{
    assets::{Architecture, Edition, installed, unpacked},
    initramfs::MARKER,
    process::Process,
    requires::{self, Skip},
    topology::Bridged,
};

/// The variable that, set to 1, skips the tests with guests.
pub const QUICK: &str = "PXED_TESTS_QUICK";

/// The time limit for a boot on a busy machine.
const BOOT: Duration = Duration::from_secs(150);

/// Kernel arguments for a PC: a panic appears on the console and ends the guest.
pub const PC_KERNEL_ARGS: &str = "console=ttyS0 quiet panic=-1";

/// An x86 processor without CMPXCHG16B: with it, guests in QEMU 7.2 panicked at random, twice right after one, with half of
/// its operand in the flags; without it they do not. Without a random number generator OVMF 2025.02 sends no DHCP at all.
const PC_CPU: &str = "qemu64,+rdrand,-cx16";

/// The texts of firmware that has tried everything.
const GIVEN_UP: [&str; 2] = ["No bootable device", "UEFI Interactive Shell"];

/// The firmware of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// OVMF, PXE over IPv4.
    UefiX64(Edition),
    /// OVMF, HTTP boot over IPv4; PXE is switched off.
    UefiHttpX64(Edition),
    /// SeaBIOS with iPXE as the network card's option ROM: 1.0.0 installed, 1.21.1 newer.
    Bios(Edition),
    /// AAVMF, PXE over IPv4.
    UefiArm64,
}

/// A running guest. It is ended when it is dropped.
#[derive(Debug)]
pub struct Guest {
    /// QEMU; its output is the serial console.
    pub console: Process,
}

/// The report of the tiny system of [`crate::initramfs`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The kernel's command line, byte for byte.
    pub cmdline: String,
    /// The network card's address.
    pub mac: String,
    /// The interface's IPv4 address with its prefix length, as set by the DHCP client.
    pub interface: String,
    /// The lease's `ADDRESS/MASK router=… dns=… hostname=… server=… seconds=…`.
    pub lease: String,
}

impl Guest {
    /// Powers on a machine whose network card has this MAC and is plugged into the switch.
    ///
    /// # Errors
    ///
    /// Fails with [`Skip`] if QEMU or the firmware is missing, or guests are left out ([`QUICK`]).
    pub fn power_on(network: &Bridged, firmware: Firmware, mac: &str) -> anyhow::Result<Self> {
        if env::var_os(QUICK).is_some_and(|value| value == "1") {
            return Err(Skip("QEMU guests are left out".to_owned()).into());
        }
        let (program, machine) = machine(firmware)?;
        requires::tools(&[program])?;
        let tap = network.tap()?;
        let mut command = network.net.command(program);
        command.args(machine);
        command.args([
            "-nodefaults",
            "-display",
            "none",
            "-monitor",
            "none",
            "-no-reboot",
            "-serial",
            "stdio",
            "-m",
            "512",
        ]);
        command.arg("-netdev").arg(format!("tap,id=n0,ifname={tap},script=no,downscript=no"));
        command.arg("-device").arg(format!("{},netdev=n0,mac={mac},bootindex=0", card(firmware)?));
        Ok(Self { console: Process::spawn(&format!("{firmware:?}"), &mut command)? })
    }

    /// Waits until the tiny system has reported everything.
    ///
    /// # Errors
    ///
    /// Fails if the time is up or the guest ended before; the error holds the console's last lines.
    pub fn report(&self) -> anyhow::Result<Report> {
        self.wait_for_line(&format!("{MARKER} done"))?;
        let console = self.console.output();
        Ok(Report {
            cmdline: field(&console, "cmdline")?,
            mac: field(&console, "mac")?,
            interface: field(&console, "interface")?,
            lease: field(&console, "lease")?,
        })
    }

    /// Waits until the console shows a line with this text.
    ///
    /// # Errors
    ///
    /// Fails like [`Self::report`], and at once if the firmware gives up.
    pub fn wait_for_line(&self, text: &str) -> anyhow::Result<String> {
        let mut patterns = vec![text];
        patterns.extend(GIVEN_UP);
        let line = self.console.wait_for_any(&patterns, BOOT)?;
        ensure!(line.contains(text), "the firmware found nothing to boot:\n{}", self.console.last_lines());
        Ok(line)
    }
}

fn field(console: &str, name: &str) -> anyhow::Result<String> {
    let start = format!("{MARKER} {name}=");
    let value = console.lines().find_map(|line| line.strip_prefix(&start));
    let value = value.with_context(|| format!("the guest did not report {name}:\n{console}"))?;
    ensure!(!value.is_empty(), "the guest has no {name}:\n{console}");
    Ok(value.trim_end_matches('\r').to_owned())
}

/// Returns QEMU's program for the firmware, and the arguments for the machine around it.
fn machine(firmware: Firmware) -> anyhow::Result<(&'static str, Vec<String>)> {
    let (program, arguments): (_, &[&str]) = match firmware {
        Firmware::UefiX64(_) => ("qemu-system-x86_64", &["-machine", "q35,accel=tcg", "-cpu", PC_CPU]),
        Firmware::UefiHttpX64(_) => (
            "qemu-system-x86_64",
            &[
                "-machine",
                "q35,accel=tcg",
                "-cpu",
                PC_CPU,
                "-fw_cfg",
                "name=opt/org.tianocore/IPv4PXESupport,string=n",
                "-fw_cfg",
                "name=opt/org.tianocore/IPv6PXESupport,string=n",
            ],
        ),
        Firmware::Bios(_) => ("qemu-system-x86_64", &["-machine", "pc,graphics=off,accel=tcg", "-cpu", PC_CPU]),
        Firmware::UefiArm64 => ("qemu-system-aarch64", &["-machine", "virt,accel=tcg", "-cpu", "cortex-a57"]),
    };
    let mut arguments: Vec<_> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    if let Some((code, variables)) = flash(firmware)? {
        arguments.push("-drive".to_owned());
        arguments.push(format!("if=pflash,format=raw,unit=0,readonly=on,file={}", code.display()));
        arguments.push("-drive".to_owned());
        arguments.push(format!("if=pflash,format=raw,unit=1,snapshot=on,file={}", variables.display()));
    }
    Ok((program, arguments))
}

/// Returns the firmware's code and its variables, or `None` for SeaBIOS, which is part of QEMU.
fn flash(firmware: Firmware) -> anyhow::Result<Option<(PathBuf, PathBuf)>> {
    Ok(match firmware {
        Firmware::UefiX64(Edition::Installed) | Firmware::UefiHttpX64(Edition::Installed) => Some((
            installed("ovmf", "/usr/share/OVMF/OVMF_CODE_4M.fd")?,
            installed("ovmf", "/usr/share/OVMF/OVMF_VARS_4M.fd")?,
        )),
        Firmware::UefiX64(Edition::Newer) | Firmware::UefiHttpX64(Edition::Newer) => {
            let directory = unpacked("ovmf", Architecture::Amd64)?.join("usr/share/OVMF");
            Some((directory.join("OVMF_CODE_4M.fd"), directory.join("OVMF_VARS_4M.fd")))
        }
        Firmware::UefiArm64 => Some((
            installed("qemu-efi-aarch64", "/usr/share/AAVMF/AAVMF_CODE.fd")?,
            installed("qemu-efi-aarch64", "/usr/share/AAVMF/AAVMF_VARS.fd")?,
        )),
        Firmware::Bios(_) => {
            installed("seabios", "/usr/share/seabios/bios-256k.bin")?;
            None
        }
    })
}

/// Returns QEMU's network card with its option ROM. UEFI has a driver of its own and needs no ROM.
fn card(firmware: Firmware) -> anyhow::Result<String> {
    let rom = match firmware {
        Firmware::UefiX64(_) | Firmware::UefiHttpX64(_) | Firmware::UefiArm64 => {
            return Ok("virtio-net-pci,romfile=".to_owned());
        }
        Firmware::Bios(Edition::Installed) => installed("ipxe-qemu", "/usr/lib/ipxe/qemu/pxe-virtio.rom")?,
        Firmware::Bios(Edition::Newer) => {
            unpacked("ipxe-qemu", Architecture::Amd64)?.join("usr/share/qemu/pxe-virtio.rom")
        }
    };
    // The ROM is for the modern device: SeaBIOS does not start it on a transitional card.
    Ok(format!("virtio-net-pci-non-transitional,romfile={}", rom.display()))
}
