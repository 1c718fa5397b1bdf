//! The condition `PxeReady` of a cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::SystemTime,
};

use super::{
    condition::{Assessment, Status},
    occasion::Occasion,
};
use crate::model::{
    finding::SpecFault,
    images::{Awaited, Images},
    inventory::{Machine, Site},
    nodes::{Node, Nodes},
};

/// The mistakes that are named; `pxed status` lists all.
const NAMED: usize = 20;

/// The state of a cluster.
#[derive(Debug, Default)]
pub struct Cluster<'a> {
    /// Its machines in the inventory.
    pub machines: Vec<&'a std::sync::Arc<Machine>>,
    /// The mistakes in it and in the objects that belong to it.
    pub faults: Vec<&'a SpecFault>,
}

/// The condition of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assessed {
    /// The condition.
    pub assessment: Assessment,
    /// The sentences of its message.
    pub sentence: String,
    /// The occasions for a person to look.
    pub occasion: Option<Occasion>,
    /// A node of this fleet serves one of its sites. Another fleet may serve a cluster that this one does not.
    pub is_served: bool,
}

/// Assesses a cluster; `None` if nothing of it boots from the network.
#[must_use]
pub fn assess(cluster: &Cluster<'_>, nodes: &Nodes, images: &Images, now: SystemTime) -> Option<Assessed> {
    let Cluster { machines, faults } = cluster;
    if machines.is_empty() && faults.is_empty() {
        return None;
    }
    let sites: BTreeSet<&Site> = machines.iter().map(|machine| &*machine.site).collect();
    let served = sites.iter().map(|site| (*site, living(nodes, site).collect::<Vec<_>>()));
    let (unserved, served): (Vec<_>, Vec<_>) = served.partition(|(_, nodes)| nodes.is_empty());
    let awaited = awaited(machines, images);
    let expected = |awaited: &Awaited<'_>| awaited.file.state.is_expected() && awaited.file.state.name() != "failed";

    let (status, reason) = if !faults.is_empty() {
        (Status::False, "SpecFaults")
    } else if !unserved.is_empty() {
        (Status::False, "NotServed")
    } else if awaited.values().any(|awaited| !expected(awaited)) {
        (Status::False, "ImagesMissing")
    } else if !awaited.is_empty() {
        (Status::False, "ImagesPending")
    } else {
        (Status::True, "Ready")
    };

    let mut detail = String::new();
    let mut sentence = match machines.len() {
        1 => "1 machine boots from the network.".to_owned(),
        count => format!("{count} machines boot from the network."),
    };
    // Writing to a string cannot fail, here and below.
    let _ = write!(detail, "{}", machines.len());
    for (Site { interface, address }, nodes) in &served {
        let nodes: Vec<_> = nodes.iter().map(|(node, own)| format!("{} ({own})", node.name)).collect();
        let text = format!(" {address} on {interface} is served by {}.", nodes.join(", "));
        detail += &text;
        sentence += &text;
    }
    for (Site { interface, address }, _) in &unserved {
        let text = format!(" {address} on {interface} is served by no node.");
        detail += &text;
        sentence += &text;
    }
    for text in problems(nodes, &sites) {
        detail += &text;
        let _ = write!(sentence, " {text}.");
    }
    for fault in faults.iter().take(NAMED) {
        let _ = write!(detail, " {fault}");
        let _ = write!(sentence, " Mistake: {fault}.");
    }
    if let Some(more @ 1..) = faults.len().checked_sub(NAMED) {
        let text = format!(" There are {more} more mistakes: pxed status lists all.");
        detail += &text;
        sentence += &text;
    }
    for (path, awaited) in awaited.iter().take(NAMED) {
        let state = &awaited.file.state;
        let _ = write!(detail, " {path} {}", state.name());
        let _ = write!(sentence, " The {} {path} {}.", awaited.noun(), state.in_words(now));
        if !expected(awaited)
            && let [first, ..] = &*awaited.file.remedy
        {
            let _ = write!(sentence, " Get it: {first}.");
        }
    }
    let occasion = (status == Status::False && reason != "ImagesPending").then_some(Occasion::NotReady);
    let is_served = !served.is_empty();
    Some(Assessed { assessment: Assessment { status, reason, detail }, sentence, occasion, is_served })
}

/// Returns the living nodes in the order of their names, which is the same on each of them.
fn alive(nodes: &Nodes) -> Vec<&Node> {
    let peers = nodes.peers().iter().filter(|peer| peer.is_alive);
    let mut alive: Vec<_> = std::iter::once(nodes.this()).chain(peers).collect();
    alive.sort_by(|a, b| a.name.cmp(&b.name));
    alive
}

/// Returns the living nodes that serve a site, each with its address there.
fn living<'n>(nodes: &'n Nodes, site: &Site) -> impl Iterator<Item = (&'n Node, std::net::Ipv4Addr)> {
    let address = site.address;
    alive(nodes).into_iter().filter_map(move |node| Some((node, *node.sites.get(&address)?)))
}

/// Returns what the nodes say that is wrong with these sites.
fn problems(nodes: &Nodes, sites: &BTreeSet<&Site>) -> Vec<String> {
    let concerns = |problem: &str| {
        sites.iter().any(|site| problem.contains(&*site.interface) || problem.contains(&site.address.to_string()))
    };
    let of = |node: &Node| {
        let name = node.name.clone();
        let problems = node.problems.iter().filter(|problem| concerns(problem));
        problems.map(|problem| format!("{name}: {}", problem.trim_end_matches('.'))).collect::<Vec<_>>()
    };
    alive(nodes).into_iter().flat_map(of).collect()
}

/// Returns the files that the machines wait for, by path.
fn awaited<'i>(machines: &[&std::sync::Arc<Machine>], images: &'i Images) -> BTreeMap<&'i str, Awaited<'i>> {
    let awaited = machines.iter().filter_map(|machine| images.awaited(machine));
    awaited.map(|awaited| (awaited.path, awaited)).collect()
}

#[cfg(test)]
mod tests;
