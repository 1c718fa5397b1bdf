//! Watches against an API server that fails in every way.

mod fake;
mod leases;

use std::{fs, path::Path, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use self::fake::{Asked, Fake, Instead, until};
use super::{
    cache::{Cache, Restored},
    client::{ApiServer, Settings},
    objects::Objects,
    request::Limits,
    watch::Watches,
};
use crate::model::{
    api_object::ApiKind::{self, TalosCluster, TalosMachine, TalosWorker},
    api_state::ApiState,
};

const LIMITS: Limits = Limits {
    head: Duration::from_millis(500),
    opening: Duration::from_millis(500),
    part: Duration::from_millis(500),
    whole: Duration::from_secs(5),
    silence: Duration::from_millis(1500),
};

fn write_kubeconfig(path: &Path, port: u16, token: &str) {
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters:\n- name: a\n  cluster: {{server: \
         \"http://127.0.0.1:{port}\"}}\ncontexts:\n- name: a\n  context: {{cluster: a, user: u}}\nusers:\n- name: u\n  user: \
         {{token: {token}}}\n"
    );
    fs::write(path, text).unwrap();
}

/// A server and what watches it.
struct Rig {
    fake: Fake,
    server: Arc<ApiServer>,
    objects: Arc<Objects>,
    watches: Watches,
    directory: TempDir,
}

impl Rig {
    async fn start(fake: Fake, namespaces: &[&str]) -> Self {
        Self::start_with(fake, namespaces, Arc::default(), false).await
    }

    async fn start_with(fake: Fake, namespaces: &[&str], objects: Arc<Objects>, is_from_disk: bool) -> Self {
        Self::start_within(fake, namespaces, objects, is_from_disk, LIMITS).await
    }

    async fn start_within(
        fake: Fake,
        namespaces: &[&str],
        objects: Arc<Objects>,
        is_from_disk: bool,
        limits: Limits,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = directory.path().join("kubeconfig");
        write_kubeconfig(&kubeconfig, fake.port, "first");
        let namespaces = namespaces.iter().map(ToString::to_string).collect();
        let settings = Settings { kubeconfig: Some(kubeconfig), namespaces };
        let server = Arc::new(ApiServer::connect(settings).await.unwrap());
        let watches = Watches::start_with(&server, &objects, is_from_disk, limits);
        Self { fake, server, objects, watches, directory }
    }

    /// Starts with one machine, and waits until it is known.
    async fn with_machine() -> Self {
        Self::with_machine_and(LIMITS).await
    }

    async fn with_machine_and(limits: Limits) -> Self {
        let fake = Fake::start().await;
        fake.apply(TalosMachine, "ns", "m", json!({"spec": {"endpoint": "10.0.0.1"}}));
        fake.apply(TalosCluster, "ns", "c", json!({"spec": {}}));
        let rig = Self::start_within(fake, &[], Arc::default(), false, limits).await;
        until("the first lists", || rig.state().synced && rig.names() == ["c", "m"]).await;
        rig
    }

    fn state(&self) -> Arc<ApiState> {
        self.watches.state().load_full()
    }

    fn names(&self) -> Vec<String> {
        self.objects.all(None).iter().map(|observed| observed.object.key.name.to_string()).collect()
    }

    fn troubles(&self) -> String {
        self.state().troubles.iter().map(|trouble| format!("{}\n", trouble.message)).collect()
    }

    fn text(&self, name: &str) -> String {
        let all = self.objects.all(None);
        all.iter().find(|o| &*o.object.key.name == name).map(|o| o.object.text.to_string()).unwrap_or_default()
    }

    fn asks_about(&self, kind: ApiKind) -> usize {
        self.fake.asked().iter().filter(|asked| asked.is_about(kind)).count()
    }

    /// Lets the server fail in a way, waits for the trouble, lets it recover, and checks that nothing was lost and changes arrive.
    async fn bears(mut fault: impl FnMut(&Asked) -> Option<Instead> + Send + 'static, words: &str) {
        let rig = Self::with_machine().await;
        rig.fake.fail(move |asked| fault(asked));
        until(words, || rig.troubles().contains(words)).await;
        assert_eq!(rig.names(), ["c", "m"], "{words}");
        assert!(rig.state().synced && rig.state().troubles.iter().all(|trouble| !trouble.nothing_known));
        rig.fake.recover();
        rig.fake.apply(TalosMachine, "ns", "n", json!({"spec": {}}));
        until("the change after the fault", || rig.names() == ["c", "m", "n"]).await;
        until("the end of the trouble", || rig.troubles().is_empty()).await;
    }
}

fn status(code: u16, message: &str) -> Option<Instead> {
    Some(Instead::Status(code, "", json!({"kind": "Status", "code": code, "message": message}).to_string()))
}

#[tokio::test]
async fn objects_are_listed_and_followed() {
    let rig = Rig::with_machine().await;
    let text: Value = serde_json::from_str(&rig.text("m")).unwrap();
    let expected = json!({
        "apiVersion": "talos.alperen.cloud/v1alpha1", "kind": "TalosMachine",
        "metadata": {"name": "m", "namespace": "ns"}, "spec": {"endpoint": "10.0.0.1"},
    });
    assert_eq!(text, expected);
    let before = rig.objects.changes().borrow().spec;
    let condition = json!([{"type": "Ready", "status": "True", "reason": "R", "message": "m"}]);
    rig.fake.apply(
        TalosMachine,
        "ns",
        "m",
        json!({"spec": {"endpoint": "10.0.0.1"}, "status": {"conditions": condition}}),
    );
    let key = rig.objects.all(Some(TalosMachine))[0].object.key.clone();
    until("the condition", || rig.objects.get(&key).unwrap().condition("Ready").is_some()).await;
    assert_eq!(rig.objects.changes().borrow().spec, before, "a status is no change of the spec");
    let finalizing =
        json!({"metadata": {"deletionTimestamp": "2026-01-02T00:00:00Z"}, "spec": {"endpoint": "10.0.0.1"}});
    rig.fake.apply(TalosMachine, "ns", "m", finalizing);
    until("the deletion's begin", || rig.objects.get(&key).unwrap().is_being_deleted).await;
    rig.fake.delete(TalosMachine, "ns", "m");
    until("the deletion", || rig.names() == ["c"]).await;
    rig.fake.delete(TalosCluster, "ns", "c");
    until("the last deletion", || rig.names().is_empty()).await;
    assert!(rig.troubles().is_empty());
}

#[tokio::test]
async fn long_list_comes_in_parts() {
    let fake = Fake::start().await;
    for number in 0..1201 {
        fake.apply(TalosMachine, "ns", &format!("m{number:04}"), json!({"spec": {}}));
    }
    let rig = Rig::start(fake, &[]).await;
    until("the list", || rig.objects.count(TalosMachine, None) == 1201).await;
    let lists = rig.fake.asked();
    assert_eq!(lists.iter().filter(|asked| asked.is_about(TalosMachine) && !asked.is_watch()).count(), 3);
}

#[tokio::test]
async fn namespaces_are_watched_one_by_one() {
    let fake = Fake::start().await;
    for namespace in ["a", "b", "c"] {
        fake.apply(TalosMachine, namespace, namespace, json!({"spec": {}}));
    }
    let rig = Rig::start(fake, &["a", "c"]).await;
    until("both namespaces", || rig.names() == ["a", "c"]).await;
    rig.fake.delete(TalosMachine, "a", "a");
    rig.fake.apply(TalosMachine, "b", "b2", json!({"spec": {}}));
    rig.fake.apply(TalosMachine, "c", "c2", json!({"spec": {}}));
    until("the changes", || rig.names() == ["c", "c2"]).await;
    assert!(rig.fake.asked().iter().all(|asked| asked.path.contains("/namespaces/")));
}

#[tokio::test]
async fn closed_connections_are_borne() {
    Rig::bears(|_| Some(Instead::Close), "cannot be reached").await;
}

#[tokio::test]
async fn silent_server_is_borne() {
    Rig::bears(|_| Some(Instead::Silence), "does not answer").await;
}

#[tokio::test]
async fn stalled_list_is_borne() {
    let fault = |asked: &Asked| match asked.is_watch() {
        true => status(410, "too old"),
        false => Some(Instead::Stall("{\"kind\":\"TalosMachineList\",".to_owned())),
    };
    Rig::bears(fault, "does not answer").await;
}

#[tokio::test]
async fn stalled_watch_is_given_up() {
    let rig = Rig::with_machine().await;
    let mut stalled = 0;
    rig.fake.fail(move |asked| {
        stalled += usize::from(asked.is_watch());
        (asked.is_watch() && stalled <= 4).then(|| Instead::Stall("\n".to_owned()))
    });
    rig.fake.apply(TalosMachine, "ns", "n", json!({"spec": {}}));
    until("the change, by another watch", || rig.names() == ["c", "m", "n"]).await;
}

#[tokio::test]
async fn refusals_are_borne() {
    for (code, words) in
        [(500, "fails: status 500: etcd"), (503, "status 503"), (429, "asks for patience"), (302, "status 302")]
    {
        Rig::bears(move |_| status(code, "etcd is sick"), words).await;
    }
}

#[tokio::test]
async fn broken_answers_are_borne() {
    let page = |text: &str| Some(Instead::Status(200, "", text.to_owned()));
    let texts = [
        "",
        "{}",
        "<html>Welcome</html>",
        "{\"kind\":\"TalosMachineList\"",
        "{\"kind\":\"PodList\",\"metadata\":{\"resourceVersion\":\"1\"},\"items\":[]}",
        "{\"kind\":\"TalosMachineList\",\"metadata\":{\"resourceVersion\":\"\"},\"items\":[]}",
        "{\"kind\":\"TalosMachineList\",\"metadata\":{\"resourceVersion\":\"1\"},\"items\":7}",
    ];
    for text in texts {
        let fault = move |asked: &Asked| match (asked.is_about(TalosMachine), asked.is_watch()) {
            (false, _) => None,
            (true, true) => status(410, "too old"),
            (true, false) => page(text),
        };
        Rig::bears(fault, "gives no usable answer").await;
    }
}

/// Each part leads to another one, never to the same: two tokens by turns, or one more each time, without or with objects.
#[tokio::test]
async fn lists_without_an_end_are_given_up() {
    for (items, words) in
        [(json!([]), "gives no usable answer"), (json!([{}, {"metadata": {"name": ""}}]), "than pxed takes")]
    {
        let mut parts = 0_u64;
        let fault = move |asked: &Asked| {
            parts += 1;
            let list = json!({"kind": "TalosMachineList", "items": items,
                "metadata": {"resourceVersion": "1", "continue": if items[0].is_null() { parts % 2 } else { parts }.to_string()}});
            match (asked.is_about(TalosMachine), asked.is_watch()) {
                (false, _) => None,
                (true, true) => status(410, "too old"),
                (true, false) => Some(Instead::Status(200, "", list.to_string())),
            }
        };
        Rig::bears(fault, words).await;
    }
}

#[tokio::test]
async fn cut_answers_are_borne() {
    Rig::bears(|_| Some(Instead::Cut("{\"kind\":".to_owned())), "broke off").await;
}

#[tokio::test]
async fn unreadable_events_lead_to_a_new_list() {
    for line in ["{", "{\"type\":\"WHAT\",\"object\":{}}", "null", "{\"type\":\"BOOKMARK\",\"object\":{}}"] {
        let rig = Rig::with_machine().await;
        let mut is_first = true;
        rig.fake.fail(move |asked| {
            let is_meant = asked.is_about(TalosMachine) && asked.is_watch() && is_first;
            is_first &= !is_meant;
            is_meant.then(|| Instead::Status(200, "", format!("{line}\n")))
        });
        rig.fake.apply(TalosMachine, "ns", "n", json!({"spec": {}}));
        until("the new list", || rig.names() == ["c", "m", "n"]).await;
    }
}

#[tokio::test]
async fn objects_without_usable_names_are_left_out_alone() {
    let rig = Rig::with_machine().await;
    let metadata = |metadata: Value| json!({"metadata": metadata, "spec": {}});
    for odd in [
        json!({}),
        json!(7),
        metadata(json!({"name": 5, "namespace": "ns"})),
        metadata(json!({"name": "x\ny", "namespace": "ns"})),
        metadata(json!({"name": "", "namespace": "ns"})),
        metadata(json!({"name": "a/b", "namespace": "ns"})),
        metadata(json!({"name": "x".repeat(300), "namespace": "ns"})),
        metadata(json!({"name": "x"})),
    ] {
        rig.fake.event(TalosMachine, "ADDED", odd.clone());
        rig.fake.event(TalosMachine, "DELETED", odd);
    }
    rig.fake.apply(TalosMachine, "ns", "n", json!({"spec": {}}));
    until("the right one", || rig.names() == ["c", "m", "n"]).await;
    assert!(rig.troubles().is_empty(), "{}", rig.troubles());
}

#[tokio::test]
async fn expired_watch_is_no_trouble() {
    let rig = Rig::with_machine().await;
    rig.fake.expire();
    rig.fake.delete(TalosMachine, "ns", "m");
    until("the new list", || rig.asks_about(TalosMachine) >= 4).await;
    until("the deletion", || rig.names() == ["c"] || rig.troubles().contains("lists no")).await;
    until("the deletion, looked at twice", || rig.names() == ["c"]).await;
    until("no trouble", || rig.troubles().is_empty()).await;
}

#[tokio::test]
async fn list_that_is_suddenly_empty_is_looked_at_twice() {
    let rig = Rig::with_machine().await;
    rig.fake.apply(TalosWorker, "ns", "w", json!({"spec": {}}));
    until("the worker", || rig.names().len() == 3).await;
    rig.fake.lose();
    until("the first look", || rig.troubles().contains("lists no TalosMachine any more")).await;
    assert!(rig.names().contains(&"m".to_owned()));
    until("the second look", || rig.names().is_empty()).await;
    until("no trouble", || rig.troubles().is_empty()).await;
}

#[tokio::test]
async fn list_that_is_empty_only_once_changes_nothing() {
    let rig = Rig::with_machine().await;
    let mut empty = 1;
    rig.fake.fail(move |asked| {
        if !asked.is_about(TalosMachine) || asked.is_watch() || empty == 0 {
            return None;
        }
        empty -= 1;
        let text = "{\"kind\":\"TalosMachineList\",\"metadata\":{\"resourceVersion\":\"1\"},\"items\":[]}";
        Some(Instead::Status(200, "", text.to_owned()))
    });
    let changes = rig.objects.changes().borrow().spec;
    rig.watches.list_again();
    until("the first look", || rig.troubles().contains("lists no TalosMachine")).await;
    until("the second look", || rig.troubles().is_empty()).await;
    assert_eq!((rig.names(), rig.objects.changes().borrow().spec), (vec!["c".to_owned(), "m".to_owned()], changes));
}

#[tokio::test]
async fn list_is_read_again_while_its_watch_pauses() {
    let rig = Rig::with_machine().await;
    rig.fake.fail(|asked| {
        asked.is_about(TalosMachine).then(|| {
            if asked.is_watch() {
                return Instead::Status(429, "retry-after: 1000\r\n", String::new());
            }
            let item = json!({"metadata": {"name": "n", "namespace": "ns"}, "spec": {}});
            let list = json!({"kind": "TalosMachineList", "metadata": {"resourceVersion": "1"}, "items": [item]});
            Instead::Status(200, "", list.to_string())
        })
    });
    until("the pause", || !rig.troubles().is_empty()).await;
    rig.watches.list_again();
    until("the list", || rig.names() == ["c", "n"]).await;
}

#[tokio::test]
async fn missing_kind_and_forbidden_kind_leave_the_others() {
    let forbid = |code| move |asked: &Asked| asked.is_about(TalosWorker).then(|| status(code, "no").unwrap());
    for (code, words) in
        [(404, "install the CustomResourceDefinitions"), (403, "grant get, list and watch on talosworkers")]
    {
        let fake = Fake::start().await;
        fake.fail(forbid(code));
        fake.apply(TalosMachine, "ns", "m", json!({"spec": {}}));
        let rig = Rig::start(fake, &[]).await;
        tokio::time::timeout(Duration::from_secs(10), rig.watches.settled()).await.unwrap();
        until("the others", || rig.names() == ["m"] && rig.troubles().contains(words)).await;
        let state = rig.state();
        assert!(!state.synced && state.troubles.len() == 1 && state.troubles[0].nothing_known, "{state:?}");
        rig.fake.recover();
        rig.fake.apply(TalosWorker, "ns", "w", json!({"spec": {}}));
        until("the worker", || rig.names() == ["w", "m"] && rig.state().synced).await;
        // Later, what was known stays.
        rig.fake.fail(forbid(code));
        until("the trouble", || rig.troubles().contains(words)).await;
        assert!(rig.names() == ["w", "m"] && !rig.state().troubles[0].nothing_known);
    }
}

#[tokio::test]
async fn expired_token_is_read_again() {
    let rig = Rig::with_machine().await;
    rig.fake.fail(|asked| (asked.token != "second").then(|| status(401, "Unauthorized").unwrap()));
    until("the refusal", || rig.troubles().contains("does not accept the credentials")).await;
    assert_eq!(rig.names(), ["c", "m"]);
    write_kubeconfig(&rig.directory.path().join("kubeconfig"), rig.fake.port, "second");
    rig.fake.apply(TalosMachine, "ns", "n", json!({"spec": {}}));
    until("the change, with the new token", || rig.names() == ["c", "m", "n"]).await;
    until("no trouble", || rig.troubles().is_empty()).await;
}

#[tokio::test]
async fn server_that_is_away_is_not_asked_all_the_time() {
    let rig = Rig::with_machine().await;
    rig.fake.fail(|_| status(500, "sick"));
    let before = rig.fake.asked().len();
    until("the trouble", || !rig.troubles().is_empty()).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    // Four kinds, each with pauses of 0.25 to 0.5, 0.5 to 1 and 1 to 2 s.
    let asked = rig.fake.asked().len() - before;
    assert!(asked <= 4 * 5, "{asked} requests");
    assert_eq!(rig.state().troubles.len(), 1, "one trouble of the server, not one of each kind: {}", rig.troubles());
}

#[tokio::test]
async fn requests_wait_as_long_as_the_server_asks() {
    let rig = Rig::with_machine().await;
    let mut is_busy = true;
    rig.fake.fail(move |asked| {
        let is_meant = asked.is_about(TalosMachine) && std::mem::replace(&mut is_busy, false);
        is_meant.then(|| Instead::Status(429, "retry-after: 1\r\n", String::new()))
    });
    rig.watches.list_again();
    let begun = std::time::Instant::now();
    until("the pause", || !rig.troubles().is_empty()).await;
    until("the end of the pause", || rig.troubles().is_empty()).await;
    assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn server_that_comes_later_is_found() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let rig = Rig::start(Fake::on(listener), &[]).await;
    drop(rig.fake);
    until("the trouble", || !rig.watches.state().load().troubles.is_empty()).await;
    let watches = rig.watches;
    let listener = loop {
        // The former listener closes when its task has ended.
        match TcpListener::bind(("127.0.0.1", port)).await {
            Ok(listener) => break listener,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let fake = Fake::on(listener);
    fake.apply(TalosMachine, "ns", "m", json!({"spec": {}}));
    until("the machine", || rig.objects.count(TalosMachine, None) == 1).await;
    until("every kind", || watches.state().load().synced).await;
}

#[tokio::test]
async fn objects_on_disk_stand_in_until_the_server_answers() {
    let rig = Rig::with_machine().await;
    let state = tempfile::tempdir().unwrap();
    let cache = Cache::new(state.path());
    cache.save(&rig.server, &rig.objects).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(cache.path()).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let objects = Arc::new(Objects::default());
    assert_eq!(cache.restore(&rig.server, &objects), Restored::Objects(2));
    let texts = |objects: &Objects| objects.all(None).iter().map(|o| o.object.clone()).collect::<Vec<_>>();
    assert_eq!(texts(&objects), texts(&rig.objects));

    let fake = rig.fake;
    fake.fail(|_| Some(Instead::Close));
    let away = Rig::start_with(fake, &[], objects, true).await;
    until("the trouble", || !away.troubles().is_empty()).await;
    let state = away.state();
    assert!(state.from_disk && !state.synced && state.troubles.iter().all(|trouble| !trouble.nothing_known));
    assert_eq!(away.names(), ["c", "m"]);
    away.fake.recover();
    away.fake.delete(TalosMachine, "ns", "m");
    away.fake.apply(TalosMachine, "ns", "n", json!({"spec": {}}));
    until("the real objects", || away.names() == ["c", "n"] && away.state().synced).await;
    assert!(!away.state().from_disk);
}

#[tokio::test]
async fn damaged_file_is_set_aside() {
    let rig = Rig::with_machine().await;
    let state = tempfile::tempdir().unwrap();
    let cache = Cache::new(state.path());
    let restore = || {
        let objects = Objects::default();
        (cache.restore(&rig.server, &objects), objects.all(None).len())
    };
    assert_eq!(restore(), (Restored::Nothing, 0));
    cache.save(&rig.server, &rig.objects).unwrap();
    let good = fs::read_to_string(cache.path()).unwrap();
    let damaged =
        [String::new(), good[..20].to_owned(), "\0".repeat(100), good.replace("\"version\":1", "\"version\":9")];
    for text in damaged {
        fs::write(cache.path(), &text).unwrap();
        let (Restored::Unusable(reason), 0) = restore() else { panic!("{text}") };
        assert!(reason.contains("objects.json.bad-") && !cache.path().exists(), "{reason}");
        let names = fs::read_dir(state.path()).unwrap().map(|entry| entry.unwrap().path());
        let newest = names.max().unwrap();
        assert_eq!(fs::read_to_string(newest).unwrap(), text);
    }
    // Objects that are whole by themselves are in force, wherever the damage is behind the head.
    let first = good.find("},{\"kind\"").unwrap() + 1;
    let head = good.find("\"objects\":[").unwrap();
    for length in head..good.len() {
        fs::write(cache.path(), &good[..length]).unwrap();
        match restore() {
            (Restored::Salvaged(count, reason), there) => {
                assert!(length >= first && count == there && count >= 1, "{length}: {reason}");
                assert!(reason.contains("objects.json.bad-") && !cache.path().exists(), "{reason}");
            }
            (restored, 0) => assert!(length < first && matches!(restored, Restored::Unusable(_)), "{length}"),
            other => panic!("{length}: {other:?}"),
        }
    }
    for at in (0..good.len()).step_by(3) {
        let mut zeroed = good.clone().into_bytes();
        zeroed[at..(at + 2).min(good.len())].fill(0);
        fs::write(cache.path(), &zeroed).unwrap();
        let (restored, there) = restore();
        assert_eq!(there >= 1, matches!(restored, Restored::Salvaged(..)), "{at}: {restored:?}");
        assert!(there >= 1 || at <= head + 12, "{at}: {restored:?}");
    }
    // What belongs to another fleet is neither used nor destroyed.
    fs::write(cache.path(), good.replace("127.0.0.1", "10.9.9.9")).unwrap();
    let (Restored::Unusable(reason), 0) = restore() else { panic!() };
    assert!(reason.contains("10.9.9.9") && cache.path().exists());
    // A FIFO is not waited for.
    fs::remove_file(cache.path()).unwrap();
    nix::unistd::mkfifo(&cache.path(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(restore(), (Restored::Unusable(_), 0)));
}

#[tokio::test]
async fn everything_is_read_once_for_commands() {
    let rig = Rig::with_machine().await;
    let settings = Settings { kubeconfig: Some(rig.directory.path().join("kubeconfig")), namespaces: Vec::new() };
    let objects = super::read_all(settings.clone()).await.unwrap();
    assert_eq!(
        objects.iter().map(|object| object.key.to_string()).collect::<Vec<_>>(),
        ["TalosCluster ns/c", "TalosMachine ns/m"]
    );
    rig.fake.fail(|asked| asked.is_about(TalosWorker).then(|| status(403, "no").unwrap()));
    let error = super::read_all(settings).await.unwrap_err().to_string();
    assert!(error.contains("grant get, list and watch on talosworkers"), "{error}");
}
