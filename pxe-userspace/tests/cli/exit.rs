//! The exit statuses of the commands that ask a running pxed, and what they print.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// An admin API with these machines. A change of one whose address ends with `.66` fails.
pub(super) struct Api {
    address: String,
    /// Not set while it answers nobody.
    alive: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<String>>>,
}

pub(super) fn machine(number: u8, cluster: &str, stage: &str) -> String {
    format!(
        r#"{{"mac":"52:54:00:00:00:{number:02x}","address":"10.0.0.{number}","cluster":"{cluster}","role":"worker",
        "architecture":"amd64","version":"v1.13.0","policy":"auto","boots_from":"network","stage":"{stage}",
        "stage_since":"2026-01-01T00:00:00Z","boots":1,"last_error":"bad \u001b[2J\u0007 name","hostname":"n{number}"}}"#
    )
}

impl Api {
    pub(super) fn start(machines: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let (seen, alive) = (Arc::clone(&requests), Arc::new(AtomicBool::new(true)));
        let is_alive = Arc::clone(&alive);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                if !is_alive.load(Ordering::Relaxed) {
                    continue;
                }
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut request = String::new();
                let _ = reader.read_line(&mut request);
                let mut header = String::new();
                while reader.read_line(&mut header).is_ok_and(|length| length > 2) {
                    header.clear();
                }
                // A client that ends while it connects asks for nothing.
                let Some(path) = request.split(' ').nth(1) else { continue };
                let (status, body) = answer(&machines, path);
                seen.lock().unwrap().push(request);
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                // A client that was killed reads no answer.
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
            }
        });
        Self { address, alive, requests }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn set_alive(&self, alive: bool) {
        self.alive.store(alive, Ordering::Relaxed);
    }

    /// Returns the number of requests that begin with this.
    pub(super) fn count(&self, beginning: &str) -> usize {
        self.requests.lock().unwrap().iter().filter(|line| line.starts_with(beginning)).count()
    }

    /// Runs pxed without a terminal. Returns its exit status and what it printed.
    fn run(&self, words: &str) -> (i32, String, String) {
        let words: Vec<_> = words.split_whitespace().chain(["--admin", &self.address]).collect();
        run(&words, &[])
    }
}

fn answer(machines: &[String], path: &str) -> (&'static str, String) {
    let of = |mac: &str| machines.iter().find(|machine| machine.contains(mac));
    match path.split('?').next().unwrap().split('/').skip(3).collect::<Vec<_>>()[..] {
        // A stream that ends.
        ["events"] => (
            "200 OK",
            r#": boot events from now on

event: boot
data: {"at":"2026-01-01T00:00:01Z","mac":"52:54:00:00:00:01","stage":"loading-kernel","failure":false,"text":"asks for its kernel"}

"#
            .to_owned(),
        ),
        ["machines"] => ("200 OK", format!("[{}]", machines.join(","))),
        ["machines", mac, decision @ ("hold" | "release")] => match of(mac) {
            Some(machine) if machine.contains(".66\"") => ("500 Oops", r#"{"error":"the disk is full"}"#.to_owned()),
            Some(machine) if decision == "hold" => ("200 OK", machine.replace("auto", "hold")),
            Some(machine) => ("200 OK", machine.clone()),
            None => ("404 Not Found", r#"{"error":"no"}"#.to_owned()),
        },
        ["health"] => (
            "200 OK",
            r#"{"problems":[],"warnings":[],"file_descriptors":{"open":1,"limit":2},"log_lines_dropped":0}"#.to_owned(),
        ),
        ["spec", "errors"] | ["visitors"] => ("200 OK", "[]".to_owned()),
        _ => ("404 Not Found", r#"{"error":"is not here"}"#.to_owned()),
    }
}

fn run(words: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pxed"));
    command.args(words).env_clear().envs(variables.iter().copied()).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn fleet() -> Api {
    let of_lab = (1..=8).map(|number| machine(number, "lab", "running"));
    Api::start(of_lab.chain([machine(9, "prod", "failed"), machine(66, "prod", "failed")]).collect())
}

/// Every number of the table in docs/exit-codes.md.
#[test]
fn command_ends_with_the_status_that_its_help_names() {
    let api = fleet();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for (words, expected, said) in [
        ("status", 0, ""),
        ("status --limit 2", 0, ""),
        ("status --cluster lab,prod --stage booting", 0, ""),
        ("status --cluster lab --exit-code", 0, ""),
        ("status --cluster lab --fail-on failed,stuck -o name", 0, ""),
        ("status --fail-on failed", 3, "2 of 10 machines: failed"),
        ("status --exit-code --limit 1 -o json", 3, ""),
        ("status --fail-on running --cluster lab", 3, "8 of 8"),
        ("status --cluster typo", 4, "there is no such cluster; the clusters are "),
        ("status --stage fialed -o json", 4, "the stages are failed, "),
        ("status --role master", 4, "the roles are worker, control-plane"),
        ("status --fail-on never", 4, "--fail-on never: there is no such stage; the stages are "),
        ("status --limit two", 2, "invalid value"),
        ("status -o table", 2, "[possible values: text, wide, json, yaml, name]"),
        ("status -o json --json", 2, "cannot be used with"),
        ("explain n99", 4, "the nearest host names are n9, "),
        ("explain 52:54:00:00:00:99", 4, "the nearest MAC addresses are 52:54:00:00:00:09, "),
        ("strangers -o table", 2, "[possible values: text, wide, json, yaml, name]"),
        ("strangers -o json --json", 2, "cannot be used with"),
        ("adopt n99 --cluster lab", 2, "invalid value"),
        ("adopt 52:54:00:00:00:99", 2, "--cluster"),
        ("adopt 52:54:00:00:00:99 --cluster lab", 0, ""),
        ("adopt 52:54:00:00:00:99 --cluster typo", 4, "the clusters are "),
        ("watch n99", 4, "the nearest host names are n9, "),
        ("watch --cluster typo", 4, "the clusters are "),
        ("hold n99", 4, "the nearest host names are n9, "),
        ("hold n1 n99", 4, "the nearest host names are n9, "),
        ("hold n1 10.0.0.2 52-54-00-00-00-03", 0, "3 of 3 machines held"),
        ("hold", 2, "no machine is named: pxed hold MACHINE"),
        ("hold n1 --cluster lab", 2, "cannot be used with"),
        ("hold --cluster lab", 2, "add --yes: there is no terminal to ask at"),
        ("release --cluster typo --yes", 4, "the clusters are "),
        ("hold --stage booting", 0, "no machine matches: nothing to hold"),
        ("hold --cluster lab --yes", 0, "8 of 8 machines held"),
        ("release --cluster prod --yes", 6, "52:54:00:00:00:42: the disk is full\n1 of 2 machines released, 1 failed"),
        ("release n66", 1, "the disk is full"),
    ] {
        let (status, stdout, stderr) = api.run(words);
        assert!(status == expected && stderr.contains(said), "{words}: {status}\n{stdout}\n{stderr}");
        assert!(!stdout.contains('\u{1b}') && !stdout.contains('\u{7}'), "{words}: {stdout}");
    }
    let (status, _, stderr) = run(&["status", "--admin", &closed], &[]);
    assert!(status == 5 && stderr.contains("no pxed answers at"), "{stderr}");
    let (status, _, stderr) = run(&["release", "--cluster", "lab", "--yes", "--admin", &closed], &[]);
    assert!(status == 5 && stderr.contains("no pxed answers at"), "{stderr}");
}

#[test]
fn selection_without_a_confirmation_changes_nothing() {
    let api = fleet();
    let (status, stdout, stderr) = api.run("hold --cluster lab --role worker");
    assert!(status == 2 && stdout.is_empty(), "{stderr}");
    assert!(stderr.contains("about to hold 8 machines:\n  52:54:00:00:00:01 (n1, 10.0.0.1), worker of lab, running\n"));
    assert_eq!(api.count("POST "), 0);
    let (_, stdout, _) = api.run("hold --cluster lab -y --json");

    assert_eq!(api.count("POST "), 8);
    let objects = serde_json::Deserializer::from_str(&stdout).into_iter::<serde_json::Value>();
    assert!(objects.map(Result::unwrap).all(|object| object["policy"] == "hold"));
}

#[test]
fn list_has_the_form_that_is_asked_for() {
    let api = fleet();
    let of = |words: &str| api.run(words).1;
    assert_eq!(of("status --cluster prod -o name"), "52:54:00:00:00:09\n52:54:00:00:00:42\n");
    assert_eq!(of("status --cluster lab --stage failed -o name"), "");
    let list: Vec<serde_json::Value> = serde_json::from_str(&of("status --cluster prod --json")).unwrap();
    assert_eq!(list.len(), 2);
    assert_eq!(of("status --cluster lab --stage failed -o json"), "[]\n");
    let yaml = of("status --limit 1 -o yaml");
    assert!(yaml.starts_with("- mac: \"52:54:00:00:00:01\"\n  address: \"10.0.0.1\"\n  cluster: lab\n"), "{yaml}");
    let text = of("status --limit 2");
    assert!(text.starts_with("running   8\nfailed    2\nmachines  10\n\nMAC "), "{text}");
    assert!(text.contains("\n2 of 10 machines are shown (--limit)\n"), "{text}");
    let wide = of("status --cluster prod -o wide");
    assert!(wide.contains("  HOSTNAME  ARCHITECTURE  TALOS    POLICY  LOADING  LAST ERROR\n"), "{wide}");
    assert!(wide.contains(r"bad \u{1b}[2J\u{7} name"), "{wide}");
    let (_, coloured, _) =
        run(&["status", "--stage", "failed", "--admin", &api.address], &[("CLICOLOR_FORCE", "1"), ("TERM", "xterm")]);
    assert!(coloured.contains("\u{1b}[31mfailed\u{1b}[0m") && !coloured.contains("\u{1b}[2J"), "{coloured}");
}
