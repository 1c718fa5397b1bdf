//! Little memory, and connections by the thousand.

use std::{io::Write as _, net::TcpStream, time::Duration};

use anyhow::{Context as _, ensure};
use pxe_lab::{
    MemoryLimit, build, cluster::Machine, namespace::output, pxed::Launch, requires, soak::resident_kib,
    topology::INTERFACE,
};

use crate::place::{Descriptors, Place, server_at};

const CONNECTIONS: usize = 20_000;
const LIMIT_BYTES: u64 = 128 << 20;
/// The descriptors of pxed, so that each host of this test gives it as many places.
const NOFILE: &str = "--nofile=20000:20000";
/// The attacker's addresses.
const ADDRESSES: u8 = 10;
/// The time for a connection. One that is refused or dropped is an answer as well.
const PATIENCE: Duration = Duration::from_millis(500);

/// Connections with half a head each, from ten addresses, while pxed may have little memory.
pub(crate) fn half_open_connections() -> anyhow::Result<()> {
    requires::tools(&["prlimit"])?;
    let descriptors = Descriptors::take(CONNECTIONS)?;
    let connections = descriptors.count;
    let place = Place::new(100_000)?;
    let attacker = place.bridged.clients.first().context("a client")?;
    for number in 0..ADDRESSES {
        attacker.ip(&["address", "add", &format!("10.99.0.{}/24", 60 + number), "dev", INTERFACE])?;
    }
    let limit = MemoryLimit::new(LIMIT_BYTES)?;
    let mut pxed = place.pxed(&[], &Launch { wrapper: &["prlimit", NOFILE], ..Launch::default() })?;
    limit.add(pxed.process.id())?;
    let mut most_kib = 0;
    let mut held: Vec<TcpStream> = Vec::with_capacity(connections);
    place.as_stranger(|| {
        for number in 0..connections {
            if let Ok(mut stream) = TcpStream::connect_timeout(&server_at(8000)?.into(), PATIENCE) {
                let _ = stream.write_all(b"GET /boot/52:54:00:99:00:01.ipxe HTTP/1.1\r\nHost: x\r\nX-");
                held.push(stream);
            }
            if number % 1000 == 0 {
                most_kib = most_kib.max(resident_kib(pxed.process.id()).context("pxed has ended")?);
            }
        }
        Ok(())
    })?;
    // A machine of the spec boots all the same.
    let client = place.bridged.clients.get(1).context("a second client")?;
    let mut command = client.command(build::pxed()?.path);
    let mac = Machine::number(1).mac;
    command.args(["rehearse", "--interface", INTERFACE, "--firmware", "uefi-x64", "--hurry", "--mac", &mac]);
    output(&mut command).with_context(|| pxed.process.last_lines())?;
    ensure!(pxed.process.is_running()?, "pxed has ended: {}", pxed.process.last_lines());
    most_kib = most_kib.max(resident_kib(pxed.process.id()).context("pxed has ended")?);
    println!("{} connections were taken; {} MiB", held.len(), most_kib >> 10);
    ensure!(most_kib << 10 < LIMIT_BYTES, "{most_kib} KiB");
    drop(held);
    drop(pxed);
    drop(limit);
    Ok(())
}
