//! Another XDP program that is on the interface for a while.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use aya::{
    EbpfLoader,
    programs::{Xdp, XdpMode},
};
use pxe_common::layout;
use pxe_lab::{
    Namespace,
    cluster::{self, Machine},
    topology::INTERFACE,
};

use crate::{
    bench::{Bench, frames},
    wire::{OFFER, Query},
};

/// The longest time until the better path is taken.
const SOON: Duration = Duration::from_secs(30);

/// A program that passes every frame: pxed's own without any machine. It is detached when it is dropped.
struct Foreign {
    _program: aya::Ebpf,
}

impl Foreign {
    fn attach(namespace: &Namespace) -> anyhow::Result<Self> {
        namespace.enter(|| {
            let object = concat!(env!("CARGO_MANIFEST_DIR"), "/../pxe-ebpf/pxed.bpf.o");
            let mut program = EbpfLoader::new().load_file(object)?;
            let xdp: &mut Xdp = program.program_mut(layout::PROGRAM).context("no program `pxed`")?.try_into()?;
            xdp.load()?;
            xdp.attach(INTERFACE, XdpMode::Driver)?;
            anyhow::Ok(Self { _program: program })
        })?
    }
}

/// `--datapath auto` uses the packet socket while another program is attached, and XDP after it is detached. Every
/// question in between is answered exactly once.
pub(crate) fn program_that_leaves() -> anyhow::Result<()> {
    const MOVED: &str = "moved to a better path";
    let bench = Bench::new()?;
    let foreign = Foreign::attach(&bench.server)?;
    let machine = Machine::number(1);
    let spec = cluster::cluster(std::slice::from_ref(&machine));
    let pxed = bench.pxed_by_options(&spec, &["--machine-rate", "0", "--unknown", "drop"])?;
    let plug = bench.plug()?;
    let path = |path: &str| -> anyhow::Result<bool> {
        Ok(pxed.metrics()?.sum("pxed_port", &[&format!("path=\"{path}\"")]) == 1.0)
    };
    let ask = || -> anyhow::Result<()> {
        let offer = plug.ask(&Query::discover(&machine)?).with_context(|| pxed.process.last_lines())?;
        let more = plug.drain()?;
        ensure!(offer.kind() == Some(OFFER) && more.is_empty(), "{offer:?}, then {more:?}");
        Ok(())
    };
    ensure!(path("socket")?, "not on the packet socket: {}", pxed.process.last_lines());
    for said in ["another XDP program is attached", "unknown machines are not dropped"] {
        ensure!(pxed.process.output().contains(said), "it does not say {said:?}: {}", pxed.process.output());
    }
    ask()?;

    drop(foreign);
    let deadline = Instant::now() + SOON;
    while !path("xdp_driver")? {
        ensure!(Instant::now() < deadline, "still not by XDP: {}", pxed.process.last_lines());
        ask()?;
    }
    ask()?;
    let stranger = Query::discover(&Machine::number(2))?;
    let replies = plug.replies_to(&[stranger.frame()], &Query::discover(&machine)?)?;
    ensure!(replies.is_empty(), "a stranger got {replies:?}");
    let metrics = pxed.metrics()?;
    ensure!(frames(&metrics, "unknown_machine_dropped") == 1.0, "--unknown drop is not in force: {metrics:?}");
    ensure!(frames(&metrics, "redirected") >= 2.0, "answered, but not by XDP: {metrics:?}");
    let told = pxed.process.output().matches(MOVED).count();
    ensure!(told == 1, "told {told} times: {}", pxed.process.output());
    Ok(())
}
