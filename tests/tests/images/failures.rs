//! Upstreams that fail.

use anyhow::{Context as _, ensure};
use libtest_mimic::Trial;
use pxe_lab::{Pxed, cluster::VERSION, mirror::Fault, suite};
use serde_json::Value;

use crate::{
    lab::{INITRAMFS, KERNEL, LIMIT, Lab, image, spec, upstream, wait_for_boot, wait_for_state},
    waiting::second,
};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        suite::test("upstream_that_comes_back_is_asked_again", comes_back),
        suite::test("rubbish_for_one_version_stops_no_machine_of_another", rubbish),
        suite::test("full_or_read_only_disk_of_the_artifacts_stops_no_boot_and_is_told_of", full_disk),
        suite::test("offline_pxed_without_a_bootable_machine_does_not_start", nothing_offline),
    ]
}

fn comes_back() -> anyhow::Result<()> {
    let lab = Lab::new(&[VERSION])?;
    let path = upstream(VERSION, INITRAMFS);
    lab.mirror.fail(&path, Fault::Status(503));
    let pxed = lab.start(&spec(1, VERSION))?;
    let name = format!("initramfs-{VERSION}-amd64.xz");
    let file = wait_for_state(&pxed, &name, "failed")?;
    ensure!(
        file["reason"].as_str().is_some_and(|reason| reason.contains("503")) && file["again"].is_string(),
        "{file}"
    );
    pxed.process.wait_for_line("503", LIMIT)?;
    let mut machine = lab.boot(1)?;
    machine.wait_for_line("it could not be downloaded:", LIMIT)?;
    lab.mirror.heal(&path);
    wait_for_boot(&mut machine)?;
    let metrics = pxed.metrics()?;
    ensure!(metrics.sum("pxed_fetch_failures_total", &[]) >= 1.0, "{metrics:?}");
    ensure!(metrics.sum("pxed_fetched_bytes_total", &[]) >= 2_000_000.0, "{metrics:?}");
    Ok(())
}

fn rubbish() -> anyhow::Result<()> {
    let lab = Lab::new(&[VERSION, "v1.12.0"])?;
    lab.mirror.fail(&upstream("v1.12.0", KERNEL), Fault::Html);
    lab.mirror.fail(&upstream("v1.12.0", "sha256sum.txt"), Fault::Garbage);
    let pxed = lab.start(&format!("{}---\n{}", spec(1, VERSION), second("v1.12.0")))?;
    wait_for_state(&pxed, "vmlinuz-v1.12.0-amd64", "failed")?;
    let mut machine = lab.boot(1)?;
    wait_for_boot(&mut machine)?;
    ensure!(!lab.has("vmlinuz-v1.12.0-amd64"), "rubbish was put into its place");
    let machine = lab.boot(2)?;
    machine.wait_for_line("waits for the kernel vmlinuz-v1.12.0-amd64", LIMIT)?;
    Ok(())
}

fn nothing_offline() -> anyhow::Result<()> {
    let lab = Lab::new(&[VERSION])?;
    let mut options = lab.mirror.options();
    options.push("--offline".to_owned());
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    let mut pxed = Pxed::launch(&lab.bridged.server, &spec(1, VERSION), lab.path(), &options)?;
    let status = pxed.process.wait(LIMIT)?;
    let output = pxed.process.output();
    let names = [format!("vmlinuz-{VERSION}-amd64: missing"), format!("initramfs-{VERSION}-amd64.xz: missing")];
    ensure!(!status.success() && names.iter().all(|name| output.contains(name)), "{output}");
    ensure!(lab.mirror.requests().is_empty(), "{:?}", lab.mirror.requests());
    Ok(())
}

/// The disk has room for one of two versions until somebody makes it larger. Then nobody may write to it.
fn full_disk() -> anyhow::Result<()> {
    const BOTH: [&str; 2] = ["vmlinuz-v1.12.0-amd64", "initramfs-v1.12.0-amd64.xz"];
    let lab = Lab::with_disk(&[VERSION, "v1.12.0"], "3584k")?;
    let disk = lab.disk.as_ref().context("a disk")?;
    let pxed = lab.start(&spec(1, VERSION))?;
    wait_for_boot(&mut lab.boot(1)?)?;
    pxed.rewrite_spec(&format!("{}---\n{}", spec(1, VERSION), second("v1.12.0")))?;
    let mut failed = Value::Null;
    pxed.eventually("a download that has no room", LIMIT, |pxed| {
        for name in BOTH {
            failed = image(pxed, name)?;
            if failed["reason"].as_str().is_some_and(|reason| reason.contains("room") || reason.contains("full")) {
                return Ok(true);
            }
        }
        Ok(false)
    })
    .with_context(|| failed.to_string())?;
    ensure!(pxed.admin("/readyz")? == "ready\n", "the disk is the reason why the whole node is not ready");
    wait_for_boot(&mut lab.boot(1)?)?;
    let mut waiting = lab.boot(2)?;
    disk.resize("16m")?;
    wait_for_boot(&mut waiting)?;
    disk.make_read_only()?;
    wait_for_boot(&mut lab.boot(1)?)?;
    wait_for_boot(&mut lab.boot(2)?)
}
