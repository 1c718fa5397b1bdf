//! The privileges that a running pxed has, and what it says of those that it could not give up.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context, ensure};
use pxe_lab::{
    Artifacts, Bridged, Datapath, Process, Pxed, USER, build,
    cluster::{self, Machine, SERVER_ADDRESS, VERSION},
    pxed::{ADMIN, Launch},
    requires, suite,
};
use serde_json::Value;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(30);

/// The capabilities of pxed with XDP, as capabilities(7) numbers them: NET_BIND_SERVICE, NET_ADMIN, NET_RAW, IPC_LOCK, PERFMON, BPF.
const WITH_XDP: [u32; 6] = [10, 12, 13, 14, 38, 39];
const WITH_SOCKET: [u32; 2] = [10, 13];

/// A command that becomes pxed on a kernel without Landlock and seccomp: both calls get ENOSYS.
const OLD_KERNEL: [&str; 3] = [
    "python3",
    "-c",
    "\
import ctypes, os, struct, sys
program = b''.join(struct.pack('HBBI', *line) for line in [
    (0x20, 0, 0, 0), (0x15, 2, 0, 444), (0x15, 1, 0, NUMBER), (0x06, 0, 0, 0x7fff0000), (0x06, 0, 0, 0x00050026)])
memory = ctypes.create_string_buffer(program)
filter = struct.pack('HxxxxxxQ', 5, ctypes.addressof(memory))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(22, 2, filter, 0, 0) == 0, os.strerror(ctypes.get_errno())
os.execv(sys.argv[1], sys.argv[1:])
",
];

fn main() -> ExitCode {
    suite::main(vec![
        suite::test("process_keeps_what_it_uses_by_xdp", || process_keeps_what_it_uses(Datapath::Xdp, &WITH_XDP)),
        suite::test("process_keeps_what_it_uses_by_socket", || {
            process_keeps_what_it_uses(Datapath::Socket, &WITH_SOCKET)
        }),
        suite::test("user_of_the_package_is_the_default", user_of_the_package_is_the_default),
        suite::test("kernel_without_landlock_and_seccomp_is_told", kernel_without_landlock_and_seccomp_is_told),
        suite::test("user_that_cannot_read_the_spec_is_told_what_to_type", unreadable_spec_is_told),
        suite::test("place_that_was_replaced_is_told_of_with_the_remedy", place_that_was_replaced_is_told_of),
        suite::test("user_that_cannot_be_is_told", user_that_cannot_be_is_told),
    ])
}

fn network_of(machine: &Machine) -> anyhow::Result<Bridged> {
    let network = Bridged::new(SERVER_ADDRESS, 1)?;
    network.set_mac(0, &machine.mac)?;
    Ok(network)
}

/// Reads `/proc/…/status` of every thread.
fn threads(process: u32) -> anyhow::Result<Vec<String>> {
    let tasks = fs::read_dir(format!("/proc/{process}/task"))?;
    tasks.map(|task| Ok(fs::read_to_string(task?.path().join("status"))?)).collect()
}

fn field<'a>(status: &'a str, name: &str) -> anyhow::Result<&'a str> {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.map(str::trim).with_context(|| format!("no {name} in {status}"))
}

fn process_keeps_what_it_uses(datapath: Datapath, capabilities: &[u32]) -> anyhow::Result<()> {
    let machine = Machine::number(1);
    let network = network_of(&machine)?;
    let artifacts = Artifacts::stand_ins(&[VERSION], 1000)?;
    let spec = cluster::cluster(std::slice::from_ref(&machine));
    let pxed = Pxed::start(&network.server, &spec, artifacts.path(), &datapath.arguments())?;
    let mask: u64 = capabilities.iter().map(|number| 1 << number).sum();
    let (kept, none) = (format!("{mask:016x}"), format!("{:016x}", 0));
    let user = [USER; 4].map(|number| number.to_string()).join("\t");
    let process = pxed.process.id();
    let threads = threads(process)?;
    ensure!(threads.len() > 4, "{} threads", threads.len());
    for status in &threads {
        let expected = [
            ("Uid", &*user),
            ("Gid", &*user),
            ("Groups", ""),
            ("CapPrm", &*kept),
            ("CapEff", &*kept),
            ("CapBnd", &*kept),
            ("CapInh", &*none),
            ("CapAmb", &*none),
            ("NoNewPrivs", "1"),
            ("Seccomp", "2"),
        ];
        for (name, value) in expected {
            ensure!(field(status, name)? == value, "{name} is not {value}: {status}");
        }
    }
    let owner = fs::metadata(format!("/proc/{process}/environ"))?.uid();
    ensure!(owner == 0, "the memory of the process is readable by its user: {owner}");
    let limits = fs::read_to_string(format!("/proc/{process}/limits"))?;
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).context("no limit of core dumps")?;
    ensure!(core.split_whitespace().nth(4) == Some("0"), "{core}");

    let health: Value = serde_json::from_str(&pxed.admin("/api/v1/health")?)?;
    let measures = health["confinement"].as_array().context("no measures")?;
    let names: Vec<_> = measures.iter().filter_map(|measure| measure["name"].as_str()).collect();
    ensure!(names == ["user", "capabilities", "no_new_privs", "core_dumps", "landlock", "seccomp"], "{health}");
    ensure!(measures.iter().all(|measure| measure["in_force"] == true), "{health}");
    let line = pxed.process.wait_for_line("confined: ", SOON)?;
    let status = status_health(&pxed)?;
    for part in ["user 64321", "CAP_NET_RAW", "no_new_privs", "no core dumps", "Landlock", "seccomp"] {
        ensure!(line.contains(part) && status.contains(part), "no {part}: {line}\n{status}");
    }
    let metrics = pxed.metrics()?;
    ensure!(metrics.sum("pxed_confinement", &["measure=\"seccomp\""]) > 0.5, "no metric");
    Ok(())
}

/// Returns what `pxed status --health` prints.
fn status_health(pxed: &Pxed<'_>) -> anyhow::Result<String> {
    let mut command = pxed.namespace().command(build::pxed()?.path);
    let output = command.args(["status", "--health", "--admin", ADMIN]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// A package's user is found in the host's accounts, and gets what an earlier pxed has left to root.
fn user_of_the_package_is_the_default() -> anyhow::Result<()> {
    let network = Bridged::new(SERVER_ADDRESS, 0)?;
    let directory = TempDir::new()?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
    let at = |name: &str| directory.path().join(name);
    for name in ["spec", "state", "artifacts/.pxed"] {
        fs::create_dir_all(at(name))?;
    }
    fs::write(at("spec/cluster.yaml"), cluster::cluster(&[Machine::number(1)]))?;
    let artifacts = Artifacts::stand_ins(&[VERSION], 1000)?;
    for entry in fs::read_dir(artifacts.path())? {
        let entry = entry?;
        fs::copy(entry.path(), at("artifacts").join(entry.file_name()))?;
    }
    fs::write(at("state/lock"), "")?;
    fs::write(at("passwd"), "root:x:0:0::/:/bin/sh\npxed:x:64398:64399::/:/bin/false\n")?;
    fs::write(at("group"), "keys:x:64400:pxed\n")?;
    let script =
        format!("for f in passwd group; do mount --bind {}/$f /etc/$f; done; exec \"$@\"", directory.path().display());
    let mut command = network.server.command("sh");
    command.args(["-ec", &script, "sh"]).arg(build::pxed()?.path).args(["run", "--admin", ADMIN, "--admin-socket"]);
    command
        .arg(at("run/admin.sock"))
        .arg("--cluster")
        .arg(at("spec"))
        .arg("--artifacts")
        .arg(at("artifacts"))
        .arg("--state")
        .arg(at("state"));
    let pxed = Process::spawn("pxed", &mut command)?;
    pxed.wait_for_line("ready", SOON)?;
    let status = fs::read_to_string(format!("/proc/{}/status", pxed.id()))?;
    ensure!(field(&status, "Uid")?.starts_with("64398\t") && field(&status, "Gid")?.starts_with("64399\t"), "{status}");
    ensure!(field(&status, "Groups")? == "64400", "{status}");
    for name in ["state", "state/lock", "artifacts/.pxed", "artifacts", "run", "run/admin.sock"] {
        ensure!(fs::metadata(at(name))?.uid() == 64_398, "{name} was not handed over");
    }
    ensure!(fs::metadata(at("spec"))?.uid() == 0, "the spec was given away");
    Ok(())
}

fn kernel_without_landlock_and_seccomp_is_told() -> anyhow::Result<()> {
    requires::tools(&["python3"])?;
    let machine = Machine::number(1);
    let network = network_of(&machine)?;
    let artifacts = Artifacts::stand_ins(&[VERSION], 1000)?;
    let [python, option, script] = OLD_KERNEL;
    let number = if cfg!(target_arch = "x86_64") { "317" } else { "277" };
    let script = script.replace("NUMBER", number);
    let wrapper = [python, option, &script];
    let launch = Launch { wrapper: &wrapper, ..Launch::default() };
    let spec = cluster::cluster(std::slice::from_ref(&machine));
    let mut pxed = Pxed::launch_by(&network.server, &spec, artifacts.path(), &[], &launch)?;
    pxed.wait_until_ready()?;
    for (name, part) in [("landlock", "5.19"), ("seccomp", "CONFIG_SECCOMP_FILTER")] {
        let line = pxed.process.wait_for_line(&format!("not confined by {name}"), SOON)?;
        ensure!(line.contains("WARN") && line.contains(part), "{line}");
        let status = status_health(&pxed)?;
        ensure!(status.contains(&format!("not confined by {name}: ")), "{status}");
        let metrics = pxed.metrics()?;
        ensure!(metrics.sum("pxed_confinement", &[&format!("measure=\"{name}\"")]) < 0.5, "{name} is in force");
    }
    let status = fs::read_to_string(format!("/proc/{}/status", pxed.process.id()))?;
    ensure!(field(&status, "Uid")?.starts_with("64321\t"), "{status}");
    Ok(())
}

/// Returns what pxed says when it does not start.
fn refused(arguments: &[&str], paths: [&Path; 3]) -> anyhow::Result<String> {
    requires::root()?;
    let mut command = Command::new(build::pxed()?.path);
    let [spec, artifacts, state] = paths;
    command.args(["run", "--offline", "--admin", "127.0.0.1:8991"]).args(arguments).arg("--cluster").arg(spec);
    let output = command.arg("--artifacts").arg(artifacts).arg("--state").arg(state).output()?;
    ensure!(!output.status.success(), "it started");
    Ok(String::from_utf8(output.stderr)?)
}

fn unreadable_spec_is_told() -> anyhow::Result<()> {
    let (open, closed) = (TempDir::new()?, TempDir::new()?);
    fs::set_permissions(open.path(), fs::Permissions::from_mode(0o755))?;
    fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700))?;
    let at = |name: &str| open.path().join(name);
    fs::create_dir(at("artifacts"))?;
    let spec = closed.path().join("cluster.yaml");
    fs::write(&spec, "")?;
    let told = refused(&["--user", "64321"], [&spec, &at("artifacts"), &at("state")])?;
    let expected = format!("setfacl -m u:64321:x {}", closed.path().display());
    ensure!(told.contains(&expected) && told.contains(&*spec.to_string_lossy()), "{told}");
    ensure!(told.contains("--user root"), "{told}");

    let readable = at("cluster.yaml");
    fs::write(&readable, "")?;
    fs::set_permissions(&readable, fs::Permissions::from_mode(0o600))?;
    let told = refused(&["--user", "64321"], [&readable, &at("artifacts"), &at("state")])?;
    ensure!(told.contains(&format!("setfacl -m u:64321:r {}", readable.display())), "{told}");

    fs::set_permissions(&readable, fs::Permissions::from_mode(0o644))?;
    fs::create_dir(at("others"))?;
    std::os::unix::fs::chown(at("others"), Some(7), Some(7))?;
    let told = refused(&["--user", "64321"], [&readable, &at("artifacts"), &at("others")])?;
    ensure!(told.contains(&format!("chown -R 64321 {}", at("others").display())), "{told}");
    Ok(())
}

fn user_that_cannot_be_is_told() -> anyhow::Result<()> {
    let directory = TempDir::new()?;
    let paths = [directory.path(); 3];
    let told = refused(&["--user", "no-such-user"], paths)?;
    ensure!(told.contains("--user no-such-user: there is no such user") && told.contains("useradd"), "{told}");
    let told = refused(&["--user", "a:b"], paths)?;
    ensure!(told.contains("name a user, or its number"), "{told}");
    Ok(())
}

/// Landlock's rules are about directories, not about their names: a directory that was deleted and made again is another one.
fn place_that_was_replaced_is_told_of() -> anyhow::Result<()> {
    let machine = Machine::number(1);
    let network = network_of(&machine)?;
    let artifacts = Artifacts::stand_ins(&[VERSION], 1000)?;
    let directory = TempDir::new()?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
    let state = directory.path().join("state");
    let make = || {
        fs::create_dir(&state)?;
        std::os::unix::fs::chown(&state, Some(USER), Some(USER))
    };
    make()?;
    let launch = Launch { state_directory: Some(&state), ..Launch::default() };
    let spec = cluster::cluster(std::slice::from_ref(&machine));
    let mut pxed = Pxed::launch_by(&network.server, &spec, artifacts.path(), &[], &launch)?;
    pxed.wait_until_ready()?;
    fs::rename(&state, directory.path().join("former"))?;
    make()?;
    let mut command = pxed.namespace().command(build::pxed()?.path);
    let output =
        command.args(["hold", &machine.mac, "--admin"]).arg(format!("unix:{}", pxed.socket().display())).output()?;
    let told = String::from_utf8(output.stderr)?;
    ensure!(told.contains("Restart pxed"), "{told}");
    // The health is that of the last look, which comes every two seconds.
    pxed.eventually("the health tells of the state directory", SOON, |pxed| {
        let status = status_health(pxed)?;
        Ok(status.contains("the state is not saved") && status.contains("Restart pxed"))
    })
}
