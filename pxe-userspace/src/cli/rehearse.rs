//! `pxed rehearse`.

use std::{
    collections::HashSet,
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{bail, ensure};
use clap::ValueEnum;
use pxe_common::MacAddr;
use pxe_rehearse::{Arrival, Firmware, Losses, Milestone, Rehearsal, Seen, rehearse};

use crate::{
    capabilities, cluster_spec,
    model::{architecture::Architecture, boot_method::BootMethod, inventory::Machine},
};

mod board;
mod json;
mod load;
mod values;

use board::Board;
use json::print_json;
use load::LoadArgs;
use values::{percentage, seconds};

/// The arguments of `pxed rehearse`.
///
/// The responder under test must be on another host or in another network namespace. It may be pxed or any other, such as
/// dnsmasq with nginx. Needs root, or CAP_NET_RAW and CAP_NET_ADMIN.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Network interface of the simulated machines
    #[arg(long)]
    interface: String,
    /// Firmware of the machines; with several, the machines take turns [default: uefi-x64, or as --cluster says]
    #[arg(long, value_enum, value_delimiter = ',')]
    firmware: Vec<Firmware>,
    /// Hardware addresses of the machines
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["machines", "cluster"])]
    mac: Vec<MacAddr>,
    /// Cluster spec of the machines: files or directories. By default they have UEFI of their architecture, with PXE, or with HTTP boot
    /// if pxed.dev/boot is uki or factory-uki
    #[arg(long, num_args = 1.., value_delimiter = ',', conflicts_with = "machines")]
    cluster: Vec<PathBuf>,
    /// Number of machines, with consecutive hardware addresses
    #[arg(long, default_value_t = 1)]
    machines: u32,
    /// The first of those addresses
    #[arg(long, default_value = "02:70:78:00:00:01")]
    first_mac: MacAddr,
    /// Take the first good offer; real firmware waits seconds for a better one
    #[arg(long)]
    hurry: bool,
    /// Order in which the machines are powered on
    #[arg(long, value_enum, default_value = "at-once")]
    arrival: Arrival,
    /// Time until all are on, unless they start at once
    #[arg(long, default_value_t = 60.0, value_parser = seconds)]
    over_seconds: f64,
    /// Milestone at which a machine is done
    #[arg(long, value_enum, default_value = "booted")]
    until: Milestone,
    /// Percentage of the DHCP and TFTP packets that the simulated link loses in each direction. Like the next two options, it
    /// does not affect ARP, nor HTTP, whose TCP is that of this host's kernel
    #[arg(long, default_value_t = 0.0, value_parser = percentage, value_name = "PERCENT")]
    drop: f64,
    /// Percentage of these packets that arrive twice
    #[arg(long, default_value_t = 0.0, value_parser = percentage, value_name = "PERCENT")]
    duplicate: f64,
    /// Percentage of these packets that the next one overtakes
    #[arg(long, default_value_t = 0.0, value_parser = percentage, value_name = "PERCENT")]
    reorder: f64,
    /// Seed of the random numbers: the same seed gives the same arrivals, losses and transaction identifiers. The summary
    /// shows it [default: a new one each time]
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    load: LoadArgs,
    /// Time after which a machine that has not reached its milestone has failed
    #[arg(long, default_value_t = 300)]
    limit_seconds: u64,
    /// Form of the progress report
    #[arg(long, value_enum, default_value = "auto")]
    progress: Progress,
    /// Print one JSON object per line: each step, each machine when it is done, and the summary. --progress done omits the
    /// steps. --progress quiet, the default beyond 40 machines, omits the machines too
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Progress {
    /// Every step of a single machine; for several, a board on a terminal or else lines
    Auto,
    /// Every step of every machine
    Steps,
    /// One line per machine, kept up to date
    Board,
    /// One line for each machine that is done
    Done,
    /// Only the summary
    Quiet,
}

/// The number of machines beyond which a board does not fit on a screen and steps are too many to read.
const FEW: usize = 40;

/// Runs the rehearsal or the load. Returns success if no machine failed.
///
/// # Errors
///
/// Fails if the interface cannot be used or the arguments make no sense.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    // Before the first thread, since each has a set of its own.
    capabilities::raise();
    let machines = fleet(&args)?;
    let seed = args.seed.unwrap_or_else(rand::random);
    if let Some(load) = args.load.of(&args.interface, &machines, seed)? {
        return load::run(&load, args.json);
    }
    let is_terminal = std::io::stdout().is_terminal();
    let progress = match args.progress {
        Progress::Auto if machines.len() > FEW => Progress::Quiet,
        Progress::Auto if machines.len() == 1 || args.json => Progress::Steps,
        Progress::Auto if is_terminal => Progress::Board,
        Progress::Auto => Progress::Done,
        Progress::Board if args.json => Progress::Steps,
        chosen => chosen,
    };
    let rehearsal = Rehearsal {
        interface: args.interface,
        machines,
        arrival: args.arrival,
        over: Duration::from_secs_f64(args.over_seconds),
        until: args.until,
        losses: Losses { drop: args.drop, duplicate: args.duplicate, reorder: args.reorder },
        seed,
        hurry: args.hurry,
        limit: Duration::from_secs(args.limit_seconds),
        watched: matches!(progress, Progress::Steps | Progress::Board),
    };
    let mut board = (progress == Progress::Board).then(|| Board::new(&rehearsal.machines));
    let mut out = std::io::stdout();
    // Errors are ignored: a closed pipe must not end the rehearsal before its routes are removed.
    let summary = rehearse(&rehearsal, &mut |seen| {
        let _ = match (progress, seen) {
            (Progress::Steps, Seen::Step(note)) if args.json => print_json(&mut out, "step", note),
            (Progress::Steps, Seen::Step(note)) => writeln!(out, "{note}"),
            (Progress::Steps | Progress::Done, Seen::Done(report)) if args.json => print_json(&mut out, "done", report),
            (Progress::Done, Seen::Done(report)) => writeln!(out, "{}", board::line(report)),
            (_, seen) => board.as_mut().map_or(Ok(()), |board| board.show(&mut out, seen)),
        };
    })?;
    if args.json {
        print_json(&mut out, "summary", &summary)?;
    } else {
        write!(out, "{summary}")?;
    }
    Ok(if summary.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns the machines that the arguments ask for.
fn fleet(args: &Args) -> anyhow::Result<Vec<(MacAddr, Firmware)>> {
    if !args.cluster.is_empty() {
        let inventory = cluster_spec::load(&args.cluster)?.inventory;
        ensure!(!inventory.machines().is_empty(), "the cluster spec names no machine that boots from the network");
        let turns = |index: usize| args.firmware.get(index % args.firmware.len().max(1)).copied();
        let machines = inventory.machines().iter().enumerate();
        return Ok(machines.map(|(index, machine)| (machine.mac, turns(index).unwrap_or(usual(machine)))).collect());
    }
    let macs = if args.mac.is_empty() {
        let first = u64::from_be_bytes(widen(args.first_mac));
        (0..u64::from(args.machines)).map(|offset| narrow(first + offset)).collect::<anyhow::Result<Vec<_>>>()?
    } else {
        args.mac.clone()
    };
    ensure!(!macs.is_empty(), "no machine to rehearse: --machines 0");
    let mut seen = HashSet::new();
    for &mac in &macs {
        ensure!(!mac.is_group() && !mac.is_zero(), "{mac} is not the address of one machine");
        ensure!(seen.insert(mac), "{mac} is given twice");
    }
    let firmware = if args.firmware.is_empty() { &[Firmware::UefiX64] } else { &args.firmware[..] };
    Ok(macs.into_iter().zip(firmware.iter().copied().cycle()).collect())
}

/// Returns the usual class of a machine of this architecture, which boots in this way.
fn usual(machine: &Machine) -> Firmware {
    match (machine.architecture, machine.boot) {
        (Architecture::Amd64, BootMethod::Ipxe) => Firmware::UefiX64,
        (Architecture::Arm64, BootMethod::Ipxe) => Firmware::UefiArm64,
        (Architecture::Amd64, BootMethod::Uki | BootMethod::FactoryUki) => Firmware::HttpX64,
        (Architecture::Arm64, BootMethod::Uki | BootMethod::FactoryUki) => Firmware::HttpArm64,
    }
}

fn widen(MacAddr([a, b, c, d, e, f]): MacAddr) -> [u8; 8] {
    [0, 0, a, b, c, d, e, f]
}

fn narrow(number: u64) -> anyhow::Result<MacAddr> {
    let [0, 0, a, b, c, d, e, f] = number.to_be_bytes() else {
        bail!("--first-mac leaves no room for this many machines")
    };
    Ok(MacAddr([a, b, c, d, e, f]))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(text: &str) -> anyhow::Result<Vec<(MacAddr, Firmware)>> {
        fleet(&Line::try_parse_from(text.split(' '))?.args)
    }

    #[test]
    fn machines_take_turns_with_the_firmware() {
        let machines =
            parse("x --interface e --machines 3 --firmware bios,http-arm64 --first-mac 02:00:00:00:00:ff").unwrap();
        let text: Vec<_> = machines.iter().map(|(mac, firmware)| format!("{mac} {firmware:?}")).collect();
        assert_eq!(text, ["02:00:00:00:00:ff Bios", "02:00:00:00:01:00 HttpArm64", "02:00:00:00:01:01 Bios"]);
    }

    #[test]
    fn machines_of_a_cluster_have_the_firmware_of_their_architecture() {
        let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
        let machine = |n: u8, architecture: &str| {
            format!(
                "      - address: 10.0.0.{n}\n        pxeClientSpec: {{macAddress: '02:00:00:00:00:0{n}', cpuArchitecture: {architecture}}}\n"
            )
        };
        let head = "apiVersion: talos.alperen.cloud/v1alpha1\nkind: TalosCluster\nmetadata: {name: c}\nspec:\n  \
            pxeServerSpec: {address: 10.0.0.100, interface: eth0}\n  controlPlane:\n    version: v1.13.0\n    mode: metal\n    \
            metalSpec:\n      machines:\n";
        std::fs::write(file.path(), [head, &machine(1, "amd64"), &machine(2, "arm64")].concat()).unwrap();
        let path = file.path().display();
        let machines =
            |line: String| parse(&line).unwrap().into_iter().map(|(_, firmware)| firmware).collect::<Vec<_>>();
        let given = machines(format!("x --interface e --cluster {path}"));
        assert_eq!(given, [Firmware::UefiX64, Firmware::UefiArm64]);
        assert_eq!(machines(format!("x --interface e --firmware bios --cluster {path}")), [Firmware::Bios; 2]);
        for boot in ["uki", "factory-uki"] {
            let annotated = format!("{{name: c, annotations: {{pxed.dev/boot: {boot}}}}}");
            let head = head.replace("{name: c}", &annotated);
            std::fs::write(file.path(), [&head, &*machine(1, "amd64"), &machine(2, "arm64")].concat()).unwrap();
            let given = machines(format!("x --interface e --cluster {path}"));
            assert_eq!(given, [Firmware::HttpX64, Firmware::HttpArm64], "{boot}");
        }
    }

    #[test]
    fn arguments_that_make_no_sense_are_refused() {
        for text in [
            "x --interface e --machines 0",
            "x --interface e --mac 02:00:00:00:00:01,02-00-00-00-00-01",
            "x --interface e --mac ff:ff:ff:ff:ff:ff",
            "x --interface e --machines 2 --first-mac fe:ff:ff:ff:ff:ff",
            "x --interface e --machines 2 --mac 02:00:00:00:00:01",
            "x --machines 2",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
