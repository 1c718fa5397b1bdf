//! The cost of the XDP program for traffic that is not pxed's.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use aya::programs::XdpMode;
use pxe_lab::{Process, Pxed, classifier, namespace::output, requires};
use serde_json::Value;
use tempfile::TempDir;

use super::{
    lab::{self, INTERFACE, Pair, SERVER, Sizes},
    pass::Pass,
    peers::unpacked::Unpacked,
    plan::Plan,
    report::{Chapter, Goal, Samples, Table, number, ratio},
};

/// Machines in the program's map.
const MACHINES: u32 = 100_000;

/// One-second TCP streams a round. Single streams differ by about a tenth.
const STREAMS_A_ROUND: u32 = 3;

/// Runs of the program for each kind of frame.
const REPEAT: u32 = 200_000;

/// The XDP program on the server's interface while TCP crosses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    Nothing,
    /// No program, and the sender segments in software, as it must with any XDP program on veth.
    NothingCut,
    Pass(XdpMode),
    Pxed(&'static str),
}

const MODES: [(&str, On); 6] = [
    ("no program", On::Nothing),
    ("no program, sender without segmentation offload", On::NothingCut),
    ("empty program, driver", On::Pass(XdpMode::Driver)),
    ("**pxed**, driver", On::Pxed("xdp")),
    ("empty program, generic", On::Pass(XdpMode::Skb)),
    ("**pxed**, generic", On::Pxed("generic")),
];

/// Measures frames in the kernel's test loop, and TCP streams with iperf3.
///
/// # Errors
///
/// Fails if a program cannot be loaded or iperf3 cannot be fetched.
pub(super) fn measure(plan: &Plan) -> anyhow::Result<Chapter> {
    let (frames, slowest) = frames()?;
    let figures = streams(plan)?;
    let at = |wanted: On, towards_us: bool| {
        let index = MODES.iter().position(|(_, on)| *on == wanted)?;
        let [to, from] = figures.get(index)?;
        if towards_us { to.median() } else { from.median() }
    };
    let (driver, generic) = (On::Pass(XdpMode::Driver), On::Pass(XdpMode::Skb));
    let against = |ours, other, towards_us| ratio(at(ours, towards_us), at(other, towards_us));
    let mut goals =
        vec![Goal::at_most("frame that is not ours, slowest kind, more than an empty program", 30.0, "ns", slowest)];
    for (towards_us, direction) in [(true, "towards us"), (false, "from us")] {
        for (name, ours, empty) in [("driver", On::Pxed("xdp"), driver), ("generic", On::Pxed("generic"), generic)] {
            let what = format!("TCP {direction}, {name}: pxed ÷ empty program");
            goals.push(Goal::at_least(what, 0.98, against(ours, empty, towards_us)));
        }
    }
    let mut table = Table::new(["on the server's interface", "Gbit/s towards us", "Gbit/s from us", "÷ no program"]);
    for ((name, on), [to, from]) in MODES.iter().zip(&figures) {
        let times =
            [true, false].map(|towards_us| against(*on, On::Nothing, towards_us).map_or("–".to_owned(), number));
        table.row([(*name).to_owned(), to.show(), from.show(), times.join(" / ")]);
    }
    Ok(Chapter {
        title: "Bystander".to_owned(),
        text: "Every frame of the interface passes through the XDP program. With any XDP program on a veth device, its peer can no \
               longer hand over segments larger than a frame, so TCP towards us is segmented before it crosses. Network cards, \
               which segment in hardware, do not have this cost. Our program's own cost is the difference to an empty \
               program that is attached in the same way."
            .to_owned(),
        tables: vec![
            (format!("One frame, {MACHINES} machines known, BPF_PROG_TEST_RUN, best of 20 × {REPEAT}:"), frames),
            ("One TCP stream (iperf3):".to_owned(), table),
        ],
        goals,
    })
}

/// Returns the nanoseconds of each kind of frame, and how much the slowest foreign frame takes beyond the empty program.
fn frames() -> anyhow::Result<(Table, Option<f64>)> {
    let mut empty = Pass::load()?;
    let runs: anyhow::Result<Vec<u64>> = (0..20).map(|_| empty.nanoseconds(REPEAT)).collect();
    let empty = runs?.into_iter().min().unwrap_or_default();
    let mut table = Table::new(["frame", "ns", "more than an empty program, ns"]);
    table.row(["(empty program)".to_owned(), empty.to_string(), String::new()]);
    let mut slowest = None;
    for classifier::Measurement { name, nanoseconds } in classifier::measure(MACHINES, REPEAT)? {
        table.row([name.to_owned(), nanoseconds.to_string(), nanoseconds.saturating_sub(empty).to_string()]);
        if !name.contains("machine") {
            slowest = slowest.max(Some(nanoseconds.saturating_sub(empty)));
        }
    }
    Ok((table, slowest.map(|nanoseconds| nanoseconds as f64)))
}

/// Returns Gbit/s towards us and from us, for each of [`MODES`].
fn streams(plan: &Plan) -> anyhow::Result<Vec<[Samples; 2]>> {
    requires::tools(&["ethtool"])?;
    let iperf = Unpacked::of(&["iperf3"])?;
    let pair = Pair::new()?;
    let mut server = iperf.command(&pair.server, "iperf3")?;
    server.args(["-s", "-B", &SERVER.to_string(), "--forceflush"]);
    let server = Process::spawn("iperf3", &mut server)?;
    server.wait_for_line("Server listening", Duration::from_secs(5))?;
    let artifacts = lab::artifacts(Sizes { loader: 1, kernel: 1, initramfs: 1 })?;
    let mut figures: Vec<[Samples; 2]> = MODES.iter().map(|_| Default::default()).collect();
    for round in 0..plan.rounds * STREAMS_A_ROUND {
        for offset in 0..MODES.len() {
            // Rotate, so that no mode is always first.
            let index = (offset + round as usize) % MODES.len();
            let _guard = Guard::put(&pair, MODES[index].1, &artifacts)?;
            for (samples, reverse) in figures[index].iter_mut().zip([false, true]) {
                samples.push(stream(&iperf, &pair, reverse)?);
            }
        }
    }
    Ok(figures)
}

/// Restores the interface when it is dropped.
enum Guard<'p> {
    Nothing,
    Cut(&'p Pair),
    Pass { _pass: Pass },
    Pxed { _pxed: Pxed<'p> },
}

impl<'p> Guard<'p> {
    fn put(pair: &'p Pair, on: On, artifacts: &TempDir) -> anyhow::Result<Self> {
        Ok(match on {
            On::Nothing => Self::Nothing,
            On::NothingCut => {
                offload(pair, "off")?;
                Self::Cut(pair)
            }
            On::Pass(mode) => {
                let mut pass = Pass::load()?;
                pair.server.enter(|| pass.attach(INTERFACE, mode))??;
                Self::Pass { _pass: pass }
            }
            On::Pxed(datapath) => {
                let spec = lab::spec(1);
                Self::Pxed { _pxed: Pxed::start(&pair.server, &spec, artifacts.path(), &["--datapath", datapath])? }
            }
        })
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Self::Cut(pair) = self
            && let Err(error) = offload(pair, "on")
        {
            eprintln!("xtask: {error:#}");
        }
    }
}

/// Turns segmentation offload of the client on or off.
fn offload(pair: &Pair, state: &str) -> anyhow::Result<()> {
    pair.client.run("ethtool", &["-K", INTERFACE, "tso", state, "gso", state]).map(drop)
}

/// Sends TCP for one second and returns the Gbit/s that the receiver counted.
fn stream(iperf: &Unpacked, pair: &Pair, reverse: bool) -> anyhow::Result<f64> {
    let mut client = iperf.command(&pair.client, "iperf3")?;
    client.args(["-c", &SERVER.to_string(), "-t", "1", "-O", "0.2", "-l", "128K", "-J"]);
    client.args(reverse.then_some("-R"));
    let text = output(&mut client)?;
    let report: Value = serde_json::from_str(&text).context("iperf3's report")?;
    let bits = report.pointer("/end/sum_received/bits_per_second").and_then(Value::as_f64);
    let bits = bits.with_context(|| format!("iperf3 does not say how much came: {text}"))?;
    ensure!(bits > 0.0, "nothing came");
    Ok(bits / 1e9)
}
