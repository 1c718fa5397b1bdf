//! `pxed fetch` as a person uses it.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use ring::digest::{SHA512, digest};

use crate::{
    lab::{KERNEL, SHA256SUM, SHA512SUM, hex, kernel, sha256},
    server::{Behaviour, Server},
};

const SPEC: &str = "\
apiVersion: talos.alperen.cloud/v1alpha1
kind: TalosCluster
metadata: {name: lab}
spec:
  pxeServerSpec: {address: 10.99.0.1, interface: br0}
  controlPlane:
    version: v1.13.0
    mode: metal
    kubeVersion: v1.35.0
    endpoint: https://10.99.0.168:6443
    metalSpec:
      machineSpec:
        installDisk: /dev/sda
        meta: {subnet: 24, gateway: 10.99.0.254, dnsServers: [10.99.0.254]}
      machines:
        - address: 10.99.0.168
          pxeClientSpec: {macAddress: '52:54:00:99:00:01', cpuArchitecture: amd64}
";

/// A site: an artifacts directory, a spec, and a server with everything that it needs.
struct Site {
    directory: tempfile::TempDir,
    server: Server,
}

impl Site {
    fn new() -> Self {
        let server = Server::start();
        let (kernel, initramfs) = (kernel(3_000_000, 1), [&b"\xfd7zXZ\0"[..], &[7; 200_000]].concat());
        let lines = |hash: fn(&[u8]) -> String| {
            format!("{}  vmlinuz-amd64\n{}  initramfs-amd64.xz\n", hash(&kernel), hash(&initramfs))
        };
        server.put(SHA256SUM, lines(sha256).as_bytes());
        server.put(SHA512SUM, lines(|content| hex(digest(&SHA512, content).as_ref())).as_bytes());
        server.put(KERNEL, &kernel);
        server.put("/talos/v1.13.0/initramfs-amd64.xz", &initramfs);
        server.put("/ipxe/x86_64-efi/ipxe.efi", b"a loader");
        server.put("/ipxe/undionly.kpxe", b"a loader for a BIOS");
        let site = Self { directory: tempfile::tempdir().unwrap(), server };
        fs::create_dir(site.directory.path().join("artifacts")).unwrap();
        fs::write(site.directory.path().join("lab.yaml"), SPEC).unwrap();
        site
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pxed"));
        command.current_dir(self.directory.path()).env_clear().arg("fetch").args(words);
        command.args(["--artifacts", "artifacts"]);
        for name in ["talos", "factory", "ipxe"] {
            command.args([&format!("--{name}-url"), &self.server.url(&format!("/{name}"))]);
        }
        command
    }

    /// Runs `pxed fetch` and returns its exit status with what it printed.
    fn fetch(&self, words: &[&str]) -> (Option<i32>, String) {
        let Output { status, stdout, stderr } = self.command(words).output().unwrap();
        (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join("artifacts").join(name)
    }
}

#[track_caller]
fn check((status, text): &(Option<i32>, String), expected: i32, parts: &[&str]) {
    assert_eq!(*status, Some(expected), "{text}");
    for part in parts {
        assert!(text.contains(part), "{text}\nlacks {part:?}");
    }
}

#[test]
fn empty_directory_gets_all_that_the_spec_needs() {
    let site = Site::new();
    let first = site.fetch(&["lab.yaml"]);
    check(
        &first,
        0,
        &["vmlinuz-v1.13.0-amd64: 3.0 MB", "vmlinuz-v1.13.0-amd64: verified, 3.0 MB", "MB/s", "0 missing"],
    );
    assert_eq!(fs::read(site.path("vmlinuz-v1.13.0-amd64")).unwrap(), kernel(3_000_000, 1));
    check(&site.fetch(&["--verify", "lab.yaml"]), 0, &[]);
    let requests = site.server.request_count();
    check(&site.fetch(&["--cluster", "lab.yaml"]), 0, &["0 fetched", "0 missing"]);
    assert_eq!(site.server.request_count(), requests, "nothing was left to ask");
    // A file that was altered is fetched again.
    fs::write(site.path("vmlinuz-v1.13.0-amd64"), kernel(3_000_000, 2)).unwrap();
    check(&site.fetch(&["lab.yaml"]), 0, &["1 fetched", "0 missing"]);
    assert_eq!(fs::read(site.path("vmlinuz-v1.13.0-amd64")).unwrap(), kernel(3_000_000, 1));
}

#[test]
fn file_that_cannot_be_had_is_listed_and_the_others_come() {
    let site = Site::new();
    site.server.remove(KERNEL);
    let parts = ["missing: vmlinuz-v1.13.0-amd64: ", &site.server.url(KERNEL), "404", "1 missing"];
    check(&site.fetch(&["lab.yaml"]), 1, &parts);
    assert!(site.path("initramfs-v1.13.0-amd64.xz").exists());
    // An incomplete bundle is not written.
    check(&site.fetch(&["--bundle", "all.tar.zst", "lab.yaml"]), 1, &["404"]);
    assert!(!site.directory.path().join("all.tar.zst").exists());
}

#[test]
fn file_put_there_by_hand_is_compared_with_its_published_checksum() {
    let site = Site::new();
    fs::write(site.path("vmlinuz-v1.13.0-amd64"), kernel(3_000_000, 1)).unwrap();
    check(&site.fetch(&["lab.yaml"]), 0, &["0 missing"]);
    assert_eq!(site.server.requests(KERNEL).len(), 0, "it was there");
    let manifest = fs::read_to_string(site.path(".pxed/manifest.json")).unwrap();
    assert!(manifest.contains(&sha256(&kernel(3_000_000, 1))), "{manifest}");
    let site = Site::new();
    fs::write(site.path("vmlinuz-v1.13.0-amd64"), kernel(3_000_000, 2)).unwrap();
    check(&site.fetch(&["lab.yaml"]), 1, &["is not served", &sha256(&kernel(3_000_000, 1)), "Delete it", "--accept"]);
    assert_eq!(fs::read(site.path("vmlinuz-v1.13.0-amd64")).unwrap(), kernel(3_000_000, 2), "it is a person's");
}

/// A site with an own kernel in the place of the release's, which `pxed fetch` has refused.
fn with_own_kernel() -> Site {
    let site = Site::new();
    fs::write(site.path("vmlinuz-v1.13.0-amd64"), kernel(3_000_000, 2)).unwrap();
    check(&site.fetch(&["lab.yaml"]), 1, &["is not served"]);
    site
}

#[test]
fn own_kernel_is_never_replaced() {
    let site = with_own_kernel();
    let file = site.path("vmlinuz-v1.13.0-amd64");
    let ways_out = ["is not served", "Delete it", "--accept", "1 missing"];
    for _ in 0..2 {
        check(&site.fetch(&["lab.yaml"]), 1, &ways_out);
        check(&site.fetch(&["--verify", "lab.yaml"]), 1, &["altered", "--accept"]);
    }
    // Another own build is as much a person's.
    fs::write(&file, kernel(2_000_000, 3)).unwrap();
    check(&site.fetch(&["lab.yaml"]), 1, &ways_out);
    assert_eq!(fs::read(&file).unwrap(), kernel(2_000_000, 3));
    assert_eq!(site.server.requests(KERNEL).len(), 0, "not even asked for");
    // A bundle does not replace it, either, and its other files come.
    let connected = Site::new();
    check(&connected.fetch(&["--bundle", "all.tar.zst", "lab.yaml"]), 0, &[]);
    let bundle = connected.directory.path().join("all.tar.zst");
    let other = Site::new();
    for site in [&site, &other] {
        let file = site.path("vmlinuz-v1.13.0-amd64");
        fs::write(&file, kernel(2_000_000, 3)).unwrap();
        fs::remove_file(site.path("initramfs-v1.13.0-amd64.xz")).ok();
        for _ in 0..2 {
            check(&site.fetch(&["--from", bundle.to_str().unwrap(), "lab.yaml"]), 1, &ways_out);
            assert_eq!(fs::read(&file).unwrap(), kernel(2_000_000, 3));
        }
        assert!(site.path("initramfs-v1.13.0-amd64.xz").exists());
    }
}

#[test]
fn own_kernel_that_is_deleted_is_fetched() {
    let site = with_own_kernel();
    fs::remove_file(site.path("vmlinuz-v1.13.0-amd64")).unwrap();
    check(&site.fetch(&["lab.yaml"]), 0, &["1 fetched", "0 missing"]);
    assert_eq!(fs::read(site.path("vmlinuz-v1.13.0-amd64")).unwrap(), kernel(3_000_000, 1));
    // From now on it is a download, which is fetched again if it is damaged.
    fs::write(site.path("vmlinuz-v1.13.0-amd64"), kernel(3_000_000, 2)).unwrap();
    check(&site.fetch(&["lab.yaml"]), 0, &["1 fetched", "0 missing"]);
}

#[test]
fn own_kernel_that_is_accepted_stays_in_every_later_build() {
    let site = with_own_kernel();
    let file = site.path("vmlinuz-v1.13.0-amd64");
    check(&site.fetch(&["--accept", "artifacts/vmlinuz-v1.13.0-amd64"]), 0, &[]);
    check(&site.fetch(&["lab.yaml"]), 0, &["0 fetched", "0 missing"]);
    check(&site.fetch(&["--verify", "lab.yaml"]), 0, &[]);
    fs::write(&file, kernel(2_000_000, 3)).unwrap();
    for _ in 0..2 {
        check(&site.fetch(&["lab.yaml"]), 1, &["is not served", "accepted by hand", "--accept"]);
        assert_eq!(fs::read(&file).unwrap(), kernel(2_000_000, 3));
    }
}

#[test]
fn right_kernel_in_the_place_of_an_own_one_is_served() {
    let site = with_own_kernel();
    fs::write(site.path("vmlinuz-v1.13.0-amd64"), kernel(3_000_000, 1)).unwrap();
    check(&site.fetch(&["lab.yaml"]), 0, &["0 fetched", "0 missing"]);
    assert_eq!(site.server.requests(KERNEL).len(), 0);
}

#[test]
fn offline_never_asks_anybody() {
    let site = Site::new();
    check(&site.fetch(&["--offline", "lab.yaml"]), 1, &["--offline", "--from", "--plan"]);
    check(
        &site.fetch(&["--offline", "--bundle", "all.tar.zst", "lab.yaml"]),
        1,
        &["missing: ", "vmlinuz-v1.13.0-amd64"],
    );
    assert_eq!(site.server.request_count(), 0);
}

#[test]
fn bundle_carries_everything_to_a_host_without_a_network() {
    let (connected, isolated) = (Site::new(), Site::new());
    check(&connected.fetch(&["--bundle", "all.tar.zst", "lab.yaml"]), 0, &["all.tar.zst: "]);
    let bundle = connected.directory.path().join("all.tar.zst");
    let taken = isolated.fetch(&["--from", bundle.to_str().unwrap(), "lab.yaml"]);
    check(&taken, 0, &["vmlinuz-v1.13.0-amd64: verified", "0 missing"]);
    assert_eq!(isolated.server.request_count(), 0);
    assert_eq!(fs::read(isolated.path("vmlinuz-v1.13.0-amd64")).unwrap(), kernel(3_000_000, 1));
    check(&isolated.fetch(&["--verify", "lab.yaml"]), 0, &[]);
    // The same files make the same bundle.
    check(&connected.fetch(&["--bundle", "again.tar.zst", "--offline", "lab.yaml"]), 0, &[]);
    assert!(fs::read(&bundle).unwrap() == fs::read(connected.directory.path().join("again.tar.zst")).unwrap());
    // One that lacks something gives what it has.
    let other = Site::new();
    let newer = SPEC.replace("52:54:00:99:00:01", "52:54:00:99:00:02").replace("10.99.0.168", "10.99.0.169");
    let newer = newer.replace("v1.13.0", "v1.13.1").replace("name: lab", "name: newer");
    fs::write(other.directory.path().join("newer.yaml"), newer).unwrap();
    let taken = other.fetch(&["--from", bundle.to_str().unwrap(), "lab.yaml", "newer.yaml"]);
    check(&taken, 1, &["vmlinuz-v1.13.0-amd64: verified", "missing: ", "vmlinuz-v1.13.1-amd64"]);
    // One that is cut off says so.
    let cut = fs::read(&bundle).unwrap();
    fs::write(&bundle, &cut[..cut.len() / 2]).unwrap();
    check(&Site::new().fetch(&["--from", bundle.to_str().unwrap(), "lab.yaml"]), 1, &["all.tar.zst", "cut off"]);
    check(&Site::new().fetch(&["--from", "nowhere.tar.zst", "lab.yaml"]), 1, &["nowhere.tar.zst", "No such file"]);
}

#[test]
fn signal_leaves_a_part_that_the_next_run_goes_on_from() {
    let site = Site::new();
    site.server.once(KERNEL, [Behaviour::StallAfter(1_500_000)]);
    let mut child = site.command(&["lab.yaml"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let part = site.path(".pxed/partial/vmlinuz-v1.13.0-amd64.part");
    let deadline = Instant::now() + Duration::from_secs(60);
    while fs::metadata(&part).map_or(0, |metadata| metadata.len()) < 1_500_000 {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "the download begins");
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    check(&(output.status.code(), text), 130, &["interrupted", "goes on from there"]);
    check(&site.fetch(&["lab.yaml"]), 0, &["going on from 1.5 MB", "0 missing"]);
    let last = site.server.requests(KERNEL).pop().unwrap();
    assert_eq!(last.header("range"), Some("bytes=1500000-"));
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let site = Site::new();
    for (words, reason) in [
        (&["--talos-url", "ftp://mirror", "lab.yaml"][..], "only https: and http:"),
        (&["--bandwidth-limit", "fast", "lab.yaml"], "bytes per second"),
        (&["--plan", "--verify", "lab.yaml"], "cannot be used with"),
        (&["--bundle", "a", "--from", "b", "lab.yaml"], "cannot be used with"),
        (&["--ca-certificates", "lab.yaml", "lab.yaml"], "PEM form"),
        (&["--ca-certificates", "nowhere.pem", "lab.yaml"], "nowhere.pem"),
        (&[], "no cluster spec"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pxed"));
        let Output { status, stderr, .. } = command
            .current_dir(site.directory.path())
            .env_clear()
            .args(["fetch", "--artifacts", "artifacts"])
            .args(words)
            .output()
            .unwrap();
        let text = String::from_utf8(stderr).unwrap();
        assert!(!status.success() && text.contains(reason), "{words:?}: {text}");
    }
    assert!(!Path::new(&site.path(".pxed/partial")).exists());
}

#[test]
fn proxy_of_the_environment_is_used_and_its_refusal_told() {
    let (site, proxy) = (Site::new(), Server::start());
    let fetch = |variables: &[(&str, &str)], url: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pxed"));
        command.current_dir(site.directory.path()).env_clear().envs(variables.iter().copied());
        command.args(["fetch", "lab.yaml", "--artifacts", "artifacts", "--ipxe-url", &site.server.url("/ipxe")]);
        let Output { status, stdout, stderr } = command.args(["--talos-url", url]).output().unwrap();
        (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
    };
    // Requests without TLS go to the proxy with the whole URL, others by CONNECT.
    let address = proxy.url("");
    let refusal = fetch(&[("HTTP_PROXY", &address), ("NO_PROXY", "127.0.0.1")], "http://mirror.invalid/talos");
    check(&refusal, 1, &["http://mirror.invalid/talos/v1.13.0/sha256sum.txt", "404"]);
    proxy.always("mirror.invalid:443", Behaviour::Status(407, Vec::new()));
    let refusal = fetch(&[("HTTPS_PROXY", &address)], "https://mirror.invalid/talos");
    check(&refusal, 1, &["the proxy does not let it through", "HTTPS_PROXY"]);
}
