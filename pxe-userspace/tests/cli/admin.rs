//! The ways into the admin API of a running pxed.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::{Server, get, pxed, write};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A directory for a pxed without machines.
struct Place {
    directory: tempfile::TempDir,
    admin: String,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("spec")).unwrap();
        let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        Self { directory, admin }
    }

    fn at(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    fn words(&self, state: &str, admin: &str, socket: &str) -> Vec<String> {
        let words = ["run", "--offline", "--cluster", &self.at("spec"), "--state", &self.at(state), "--admin", admin];
        words.into_iter().map(str::to_owned).chain(["--admin-socket".to_owned(), self.at(socket)]).collect()
    }

    fn run(&self, state: &str, admin: &str, socket: &str, more: &[&str]) -> Server {
        let words = self.words(state, admin, socket);
        Server::start(&words.iter().map(String::as_str).chain(more.iter().copied()).collect::<Vec<_>>())
    }
}

#[test]
fn commands_go_by_the_socket_and_replace_that_of_a_killed_pxed() {
    let place = Place::new();
    let (socket, unix) = (place.at("a.sock"), format!("unix:{}", place.at("a.sock")));
    let server = place.run("state", &place.admin, "a.sock", &[]);
    let log = server.log_until("ready");
    assert!(log.iter().any(|line| line.contains(&unix)), "{log:#?}");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    for words in [&["status", "--admin", &unix][..], &["status", "--admin", &place.admin]] {
        let (success, text) = pxed(words, &[]);
        assert!(success && text.contains("no machines"), "{text}");
    }
    let (success, text) = pxed(&["status"], &[("PXED_ADMIN_SOCKET", &socket)]);
    assert!(success && text.contains("no machines"), "{text}");
    let config = write(&place.directory.path().join("pxed.toml"), &format!("admin-socket = \"{socket}\"\n"));
    let (success, text) = pxed(&["status", "--config", &config], &[]);
    assert!(success && text.contains("no machines"), "{text}");
    // Each finds the machine unknown, not the change forbidden.
    for admin in [&unix, &place.admin] {
        let (success, text) = pxed(&["hold", "52:54:00:00:00:01", "--admin", admin], &[]);
        assert!(!success && text.contains("not a machine of the spec"), "{admin}: {text}");
    }
    // A second one is refused the same socket, whatever else it has of its own.
    let other = Place::new().admin;
    let (success, text) =
        pxed(&place.words("other", &other, "a.sock").iter().map(String::as_str).collect::<Vec<_>>(), &[]);
    assert!(!success && text.contains(&format!("--admin-socket {socket}: another pxed answers there")), "{text}");
    // The end is SIGKILL, so the socket stays.
    drop(server);
    assert!(Path::new(&socket).exists());
    let (success, text) = pxed(&["status", "--admin", &unix], &[]);
    assert!(!success && text.contains(&format!("no pxed answers at {unix}")), "{text}");
    let server = place.run("state", &place.admin, "a.sock", &[]);
    server.log_until("ready");
    assert!(pxed(&["status", "--admin", &unix], &[]).0);
}

#[test]
fn socket_alone_needs_no_port() {
    let place = Place::new();
    let unix = format!("unix:{}", place.at("only.sock"));
    let words = ["run", "--offline", "--cluster", &place.at("spec"), "--state", &place.at("state"), "--admin", &unix];
    let server = Server::start(&words);
    let log = server.log_until("ready");
    assert!(log.iter().any(|line| line.contains(&unix) && !line.contains("127.0.0.1")), "{log:#?}");
    assert!(pxed(&["status"], &[("PXED_ADMIN", &unix)]).0);
}

#[test]
fn address_that_others_reach_needs_the_token() {
    let place = Place::new();
    let port = place.admin.rsplit_once(':').unwrap().1;
    let public = format!("0.0.0.0:{port}");
    let metrics = Place::new().admin;
    let token = write(&PathBuf::from(place.at("token")), &format!("{TOKEN}\n"));
    let more = ["--admin-token", &token, "--metrics", &metrics];
    let words = place.words("state", &public, "a.sock");
    let words: Vec<_> = words.iter().map(String::as_str).chain(more).collect();
    let (success, text) = pxed(&words, &[]);
    assert!(!success && text.contains("0644") && text.contains("chmod 0640"), "{text}");
    std::fs::set_permissions(&token, PermissionsExt::from_mode(0o640)).unwrap();
    let server = Server::start(&words);
    server.log_until("ready");
    for path in ["/metrics", "/healthz"] {
        assert_eq!([get(&place.admin, path), get(&metrics, path)], ["200", "200"], "{path}");
    }
    for path in ["/", "/dashboard.js", "/api/v1/machines", "/api/v1/events"] {
        assert_eq!([get(&place.admin, path), get(&metrics, path)], ["401", "404"], "{path}");
    }
    let wrong = write(&PathBuf::from(place.at("wrong")), "a-token-of-somebody-else\n");
    let admin = &place.admin;
    let (success, text) = pxed(&["status", "--admin", admin], &[]);
    assert!(!success && text.contains("--admin-token"), "{text}");
    let (success, text) = pxed(&["status", "--admin", admin, "--admin-token", &wrong], &[]);
    assert!(!success && text.contains("wrong: its mode 0644"), "{text}");
    std::fs::set_permissions(&wrong, PermissionsExt::from_mode(0o600)).unwrap();
    let (success, text) = pxed(&["status", "--admin", admin, "--admin-token", &wrong], &[]);
    assert!(!success && text.contains("wants its token"), "{text}");
    let (success, text) = pxed(&["status", "--admin", admin, "--admin-token", &token], &[]);
    assert!(success && text.contains("no machines"), "{text}");
    let (_, text) = pxed(&["hold", "52:54:00:00:00:01", "--admin", admin], &[("PXED_ADMIN_TOKEN", &token)]);
    assert!(text.contains("not a machine of the spec"), "{text}");
    // On the host itself the socket takes no token.
    assert!(pxed(&["status"], &[("PXED_ADMIN_SOCKET", &place.at("a.sock"))]).0);
    // By name as well, since no web page knows the token.
    let mut stream = TcpStream::connect(admin).unwrap();
    write!(stream, "GET /api/v1/stages HTTP/1.0\r\nhost: pxed.example\r\nauthorization: Bearer {TOKEN}\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
}
