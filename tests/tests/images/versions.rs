//! Another version in the spec.

use anyhow::ensure;
use libtest_mimic::Trial;
use pxe_lab::{
    cluster::{Machine, VERSION},
    mirror::Fault,
    suite,
};

use crate::{
    lab::{INITRAMFS, KERNEL, LIMIT, Lab, spec, upstream, wait_for_boot, wait_for_state},
    waiting::second,
};

const NEXT: &str = "v1.14.0";

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        suite::test("machine_boots_its_previous_version_until_the_new_one_is_there", previous),
        suite::test("downloads_that_no_machine_needs_any_more_end", unneeded),
    ]
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

/// Two versions take all places for downloads, with a server that is silent. Both go out of the spec.
fn unneeded() -> anyhow::Result<()> {
    let silent = ["v1.14.0", "v1.15.0"];
    let lab = Lab::new(&[silent[0], silent[1], VERSION])?;
    let paths: Vec<_> =
        silent.iter().flat_map(|version| [KERNEL, INITRAMFS].map(|name| upstream(version, name))).collect();
    paths.iter().for_each(|path| lab.mirror.fail(path, Fault::Silent));
    // The first machine has one version, the second the other.
    let both = format!("{}---\n{}", spec(1, silent[0]), second(silent[1]));
    let pxed = lab.start(&both)?;
    for path in &paths {
        lab.mirror.wait_until_asked(path, LIMIT)?;
    }
    pxed.rewrite_spec(&spec(1, VERSION))?;
    wait_for_state(&pxed, &format!("vmlinuz-{VERSION}-amd64"), "verified")?;
    wait_for_state(&pxed, &format!("initramfs-{VERSION}-amd64.xz"), "verified")?;
    // Back in the spec while the old download is gone.
    paths.iter().for_each(|path| lab.mirror.heal(path));
    pxed.rewrite_spec(&both)?;
    wait_for_state(&pxed, &format!("initramfs-{}-amd64.xz", silent[1]), "verified")?;
    Ok(())
}
