//! An HTTP or HTTPS server on loopback, laid out as the real upstreams are, whose answers misbehave on demand.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io::{BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};

/// A behaviour of one answer.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// The connection ends after this many bytes of the body.
    CutAfter(usize),
    /// Nothing more comes after this many bytes of the body, and the connection stays open.
    StallAfter(usize),
    /// One byte at a time comes after this many, with the pause in between.
    TrickleAfter(usize, Duration),
    /// Nothing comes at all, and the connection stays open.
    Silence,
    /// These bytes come instead, and the connection ends.
    Raw(Vec<u8>),
    /// This status, with these headers, comes instead.
    Status(u16, Vec<(&'static str, String)>),
    /// The usual answer without its `ETag` and `Last-Modified`.
    WithoutValidator,
    /// The rest that was asked for, with this `Content-Range`.
    ContentRange(&'static str),
    /// The range is ignored.
    Whole,
    /// The answer is chunked and does not say how long it is. The connection ends after this many bytes, if there are that many.
    Chunked(usize),
    /// The answer says neither how long it is nor that it is chunked.
    UntilTheEnd,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The target: a path, or a URL or authority at a proxy.
    pub target: String,
    /// The headers, with lowercase names.
    pub headers: BTreeMap<String, String>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

#[derive(Debug, Default)]
struct State {
    files: HashMap<String, Vec<u8>>,
    /// The behaviours of the next answers, by path.
    once: HashMap<String, VecDeque<Behaviour>>,
    always: HashMap<String, Behaviour>,
    redirects: HashMap<String, String>,
    requests: Vec<Request>,
    /// Part of each `ETag`.
    generation: u64,
}

/// The server. Its threads end with the test's process.
#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    scheme: &'static str,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub fn start() -> Self {
        Self::with(None)
    }

    pub fn start_tls(config: ServerConfig) -> Self {
        Self::with(Some(Arc::new(config)))
    }

    fn with(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let server = Self { address, scheme, state: Arc::default() };
        let ours = server.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (server, tls) = (ours.clone(), tls.clone());
                thread::spawn(move || server.serve(&stream, tls));
            }
        });
        server
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Returns the URL of a path.
    pub fn url(&self, path: &str) -> String {
        let host = if self.scheme == "https" { "localhost".to_owned() } else { self.address.ip().to_string() };
        format!("{}://{host}:{}{path}", self.scheme, self.address.port())
    }

    /// Publishes a file, or another one under the same path.
    pub fn put(&self, path: &str, content: &[u8]) {
        let mut state = self.state();
        state.generation += 1;
        state.files.insert(path.to_owned(), content.to_vec());
    }

    /// Returns what is published under a path.
    pub fn content(&self, path: &str) -> Vec<u8> {
        self.state().files.get(path).cloned().unwrap_or_default()
    }

    pub fn remove(&self, path: &str) {
        self.state().files.remove(path);
    }

    /// Lets the next answers for a path behave like this, one after the other.
    pub fn once(&self, path: &str, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.state().once.entry(path.to_owned()).or_default().extend(behaviours);
    }

    /// Lets all answers for a path behave like this.
    pub fn always(&self, path: &str, behaviour: Behaviour) {
        self.state().always.insert(path.to_owned(), behaviour);
    }

    /// Redirects a path (302).
    pub fn redirect(&self, path: &str, target: &str) {
        self.state().redirects.insert(path.to_owned(), target.to_owned());
    }

    /// Returns the requests for a path so far.
    pub fn requests(&self, path: &str) -> Vec<Request> {
        self.state().requests.iter().filter(|request| request.target == path).cloned().collect()
    }

    /// Returns the number of all requests so far.
    pub fn request_count(&self) -> usize {
        self.state().requests.len()
    }

    fn serve(&self, stream: &TcpStream, tls: Option<Arc<ServerConfig>>) {
        stream.set_nodelay(true).unwrap();
        match tls {
            None => self.answer_all(stream.try_clone().unwrap(), stream),
            Some(config) => {
                let connection = ServerConnection::new(config).unwrap();
                self.answer_all(StreamOwned::new(connection, stream.try_clone().unwrap()), stream);
            }
        }
        let _ = stream.shutdown(Shutdown::Both);
    }

    /// Answers the requests of a connection until its end.
    fn answer_all(&self, stream: impl Read + Write, socket: &TcpStream) {
        let mut stream = BufReader::new(stream);
        while let Some(request) = read_request(&mut stream) {
            let answer = self.answer_to(&request);
            // Before the answer, so that who has the answer sees the request.
            self.state().requests.push(request);
            if !send(stream.get_mut(), socket, answer) {
                return;
            }
        }
    }

    fn answer_to(&self, request: &Request) -> Answer {
        let mut state = self.state();
        let path = request.target.split('?').next().unwrap_or_default();
        let once = state.once.get_mut(path).and_then(VecDeque::pop_front);
        let behaviour = once.or_else(|| state.always.get(path).cloned());
        if let Some(target) = state.redirects.get(path) {
            return Answer::status(302, &[("location", target.clone())]);
        }
        let etag = format!("\"{}-{}\"", path.len(), state.generation);
        match (state.files.get(path), behaviour) {
            (_, Some(Behaviour::Status(status, headers))) => Answer::status(status, &headers),
            (_, Some(Behaviour::Raw(bytes))) => Answer { head: bytes, ..Answer::default() },
            (None, _) => Answer::status(404, &[]),
            (Some(content), behaviour) => answer_with(content, &etag, request, behaviour.as_ref()),
        }
    }
}

#[derive(Debug, Default)]
struct Answer {
    head: Vec<u8>,
    body: Vec<u8>,
    /// The bytes of the body after which `end` comes.
    length: usize,
    end: End,
}

#[derive(Debug, Default)]
enum End {
    #[default]
    Close,
    KeepAlive,
    Stall,
    Trickle(Duration),
}

impl Answer {
    fn status(status: u16, headers: &[(&'static str, String)]) -> Self {
        let text = format!("status {status}\n");
        let headers = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect::<String>();
        let head = format!("HTTP/1.1 {status} Status\r\ncontent-length: {}\r\n{headers}\r\n", text.len());
        Self { head: head.into(), length: text.len(), body: text.into(), end: End::KeepAlive }
    }
}

fn answer_with(content: &[u8], etag: &str, request: &Request, behaviour: Option<&Behaviour>) -> Answer {
    let range = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let is_current = request.header("if-range").is_none_or(|validator| validator == etag);
    let range = range.filter(|_| is_current && !matches!(behaviour, Some(Behaviour::Whole)));
    let total = content.len();
    let mut headers = String::from("content-type: application/octet-stream\r\n");
    if !matches!(behaviour, Some(Behaviour::WithoutValidator)) {
        headers.push_str(&format!("etag: {etag}\r\naccept-ranges: bytes\r\n"));
    }
    let (status, body) = match range {
        Some(start) if start >= total => {
            return Answer::status(416, &[("content-range", format!("bytes */{total}"))]);
        }
        Some(start) => {
            let usual = format!("bytes {start}-{}/{total}", total - 1);
            let range = match behaviour {
                Some(Behaviour::ContentRange(range)) => *range,
                _ => &usual,
            };
            headers.push_str(&format!("content-range: {range}\r\n"));
            ("206 Partial Content", &content[start..])
        }
        None => ("200 OK", content),
    };
    let (length, end) = match behaviour {
        Some(Behaviour::CutAfter(length) | Behaviour::Chunked(length)) => (*length, End::Close),
        Some(Behaviour::StallAfter(length)) => (*length, End::Stall),
        Some(Behaviour::TrickleAfter(length, pause)) => (*length, End::Trickle(*pause)),
        Some(Behaviour::Silence) => return Answer { end: End::Stall, ..Answer::default() },
        Some(Behaviour::UntilTheEnd) => (body.len(), End::Close),
        _ => (body.len(), End::KeepAlive),
    };
    let mut body = body.to_vec();
    let mut length = length.min(body.len());
    match behaviour {
        Some(Behaviour::Chunked(_)) => {
            headers.push_str("transfer-encoding: chunked\r\n");
            let is_whole = length == body.len();
            body = [format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
            length = if is_whole { body.len() } else { length };
        }
        Some(Behaviour::UntilTheEnd) => {}
        _ => headers.push_str(&format!("content-length: {}\r\n", body.len())),
    }
    Answer { head: format!("HTTP/1.1 {status}\r\n{headers}\r\n").into(), body, length, end }
}

/// Returns whether another request may follow.
fn send(mut stream: impl Read + Write, socket: &TcpStream, answer: Answer) -> bool {
    let Answer { head, body, length, end } = answer;
    if stream.write_all(&head).and_then(|()| stream.write_all(&body[..length])).and_then(|()| stream.flush()).is_err() {
        return false;
    }
    match end {
        End::KeepAlive => true,
        End::Close => false,
        // Until the client gives up.
        End::Stall => {
            let _ = (&*socket).read(&mut [0]);
            false
        }
        End::Trickle(pause) => {
            for byte in &body[length..] {
                thread::sleep(pause);
                if stream.write_all(&[*byte]).and_then(|()| stream.flush()).is_err() {
                    return false;
                }
            }
            true
        }
    }
}

fn read_request(stream: &mut impl std::io::BufRead) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let target = line.split(' ').nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        stream.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Some(Request { target, headers })
}

/// An authority of a site.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Returns the configuration of a server with a certificate for this name, valid in these years.
    pub fn server(&self, name: &str, (from, to): (i32, i32)) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        config(certificate.der().clone(), &key)
    }
}

/// Returns the configuration of a server whose certificate is signed by itself, as `openssl req -x509` makes it (`is_ca`) or not.
pub fn self_signed(is_ca: bool) -> ServerConfig {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    if is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    config(params.self_signed(&key).unwrap().der().clone(), &key)
}

fn config(certificate: rustls::pki_types::CertificateDer<'static>, key: &KeyPair) -> ServerConfig {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    builder.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap()
}
