//! File descriptors are few, or used up.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    net::{TcpStream, UdpSocket},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use pxe_lab::{
    Pxed, build,
    cluster::{self, Machine},
    namespace::output,
    pxed::{ADMIN, Launch},
    requires,
    topology::INTERFACE,
};

use crate::place::{Descriptors, Place, SOON, connect, read_answer, server_at, tftp_request};

/// More connections than pxed can have descriptors.
const IDLE: usize = 1_200;

/// Two of this machine's clients, and the admin listener, are kept busy with idle connections.
pub(crate) fn few(limit: &'static str) -> anyhow::Result<()> {
    requires::tools(&["prlimit"])?;
    let descriptors = Descriptors::take(2 * IDLE)?;
    ensure!(descriptors.count == 2 * IDLE, "this process may have {} connections only", descriptors.count);
    let place = Place::new(100_000)?;
    let nofile = format!("--nofile={limit}:{limit}");
    let pxed = place.pxed(&[], &Launch { wrapper: &["prlimit", &nofile], ..Launch::default() })?;
    let program = || place.bridged.server.ip(&["-details", "link", "show", "dev", INTERFACE]);
    let before = program()?;

    let mut idle = place.as_stranger(|| (0..IDLE).map(|_| connect()).collect::<anyhow::Result<Vec<_>>>())?;
    idle.extend(place.bridged.server.enter(|| {
        (0..IDLE).map(|_| TcpStream::connect(ADMIN).map_err(Into::into)).collect::<anyhow::Result<Vec<_>>>()
    })??);
    let metrics = pxed.metrics()?;
    let (open, most) = (metrics.sum("process_open_fds", &[]), metrics.sum("process_max_fds", &[]));
    ensure!(most == limit.parse::<f64>()? && open < most, "{open} of {most}");

    // A machine boots, another stranger is served, and people can look and decide.
    boots(&place, &Machine::number(1)).with_context(|| pxed.process.last_lines())?;
    place.tftp_is_served()?;
    place.http_answers("/assets/undionly.kpxe", 200, 3)?;
    status(&place, "file descriptors:")?;
    ensure!(pxed.admin("/healthz")? == "ok\n", "unhealthy");
    ensure!(pxed.admin("/readyz")? == "ready\n", "not ready");
    ensure!(program()? == before, "the interface was {before} and is {}", program()?);
    let output = pxed.process.output();
    ensure!(output.matches("serving").count() == 1, "opened again: {output}");
    ensure!(!output.contains("Too many open files"), "{output}");
    drop(idle);
    Ok(())
}

/// Boots a simulated machine from the second client.
pub(crate) fn boots(place: &Place, machine: &Machine) -> anyhow::Result<()> {
    let client = place.bridged.clients.get(1).context("a second client")?;
    let mut command = client.command(build::pxed()?.path);
    command.args(["rehearse", "--interface", INTERFACE, "--firmware", "uefi-x64", "--mac", &machine.mac]);
    output(&mut command).map(drop)
}

/// Runs `pxed status` and expects this in its output.
fn status(place: &Place, expected: &str) -> anyhow::Result<()> {
    let mut command = place.bridged.server.command(build::pxed()?.path);
    let text = output(command.args(["status", "--admin", ADMIN]))?;
    ensure!(text.contains(expected), "{expected} is missing in {text}");
    Ok(())
}

/// No descriptor is free for a while. Requests wait, and a change of the spec is not lost.
pub(crate) fn used_up() -> anyhow::Result<()> {
    requires::tools(&["prlimit", "setpriv"])?;
    let place = Place::new(1000)?;
    let pxed = place.pxed(&[], &Launch::default())?;
    let process = pxed.process.id().to_string();
    // A user sets the limits of its own processes; root would need CAP_SYS_RESOURCE.
    let user = pxe_lab::USER.to_string();
    let limit = |descriptors: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "prlimit", "--pid", &process]);
        output(command.arg(format!("--nofile={descriptors}:")))
    };
    let mut connection = place.as_stranger(connect)?;
    ask(&mut connection)?;
    ensure!(read_answer(&mut connection)?.starts_with("HTTP/1.1 200 "), "no file");

    limit(&first_free(&process)?.min(LASTING).to_string())?;
    pxed.process.wait_for_line("cannot be looked up", SOON)?;
    // TFTP stays silent, HTTP holds the request.
    place.as_stranger(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        socket.send_to(b"\0\x01undionly.kpxe\0octet\0", server_at(69)?)?;
        pxed.process.wait_for_line("no file descriptor is free now", SOON)?;
        ensure!(socket.recv(&mut [0; 2048]).is_err(), "TFTP answered");
        Ok(())
    })?;
    ask(&mut connection)?;
    let second = Machine::number(2);
    pxed.rewrite_spec(&cluster::cluster(&[Machine::number(1), second.clone()]))?;
    pxed.process.wait_for_line("is loaded when a file descriptor is free", SOON)?;

    limit("1024")?;
    ensure!(read_answer(&mut connection)?.starts_with("HTTP/1.1 200 "), "no file");
    let answer = place.as_stranger(|| tftp_request("undionly.kpxe"))?;
    ensure!(answer.starts_with(&[0, 3]), "{answer:?}");
    knows(&pxed, &second)
}

fn knows(pxed: &Pxed<'_>, machine: &Machine) -> anyhow::Result<()> {
    pxed.eventually("the machine of the changed spec", SOON, |pxed| Ok(pxed.machine(&machine.mac).is_ok()))
}

fn ask(connection: &mut TcpStream) -> anyhow::Result<()> {
    Ok(connection.write_all(b"GET /assets/undionly.kpxe HTTP/1.1\r\nHost: x\r\n\r\n")?)
}

/// Descriptors below this are those of the start, which pxed never closes. A limit above them might leave it one that it closes a
/// moment after they were counted.
const LASTING: u32 = 10;

/// Returns the lowest descriptor that the process does not have. A limit of this leaves it none.
fn first_free(process: &str) -> anyhow::Result<u32> {
    let open = fs::read_dir(format!("/proc/{process}/fd"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().parse()?))
        .collect::<anyhow::Result<BTreeSet<u32>>>()?;
    (0..).find(|descriptor| !open.contains(descriptor)).context("a free descriptor")
}
