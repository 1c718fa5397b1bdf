//! Machines that ask before their files are there.

use std::{fs, io::Write as _, process::Command};

use anyhow::{Context as _, ensure};
use libtest_mimic::Trial;
use pxe_lab::{
    Pxed, build,
    cluster::{Machine, VERSION},
    mirror::Fault,
    suite,
};

use crate::lab::{
    INITRAMFS, KERNEL, LENGTH, LIMIT, Lab, image, initramfs, kernel, spec, upstream, wait_for_boot, wait_for_state,
};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        suite::test("machine_waits_with_a_percentage_and_boots_when_its_files_are_there", machine_waits),
        suite::test("offline_pxed_asks_nobody_and_machine_waits_for_a_person", offline),
        suite::test("restart_in_the_middle_of_a_download_resumes_it", restart),
    ]
}

/// Returns what `pxed explain` says of a machine.
fn explain(pxed: &Pxed<'_>, lab: &Lab, mac: &str) -> anyhow::Result<String> {
    run(lab, &["explain", mac]).with_context(|| pxed.process.last_lines())
}

fn run(lab: &Lab, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command: Command = lab.bridged.server.command(build::pxed()?.path);
    let output = command.args(arguments).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

fn machine_waits() -> anyhow::Result<()> {
    let lab = Lab::new(&[VERSION])?;
    let path = upstream(VERSION, INITRAMFS);
    lab.mirror.fail(&path, Fault::Stall { after: LENGTH as u64 * 43 / 100 });
    let pxed = lab.start(&spec(1, VERSION))?;
    let mac = Machine::number(1).mac;
    let name = format!("initramfs-{VERSION}-amd64.xz");
    wait_for_state(&pxed, &name, "fetching")?;
    suite::eventually("the part that comes", LIMIT, || Ok(image(&pxed, &name)?["percent"].as_u64() > Some(40)))?;

    // Before the machine asks.
    let text = explain(&pxed, &lab, &mac)?;
    ensure!(
        text.contains("At its next boot it has to wait for a file: its initramfs") && text.contains("percent"),
        "{text}"
    );
    let text = run(&lab, &["status"])?;
    ensure!(text.contains(&name) && text.contains("needed by 1 machine"), "{text}");

    let mut machine = lab.boot(1)?;
    machine.wait_for_line("it is being downloaded: 4", LIMIT)?;
    machine.wait_for_line("sleeps 5 s", LIMIT)?;
    let mut seen = serde_json::Value::Null;
    suite::eventually("the stage", LIMIT, || {
        seen = pxed.machine(&mac)?;
        Ok(seen["stage"] == "awaiting-files")
    })
    .with_context(|| seen.to_string())?;
    ensure!(seen["last_error"].is_null() && seen["boots_from"] == "network", "{seen}");
    ensure!(
        seen["files"].as_array().is_some_and(|files| files.iter().any(|file| file["path"] == name.as_str())),
        "{seen}"
    );
    let text = explain(&pxed, &lab, &mac)?;
    ensure!(text.contains("has been waiting for") && text.contains("is being downloaded: 4"), "{text}");
    ensure!(pxed.admin("/readyz")?.contains("ready"), "waiting for files is no reason");

    lab.mirror.heal(&path);
    wait_for_boot(&mut machine)?;
    ensure!(fs::read(lab.path().join(&name))? == initramfs(VERSION), "the initramfs is another");
    ensure!(fs::read(lab.path().join(format!("vmlinuz-{VERSION}-amd64")))? == kernel(VERSION), "the kernel is another");
    let seen = pxed.machine(&mac)?;
    ensure!(seen["last_error"].is_null() && seen["boots"].as_u64() == Some(1), "{seen}");
    // It is downloaded, or comes from the package of a host that has it.
    suite::eventually("undionly.kpxe is there", LIMIT, || {
        let state = image(&pxed, "undionly.kpxe")?["state"].clone();
        Ok(state == "verified" || state == "packaged")
    })?;
    let text = run(&lab, &["status"])?;
    ensure!(text.contains("files: all 4 files are there"), "{text}");
    ensure!(lab.mirror.gets(&path).len() == 1, "one download");
    Ok(())
}

fn offline() -> anyhow::Result<()> {
    let lab = Lab::new(&[VERSION])?;
    // Another version, so that some machine can boot.
    let name = format!("initramfs-{VERSION}-amd64.xz");
    for (file, content) in [
        (format!("vmlinuz-{VERSION}-amd64"), kernel(VERSION)),
        ("vmlinuz-v1.12.0-amd64".to_owned(), kernel("v1.12.0")),
        ("initramfs-v1.12.0-amd64.xz".to_owned(), initramfs("v1.12.0")),
        ("ipxe-efi-x86_64.efi".to_owned(), b"loader".to_vec()),
    ] {
        fs::write(lab.path().join(file), content)?;
    }
    let both = format!("{}---\n{}", spec(1, VERSION), second("v1.12.0"));
    let mut options = lab.mirror.options();
    options.push("--offline".to_owned());
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    let pxed = Pxed::start(&lab.bridged.server, &both, lab.path(), &options)?;
    let file = wait_for_state(&pxed, &name, "missing")?;
    ensure!(
        file["reason"] == "pxed runs with --offline" && file["remedy"].as_array().is_some_and(|it| !it.is_empty()),
        "{file}"
    );
    let mut machine = lab.boot(1)?;
    machine.wait_for_line("it is missing: pxed runs with --offline", LIMIT)?;
    machine.wait_for_line("sleeps 10 s", LIMIT)?;
    // A person copies it there, bit by bit under another name, and renames it.
    let mut copy = fs::File::create(lab.path().join("copy"))?;
    copy.write_all(&initramfs(VERSION))?;
    fs::rename(lab.path().join("copy"), lab.path().join(&name))?;
    wait_for_state(&pxed, &name, "by-hand")?;
    wait_for_boot(&mut machine)?;
    ensure!(lab.mirror.requests().is_empty(), "{:?}", lab.mirror.requests());
    Ok(())
}

/// Returns the spec of machine 2 in a cluster of its own.
pub(crate) fn second(version: &str) -> String {
    let machine = pxe_lab::cluster::cluster(&[Machine::number(2)]);
    machine.replace("name: lab\n", "name: other\n").replace(VERSION, version)
}

fn restart() -> anyhow::Result<()> {
    let lab = Lab::new(&[VERSION])?;
    let path = upstream(VERSION, KERNEL);
    lab.mirror.fail(&path, Fault::Stall { after: LENGTH as u64 / 2 });
    let mut pxed = lab.start(&spec(1, VERSION))?;
    let name = format!("vmlinuz-{VERSION}-amd64");
    suite::eventually("half of the kernel", LIMIT, || {
        Ok(image(&pxed, &name)?["done"].as_u64() >= Some(LENGTH as u64 / 4))
    })?;
    pxed.process.signal(nix::sys::signal::Signal::SIGTERM)?;
    let status = pxed.process.wait(std::time::Duration::from_secs(5))?;
    ensure!(status.success() && !lab.has(&name), "{status}");
    lab.mirror.heal(&path);
    let options = lab.options();
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    pxed.start_again(lab.path(), &options)?;
    wait_for_state(&pxed, &name, "verified")?;
    ensure!(fs::read(lab.path().join(&name))? == kernel(VERSION), "the kernel is another");
    let gets = lab.mirror.gets(&path);
    let range = gets.last().and_then(|get| get.header("range").map(str::to_owned));
    ensure!(range.is_some_and(|range| range != "bytes=0-"), "it was not resumed: {gets:?}");
    Ok(())
}
