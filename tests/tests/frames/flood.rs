//! Floods: far more packets than any fleet sends.

use std::{fs, time::Instant};

use anyhow::{Context, ensure};
use pxe_lab::{Datapath, Pxed, cluster::Machine};

use crate::{
    bench::{Bench, frames},
    wire::{OFFER, Query, mac},
};

/// `--machine-rate`'s default, and its burst.
const RATE: f64 = 8.0;
const BURST: f64 = 32.0;

pub(crate) fn of_one_machine(datapath: Datapath) -> anyhow::Result<()> {
    const FLOOD: u32 = 50_000;
    const A_TURN: u32 = 1_000;
    let bench = Bench::new()?;
    let machines: Vec<_> = (1..=51).map(Machine::number).collect();
    let (flooding, others) = machines.split_first().context("a machine")?;
    let mut pxed = bench.pxed(datapath, &machines, &[])?;
    let plug = bench.plug()?;

    let begin = Instant::now();
    let mut received = 0;
    let question = Query::discover(flooding)?;
    let frame = question.frame();
    for (other, _) in others.iter().zip(0..FLOOD / A_TURN) {
        let flood: Vec<_> = std::iter::repeat_n(frame.clone(), A_TURN as usize).collect();
        let probe = Query::discover(other)?;
        let replies = plug.replies_to(&flood, &probe).with_context(|| format!("{} during the flood", other.mac))?;
        received += replies.iter().filter(|reply| reply.chaddr() == mac(&flooding.mac).unwrap_or_default()).count();
    }
    let seconds = begin.elapsed().as_secs_f64();
    ensure!(pxed.process.is_running()?, "pxed ended: {}", pxed.process.last_lines());
    let limited = frames(&pxed.metrics()?, "rate_limited");
    let answered = f64::from(FLOOD) - limited;
    let allowed = BURST + RATE * seconds + 1.0;
    ensure!(answered <= allowed, "{answered} answers in {seconds} s; {allowed} are allowed");
    // A repeated question gets two answers.
    let received = received as f64;
    ensure!((answered..=2.0 * answered).contains(&received), "{received} replies to {answered} of {FLOOD}");
    let text = pxed.process.output();
    ensure!(text.lines().count() < 10_000, "{} lines were logged for one machine", text.lines().count());
    Ok(())
}

pub(crate) fn of_strangers(datapath: Datapath) -> anyhow::Result<()> {
    const STRANGERS: u32 = 100_000;
    const A_TURN: u32 = 1_000;
    const GROWTH_KIB: u64 = 4 << 10;
    let bench = Bench::new()?;
    let machine = Machine::number(1);
    let pxed = bench.pxed(datapath, std::slice::from_ref(&machine), &["--machine-rate", "0"])?;
    let plug = bench.plug()?;
    let flood = |first: u32, count: u32| -> anyhow::Result<()> {
        for start in (first..first + count).step_by(A_TURN as usize) {
            let stranger = |number: u32| -> anyhow::Result<Vec<u8>> {
                let [a, b, c, d] = number.to_be_bytes();
                let chaddr = [0x06, 0x70, a, b, c, d];
                Ok(Query { chaddr, ethernet_source: chaddr, ..Query::discover(&machine)? }.frame())
            };
            let frames: Vec<_> = (start..start + A_TURN).map(stranger).collect::<Result<_, _>>()?;
            let replies = plug.replies_to(&frames, &Query::discover(&machine)?)?;
            ensure!(replies.is_empty(), "a stranger got {replies:?}");
        }
        Ok(())
    };
    // Warm up first: buffers, and the events of the machine that is answered, are allocated once.
    flood(0, 10 * A_TURN)?;
    let passed = frames(&pxed.metrics()?, "unknown_machine_passed");
    let before = resident_kib(&pxed)?;
    flood(10 * A_TURN, STRANGERS)?;
    let grown = resident_kib(&pxed)?.saturating_sub(before);
    ensure!(grown < GROWTH_KIB, "{STRANGERS} strangers took {grown} KiB, on top of {before} KiB");
    if datapath.has_program() {
        let counted = frames(&pxed.metrics()?, "unknown_machine_passed") - passed;
        ensure!(counted == f64::from(STRANGERS), "{counted} of {STRANGERS} strangers were counted");
    }
    let known = pxed.machines()?.as_array().map_or(0, Vec::len);
    ensure!(known <= 1, "the API lists {known} machines");
    let question = plug.ask(&Query::discover(&machine)?)?;
    ensure!(question.kind() == Some(OFFER), "{question:?}");
    Ok(())
}

fn resident_kib(pxed: &Pxed<'_>) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", pxed.process.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    line.split_whitespace().next().context("no number")?.parse().context("VmRSS")
}
