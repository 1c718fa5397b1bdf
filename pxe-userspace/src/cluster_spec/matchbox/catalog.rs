//! Groups and profiles, and the choice of a group for a machine.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use arc_swap::ArcSwap;
use pxe_common::MacAddr;
use serde_json::{Map, Value};

use super::{
    super::finding::{Finding, SpecErrors},
    template::Template,
};
use crate::model::{finding::SpecFaults, inventory::AddressHashBuilder};

/// The labels of a machine: the query of its request, as Matchbox reads it. The first of two equal labels counts. `mac` is in the
/// usual spelling, and left out if it is not a hardware address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// Makes labels of a decoded query.
    #[must_use]
    pub fn new(query: &[(String, String)]) -> Self {
        let mut labels = BTreeMap::new();
        for (key, value) in query.iter().rev() {
            if key.eq_ignore_ascii_case("mac") {
                match value.parse::<MacAddr>() {
                    Ok(mac) => labels.insert(key.clone(), mac.to_string()),
                    Err(_) => labels.remove(key),
                };
            } else {
                labels.insert(key.clone(), value.clone());
            }
        }
        Self(labels)
    }

    /// Returns a label; empty if there is none.
    #[must_use]
    pub fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    /// Returns every label, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// The machines with certain labels, and the profile that they boot.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The name of its file without the extension.
    pub id: String,
    /// The labels that a machine must have; none in the default group.
    pub selector: BTreeMap<String, String>,
    /// The values for templates and `/metadata`.
    pub metadata: Map<String, Value>,
    /// The profile that its machines boot.
    pub profile: Arc<Profile>,
}

impl Group {
    /// Returns the machine that it selects by its MAC address.
    pub(super) fn mac(&self) -> Option<MacAddr> {
        self.selector.get("mac")?.parse().ok()
    }

    /// Returns `true` if a machine is in the group. A selector with an empty value also matches a missing label.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.selector.iter().all(|(key, value)| labels.get(key) == value)
    }
}

/// The files that machines boot, and the configurations that they fetch then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The name of its file without the extension, by which groups refer to it.
    pub id: String,
    /// The kernel and its companions; `None` for a profile without a script.
    pub boot: Option<NetBoot>,
    /// The Ignition config: the JSON of its file, unchanged.
    pub ignition: Option<Arc<str>>,
    /// The answer of `/generic`.
    pub generic: Option<Arc<Template>>,
    /// The answer of `/cloud`.
    pub cloud: Option<Arc<Template>>,
}

/// `boot` of a profile: text for the commands of iPXE and GRUB, passed on unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetBoot {
    /// A URL or a path, usually below `/assets/`.
    pub kernel: String,
    /// The same, after options of iPXE's `initrd`.
    pub initrd: Vec<String>,
    /// Kernel arguments.
    pub args: Vec<String>,
}

impl NetBoot {
    /// Returns the artifacts that it needs, relative to the artifacts directory.
    pub fn assets(&self) -> impl Iterator<Item = &str> {
        let words = std::iter::once(&self.kernel).chain(&self.initrd);
        words.filter_map(|word| word.split_ascii_whitespace().next_back()?.strip_prefix("/assets/"))
    }
}

/// The catalog in force. Readers load it for each request; a reload stores the next one.
pub type SharedCatalog = Arc<ArcSwap<Catalog>>;

/// Every group of a directory: an immutable snapshot, swapped whole when the directory changes.
#[derive(Debug, Default)]
pub struct Catalog {
    /// The groups, of which the first match counts.
    groups: Vec<Arc<Group>>,
    profiles: Vec<Arc<Profile>>,
    /// The indices of the groups that select a `mac`.
    by_mac: HashMap<MacAddr, Vec<usize>, AddressHashBuilder>,
    without_mac: Vec<usize>,
    /// The labels that groups select by, separated by commas.
    selectors: Arc<str>,
}

impl Catalog {
    /// Builds the snapshot. As in Matchbox, a group with more selectors comes before one with fewer. Among equal numbers, the one
    /// whose selectors are later in the alphabet comes first.
    #[must_use]
    pub fn new(mut groups: Vec<Arc<Group>>, profiles: Vec<Arc<Profile>>) -> Self {
        groups.sort_by_cached_key(|group| std::cmp::Reverse((group.selector.len(), selector_text(&group.selector))));
        let mut by_mac: HashMap<_, Vec<_>, _> = HashMap::default();
        let mut without_mac = Vec::new();
        for (index, group) in groups.iter().enumerate() {
            match group.mac() {
                Some(mac) => by_mac.entry(mac).or_default().push(index),
                None => without_mac.push(index),
            }
        }
        let selectors: BTreeSet<&str> =
            groups.iter().flat_map(|group| group.selector.keys()).map(String::as_str).collect();
        let selectors = Vec::from_iter(selectors).join(", ").into();
        Self { groups, profiles, by_mac, without_mac, selectors }
    }

    /// Returns every group, in the order in which they are tried.
    #[must_use]
    pub fn groups(&self) -> &[Arc<Group>] {
        &self.groups
    }

    /// Returns `true` if there is nothing to answer with.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.profiles.is_empty()
    }

    /// Returns every profile, sorted by id.
    #[must_use]
    pub fn profiles(&self) -> &[Arc<Profile>] {
        &self.profiles
    }

    /// Returns the labels that groups select by, separated by commas.
    #[must_use]
    pub fn selectors(&self) -> Arc<str> {
        Arc::clone(&self.selectors)
    }

    /// Returns the group of the machine with these labels.
    #[must_use]
    pub fn select(&self, labels: &Labels) -> Option<&Arc<Group>> {
        let named = labels.get("mac").parse().ok().and_then(|mac: MacAddr| self.by_mac.get(&mac));
        let first = |candidates: &[usize]| {
            let mut groups = candidates.iter().filter_map(|&index| Some((index, self.groups.get(index)?)));
            groups.find(|(_, group)| group.matches(labels))
        };
        let named = named.and_then(|candidates| first(candidates));
        let (_, group) = named.into_iter().chain(first(&self.without_mac)).min_by_key(|(index, _)| *index)?;
        Some(group)
    }
}

/// Returns the text by which Matchbox compares selectors.
pub(super) fn selector_text(selector: &BTreeMap<String, String>) -> String {
    let mut pairs: Vec<_> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.sort_unstable();
    pairs.join(",")
}

/// A directory, without the objects that have errors.
#[derive(Debug)]
pub struct LoadedCatalog {
    /// Its groups and profiles.
    pub catalog: Catalog,
    /// Its errors, and what they leave out.
    pub faults: SpecFaults,
    /// Likely mistakes that do not prevent serving.
    pub warnings: Vec<Finding>,
    /// A hash of the content of its files.
    pub(super) fingerprint: u64,
}

impl LoadedCatalog {
    /// Returns the catalog if it has no errors.
    ///
    /// # Errors
    ///
    /// All errors, in the order of files and lines.
    pub fn strictly(self) -> Result<Self, SpecErrors> {
        if self.faults.faults.is_empty() {
            return Ok(self);
        }
        let errors = self.faults.faults.into_iter().map(|fault| fault.finding).collect();
        Err(SpecErrors { errors, warnings: self.warnings })
    }
}
