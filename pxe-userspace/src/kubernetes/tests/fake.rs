//! An API server of a few lines: lists and watches of talos-operator's kinds, with faults on demand.

mod leases;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use crate::model::api_object::ApiKind;

/// A request that the server has received.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) token: String,
}

impl Asked {
    pub(super) fn is_watch(&self) -> bool {
        self.query.contains("watch=1")
    }

    pub(super) fn is_about(&self, kind: ApiKind) -> bool {
        self.path.ends_with(kind.plural())
    }
}

/// An answer instead of the right one.
#[derive(Clone, Debug)]
pub(super) enum Instead {
    /// A status with these headers and this body.
    Status(u16, &'static str, String),
    /// Nothing, while the connection stays open.
    Silence,
    /// The beginning of an answer, and then the end of the connection.
    Cut(String),
    /// The beginning of an answer, and then nothing.
    Stall(String),
    /// The end of the connection.
    Close,
}

type Fault = Box<dyn FnMut(&Asked) -> Option<Instead> + Send>;

#[derive(Default)]
struct State {
    objects: BTreeMap<(ApiKind, String, String), Value>,
    /// The events so far, with their versions.
    log: Vec<(u64, ApiKind, String, Value)>,
    /// The Leases, by their names.
    leases: BTreeMap<String, Value>,
    version: u64,
    asked: Vec<Asked>,
    fault: Option<Fault>,
}

/// The server, until this is dropped.
pub(super) struct Fake {
    pub(super) port: u16,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl Fake {
    pub(super) async fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(super) fn on(listener: TcpListener) -> Self {
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State { version: 1, ..State::default() }));
        let changed = watch::Sender::new(0);
        let (of_task, changes) = (Arc::clone(&state), changed.clone());
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&of_task), changes.subscribe()));
            }
        });
        Self { port, state, changed, task }
    }

    /// Makes or changes an object.
    pub(super) fn apply(&self, kind: ApiKind, namespace: &str, name: &str, rest: Value) {
        let mut state = self.state.lock().unwrap();
        state.version += 1;
        let mut object = json!({
            "apiVersion": "talos.alperen.cloud/v1alpha1", "kind": kind.name(),
            "metadata": {
                "name": name, "namespace": namespace, "uid": format!("{namespace}-{name}"),
                "resourceVersion": state.version.to_string(), "creationTimestamp": "2026-01-01T00:00:00Z",
                "managedFields": [{"manager": "kubectl", "time": state.version}],
            },
        });
        merge(&mut object, rest);
        let key = (kind, namespace.to_owned(), name.to_owned());
        let event = if state.objects.insert(key, object.clone()).is_some() { "MODIFIED" } else { "ADDED" };
        let version = state.version;
        state.log.push((version, kind, event.to_owned(), object));
        drop(state);
        self.changed.send_modify(|count| *count += 1);
    }

    pub(super) fn delete(&self, kind: ApiKind, namespace: &str, name: &str) {
        let mut state = self.state.lock().unwrap();
        state.version += 1;
        let version = state.version;
        if let Some(mut object) = state.objects.remove(&(kind, namespace.to_owned(), name.to_owned())) {
            object["metadata"]["resourceVersion"] = json!(version.to_string());
            state.log.push((version, kind, "DELETED".to_owned(), object));
        }
        drop(state);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Sends an event as it is to the watches of a kind.
    pub(super) fn event(&self, kind: ApiKind, event: &str, object: Value) {
        let mut state = self.state.lock().unwrap();
        state.version += 1;
        let version = state.version;
        state.log.push((version, kind, event.to_owned(), object));
        drop(state);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Loses all objects without telling anybody, and ends the watches by "too old".
    pub(super) fn lose(&self) {
        self.state.lock().unwrap().objects.clear();
        self.expire();
    }

    /// Ends the watches by "too old".
    pub(super) fn expire(&self) {
        for kind in ApiKind::ALL {
            self.event(kind, "ERROR", json!({"kind": "Status", "code": 410, "message": "too old resource version"}));
        }
    }

    /// Answers requests with what the function returns, from now on.
    pub(super) fn fail(&self, fault: impl FnMut(&Asked) -> Option<Instead> + Send + 'static) {
        self.state.lock().unwrap().fault = Some(Box::new(fault));
        // Watches that are open end.
        self.changed.send_modify(|count| *count += 1 << 32);
    }

    /// Answers nothing from now on, while what is open stays open.
    pub(super) fn freeze(&self) {
        self.state.lock().unwrap().fault = Some(Box::new(|_| Some(Instead::Silence)));
    }

    pub(super) fn recover(&self) {
        self.state.lock().unwrap().fault = None;
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.state.lock().unwrap().asked.clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn response(status: u16, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}", body.len())
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>, mut changed: watch::Receiver<u64>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
    let mut body = vec![0; length.parse().unwrap()];
    if stream.read_exact(&mut body).await.is_err() {
        return;
    }
    let method = head.split(' ').next().unwrap().to_owned();
    let target = head.split(' ').nth(1).unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let token = head.lines().find_map(|line| line.strip_prefix("authorization: Bearer ")).unwrap_or_default();
    let asked = Asked { method, path: path.to_owned(), query: query.to_owned(), token: token.to_owned() };
    let instead = {
        let mut state = state.lock().unwrap();
        state.asked.push(asked.clone());
        state.fault.as_mut().and_then(|fault| fault(&asked))
    };
    let answer = match instead {
        Some(Instead::Status(status, headers, body)) => response(status, headers, &body),
        Some(Instead::Silence) => return std::future::pending().await,
        Some(Instead::Close) => return,
        Some(Instead::Cut(text)) => format!("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n{text}"),
        Some(Instead::Stall(text)) => {
            let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\n\r\n{text}").as_bytes()).await;
            return std::future::pending().await;
        }
        None if path.contains("/leases") => leases::answer(&mut state.lock().unwrap(), &asked, &body),
        None => {
            let kind = ApiKind::ALL.into_iter().find(|kind| asked.is_about(*kind)).unwrap();
            let namespace = path.split("/namespaces/").nth(1).and_then(|rest| rest.split('/').next());
            if asked.is_watch() {
                let from = parameter(query, "resourceVersion").parse().unwrap();
                return follow(stream, state, &mut changed, kind, namespace, from).await;
            }
            list(&state.lock().unwrap(), kind, namespace, query)
        }
    };
    let _ = stream.write_all(answer.as_bytes()).await;
}

fn parameter<'q>(query: &'q str, name: &str) -> &'q str {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
}

fn list(state: &State, kind: ApiKind, namespace: Option<&str>, query: &str) -> String {
    let of_kind = state.objects.iter().filter(|((k, ns, _), _)| *k == kind && namespace.is_none_or(|n| n == ns));
    let all: Vec<&Value> = of_kind.map(|(_, object)| object).collect();
    let begin: usize = parameter(query, "continue").parse().unwrap_or(0);
    let limit: usize = parameter(query, "limit").parse().unwrap_or(usize::MAX);
    let end = all.len().min(begin.saturating_add(limit));
    let next = if end < all.len() { end.to_string() } else { String::new() };
    let list = json!({
        "apiVersion": "talos.alperen.cloud/v1alpha1", "kind": format!("{kind}List"),
        "metadata": {"resourceVersion": state.version.to_string(), "continue": next}, "items": all[begin..end],
    });
    response(200, "", &list.to_string())
}

async fn follow(
    mut stream: TcpStream,
    state: Arc<Mutex<State>>,
    changed: &mut watch::Receiver<u64>,
    kind: ApiKind,
    namespace: Option<&str>,
    mut from: u64,
) {
    let epoch = *changed.borrow_and_update() >> 32;
    let mut text = "HTTP/1.1 200 OK\r\n\r\n".to_owned();
    loop {
        let begin = from;
        for (version, of, event, object) in state.lock().unwrap().log.iter().filter(|(version, ..)| *version > begin) {
            let is_meant = namespace.is_none_or(|namespace| object["metadata"]["namespace"] == namespace);
            if *of == kind && (is_meant || event == "ERROR") {
                text.push_str(&format!("{}\n", json!({"type": event, "object": object})));
            }
            from = *version;
        }
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
        text.clear();
        tokio::select! {
            result = changed.changed() => if result.is_err() { return },
            // The client has hung up.
            _ = stream.read_u8() => return,
        }
        if *changed.borrow() >> 32 != epoch {
            return;
        }
    }
}

/// Waits until the condition holds.
pub(super) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain: {what}");
}
