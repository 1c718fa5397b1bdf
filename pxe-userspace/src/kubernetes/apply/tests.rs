//! Writes to a server that answers as it likes.

use std::{collections::BTreeMap, fs, time::Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
};

use super::*;
use crate::{
    kubernetes::{Settings, events::Warning},
    model::api_object::ApiObject,
};

pub(crate) fn object(name: &str) -> Observed {
    let key = ObjectKey { kind: ApiKind::TalosMachine, namespace: "metal".into(), name: name.into() };
    let object = ApiObject { key, uid: "uid-1".into(), created: "2026-01-01T00:00:00Z".into(), text: "{}".into() };
    Observed {
        object,
        annotations: BTreeMap::new(),
        conditions: Vec::new(),
        generation: Some(3),
        is_being_deleted: false,
    }
}

fn condition() -> ApiCondition {
    ApiCondition {
        kind: "PxeBooted".to_owned(),
        status: "True".to_owned(),
        reason: "Booted".to_owned(),
        message: "It booted.".to_owned(),
        last_transition_time: "2026-01-01T00:00:00Z".to_owned(),
        observed_generation: Some(3),
    }
}

/// The answers of a server: bytes, or silence for ever.
#[derive(Clone)]
enum Answer {
    Bytes(String),
    Silence,
}

fn json(code: u16, body: &str) -> Answer {
    let length = body.len();
    Answer::Bytes(format!(
        "HTTP/1.1 {code} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    ))
}

fn status(code: u16, message: &str, retry: u32) -> Answer {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code,
        "reason": "Whatever", "details": { "retryAfterSeconds": retry },
    });
    json(code, &body.to_string())
}

/// Starts a server that gives every request the same answer. Returns the way to it and the requests that it gets.
async fn server(answer: Answer) -> (ApiServer, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            loop {
                let mut part = [0; 4_096];
                let read = stream.read(&mut part).await.unwrap_or(0);
                request.extend(&part[..read]);
                let text = String::from_utf8_lossy(&request).to_lowercase();
                let head = text.find("\r\n\r\n").map(|end| end + 4);
                let length = text.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
                if read == 0 || head.is_some_and(|head| request.len() >= head + length.unwrap_or(0)) {
                    break;
                }
            }
            let _ = sender.send(String::from_utf8_lossy(&request).into_owned());
            match &answer {
                Answer::Bytes(bytes) => _ = stream.write_all(bytes.as_bytes()).await,
                Answer::Silence => silent.push(stream),
            }
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters:\n- name: a\n  cluster: {{server: \"http://{address}\"}}\n\
         contexts:\n- name: a\n  context: {{cluster: a, user: u}}\nusers:\n- name: u\n  user: {{token: t}}\n"
    );
    fs::write(&path, text).unwrap();
    let settings = Settings { kubeconfig: Some(path), ..Settings::default() };
    (ApiServer::connect(settings).await.unwrap(), requests)
}

#[tokio::test]
async fn bad_answers_are_told_apart() {
    let cut_off = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{\"apiV".to_owned();
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    for (answer, failure, words) in [
        (status(400, "unknown field", 0), WriteFailure::Refused, "unknown field"),
        (status(401, "Unauthorized", 0), WriteFailure::Trouble, "Unauthorized"),
        (status(403, "talosmachines is forbidden", 0), WriteFailure::Forbidden, "forbidden"),
        (status(404, "m1 not found", 0), WriteFailure::Gone, "not found"),
        (status(409, "conflict", 0), WriteFailure::Conflict, "conflict"),
        (status(410, "gone", 0), WriteFailure::Gone, "gone"),
        (status(422, "admission webhook \"no\" denied the request", 0), WriteFailure::Refused, "webhook"),
        (status(429, "too many", 7), WriteFailure::Busy(seconds(7)), "too many"),
        (status(429, "too many", 0), WriteFailure::Busy(None), "too many"),
        (status(503, "etcd", 2), WriteFailure::Busy(seconds(2)), "etcd"),
        (status(500, "internal", 0), WriteFailure::Trouble, "internal"),
        (json(502, "<html>proxy</html>"), WriteFailure::Trouble, ""),
        (json(200, "<html>login</html>"), WriteFailure::Trouble, ""),
        (Answer::Bytes(cut_off), WriteFailure::Trouble, ""),
        (Answer::Bytes("garbage\r\n\r\n".to_owned()), WriteFailure::Trouble, ""),
        (Answer::Bytes(String::new()), WriteFailure::Trouble, ""),
    ] {
        let (server, _requests) = server(answer).await;
        let object = object("m1");
        let warning =
            Warning { reason: "BootFailed", note: "It failed.", node: "node-1", at: std::time::SystemTime::now() };
        for (what, error) in [
            ("condition", server.write_condition(&object, &condition()).await.err()),
            ("annotation", server.write_annotation(&object, "pxed.dev/boot-policy", Some("hold")).await.err()),
            ("event", server.create_event(&object, warning).await.err()),
            ("series", server.continue_event("metal", "e", 2, warning.at).await.err()),
        ] {
            let error = error.unwrap_or_else(|| panic!("{what}: {words} succeeded"));
            assert_eq!(error.failure, failure, "{what}: {error}");
            assert!(error.text.contains(words), "{what}: {error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn server_that_hangs_is_given_up() {
    let (server, mut requests) = server(Answer::Silence).await;
    let begin = Instant::now();
    let object = object("m1");
    let condition = condition();
    let write = tokio::spawn(async move { server.write_condition(&object, &condition).await });
    requests.recv().await.unwrap();
    let error = write.await.unwrap().unwrap_err();
    assert_eq!(error.failure, WriteFailure::Trouble);
    assert!(error.text.contains("within 10 s"), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(9), "the clock of this test is paused");
}

#[tokio::test]
async fn condition_is_applied_alone_and_to_this_very_object() {
    let (server, mut requests) = server(status(409, "conflict", 0)).await;
    let _ = server.write_condition(&object("m1"), &condition()).await;
    let request = requests.recv().await.unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let first = head.lines().next().unwrap();
    assert!(first.starts_with("PATCH /apis/talos.alperen.cloud/v1alpha1/namespaces/metal/talosmachines/m1/status?"));
    assert!(first.contains("fieldManager=pxed") && first.contains("force=true"), "{first}");
    assert!(head.to_lowercase().contains("content-type: application/apply-patch+yaml"), "{head}");
    let body: Value = serde_json::from_str(body).unwrap();
    let expected = json!({
        "apiVersion": "talos.alperen.cloud/v1alpha1",
        "kind": "TalosMachine",
        "metadata": { "name": "m1", "namespace": "metal", "uid": "uid-1" },
        "status": { "conditions": [{
            "type": "PxeBooted", "status": "True", "reason": "Booted", "message": "It booted.",
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 3,
        }] },
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn annotation_is_merged_or_removed() {
    for (value, expected) in [(Some("hold"), json!("hold")), (None, Value::Null)] {
        let (server, mut requests) = server(status(409, "conflict", 0)).await;
        let _ = server.write_annotation(&object("m1"), "pxed.dev/boot-policy", value).await;
        let request = requests.recv().await.unwrap();
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("PATCH /apis/talos.alperen.cloud/v1alpha1/namespaces/metal/talosmachines/m1?"));
        assert!(head.to_lowercase().contains("content-type: application/merge-patch+json"), "{head}");
        let body: Value = serde_json::from_str(body).unwrap();
        let annotations = json!({ "pxed.dev/boot-policy": expected });
        assert_eq!(body, json!({ "metadata": { "uid": "uid-1", "annotations": annotations } }));
    }
}
