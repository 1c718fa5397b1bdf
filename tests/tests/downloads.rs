//! curl and tftp-hpa download what pxed serves, by HTTP and TFTP.

use std::{
    fs,
    io::{IoSliceMut, Read as _, Write as _},
    net::SocketAddrV4,
    os::unix::fs::symlink,
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, ensure};
use pxe_lab::{
    Artifacts, Namespace, Pxed,
    cluster::{self, Machine, SERVER, SERVER_ADDRESS, VERSION},
    namespace::output,
    requires::{self, Skip},
    suite, tcp,
    topology::{INTERFACE, veth},
};
use rustix::{
    fs::{Advice, fadvise},
    io::{Errno, ReadWriteFlags, preadv2},
};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(30);

/// The length of each file in bytes, not a multiple of any block size.
const LENGTH: usize = 3_000_017;

fn main() -> ExitCode {
    suite::main(vec![
        suite::test("curl_gets_files_whole_in_part_and_resumed", curl_gets_files_whole_in_part_and_resumed),
        suite::test("curl_resumes_a_broken_download", curl_resumes_a_broken_download),
        suite::test("curl_keeps_its_connection_after_heads_and_conditions", curl_keeps_its_connection),
        suite::test("file_that_is_not_in_memory_is_waited_for_once", file_that_is_not_in_memory_is_waited_for_once),
        suite::test("curl_fetches_files_by_tftp_in_every_block_size", curl_fetches_files_by_tftp_in_every_block_size),
        suite::test("tftp_hpa_fetches_files", tftp_hpa_fetches_files),
        suite::test("absolute_links_are_served_by_http_and_tftp", absolute_links_are_served_by_http_and_tftp),
    ])
}

/// A machine on a cable to the server, and a directory for its downloads.
struct Lab {
    server: Namespace,
    client: Namespace,
    machine: Machine,
    artifacts: Artifacts,
    directory: TempDir,
}

impl Lab {
    fn new(program: &str) -> anyhow::Result<Self> {
        requires::tools(&[program])?;
        let lab = Self {
            server: Namespace::new("server")?,
            client: Namespace::new("client")?,
            machine: Machine::number(1),
            artifacts: Artifacts::stand_ins(&[VERSION], LENGTH)?,
            directory: TempDir::new()?,
        };
        veth(&lab.server, INTERFACE, &lab.client, INTERFACE)?;
        lab.server.ip(&["address", "add", SERVER_ADDRESS, "dev", INTERFACE])?;
        lab.client.ip(&["address", "add", &format!("{}/24", lab.machine.address), "dev", INTERFACE])?;
        Ok(lab)
    }

    fn pxed(&self) -> anyhow::Result<Pxed<'_>> {
        let spec = cluster::cluster(std::slice::from_ref(&self.machine));
        Pxed::start(&self.server, &spec, self.artifacts.path(), &[])
    }

    /// Runs curl in the directory and returns what it printed.
    fn curl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = self.client.command("curl");
        command.args(["--silent", "--show-error", "--max-time", "20"]).args(arguments);
        output(command.current_dir(self.directory.path()))
    }

    /// Returns the machine's download of this name.
    fn got(&self, name: &str) -> anyhow::Result<Vec<u8>> {
        fs::read(self.directory.path().join(name)).with_context(|| name.to_owned())
    }

    fn served(&self, name: &str) -> anyhow::Result<Vec<u8>> {
        fs::read(self.artifacts.path().join(name)).with_context(|| name.to_owned())
    }

    /// Waits until the machine's events are exactly these, in order: `requested`, `done BYTES`, `failed BYTES`.
    fn wait_for_events(&self, pxed: &Pxed<'_>, wanted: &[&str]) -> anyhow::Result<()> {
        let mut seen = Vec::new();
        let waited = pxed.eventually("the machine's events", SOON, |pxed| {
            let machine = pxed.machine(&self.machine.mac)?;
            let events = machine["events"].as_array().context("no events")?;
            let show = |event: &serde_json::Value| {
                let name = event["event"].as_str().unwrap_or_default();
                event["bytes"].as_u64().map_or_else(|| name.to_owned(), |bytes| format!("{name} {bytes}"))
            };
            seen = events.iter().map(show).collect();
            Ok(seen.len() >= wanted.len())
        });
        waited.with_context(|| format!("{seen:?}"))?;
        ensure!(seen == wanted, "{seen:?} instead of {wanted:?}");
        Ok(())
    }
}

fn kernel() -> String {
    format!("vmlinuz-{VERSION}-amd64")
}

fn url(name: &str) -> String {
    format!("http://{SERVER}:8000/assets/{name}")
}

fn curl_gets_files_whole_in_part_and_resumed() -> anyhow::Result<()> {
    let lab = Lab::new("curl")?;
    let pxed = lab.pxed()?;
    let (kernel, url) = (lab.served(&kernel())?, url(&kernel()));
    lab.curl(&["-o", "whole", &url])?;
    ensure!(lab.got("whole")? == kernel, "the file arrived changed");
    lab.curl(&["-o", "part", "-r", "1000-1999", &url])?;
    ensure!(lab.got("part")? == kernel[1000..2000], "the part differs");
    lab.curl(&["-o", "tail", "-r", "-17", &url])?;
    ensure!(lab.got("tail")? == kernel[LENGTH - 17..], "the end differs");
    fs::write(lab.directory.path().join("resumed"), &kernel[..1_234_567])?;
    lab.curl(&["-o", "resumed", "-C", "-", &url])?;
    ensure!(lab.got("resumed")? == kernel, "the resumed file differs");
    // A request for several ranges gets the whole file.
    let status = lab.curl(&["-o", "ranges", "-w", "%{http_code}", "-r", "0-1,5-6", &url])?;
    ensure!(status == "200" && lab.got("ranges")? == kernel, "several ranges: {status}");
    let status = lab.curl(&["-o", "/dev/null", "-w", "%{http_code}", "-r", "9999999-", &url])?;
    ensure!(status == "416", "a range behind the end: {status}");

    let done = format!("done {LENGTH}");
    // The two parts and the resumed end do not cover the kernel.
    let parts = ["requested", "requested", "requested"];
    let wanted = [&["requested", &done][..], &parts, &["requested", &done, "requested", "failed 0"]].concat();
    lab.wait_for_events(&pxed, &wanted)
}

fn curl_resumes_a_broken_download() -> anyhow::Result<()> {
    let lab = Lab::new("curl")?;
    let pxed = lab.pxed()?;
    let (name, broken_at) = (kernel(), LENGTH / 2);
    let start = lab.client.enter(|| read_and_reset(&name, broken_at))??;
    pxed.eventually("the failure among the machine's events", SOON, |pxed| {
        Ok(pxed.machine(&lab.machine.mac)?.to_string().contains("\"failed\""))
    })?;
    fs::write(lab.directory.path().join("resumed"), start)?;
    lab.curl(&["-o", "resumed", "-C", "-", &url(&name)])?;
    ensure!(lab.got("resumed")? == lab.served(&name)?, "the resumed file differs");
    let done = format!("\"bytes\":{LENGTH}");
    pxed.eventually("the whole kernel among the machine's events", SOON, |pxed| {
        Ok(pxed.machine(&lab.machine.mac)?["events"].to_string().contains(&done))
    })
}

/// Reads the beginning of a file, resets the connection, and returns the bytes.
fn read_and_reset(name: &str, length: usize) -> anyhow::Result<Vec<u8>> {
    // A small buffer keeps the rest of the file at the server.
    let mut connection = tcp::connect_with_receive_buffer(SocketAddrV4::new(SERVER.parse()?, 8000), 16 << 10)?;
    write!(connection, "GET /assets/{name} HTTP/1.1\r\nHost: {SERVER}\r\n\r\n")?;
    let mut bytes = Vec::new();
    let mut body = None;
    while body.is_none_or(|start| bytes.len() < start + length) {
        let mut chunk = [0; 16 << 10];
        let count = connection.read(&mut chunk)?;
        ensure!(count > 0, "the file ended after {} bytes", bytes.len());
        bytes.extend_from_slice(&chunk[..count]);
        body = body.or_else(|| bytes.windows(4).position(|end| end == b"\r\n\r\n").map(|end| end + 4));
    }
    tcp::reset(connection)?;
    let start = body.unwrap_or_default();
    Ok(bytes[start..start + length].to_vec())
}

fn curl_keeps_its_connection() -> anyhow::Result<()> {
    const WRITTEN: &str = "%{http_code} %{num_connects}\n";
    let lab = Lab::new("curl")?;
    let _pxed = lab.pxed()?;
    let (url, script) = (url(&kernel()), format!("http://{SERVER}:8000/boot.ipxe"));
    let is = |arguments: &[&str], wanted: &str| {
        let written = lab.curl(arguments)?;
        ensure!(written == wanted, "{arguments:?}: {written:?} instead of {wanted:?}");
        anyhow::Ok(())
    };
    let (ok, length) = ("HTTP/1.1 200 OK\r\n", format!("Content-Length: {LENGTH}\r\n"));
    let head = lab.curl(&["-I", &url])?;
    for line in [ok, &length, "Accept-Ranges: bytes\r\n", "ETag: \""] {
        ensure!(head.contains(line), "no {line:?} in {head}");
    }
    // Ranges are defined for GET only.
    let part = lab.curl(&["-I", "-r", "0-9", &url])?;
    ensure!(part.contains(ok) && part.contains(&length), "{part}");

    is(&["-o", "a", "-o", "b", "-o", "c", "-w", WRITTEN, &url, &script, &url], "200 1\n200 0\n200 0\n")?;
    let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).context("a header").map(str::trim);
    let conditions =
        [format!("If-None-Match: {}", value("ETag: ")?), format!("If-Modified-Since: {}", value("Last-Modified: ")?)];
    for condition in conditions {
        // The second URL shows that the connection is still in step after an answer without a body.
        let outputs = ["-o", "/dev/null", "-o", "/dev/null", "-w", WRITTEN];
        is(&[&outputs[..], &["-H", &condition, &url, &script]].concat(), "304 1\n200 0\n")?;
    }
    is(&["-o", "/dev/null", "-w", WRITTEN, "-H", "If-None-Match: \"other\"", &url], "200 1\n")?;
    is(&["-0", "-o", "old", "-w", WRITTEN, &url], "200 1\n")?;
    ensure!(lab.got("old")? == lab.served(&kernel())?, "HTTP/1.0 gets another file");
    Ok(())
}

/// Workers do not wait for the disk: another thread does, and only if it must.
fn file_that_is_not_in_memory_is_waited_for_once() -> anyhow::Result<()> {
    let lab = Lab::new("curl")?;
    let pxed = lab.pxed()?;
    let path = lab.artifacts.path().join(kernel());
    let kernel_bytes = lab.served(&kernel())?;
    let file = fs::File::open(&path)?;
    file.sync_all()?;
    fadvise(&file, 0, None, Advice::DontNeed)?;
    // Without RWF_NOWAIT, as on tmpfs, this cannot be found out.
    let mut byte = [0];
    let probe = preadv2(&file, &mut [IoSliceMut::new(&mut byte)], 0, ReadWriteFlags::NOWAIT);
    if probe != Err(Errno::AGAIN) {
        return Err(Skip(format!("the filesystem of {} keeps files in memory, or cannot tell", path.display())).into());
    }
    let waits = || Ok::<_, anyhow::Error>(pxed.metrics()?.sum("pxed_http_disk_waits_total", &[]));
    let url = url(&kernel());
    lab.curl(&["-o", "cold", &url])?;
    ensure!(lab.got("cold")? == kernel_bytes, "the file arrived changed");
    let cold = waits()?;
    ensure!((1.0..=3.0).contains(&cold), "{cold} waits for three megabytes");
    lab.curl(&["-o", "warm", &url])?;
    ensure!(lab.got("warm")? == kernel_bytes && waits()? == cold, "{} waits for a file in memory", waits()? - cold);
    Ok(())
}

fn curl_fetches_files_by_tftp_in_every_block_size() -> anyhow::Result<()> {
    let lab = Lab::new("curl")?;
    let (loader, length) = ("loader.efi", 300_000);
    fs::write(lab.artifacts.path().join(loader), &lab.served(&kernel())?[..length])?;
    let pxed = lab.pxed()?;
    let done = format!("done {length}");
    let url = format!("tftp://{SERVER}/{loader}");
    let mut events = Vec::new();
    for block_size in ["8", "512", "1432", "1468", "8192", "65464"] {
        lab.curl(&["-o", "loader", "--tftp-blksize", block_size, &url]).with_context(|| block_size)?;
        ensure!(lab.got("loader")? == lab.served(loader)?, "{block_size}: the file arrived changed");
        events.extend(["requested", &done]);
    }
    lab.wait_for_events(&pxed, &events)?;

    let absent = lab.client.command("curl").args(["-sS", &format!("tftp://{SERVER}/nothing")]).output()?;
    ensure!(absent.status.code() == Some(68), "not curl's code for a missing file: {absent:?}");
    Ok(())
}

fn tftp_hpa_fetches_files() -> anyhow::Result<()> {
    let lab = Lab::new("tftp")?;
    // A transfer ends with a block that is not full, which may be empty.
    let lengths = [("empty", 0), ("small", 100), ("even", 512 * 20), ("loader.efi", 1_000_001)];
    for (name, length) in lengths {
        fs::write(lab.artifacts.path().join(name), &lab.served(&kernel())?[..length])?;
    }
    let _pxed = lab.pxed()?;
    for (name, _) in lengths {
        // Its own default is netascii.
        for mode in [&["-m", "octet"][..], &["-m", "netascii"], &[]] {
            let file = lab.directory.path().join(format!("{name}-{}", mode.concat()));
            get_by_tftp_hpa(&lab.client, mode, name, &file).with_context(|| format!("{name} in {mode:?}"))?;
            ensure!(fs::read(&file)? == lab.served(name)?, "{name} arrived changed");
        }
    }
    Ok(())
}

/// As people make them: `ln -s /var/lib/pxed/artifacts/vmlinuz-v1.13.0 /var/lib/pxed/artifacts/vmlinuz`.
fn absolute_links_are_served_by_http_and_tftp() -> anyhow::Result<()> {
    let lab = Lab::new("curl")?;
    let root = lab.artifacts.path();
    fs::create_dir(root.join("v1"))?;
    fs::write(root.join("v1/loader.efi"), &lab.served(&kernel())?[..100_000])?;
    symlink(root.join("v1"), root.join("current"))?;
    symlink(root.join("current/loader.efi"), root.join("link.efi"))?;
    symlink("/etc/hostname", root.join("outside.efi"))?;
    let pxed = lab.pxed()?;
    for name in ["link.efi", "current/loader.efi"] {
        for url in [url(name), format!("tftp://{SERVER}/{name}")] {
            lab.curl(&["-o", "loader", &url]).with_context(|| url.clone())?;
            ensure!(lab.got("loader")? == lab.served("v1/loader.efi")?, "{url}: the file arrived changed");
        }
    }
    let refused = lab.client.command("curl").args(["-sS", &format!("tftp://{SERVER}/outside.efi")]).output()?;
    ensure!(refused.status.code() == Some(69), "not curl's code for an access violation: {refused:?}");
    let link = format!("{} is a symbolic link to /etc/hostname", root.join("outside.efi").display());
    pxed.eventually("the link among the machine's events", SOON, |pxed| {
        Ok(pxed.machine(&lab.machine.mac)?["events"].to_string().contains(&link))
    })
}

fn get_by_tftp_hpa(client: &Namespace, mode: &[&str], name: &str, file: &Path) -> anyhow::Result<()> {
    let file = file.to_str().context("a path that is not UTF-8")?;
    let said = client.run("tftp", &[mode, &[SERVER, "-c", "get", name, file]].concat())?;
    // The client exits with success even after an error.
    ensure!(!said.contains("Error"), "{said}");
    Ok(())
}
