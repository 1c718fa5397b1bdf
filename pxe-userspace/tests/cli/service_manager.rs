//! pxed under a service manager of the test's own.

use std::{
    fs,
    net::TcpListener,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The time limit for each message on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// A pxed, and the socket that it notifies.
struct Service {
    child: Child,
    socket: UnixDatagram,
    directory: tempfile::TempDir,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Service {
    /// Starts pxed with an empty spec directory and these variables.
    fn start(variables: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("spec")).unwrap();
        let socket = UnixDatagram::bind(at("notify")).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pxed"));
        command.args(["run", "--admin", &admin(), "--offline", "--cluster"]).arg(at("spec"));
        command.arg("--state").arg(at("state")).arg("--artifacts").arg(at("artifacts"));
        command.env_clear().env("NOTIFY_SOCKET", at("notify")).envs(variables.iter().copied());
        let child = command.stderr(Stdio::null()).spawn().unwrap();
        Self { child, socket, directory }
    }

    fn spec(&self) -> PathBuf {
        self.directory.path().join("spec")
    }

    /// Returns the messages up to the first that satisfies `is_last`.
    fn told_until(&self, is_last: impl Fn(&str) -> bool) -> Vec<String> {
        let mut messages = Vec::new();
        loop {
            let mut buffer = [0; 4096];
            let length = self.socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{error} after {messages:#?}"));
            messages.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
            if messages.last().is_some_and(|message| is_last(message)) {
                return messages;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    fn end(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

/// Returns an address for the admin listener.
fn admin() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn is_ready(message: &str) -> bool {
    message.lines().any(|line| line == "READY=1")
}

#[test]
fn service_is_ready_without_a_spec_and_says_that_it_waits_for_one() {
    let service = Service::start(&[]);
    let status = service.told_until(|message| message.starts_with("STATUS=")).concat();
    assert!(status.contains("Serving no machine yet; there is no cluster spec yet"), "{status}");
    service.told_until(is_ready);

    write(&service.spec(), "kind: [\n");
    let status = service.told_until(|message| message.contains("mistake")).concat();
    assert!(status.contains("1 mistake in the spec"), "{status}");

    service.signal(Signal::SIGHUP);
    let told = service.told_until(is_ready);
    assert!(told[0].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{told:?}");
    service.signal(Signal::SIGTERM);
    service.told_until(|message| message.starts_with("STOPPING=1"));
    assert!(service.end().success());
}

fn write(spec: &Path, text: &str) {
    fs::write(spec.join("c.yaml"), text).unwrap();
}

#[test]
fn keep_alives_come_while_everything_lives_and_none_while_the_process_is_stopped() {
    let service = Service::start(&[("WATCHDOG_USEC", "8000000")]);
    for _ in 0..2 {
        service.told_until(|message| message == "WATCHDOG=1");
    }
    service.signal(Signal::SIGSTOP);
    service.socket.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
    let mut buffer = [0; 4096];
    while let Ok(length) = service.socket.recv(&mut buffer) {
        assert_eq!(&buffer[..length], b"WATCHDOG=1", "sent before it was stopped");
    }
    service.signal(Signal::SIGCONT);
    service.socket.set_read_timeout(Some(SOON)).unwrap();
    service.told_until(|message| message == "WATCHDOG=1");
}

#[test]
fn start_that_fails_is_explained_and_never_ready() {
    let service = Service::start(&[("PXED_TALOS_CONFIG", "/nowhere")]);
    let told = service.told_until(|message| message.contains("cannot start"));
    assert!(told.concat().contains("/nowhere") && !told.iter().any(|message| is_ready(message)), "{told:?}");
    assert!(!service.end().success());
}

#[test]
fn service_manager_that_is_gone_or_nonsense_keeps_nothing_from_serving() {
    let directory = tempfile::tempdir().unwrap();
    let gone = directory.path().join("gone");
    for name in ["nonsense", "", "@", gone.to_str().unwrap()] {
        let state = directory.path().join("state");
        let (spec, state) = (directory.path().to_str().unwrap(), state.to_str().unwrap());
        let admin = admin();
        let words = ["run", "--admin", &admin, "--cluster", spec, "--state", state];
        let variables = [("NOTIFY_SOCKET", name), ("WATCHDOG_USEC", "many"), ("WATCHDOG_PID", "-1")];
        let server = super::Server::start_with(&words, &variables);
        server.log_until("ready");
    }
}
