//! The container image: pxed in runc, as a user who is not root, with exactly the capabilities that the chart grants.

use std::{
    fs,
    os::unix::fs::chown,
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use libtest_mimic::Trial;
use pxe_lab::{
    Artifacts, Bridged, Mirror, Namespace, Process, build,
    cluster::{self, Machine, SERVER, VERSION},
    container::{CAPABILITIES, Container, Image, Security, USER},
    mirror::Certificate,
    pxed::ADMIN,
    requires,
    suite::{self, eventually},
    topology::INTERFACE,
};
use serde_json::Value;
use tempfile::TempDir;

/// The time limit for whatever takes seconds at most on an idle machine.
const LIMIT: Duration = Duration::from_secs(60);

/// The places in the container.
const ARTIFACTS: &str = "/var/lib/pxed/artifacts";
const STATE: &str = "/var/lib/pxed/state";
const SPEC: &str = "/etc/pxed/cluster.yaml";
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

pub(crate) fn tests() -> Vec<Trial> {
    // Without each of these, the packet socket takes the place of XDP.
    let slower = ["NET_ADMIN", "BPF", "PERFMON", "IPC_LOCK"].into_iter().map(|missing| {
        let name = format!("image_without_{}_serves_by_packet_socket_and_says_so", missing.to_lowercase());
        suite::test(&name, move || serves_without(missing))
    });
    let refused = ["NET_RAW", "NET_BIND_SERVICE"].into_iter().map(|missing| {
        let name = format!("image_without_{}_does_not_start_and_says_why", missing.to_lowercase());
        suite::test(&name, move || does_not_start_without(missing))
    });
    [
        suite::test("image_boots_a_machine_by_xdp_as_a_user_who_is_not_root", boots_a_machine),
        suite::test("image_serves_by_xdp_as_root_without_privilege_escalation", serves_as_root),
        suite::test("image_with_the_packet_socket_needs_two_capabilities", needs_two_capabilities),
        suite::test("image_without_privilege_escalation_says_that_file_capabilities_have_no_effect", cannot_escalate),
        suite::test("image_finds_names_by_dns_and_trusts_its_certificates", downloads),
    ]
    .into_iter()
    .chain(slower)
    .chain(refused)
    .collect()
}

/// A network with one machine, and the directories of the container.
struct Lab {
    bridged: Bridged,
    image: Arc<Image>,
    artifacts: Artifacts,
    directory: TempDir,
}

impl Lab {
    fn new() -> anyhow::Result<Self> {
        let image = image()?;
        let directory = TempDir::new()?;
        fs::write(directory.path().join("cluster.yaml"), cluster::cluster(&[Machine::number(1)]))?;
        let state = directory.path().join("state");
        fs::create_dir(&state)?;
        let artifacts = Artifacts::stand_ins(&[VERSION], 300_001)?;
        Ok(Self { bridged: Bridged::new(cluster::SERVER_ADDRESS, 1)?, image, artifacts, directory })
    }

    fn server(&self) -> &Namespace {
        &self.bridged.server
    }

    /// Starts pxed in the container.
    fn start(&self, security: &Security<'_>, mounts: &[(&Path, &str)], options: &[&str]) -> anyhow::Result<Container> {
        let (spec, state) = (self.directory.path().join("cluster.yaml"), self.directory.path().join("state"));
        for directory in [&state, self.artifacts.path()] {
            chown(directory, Some(security.user), Some(security.user))?;
        }
        let own: [(&Path, &str); 3] = [(&spec, SPEC), (&state, STATE), (self.artifacts.path(), ARTIFACTS)];
        let mounts = [&own[..], mounts].concat();
        let arguments = ["run", "--cluster", SPEC, "--artifacts", ARTIFACTS, "--state", STATE];
        let offline: &[&str] = if options.iter().any(|option| option.contains("-url")) { &[] } else { &["--offline"] };
        self.image.start(self.server(), security, &mounts, &[&arguments[..], offline, options].concat())
    }

    /// Starts it and waits until it is ready by this path.
    fn serve(&self, security: &Security<'_>, path: &str, options: &[&str]) -> anyhow::Result<Container> {
        let container = self.start(security, &[], options)?;
        self.wait_until_ready(&container)?;
        container.process.wait_for_line(&format!("path=\"{path}\""), LIMIT)?;
        Ok(container)
    }

    fn wait_until_ready(&self, container: &Container) -> anyhow::Result<()> {
        let url = format!("http://{ADMIN}/readyz");
        eventually("pxed is ready", LIMIT, || Ok(matches!(self.server().http_get(&url), Ok((200, _)))))
            .with_context(|| container.process.last_lines())
    }

    /// Boots the simulated machine: TFTP, iPXE, HTTP.
    fn boot(&self) -> anyhow::Result<()> {
        let client = self.bridged.clients.first().context("a client")?;
        let mut command = client.command(build::pxed()?.path);
        let mac = Machine::number(1).mac;
        command.args(["rehearse", "--interface", INTERFACE, "--firmware", "uefi-x64", "--mac", &mac, "--hurry"]);
        let mut machine = Process::spawn("rehearse", &mut command)?;
        let status = machine.wait(LIMIT)?;
        ensure!(status.success(), "{status}: {}", machine.last_lines());
        Ok(())
    }

    /// Waits until pxed knows that the machine got all of its files, once, and that its system runs.
    fn wait_until_running(&self) -> anyhow::Result<()> {
        let url = format!("http://{ADMIN}/api/v1/machines/{}", Machine::number(1).mac);
        let mut seen = Value::Null;
        eventually("the machine's system runs", LIMIT, || {
            let (status, text) = self.server().http_get(&url)?;
            ensure!(status == 200, "{url}: {status}: {text}");
            seen = serde_json::from_str(&text)?;
            Ok(seen["stage"] == "running" && seen["boots"] == 1)
        })
        .with_context(|| format!("{seen:#}"))
    }

    /// Returns a value of pxed's `/proc/PID/status`, as numbers.
    fn status(&self, key: &str) -> anyhow::Result<Vec<String>> {
        let processes = self.server().processes()?;
        let process = processes.first().context("no process in the container's network")?;
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        Ok(line.with_context(|| format!("no {key}"))?.split_whitespace().map(str::to_owned).collect())
    }
}

/// Returns the image, unpacked once for the tests that run at the same time. The last one removes it.
fn image() -> anyhow::Result<Arc<Image>> {
    static IMAGE: Mutex<Weak<Image>> = Mutex::new(Weak::new());
    let mut shared = IMAGE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(image) = shared.upgrade() {
        return Ok(image);
    }
    let image = Arc::new(Image::unpack()?);
    *shared = Arc::downgrade(&image);
    Ok(image)
}

fn without(missing: &str) -> Security<'static> {
    let capabilities = CAPABILITIES.into_iter().filter(|one| *one != missing).collect();
    Security { capabilities, ..Security::default() }
}

fn boots_a_machine() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let container = lab.serve(&Security::default(), "xdp-driver", &[])?;
    ensure!(lab.status("Uid")?.iter().all(|id| *id == USER.to_string()), "{:?}", lab.status("Uid")?);
    // The six capabilities by their numbers: 10, 12, 13, 14, 38, 39.
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        ensure!(lab.status(set)? == ["000000c000007400"], "{set}: {:?}", lab.status(set)?);
    }
    lab.boot()?;
    // Its system may have asked for an address before pxed noticed the end of the last file, so the log may go without "booting".
    lab.wait_until_running().with_context(|| container.process.last_lines())
}

fn serves_as_root() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let container = lab.serve(&Security { user: 0, may_escalate: false, ..Security::default() }, "xdp-driver", &[])?;
    ensure!(lab.status("NoNewPrivs")? == ["1"], "{}", container.process.last_lines());
    ensure!(lab.status("CapEff")? == ["000000c000007400"], "{:?}", lab.status("CapEff")?);
    lab.boot()
}

fn needs_two_capabilities() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let security = Security { capabilities: vec!["NET_RAW", "NET_BIND_SERVICE"], ..Security::default() };
    let _container = lab.serve(&security, "socket", &["--datapath", "socket"])?;
    lab.boot()
}

fn cannot_escalate() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let mut container = lab.start(&Security { may_escalate: false, ..Security::default() }, &[], &[])?;
    let status = container.process.wait(LIMIT)?;
    let output = container.process.output();
    ensure!(
        !status.success() && output.contains("without CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON"),
        "{status}: {output}"
    );
    ensure!(output.contains("allowPrivilegeEscalation"), "{output}");
    Ok(())
}

fn serves_without(missing: &str) -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let container = lab.serve(&without(missing), "socket", &[])?;
    let line = container.process.wait_for_line("slower path", LIMIT)?;
    let others: Vec<_> = CAPABILITIES.into_iter().filter(|one| *one != missing).collect();
    // The sentence before the remedy names what is missing and nothing else.
    let (blame, remedy) = line.split_once("rant capabilities by").with_context(|| line.clone())?;
    ensure!(blame.contains(&format!("CAP_{missing}")), "{line}");
    ensure!(!others.iter().any(|one| blame.contains(&format!("CAP_{one}"))), "{line}");
    ensure!(remedy.contains("securityContext.capabilities.add") && remedy.contains("AmbientCapabilities="), "{line}");
    ensure!(!line.contains("Linux 5.11"), "the kernel is blamed: {line}");
    lab.boot()
}

fn does_not_start_without(missing: &str) -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let mut container = lab.start(&without(missing), &[], &[])?;
    let status = container.process.wait(LIMIT)?;
    let output = container.process.output();
    ensure!(!status.success() && output.contains("cannot start"), "{status}: {output}");
    ensure!(output.contains(&format!("CAP_{missing}")), "{output}");
    Ok(())
}

/// The host of the mirror is known to DNS alone, and its authority to the container's own list alone.
fn downloads() -> anyhow::Result<()> {
    requires::tools(&["dnsmasq"])?;
    let lab = Lab::new()?;
    let mirror = Mirror::start_tls_in(lab.server(), Certificate::Good)?;
    mirror.put("/ipxe/x86_64-efi/ipxe.efi", "MZ, a loader")?;
    let names = "address=/localhost/127.0.0.1\nlisten-address=10.99.0.1\nport=53\nno-resolv\nno-hosts\nlog-queries\nbind-interfaces\n";
    let configuration = lab.directory.path().join("dnsmasq.conf");
    fs::write(&configuration, names)?;
    let mut dnsmasq = lab.server().command("dnsmasq");
    dnsmasq.args(["--keep-in-foreground", "--log-facility=-", "--user=root", "--pid-file="]);
    dnsmasq.arg(format!("--conf-file={}", configuration.display()));
    let dnsmasq = Process::spawn("dnsmasq", &mut dnsmasq)?;
    dnsmasq.wait_for_line("started", LIMIT)?;

    let resolver = lab.directory.path().join("resolv.conf");
    fs::write(&resolver, format!("nameserver {SERVER}\n"))?;
    let authorities = lab.directory.path().join("authorities.crt");
    let authority = mirror.authority().context("the mirror has no authority")?;
    let images = fs::read_to_string(lab.image.file(CERTIFICATES))?;
    ensure!(images.matches("BEGIN CERTIFICATE").count() > 50, "the image has no list of authorities");
    fs::write(&authorities, images + &fs::read_to_string(authority)?)?;
    let loader = lab.artifacts.path().join("ipxe-efi-x86_64.efi");
    fs::remove_file(&loader)?;
    let url = format!("https://localhost:{}/ipxe", mirror.address().port());
    let mounts: [(&Path, &str); 2] = [(&resolver, "/etc/resolv.conf"), (&authorities, CERTIFICATES)];
    let container = lab.start(&Security::default(), &mounts, &["--ipxe-url", &url])?;
    eventually("the loader is there", LIMIT, || Ok(loader.exists()))
        .with_context(|| format!("{}\n{}", container.process.last_lines(), dnsmasq.last_lines()))?;
    dnsmasq.wait_for_line("query[A] localhost", LIMIT)?;
    ensure!(fs::read(&loader)? == b"MZ, a loader", "another loader");
    Ok(())
}
