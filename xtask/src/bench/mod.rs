//! `cargo xtask bench`: measures pxed beside its peers, in the same run.

use std::{fs, path::PathBuf, process::ExitCode, time::Instant};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use pxe_lab::{
    build::{self, Binary, Profile},
    namespace::output,
    requires,
};

use crate::privilege;

mod bystander;
mod cpu;
mod dhcp;
mod http;
mod lab;
mod load;
mod pass;
mod peers;
mod plan;
mod rehearse;
mod report;
mod scale;
mod storm;
mod sysctl;
mod tftp;
mod uki;

use plan::Plan;
use report::Chapter;

/// The options of `cargo xtask bench`.
///
/// Runs pxed and its peers in turn, in network namespaces of its own, and writes the medians with their ranges, the ratios and
/// the goals. Missing peers are fetched and unpacked below target/, not installed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only the most important figures, in about three minutes; writes no file unless --out names one
    #[arg(long)]
    quick: bool,
    /// Sections to measure [default: everything]
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Section>,
    /// Rounds of each measurement [default: 3, or 1 with --quick]
    #[arg(long)]
    rounds: Option<u32>,
    /// File of the report [default: BENCHMARKS.md, if everything is measured]
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Section {
    /// Exchanges a second, CPU, latency, one burst
    Dhcp,
    /// Throughput by clients and windows, beside four servers
    Tftp,
    /// A fleet powered on at once, until all have their kernel
    Storm,
    /// A large file and small scripts, beside nginx
    Http,
    /// Unified kernel images beside plain files, signed and unsigned
    Uki,
    /// Cost of the XDP program for traffic that is not pxed's
    Bystander,
    /// 100,000 machines: start, memory, reload
    Scale,
}

/// Runs the benchmarks. The exit code says whether everything could be measured, not whether the goals were reached.
///
/// # Errors
///
/// Fails if pxed is not a release build, something it needs is missing, or a server does not start.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { quick, only, rounds, out } = args;
    let binary = build::choose(Profile::Release)?;
    ensure!(
        binary.profile == Profile::Release,
        "{binary} is not measured: only a release build shows what pxed can do. Unset {} or let it name one",
        build::BINARY
    );
    eprintln!("xtask: measuring {binary}");
    privilege::become_root("it makes network namespaces and attaches XDP programs in them", &binary)?;
    requires::tools(&["ip"])?;
    let plan = Plan { rounds: rounds.unwrap_or(if quick { 1 } else { 3 }).max(1), quick };
    let wanted = |section: &Section| only.is_empty() || only.contains(section);
    let _neighbours = sysctl::Settings::many_neighbours()?;
    let out = out.or_else(|| (!quick && only.is_empty()).then(|| build::workspace().join("BENCHMARKS.md")));
    // Describe the checkout before the report itself changes it.
    let commit = commit();
    let begun = Instant::now();
    let mut chapters = Vec::new();
    for section in Section::value_variants().iter().filter(|section| wanted(section)) {
        eprintln!("xtask: measuring {section:?}, {} s after the start", begun.elapsed().as_secs());
        let chapter = section.measure(&plan).with_context(|| format!("{section:?}"))?;
        println!("{chapter}");
        chapters.push(chapter);
        // Write after each section, so that a later failure loses nothing.
        if let Some(path) = &out {
            let head = head(&plan, &binary, &commit, begun.elapsed().as_secs())?;
            fs::write(path, report::document(&head, &chapters)).with_context(|| path.display().to_string())?;
            eprintln!("xtask: wrote {}", path.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Section {
    fn measure(self, plan: &Plan) -> anyhow::Result<Chapter> {
        match self {
            Self::Dhcp => dhcp::measure(plan),
            Self::Tftp => tftp::measure(plan),
            Self::Storm => storm::measure(plan),
            Self::Http => http::measure(plan),
            Self::Uki => uki::measure(plan),
            Self::Bystander => bystander::measure(plan),
            Self::Scale => scale::measure(plan),
        }
    }
}

/// Returns the checked-out commit, as git describes it.
fn commit() -> String {
    let directory = build::workspace().display().to_string();
    let mut git = std::process::Command::new("git");
    git.args(["-C", &directory, "describe", "--always", "--dirty"]);
    output(&mut git).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

/// Returns the head of the report: the machine, the versions and the rounds.
fn head(plan: &Plan, binary: &Binary, commit: &str, seconds: u64) -> anyhow::Result<String> {
    let text = |program: &str, arguments: &[&str]| {
        output(std::process::Command::new(program).args(arguments)).map(|text| text.trim().to_owned())
    };
    let file = |path: &str, key: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).and_then(|line| line.split_once(':'));
        line.map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(format!(
        "# Benchmarks\n\n\
         Written by `cargo xtask bench`, not by hand. Server and client are two network namespaces joined by a veth pair, and share \
         the machine's processors, so absolute figures say little about a network card: **read the ratios**. Figures are medians \
         of the rounds, with their range in parentheses; servers take turns within a round. CPU is the server's own (user and \
         system, every process) plus the softirq time of the whole machine, so that no cost hides in the kernel.\n\n\
         | | |\n|---|---|\n| date | {} |\n| pxed | {commit}, {} build |\n| kernel | {} |\n| processor | {cores} × {} |\n| memory | {} |\n\
         | rounds | {}{} |\n| took | {seconds} s |\n| peers | {} |\n| command | `{}` |\n",
        text("date", &["--utc", "+%Y-%m-%d %H:%M UTC"])?,
        binary.profile,
        text("uname", &["-srm"])?,
        file("/proc/cpuinfo", "model name"),
        file("/proc/meminfo", "MemTotal"),
        plan.rounds,
        if plan.quick { ", quick" } else { "" },
        peers::versions()?,
        ["cargo xtask".to_owned()].into_iter().chain(std::env::args().skip(1)).collect::<Vec<_>>().join(" "),
    ))
}
