//! The choice of machines by cluster, stage and role.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::machines::{Machine, State};
use crate::{
    cli::{
        exit::{Ended, Exit},
        shown::harmless,
    },
    cluster_spec::misspelling::by_distance,
    journal::{Stage, Stages, Step},
};

/// The most names that an error lists.
const NAMED: usize = 12;

/// The name of the state that no stage is.
pub(super) const STUCK: &str = "stuck";

/// The roles, under the names that the API has for them.
const ROLES: [&str; 2] = ["control-plane", "worker"];

/// The options that select machines. Several names of one option are alternatives.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct SelectorArgs {
    /// Only machines of these clusters
    #[arg(long, value_name = "CLUSTER", value_delimiter = ',')]
    pub(super) cluster: Vec<String>,
    /// Only machines at these stages (never-seen, asking, offered, addressed, loader, ipxe, script, kernel, initramfs, running, up, disk,
    /// failed, or as pxed status names them), or that are stuck
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub(super) stage: Vec<String>,
    /// Only machines with these roles: control-plane, worker
    #[arg(long, value_name = "ROLE", value_delimiter = ',')]
    pub(super) role: Vec<String>,
}

impl SelectorArgs {
    /// Returns whether all machines are selected.
    pub(super) fn is_empty(&self) -> bool {
        let Self { cluster, stage, role } = self;
        cluster.is_empty() && stage.is_empty() && role.is_empty()
    }

    /// Checks the names, of which the fleet knows some.
    pub(super) fn resolve<'m>(self, machines: impl IntoIterator<Item = &'m Machine>) -> Result<Selection, Ended> {
        let Self { cluster, stage, role } = self;
        let mut clusters = BTreeSet::new();
        let mut roles = BTreeSet::from(ROLES);
        for machine in machines {
            clusters.insert(&*machine.cluster);
            roles.insert(&*machine.role);
        }
        check("cluster", "cluster", &cluster, &clusters)?;
        check_stages("stage", &stage)?;
        check("role", "role", &role, &roles)?;
        Ok(Selection { clusters: cluster, stages: stage, roles: role })
    }
}

/// Checks names of stages that an option has.
pub(super) fn check_stages(option: &str, stages: &[String]) -> Result<(), Ended> {
    // A former name is understood, and not proposed.
    let unknown: Vec<_> = stages.iter().filter(|name| name.parse::<Stages>().is_err()).cloned().collect();
    let steps = Step::ALL.into_iter().map(Step::name);
    check(option, "stage", &unknown, &steps.chain(Stage::ALL.map(Stage::name)).chain([STUCK]).collect())
}

/// Checks that each of these names is known.
pub(super) fn check(option: &str, what: &str, names: &[String], known: &BTreeSet<&str>) -> Result<(), Ended> {
    let Some(unknown) = names.iter().find(|name| !known.contains(name.as_str())) else { return Ok(()) };
    let known = nearest_first(unknown, known.iter().copied());
    let known = if known.is_empty() { format!("there are no {what}s") } else { format!("the {what}s are {known}") };
    let unknown = harmless(unknown);
    Err(Ended::new(Exit::NotFound, format!("--{option} {unknown}: there is no such {what}; {known}")))
}

/// Lists known names, those first that resemble an unknown one.
pub(super) fn nearest_first<'k>(unknown: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    let known = by_distance(unknown, known);
    let more = known.len().saturating_sub(NAMED);
    let named = known.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{named} and {more} more") } else { named }
}

/// The machines that are meant.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    clusters: Vec<String>,
    stages: Vec<String>,
    roles: Vec<String>,
}

impl Selection {
    /// Returns whether a machine is meant.
    pub(super) fn takes(&self, machine: &Machine, now: Timestamp) -> bool {
        let Self { clusters, roles, .. } = self;
        takes(clusters, &machine.cluster) && takes(roles, &machine.role) && self.takes_stage(machine, now)
    }

    /// Returns whether all machines are meant.
    pub(super) fn is_all(&self) -> bool {
        let Self { clusters, stages, roles } = self;
        clusters.is_empty() && stages.is_empty() && roles.is_empty()
    }

    /// Returns whether this is among the stages that are meant.
    pub(super) fn names(&self, stage: &str) -> bool {
        self.stages.iter().any(|named| named == stage)
    }

    fn takes_stage(&self, machine: &Machine, now: Timestamp) -> bool {
        self.stages.is_empty() || is_at(&self.stages, machine, now)
    }

    /// Returns the selected machines.
    pub(super) fn of<'m>(&self, machines: impl IntoIterator<Item = &'m Machine>, now: Timestamp) -> Vec<&'m Machine> {
        machines.into_iter().filter(|machine| self.takes(machine, now)).collect()
    }
}

fn takes(names: &[String], name: &str) -> bool {
    names.is_empty() || names.iter().any(|wanted| wanted == name)
}

/// Returns whether a machine is at one of these stages.
pub(super) fn is_at(stages: &[String], machine: &Machine, now: Timestamp) -> bool {
    stages.iter().any(|stage| match stage.as_str() {
        STUCK => machine.state(now) == State::Stuck,
        stage => {
            let stages = stage.parse::<Stages>().unwrap_or_default();
            machine.known_stage().is_some_and(|known| stages.contain(known))
        }
    })
}
