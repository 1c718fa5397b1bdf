//! The checks before pxed starts.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use crate::{
    artifacts::{self, FetchCommand, Missing, Problem, Severity, Store},
    cluster_spec::matchbox::Catalog,
    dataplane::{Addressing, Dataplane},
    model::inventory::Inventory,
    net::interface::Interface,
};

/// The problems before the start.
pub(super) struct Problems {
    /// Those that keep pxed from starting.
    pub(super) fatal: Vec<String>,
    /// Those that may pass while pxed runs, which serves the rest: an address that another host has at the moment, or an interface that is not
    /// there while others are.
    pub(super) passing: Vec<String>,
}

/// The artifacts directory, and how files get there.
pub(super) struct Files {
    pub(super) store: Arc<Store>,
    /// The command line of `pxed fetch` for this spec and directory.
    pub(super) command: FetchCommand,
    /// Set if pxed fetches nothing by itself.
    pub(super) is_offline: bool,
}

/// Returns every problem with interfaces, and with files that the machines will request. A missing file of a Matchbox profile is
/// only a warning, since such directories often contain unused profiles.
///
/// A problem of one cluster does not keep the machines of another from being served, unless `is_strict`.
pub(super) fn check(
    inventory: &Inventory,
    catalog: &Catalog,
    files: &Files,
    addressing: &Addressing,
    is_strict: bool,
) -> Problems {
    let store = &files.store;
    let serves_others = !is_strict && is_any_served(inventory, addressing);
    let (passing, interfaces): (Vec<_>, Vec<_>) =
        Dataplane::check(inventory, addressing).into_iter().partition(|error| serves_others || error.may_pass());
    let passing = passing.iter().map(ToString::to_string).collect();
    let mut problems: Vec<_> = interfaces.iter().map(ToString::to_string).collect();
    let needed: BTreeSet<_> = catalog
        .profiles()
        .iter()
        .flat_map(|profile| Some((&profile.id, profile.boot.as_ref()?)))
        .flat_map(|(id, boot)| boot.assets().map(move |path| (path, id)))
        .collect();
    match store.check() {
        // The profiles may boot only files that other servers have.
        Err(error) if inventory.machines().is_empty() && needed.is_empty() => tracing::debug!("{error}"),
        Err(error) => problems.push(error.to_string()),
        Ok(()) => {
            let (errors, warnings) = files.missing(inventory);
            if !is_strict && is_any_complete(inventory, store, &errors) {
                errors.iter().for_each(|missing| tracing::error!("{missing}"));
            } else {
                problems.extend(errors.iter().map(ToString::to_string));
            }
            warnings.iter().for_each(|missing| tracing::warn!("{missing}"));
            for (path, profile) in needed {
                if let Err(refusal) = store.open(path.as_bytes()) {
                    let (file, reason) = (store.root().join(path), store.reason(path.as_bytes(), refusal));
                    tracing::warn!("{}: {reason}: Matchbox profile {profile:?} boots it", file.display());
                }
            }
        }
    }
    Problems { fatal: problems, passing }
}

/// Returns `true` if this host has an interface of the spec with an address to serve at.
fn is_any_served(inventory: &Inventory, addressing: &Addressing) -> bool {
    let sites: BTreeSet<_> = inventory.machines().iter().map(|machine| &*machine.site).collect();
    let mut sites = sites.into_iter();
    sites.any(|site| {
        let found = Interface::read(&site.interface);
        found.is_ok_and(|found| found.up && addressing.on(&found, &[site.address]).1.is_empty())
    })
}

impl Files {
    /// Returns the artifacts of the inventory that are missing and do not come by themselves: errors and warnings.
    pub(super) fn missing(&self, inventory: &Inventory) -> (Vec<Missing>, Vec<Missing>) {
        let Self { store, command, is_offline } = self;
        let plan = artifacts::plan(inventory, store.stubs());
        let comes = |missing: &Missing| {
            let is_fetched = matches!(missing.problem, Problem::Absent | Problem::Empty | Problem::Altered);
            !is_offline && missing.wanted.source.is_some() && is_fetched
        };
        let missing = artifacts::missing(&plan, store, command).into_iter().filter(|missing| !comes(missing));
        missing.partition(|missing| missing.severity() == Severity::Error)
    }

    /// Logs what is missing and does not come by itself, after the start.
    pub(super) fn report(&self, inventory: &Inventory) {
        let (errors, warnings) = self.missing(inventory);
        errors.iter().for_each(|missing| tracing::error!("{missing}"));
        warnings.iter().for_each(|missing| tracing::warn!("{missing}"));
    }
}

/// Returns `true` if some machine lacks none of the files that are certainly needed.
fn is_any_complete(inventory: &Inventory, store: &Store, errors: &[Missing]) -> bool {
    let lacking: HashSet<&str> = errors.iter().map(|missing| &*missing.wanted.path).collect();
    artifacts::is_any_complete(inventory, store.stubs(), |path| lacking.contains(path))
}
