//! `pxed capture`: the frames of one machine as a pcapng file.

use std::{
    fs::{File, OpenOptions, Permissions},
    io::{self, IsTerminal as _, Read, Write},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{self, ExitCode},
    sync::{Arc, Mutex, PoisonError, TryLockError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::sys::signal::{SigSet, Signal};

use super::status::place::Place;
use crate::{capture::blocks, logging};

/// The file name that means standard output.
const STANDARD_OUTPUT: &str = "-";
/// The permissions of the file: it may hold tokens and machine configurations.
const MODE: u32 = 0o600;
/// The size of a read.
const CHUNK: usize = 64 << 10;
/// The time that a write under way gets when the capture is interrupted, in steps.
const LAST_WRITE: (u32, Duration) = (20, Duration::from_millis(100));

/// The arguments of `pxed capture`.
///
/// The file has what pxed received from one machine and what it sent to it, from now on: DHCP, also the frames that XDP takes before tcpdump could
/// see them, TFTP, boot HTTP, ARP and ICMP, with VLAN tags. pxed's decisions are packet comments, which Wireshark and tshark show. Of HTTP, heads and
/// scripts are kept, and of large files the headers of their frames alone.
///
/// Such a file may hold secrets: tokens in URLs, kernel arguments, machine configurations (talos.config). It is made for its owner alone (mode 0600), and
/// pxed gives it by its Unix socket, or to who has the token of the admin API. `pxed report` takes none of these out of a capture.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Machine of the spec by MAC address, host name or address; a stranger by MAC address
    #[arg(value_name = "MACHINE", required_unless_present = "mac")]
    machine: Option<String>,
    /// The same
    #[arg(long, value_name = "MACHINE", conflicts_with = "machine")]
    mac: Option<String>,
    /// File to write; - is standard output
    #[arg(short, long, value_name = "FILE.pcapng")]
    output: PathBuf,
    /// End after this many seconds [default: when it is interrupted]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// End after this many frames
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    packets: Option<u64>,
    #[command(flatten)]
    place: Place,
}

/// Captures until a limit is reached or a signal comes.
///
/// # Errors
///
/// If the admin API cannot be reached or refuses, or the file cannot be written. What was captured before is in the file.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { machine, mac, output, seconds, packets, place } = args;
    let machine = machine.or(mac).unwrap_or_default();
    if output.as_os_str() == STANDARD_OUTPUT && io::stdout().is_terminal() {
        bail!("a capture is not text: name a file with -o FILE.pcapng, or pipe it, for example to `tshark -r -`");
    }
    let limits = [("seconds", seconds), ("packets", packets)];
    let limits = limits.into_iter().filter_map(|(name, limit)| Some((name, limit?.to_string())));
    let query: Vec<_> = [("machine", machine)].into_iter().chain(limits).collect();
    let mut source = place.client()?.start("/api/v1/captures", &query)?;
    let sink = Arc::new(Mutex::new(Sink::open(&output)?));
    end_on_signal(Arc::clone(&sink))?;
    let copied = copy(&mut source, &sink);
    let sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
    match copied {
        Ok(()) => {
            sink.say();
            Ok(ExitCode::SUCCESS)
        }
        // As in `pxed capture -o - … | head`.
        Err(error) if is_unread(&error) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error.context(sink.told())),
    }
}

/// The file, and the number of frames in it.
struct Sink {
    name: String,
    file: Box<dyn Write + Send>,
    packets: u64,
}

impl Sink {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let name =
            if path.as_os_str() == STANDARD_OUTPUT { "standard output".to_owned() } else { path.display().to_string() };
        let file: Box<dyn Write + Send> = match path.as_os_str() == STANDARD_OUTPUT {
            true => Box::new(io::stdout()),
            false => Box::new(private_file(path).with_context(|| name.clone())?),
        };
        Ok(Self { name, file, packets: 0 })
    }

    /// Writes whole blocks.
    fn write(&mut self, blocks: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(blocks).and_then(|()| self.file.flush()).with_context(|| self.name.clone())?;
        self.packets += blocks::packets(blocks);
        Ok(())
    }

    fn told(&self) -> String {
        let Self { name, packets, .. } = self;
        let frames = if *packets == 1 { "frame" } else { "frames" };
        format!("{packets} {frames} captured to {name}")
    }

    fn say(&self) {
        logging::say(&format!("pxed: {}", self.told()));
    }
}

/// Opens a file for its owner alone.
fn private_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(path)?;
    // One that was there keeps its permissions otherwise.
    if file.metadata()?.is_file() {
        file.set_permissions(Permissions::from_mode(MODE))?;
    }
    Ok(file)
}

/// Writes the blocks of a stream as they become whole.
fn copy(source: &mut impl Read, sink: &Mutex<Sink>) -> anyhow::Result<()> {
    let (mut pending, mut chunk) = (Vec::new(), vec![0; CHUNK]);
    loop {
        let length = match source.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("pxed ended the capture: was it stopped?"),
        };
        pending.extend_from_slice(chunk.get(..length).unwrap_or_default());
        let whole = blocks::whole(&pending)?;
        sink.lock().unwrap_or_else(PoisonError::into_inner).write(pending.get(..whole).unwrap_or_default())?;
        pending.drain(..whole);
    }
}

/// Lets SIGINT, SIGTERM and SIGHUP end the process when the write under way is done, so that the file ends with a whole block.
fn end_on_signal(sink: Arc<Mutex<Sink>>) -> anyhow::Result<()> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block().context("blocking signals")?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            if signals.wait().is_err() {
                return;
            }
            let (steps, step) = LAST_WRITE;
            for _ in 0..steps {
                match sink.try_lock() {
                    Ok(sink) => finish(&sink),
                    Err(TryLockError::Poisoned(sink)) => finish(&sink.into_inner()),
                    Err(TryLockError::WouldBlock) => thread::sleep(step),
                }
            }
            // Whoever reads standard output has stopped reading.
            process::exit(1);
        })
        .context("starting the thread that waits for signals")?;
    Ok(())
}

fn finish(sink: &Sink) -> ! {
    sink.say();
    logging::flush(Duration::from_millis(300));
    process::exit(0);
}

fn is_unread(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe))
}

#[cfg(test)]
mod tests;
