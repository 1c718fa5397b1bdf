//! The command line with its environment and configuration file, as a person uses the binary.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

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
        let request = requests.recv_timeout(Duration::from_secs(20)).expect(name);
        assert!(request.starts_with("GET /api/v1/machines?"), "{name}: {request}");
    }
}

#[test]
fn server_refuses_an_admin_address_that_it_cannot_listen_on() {
    for (admin, words) in [
        ("http://pxed.example:8001", "write ADDRESS:PORT"),
        ("http://127.0.0.1:8001/pxed", "write ADDRESS:PORT"),
        ("https://127.0.0.1:8001", "speaks http"),
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
