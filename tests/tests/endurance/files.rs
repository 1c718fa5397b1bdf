//! Something else where a file is expected, and files that are overwritten while a machine loads them.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, UdpSocket},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use pxe_lab::{
    Process, build,
    cluster::{self, Machine, SERVER},
    namespace::output,
    pxed::{ADMIN, Launch},
};
use tempfile::TempDir;

use crate::place::{Place, SOON, connect, server_at};

/// The time within which pxed says what is wrong: it must not wait for the other end of a FIFO.
const TOLD: Duration = Duration::from_secs(20);

type Make = fn(&Path) -> anyhow::Result<()>;

/// What stands where a file is expected, with its name.
const KINDS: [(Make, &str); 2] = [
    (|path| output(Command::new("mkfifo").arg(path)).map(drop), "FIFO"),
    (|path| Ok(fs::create_dir(path)?), "directory"),
];

/// The options that name a file, with the words of the error.
const OPTIONS: [&str; 6] =
    ["--config", "--cluster", "--kubeconfig", "--ca-certificates", "--secure-boot-key", "--secure-boot-cert"];

/// pxed ends, and names what it was given.
pub(crate) fn options() -> anyhow::Result<()> {
    let place = Place::new(1000)?;
    let directory = TempDir::new()?;
    let spec = directory.path().join("spec.yaml");
    fs::write(&spec, cluster::cluster(&[Machine::number(1)]))?;
    let key = directory.path().join("key");
    fs::write(&key, "no key")?;
    for option in OPTIONS {
        for (make, kind) in KINDS {
            let path = directory.path().join(format!("{}-{kind}", option.trim_start_matches('-')));
            make(&path)?;
            let mut command = place.bridged.server.command(build::pxed()?.path);
            command.args(["run", "--admin", ADMIN]);
            command.arg("--admin-socket").arg(directory.path().join("admin.sock"));
            command.arg("--artifacts").arg(place.artifacts.path());
            command.arg("--state").arg(directory.path().join("state"));
            // An empty directory is a spec without machines.
            if option == "--cluster" && kind == "directory" {
                continue;
            }
            if option != "--cluster" && option != "--kubeconfig" {
                command.arg("--cluster").arg(&spec);
            }
            match option {
                "--secure-boot-key" => _ = command.arg("--secure-boot-cert").arg(&key),
                "--secure-boot-cert" => _ = command.arg("--secure-boot-key").arg(&key),
                "--kubeconfig" => _ = command.arg("--kubernetes"),
                _ => {}
            }
            command.arg(option).arg(&path);
            let mut pxed = Process::spawn("pxed", &mut command)?;
            let status = pxed.wait(TOLD).with_context(|| format!("{option} with a {kind}"))?;
            let output = pxed.output();
            let named = path.display().to_string();
            ensure!(!status.success() && output.contains(&named), "{option} with a {kind}: {status}: {output}");
        }
    }
    Ok(())
}

/// Artifacts, a Matchbox directory's entries and specs beside others: pxed says which is no file, and serves the rest.
pub(crate) fn entries() -> anyhow::Result<()> {
    let place = Place::new(1000)?;
    let directory = TempDir::new()?;
    let made = |path: PathBuf| {
        fs::create_dir_all(path.parent().context("a parent")?)?;
        output(Command::new("mkfifo").arg(&path)).map(drop)
    };
    let matchbox = directory.path().join("matchbox");
    for path in ["groups/pipe.json", "profiles/pipe.json", "ignition/pipe.yaml"] {
        made(matchbox.join(path))?;
    }
    let group = r#"{"id":"g","profile":"p","selector":{}}"#;
    fs::write(matchbox.join("groups/g.json"), group)?;
    fs::write(matchbox.join("profiles/p.json"), r#"{"id":"p","boot":{"kernel":"/assets/undionly.kpxe"}}"#)?;
    made(place.artifacts.path().join("pipe"))?;
    let named = matchbox.display().to_string();
    let pxed = place.pxed(&["--matchbox", &named], &Launch::default())?;
    let output = pxed.process.output();
    for path in ["groups/pipe.json", "profiles/pipe.json"] {
        ensure!(output.contains(path), "{path} is not named: {output}");
    }
    place.http_answers("/assets/undionly.kpxe", 200, 1)?;
    place.http_answers("/assets/pipe", 404, 1)?;
    place.http_answers("/ipxe?mac=52:54:00:99:00:77", 200, 1)?;
    place.tftp_refusals(1)?;
    place.tftp_is_served()
}

/// The length of the file that is overwritten.
const LENGTH: usize = 8 << 20;

type Overwrite = fn(&fs::File) -> anyhow::Result<()>;

/// Writes over the file in place, with as many bytes or with others.
const OVERWRITE: [(Overwrite, &str); 3] = [
    (|file| Ok(file.write_all_at(&vec![b'n'; LENGTH], 0)?), "the same length"),
    (|file| Ok(file.set_len(LENGTH as u64 / 2)?), "half of the length"),
    (|file| Ok(file.write_all_at(b"more", LENGTH as u64)?), "more bytes"),
];

/// A download by HTTP breaks off, and one by TFTP does not come to its last block.
pub(crate) fn overwritten() -> anyhow::Result<()> {
    for (overwrite, how) in OVERWRITE {
        let place = Place::new(LENGTH)?;
        let pxed = place.pxed(&[], &Launch::default())?;
        let name = "undionly.kpxe";
        let file = fs::OpenOptions::new().write(true).open(place.artifacts.path().join(name))?;
        let got = place.as_stranger(|| by_http(name, || overwrite(&file)))?;
        ensure!(got < LENGTH, "{how}: all of {got} bytes arrived by HTTP");
        pxed.process.wait_for_line("overwritten in place", SOON)?;

        let place = Place::new(LENGTH)?;
        let _pxed = place.pxed(&[], &Launch::default())?;
        let file = fs::OpenOptions::new().write(true).open(place.artifacts.path().join(name))?;
        place.as_stranger(|| by_tftp(name, || overwrite(&file))).context(how)?;
    }
    Ok(())
}

/// Downloads half of a file, calls `between`, and goes on. Returns the bytes that came.
fn by_http(name: &str, between: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<usize> {
    let mut stream = pxe_lab::tcp::connect_with_receive_buffer(server_at(8000)?, 64 << 10)?;
    write!(stream, "GET /assets/{name} HTTP/1.1\r\nHost: {SERVER}\r\n\r\n")?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8(head)?;
    ensure!(head.to_ascii_lowercase().contains(&format!("content-length: {LENGTH}\r\n")), "{head}");
    let mut body = vec![0; LENGTH];
    stream.read_exact(&mut body[..LENGTH / 2])?;
    between()?;
    let mut got = LENGTH / 2;
    loop {
        match stream.read(&mut body[got..]) {
            Ok(0) | Err(_) => return Ok(got),
            Ok(read) => got += read,
        }
    }
}

/// Reads half of the blocks, calls `between`, and goes on. Fails if the last block comes.
fn by_tftp(name: &str, between: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let request = format!("\0\u{1}{name}\0octet\0blksize\x001428\0windowsize\x0016\0");
    let (mut buffer, mut from) = ([0; 2048], None::<SocketAddr>);
    let mut between = Some(between);
    let (mut next, mut length) = (1_u16, 0);
    socket.send_to(request.as_bytes(), server_at(69)?)?;
    let deadline = Instant::now() + 3 * SOON;
    while Instant::now() < deadline {
        let Ok((count, sender)) = socket.recv_from(&mut buffer) else {
            // Asked again, as firmware does, until the server gives up.
            match from {
                Some(server) => _ = socket.send_to(&acknowledgement(next.wrapping_sub(1)), server)?,
                None => _ = socket.send_to(request.as_bytes(), server_at(69)?)?,
            }
            continue;
        };
        from = Some(sender);
        match buffer[..count] {
            [0, 6, ..] => _ = socket.send_to(&acknowledgement(0), sender)?,
            // The error that breaks it off.
            [0, 5, ..] => return Ok(()),
            [0, 3, high, low, ref data @ ..] if u16::from_be_bytes([high, low]) == next => {
                length += data.len();
                ensure!(data.len() == 1428, "the last block came, after {length} bytes");
                socket.send_to(&acknowledgement(next), sender)?;
                next = next.wrapping_add(1);
                if length > LENGTH / 2
                    && let Some(between) = between.take()
                {
                    between()?;
                }
            }
            _ => {}
        }
    }
    ensure!(between.is_none(), "{length} bytes by TFTP");
    Ok(())
}

fn acknowledgement(block: u16) -> [u8; 4] {
    let [high, low] = block.to_be_bytes();
    [0, 4, high, low]
}

/// The state directory's files, while pxed starts: what is no file is set aside, or named if pxed cannot do without it.
pub(crate) fn state() -> anyhow::Result<()> {
    let place = Place::new(1000)?;
    for (name, is_fatal) in [("machines.json", false), ("machines.changes", false), ("lock", true)] {
        for (make, kind) in KINDS {
            let directory = TempDir::new()?;
            make(&directory.path().join(name))?;
            let launch = Launch { state_directory: Some(directory.path()), ..Launch::default() };
            if !is_fatal {
                let pxed = place.pxed(&[], &launch).with_context(|| format!("{name} is a {kind}"))?;
                let line = pxed.process.wait_for_line(kind, SOON)?;
                ensure!(line.contains(&format!("{name} is damaged")) && line.contains("is kept as"), "{line}");
                ensure!(pxed.admin("/api/v1/health")?.contains(name), "pxed status does not tell of {name}");
                continue;
            }
            let spec = cluster::cluster(&[Machine::number(1)]);
            let started = pxe_lab::Pxed::launch_by(&place.bridged.server, &spec, place.artifacts.path(), &[], &launch);
            let mut pxed = started?;
            let status = pxed.process.wait(TOLD)?;
            let output = pxed.process.output();
            ensure!(!status.success() && output.contains("has to be a file") && output.contains(name), "{output}");
        }
    }
    // Something beside them is nobody's business.
    let stream = place.as_stranger(connect);
    ensure!(stream.is_err(), "pxed has not ended");
    Ok(())
}
