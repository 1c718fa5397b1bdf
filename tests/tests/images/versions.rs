//! Another version in the spec.

use anyhow::ensure;
use libtest_mimic::Trial;
use pxe_lab::{
    cluster::{Machine, VERSION},
    mirror::Fault,
    suite,
};

use crate::lab::{INITRAMFS, LIMIT, Lab, spec, upstream, wait_for_boot, wait_for_state};

const NEXT: &str = "v1.14.0";

pub(crate) fn tests() -> Vec<Trial> {
    vec![suite::test("machine_boots_its_previous_version_until_the_new_one_is_there", previous)]
}

fn previous() -> anyhow::Result<()> {
    let lab = Lab::new(&[VERSION, NEXT])?;
    let pxed = lab.start(&spec(1, VERSION))?;
    wait_for_state(&pxed, &format!("initramfs-{VERSION}-amd64.xz"), "verified")?;
    wait_for_state(&pxed, &format!("vmlinuz-{VERSION}-amd64"), "verified")?;

    let path = upstream(NEXT, INITRAMFS);
    lab.mirror.fail(&path, Fault::Silent);
    pxed.rewrite_spec(&spec(1, NEXT))?;
    lab.mirror.wait_until_asked(&path, LIMIT)?;
    let name = format!("initramfs-{NEXT}-amd64.xz");
    wait_for_state(&pxed, &name, "fetching")?;
    let mut machine = lab.boot(1)?;
    machine.wait_for_line(&format!("loading initramfs {VERSION}"), LIMIT)?;
    wait_for_boot(&mut machine)?;
    let seen = pxed.machine(&Machine::number(1).mac)?;
    let reached = seen["diagnosis"]["reached"].as_str().unwrap_or_default();
    ensure!(reached.contains(&format!("It boots Talos {VERSION} until the files of {NEXT} are there")), "{seen}");

    lab.mirror.heal(&path);
    wait_for_state(&pxed, &name, "verified")?;
    let mut machine = lab.boot(1)?;
    machine.wait_for_line(&format!("loading initramfs {NEXT}"), LIMIT)?;
    wait_for_boot(&mut machine)
}
