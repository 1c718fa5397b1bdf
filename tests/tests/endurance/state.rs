//! The state directory: damaged files, a disk that is full or read-only.

use std::fs;

use anyhow::ensure;
use nix::sys::signal::Signal;
use pxe_lab::{Disk, Pxed, cluster::Machine, pxed::Launch, suite};

use crate::place::{Place, SOON};

/// A state file of two machines of the spec, one held and one cut off.
const CUT_OFF: &str = r#"{"format":1,"machines":{"52:54:00:99:00:01":{"override":"hold"},"52:54:00:99:00:02":{"boo"#;

pub(crate) fn damaged() -> anyhow::Result<()> {
    let place = Place::new(1000)?;
    let state: &[(&str, &[u8])] = &[("machines.json", CUT_OFF.as_bytes())];
    let mut pxed = place.pxed(&[], &Launch { state, ..Launch::default() })?;
    let line = pxed.process.wait_for_line("is damaged", SOON)?;
    ensure!(line.contains("WARN") && line.contains("machines.json") && line.contains("told of 1 machine;"), "{line}");
    let policy = |pxed: &Pxed<'_>| Ok::<_, anyhow::Error>(pxed.machine(&Machine::number(1).mac)?["policy"].clone());
    ensure!(policy(&pxed)? == "hold", "the hold is lost: {}", policy(&pxed)?);
    ensure!(pxed.admin("/api/v1/health")?.contains("is damaged"), "pxed status does not tell");
    let aside: Vec<_> = fs::read_dir(pxed.state_path())?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("machines.json.bad-"))
        .collect();
    ensure!(aside.len() == 1, "set aside: {aside:?}");
    ensure!(fs::read_to_string(pxed.state_path().join(&aside[0]))? == CUT_OFF, "it was changed");

    // The salvaged part is saved, although nothing has changed since.
    pxed.process.signal(Signal::SIGTERM)?;
    ensure!(pxed.process.wait(SOON)?.success(), "it failed");
    pxed.start_again(place.artifacts.path(), &[])?;
    ensure!(policy(&pxed)? == "hold", "the hold is lost at the second start");
    ensure!(!pxed.process.output().contains("is damaged"), "{}", pxed.process.output());
    Ok(())
}

/// The disk of the state directory takes nothing for a while.
pub(crate) fn unwritable() -> anyhow::Result<()> {
    let place = Place::new(1000)?;
    let disk = Disk::new("256k")?;
    let saved = disk.path().join("machines.json");
    let pxed = place.pxed(&[], &Launch { state_directory: Some(disk.path()), ..Launch::default() })?;
    let hold = format!("http://localhost/api/v1/machines/{}/hold", Machine::number(1).mac);
    let socket = pxed.socket().display().to_string();
    let hold = || place.bridged.server.run("curl", &["--silent", "--unix-socket", &socket, "-X", "POST", &hold]);
    type Change = fn(&Disk) -> anyhow::Result<()>;
    let changes: [(Change, Change); 2] = [(Disk::make_read_only, Disk::make_writable), (Disk::fill, Disk::empty)];
    for (spoil, repair) in changes {
        let lines = pxed.process.output().matches("is not saved").count();
        let again = pxed.process.output().matches("is saved again").count();
        spoil(&disk)?;
        ensure!(hold()?.contains("could not be saved"), "saved on a disk that takes nothing");
        place.tftp_is_served()?;
        ensure!(pxed.admin("/readyz")? == "ready\n", "not ready");
        pxed.eventually("a warning", SOON, |pxed| Ok(pxed.admin("/api/v1/health")?.contains("is not saved")))?;
        repair(&disk)?;
        suite::eventually("a state that is saved", SOON, || {
            Ok(pxed.process.output().matches("is saved again").count() > again)
        })?;
        let saved = fs::read_to_string(&saved)?;
        ensure!(saved.contains(&Machine::number(1).mac), "{saved}");
        let told = pxed.process.output().matches("is not saved").count() - lines;
        ensure!(told == 1, "told {told} times: {}", pxed.process.output());
    }
    Ok(())
}
