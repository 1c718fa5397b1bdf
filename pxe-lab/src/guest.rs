//! Machines with real firmware, in QEMU.
//!
//! Emulated, not virtualized: KVM is not available everywhere, and emulation is fast enough. On a quiet
//! machine a guest takes some ten seconds to Linux' userspace.

use std::{
    env, fs,
    io::{self, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::OnceLock,
    thread,
    time::Duration,
};

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::{
    assets::{Architecture, Edition, installed, unpacked},
    efi_variables::EfiVariables,
    initramfs::MARKER,
    process::Process,
    requires::{self, Skip},
    topology::Bridged,
};

/// The variable that, set to 1, skips the tests with guests.
pub const QUICK: &str = "PXED_TESTS_QUICK";

/// The time limit for a boot on a busy machine.
pub const BOOT: Duration = Duration::from_secs(480);

/// Kernel arguments for a PC: a panic appears on the console and ends the guest. The check of the timer counts its interrupts in a
/// time that QEMU may not get on a busy machine.
pub const PC_KERNEL_ARGS: &str = "console=ttyS0 quiet panic=-1 no_timer_check";

/// An x86 processor without CMPXCHG16B: with it, guests in QEMU 7.2 panicked at random, twice right after one, with half of
/// its operand in the flags; without it they do not. Without a random number generator OVMF 2025.02 sends no DHCP at all.
const PC_CPU: &str = "qemu64,+rdrand,-cx16";

/// The texts of firmware that has tried everything.
const GIVEN_UP: [&str; 4] =
    ["No bootable device", "No bootable option or device", "UEFI Interactive Shell", "Config file not found"];

/// The firmware of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// OVMF, PXE over IPv4.
    UefiX64(Edition),
    /// OVMF, HTTP boot over IPv4; PXE is switched off.
    UefiHttpX64(Edition),
    /// OVMF with Secure Boot enabled and Microsoft's keys, PXE over IPv4.
    SecureBootX64,
    /// The same with HTTP boot over IPv4; PXE is switched off.
    SecureBootHttpX64,
    /// OVMF 2025.02 for 32-bit x86, on a 64-bit processor; PXE over IPv4.
    UefiIa32,
    /// SeaBIOS with iPXE as the network card's option ROM: 1.0.0 installed, 1.21.1 newer.
    Bios(Edition),
    /// SeaBIOS whose PXE fetches `undionly.kpxe` from the DHCP server and drives the card for it. In place of a vendor's, this is iPXE
    /// 1.0.0, started from QEMU's command line.
    BiosPxe,
    /// AAVMF, PXE over IPv4.
    UefiArm64,
    /// AAVMF, HTTP boot over IPv4; PXE is switched off.
    UefiHttpArm64,
    /// U-Boot for ARM64, 2023.01 or 2025.01. It does what is typed on its console.
    UBootArm64(Edition),
}

impl Firmware {
    /// Returns the architecture of its processor.
    #[must_use]
    pub fn architecture(self) -> Architecture {
        match self {
            Self::UefiX64(_)
            | Self::UefiHttpX64(_)
            | Self::SecureBootX64
            | Self::SecureBootHttpX64
            | Self::UefiIa32
            | Self::Bios(_)
            | Self::BiosPxe => Architecture::Amd64,
            Self::UefiArm64 | Self::UefiHttpArm64 | Self::UBootArm64(_) => Architecture::Arm64,
        }
    }
}

/// A running guest. It is ended when it is dropped.
#[derive(Debug)]
pub struct Guest {
    /// QEMU; its output is the serial console.
    pub console: Process,
    keyboard: Keyboard,
}

/// The input of a guest's console.
#[derive(Debug)]
struct Keyboard {
    directory: TempDir,
    /// Connected at the first text. QEMU drops what the guest has not read yet when it is closed.
    socket: OnceLock<UnixStream>,
}

/// The socket for the console's input, in its directory.
const KEYBOARD: &str = "keyboard";

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
        Self::power_on_with(network, firmware, mac, None)
    }

    /// The same for a machine whose firmware has variables of its own.
    ///
    /// # Errors
    ///
    /// Fails like [`Self::power_on`].
    pub fn power_on_with(
        network: &Bridged,
        firmware: Firmware,
        mac: &str,
        variables: Option<&EfiVariables>,
    ) -> anyhow::Result<Self> {
        if env::var_os(QUICK).is_some_and(|value| value == "1") {
            return Err(Skip("QEMU guests are left out".to_owned()).into());
        }
        let directory = TempDir::new()?;
        let (program, machine) = machine(firmware, variables, directory.path())?;
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
            "chardev:console",
            "-m",
            "512",
        ]);
        let keyboard = Keyboard { directory, socket: OnceLock::new() };
        if firmware == Firmware::BiosPxe {
            command.args(vendors_pxe(keyboard.directory.path())?);
        }
        let socket = keyboard.directory.path().join(KEYBOARD);
        let console = "socket,id=console,server=on,wait=off,logfile=/proc/self/fd/1,logappend=on,path=";
        command.arg("-chardev").arg(format!("{console}{}", socket.display()));
        command.arg("-netdev").arg(format!("tap,id=n0,ifname={tap},script=no,downscript=no"));
        // QEMU gives this index to the kernel of its command line.
        let boot_index = if firmware == Firmware::BiosPxe { "" } else { ",bootindex=0" };
        command.arg("-device").arg(format!("{},netdev=n0,mac={mac}{boot_index}", card(firmware)?));
        Ok(Self { console: Process::spawn(&format!("{firmware:?}"), &mut command)?, keyboard })
    }

    /// Types text on the console.
    ///
    /// # Errors
    ///
    /// Fails if the guest has ended.
    pub fn type_text(&self, text: &str) -> anyhow::Result<()> {
        let Keyboard { directory, socket } = &self.keyboard;
        let mut socket = match socket.get() {
            Some(socket) => socket,
            None => {
                let connected =
                    UnixStream::connect(directory.path().join(KEYBOARD)).context("no console to type on")?;
                // The output comes here too, and the guest stops if nobody reads it.
                let mut output = connected.try_clone()?;
                thread::spawn(move || io::copy(&mut output, &mut io::sink()));
                socket.get_or_init(|| connected)
            }
        };
        socket.write_all(text.as_bytes()).context("cannot type on the console")
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

/// The settings that leave OVMF and AAVMF nothing but HTTP boot.
const NO_PXE: [&str; 4] = [
    "-fw_cfg",
    "name=opt/org.tianocore/IPv4PXESupport,string=n",
    "-fw_cfg",
    "name=opt/org.tianocore/IPv6PXESupport,string=n",
];

/// Returns QEMU's program for the firmware, and the arguments for the machine around it. The directory is the machine's own.
fn machine(
    firmware: Firmware,
    variables: Option<&EfiVariables>,
    directory: &Path,
) -> anyhow::Result<(&'static str, Vec<String>)> {
    let (program, arguments): (_, &[&str]) = match firmware {
        Firmware::UefiX64(_) | Firmware::UefiHttpX64(_) | Firmware::UefiIa32 => {
            ("qemu-system-x86_64", &["-machine", "q35,accel=tcg", "-cpu", PC_CPU])
        }
        Firmware::SecureBootX64 | Firmware::SecureBootHttpX64 => (
            "qemu-system-x86_64",
            &[
                "-machine",
                "q35,accel=tcg,smm=on",
                "-cpu",
                PC_CPU,
                "-global",
                "driver=cfi.pflash01,property=secure,value=on",
            ],
        ),
        Firmware::Bios(_) | Firmware::BiosPxe => {
            ("qemu-system-x86_64", &["-machine", "pc,graphics=off,accel=tcg", "-cpu", PC_CPU])
        }
        Firmware::UefiArm64 | Firmware::UefiHttpArm64 | Firmware::UBootArm64(_) => {
            ("qemu-system-aarch64", &["-machine", "virt,accel=tcg", "-cpu", "cortex-a57"])
        }
    };
    let mut arguments: Vec<_> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    if matches!(firmware, Firmware::UefiHttpX64(_) | Firmware::SecureBootHttpX64 | Firmware::UefiHttpArm64) {
        arguments.extend(NO_PXE.map(str::to_owned));
    }
    if let Firmware::UBootArm64(edition) = firmware {
        arguments.extend(["-bios".to_owned(), u_boot(edition)?.display().to_string()]);
    }
    if let Some((code, usual)) = flash(firmware)? {
        let variables = match variables {
            Some(variables) => {
                let file = directory.join("variables.fd");
                fs::write(&file, variables.flash())?;
                file
            }
            None => usual,
        };
        arguments.push("-drive".to_owned());
        arguments.push(format!("if=pflash,format=raw,unit=0,readonly=on,file={}", code.display()));
        arguments.push("-drive".to_owned());
        arguments.push(format!("if=pflash,format=raw,unit=1,snapshot=on,file={}", variables.display()));
    }
    Ok((program, arguments))
}

/// Returns OVMF's variables without any key of Secure Boot.
///
/// # Errors
///
/// Fails with [`Skip`] without the firmware.
pub fn no_keys() -> anyhow::Result<EfiVariables> {
    EfiVariables::read(&installed("ovmf", "/usr/share/OVMF/OVMF_VARS_4M.fd")?)
}

/// Returns OVMF's variables with Secure Boot enabled and Microsoft's keys.
///
/// # Errors
///
/// Fails with [`Skip`] without the firmware.
pub fn microsofts_keys() -> anyhow::Result<EfiVariables> {
    EfiVariables::read(&installed("ovmf", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd")?)
}

/// The script of [`Firmware::BiosPxe`]. Without the name of a configurator, iPXE 1.0.0 waits 16 seconds for an IPv6 router, too.
const PXE_SCRIPT: &str = "#!ipxe
ifconf --configurator dhcp
chain tftp://${next-server}/undionly.kpxe
";

/// Returns QEMU's arguments for the PXE of [`Firmware::BiosPxe`], and puts its script into the directory.
fn vendors_pxe(directory: &Path) -> anyhow::Result<[String; 4]> {
    let program = installed("ipxe", "/usr/lib/ipxe/ipxe.lkrn")?;
    let script = directory.join("pxe.ipxe");
    fs::write(&script, PXE_SCRIPT)?;
    let path = |path: &Path| path.display().to_string();
    Ok(["-kernel".to_owned(), path(&program), "-initrd".to_owned(), path(&script)])
}

/// Returns the image of U-Boot.
fn u_boot(edition: Edition) -> anyhow::Result<PathBuf> {
    let path = "usr/lib/u-boot/qemu_arm64/u-boot.bin";
    Ok(match edition {
        Edition::Installed => installed("u-boot-qemu", &format!("/{path}"))?,
        Edition::Newer => unpacked("u-boot-qemu", Architecture::Amd64)?.join(path),
    })
}

/// Returns the firmware's code and its variables, or `None` for firmware that has neither in flash memory.
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
        Firmware::SecureBootX64 | Firmware::SecureBootHttpX64 => Some((
            installed("ovmf", "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd")?,
            installed("ovmf", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd")?,
        )),
        Firmware::UefiIa32 => {
            let directory = unpacked("ovmf-ia32", Architecture::Amd64)?.join("usr/share/OVMF");
            Some((directory.join("OVMF32_CODE_4M.fd"), directory.join("OVMF32_VARS_4M.fd")))
        }
        Firmware::UefiArm64 | Firmware::UefiHttpArm64 => Some((
            installed("qemu-efi-aarch64", "/usr/share/AAVMF/AAVMF_CODE.fd")?,
            installed("qemu-efi-aarch64", "/usr/share/AAVMF/AAVMF_VARS.fd")?,
        )),
        Firmware::Bios(_) | Firmware::BiosPxe => {
            installed("seabios", "/usr/share/seabios/bios-256k.bin")?;
            None
        }
        Firmware::UBootArm64(_) => None,
    })
}

/// Returns QEMU's network card with its option ROM. UEFI has a driver of its own and needs no ROM.
fn card(firmware: Firmware) -> anyhow::Result<String> {
    let rom = match firmware {
        Firmware::UefiX64(_)
        | Firmware::UefiHttpX64(_)
        | Firmware::SecureBootX64
        | Firmware::SecureBootHttpX64
        | Firmware::UefiIa32
        | Firmware::UefiArm64
        | Firmware::UefiHttpArm64
        | Firmware::UBootArm64(_)
        | Firmware::BiosPxe => {
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
