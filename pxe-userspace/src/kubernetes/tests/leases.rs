//! This node's Lease, against other writers and a server that is gone.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::json;

use super::{
    LIMITS, Rig,
    fake::{Fake, Instead, until},
    write_kubeconfig,
};
use crate::{
    kubernetes::{ApiServer, Farewell, Leases, Settings, request::Limits},
    model::{api_object::ApiKind::TalosMachine, node_lease::Announcement},
};

const NAME: &str = "pxed-a";

/// A server and two processes of one node.
struct Node {
    fake: Fake,
    server: Arc<ApiServer>,
    former: Leases,
    successor: Leases,
    _directory: tempfile::TempDir,
}

impl Node {
    async fn start() -> Self {
        let fake = Fake::start().await;
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = directory.path().join("kubeconfig");
        write_kubeconfig(&kubeconfig, fake.port, "token");
        let settings = Settings { kubeconfig: Some(kubeconfig), ..Settings::default() };
        let server = Arc::new(ApiServer::connect(settings).await.unwrap());
        let (former, successor) = (Leases::new(Arc::clone(&server), "a"), Leases::new(Arc::clone(&server), "a"));
        assert_ne!(former.instance(), successor.instance());
        Self { fake, server, former, successor, _directory: directory }
    }

    fn requests(&self, method: &str) -> usize {
        self.fake.asked().iter().filter(|asked| asked.method == method).count()
    }
}

async fn renew(leases: &Leases) {
    let said = Announcement::new(leases.instance(), &BTreeMap::new(), &[]);
    leases.renew(&said, jiff::Timestamp::now()).await.unwrap();
}

#[tokio::test]
async fn lease_is_deleted_by_the_process_that_renewed_it_last() {
    let node = Node::start().await;
    renew(&node.former).await;
    renew(&node.former).await;
    assert_eq!(node.former.delete().await, Ok(Farewell::Deleted));
    assert_eq!(node.fake.lease(NAME), None);
    assert_eq!((node.requests("DELETE"), node.requests("GET")), (1, 0), "it takes one request");
    assert_eq!(node.former.delete().await, Ok(Farewell::Deleted), "it is gone already");
}

#[tokio::test]
async fn lease_of_a_successor_stays() {
    let node = Node::start().await;
    renew(&node.former).await;
    renew(&node.successor).await;
    let before = node.fake.lease(NAME);
    assert!(before.is_some());
    assert_eq!(node.former.delete().await, Ok(Farewell::Successor));
    assert_eq!(node.fake.lease(NAME), before);
    // A successor that made it again, so that another one has the name.
    renew(&node.former).await;
    node.fake.delete_lease(NAME);
    renew(&node.successor).await;
    assert_eq!(node.former.delete().await, Ok(Farewell::Successor));
    assert_eq!(node.successor.delete().await, Ok(Farewell::Deleted));
    // A process that has not renewed it yet leaves that of the one before.
    renew(&node.former).await;
    assert_eq!(Leases::new(Arc::clone(&node.server), "a").delete().await, Ok(Farewell::Successor));
}

#[tokio::test]
async fn lease_that_others_have_changed_is_deleted_all_the_same() {
    let node = Node::start().await;
    renew(&node.former).await;
    node.fake.change_lease(NAME, json!({"metadata": {"labels": {"by": "hand"}}}));
    assert_eq!(node.former.delete().await, Ok(Farewell::Deleted));
    assert_eq!(node.fake.lease(NAME), None);
    // Annotations with garbage are nobody's.
    renew(&node.former).await;
    node.fake.change_lease(NAME, json!({"metadata": {"annotations": {"pxed.dev/node": 7}}}));
    assert_eq!(node.former.delete().await, Ok(Farewell::Successor));
    assert!(node.fake.lease(NAME).is_some());
}

#[tokio::test]
async fn lease_that_changes_all_the_time_and_answers_that_are_none_are_given_up() {
    let node = Node::start().await;
    renew(&node.former).await;
    node.fake.fail(|asked| {
        let text = json!({"message": "Precondition failed"}).to_string();
        (asked.method == "DELETE").then_some(Instead::Status(409, "", text))
    });
    let error = node.former.delete().await.unwrap_err();
    assert!(error.contains("others change the Lease all the time"), "{error}");
    assert!(node.requests("DELETE") <= 5);
    node.fake.fail(|asked| (asked.method == "GET").then(|| Instead::Status(200, "", "<html>".to_owned())));
    node.fake.change_lease(NAME, json!({}));
    let error = node.former.delete().await.unwrap_err();
    assert!(error.contains("no Lease"), "{error}");
}

/// Watches that hang look like watches without news. A Lease that is not answered puts them in doubt.
#[tokio::test]
async fn lease_without_an_answer_puts_the_watches_in_doubt() {
    let limits = Limits { silence: Duration::from_secs(3600), ..LIMITS };
    let rig = Rig::with_machine_and(limits).await;
    until("the watches", || rig.fake.asked().iter().filter(|asked| asked.is_watch()).count() >= 4).await;
    // From now on nothing is answered, and what is open stays open.
    rig.fake.freeze();
    let leases = Leases::new(Arc::clone(&rig.server), "a");
    assert!(rig.troubles().is_empty(), "{}", rig.troubles());
    let error = leases.list().await.unwrap_err();
    assert!(error.contains("no answer within"), "{error}");
    until("the trouble", || rig.troubles().contains("does not answer")).await;
    assert_eq!(rig.names(), ["c", "m"]);
    rig.fake.recover();
    rig.fake.apply(TalosMachine, "ns", "n", json!({"spec": {}}));
    until("the change", || rig.names() == ["c", "m", "n"]).await;
    until("the end of the trouble", || rig.troubles().is_empty()).await;
}

#[test]
fn watch_that_hangs_shows_within_twenty_seconds() {
    let Limits { opening, silence, .. } = Limits::default();
    assert!(silence + opening < Duration::from_secs(30));
    assert!(silence <= Duration::from_secs(20));
}
