//! The clients that asked boot HTTP and that no journal follows, with what they asked and what came of it.
//!
//! With a Matchbox directory there is no list of machines: a machine is known only when it asks, by the labels of its query. So
//! this table is what `pxed status` and `pxed explain` can tell about it. Anybody can ask, with any label, so the table is bounded,
//! in total and for each address. When it is full, the visitor that asked longest ago is forgotten.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use pxe_common::MacAddr;

/// The most visitors that are remembered.
pub const VISITOR_LIMIT: usize = 4096;

/// The most visitors that are remembered of one address.
const LIMIT_PER_ADDRESS: usize = 512;

/// The most requests that are remembered of one visitor. Equal requests in a row count as one.
const REQUEST_LIMIT: usize = 8;

/// The most bytes of a request or a label that are remembered.
const TEXT_LIMIT: usize = 240;

/// The outcome of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The answer was sent.
    Served,
    /// No group of the Matchbox directory selects the client.
    NoGroup {
        /// The labels that groups select by, separated by commas; empty if no group has a selector.
        selectors: Arc<str>,
    },
    /// The profile has nothing for this route.
    NoConfig {
        /// The field that the profile lacks.
        field: &'static str,
    },
    /// A template names a value that neither the group nor the request has.
    NoValue {
        /// The name in the template.
        name: String,
    },
    /// The machine is one of the cluster spec, which has nothing for this route.
    NoConfigInSpec,
    /// The file is missing or cannot be sent.
    NoFile {
        /// The reason.
        reason: String,
    },
    /// What was asked for is a machine's of the cluster spec, and this address is not the machine's.
    NotItsAddress {
        /// The address that asked.
        from: IpAddr,
    },
    /// The path belongs to no route.
    NoRoute,
}

impl Outcome {
    /// Returns the name of the outcome in the API.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::NoGroup { .. } => "no-group",
            Self::NoConfig { .. } => "no-config",
            Self::NoValue { .. } => "no-value",
            Self::NoConfigInSpec => "no-config-in-spec",
            Self::NoFile { .. } => "no-file",
            Self::NotItsAddress { .. } => "not-its-address",
            Self::NoRoute => "no-route",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Served => f.write_str("served"),
            Self::NoGroup { selectors } if selectors.is_empty() => {
                f.write_str("not in the cluster spec, and no group of a Matchbox directory selects it")
            }
            Self::NoGroup { selectors } => write!(f, "no group matched; the groups look at {selectors}"),
            Self::NoConfig { field } => write!(f, "the profile has no {field}"),
            Self::NoValue { name } => {
                write!(f, "the template needs {name}, which neither the group's metadata nor the request has")
            }
            Self::NoConfigInSpec => f.write_str("a machine of the cluster spec has no such configuration"),
            Self::NoFile { reason } => f.write_str(reason),
            Self::NotItsAddress { from } => write!(f, "asked from {from}, which is not its address"),
            Self::NoRoute => f.write_str("there is no such page"),
        }
    }
}

/// The group that selected a client, and the profile that it boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// The group's name.
    pub group: Arc<str>,
    /// The profile's name.
    pub profile: Arc<str>,
}

/// One request of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// The time of the answer.
    pub at: SystemTime,
    /// The source address.
    pub address: IpAddr,
    /// The `mac` of the query.
    pub mac: Option<MacAddr>,
    /// The `uuid` of the query.
    pub uuid: Option<String>,
    /// The path and the query.
    pub request: String,
    /// The status of the answer.
    pub status: u16,
    /// The outcome.
    pub outcome: Outcome,
    /// The group that selected the client.
    pub matched: Option<Match>,
}

/// A request that is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The time of the last answer.
    pub at: SystemTime,
    /// The path and the query, shortened.
    pub request: Arc<str>,
    /// The status of the answer.
    pub status: u16,
    /// The outcome.
    pub outcome: Outcome,
    /// The number of equal requests in a row.
    pub times: u32,
}

/// A client that asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// Its `mac`, if it ever sent one.
    pub mac: Option<MacAddr>,
    /// Its `uuid`, if it ever sent one.
    pub uuid: Option<Arc<str>>,
    /// The address that it asked from last.
    pub address: IpAddr,
    /// The time of its first request since it is remembered.
    pub first_seen: SystemTime,
    /// The time of its last request.
    pub last_seen: SystemTime,
    /// The group that selected it last.
    pub matched: Option<Match>,
    /// Its last requests, the oldest first.
    pub requests: VecDeque<Request>,
}

/// The name by which a visitor is found again: the best that it told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Name {
    Mac(MacAddr),
    Uuid(Arc<str>),
    Address(IpAddr),
}

impl Visitor {
    fn name(&self) -> Name {
        match (self.mac, &self.uuid) {
            (Some(mac), _) => Name::Mac(mac),
            (None, Some(uuid)) => Name::Uuid(Arc::clone(uuid)),
            (None, None) => Name::Address(self.address),
        }
    }
}

impl fmt::Display for Visitor {
    /// Writes the name by which the visitor is found: its MAC address, else its UUID, else its address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Name::Mac(mac) => mac.fmt(f),
            Name::Uuid(uuid) => uuid.fmt(f),
            Name::Address(address) => address.fmt(f),
        }
    }
}

/// The visitors, in the order of their last requests.
#[derive(Debug, Default)]
pub struct Visitors {
    /// By the number of their last request, so that the first has asked longest ago.
    by_turn: BTreeMap<u64, Visitor>,
    by_name: HashMap<Name, u64>,
    by_address: HashMap<IpAddr, BTreeSet<u64>>,
    turn: u64,
}

impl Visitors {
    /// Remembers a request.
    ///
    /// A request without labels, as for a file, belongs to the visitor that asked last from the same address. One that
    /// asked without labels first is the visitor that then sends its labels.
    pub fn record(&mut self, visit: Visit) {
        let Visit { at, address, mac, uuid, request, status, outcome, matched } = visit;
        let uuid: Option<Arc<str>> = uuid.filter(|uuid| !uuid.is_empty()).map(|uuid| shortened(&uuid).into());
        let named = match (mac, &uuid) {
            (Some(mac), _) => Some(Name::Mac(mac)),
            (None, Some(uuid)) => Some(Name::Uuid(Arc::clone(uuid))),
            (None, None) => None,
        };
        let known = match &named {
            Some(name) => self.by_name.get(name).or_else(|| self.by_name.get(&Name::Address(address))).copied(),
            None => self.by_address.get(&address).and_then(|turns| turns.last()).copied(),
        };
        let mut visitor = known.and_then(|turn| self.forget(turn)).unwrap_or_else(|| Visitor {
            mac: None,
            uuid: None,
            address,
            first_seen: at,
            last_seen: at,
            matched: None,
            requests: VecDeque::new(),
        });
        visitor.address = address;
        visitor.last_seen = at;
        visitor.mac = mac.or(visitor.mac);
        visitor.uuid = uuid.or(visitor.uuid);
        visitor.matched = matched.or(visitor.matched);
        remember(&mut visitor.requests, Request { at, request: shortened(&request).into(), status, outcome, times: 1 });
        self.make_room(address);
        self.turn += 1;
        self.by_name.insert(visitor.name(), self.turn);
        self.by_address.entry(address).or_default().insert(self.turn);
        self.by_turn.insert(self.turn, visitor);
    }

    /// Returns the visitors, the last one first.
    pub fn iter(&self) -> impl Iterator<Item = &Visitor> {
        self.by_turn.values().rev()
    }

    /// Returns the visitor of this MAC address, UUID or IP address.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Visitor> {
        let by_name = |name: Name| self.by_name.get(&name).copied();
        let by_mac = name.parse().ok().and_then(|mac| by_name(Name::Mac(mac)));
        let by_address = || self.by_address.get(&name.parse().ok()?)?.last().copied();
        let turn = by_mac.or_else(|| by_name(Name::Uuid(name.into()))).or_else(by_address);
        match turn {
            Some(turn) => self.by_turn.get(&turn),
            // A visitor with a MAC address has its UUID only beside it.
            None => self.iter().find(|visitor| visitor.uuid.as_deref() == Some(name)),
        }
    }

    fn make_room(&mut self, address: IpAddr) {
        let of_address = self.by_address.get(&address);
        let crowded = of_address.filter(|turns| turns.len() >= LIMIT_PER_ADDRESS).and_then(|turns| turns.first());
        if let Some(&turn) = crowded {
            self.forget(turn);
        }
        if self.by_turn.len() >= VISITOR_LIMIT
            && let Some((&turn, _)) = self.by_turn.first_key_value()
        {
            self.forget(turn);
        }
    }

    fn forget(&mut self, turn: u64) -> Option<Visitor> {
        let visitor = self.by_turn.remove(&turn)?;
        self.by_name.remove(&visitor.name());
        if let Some(turns) = self.by_address.get_mut(&visitor.address) {
            turns.remove(&turn);
            if turns.is_empty() {
                self.by_address.remove(&visitor.address);
            }
        }
        Some(visitor)
    }
}

fn remember(requests: &mut VecDeque<Request>, request: Request) {
    if let Some(last) = requests.back_mut()
        && (&last.request, last.status, &last.outcome) == (&request.request, request.status, &request.outcome)
    {
        last.at = request.at;
        last.times = last.times.saturating_add(1);
        return;
    }
    if requests.len() == REQUEST_LIMIT {
        requests.pop_front();
    }
    requests.push_back(request);
}

fn shortened(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_LIMIT)).unwrap_or(text)
}

/// The visitors, shared by those who record them and those who show them.
#[derive(Clone, Debug, Default)]
pub struct SharedVisitors(Arc<Mutex<Visitors>>);

impl SharedVisitors {
    /// Locks the table. To be held only briefly: boot HTTP waits for it.
    pub fn lock(&self) -> MutexGuard<'_, Visitors> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn visit(second: u64, host: u8, mac: Option<u8>, request: &str) -> Visit {
        Visit {
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(second),
            address: [10, 0, 0, host].into(),
            mac: mac.map(|last| MacAddr([2, 0, 0, 0, 0, last])),
            uuid: None,
            request: request.to_owned(),
            status: 200,
            outcome: Outcome::Served,
            matched: None,
        }
    }

    fn requests(visitor: &Visitor) -> Vec<(&str, u32)> {
        visitor.requests.iter().map(|request| (&*request.request, request.times)).collect()
    }

    #[test]
    fn visitor_is_the_one_that_sends_its_labels() {
        let mut visitors = Visitors::default();
        for (second, host, mac, request) in [
            (1, 7, None, "/boot.ipxe"),
            (2, 7, Some(1), "/ipxe?mac=1"),
            (3, 7, None, "/assets/kernel"),
            (4, 8, None, "/assets/kernel"),
            (5, 7, None, "/assets/kernel"),
        ] {
            visitors.record(visit(second, host, mac, request));
        }
        let all: Vec<_> = visitors.iter().map(|visitor| (visitor.to_string(), requests(visitor))).collect();
        let first = vec![("/boot.ipxe", 1), ("/ipxe?mac=1", 1), ("/assets/kernel", 2)];
        let expected = [("02:00:00:00:00:01".to_owned(), first), ("10.0.0.8".to_owned(), vec![("/assets/kernel", 1)])];
        assert_eq!(all, expected);
        for name in ["02-00-00-00-00-01", "0200.0000.0001", "10.0.0.7"] {
            assert_eq!(visitors.find(name).map(Visitor::to_string).as_deref(), Some("02:00:00:00:00:01"), "{name}");
        }
        assert!(visitors.find("02:00:00:00:00:02").is_none() && visitors.find("").is_none());
    }

    #[test]
    fn machine_that_moves_to_another_address_stays_one_visitor() {
        let mut visitors = Visitors::default();
        visitors.record(visit(1, 7, Some(1), "/ipxe?mac=1"));
        visitors.record(Visit { uuid: Some("u-1".into()), ..visit(2, 9, Some(1), "/ipxe?mac=1&uuid=u-1") });
        assert_eq!(visitors.iter().count(), 1);
        assert!(visitors.find("10.0.0.7").is_none());
        assert_eq!(visitors.find("u-1"), visitors.find("10.0.0.9"));
        // A machine behind the same address is another one.
        visitors.record(Visit { uuid: Some("u-2".into()), ..visit(3, 9, None, "/ignition?uuid=u-2") });
        assert_eq!(visitors.iter().map(Visitor::to_string).collect::<Vec<_>>(), ["u-2", "02:00:00:00:00:01"]);
        assert_eq!(visitors.find("u-2").unwrap().requests.len(), 1);
    }

    #[test]
    fn match_stays_until_another_one() {
        let mut visitors = Visitors::default();
        let matched = |group: &str| Some(Match { group: group.into(), profile: "p".into() });
        visitors.record(Visit { matched: matched("a"), ..visit(1, 7, Some(1), "/ipxe") });
        visitors.record(visit(2, 7, None, "/assets/kernel"));
        assert_eq!(visitors.find("10.0.0.7").unwrap().matched, matched("a"));
        visitors.record(Visit { matched: matched("b"), ..visit(3, 7, Some(1), "/ignition") });
        assert_eq!(visitors.find("10.0.0.7").unwrap().matched, matched("b"));
    }

    #[test]
    fn one_address_cannot_drive_out_the_others() {
        let mut visitors = Visitors::default();
        visitors.record(visit(0, 7, Some(1), "/ipxe"));
        for number in 0..2 * VISITOR_LIMIT as u32 {
            let [_, _, high, low] = number.to_be_bytes();
            let mac = Some(MacAddr([6, 0, 0, 0, high, low]));
            visitors.record(Visit { mac, ..visit(1, 66, None, &"x".repeat(10_000)) });
        }
        assert_eq!(visitors.iter().count(), LIMIT_PER_ADDRESS + 1);
        assert!(visitors.find("10.0.0.7").is_some());
        assert!(visitors.iter().all(|visitor| visitor.requests.iter().all(|r| r.request.len() <= TEXT_LIMIT)));
    }

    #[test]
    fn visitor_that_asked_longest_ago_is_forgotten() {
        let mut visitors = Visitors::default();
        for number in 0..=VISITOR_LIMIT as u32 {
            let [_, _, high, low] = number.to_be_bytes();
            let address = [10, 0, high, low].into();
            visitors.record(Visit { address, ..visit(u64::from(number), 0, None, "/boot.ipxe") });
            // Always among the last.
            visitors.record(visit(u64::from(number), 7, Some(1), "/ipxe"));
        }
        assert_eq!(visitors.iter().count(), VISITOR_LIMIT);
        assert!(visitors.find("10.0.0.0").is_none() && visitors.find("02:00:00:00:00:01").is_some());
    }

    proptest! {
        /// The three indices agree after every request.
        #[test]
        fn indices_agree(visits in prop::collection::vec((0u8..4, prop::option::of(0u8..4), prop::option::of(0u8..3)), 0..60)) {
            let mut visitors = Visitors::default();
            for (host, mac, uuid) in visits {
                let uuid = uuid.map(|uuid| if uuid == 0 { String::new() } else { format!("u-{uuid}") });
                visitors.record(Visit { uuid, ..visit(1, host, mac, "/ipxe") });
                let Visitors { by_turn, by_name, by_address, .. } = &visitors;
                prop_assert_eq!(by_turn.len(), by_name.len());
                prop_assert_eq!(by_turn.len(), by_address.values().map(BTreeSet::len).sum::<usize>());
                for (turn, visitor) in by_turn {
                    prop_assert_eq!(by_name.get(&visitor.name()), Some(turn));
                    prop_assert!(by_address[&visitor.address].contains(turn));
                }
            }
        }
    }
}
