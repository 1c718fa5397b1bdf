//! A host that opens connections by the thousand.

use std::{
    fs,
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use pxe_lab::{
    attack::http::{Conduct, Flood},
    cluster::Machine,
    pxed::Launch,
    suite,
    topology::INTERFACE,
};

use crate::{
    descriptors::boots,
    place::{Descriptors, Place, server_at},
};

/// The connections of the attacker's ten addresses.
const CONNECTIONS: usize = 18_000;
/// More than strangers may have, so the attack is at its height.
const HEIGHT: usize = 6_000;
/// The most that a boot may take longer than without the attack.
const LONGER: Duration = Duration::from_secs(2);
/// The most memory that the process may have, in KiB.
const MEMORY: u64 = 150 * 1024;

pub(crate) fn by_the_thousand() -> anyhow::Result<()> {
    let descriptors = Descriptors::take(CONNECTIONS)?;
    let place = Place::new(1_000_000)?;
    let attacker = place.bridged.clients.first().context("an attacker")?;
    let sources: Vec<_> = (60..70).map(|host| Ipv4Addr::new(10, 99, 0, host)).collect();
    for source in &sources {
        attacker.ip(&["address", "add", &format!("{source}/24"), "dev", INTERFACE])?;
    }
    let pxed = place.pxed(&[], &Launch::default())?;
    let machine = Machine::number(1);
    let boot = || {
        let began = Instant::now();
        boots(&place, &machine).map(|()| began.elapsed())
    };
    let usual = boot()?;
    let (stop, opened) = (AtomicBool::new(false), AtomicUsize::new(0));
    let flood = Flood { server: server_at(8000)?, sources: &sources, each: descriptors.count / sources.len() };
    let conducts = [Conduct::Idle, Conduct::HalfAHead, Conduct::SlowReader("/assets/vmlinuz-v1.13.0-amd64")];
    let (attacked, memory) = thread::scope(|scope| {
        let attack = scope.spawn(|| {
            place.as_stranger(|| {
                flood.run(&conducts, &stop, &opened);
                Ok(())
            })
        });
        let work = || {
            suite::eventually("an attack at its height", Duration::from_secs(60), || {
                Ok(opened.load(Ordering::Relaxed) >= HEIGHT)
            })?;
            let attacked = boot().with_context(|| pxed.process.last_lines())?;
            anyhow::Ok((attacked, memory(pxed.process.id())?))
        };
        let result = work();
        stop.store(true, Ordering::Relaxed);
        attack.join().map_err(|_| anyhow::anyhow!("the attacker panicked"))??;
        result
    })?;
    println!("usual {usual:?}, attacked {attacked:?}, {} opened, {memory} KiB", opened.load(Ordering::Relaxed));
    ensure!(attacked < usual + LONGER, "usually {usual:?}, under attack {attacked:?}");
    ensure!(memory < MEMORY, "{memory} KiB");
    Ok(())
}

/// Returns the memory of a process in KiB, without its program: that of a debug build is several times as large as the one that people run.
fn memory(process: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
