//! The command line with its environment and configuration file, as a person uses the binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod admin;
mod exit;
mod package;
mod service_manager;
mod terminal;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Command,
    sync::mpsc,
    thread,
    time::Duration,
};

/// Answers every request with an empty fleet, and reports the line of each.
fn admin_listener() -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, requests) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut request = String::new();
            reader.read_line(&mut request).unwrap();
            let mut header = String::new();
            while reader.read_line(&mut header).unwrap() > 2 {
                header.clear();
            }
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n[]";
            stream.write_all(answer.as_bytes()).unwrap();
            if sender.send(request).is_err() {
                return;
            }
        }
    });
    (address, requests)
}

/// Runs pxed with nothing in its environment but these variables. Returns whether it succeeded, and what it printed.
fn pxed(words: &[&str], variables: &[(&str, &str)]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pxed"));
    let output = command.args(words).env_clear().envs(variables.iter().copied()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

fn write(path: &Path, text: &str) -> String {
    fs::write(path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn clients_find_the_server_where_its_own_settings_put_it() {
    let (address, requests) = admin_listener();
    let directory = tempfile::tempdir().unwrap();
    let (plain, url) = (address.to_string(), format!("http://{address}/"));
    let config = write(&directory.path().join("pxed.toml"), &format!("admin = \"{address}\"\nlog-format = \"json\"\n"));
    let elsewhere = write(&directory.path().join("elsewhere.toml"), "admin = \"127.0.0.1:1\"\n");
    type Case<'a> = (&'a str, &'a [&'a str], &'a [(&'a str, &'a str)]);
    let cases: [Case<'_>; 7] = [
        ("option", &["--admin", &plain], &[]),
        ("URL", &["--admin", &url], &[]),
        ("variable", &[], &[("PXED_ADMIN", &plain)]),
        ("URL in the variable", &[], &[("PXED_ADMIN", &url)]),
        ("file", &["--config", &config], &[]),
        ("file in the variable, the other one empty", &[], &[("PXED_CONFIG", &config), ("PXED_ADMIN", "")]),
        ("variable before the file", &["--config", &elsewhere], &[("PXED_ADMIN", &plain)]),
    ];
    for (name, words, variables) in cases {
        let (success, text) = pxed(&[&["status"], words].concat(), variables);
        assert!(success && text == "no machines\n", "{name}: {text}");
        // It also asks for other things.
        while !requests.recv_timeout(Duration::from_secs(20)).expect(name).starts_with("GET /api/v1/machines?") {}
    }
}

#[test]
fn server_refuses_an_admin_address_that_it_cannot_listen_on() {
    for (admin, words) in [
        ("http://pxed.example:8001", "write ADDRESS:PORT"),
        ("http://127.0.0.1:8001/pxed", "write ADDRESS:PORT"),
        ("https://127.0.0.1:8001", "not https"),
        ("0.0.0.0:8001", "--admin-token FILE"),
    ] {
        let (success, text) = pxed(&["run", "--cluster", "/nowhere"], &[("PXED_ADMIN", admin)]);
        assert!(!success && text.contains(words), "{admin}: {text}");
    }
    let (_, text) = pxed(&["run", "--cluster", "/nowhere"], &[("PXED_ADMIN", "http://127.0.0.1:8001/")]);
    assert!(text.contains("/nowhere") && !text.contains("ADDRESS:PORT"), "{text}");
}

#[test]
fn empty_variables_count_as_not_set() {
    let (_, help) = pxed(&["run", "--help"], &[]);
    let variables: Vec<_> = help.split("[env: ").skip(1).filter_map(|rest| rest.split('=').next()).collect();
    assert!(variables.contains(&"PXED_HTTP_PORT"), "{help}");
    let variables: Vec<_> = variables.into_iter().map(|name| (name, "")).collect();
    let (success, text) = pxed(&["run"], &variables);
    assert!(!success && text.contains("no cluster spec"), "{text}");
    let (success, text) = pxed(&["validate"], &variables);
    assert!(!success && text.contains("nothing to check"), "{text}");
}

/// A running pxed, which is killed at the end.
struct Server {
    child: std::process::Child,
    log: mpsc::Receiver<String>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(words: &[&str]) -> Self {
        Self::start_with(words, &[])
    }

    fn start_with(words: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pxed"));
        command.args(words).env_clear().envs(variables.iter().copied());
        let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (sender, log) = mpsc::channel();
        thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).for_each(|line| _ = sender.send(line));
        });
        Self { child, log }
    }

    /// Returns the lines of the log up to the first with this text.
    fn log_until(&self, text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            match self.log.recv_timeout(Duration::from_secs(60)) {
                Ok(line) => lines.push(line),
                Err(_) => panic!("no {text:?} in {lines:#?}"),
            }
            if lines.last().is_some_and(|line| line.contains(text)) {
                return lines;
            }
        }
    }
}

/// Returns the status of a GET.
fn get(address: &str, path: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[test]
fn matchbox_with_mistakes_serves_the_rest_and_strictly_it_does_not_start() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for name in ["groups", "profiles", "ignition", "generic", "assets", "state"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    for (name, text) in [
        ("groups/a.json", r#"{"profile": "p", "selector": {"mac": "52:54:00:00:00:0a"}}"#),
        ("groups/b.json", r#"{"profile": "none", "selector": {"mac": "52:54:00:00:00:0b"}}"#),
        ("groups/comma.json", r#"{"profile": "p",}"#),
        ("groups/empty.json", ""),
        ("groups/pattern.json", r#"{"profile": "p", "selector": {"mac": "52:54:*"}}"#),
        (
            "profiles/p.json",
            r#"{"id": "p", "boot": {"kernel": "/assets/k"}, "ignition_id": "p.yaml", "generic_id": "p"}"#,
        ),
        ("profiles/unused.json", r#"{"id": "unused", "ignition_id": "missing.ign"}"#),
        ("ignition/p.yaml", "variant: fcos\n"),
        ("generic/p", "{{if .x}}y{{end}}"),
    ] {
        write(&root.join(name), text);
    }
    let [http, admin] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let (root, state) = (root.to_str().unwrap(), root.join("state"));
    let (port, admin) = (http.port().to_string(), admin.to_string());
    let run = ["run", "--matchbox", root, "--state", state.to_str().unwrap(), "--http-port", &port, "--admin", &admin];
    let (success, text) = pxed(&[&run[..], &["--strict"]].concat(), &[]);
    assert!(!success && text.contains("comma.json") && text.contains("there is no profiles/none.json"), "{text}");
    let (success, text) = pxed(&["validate", root], &[]);
    assert!(!success && text.contains("7 errors"), "{text}");

    let server = Server::start(&run);
    let log = server.log_until("ready");
    let errors = log.iter().filter(|line| line.contains("ERROR")).count();
    assert_eq!(errors, 7, "{log:#?}");
    let http = http.to_string();
    for (path, expected) in [
        ("/ipxe?mac=52-54-00-00-00-0a", "200"),
        ("/grub?mac=52-54-00-00-00-0a", "200"),
        ("/metadata?mac=52-54-00-00-00-0a", "200"),
        ("/ignition?mac=52-54-00-00-00-0a", "404"),
        ("/generic?mac=52-54-00-00-00-0a", "404"),
        ("/ipxe?mac=52-54-00-00-00-0b", "404"),
        ("/ipxe?mac=52-54-00-00-00-0c", "404"),
    ] {
        assert_eq!(get(&http, path), expected, "{path}");
    }
    assert_eq!(get(&admin, "/readyz"), "200");
    let (success, text) = pxed(&["status", "--admin", &admin], &[]);
    let named = format!("spec: {root}/");
    assert!(success && text.lines().filter(|line| line.starts_with(&named)).count() == 7, "{text}");
    assert!(text.contains("\nspec: the spec has 7 errors, "), "{text}");
    assert!(
        text.contains("groups/b.json:1:13: profile: there is no profiles/none.json, only p, unused; left out 1 group"),
        "{text}"
    );
    // A group that becomes good is served, and the others' errors are not logged again.
    let good = r#"{"profile": "unused", "selector": {"mac": "52:54:00:00:00:0b"}}"#;
    write(&directory.path().join("groups/b.json"), good);
    let log = server.log_until("Matchbox directory loaded");
    assert!(!log.iter().any(|line| line.contains("ERROR")), "{log:#?}");
}

#[test]
fn cluster_spec_of_which_nothing_is_left_is_fatal() {
    let directory = tempfile::tempdir().unwrap();
    let spec = write(&directory.path().join("cluster.yaml"), "kind: [\n");
    for words in [&["run", "--cluster", &spec][..], &["run", "--cluster", &spec, "--strict"]] {
        let (success, text) = pxed(words, &[]);
        assert!(!success && text.contains("cluster.yaml:2:1: not YAML"), "{text}");
    }
    let (success, text) = pxed(&["run", "--cluster", "/nowhere"], &[]);
    assert!(!success && text.contains("/nowhere: cannot be read"), "{text}");
}

#[test]
fn empty_spec_directory_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let [spec, state] = ["spec", "state"].map(|name| directory.path().join(name));
    fs::create_dir(&spec).unwrap();
    let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (spec, state) = (spec.to_str().unwrap(), state.to_str().unwrap());
    let run = ["run", "--cluster", spec, "--state", state, "--admin", &admin];
    let server = Server::start(&run);
    let log = server.log_until("ready");
    assert!(log.iter().any(|line| line.contains("ERROR") && line.contains("no cluster spec yet")), "{log:#?}");
    assert_eq!([get(&admin, "/healthz"), get(&admin, "/readyz")], ["200", "503"]);
    let (success, text) = pxed(&["status", "--admin", &admin], &[]);
    assert!(success && text.contains("has no TalosCluster: is it the right path?"), "{text}");
    // A spec that appears is loaded.
    write(
        &directory.path().join("spec/c.yaml"),
        "apiVersion: talos.alperen.cloud/v1alpha1\nkind: TalosCluster\nmetadata: {name: c}\n",
    );
    server.log_until("cluster spec loaded");
}

#[test]
fn validation_checks_what_the_server_would_serve() {
    let directory = tempfile::tempdir().unwrap();
    let spec = write(&directory.path().join("cluster.yaml"), "kind: Unknown\n");
    let config = write(&directory.path().join("pxed.toml"), &format!("cluster = [{spec:?}]\n"));
    let named = pxed(&["validate", &spec], &[]);
    assert!(named.1.contains("cluster.yaml"), "{}", named.1);
    assert_eq!(pxed(&["validate"], &[("PXED_CLUSTER", &spec)]), named);
    assert_eq!(pxed(&["validate", "--config", &config], &[]), named);
    assert_eq!(pxed(&["validate"], &[("PXED_CONFIG", &config)]), named);
}

#[test]
fn machine_configurations_are_checked_where_run_would_find_them() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let shown = |name: &str| at(name).to_str().unwrap().to_owned();
    fs::create_dir_all(at("configs")).unwrap();
    fs::create_dir_all(at("artifacts/configs")).unwrap();
    let spec = write(
        &at("cluster.yaml"),
        "apiVersion: talos.alperen.cloud/v1alpha1
kind: TalosCluster
metadata: {name: lab, annotations: {pxed.dev/talos-config: w.yaml}}
spec:
  pxeServerSpec: {address: 10.0.0.1, interface: eth1}
  worker:
    version: v1.13.0
    mode: metal
    metalSpec:
      machines: [{address: 10.0.0.11, pxeClientSpec: {macAddress: 52:54:00:00:00:11, cpuArchitecture: amd64}}]
",
    );

    let (success, text) = pxed(&["validate", &spec], &[]);
    assert!(!success && text.contains("pxed.dev/talos-config: names the machine configuration w.yaml"), "{text}");
    let configs = shown("configs");
    let (success, text) = pxed(&["validate", "--talos-config", &configs, &spec], &[]);
    assert!(
        !success && text.contains(&format!("{configs}/w.yaml: no such file (the machine configuration of ")),
        "{text}"
    );

    let file = write(&at("configs/w.yaml"), "machine: {}");
    let config = write(&at("pxed.toml"), &format!("talos-config = {configs:?}"));
    for (words, variables) in [
        (&["validate", "--talos-config", &configs, &spec][..], &[][..]),
        (&["validate", &spec], &[("PXED_TALOS_CONFIG", &*configs)]),
        (&["validate", "--config", &config, &spec], &[]),
    ] {
        let (success, text) = pxed(words, variables);
        assert!(success, "{words:?}: {text}");
    }
    let (success, text) = pxed(&["validate", "--talos-config", &file, &spec], &[]);
    assert!(!success && text.contains("is one file for all machines"), "{text}");

    let artifacts = shown("artifacts");
    for (path, expected) in [
        ("nowhere", "nowhere: No such file or directory (os error 2): name an existing file or directory"),
        ("artifacts/configs", "is in the artifacts directory"),
    ] {
        let words = ["run", "--cluster", &spec, "--artifacts", &artifacts, "--talos-config", &shown(path)];
        let (success, text) = pxed(&words, &[]);
        assert!(!success && text.contains("cannot start:") && text.contains(expected), "{text}");
    }
}
