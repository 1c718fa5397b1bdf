//! The Leases by which nodes know of each other (`coordination.k8s.io/v1`): each node renews its own and lists all of pxed's. Each request has a
//! limit in time, and each answer in bytes.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use kube::client::Body;
use serde::Deserialize;
use serde_json::json;

use super::client::{ApiServer, words};
use crate::model::node_lease::{Announcement, NodeLease};

/// The time that a request may take: renewals must not wait for each other.
const PATIENCE: Duration = Duration::from_secs(4);
/// The most bytes of an answer.
const MOST_BYTES: usize = 8 << 20;
/// The attempts to delete this node's Lease while others change it.
const DELETIONS: usize = 5;
/// The most Leases that are asked for.
const MOST_LEASES: usize = 512;

/// The label of all Leases of pxed.
const LABEL: (&str, &str) = ("app.kubernetes.io/name", "pxed");
/// The annotation that has the announcement.
const ANNOTATION: &str = "pxed.dev/node";
/// The longest name of a Lease's node: the name of an object has 253 characters at most.
const LONGEST_NAME: usize = 240;

/// The Leases in pxed's own namespace.
#[derive(Clone, Debug)]
pub struct Leases {
    server: Arc<ApiServer>,
    /// The name of this node's Lease.
    own: String,
    /// The name of this node.
    node: Arc<str>,
    /// Tells this process from another one with the same name.
    instance: Arc<str>,
    /// This node's Lease as the last renewal left it.
    written: Arc<ArcSwapOption<Version>>,
}

/// A state of an object, of which there is only one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    uid: String,
    resource_version: String,
}

/// The ways in which deleting this node's Lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// It is deleted, or was not there.
    Deleted,
    /// It is another process's, such as the one that takes the place of this one, and stays.
    Successor,
}

/// The Leases that were listed.
#[derive(Debug, Default)]
pub struct Listed {
    /// Those of the other nodes.
    pub others: Vec<NodeLease>,
    /// That of this node, if it is there.
    pub own: Option<NodeLease>,
    /// Set if there are more than were asked for.
    pub is_cut: bool,
}

impl Leases {
    /// Creates the access for the node with this name.
    #[must_use]
    pub fn new(server: Arc<ApiServer>, node: &str) -> Self {
        let instance = format!("{:016x}", RandomState::new().hash_one(std::process::id())).into();
        Self { server, own: lease_name(node), node: node.into(), instance, written: Arc::default() }
    }

    /// Returns what tells this process from another one with the same name, in its announcements.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Lists the Leases.
    ///
    /// # Errors
    ///
    /// In words for a person.
    pub async fn list(&self) -> Result<Listed, String> {
        let (name, value) = LABEL;
        let query = format!("?labelSelector={}%3D{value}&limit={MOST_LEASES}", name.replace('/', "%2F"));
        let text = self.ask("list", Method::GET, &query, "", None).await?;
        let list: LeaseList = serde_json::from_slice(&text)
            .map_err(|error| self.failed("list", &format!("no list of Leases: {error}")))?;
        let mut listed = Listed { is_cut: !list.metadata.r#continue.is_empty(), ..Listed::default() };
        for lease in list.items {
            let is_own = lease.metadata.name == self.own;
            let Some(lease) = lease.read() else { continue };
            if is_own {
                listed.own = Some(lease);
            } else {
                listed.others.push(lease);
            }
        }
        Ok(listed)
    }

    /// Renews this node's Lease, or makes it.
    ///
    /// # Errors
    ///
    /// In words for a person.
    pub async fn renew(&self, announcement: &Announcement, now: jiff::Timestamp) -> Result<(), String> {
        let (label, value) = LABEL;
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": self.own,
                "labels": {label: value},
                "annotations": {ANNOTATION: announcement.to_json()},
            },
            "spec": {
                "holderIdentity": &*self.node,
                "leaseDurationSeconds": NodeLease::DURATION.as_secs(),
                "renewTime": format!("{now:.6}"),
            },
        });
        let place = format!("/{}?fieldManager=pxed&force=true", self.own);
        let answer = self.ask("patch", Method::PATCH, &place, "application/apply-patch+yaml", Some(lease.to_string()));
        let written = serde_json::from_slice::<LeaseObject>(&answer.await?).ok().and_then(|lease| lease.version());
        self.written.store(written.map(Arc::new));
        Ok(())
    }

    /// Deletes this node's Lease, if it is there and this process was the last to renew it: a process that takes the place of this one
    /// has the same name, and may have begun already.
    ///
    /// # Errors
    ///
    /// In words for a person.
    pub async fn delete(&self) -> Result<Farewell, String> {
        let mut last = self.written.load_full();
        for _ in 0..DELETIONS {
            let version = match last.take() {
                Some(version) => version,
                // Somebody has changed it, or the answer to a renewal was lost.
                None => match self.read_own().await? {
                    None => return Ok(Farewell::Deleted),
                    Some(lease) if lease.instance().as_deref() != Some(&*self.instance) => {
                        return Ok(Farewell::Successor);
                    }
                    Some(lease) => {
                        let version = lease.version();
                        Arc::new(version.ok_or_else(|| self.failed("get", "the Lease has no uid or resourceVersion"))?)
                    }
                },
            };
            if self.delete_as(&version).await? {
                return Ok(Farewell::Deleted);
            }
        }
        Err(self.failed("delete", "others change the Lease all the time"))
    }

    /// Deletes this node's Lease in this state. Returns `false` if it is in another one.
    async fn delete_as(&self, Version { uid, resource_version }: &Version) -> Result<bool, String> {
        let options = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid, "resourceVersion": resource_version},
        });
        let place = format!("/{}", self.own);
        let answer = self.send("delete", Method::DELETE, &place, "application/json", Some(options.to_string())).await?;
        match answer.0 {
            StatusCode::CONFLICT => Ok(false),
            StatusCode::NOT_FOUND => Ok(true),
            _ => self.accepted("delete", answer).await.map(|_| true),
        }
    }

    /// Reads this node's Lease. Returns `None` if there is none.
    async fn read_own(&self) -> Result<Option<LeaseObject>, String> {
        let answer = self.send("get", Method::GET, &format!("/{}", self.own), "", None).await?;
        if answer.0 == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let text = self.accepted("get", answer).await?;
        serde_json::from_slice(&text).map(Some).map_err(|error| self.failed("get", &format!("no Lease: {error}")))
    }

    async fn ask(
        &self,
        verb: &str,
        method: Method,
        place: &str,
        content: &str,
        body: Option<String>,
    ) -> Result<Bytes, String> {
        let answer = self.send(verb, method, place, content, body).await?;
        self.accepted(verb, answer).await
    }

    async fn send(
        &self,
        verb: &str,
        method: Method,
        place: &str,
        content: &str,
        body: Option<String>,
    ) -> Result<(StatusCode, Bytes), String> {
        let namespace = self.server.namespace();
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases{place}"))
            .header(header::ACCEPT, "application/json");
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, content);
        }
        let body = body.map_or_else(Body::empty, |text| Body::from(text.into_bytes()));
        let request = request.body(body).map_err(|error| self.failed(verb, &error.to_string()))?;
        let answer = async {
            let response = self.server.client().send(request).await.map_err(|error| words(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MOST_BYTES).collect().await;
            let body = body.map_err(|error| format!("the answer cannot be read: {error}"))?.to_bytes();
            Ok((status, body))
        };
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(answer) => answer.map_err(|error: String| {
                self.server.doubt();
                self.failed(verb, &error)
            }),
            Err(_) => {
                self.server.doubt();
                Err(self.failed(verb, &format!("no answer within {} s", PATIENCE.as_secs())))
            }
        }
    }

    /// Returns the text of an answer that is no refusal.
    async fn accepted(&self, verb: &str, (status, text): (StatusCode, Bytes)) -> Result<Bytes, String> {
        if status.is_success() {
            return Ok(text);
        }
        if status == StatusCode::UNAUTHORIZED {
            // Credentials that have expired are read again; the next attempt uses them.
            let _ = self.server.renew().await;
        }
        let message = serde_json::from_slice::<Refusal>(&text).unwrap_or_default().message;
        Err(self.failed(verb, &format!("{status}: {message}")))
    }

    fn failed(&self, verb: &str, reason: &str) -> String {
        let (url, namespace) = (self.server.url(), self.server.namespace());
        let hint = if reason.starts_with("403") {
            ": grant get, list, watch, create, patch and delete on leases.coordination.k8s.io there, as the role of pxed's chart does"
        } else {
            ""
        };
        let reason: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
        format!("Leases in namespace {namespace} of {url}: {verb}: {reason}{hint}")
    }
}

/// Returns the name of a node's Lease: `pxed-` and the node's name, in the letters that the name of an object may have.
fn lease_name(node: &str) -> String {
    let mut name = "pxed-".to_owned();
    for c in node.chars().take(LONGEST_NAME).map(|c| c.to_ascii_lowercase()) {
        name.push(if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' });
    }
    let name = name.replace("..", ".-").replace("-.", "--").replace(".-", "--");
    name.trim_end_matches(['-', '.']).to_owned()
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Refusal {
    message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LeaseList {
    metadata: ListMetadata,
    items: Vec<LeaseObject>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ListMetadata {
    r#continue: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LeaseObject {
    metadata: Metadata,
    spec: serde_json::Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    uid: String,
    resource_version: String,
    annotations: Option<std::collections::BTreeMap<String, serde_json::Value>>,
}

impl LeaseObject {
    /// Returns its state; `None` if the server does not tell it.
    fn version(&self) -> Option<Version> {
        let Metadata { uid, resource_version, .. } = &self.metadata;
        let is_whole = !uid.is_empty() && !resource_version.is_empty();
        is_whole.then(|| Version { uid: uid.clone(), resource_version: resource_version.clone() })
    }

    /// Returns the instance of the process that has renewed it last, if that can be told.
    fn instance(&self) -> Option<String> {
        let annotation = self.metadata.annotations.as_ref()?.get(ANNOTATION)?;
        Some(Announcement::of_json(annotation.as_str()?).ok()?.instance)
    }

    /// Returns what the Lease says; `None` if it is nobody's, such as one that was released.
    fn read(&self) -> Option<NodeLease> {
        let spec = |field: &str| self.spec.get(field);
        let holder = spec("holderIdentity").and_then(serde_json::Value::as_str).filter(|holder| !holder.is_empty())?;
        let seconds = spec("leaseDurationSeconds").and_then(serde_json::Value::as_u64);
        let counts_for = seconds.map_or(NodeLease::DURATION, Duration::from_secs);
        // The time is that of another clock, so it is not understood, but compared.
        let renewed = spec("renewTime").and_then(serde_json::Value::as_str).unwrap_or_default();
        let annotation = self.metadata.annotations.as_ref().and_then(|annotations| annotations.get(ANNOTATION));
        let name = &self.metadata.name;
        let announcement = match annotation.and_then(serde_json::Value::as_str) {
            Some(text) => Announcement::of_json(text)
                .map_err(|error| format!("the annotation {ANNOTATION} of the Lease {name} cannot be read: {error}")),
            None => Err(format!("the Lease {name} has no annotation {ANNOTATION}")),
        };
        let instance = announcement.as_ref().map(|said| &*said.instance).unwrap_or_default();
        let version = format!("{instance} {renewed}").chars().take(200).collect::<String>();
        let node = holder.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect::<String>();
        Some(NodeLease { node: node.into(), version: version.into(), counts_for, announcement })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_of_a_lease_is_one_that_the_api_takes() {
        for (node, expected) in [
            ("node-1", "pxed-node-1"),
            ("Node_1.Example.org", "pxed-node-1.example.org"),
            ("a..b.-c-.d.", "pxed-a--b--c--d"),
            ("größe", "pxed-gr--e"),
            ("", "pxed"),
        ] {
            assert_eq!(lease_name(node), expected, "{node}");
        }
        assert!(lease_name(&"a".repeat(1_000)).len() <= 253);
    }

    fn read(json: &str) -> Option<NodeLease> {
        serde_json::from_str::<LeaseObject>(json).unwrap().read()
    }

    #[test]
    fn lease_is_read_whatever_is_in_it() {
        let whole = r#"{"metadata":{"name":"pxed-b","annotations":{"pxed.dev/node":"{\"instance\":\"7\",\"sites\":{\"10.0.0.254\":\"10.0.0.3\"}}"}},
            "spec":{"holderIdentity":"b","leaseDurationSeconds":15,"renewTime":"2026-11-26T19:00:00.000000Z"}}"#;
        let lease = read(whole).unwrap();
        assert_eq!((&*lease.node, &*lease.version), ("b", "7 2026-11-26T19:00:00.000000Z"));
        assert_eq!(lease.counts_for, NodeLease::DURATION);
        assert_eq!(lease.announcement.unwrap().sites.len(), 1);
        for nobodys in
            [r#"{}"#, r#"{"spec":{}}"#, r#"{"spec":{"holderIdentity":""}}"#, r#"{"spec":{"holderIdentity":7}}"#]
        {
            assert_eq!(read(nobodys), None, "{nobodys}");
        }
        for (garbage, seconds) in [
            (r#"{"spec":{"holderIdentity":"b"}}"#, 15),
            (r#"{"spec":{"holderIdentity":"b","leaseDurationSeconds":-1,"renewTime":7}}"#, 15),
            (r#"{"spec":{"holderIdentity":"b","leaseDurationSeconds":4000000000}}"#, 4_000_000_000),
            (r#"{"metadata":{"name":"pxed-b","annotations":{"pxed.dev/node":"{"}},"spec":{"holderIdentity":"b"}}"#, 15),
            (r#"{"metadata":{"name":"pxed-b","annotations":{"pxed.dev/node":7}},"spec":{"holderIdentity":"b"}}"#, 15),
            (r#"{"metadata":{"name":"pxed-b","annotations":null},"spec":{"holderIdentity":"b"}}"#, 15),
        ] {
            let lease = read(garbage).unwrap();
            assert_eq!(lease.counts_for.as_secs(), seconds, "{garbage}");
            assert!(lease.announcement.is_err(), "{garbage}");
        }
    }
}
