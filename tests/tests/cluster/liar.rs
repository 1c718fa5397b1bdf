//! An API server that lies and floods, as a program that speaks HTTP and nothing else.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use pxe_lab::{
    Namespace,
    cluster::{DNS, GATEWAY, Machine, SERVER, VERSION},
    topology::INTERFACE,
};
use serde_json::{Value, json};

/// The time for which a connection is written to or waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// The path with its query.
    pub(crate) target: String,
}

impl Request {
    pub(crate) fn is_watch(&self) -> bool {
        self.target.contains("watch=1")
    }

    pub(crate) fn is_about(&self, plural: &str) -> bool {
        self.target.split('?').next().is_some_and(|path| path.ends_with(plural))
    }

    pub(crate) fn number(&self, parameter: &str) -> usize {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| *name == parameter).and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
    }

    /// Returns the kind of a list, as lists name it.
    pub(crate) fn list_kind(&self) -> &'static str {
        const KINDS: [(&str, &str); 4] = [
            ("talosclusters", "TalosClusterList"),
            ("taloscontrolplanes", "TalosControlPlaneList"),
            ("talosworkers", "TalosWorkerList"),
            ("talosmachines", "TalosMachineList"),
        ];
        KINDS.into_iter().find(|(plural, _)| self.is_about(plural)).map_or("LeaseList", |(_, kind)| kind)
    }
}

/// An answer: whatever is written. `Ok(false)` leaves the request to the honest answers.
pub(crate) type Lie = fn(&Request, &mut TcpStream) -> io::Result<bool>;

#[derive(Default)]
struct State {
    lie: Option<Lie>,
    /// Changes with each lie, and ends the watches.
    epoch: usize,
    open: Vec<TcpStream>,
    machines: Vec<Machine>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    asked: AtomicUsize,
}

/// The server, until it is dropped. It serves one TalosCluster.
pub(crate) struct Liar {
    shared: Arc<Shared>,
    listener: TcpListener,
}

impl Liar {
    /// Starts it on the loopback interface of a namespace.
    pub(crate) fn start(namespace: &Namespace, machines: &[Machine]) -> anyhow::Result<Self> {
        let listener = namespace.enter(|| TcpListener::bind("127.0.0.1:0"))??;
        let shared = Arc::new(Shared::default());
        shared.lock().machines = machines.to_vec();
        let (of_thread, accepting) = (Arc::clone(&shared), listener.try_clone()?);
        thread::spawn(move || {
            while let Ok((stream, _)) = accepting.accept() {
                let shared = Arc::clone(&of_thread);
                thread::spawn(move || shared.serve(stream));
            }
        });
        Ok(Self { shared, listener })
    }

    pub(crate) fn url(&self) -> anyhow::Result<String> {
        Ok(format!("http://{}", self.listener.local_addr()?))
    }

    /// Tells this lie from now on, on new connections alone.
    pub(crate) fn lie(&self, lie: Option<Lie>) {
        let mut state = self.shared.lock();
        state.lie = lie;
        state.epoch += 1;
        for stream in state.open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Returns the number of requests so far.
    pub(crate) fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.lie(None);
        let _ = nix::sys::socket::shutdown(self.listener.as_raw_fd(), nix::sys::socket::Shutdown::Both);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: TcpStream) {
        // A client that hangs up is no failure of the test.
        let _ = self.answer(stream);
    }

    fn answer(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line.trim().is_empty() {
                break;
            }
            head.push(line.trim().to_owned());
        }
        let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        io::copy(&mut reader.take(length), &mut io::sink())?;
        let mut words = head.first().map_or("", |line| line).split(' ').map(str::to_owned);
        let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(()) };
        let request = Request { method, target };
        self.asked.fetch_add(1, Ordering::Relaxed);
        let (lie, epoch) = {
            let mut state = self.lock();
            state.open.push(stream.try_clone()?);
            (state.lie, state.epoch)
        };
        if let Some(lie) = lie
            && lie(&request, &mut stream)?
        {
            return Ok(());
        }
        self.answer_honestly(&request, &mut stream, epoch)
    }

    fn answer_honestly(&self, request: &Request, stream: &mut TcpStream, epoch: usize) -> io::Result<()> {
        if request.is_watch() {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")?;
            let timeout = Duration::from_secs(request.number("timeoutSeconds") as u64);
            let state = self.lock();
            let wait = self.changed.wait_timeout_while(state, timeout, |state| state.epoch == epoch);
            drop(wait);
            return Ok(());
        }
        if request.method != "GET" {
            return respond(stream, &json!({"kind": "Status", "metadata": {}}));
        }
        let machines = self.lock().machines.clone();
        let items = if request.is_about("talosclusters") {
            vec![taloscluster("lab", "default", &machines)]
        } else {
            Vec::new()
        };
        respond(stream, &list(request, &items, ""))
    }
}

/// Returns a TalosCluster.
pub(crate) fn taloscluster(name: &str, namespace: &str, machines: &[Machine]) -> Value {
    let machine = |machine: &Machine| {
        json!({"address": machine.address, "pxeClientSpec": {
            "macAddress": machine.mac, "cpuArchitecture": machine.architecture.name(), "kernelCmdlineArgs": machine.kernel_args,
        }})
    };
    let machines: Vec<_> = machines.iter().map(machine).collect();
    json!({
        "apiVersion": "talos.alperen.cloud/v1alpha1", "kind": "TalosCluster",
        "metadata": {
            "name": name, "namespace": namespace, "uid": format!("{namespace}/{name}"), "resourceVersion": "7",
            // The copies came later.
            "creationTimestamp": if namespace == "default" { "2026-01-01T00:00:00Z" } else { "2026-01-02T00:00:00Z" },
        },
        "spec": {
            "pxeServerSpec": {"address": SERVER, "interface": INTERFACE},
            "controlPlane": {"version": VERSION, "mode": "metal", "metalSpec": {
                "machineSpec": {"meta": {"subnet": 24, "gateway": GATEWAY, "dnsServers": [DNS]}}, "machines": machines,
            }},
        },
    })
}

/// Returns a list with these items, of which another part follows if there is a token.
pub(crate) fn list(request: &Request, items: &[Value], next: &str) -> Value {
    let metadata = json!({"resourceVersion": "7", "continue": next});
    json!({"apiVersion": "talos.alperen.cloud/v1alpha1", "kind": request.list_kind(), "metadata": metadata, "items": items})
}

/// Answers with 200 and this object.
pub(crate) fn respond(stream: &mut TcpStream, body: &Value) -> io::Result<()> {
    respond_with(stream, "200 OK", "", &body.to_string())
}

/// Answers with this status, these headers (each with its line's end) and this body.
pub(crate) fn respond_with(stream: &mut TcpStream, status: &str, headers: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}")
}
