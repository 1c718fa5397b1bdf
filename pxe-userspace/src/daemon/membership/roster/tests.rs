use super::*;

fn lease(node: &str, version: &str, server: u8) -> NodeLease {
    let sites = Sites::from([(Ipv4Addr::new(10, 0, 0, 254), Ipv4Addr::new(10, 0, 0, server))]);
    NodeLease {
        node: node.into(),
        version: version.into(),
        counts_for: NodeLease::DURATION,
        announcement: Ok(Announcement { instance: "1".to_owned(), sites, problems: Vec::new() }),
    }
}

/// A roster, and a clock that moves on by this number of seconds before each list.
struct Observer {
    roster: Roster,
    now: Instant,
}

impl Observer {
    fn new() -> Self {
        Self { roster: Roster::default(), now: Instant::now() }
    }

    fn after(&mut self, seconds: u64, leases: &[NodeLease]) -> Vec<Edge> {
        self.now += Duration::from_secs(seconds);
        self.roster.observe(leases, self.now)
    }

    /// Lists every two seconds, for this number of seconds.
    fn for_seconds(&mut self, seconds: u64, leases: impl Fn(u64) -> Vec<NodeLease>) -> Vec<Edge> {
        (0..seconds / 2).flat_map(|round| self.after(2, &leases(round))).collect()
    }

    fn living(&self) -> Vec<String> {
        self.roster.peers().filter(|node| node.is_alive).map(|node| node.name.to_string()).collect()
    }
}

#[test]
fn node_lives_while_its_lease_changes_whatever_time_is_in_it() {
    let mut observer = Observer::new();
    for clock in ["2026-11-26T19:00", "2026-11-26T20:00", "1970-01-01T00:00", "9999-12-31T23:59", ""] {
        let leases = |round| vec![lease("b", &format!("{clock}:{round}"), 3)];
        observer.for_seconds(20, leases);
        assert_eq!(observer.living(), ["b"], "{clock}");
    }
}

#[test]
fn node_that_stops_renewing_dies_within_its_time_and_not_before() {
    let mut observer = Observer::new();
    assert_eq!(observer.after(0, &[lease("b", "1", 3)]), [Edge::Joined("b".into())]);
    assert_eq!(observer.for_seconds(14, |_| vec![lease("b", "1", 3)]), []);
    assert_eq!(observer.living(), ["b"]);
    assert_eq!(observer.after(2, &[lease("b", "1", 3)]), [Edge::Died("b".into(), NodeLease::DURATION)]);
    assert_eq!(observer.living(), Vec::<String>::new());
    // Its address is known still, for the machines that chose it.
    let known: Vec<_> = observer.roster.peers().flat_map(|node| node.sites.values().copied()).collect();
    assert_eq!(known, [Ipv4Addr::new(10, 0, 0, 3)]);
    assert_eq!(observer.after(2, &[lease("b", "2", 3)]), [Edge::Joined("b".into())]);
}

#[test]
fn node_that_deletes_its_lease_is_gone_at_once_and_remembered_for_ten_minutes() {
    let mut observer = Observer::new();
    observer.after(0, &[lease("b", "1", 3)]);
    assert_eq!(observer.after(2, &[]), [Edge::Left("b".into())]);
    observer.for_seconds(590, |_| vec![]);
    assert_eq!((observer.living().len(), observer.roster.peers().count()), (0, 1));
    observer.for_seconds(20, |_| vec![]);
    assert_eq!(observer.roster.peers().count(), 0);
}

#[test]
fn nodes_stay_as_they_were_while_the_api_server_is_away() {
    let mut observer = Observer::new();
    observer.after(0, &[lease("b", "1", 3), lease("c", "1", 4)]);
    observer.for_seconds(20, |round| vec![lease("b", &format!("2 {round}"), 3), lease("c", "1", 4)]);
    assert_eq!(observer.living(), ["b"]);
    // An hour without a list. The others could not renew either, so they get their time again.
    assert_eq!(observer.after(3_600, &[lease("b", "2 9", 3), lease("c", "1", 4)]), []);
    assert_eq!(observer.living(), ["b"]);
    observer.for_seconds(8, |_| vec![lease("b", "2 9", 3)]);
    assert_eq!(observer.living(), ["b"]);
    observer.for_seconds(4, |_| vec![lease("b", "2 9", 3)]);
    assert_eq!(observer.living(), Vec::<String>::new());
}

#[test]
fn peers_of_the_last_run_live_until_they_had_their_time() {
    let mut observer = Observer::new();
    observer.after(0, &[lease("b", "1", 3), lease("c", "1", 4)]);
    observer.after(2, &[lease("b", "2", 3)]);
    let saved: Vec<Node> = observer.roster.peers().cloned().collect();
    let again = Roster::new(saved.clone());
    assert_eq!(again.peers().cloned().collect::<Vec<_>>(), saved);
    let mut observer = Observer { roster: again, now: Instant::now() };
    observer.after(0, &[lease("b", "2", 3)]);
    observer.for_seconds(14, |_| vec![lease("b", "2", 3)]);
    assert_eq!(observer.living(), ["b"]);
    observer.after(2, &[lease("b", "2", 3)]);
    assert_eq!(observer.living(), Vec::<String>::new());
}

#[test]
fn duration_of_a_lease_has_bounds() {
    for (says, dies_within) in [(0, 8), (1, 8), (4_000_000_000, 64)] {
        let odd = |_| vec![NodeLease { counts_for: Duration::from_secs(says), ..lease("b", "1", 3) }];
        let mut observer = Observer::new();
        observer.for_seconds(dies_within, odd);
        assert_eq!(observer.living(), Vec::<String>::new(), "{says}");
    }
}

#[test]
fn node_that_cannot_be_understood_lives_and_serves_nothing() {
    let mut observer = Observer::new();
    let garbled = NodeLease { announcement: Err("no annotation".to_owned()), ..lease("b", "1", 3) };
    let edges = observer.after(0, &[garbled]);
    let problems = Edge::Problems("b".into(), vec!["no annotation".to_owned()]);
    assert_eq!(edges, [Edge::Joined("b".into()), problems]);
    assert!(observer.roster.peers().all(|node| node.is_alive && node.sites.is_empty()));
    assert_eq!(observer.after(2, &[lease("b", "2", 3)]).len(), 2);
}

#[test]
fn addresses_that_a_node_had_are_remembered() {
    let mut observer = Observer::new();
    observer.after(0, &[lease("b", "1", 3)]);
    assert_eq!(observer.after(2, &[lease("b", "2", 9)]), [Edge::Moved("b".into())]);
    let formerly =
        |observer: &Observer| observer.roster.peers().flat_map(|node| node.formerly.clone()).collect::<Vec<_>>();
    assert_eq!(formerly(&observer), [Ipv4Addr::new(10, 0, 0, 3)]);
    observer.for_seconds(610, |round| vec![lease("b", &format!("3 {round}"), 9)]);
    assert!(!formerly(&observer).contains(&Ipv4Addr::new(10, 0, 0, 3)));
}

#[test]
fn thousands_of_leases_are_not_followed() {
    let flood: Vec<_> = (0..5_000).map(|number| lease(&format!("n{number}"), "1", 3)).collect();
    let mut observer = Observer::new();
    observer.after(0, &flood);
    assert_eq!((observer.roster.peers().count(), observer.roster.surplus()), (MOST_PEERS, 5_000 - MOST_PEERS));
}
