//! What pxed bears of an API server: its memory stays bounded, its log short, and known machines boot.

use std::{
    fs,
    io::{self, Write as _},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use pxe_lab::{
    Artifacts, Bridged, Pxed, build,
    cluster::{Machine, SERVER_ADDRESS, VERSION},
    namespace::output,
    pxed::Launch,
    topology::INTERFACE,
};
use serde_json::{Value, json};

use crate::{
    fleet::{SOON, knows},
    liar::{Liar, Lie, Request, list, respond, respond_with, taloscluster},
};

/// The requests that pxed makes while it is told a lie.
const TOLD: usize = 8;
/// The most memory that pxed ever has, in kB: it keeps 256 MiB of objects at most, and takes in as much again while it lists.
const MOST_MEMORY: usize = 1 << 20;
/// The most lines of the log about a lie.
const MOST_LINES: usize = 25;

fn known() -> [Machine; 1] {
    [Machine::number(1)]
}

fn honest() -> Value {
    taloscluster("lab", "default", &known())
}

const STREAM: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n";

/// A body without an end and without a line's end.
fn endless_body(request: &Request, stream: &mut TcpStream) -> io::Result<bool> {
    stream.write_all(STREAM)?;
    write!(stream, "{{\"kind\":\"{}\",\"metadata\":{{\"resourceVersion\":\"7\"}},\"items\":[\"", request.list_kind())?;
    loop {
        stream.write_all(&[b'x'; 1 << 16])?;
    }
}

/// Each part of a list leads to another one.
fn endless_list(request: &Request, stream: &mut TcpStream) -> io::Result<bool> {
    let next = (request.number("continue") + 1).to_string();
    respond(stream, &list(request, &[honest()], &next))?;
    Ok(true)
}

/// 100,000 objects of a megabyte, as many in each part as were asked for.
fn huge_objects(request: &Request, stream: &mut TcpStream) -> io::Result<bool> {
    if request.is_watch() {
        return Ok(false);
    }
    let begin = request.number("continue");
    let end = (begin + request.number("limit").max(1)).min(100_000);
    stream.write_all(STREAM)?;
    let next = if end < 100_000 { end.to_string() } else { String::new() };
    let kind = request.list_kind();
    write!(
        stream,
        "{{\"kind\":\"{kind}\",\"metadata\":{{\"resourceVersion\":\"7\",\"continue\":\"{next}\"}},\"items\":["
    )?;
    let filling = vec![b'y'; 1 << 20];
    for number in begin..end {
        let comma = if number > begin { "," } else { "" };
        write!(stream, "{comma}{{\"metadata\":{{\"name\":\"m{number}\",\"namespace\":\"ns\"}},\"spec\":{{\"a\":\"")?;
        stream.write_all(&filling)?;
        stream.write_all(b"\"}}")?;
    }
    stream.write_all(b"]}")?;
    Ok(true)
}

fn html(_: &Request, stream: &mut TcpStream) -> io::Result<bool> {
    respond_with(stream, "200 OK", "content-type: text/html\r\n", "<html><body>Sign in, please</body></html>\n")?;
    Ok(true)
}

fn patience(_: &Request, stream: &mut TcpStream) -> io::Result<bool> {
    respond_with(stream, "429 Too Many Requests", "retry-after: 1000000000\r\n", "")?;
    Ok(true)
}

/// Leads to itself, and so in circles.
fn redirects(request: &Request, stream: &mut TcpStream) -> io::Result<bool> {
    let location = format!("location: {}\r\n", request.target);
    respond_with(stream, "302 Found", &location, "")?;
    Ok(true)
}

fn unknown_events(request: &Request, stream: &mut TcpStream) -> io::Result<bool> {
    if !request.is_watch() {
        return Ok(false);
    }
    stream.write_all(STREAM)?;
    for kind in ["WHAT", "added", "", "MODIFIED\u{0}"] {
        writeln!(stream, "{}", json!({"type": kind, "object": honest()}))?;
    }
    Ok(true)
}

/// Names that are paths, that have control characters, and that are as long as they may be and longer.
fn odd_names(request: &Request, stream: &mut TcpStream) -> io::Result<bool> {
    if request.is_watch() || !request.is_about("talosclusters") {
        return Ok(false);
    }
    let long = "n".repeat(253);
    let too_long = "n".repeat(254);
    let names =
        ["../../../etc/passwd", "a/b", "..", ".", "a\nlevel=ERROR b", "a\u{1b}[2Jb", "\u{0}", "", &long, &too_long];
    let odd = |name: &&str| taloscluster(name, "odd", &[Machine::number(50)]);
    let mut items: Vec<_> = names.iter().map(odd).collect();
    items.extend(["../..", "a\nb"].map(|namespace| taloscluster("x", namespace, &[Machine::number(51)])));
    items.push(honest());
    respond(stream, &list(request, &items, ""))?;
    Ok(true)
}

/// The known machine's MAC address in a thousand namespaces.
fn duplicates(request: &Request, stream: &mut TcpStream) -> io::Result<bool> {
    if request.is_watch() || !request.is_about("talosclusters") {
        return Ok(false);
    }
    let mut items: Vec<_> = (0..1_000).map(|number| taloscluster("lab", &format!("copy-{number}"), &known())).collect();
    items.push(honest());
    respond(stream, &list(request, &items, ""))?;
    Ok(true)
}

/// Objects come and go as fast as can be told.
fn deletions(request: &Request, stream: &mut TcpStream) -> io::Result<bool> {
    if !request.is_watch() || !request.is_about("talosclusters") {
        return Ok(false);
    }
    stream.write_all(STREAM)?;
    for round in 0..20_000_u32 {
        let object = taloscluster(&format!("c{}", round % 100), "storm", &[Machine::number(60)]);
        writeln!(
            stream,
            "{}\n{}",
            json!({"type": "ADDED", "object": object}),
            json!({"type": "DELETED", "object": object})
        )?;
    }
    Ok(true)
}

const LIES: [(&str, Lie); 10] = [
    ("a body without an end", endless_body),
    ("a list without an end", endless_list),
    ("100,000 objects of a megabyte", huge_objects),
    ("a page for people", html),
    ("a request for patience", patience),
    ("redirects", redirects),
    ("events of unknown types", unknown_events),
    ("odd names", odd_names),
    ("copies in other namespaces", duplicates),
    ("a storm of deletions", deletions),
];

/// Returns the most memory that a process has ever had, in kB.
fn peak(process: u32) -> anyhow::Result<usize> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}

pub(crate) fn every_lie_is_borne() -> anyhow::Result<()> {
    let network = Bridged::new(SERVER_ADDRESS, 1)?;
    let machine = Machine::number(1);
    let liar = Liar::start(&network.server, &known())?;
    let artifacts = Artifacts::stand_ins(&[VERSION], 1000)?;
    let directory = tempfile::tempdir()?;
    let kubeconfig = directory.path().join("kubeconfig");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "a", "users": [{"name": "a", "user": {"token": "t"}}],
        "clusters": [{"name": "a", "cluster": {"server": liar.url()?}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
    });
    fs::write(&kubeconfig, text.to_string())?;
    let launch = Launch { kubeconfig: Some(&kubeconfig), ..Launch::default() };
    let mut pxed = Pxed::launch_by(&network.server, "", artifacts.path(), &[], &launch)?;
    pxed.wait_until_ready()?;
    knows(&pxed, &machine)?;
    let boots = || {
        let client = network.clients.first().context("a client")?;
        let mut command = client.command(build::pxed()?.path);
        command.args(["rehearse", "--interface", INTERFACE, "--hurry", "--limit-seconds", "20"]);
        output(command.args(["--firmware", "uefi-x64", "--mac", &machine.mac]))
    };

    for (name, lie) in LIES {
        let lines = pxed.process.output().lines().count();
        liar.lie(Some(lie));
        let asked = liar.asked();
        // It ends the pauses that the last lie caused.
        pxed.process.signal(Signal::SIGHUP)?;
        boots().with_context(|| format!("{name}: at the beginning"))?;
        pxed.eventually(&format!("{name} is told"), SOON, |_| Ok(liar.asked() >= asked + TOLD))?;
        boots().with_context(|| format!("{name}: the machine does not boot"))?;
        let said = pxed.process.output();
        // A spec that changes is told of each time, and how often depends on how fast this machine is.
        let is_of_a_change = |line: &str| line.contains("machines changed") || line.contains("cluster spec loaded");
        let of_lie = |line: &&str| !line.contains(&*machine.mac) && !is_of_a_change(line);
        let new: Vec<_> = said.lines().skip(lines).filter(of_lie).collect();
        ensure!(new.len() <= MOST_LINES, "{name}: {} lines of the log:\n{}", new.len(), new.join("\n"));
        ensure!(!said.contains(['\u{1b}', '\u{0}']), "{name}: control characters are in the log");
        let memory = peak(pxed.process.id())?;
        ensure!(memory <= MOST_MEMORY, "{name}: {} MiB of memory", memory >> 10);
        eprintln!("{name}: {} lines, at most {} MiB so far", new.len(), memory >> 10);
        // The machine stays that of its cluster, and none of another one is served after this.
        liar.lie(None);
        pxed.process.signal(Signal::SIGHUP)?;
        pxed.eventually(&format!("{name}: what is right is known again"), Duration::from_secs(60), |pxed| {
            let machines = pxed.machines()?;
            let is_alone = machines.as_array().is_some_and(|all| all.len() == 1);
            Ok(is_alone && pxed.metrics()?.sum("pxed_kubernetes_up", &[]) > 0.5)
        })?;
    }
    ensure!(pxed.process.is_running()?, "pxed has ended");
    Ok(())
}
