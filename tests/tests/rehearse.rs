//! `pxed rehearse` against a responder that is not ours: dnsmasq and a plain web server.

use std::{fs, process::ExitCode, time::Duration};

use anyhow::{Context, ensure};
use pxe_tests::{Bridged, Process, build, requires, suite, topology::INTERFACE};
use serde_json::Value;
use tempfile::TempDir;

const KINDS: &str = "bios,uefi-x64,uefi-ia32,uefi-arm64,http-x64,http-arm64,ipxe,plain";
const LOADER: usize = 100_000;
const KERNEL: usize = 300_001;

/// Everything that a boot needs, as dnsmasq's users set it up.
const OPTIONS: &[&str] = &[
    "--keep-in-foreground",
    "--conf-file=/dev/null",
    "--log-facility=-",
    "--user=root",
    "--pid-file=",
    "--port=0",
    "--no-ping",
    "--bind-interfaces",
    "--dhcp-range=10.99.0.50,10.99.0.200,255.255.255.0,1h",
    "--dhcp-leasefile=/dev/null",
    "--enable-tftp",
    "--dhcp-match=set:ipxe,175",
    "--dhcp-match=set:bios,option:client-arch,0",
    "--dhcp-match=set:ia32,option:client-arch,6",
    "--dhcp-match=set:x64,option:client-arch,7",
    "--dhcp-match=set:arm64,option:client-arch,11",
    "--dhcp-vendorclass=set:http,HTTPClient",
    "--dhcp-option-force=tag:http,60,HTTPClient",
    "--dhcp-boot=tag:ipxe,http://10.99.0.1:8000/boot.ipxe",
    "--dhcp-boot=tag:http,tag:!ipxe,http://10.99.0.1:8000/loader",
    "--dhcp-boot=tag:bios,tag:!ipxe,loader",
    "--dhcp-boot=tag:ia32,tag:!ipxe,loader",
    "--dhcp-boot=tag:x64,tag:!ipxe,loader",
    "--dhcp-boot=tag:arm64,tag:!ipxe,loader",
];

const BOOT: &str = "#!ipxe\n\
    chain ipxe?uuid=${uuid}&mac=${mac:hexhyp} || echo no profile\n\
    iseq ${mac} 02:70:78:00:00:ff && goto missing ||\n\
    kernel kernel initrd=initramfs mac=${net0/mac} from=${next-server}\n\
    initrd initramfs\n\
    boot\n\
    :missing\n\
    kernel /missing || shell\n";

fn main() -> ExitCode {
    suite::main(vec![
        suite::test("every_firmware_boots_from_dnsmasq", every_firmware_boots_from_dnsmasq),
        suite::test("what_does_not_boot_is_reported", what_does_not_boot_is_reported),
        suite::test("nobody_answers", nobody_answers),
    ])
}

/// A network with dnsmasq and a web server, and room for one client.
struct Lab {
    bridged: Bridged,
    _servers: [Process; 2],
    _files: TempDir,
}

impl Lab {
    fn new() -> anyhow::Result<Self> {
        requires::tools(&["dnsmasq", "python3"])?;
        let files = TempDir::new()?;
        let write = |name: &str, content: Vec<u8>| fs::write(files.path().join(name), content);
        write("loader", vec![1; LOADER])?;
        write("kernel", vec![2; KERNEL])?;
        write("initramfs", vec![3; KERNEL])?;
        write("boot.ipxe", BOOT.into())?;
        let bridged = Bridged::new("10.99.0.1/24", 1)?;
        let root = files.path().to_str().context("a path that is not UTF-8")?;
        let mut dnsmasq = bridged.server.command("dnsmasq");
        dnsmasq.args(OPTIONS).arg(format!("--interface={INTERFACE}")).arg(format!("--tftp-root={root}"));
        let dnsmasq = Process::spawn("dnsmasq", &mut dnsmasq)?;
        let mut web = bridged.server.command("python3");
        web.args(["-u", "-m", "http.server", "8000", "--bind", "10.99.0.1", "--directory", root]);
        let web = Process::spawn("http.server", &mut web)?;
        dnsmasq.wait_for_line("TFTP root is", Duration::from_secs(20))?;
        web.wait_for_line("Serving HTTP", Duration::from_secs(20))?;
        Ok(Self { bridged, _servers: [dnsmasq, web], _files: files })
    }

    /// Runs the rehearsal; whether it was content, and the values of this kind in its JSON.
    fn rehearse(&self, arguments: &[&str], kind: &str) -> anyhow::Result<(bool, Vec<Value>)> {
        rehearse(&self.bridged, arguments, kind)
    }
}

fn rehearse(bridged: &Bridged, arguments: &[&str], kind: &str) -> anyhow::Result<(bool, Vec<Value>)> {
    let client = bridged.clients.first().context("a client")?;
    let binary = build::pxed()?;
    let mut command = client.command(binary.to_str().context("a path that is not UTF-8")?);
    command.args(["rehearse", "--interface", INTERFACE, "--json"]).args(arguments);
    let output = command.output()?;
    let mut found = Vec::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let mut value: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        if let Some(value) = value.get_mut(kind) {
            found.push(value.take());
        }
    }
    ensure!(!found.is_empty(), "no {kind}: {}", String::from_utf8_lossy(&output.stderr));
    // Whatever it told the kernel, it has taken back.
    let left = client.ip(&["route", "show", "table", "all", "proto", "112"])?;
    ensure!(left.is_empty(), "routes are left: {left}");
    Ok((output.status.success(), found))
}

fn every_firmware_boots_from_dnsmasq() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let (success, machines) =
        lab.rehearse(&["--hurry", "--machines", "24", "--firmware", KINDS, "--limit-seconds", "120"], "done")?;
    for machine in &machines {
        ensure!(machine["outcome"] == "booted", "{machine}");
        let firmware = machine["firmware"].as_str().unwrap_or_default();
        let bytes = |stage: &str| {
            let stages = machine["stages"].as_array().map(Vec::as_slice).unwrap_or_default();
            stages.iter().filter(|time| time["stage"] == stage).filter_map(|time| time["bytes"].as_u64()).sum::<u64>()
        };
        if firmware != "plain" {
            let arguments =
                format!("initrd=initramfs mac={} from=10.99.0.1", machine["mac"].as_str().unwrap_or_default());
            ensure!(machine["kernel_arguments"] == arguments, "{machine}");
            ensure!(bytes("kernel") == KERNEL as u64 && bytes("initramfs") == KERNEL as u64, "{machine}");
        }
        if !matches!(firmware, "plain" | "ipxe") {
            ensure!(bytes("loader") == LOADER as u64, "{machine}");
        }
    }
    ensure!(success && machines.len() == 24, "{} of 24", machines.len());
    Ok(())
}

fn what_does_not_boot_is_reported() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let macs = "02:70:78:00:00:ff,02:70:78:00:00:01";
    let (success, summary) = lab.rehearse(&["--hurry", "--mac", macs, "--firmware", "uefi-x64"], "summary")?;
    let summary = summary.first().context("a summary")?;
    ensure!(!success && summary["booted"] == 1 && summary["failed"]["kernel"] == 1, "{summary}");
    Ok(())
}

fn nobody_answers() -> anyhow::Result<()> {
    let bridged = Bridged::new("10.99.0.1/24", 1)?;
    let (success, machines) = rehearse(&bridged, &["--firmware", "ipxe", "--limit-seconds", "2"], "done")?;
    ensure!(!success && machines[0]["reason"] == "not done after 2 s", "{machines:?}");
    Ok(())
}
