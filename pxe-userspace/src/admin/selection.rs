//! The machines of a list: filters, order and pages. Pure.

use std::{cmp::Ordering, fmt::Write as _, net::Ipv4Addr, str::FromStr, sync::Arc, time::SystemTime};

use arrayvec::ArrayString;
use pxe_common::MacAddr;
use serde::Deserialize;

use crate::{
    journal::{Stage, Stages, Summary},
    model::inventory::{Inventory, Machine, Role},
};

/// The query of the list of machines.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    stage: Option<String>,
    cluster: Option<String>,
    role: Option<String>,
    stuck: Option<bool>,
    q: Option<String>,
    sort: Option<String>,
    cursor: Option<String>,
    limit: Option<u32>,
    events: Option<u32>,
}

/// A validated [`Filter`].
#[derive(Debug)]
pub(super) struct Selection {
    stages: Option<Stages>,
    clusters: Option<Vec<String>>,
    roles: Option<Vec<Role>>,
    is_stuck: Option<bool>,
    text: Option<Needle>,
    order: Order,
    cursor: Option<Cursor>,
    limit: usize,
    /// The number of events that are shown of each machine.
    pub(super) events: usize,
}

impl TryFrom<Filter> for Selection {
    type Error = String;

    fn try_from(filter: Filter) -> Result<Self, String> {
        let Filter { stage, cluster, role, stuck, q, sort, cursor, limit, events } = filter;
        let order = sort.as_deref().map_or(Ok(Order::default()), str::parse)?;
        let cursor = cursor.as_deref().map(Cursor::parse).transpose()?;
        // A page has the order of the one before.
        let order = cursor.as_ref().map_or(order, |Cursor(order, _)| *order);
        let stages = stage
            .as_deref()
            .map(|names| each(names, "stage", &Stages::names(), |name| name.parse().ok()))
            .transpose()?;
        let roles = role.as_deref().map(|names| each(names, "role", "control-plane, worker", role_of)).transpose()?;
        Ok(Self {
            stages: stages.map(|stages: Vec<Stages>| stages.into_iter().fold(Stages::default(), Stages::and)),
            clusters: cluster.map(|names| names.split(',').map(ToOwned::to_owned).collect()),
            roles,
            is_stuck: stuck,
            text: q.filter(|text| !text.is_empty()).as_deref().map(Needle::new),
            order,
            cursor,
            limit: limit.map_or(usize::MAX, |limit| limit as usize),
            events: events.map_or(0, |events| events as usize),
        })
    }
}

/// Reads a list of names with commas between them.
fn each<T>(names: &str, field: &str, known: &str, read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
    let read = |name| read(name).ok_or_else(|| format!("{field}: there is no such {field}; the {field}s are {known}"));
    names.split(',').map(read).collect()
}

fn role_of(name: &str) -> Option<Role> {
    match name {
        "control-plane" => Some(Role::ControlPlane),
        "worker" => Some(Role::Worker),
        _ => None,
    }
}

impl Selection {
    /// Returns `true` if the filters let a machine through.
    pub(super) fn wants(&self, machine: &Machine, summary: &Summary) -> bool {
        self.wants_state(summary.stage, || summary.is_stuck)
            && self.clusters.as_ref().is_none_or(|clusters| clusters.iter().any(|name| **name == *machine.cluster))
            && self.roles.as_ref().is_none_or(|roles| roles.contains(&machine.role))
            && self.text.as_ref().is_none_or(|text| text.is_in(machine))
    }

    /// Returns `true` if the filters let a machine through that is at this stage, and stuck or not.
    pub(super) fn wants_state(&self, stage: Stage, is_stuck: impl FnOnce() -> bool) -> bool {
        self.stages.is_none_or(|stages| stages.contain(stage))
            && self.is_stuck.is_none_or(|wanted| wanted == is_stuck())
    }

    /// Returns the row of a machine.
    pub(super) fn row(&self, index: usize, machine: &Machine, summary: &Summary) -> Row {
        Row { key: self.order.by.key(index, machine, summary), mac: machine.mac, index }
    }

    /// Returns the page of these rows, which the filters have let through.
    pub(super) fn page(&self, mut rows: Vec<Row>, inventory: &Inventory) -> Page {
        let Order { by, is_descending } = self.order;
        let compare = |one: &Row, other: &Row| {
            let order = (&one.key, one.mac).cmp(&(&other.key, other.mac));
            if is_descending { order.reverse() } else { order }
        };
        // The rows come in the order of the spec.
        if by != By::Spec || is_descending {
            rows.sort_unstable_by(compare);
        }
        let start = self.cursor.as_ref().map_or(0, |Cursor(_, last)| {
            let index = inventory.machines().iter().position(|machine| machine.mac == last.mac);
            let key = match (by, index) {
                // A reload may have moved it.
                (By::Spec, Some(index)) => Key::Number(index as u64),
                _ => last.key.clone(),
            };
            let last = Row { key, ..last.clone() };
            rows.partition_point(|row| compare(row, &last) != Ordering::Greater)
        });
        let total = rows.len();
        let rest = rows.get(start..).unwrap_or_default();
        let shown = rest.get(..self.limit).unwrap_or(rest);
        let next = (shown.len() < rest.len()).then(|| shown.last()).flatten();
        let next = next.map(|last| Cursor(self.order, last.clone()).text());
        Page { machines: shown.iter().map(|row| row.index).collect(), total, next }
    }
}

/// One page of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// The machines, by their positions in the inventory.
    pub(super) machines: Vec<usize>,
    /// The number of machines on all pages.
    pub(super) total: usize,
    /// The cursor of the next page.
    pub(super) next: Option<String>,
}

/// A machine of a list, with its place in the order.
#[derive(Clone, Debug)]
pub(super) struct Row {
    key: Key,
    mac: MacAddr,
    index: usize,
}

/// The value that a list is sorted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Number(u64),
    Text(Arc<str>),
}

/// The field that a list is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum By {
    #[default]
    Spec,
    Mac,
    Address,
    Cluster,
    Hostname,
    Role,
    Stage,
    StageSince,
    Boots,
    LastErrorAt,
}

impl By {
    const ALL: [(&'static str, Self); 10] = [
        ("spec", Self::Spec),
        ("mac", Self::Mac),
        ("address", Self::Address),
        ("cluster", Self::Cluster),
        ("hostname", Self::Hostname),
        ("role", Self::Role),
        ("stage", Self::Stage),
        ("stage_since", Self::StageSince),
        ("boots", Self::Boots),
        ("last_error_at", Self::LastErrorAt),
    ];

    fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, by)| *by == self).map_or("spec", |(name, _)| name)
    }

    fn is_text(self) -> bool {
        matches!(self, Self::Cluster | Self::Hostname)
    }

    fn key(self, index: usize, machine: &Machine, summary: &Summary) -> Key {
        Key::Number(match self {
            Self::Spec => index as u64,
            Self::Mac => 0,
            Self::Address => u32::from(machine.address).into(),
            Self::Cluster => return Key::Text(Arc::clone(&machine.cluster)),
            Self::Hostname => return Key::Text(machine.hostname.clone().unwrap_or_default()),
            Self::Role => (machine.role == Role::Worker).into(),
            Self::Stage => summary.stage as u64,
            Self::StageSince => milliseconds(summary.stage_since),
            Self::Boots => summary.boots.into(),
            Self::LastErrorAt => summary.last_error_at.map_or(0, milliseconds),
        })
    }
}

/// Returns the fields that a list is sorted by.
pub(super) fn sorts() -> impl Iterator<Item = &'static str> {
    By::ALL.into_iter().map(|(name, _)| name)
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The order of a list. Machines with the same value are in the order of their MAC addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Order {
    by: By,
    is_descending: bool,
}

impl FromStr for Order {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (is_descending, name) = text.strip_prefix('-').map_or((false, text), |name| (true, name));
        match By::ALL.into_iter().find(|(known, _)| *known == name) {
            Some((_, by)) => Ok(Self { by, is_descending }),
            None => {
                let names = By::ALL.map(|(name, _)| name).join(", ");
                Err(format!("sort: a list is sorted by {names}, or in the reverse order with - in front of the name"))
            }
        }
    }
}

/// The order of a page, and its last machine, after which the next one begins.
#[derive(Debug)]
struct Cursor(Order, Row);

/// Returns the pattern of cursors: the order, the MAC address of the last machine and the value that it is sorted by.
pub(super) fn cursors() -> String {
    let names = |is_text: bool| {
        let names = By::ALL.into_iter().filter(|(_, by)| by.is_text() == is_text).map(|(name, _)| name);
        names.collect::<Vec<_>>().join("|")
    };
    let mac = "[0-9a-f]{12}";
    format!("^-?(({})\\.{mac}\\.[0-9]{{1,19}}|({})\\.{mac}\\.[^\\n]*)$", names(false), names(true))
}

impl Cursor {
    fn text(&self) -> String {
        let Self(order, Row { key, mac: MacAddr(mac), index: _ }) = self;
        let mut text = format!("{}{}.", if order.is_descending { "-" } else { "" }, order.by.name());
        // Writing to a string cannot fail.
        mac.iter().for_each(|byte| _ = write!(text, "{byte:02x}"));
        match key {
            Key::Number(number) => _ = write!(text, ".{number}"),
            Key::Text(key) => _ = write!(text, ".{key}"),
        }
        text
    }

    fn parse(text: &str) -> Result<Self, String> {
        let read = || {
            let mut parts = text.splitn(3, '.');
            let (sort, mac, key) = (parts.next()?, parts.next()?, parts.next()?);
            let order: Order = sort.parse().ok()?;
            let key = if order.by.is_text() { Key::Text(key.into()) } else { Key::Number(key.parse().ok()?) };
            Some(Self(order, Row { key, mac: mac.parse().ok()?, index: 0 }))
        };
        let wrong = "cursor: it is not one that this list gave out; begin without it";
        read().ok_or_else(|| wrong.to_owned())
    }
}

/// The text that `q` looks for.
#[derive(Debug)]
struct Needle {
    text: String,
    /// The same as digits of a MAC address, if it may be a part of one.
    digits: Option<String>,
}

impl Needle {
    fn new(text: &str) -> Self {
        let is_mac = |character: char| character.is_ascii_hexdigit() || matches!(character, ':' | '-' | '.');
        // An IP address is not a MAC address spelled with dots.
        let has_groups = !text.contains('.') || text.split('.').all(|group| group.len() == 4);
        let digits = (has_groups && text.chars().all(is_mac))
            .then(|| text.chars().filter(char::is_ascii_hexdigit).collect::<String>().to_ascii_lowercase())
            .filter(|digits| !digits.is_empty());
        Self { text: text.to_lowercase(), digits }
    }

    fn is_in(&self, machine: &Machine) -> bool {
        contains(&machine.cluster, &self.text)
            || machine.hostname.as_ref().is_some_and(|name| contains(name, &self.text))
            || is_in_address(machine.address, &self.text)
            || self.digits.as_ref().is_some_and(|digits| machine.macs().any(|mac| is_in_mac(mac, digits)))
    }
}

/// Returns `true` if a text contains another, which is in lower case.
fn contains(text: &str, part: &str) -> bool {
    if text.is_ascii() {
        text.as_bytes().windows(part.len()).any(|window| window.eq_ignore_ascii_case(part.as_bytes()))
    } else {
        text.to_lowercase().contains(part)
    }
}

fn is_in_address(address: Ipv4Addr, part: &str) -> bool {
    let mut text = ArrayString::<15>::new();
    write!(text, "{address}").is_ok() && text.contains(part)
}

fn is_in_mac(MacAddr(mac): MacAddr, digits: &str) -> bool {
    let mut text = ArrayString::<12>::new();
    mac.iter().all(|byte| write!(text, "{byte:02x}").is_ok()) && text.contains(digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{
        Deadline,
        policy::Cycle,
        samples::{at, machine},
    };

    fn selection(query: &[(&str, &str)]) -> Result<Selection, String> {
        let mut filter = Filter::default();
        for (name, value) in query {
            let value = Some((*value).to_owned());
            match *name {
                "stage" => filter.stage = value,
                "cluster" => filter.cluster = value,
                "role" => filter.role = value,
                "stuck" => filter.stuck = value.map(|value| value == "true"),
                "q" => filter.q = value,
                "sort" => filter.sort = value,
                "cursor" => filter.cursor = value,
                _ => filter.limit = value.map(|limit| limit.parse().unwrap()),
            }
        }
        Selection::try_from(filter)
    }

    fn fleet() -> Inventory {
        let machines = (1..=9).map(|number| Machine {
            cluster: if number % 2 == 0 { "even" } else { "odd" }.into(),
            role: if number < 4 { Role::ControlPlane } else { Role::Worker },
            hostname: (number != 5).then(|| format!("Node-{number}").into()),
            ..machine(number)
        });
        Inventory::new(machines.map(Arc::new).collect())
    }

    /// The state of the machine at this position.
    fn summary(index: usize) -> Summary {
        Summary {
            stage: Stage::ALL[index % 3],
            stage_since: at(100.0 - index as f64),
            deadline: Deadline::default(),
            is_stuck: index % 3 == 1,
            boots: (index / 2) as u32,
            cycle: Cycle::Unknown,
            last_error_at: (index == 4).then(|| at(1.0)),
        }
    }

    fn rows(selection: &Selection, inventory: &Inventory) -> Vec<Row> {
        let machines = inventory.machines().iter().enumerate();
        let wanted = machines.filter(|(index, machine)| selection.wants(machine, &summary(*index)));
        wanted.map(|(index, machine)| selection.row(index, machine, &summary(index))).collect()
    }

    #[test]
    fn stuck_machines_are_chosen_and_left_out() {
        let inventory = fleet();
        let chosen = |query: &[(&str, &str)]| {
            let selection = selection(query).unwrap();
            rows(&selection, &inventory).iter().map(|row| row.index).collect::<Vec<_>>()
        };
        assert_eq!(chosen(&[("stuck", "true")]), [1, 4, 7]);
        assert_eq!(chosen(&[("stuck", "false")]), [0, 2, 3, 5, 6, 8]);
        assert_eq!(chosen(&[("stuck", "true"), ("role", "control-plane")]), [1]);
    }

    /// Every order, in pages of every size: all machines once, in one order.
    #[test]
    fn pages_have_each_machine_once_in_every_order() {
        let inventory = fleet();
        for (name, sign) in By::ALL.iter().flat_map(|(name, _)| [(*name, ""), (*name, "-")]) {
            let sort = format!("{sign}{name}");
            let whole = selection(&[("sort", &sort)]).unwrap();
            let whole = whole.page(rows(&whole, &inventory), &inventory);
            assert_eq!((whole.machines.len(), whole.total, &whole.next), (9, 9, &None), "{sort}");
            for limit in ["1", "2", "4", "8", "9", "10"] {
                let (mut cursor, mut seen) = (None::<String>, Vec::new());
                loop {
                    let mut query = vec![("sort", sort.as_str()), ("limit", limit)];
                    query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
                    let part = selection(&query).unwrap();
                    let page = part.page(rows(&part, &inventory), &inventory);
                    assert_eq!(page.total, 9, "{sort}");
                    seen.extend(page.machines);
                    cursor = page.next;
                    if cursor.is_none() {
                        break;
                    }
                }
                assert_eq!(seen, whole.machines, "{sort} in pages of {limit}");
            }
        }
    }

    #[test]
    fn order_is_that_of_the_field() {
        let inventory = fleet();
        for (sort, expected) in [
            ("spec", [0, 1, 2, 3, 4, 5, 6, 7, 8]),
            ("-address", [8, 7, 6, 5, 4, 3, 2, 1, 0]),
            ("stage_since", [8, 7, 6, 5, 4, 3, 2, 1, 0]),
            ("cluster", [1, 3, 5, 7, 0, 2, 4, 6, 8]),
            ("hostname", [4, 0, 1, 2, 3, 5, 6, 7, 8]),
            ("stage", [0, 3, 6, 1, 4, 7, 2, 5, 8]),
            ("-last_error_at", [4, 8, 7, 6, 5, 3, 2, 1, 0]),
            ("boots", [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        ] {
            let selection = selection(&[("sort", sort)]).unwrap();
            assert_eq!(selection.page(rows(&selection, &inventory), &inventory).machines, expected, "{sort}");
        }
    }

    #[test]
    fn page_goes_on_after_a_reload_that_moved_or_removed_its_last_machine() {
        let first = selection(&[("limit", "3")]).unwrap();
        let inventory = fleet();
        let cursor = first.page(rows(&first, &inventory), &inventory).next.unwrap();
        let next = selection(&[("limit", "3"), ("cursor", &cursor)]).unwrap();
        let mut machines = inventory.machines().to_vec();
        machines.insert(0, Arc::new(machine(70)));
        let moved = Inventory::new(machines.clone());
        assert_eq!(next.page(rows(&next, &moved), &moved).machines, [4, 5, 6]);
        machines.retain(|kept| kept.mac != machine(3).mac);
        let removed = Inventory::new(machines);
        assert!(next.page(rows(&next, &removed), &removed).machines.contains(&4));
    }

    #[test]
    fn filters_let_through_what_they_name() {
        let inventory = fleet();
        for (query, expected) in [
            (&[("cluster", "even")][..], &[1, 3, 5, 7][..]),
            (&[("cluster", "even,odd"), ("role", "control-plane")], &[0, 1, 2]),
            (&[("role", "worker"), ("cluster", "odd")], &[4, 6, 8]),
            (&[("cluster", "typo")], &[]),
            (&[("q", "")], &[0, 1, 2, 3, 4, 5, 6, 7, 8]),
            (&[("q", "NODE-3")], &[2]),
            (&[("q", "10.0.0.7")], &[6]),
            (&[("q", "00:00:04")], &[3]),
            (&[("q", "52-54-00-00-00-08")], &[7]),
            (&[("q", "5254.0000.0009")], &[8]),
            (&[("q", "ODD")], &[0, 2, 4, 6, 8]),
            (&[("q", "nothing")], &[]),
            (&[("q", ":")], &[]),
            (&[("q", "\u{130}")], &[]),
        ] {
            let selection = selection(query).unwrap();
            assert_eq!(selection.page(rows(&selection, &inventory), &inventory).machines, expected, "{query:?}");
        }
        let [first, second, ..] = Stage::ALL.map(Stage::name);
        let both = selection(&[("stage", &format!("{first},{second}"))]).unwrap();
        assert_eq!(both.page(rows(&both, &inventory), &inventory).total, 6);
    }

    #[test]
    fn mistakes_are_named() {
        for (query, expected) in [
            (&[("stage", "wayting")][..], "stage: there is no such stage; the stages are"),
            (&[("stage", "")], "stage: there is no such stage"),
            (&[("stage", "failed,")], "stage: there is no such stage"),
            (&[("role", "Worker")], "role: there is no such role; the roles are control-plane, worker"),
            (&[("sort", "age")], "sort: a list is sorted by spec, mac"),
            (&[("sort", "--mac")], "sort: "),
            (&[("sort", "")], "sort: "),
            (&[("cursor", "")], "cursor: "),
            (&[("cursor", "spec.525400000001")], "cursor: "),
            (&[("cursor", "spec.5254000000.1")], "cursor: "),
            (&[("cursor", "spec.525400000001.-1")], "cursor: "),
            (&[("cursor", "age.525400000001.0")], "cursor: "),
            (&[("cursor", "boots.525400000001.x")], "cursor: "),
        ] {
            let error = selection(query).unwrap_err();
            assert!(error.contains(expected), "{query:?}: {error}");
        }
    }
}
