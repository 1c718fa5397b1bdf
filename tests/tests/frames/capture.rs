//! `pxed capture`, read by tshark.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::Ipv4Addr,
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use pxe_lab::{
    Datapath, Process, Pxed, build,
    cluster::{self, Machine},
    namespace::output,
    requires, suite,
    topology::INTERFACE,
};
use tempfile::TempDir;

use crate::{
    bench::Bench,
    wire::{self, Query},
};

/// The time limit for a file and for its end.
const SOON: Duration = Duration::from_secs(30);

/// The fields of a frame that the tests look at, as tshark names them.
const FIELDS: [&str; 10] = [
    "dhcp.option.dhcp",
    "tftp.opcode",
    "http.request.uri",
    "http.response.code",
    "vlan.id",
    "frame.comment",
    "udp.stream",
    "frame.time_epoch",
    "eth.src",
    "arp.opcode",
];

/// A `pxed capture` that runs.
struct Running {
    process: Process,
    directory: TempDir,
}

/// A frame as tshark reads it.
#[derive(Debug)]
struct Frame(Vec<String>);

impl Frame {
    fn field(&self, name: &str) -> &str {
        let index = FIELDS.iter().position(|field| *field == name);
        index.and_then(|index| self.0.get(index)).map_or("", String::as_str)
    }

    fn comment(&self) -> &str {
        self.field("frame.comment")
    }
}

impl Running {
    /// Starts a capture, and waits until it has begun.
    fn start(pxed: &Pxed<'_>, arguments: &[&str]) -> anyhow::Result<Self> {
        requires::tools(&["tshark"])?;
        let directory = TempDir::new()?;
        let mut command = Command::new(build::pxed()?.path);
        command.arg("capture").args(arguments).arg("--output").arg(directory.path().join("a.pcapng"));
        command.arg("--admin").arg(format!("unix:{}", pxed.socket().display()));
        let running = Self { process: Process::spawn("capture", &mut command)?, directory };
        suite::eventually("a capture", SOON, || Ok(fs::metadata(running.path()).is_ok_and(|file| file.len() > 0)))
            .with_context(|| running.process.last_lines())?;
        Ok(running)
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("a.pcapng")
    }

    /// Waits until this many frames are in the file.
    fn wait_for(&self, frames: usize) -> anyhow::Result<()> {
        suite::eventually("frames in the capture", SOON, || Ok(packets(&fs::read(self.path())?).len() >= frames))
    }

    /// Ends it as Ctrl-C does, and returns its frames.
    fn end(mut self) -> anyhow::Result<Vec<Frame>> {
        self.process.signal(Signal::SIGINT)?;
        let status = self.process.wait(SOON)?;
        let said = self.process.output();
        ensure!(status.success() && said.contains("captured to"), "{status}: {said}");
        let mode = fs::metadata(self.path())?.permissions().mode() & 0o777;
        ensure!(mode == 0o600, "the file has the mode {mode:o}");
        read(&self.path())
    }
}

/// Reads a file by tshark, which complains if it is cut off.
fn read(path: &Path) -> anyhow::Result<Vec<Frame>> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(path).args(["-n", "-T", "fields", "-E", "separator=/t", "-d", "tcp.port==8000,http"]);
    for field in FIELDS {
        command.args(["-e", field]);
    }
    let output = command.output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && !complaint.contains("cut short"), "tshark: {complaint}");
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().map(|line| Frame(line.split('\t').map(str::to_owned).collect())).collect())
}

/// Returns the bytes of the packets in whole blocks of a pcapng file.
fn packets(file: &[u8]) -> Vec<&[u8]> {
    let number = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]) as usize)
    };
    let (mut rest, mut packets) = (file, Vec::new());
    while let Some(length) = number(rest, 4).filter(|&length| length >= 12 && length <= rest.len()) {
        if number(rest, 0) == Some(6) {
            packets.extend(number(rest, 20).and_then(|kept| rest.get(28..28 + kept)));
        }
        rest = &rest[length..];
    }
    packets
}

/// Two machines boot; the capture of one has every step of it once, with the decisions, and nothing of the other. A second capture, which nobody
/// reads, changes nothing.
pub(crate) fn boot(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let machines = [1, 2].map(Machine::number);
    let pxed = bench.pxed(datapath, &machines, &["--machine-rate", "0"])?;
    let [first, second] = &machines;
    let mut unread = UnixStream::connect(pxed.socket())?;
    write!(unread, "POST /api/v1/captures?machine={} HTTP/1.1\r\nhost: a\r\n\r\n", first.mac)?;
    unread.read_exact(&mut [0; 15])?;
    let running = Running::start(&pxed, &["--mac", &first.address])?;
    let mut command = bench.client.command(build::pxed()?.path);
    command.args(["rehearse", "--interface", INTERFACE, "--hurry", "--firmware", "uefi-x64", "--limit-seconds", "60"]);
    output(command.args(["--mac", &format!("{},{}", first.mac, second.mac)]))?;
    suite::eventually("the end of the boot in the journal", SOON, || Ok(pxed.machine(&first.mac)?["boots"] == 1))?;
    // It is written when nothing earlier can come any more.
    suite::eventually("the end of the initramfs in the capture", SOON, || {
        let file = fs::read(running.path())?;
        Ok(String::from_utf8_lossy(&file).contains("received the initramfs"))
    })?;
    let file = fs::read(running.path())?;
    let frames = running.end()?;

    let (mine, others) = (wire::mac(&first.mac)?, wire::mac(&second.mac)?);
    let [own, octets] = [first, second].map(|machine| machine.address.parse().map(|ip: Ipv4Addr| ip.octets()));
    let (own, octets) = (own?, octets?);
    let mut seen = BTreeSet::new();
    for packet in packets(&file) {
        let is_mine = packet.windows(6).any(|bytes| bytes == mine) || packet.windows(4).any(|bytes| bytes == own);
        ensure!(is_mine, "a frame without the machine: {packet:02x?}");
        ensure!(!packet.windows(6).take(60).any(|bytes| bytes == others), "a frame of the other: {packet:02x?}");
        ensure!(
            packet.get(26..34).is_none_or(|ip| ip[..4] != octets && ip[4..] != octets),
            "to the other: {packet:02x?}"
        );
        // Of TCP, an acknowledgement may come twice.
        let is_udp = packet.get(12..14) == Some(&[8, 0]) && packet.get(23) == Some(&17);
        ensure!(!is_udp || seen.insert(packet), "a frame twice: {packet:02x?}");
    }
    let count = |field: &str, value: &str| frames.iter().filter(|frame| frame.field(field) == value).count();
    for (kind, name) in [("1", "DISCOVER"), ("2", "OFFER"), ("3", "REQUEST"), ("5", "ACK")] {
        // The firmware's, iPXE's and the operating system's.
        ensure!(count("dhcp.option.dhcp", kind) == 3, "{name}: {frames:#?}");
    }
    for (opcode, name) in [("1", "RRQ"), ("6", "OACK"), ("3", "DATA"), ("4", "ACK")] {
        ensure!(count("tftp.opcode", opcode) > 0, "{name}: {frames:#?}");
    }
    let requests: Vec<_> =
        frames.iter().map(|frame| frame.field("http.request.uri")).filter(|uri| !uri.is_empty()).collect();
    for wanted in [".ipxe", "/assets/vmlinuz-", "/assets/initramfs-"] {
        ensure!(requests.iter().filter(|uri| uri.contains(wanted)).count() == 1, "{wanted}: {requests:?}");
    }
    ensure!(count("http.response.code", "200") == requests.len(), "{frames:#?}");
    let said = |words: &str| frames.iter().filter(|frame| frame.comment().contains(words)).count();
    let network = "machine boots from the network (policy auto)";
    for words in [
        format!("OFFER {}, loader ipxe-efi-x86_64.efi: {network}", first.address),
        format!("ACK {}, loader ipxe-efi-x86_64.efi: {network}", first.address),
        format!("OFFER {}, its script: {network}", first.address),
        format!("ACK {}, its script: {network}", first.address),
    ] {
        ensure!(said(&words) == 1, "{words}: {frames:#?}");
    }
    for (field, words) in [("tftp.opcode", "by TFTP"), ("http.request.uri", "by HTTP")] {
        let has = |frame: &&Frame| !frame.field(field).is_empty() && frame.comment().contains(words);
        ensure!(frames.iter().any(|frame| has(&frame)), "{words}: {frames:#?}");
    }
    let times: Vec<_> = frames.iter().map(|frame| frame.field("frame.time_epoch").to_owned()).collect();
    ensure!(times.is_sorted(), "{times:?}");
    drop(unread);
    Ok(())
}

/// Frames that nobody answers are in the capture, with their tags and the reason; also of a machine that the spec does not have.
pub(crate) fn unanswered(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let (machine, stranger) = (Machine::number(1), Machine::number(9));
    let spec = cluster::with_annotation(&cluster::cluster(std::slice::from_ref(&machine)), "pxed.dev/vlans: 7");
    let pxed = bench.pxed_with(datapath, &spec, &["--machine-rate", "0"])?;
    let plug = bench.plug()?;
    let tagged = |machine, vlan| anyhow::Ok(Query { tags: vec![[0x81, 0, 0, vlan]], ..Query::discover(machine)? });
    let (of_machine, of_stranger) = (Running::start(&pxed, &[&machine.mac])?, Running::start(&pxed, &[&stranger.mac])?);
    plug.send(&tagged(&machine, 9)?.frame())?;
    plug.send(&Query::discover(&stranger)?.frame())?;
    plug.ask(&tagged(&machine, 7)?)?;
    of_machine.wait_for(3)?;
    of_stranger.wait_for(1)?;
    let frames = of_machine.end()?;
    let tags: Vec<_> = frames.iter().map(|frame| frame.field("vlan.id")).collect();
    ensure!(tags == ["9", "7", "7"], "{frames:#?}");
    ensure!(frames[2].comment().starts_with("OFFER"), "{frames:#?}");
    let strangers = of_stranger.end()?;
    ensure!(strangers.len() == 1 && strangers[0].field("dhcp.option.dhcp") == "1", "{strangers:#?}");
    if datapath.has_program() {
        for (frame, words) in [
            (&frames[0], "xdp: passed: nobody is served on its VLAN (pxed.dev/vlans)"),
            (&frames[1], "xdp: redirected to queue 0"),
            (&strangers[0], "xdp: passed: no machine in the spec has this MAC (--unknown pass)"),
        ] {
            ensure!(frame.comment() == words, "{}", frame.comment());
        }
        return Ok(());
    }
    for (frame, words) in [(&frames[0], "VLAN"), (&strangers[0], "no machine in the spec has this MAC")] {
        let comment = frame.comment();
        ensure!(comment.starts_with("left unanswered: ") && comment.contains(words), "{comment}");
    }
    Ok(())
}

/// Frames that the XDP program drops are in the capture, and nowhere else. The strangers among them are listed.
pub(crate) fn dropped(datapath: Datapath) -> anyhow::Result<()> {
    if !datapath.has_program() {
        return Ok(());
    }
    let bench = Bench::new()?;
    let (machine, stranger) = (Machine::number(1), Machine::number(9));
    let options = ["--unknown", "drop", "--machine-rate", "1"];
    let pxed = bench.pxed(datapath, std::slice::from_ref(&machine), &options)?;
    let plug = bench.plug()?;
    let (of_machine, of_stranger) = (Running::start(&pxed, &[&machine.mac])?, Running::start(&pxed, &[&stranger.mac])?);
    let tagged = Query { tags: vec![[0x81, 0, 0, 7]], ..Query::discover(&stranger)? };
    for frame in [Query::discover(&stranger)?.frame(), tagged.frame()] {
        plug.send(&frame)?;
    }
    for _ in 0..40 {
        plug.send(&Query::discover(&machine)?.frame())?;
    }
    of_stranger.wait_for(2)?;
    suite::eventually("a question that is dropped", SOON, || {
        Ok(String::from_utf8_lossy(&fs::read(of_machine.path())?).contains("xdp: dropped"))
    })?;
    let strangers = of_stranger.end()?;
    let comments: Vec<_> = strangers.iter().map(Frame::comment).collect();
    let dropped = "xdp: dropped: no machine in the spec has this MAC (--unknown drop)";
    ensure!(comments[0] == dropped && strangers[0].field("dhcp.option.dhcp") == "1", "{strangers:#?}");
    ensure!(comments[1].starts_with("xdp: "), "{strangers:#?}");
    let frames = of_machine.end()?;
    let said = |words: &str| frames.iter().filter(|frame| frame.comment() == words).count();
    ensure!(said("xdp: redirected to queue 0") > 0, "{frames:#?}");
    ensure!(said("xdp: dropped: the machine asks too often (--machine-rate)") > 0, "{frames:#?}");
    // Without a capture, too.
    let third = Machine::number(8);
    plug.send(&Query::discover(&third)?.frame())?;
    suite::eventually("the stranger in the list", SOON, || {
        Ok(pxed.admin("/api/v1/strangers")?.contains(&third.mac.to_lowercase()))
    })
}

/// The file is whole wherever pxed ends.
pub(crate) fn killed(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let machine = Machine::number(1);
    let pxed = bench.pxed(datapath, std::slice::from_ref(&machine), &["--machine-rate", "0"])?;
    let plug = bench.plug()?;
    let mut running = Running::start(&pxed, &["--mac", &machine.mac])?;
    plug.ask(&Query::discover(&machine)?)?;
    running.wait_for(2)?;
    pxed.process.signal(Signal::SIGKILL)?;
    let status = running.process.wait(SOON)?;
    let said = running.process.output();
    ensure!(!status.success() && said.contains("was it stopped?") && said.contains("2 frames captured"), "{said}");
    ensure!(read(&running.path())?.len() == 2, "{said}");
    Ok(())
}
