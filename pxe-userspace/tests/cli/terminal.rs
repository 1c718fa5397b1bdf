//! The live view on a real terminal, which script(1) opens.

use std::{
    fs,
    io::{Read as _, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use super::exit::{Api, machine};

/// The bytes that take the terminal, and those that put it back.
const TAKEN: &str = "\u{1b}[?1049h";
const RESTORED: [&str; 2] = ["\u{1b}[?1049l", "\u{1b}[?25h"];
const PATIENCE: Duration = Duration::from_secs(60);

/// A pxed on a terminal of its own.
struct Terminal {
    script: Child,
    keys: Option<ChildStdin>,
    output: mpsc::Receiver<Vec<u8>>,
    seen: String,
    directory: tempfile::TempDir,
}

impl Terminal {
    fn start(api: &Api, words: &str, size: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // The terminal's modes at the end show whether they are as before.
        let command = format!(
            "stty {size}; stty -g > {0}/before; sh -c 'echo $$ > {0}/pid; exec {1} {words} --admin {2}'; code=$?; stty -g > {0}/after; exit $code",
            directory.path().display(),
            env!("CARGO_BIN_EXE_pxed"),
            api.address(),
        );
        let mut script = Command::new("script");
        script.args(["-qec", &command, "/dev/null"]).env_clear().env("TERM", "xterm").env("PATH", "/usr/bin:/bin");
        let mut script = script.env("SHELL", "/bin/sh").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (keys, mut stdout) = (script.stdin.take(), script.stdout.take().unwrap());
        let (sender, output) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { script, keys, output, seen: String::new(), directory }
    }

    fn wait_for(&mut self, text: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.seen.contains(text) {
            match self.output.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("no {text:?} in {:?}", self.seen),
            }
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    fn signal(&self, name: &str) {
        let pid = fs::read_to_string(self.directory.path().join("pid")).unwrap();
        assert!(Command::new("kill").args([&format!("-{name}"), pid.trim()]).status().unwrap().success());
    }

    /// Waits for the end. Returns the exit status, once the terminal is as it was.
    fn end(mut self) -> i32 {
        let status = self.script.wait().unwrap().code().unwrap();
        while let Ok(bytes) = self.output.recv_timeout(PATIENCE) {
            self.seen.push_str(&String::from_utf8_lossy(&bytes));
        }
        let taken = self.seen.find(TAKEN).unwrap();
        for bytes in RESTORED {
            assert!(self.seen.rfind(bytes).is_some_and(|at| at > taken), "no {bytes:?} in {:?}", self.seen);
        }
        let [before, after] =
            ["before", "after"].map(|name| fs::read_to_string(self.directory.path().join(name)).unwrap());
        assert_eq!(before, after, "the modes of the terminal");
        status
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

fn api() -> Api {
    Api::start(vec![machine(1, "lab", "running"), machine(2, "lab", "failed"), machine(3, "prod", "loading-kernel")])
}

#[test]
fn live_view_gives_the_terminal_back_however_it_ends() {
    let api = api();
    for (words, end, expected) in [
        ("status --watch", "q", 0),
        ("watch", "\u{3}", 0),
        ("watch --cluster lab", "\u{1b}", 0),
        ("status --watch", "TERM", 143),
        ("watch", "HUP", 129),
    ] {
        let mut terminal = Terminal::start(&api, words, "rows 24 cols 80");
        terminal.wait_for(TAKEN);
        terminal.wait_for("failed and stuck");
        terminal.wait_for("n2");
        match end {
            "TERM" | "HUP" => terminal.signal(end),
            keys => terminal.press(keys),
        }
        let seen = terminal.seen.clone();
        assert_eq!(terminal.end(), expected, "{words} {end:?}: {seen}");
        assert!(!seen.contains("\u{7}") && seen.contains(r"\u{1b}[2J\u{7} name"), "{seen:?}");
    }
}

#[test]
fn live_view_says_that_pxed_is_gone_and_comes_back() {
    let api = api();
    let mut terminal = Terminal::start(&api, "watch", "rows 24 cols 40");
    terminal.wait_for("failed and stuck");
    api.set_alive(false);
    terminal.wait_for("CONNECTION LOST");
    let asked = api.count("GET /api/v1/events");
    api.set_alive(true);
    // It follows the events again.
    let until = Instant::now() + PATIENCE;
    while api.count("GET /api/v1/events") == asked && Instant::now() < until {
        thread::yield_now();
    }
    assert!(api.count("GET /api/v1/events") > asked);
    terminal.press("q");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn terminal_that_can_do_little_gets_lines() {
    let api = api();
    for (words, variable) in [("watch --json", "xterm"), ("watch", "dumb")] {
        let mut command = Command::new("script");
        let line = format!("TERM={variable} {} {words} --admin {}", env!("CARGO_BIN_EXE_pxed"), api.address());
        command.args(["-qec", &line, "/dev/null"]).env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("asks for its kernel") && !text.contains('\u{1b}'), "{words}: {text:?}");
        // The stream of this API ends.
        assert_eq!(output.status.code(), Some(5), "{text}");
    }
}
