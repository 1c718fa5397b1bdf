//! Downloads whose end is lost or not acknowledged: a file counts as delivered when the machine has acknowledged its last byte.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddrV4, TcpStream},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use pxe_lab::{
    Artifacts, Bridged, Namespace, Pxed,
    cluster::{self, Machine, SERVER_ADDRESS, VERSION},
    suite, tcp,
    topology::INTERFACE,
};

use crate::loader::Loader;

mod loader;
mod windows;

const SOON: Duration = Duration::from_secs(30);

/// The length of the initramfs in bytes.
const LENGTH: usize = 1 << 20;

/// The bytes at its end that the machine has not read when its cable is pulled. They fit into the server's send queue.
const UNREAD: usize = 96 * 1024;

/// The machine's receive buffer in bytes. The kernel doubles it, which is still less than [`UNREAD`].
const RECEIVE_BUFFER: usize = 16 * 1024;

fn main() -> ExitCode {
    suite::main(vec![
        suite::test("bytes_lost_with_the_link_are_a_failure_and_not_a_boot", bytes_lost_with_the_link_are_a_failure),
        suite::test("link_that_comes_back_delivers", link_that_comes_back_delivers),
        suite::test("end_that_a_loader_does_not_acknowledge_is_unconfirmed", end_of_a_loader_is_unconfirmed),
        suite::test("machine_without_power_has_not_booted_when_pxed_stops", machine_without_power_has_not_booted),
        suite::test("tftp_windows_go_past_the_stack_until_they_are_repeated", windows::past_the_stack),
    ])
}

/// The path of the initramfs.
fn initramfs() -> String {
    format!("/assets/initramfs-{VERSION}-amd64.xz")
}

/// A machine that pxed sends to its disk once it has its initramfs, on a switch.
struct Lab {
    network: Bridged,
    machine: Machine,
    artifacts: Artifacts,
    spec: String,
}

impl Lab {
    fn new() -> anyhow::Result<Self> {
        let network = Bridged::new(SERVER_ADDRESS, 1)?;
        let machine = Machine::number(1);
        network.set_mac(0, &machine.mac)?;
        let name = "  name: lab\n";
        let once = format!("{name}  annotations:\n    pxed.dev/boot-policy: once\n");
        let spec = cluster::cluster(std::slice::from_ref(&machine)).replacen(name, &once, 1);
        Ok(Self { network, machine, artifacts: Artifacts::stand_ins(&[VERSION], LENGTH)?, spec })
    }

    fn pxed(&self) -> anyhow::Result<Pxed<'_>> {
        Pxed::start(&self.network.server, &self.spec, self.artifacts.path(), &[])
    }

    fn client(&self) -> &Namespace {
        &self.network.clients[0]
    }

    /// Pulls the machine's cable, or plugs it in again.
    fn plug(&self, state: &str) -> anyhow::Result<()> {
        self.client().ip(&["link", "set", INTERFACE, state]).map(drop)
    }

    /// Gives the machine's kernel its address.
    fn with_address(self) -> anyhow::Result<Self> {
        self.client().ip(&["address", "add", &format!("{}/24", self.machine.address), "dev", INTERFACE])?;
        Ok(self)
    }

    /// Downloads the initramfs except its end, waits until pxed has written that too, and pulls the cable.
    fn lose_the_end(&self, pxed: &Pxed<'_>) -> anyhow::Result<TcpStream> {
        let address = SocketAddrV4::new(cluster::SERVER.parse()?, 8000);
        let connect = || tcp::connect_with_receive_buffer(address, RECEIVE_BUFFER);
        let mut connection = self.client().enter(connect)??;
        write!(connection, "GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", initramfs(), cluster::SERVER)?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            connection.read_exact(&mut byte)?;
            head.extend(byte);
        }
        connection.read_exact(&mut vec![0; LENGTH - UNREAD])?;
        pxed.eventually("the whole file in the server's send queue", SOON, |pxed| {
            Ok(pxed.metrics()?.sum("pxed_http_sent_bytes_total", &[]) == LENGTH as f64)
        })?;
        self.plug("down")?;
        Ok(connection)
    }

    /// Waits for what became of the initramfs, and returns it with the bytes and where the machine boots from now.
    fn outcome(&self, pxed: &Pxed<'_>) -> anyhow::Result<(String, usize, String)> {
        let mut outcome = None;
        pxed.eventually("an end of the download", SOON, |pxed| {
            outcome = self.outcome_so_far(pxed)?;
            Ok(outcome.is_some())
        })?;
        outcome.context("no outcome")
    }

    fn outcome_so_far(&self, pxed: &Pxed<'_>) -> anyhow::Result<Option<(String, usize, String)>> {
        let machine = pxed.machine(&self.machine.mac)?;
        let boots_from = machine["boots_from"].as_str().context("no boots_from")?;
        let events = machine["events"].as_array().context("no events")?;
        let end =
            events.iter().find(|event| matches!(event["event"].as_str(), Some("done" | "unconfirmed" | "failed")));
        let Some(end) = end else {
            ensure!(boots_from == "network", "sent to its {boots_from} before the download ended");
            return Ok(None);
        };
        let bytes = end["bytes"].as_u64().context("no bytes")?;
        let name = end["event"].as_str().unwrap_or_default();
        Ok(Some((name.to_owned(), usize::try_from(bytes)?, boots_from.to_owned())))
    }
}

/// The machine is reset while its cable is out, so pxed learns of it only when it sends again.
fn bytes_lost_with_the_link_are_a_failure() -> anyhow::Result<()> {
    let lab = Lab::new()?.with_address()?;
    let pxed = lab.pxed()?;
    let connection = lab.lose_the_end(&pxed)?;
    tcp::reset(connection)?;
    ensure!(lab.outcome_so_far(&pxed)?.is_none(), "pxed cannot know yet");
    lab.plug("up")?;
    let (event, bytes, boots_from) = lab.outcome(&pxed)?;
    ensure!(event == "failed" && boots_from == "network", "{event}, boots from {boots_from}");
    ensure!((LENGTH - UNREAD..LENGTH).contains(&bytes), "{bytes} bytes acknowledged");
    Ok(())
}

fn link_that_comes_back_delivers() -> anyhow::Result<()> {
    let lab = Lab::new()?.with_address()?;
    let pxed = lab.pxed()?;
    let mut connection = lab.lose_the_end(&pxed)?;
    ensure!(lab.outcome_so_far(&pxed)?.is_none(), "pxed cannot know yet");
    lab.plug("up")?;
    connection.read_exact(&mut [0; UNREAD])?;
    let outcome = lab.outcome(&pxed)?;
    ensure!(outcome == ("done".to_owned(), LENGTH, "disk".to_owned()), "{outcome:?}");
    Ok(())
}

/// The machine never comes back, and pxed is restarted with its stored state.
fn machine_without_power_has_not_booted() -> anyhow::Result<()> {
    let lab = Lab::new()?.with_address()?;
    let mut pxed = lab.pxed()?;
    let _connection = lab.lose_the_end(&pxed)?;
    pxed.process.signal(Signal::SIGTERM)?;
    let status = pxed.process.wait(SOON)?;
    ensure!(status.success(), "SIGTERM: {status}: {}", pxed.process.last_lines());
    let log = pxed.process.output();
    ensure!(log.contains("pxed stopped before the last byte was acknowledged"), "{log}");
    pxed.start_again(lab.artifacts.path(), &[])?;
    let machine = pxed.machine(&lab.machine.mac)?;
    ensure!(machine["boots_from"] == "network", "{machine}");
    Ok(())
}

/// iPXE acknowledges what its card gave it at once, and not that if it brings the end of the file.
fn end_of_a_loader_is_unconfirmed() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    for (kept_back, expected) in [(0, "done"), (20_000, "unconfirmed"), (200_000, "failed")] {
        let pxed = lab.pxed()?;
        let mut loader = Loader::connect(&lab.network, &lab.machine)?;
        let body = loader.get(&initramfs(), kept_back)?;
        ensure!(body.len() == LENGTH, "{} bytes arrived", body.len());
        if kept_back > 0 {
            ensure!(lab.outcome_so_far(&pxed)?.is_none(), "pxed cannot know yet");
        }
        loader.reset()?;
        let (event, bytes, boots_from) = lab.outcome(&pxed)?;
        let place = if kept_back == 0 { "disk" } else { "network" };
        ensure!(event == expected && boots_from == place, "{kept_back}: {event}, boots from {boots_from}");
        ensure!(bytes == LENGTH - kept_back as usize, "{kept_back}: {bytes} bytes acknowledged");
    }
    Ok(())
}
