//! Standard error is a pipe that nobody reads, or a file on a full disk, or gone.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    os::fd::AsFd as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use pxe_lab::{
    Pxed,
    cluster::{self, Machine, SERVER_ADDRESS},
    pxed::Launch,
    topology::INTERFACE,
};
use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    pipe::PipeFlags,
};

use crate::place::{Place, SOON, connect};

/// The time within which pxed must have ended.
const END: Duration = Duration::from_secs(5);

/// More lines than may wait: each is longer than a hundred bytes.
const LINES: usize = 12_000;

/// The bytes that fill the pipe before pxed starts.
const FILLING: &str = "filling\n";

/// A pipe without room, and its other end.
struct FullPipe {
    reader: File,
    writer: File,
}

impl FullPipe {
    fn new() -> anyhow::Result<Self> {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let flags = fcntl_getfl(&writer)?;
        fcntl_setfl(&writer, flags | OFlags::NONBLOCK)?;
        let mut writer = File::from(writer);
        while writer.write_all(FILLING.as_bytes()).is_ok() {}
        fcntl_setfl(&writer, flags)?;
        Ok(Self { reader: reader.into(), writer })
    }
}

pub(crate) fn stops_nothing(format: &'static str) -> anyhow::Result<()> {
    let place = Place::new(1000)?;
    let pipe = FullPipe::new()?;
    let wrapper = ["env", "RUST_LOG=debug"];
    let launch = Launch { wrapper: &wrapper, output: Some(pipe.writer.as_fd()), ..Launch::default() };
    let mut pxed = place.pxed(&["--log-format", format], &launch)?;

    goes_on(&place, &pxed)?;
    place.http_answers("/assets/missing", 404, LINES)?;
    let dropped = || Ok::<_, anyhow::Error>(pxed.metrics()?.sum("pxed_log_lines_dropped_total", &[]));
    let at_least = dropped()?;
    ensure!(at_least > 0.0, "{LINES} lines fit");

    // Somebody reads again.
    let FullPipe { reader, writer } = pipe;
    drop(writer);
    let lines = thread::spawn(move || BufReader::new(reader).lines().collect::<Result<Vec<_>, _>>());
    pxed.eventually("a line that is logged again", SOON, |pxed| {
        place.tftp_refusals(1)?;
        let before = pxed.metrics()?.sum("pxed_log_lines_dropped_total", &[]);
        place.tftp_refusals(1)?;
        Ok(pxed.metrics()?.sum("pxed_log_lines_dropped_total", &[]) == before)
    })?;
    let dropped = dropped()?;
    pxed.process.signal(Signal::SIGTERM)?;
    ensure!(pxed.process.wait(END)?.success(), "it failed");
    let lines = lines.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;

    // The pipe may have been full in the middle of a filling.
    let lines: Vec<_> = lines.iter().filter(|line| !FILLING.starts_with(&***line)).collect();
    let told: u64 = lines
        .iter()
        .filter(|line| line.contains("log lines were dropped"))
        .map(|line| told(line).with_context(|| (*line).clone()))
        .sum::<anyhow::Result<u64>>()?;
    #[expect(clippy::cast_precision_loss, reason = "a number of lines")]
    let told = told as f64;
    ensure!(told >= at_least && told == dropped, "told of {told} lines, and {dropped} were dropped");
    // Nothing of the end is missing: the transfers of those who asked and fell silent are told of behind it.
    let ends = lines.iter().rev().find(|line| !line.contains("is breaking off the transfers"));
    ensure!(ends.is_some_and(|line| line.contains("stopping")), "the last line is {:?}", lines.last());
    if format == "json" {
        for line in lines {
            serde_json::from_str::<serde_json::Value>(line.trim_start_matches("filling"))
                .with_context(|| line.to_owned())?;
        }
    }
    Ok(())
}

/// Reads the number of lines from the line that tells it: `lines=7` or `"lines":7`.
fn told(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("lines=").or_else(|| line.split_once("\"lines\":"))?;
    rest.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

/// TFTP, HTTP, the upkeep of interfaces, reloads and the admin listener all do their work.
fn goes_on(place: &Place, pxed: &Pxed<'_>) -> anyhow::Result<()> {
    place.tftp_refusals(2000)?;
    place.tftp_is_served()?;
    ensure!(pxed.admin("/healthz")? == "ok\n", "unhealthy");
    for _ in 0..3 {
        place.bridged.server.ip(&["link", "set", INTERFACE, "down"])?;
        place.bridged.server.ip(&["link", "set", INTERFACE, "up"])?;
    }
    // Upkeep closes and opens servers.
    place.bridged.server.ip(&["address", "delete", SERVER_ADDRESS, "dev", INTERFACE])?;
    pxed.eventually("a look that misses the address", SOON, |_| Ok(pxed.admin("/readyz").is_err()))?;
    place.bridged.server.ip(&["address", "add", SERVER_ADDRESS, "dev", INTERFACE])?;
    pxed.eventually("a look that finds the address", SOON, |_| Ok(pxed.admin("/readyz").is_ok()))?;
    place.tftp_is_served()?;
    let second = Machine::number(2);
    pxed.rewrite_spec(&cluster::cluster(&[Machine::number(1), second.clone()]))?;
    pxed.eventually("the second machine", SOON, |pxed| Ok(pxed.machine(&second.mac).is_ok()))?;
    pxed.process.signal(Signal::SIGHUP)?;
    place.http_answers("/assets/undionly.kpxe", 200, 10)?;
    ensure!(pxed.admin("/healthz")? == "ok\n", "unhealthy");
    Ok(())
}

pub(crate) fn does_not_delay_the_end() -> anyhow::Result<()> {
    let place = Place::new(1000)?;
    let pipe = FullPipe::new()?;
    let mut pxed = place.pxed(&[], &Launch { output: Some(pipe.writer.as_fd()), ..Launch::default() })?;
    place.tftp_refusals(10)?;
    pxed.process.signal(Signal::SIGTERM)?;
    let status = pxed.process.wait(END)?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// The reader has gone (EPIPE), the disk is full (ENOSPC), or the descriptors were closed before the start.
pub(crate) fn unwritable() -> anyhow::Result<()> {
    let place = Place::new(1000)?;
    let (reader, no_reader) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    drop(reader);
    let full_disk = fs::OpenOptions::new().write(true).open("/dev/full")?;
    let close = ["sh", "-c", "exec \"$@\" >&- 2>&-", "sh"];
    for (name, launch, counts) in [
        ("no reader", Launch { output: Some(no_reader.as_fd()), ..Launch::default() }, true),
        ("full disk", Launch { output: Some(full_disk.as_fd()), ..Launch::default() }, true),
        ("closed", Launch { wrapper: &close, ..Launch::default() }, false),
    ] {
        let mut pxed = place.pxed(&[], &launch).context(name)?;
        goes_on(&place, &pxed).context(name)?;
        let dropped = pxed.metrics()?.sum("pxed_log_lines_dropped_total", &[]);
        ensure!((dropped > 0.0) == counts, "{name}: {dropped} lines dropped");
        pxed.process.signal(Signal::SIGTERM)?;
        let status = pxed.process.wait(END)?;
        ensure!(status.success(), "{name}: {status}");
    }
    Ok(())
}

/// A client that reads nothing of a long answer.
pub(crate) fn stalled_download() -> anyhow::Result<()> {
    let place = Place::new(64 << 20)?;
    let mut pxed = place.pxed(&[], &Launch::default())?;
    let _stalled = place.as_stranger(|| {
        let mut stream = connect()?;
        stream.write_all(b"GET /assets/undionly.kpxe HTTP/1.1\r\nHost: x\r\n\r\n")?;
        // Its answer has begun.
        stream.peek(&mut [0])?;
        Ok(stream)
    })?;
    let signalled = Instant::now();
    pxed.process.signal(Signal::SIGTERM)?;
    let status = pxed.process.wait(END)?;
    ensure!(status.success(), "{status} after {:?}", signalled.elapsed());
    pxed.process.wait_for_line("breaking off the transfers that are still running", SOON).map(drop)
}
