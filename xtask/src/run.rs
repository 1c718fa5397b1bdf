//! `cargo xtask run`: a demonstration of pxed that needs no preparation.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    process::{Command, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use nix::{
    sys::signal::{SigSet, Signal, kill},
    unistd::Pid,
};
use pxe_lab::{
    Artifacts, Bridged, Firmware, Guest, Mirror, Pxed,
    assets::{Architecture, Edition},
    build::{self, Binary, Profile},
    cluster::{self, Machine},
    initramfs, requires,
    topology::INTERFACE,
};
use tempfile::TempDir;

use crate::privilege::{become_root, exit_code};

/// The options of `cargo xtask run`.
///
/// Without arguments: a lab of network namespaces, an example cluster, pxed fetching what it needs from a mirror and
/// serving it, and simulated machines of four kinds that boot through the complete chain. Everything is removed at the end.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Boot a real UEFI firmware in QEMU instead, and show its console
    #[arg(long, conflicts_with = "pxed")]
    vm: bool,
    /// Run pxed for real, on this host, with these arguments of `pxed run`: -- --cluster FILE …
    #[arg(last = true)]
    pxed: Vec<String>,
}

/// The sizes of the simulated machines' kernel and initramfs.
const KERNEL_BYTES: usize = 4 << 20;
const INITRAMFS_BYTES: usize = 16 << 20;
const LOADER_BYTES: usize = 1 << 20;

/// The time limit for the guest on a busy machine.
const GUEST: Duration = Duration::from_secs(300);

/// Runs the demonstration, or pxed itself on this host.
///
/// # Errors
///
/// Fails if a program is missing, naming the package, or if pxed does not start, with its last
/// lines.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { vm, pxed } = args;
    if !pxed.is_empty() {
        return for_real(&pxed);
    }
    requires::tools(if vm { &["ip", "qemu-system-x86_64"] } else { &["ip"] })?;
    let binary = binary()?;
    become_root("the lab is made of network namespaces, and pxed attaches an XDP program in it", &binary)?;
    let interrupt = Interrupt::watch()?;
    if vm { guest(&interrupt) } else { fleet(&binary, &interrupt) }
}

/// Returns the binary named by `PXED_BINARY`, or a release build made as the invoking user.
fn binary() -> anyhow::Result<Binary> {
    let binary = build::choose(Profile::Release)?;
    eprintln!("xtask: {binary}");
    Ok(binary)
}

/// Runs `pxed run` on this host.
fn for_real(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let binary = binary()?;
    let mut command = if nix::unistd::geteuid().is_root() {
        Command::new(&binary.path)
    } else {
        if requires::find("sudo").is_none() {
            bail!("pxed needs root to attach its XDP program and to listen on ports 67 and 69, and there is no sudo");
        }
        eprintln!("xtask: pxed needs root to attach its XDP program and to listen on ports 67 and 69. Asking sudo.");
        let mut sudo = Command::new("sudo");
        sudo.arg(&binary.path);
        sudo
    };
    // Ctrl-C is for pxed, which then shuts down cleanly.
    SigSet::from_iter([Signal::SIGINT]).thread_block()?;
    let status = command.arg("run").args(arguments).status().with_context(|| format!("cannot start {command:?}"))?;
    Ok(exit_code(status))
}

/// Boots four simulated machines, one of each common kind.
fn fleet(binary: &Binary, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    let kinds = [
        ("bios", Architecture::Amd64),
        ("uefi-x64", Architecture::Amd64),
        ("uefi-arm64", Architecture::Arm64),
        ("http-x64", Architecture::Amd64),
    ];
    let machines: Vec<Machine> = (1..)
        .zip(kinds)
        .map(|(number, (_, architecture))| Machine {
            architecture,
            kernel_args: format!("talos.hostname=machine-{number}"),
            ..Machine::number(number)
        })
        .collect();
    let spec = cluster::cluster(&machines);
    let lab = Bridged::new(cluster::SERVER_ADDRESS, 1)?;
    let [client, ..] = &lab.clients[..] else { bail!("the lab has no client") };
    let mirror = mirror(&lab)?;
    let artifacts = TempDir::with_prefix("pxed-run-")?;
    println!("pxed fetch, from a mirror of the upstreams at {}:\n", mirror.url(""));
    fetch(binary, &lab, &spec, artifacts.path(), &mirror)?;
    println!();
    let pxed = Pxed::start(&lab.server, &spec, artifacts.path(), &[])?;
    println!("cluster    {}", pxed.spec_path().display());
    println!("artifacts  {}", artifacts.path().display());
    println!("pxed       serves {} on {INTERFACE} of {}", cluster::SERVER, lab.server.name());
    println!("machines   {} on {INTERFACE} of {}, with the waits of real firmware\n", machines.len(), client.name());

    let macs: Vec<_> = machines.iter().map(|machine| machine.mac.as_str()).collect();
    let firmware = kinds.map(|(name, _)| name).join(",");
    let mut command = client.command(&binary.path);
    command.args(["rehearse", "--interface", INTERFACE, "--mac", &macs.join(","), "--firmware", &firmware]);
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    interrupt.pass_on_to(&child);
    let status = child.wait()?;
    interrupt.pass_on_to_nobody();

    println!("\npxed's XDP program and its answers (GET /metrics):");
    print_counters(&pxed.admin("/metrics")?);
    if !status.success() {
        println!("\npxed's last lines:\n{}", pxed.process.last_lines());
    }
    Ok(exit_code(status))
}

/// Fetches what the machines of the spec need.
fn fetch(binary: &Binary, lab: &Bridged, spec: &str, artifacts: &Path, mirror: &Mirror) -> anyhow::Result<()> {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    fs::write(file.path(), spec)?;
    let mut command = lab.server.command(&binary.path);
    command.arg("fetch").arg("--cluster").arg(file.path()).arg("--artifacts").arg(artifacts).args(mirror.options());
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "pxed fetch: {status}");
    Ok(())
}

/// Starts a mirror of the servers that publish Talos and iPXE, in the server's namespace, with files large enough that the progress can be
/// watched.
fn mirror(lab: &Bridged) -> anyhow::Result<Mirror> {
    let mirror = Mirror::start_in(&lab.server)?;
    for (path, packaged) in [
        ("/ipxe/undionly.kpxe", "/usr/lib/ipxe/undionly.kpxe"),
        ("/ipxe/x86_64-efi/ipxe.efi", "/usr/lib/ipxe/ipxe.efi"),
        ("/ipxe/arm64-efi/ipxe.efi", "/usr/lib/ipxe/ipxe-arm64.efi"),
    ] {
        let file = Path::new(packaged);
        if file.exists() { mirror.put(path, file)? } else { mirror.put(path, random(LOADER_BYTES, 0, b"")?)? }
    }
    // The marks by which Linux is known on either architecture, and that of a cpio archive.
    for (architecture, at, mark) in [(Architecture::Amd64, 0x202, b"HdrS"), (Architecture::Arm64, 56, b"ARM\x64")] {
        let name = architecture.name();
        mirror.release(cluster::VERSION, &format!("vmlinuz-{name}"), random(KERNEL_BYTES, at, mark)?)?;
        let initramfs = random(INITRAMFS_BYTES, 0, b"070701")?;
        mirror.release(cluster::VERSION, &format!("initramfs-{name}.xz"), initramfs)?;
    }
    Ok(mirror)
}

/// Returns random bytes with a mark at this offset, in front of which is nothing but zeros.
fn random(length: usize, at: usize, mark: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    bytes[at..at + mark.len()].copy_from_slice(mark);
    io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut bytes[at + mark.len()..])?;
    Ok(bytes)
}

/// Prints the samples that are not zero.
fn print_counters(metrics: &str) {
    for line in metrics.lines().filter(|line| line.starts_with("pxed_xdp") || line.starts_with("pxed_dhcp")) {
        if line.rsplit_once(' ').is_some_and(|(_, value)| value != "0") {
            println!("  {line}");
        }
    }
}

/// Boots OVMF in QEMU to a small Linux system, and shows its console as it comes.
fn guest(interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    let machine = Machine { kernel_args: "console=ttyS0".to_owned(), ..Machine::number(1) };
    let artifacts = Artifacts::lay_out(Edition::Installed, &[(cluster::VERSION, Architecture::Amd64)])?;
    let lab = Bridged::new(cluster::SERVER_ADDRESS, 0)?;
    let pxed = Pxed::start(&lab.server, &cluster::cluster(std::slice::from_ref(&machine)), artifacts.path(), &[])?;
    println!("pxed serves {} to a UEFI firmware in QEMU, {}; its console:\n", cluster::SERVER, machine.mac);
    let started = Instant::now();
    let mut guest = Guest::power_on(&lab, Firmware::UefiX64(Edition::Installed), &machine.mac)?;
    let done = format!("{} done", initramfs::MARKER);
    let (mut shown, mut out) = (0, io::stdout());
    let booted = loop {
        let console = guest.console.output();
        // The text only grows, except that a character cut in two may have changed since.
        let from = (0..=shown.min(console.len())).rev().find(|&at| console.is_char_boundary(at)).unwrap_or(0);
        out.write_all(&console.as_bytes()[from..])?;
        out.flush()?;
        shown = console.len();
        if console.contains(&done) {
            break true;
        }
        if interrupt.came() || started.elapsed() > GUEST || !guest.console.is_running()? {
            break false;
        }
        thread::sleep(Duration::from_millis(50));
    };
    let seconds = started.elapsed().as_secs_f64();
    println!("\n{} after {seconds:.1} s", if booted { "booted: Linux is up" } else { "NOT booted" });
    print_counters(&pxed.admin("/metrics")?);
    if !booted {
        println!("\npxed's last lines:\n{}", pxed.process.last_lines());
    }
    Ok(if booted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Catches SIGINT, SIGTERM and SIGHUP, so that the lab is removed before the process ends.
struct Interrupt {
    came: Arc<AtomicBool>,
    /// The child that signals are passed on to; 0 is none.
    child: Arc<AtomicI32>,
}

impl Interrupt {
    /// Catches the signals from now on. Call it before any thread is started.
    fn watch() -> anyhow::Result<Self> {
        let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        signals.thread_block()?;
        let interrupt = Self { came: Arc::default(), child: Arc::default() };
        let (came, child) = (Arc::clone(&interrupt.came), Arc::clone(&interrupt.child));
        thread::spawn(move || {
            while signals.wait().is_ok() {
                came.store(true, Ordering::SeqCst);
                tell(child.load(Ordering::SeqCst));
            }
        });
        Ok(interrupt)
    }

    fn came(&self) -> bool {
        self.came.load(Ordering::SeqCst)
    }

    fn pass_on_to(&self, child: &std::process::Child) {
        let id = i32::try_from(child.id()).unwrap_or(0);
        self.child.store(id, Ordering::SeqCst);
        if self.came() {
            tell(id);
        }
    }

    /// Stops passing signals on: the child has ended, and its process number may be reused.
    fn pass_on_to_nobody(&self) {
        self.child.store(0, Ordering::SeqCst);
    }
}

fn tell(child: i32) {
    if child > 0 {
        let _ = kill(Pid::from_raw(child), Signal::SIGINT);
    }
}
