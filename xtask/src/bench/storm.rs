//! A whole fleet powered on at once, through the complete boot chain, until every machine has its kernel.

use std::{fmt::Write as _, fs, net::SocketAddrV4, path::Path, time::Duration};

use anyhow::Context;
use pxe_lab::Pxed;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    cpu::{self, Meter},
    lab::{self, Pair, SERVER, Sizes},
    peers::{
        dhcp::{self, Setup},
        nginx::Nginx,
        tftp::TftpPeer,
        unpacked::Unpacked,
    },
    plan::Plan,
    rehearse::{self, figure},
    report::{Chapter, Goal, Samples, Table, number, ratio},
    sysctl::Settings,
};

/// A network boot program as firmware loads it, and images so small that the cable is not the bottleneck:
/// real kernels and initramfs are about 100 MB, which occupy the network card of any server equally long.
const SIZES: Sizes = Sizes { loader: 300 << 10, kernel: 512 << 10, initramfs: 512 << 10 };

/// The time limit. A machine that has not booted by then has failed.
const LIMIT_SECONDS: &str = "240";

/// Machines that lose all four questions of a DHCP step, or the answers to them, if one frame in twenty is lost each way: about
/// one in 20,000 (`dataplane::duplicate_answers`). A storm that loses this many is no worse than chance.
const fn lost_by_chance(machines: u32) -> u32 {
    1 + machines / 10_000
}

/// The HTTP port of every server.
const HTTP_PORT: u16 = 8000;

/// The servers that boot the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    Pxed,
    /// dnsmasq and nginx, set up as talos-operator sets up dnsmasq and Matchbox.
    AsShipped,
    /// Kea, the best TFTP server and nginx, all tuned.
    BestTuned,
}

impl Set {
    const fn name(self) -> &'static str {
        match self {
            Self::Pxed => "**pxed**",
            Self::AsShipped => "dnsmasq + nginx, as talos-operator ships its set",
            Self::BestTuned => "Kea + rs-tftpd + nginx, tuned",
        }
    }
}

struct Tools {
    kea: Unpacked,
    dnsmasq: Unpacked,
    artifacts: TempDir,
}

/// The samples of one set over several rounds.
#[derive(Clone, Debug, Default)]
struct Figures {
    half: Samples,
    most: Samples,
    all: Samples,
    failed: Samples,
    again: Samples,
    cpu: Samples,
    client_cpu: Samples,
    /// The failures and their places, a line for each reason.
    reasons: Vec<String>,
}

/// Measures all sets.
///
/// # Errors
///
/// Fails if a peer cannot be fetched or does not start.
pub(super) fn measure(plan: &Plan) -> anyhow::Result<Chapter> {
    let tools = Tools {
        kea: Unpacked::of(&["kea-dhcp4-server", "kea-admin"])?,
        dnsmasq: Unpacked::of(&["dnsmasq-base"])?,
        artifacts: lab::artifacts(SIZES)?,
    };
    lay_out_for_nginx(tools.artifacts.path())?;
    let mut chapter = Chapter {
        title: "Storm".to_owned(),
        text: format!(
            "`pxed rehearse` powers on every machine at the same instant: UEFI x64, PXE, DHCP with edk2's back-off (4, 8, 16, 32 s, then \
             it gives up), a loader of {} KiB by TFTP in windows of 4 blocks as edk2 requests them, iPXE's DHCP, script, kernel and \
             initramfs of {} KiB each by HTTP. The firmware takes the first good offer (`--hurry`): the seconds that it otherwise \
             waits for a better one are the same for every server. Times are from power-on until a machine has kernel and initramfs. The \
             simulator shares the two processors with the server, so the times include its own share. With 5 % of the frames lost each \
             way, one machine in 40,000 would fail whatever a server does, because each of four DHCP steps asks four times; pxed loses \
             one in 20,000.",
            SIZES.loader >> 10,
            SIZES.kernel >> 10
        ),
        ..Chapter::default()
    };
    let sizes: &[u32] = if plan.quick { &[1_000] } else { &[1_000, 10_000] };
    for &machines in sizes {
        let sets = [Set::Pxed, Set::BestTuned, Set::AsShipped];
        let mut figures = [const { None::<Figures> }; 3].map(Option::unwrap_or_default);
        for round in 0..plan.rounds {
            for (set, figures) in sets.iter().zip(&mut figures) {
                // One round: it takes minutes, and its figures are far from the others.
                if *set == Set::AsShipped && (round > 0 || plan.quick) {
                    continue;
                }
                figures.add(&storm(*set, &tools, machines, &[])?);
            }
        }
        chapter.tables.push((format!("{machines} machines:"), table(&sets, &figures)));
        let [ours, tuned, shipped] = &figures;
        tell_failures(&mut chapter.text, &format!("{machines} machines"), ours);
        if machines == *sizes.last().unwrap_or(&0) {
            let times = |other: &Figures| ratio(other.all.median(), ours.all.median());
            if !plan.quick {
                let sooner = |name: &str, wanted, other: &Figures| {
                    let goal = Goal::at_least(format!("{machines} machines, {name} ÷ pxed"), wanted, times(other));
                    let failed = |figures: &Figures| figures.failed.median().unwrap_or_default();
                    // The time counts only machines that got that far.
                    match failed(other) {
                        theirs if theirs > 0.0 && failed(ours) == 0.0 => {
                            goal.beyond(&format!("{} of the peer's machines never had it", number(theirs)))
                        }
                        _ => goal,
                    }
                };
                chapter.goals.extend([
                    sooner("as the operator ships it", 10.0, shipped),
                    sooner("the best tuned set", 2.0, tuned),
                ]);
            }
            let failed = ours.failed.median();
            chapter.goals.push(Goal::at_most(
                format!("{machines} machines, failed with pxed"),
                0.0,
                "machines",
                failed,
            ));
            let mut lossy = Figures::default();
            for _ in 0..plan.rounds {
                lossy.add(&storm(Set::Pxed, &tools, machines, &["--drop", "5"])?);
            }
            chapter.goals.push(Goal::at_most(
                format!("{machines} machines with 5 % of the frames lost each way, failed with pxed"),
                lost_by_chance(machines).into(),
                "machines",
                lossy.failed.median(),
            ));
            let caption = format!("{machines} machines, 5 % of DHCP and TFTP frames lost each way");
            tell_failures(&mut chapter.text, &caption, &lossy);
            chapter.tables.push((format!("{caption}:"), table(&[Set::Pxed], &[lossy])));
        }
    }
    Ok(chapter)
}

/// Runs one storm. Returns the simulator's summary and the CPU seconds of the server.
fn storm(set: Set, tools: &Tools, machines: u32, extra: &[&str]) -> anyhow::Result<(Value, cpu::Cpu)> {
    let pair = Pair::new()?;
    cpu::settle(Duration::from_secs(5));
    let artifacts = tools.artifacts.path();
    let run = || -> anyhow::Result<(Value, cpu::Cpu)> {
        let meter = Meter::start(&pair.server)?;
        let arguments = ["--hurry", "--until", "kernel", "--limit-seconds", LIMIT_SECONDS];
        let summary = rehearse::boot(&pair.client, machines, &[&arguments[..], extra].concat())?;
        Ok((summary, meter.used()?))
    };
    let loader = format!("/{}", lab::LOADER);
    let script = format!("http://{SERVER}:{HTTP_PORT}/boot.ipxe");
    match set {
        Set::Pxed => {
            let _pxed = Pxed::start(&pair.server, &lab::spec(machines), artifacts, &[])?;
            run()
        }
        Set::AsShipped => {
            let _nginx = Nginx::start(&pair.server, SocketAddrV4::new(SERVER, HTTP_PORT), artifacts)?;
            let options = [
                "--enable-tftp".to_owned(),
                format!("--tftp-root={}", artifacts.display()),
                "--dhcp-match=set:ipxe,175".to_owned(),
                "--dhcp-match=set:efi,option:client-arch,7".to_owned(),
                format!("--dhcp-boot=tag:ipxe,{script}"),
                format!("--dhcp-boot=tag:efi,tag:!ipxe,{}", lab::LOADER),
            ];
            let _dnsmasq = dhcp::dnsmasq(&tools.dnsmasq, &pair.server, machines, Setup::Packaged, &options)?;
            run()
        }
        Set::BestTuned => {
            let _buffers = Settings::large_socket_buffers()?;
            let _nginx = Nginx::start(&pair.server, SocketAddrV4::new(SERVER, HTTP_PORT), artifacts)?;
            let _tftp = TftpPeer::RsTftpd.start(&pair.server, SERVER, artifacts)?;
            let options = json!({
                "next-server": SERVER,
                "client-classes": [
                    {"name": "ipxe", "test": "option[175].exists", "boot-file-name": script},
                    {"name": "efi", "test": "option[93].hex == 0x0007 and not member('ipxe')", "boot-file-name": loader,
                     "option-data": [{"name": "vendor-class-identifier", "data": "PXEClient", "always-send": true}]},
                ],
            });
            let _kea = dhcp::kea(&tools.kea, &pair.server, machines, Setup::Silent, 1, &options)?;
            run()
        }
    }
}

/// Writes the scripts that Matchbox would generate, as files.
fn lay_out_for_nginx(directory: &Path) -> anyhow::Result<()> {
    let chain =
        "#!ipxe\nchain ipxe?uuid=${uuid}&mac=${mac:hexhyp}&domain=${domain}&hostname=${hostname}&serial=${serial}\n";
    let script = format!(
        "#!ipxe\nkernel /{} initrd=initramfs.xz talos.platform=metal slab_nomerge pti=on console=tty0\ninitrd --name initramfs.xz /{}\nboot\n",
        lab::kernel(),
        lab::initramfs()
    );
    fs::write(directory.join("boot.ipxe"), chain).context("boot.ipxe")?;
    fs::write(directory.join("ipxe"), script).context("ipxe")
}

impl Figures {
    fn add(&mut self, (summary, used): &(Value, cpu::Cpu)) {
        // The sum of no values is a negative zero.
        let failed: f64 =
            0.0 + summary["failed"].as_object().into_iter().flatten().filter_map(|(_, n)| n.as_f64()).sum::<f64>();
        self.failed.push(failed);
        self.reasons.extend(reasons(summary));
        let again = summary["retransmissions"].as_object().into_iter().flatten();
        self.again.push(0.0 + again.filter_map(|(_, count)| count.as_f64()).sum::<f64>());
        for (samples, key) in
            [(&mut self.half, "half_seconds"), (&mut self.most, "p99_seconds"), (&mut self.all, "all_seconds")]
        {
            // Of the machines that got there. If one did not, "all" is at least the limit.
            let time = figure(summary, &["milestones", "kernel", key]);
            let limit = figure(summary, &["took_seconds"]);
            let time = if key == "all_seconds" && failed > 0.0 { limit } else { time };
            time.into_iter().for_each(|time| samples.push(time));
        }
        self.cpu.push(used.total());
        figure(summary, &["cpu_seconds"]).into_iter().for_each(|cpu| self.client_cpu.push(cpu));
    }
}

/// Adds to the text where machines of pxed failed and why, if any did.
fn tell_failures(text: &mut String, storm: &str, figures: &Figures) {
    for reason in &figures.reasons {
        let _ = write!(text, "\n\nFailed with pxed, {storm}: {reason}.");
    }
}

/// Returns the failures of a storm: how many machines, in which stage, and why. The seed repeats the losses.
fn reasons(summary: &Value) -> Vec<String> {
    let text = |reason: &Value| {
        let [stage, why] = ["stage", "reason"].map(|key| reason[key].as_str().unwrap_or_default());
        format!("{} in {stage}: {why} (seed {})", reason["machines"], summary["seed"])
    };
    summary["reasons"].as_array().into_iter().flatten().map(text).collect()
}

fn table(sets: &[Set], figures: &[Figures]) -> Table {
    let mut table = Table::new([
        "servers",
        "half have their kernel, s",
        "99 %",
        "all",
        "failed",
        "requests repeated",
        "CPU s of the servers and softirq",
        "of the simulator",
    ]);
    for (set, figures) in sets.iter().zip(figures) {
        let Figures { half, most, all, failed, again, cpu, client_cpu, reasons: _ } = figures;
        let [half, most, all, failed, again, cpu, client_cpu] =
            [half, most, all, failed, again, cpu, client_cpu].map(Samples::show);
        table.row([set.name().to_owned(), half, most, all, failed, again, cpu, client_cpu]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_with_stage_reason_and_seed() {
        let summary = json!({
            "seed": 7,
            "failed": {"dhcp": 2, "loader": 1},
            "reasons": [
                {"stage": "dhcp", "reason": "no server answered 4 DISCOVERs", "machines": 2},
                {"stage": "loader", "reason": "the server does not answer", "machines": 1},
            ],
        });
        let mut figures = Figures::default();
        figures.add(&(summary, cpu::Cpu::default()));
        assert_eq!(figures.failed.median(), Some(3.0));
        let mut text = "Method.".to_owned();
        tell_failures(&mut text, "1000 machines", &Figures::default());
        assert_eq!(text, "Method.", "nothing is said if nothing failed");
        tell_failures(&mut text, "1000 machines", &figures);
        assert_eq!(
            text,
            "Method.\n\nFailed with pxed, 1000 machines: 2 in dhcp: no server answered 4 DISCOVERs (seed 7).\n\n\
             Failed with pxed, 1000 machines: 1 in loader: the server does not answer (seed 7)."
        );
    }
}
