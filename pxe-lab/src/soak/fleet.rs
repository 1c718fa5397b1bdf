//! The machines of a soak, and what each of them must do next.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use super::Report;
use crate::{
    cluster::{self, Machine},
    storm::{self, Done},
};

/// Half of the machines boot from the network each time, the other half once.
pub(super) struct Fleet {
    machines: Vec<Machine>,
    once: BTreeSet<String>,
    /// The machines that have to boot from the network, and those that have to go to their disks.
    to_boot: BTreeSet<String>,
    to_disk: BTreeSet<String>,
    /// The last boot of each machine under `once`.
    booted: BTreeMap<String, Done>,
    kills: Vec<Instant>,
    /// The reasons of the last failures.
    why: BTreeMap<String, String>,
}

impl Fleet {
    pub(super) fn new(machines: u16) -> Self {
        let machines = storm::machines(machines);
        let once = machines.iter().skip(machines.len() / 2).map(|machine| machine.mac.clone()).collect();
        let to_boot = machines.iter().map(|machine| machine.mac.clone()).collect();
        Self {
            machines,
            once,
            to_boot,
            to_disk: BTreeSet::new(),
            booted: BTreeMap::new(),
            kills: Vec::new(),
            why: BTreeMap::new(),
        }
    }

    pub(super) fn machines(&self) -> &[Machine] {
        &self.machines
    }

    /// Returns the cluster spec: two clusters on one interface.
    pub(super) fn spec(&self) -> String {
        let (always, once) = self.machines.split_at(self.machines.len() / 2);
        let cluster = |machines: &[Machine], name: &str, policy: &str| {
            let spec = cluster::cluster_with_gateway(machines, cluster::SERVER).replace("subnet: 24", "subnet: 16");
            cluster::with_annotation(&spec, &format!("pxed.dev/boot-policy: {policy}"))
                .replace("name: lab", &format!("name: {name}"))
        };
        format!("{}---\n{}", cluster(always, "always", "always"), cluster(once, "once", "once"))
    }

    pub(super) fn killed(&mut self, at: Instant) {
        self.kills.push(at);
    }

    /// Returns `true` if every machine has done what it had to.
    pub(super) fn is_up(&self) -> bool {
        self.to_boot.is_empty() && self.to_disk.is_empty()
    }

    /// Returns the machines that are powered on now: those that have not come to an end, or else all.
    pub(super) fn power_on(&mut self) -> BTreeSet<String> {
        if self.is_up() {
            for machine in &self.machines {
                let next = if self.once.contains(&machine.mac) { &mut self.to_disk } else { &mut self.to_boot };
                next.insert(machine.mac.clone());
            }
        }
        self.to_boot.union(&self.to_disk).cloned().collect()
    }

    /// Takes account of what became of machines.
    pub(super) fn account(&mut self, all: &BTreeMap<String, Done>, report: &mut Report) {
        for (mac, done) in all {
            let outcome = if done.is_at_disk() { "disk" } else { done.outcome.as_str() };
            match (outcome, self.to_disk.contains(mac)) {
                ("booted", false) => {
                    self.to_boot.remove(mac);
                    report.booted(done.took);
                    if self.once.contains(mac) {
                        self.booted.insert(mac.clone(), done.clone());
                    }
                }
                ("disk", true) => {
                    self.to_disk.remove(mac);
                    report.sent_to_disk += 1;
                }
                ("disk", false) => report.wrong.push(format!("{mac} was sent to its disk and has not booted")),
                ("booted", true) => {
                    self.to_disk.remove(mac);
                    match self.booted.get(mac).is_some_and(|before| before.is_just_before(&self.kills)) {
                        true => report.unknown += 1,
                        false => report.wrong.push(format!("{mac} has booted twice under once")),
                    }
                    self.booted.insert(mac.clone(), done.clone());
                }
                _ => {
                    report.begun_again += 1;
                    self.why.insert(mac.clone(), done.why.clone());
                }
            }
        }
    }

    /// Returns the machines that have not done what they had to, with the reasons.
    pub(super) fn down(&self) -> Vec<String> {
        let why = |mac: &String| format!("{mac}: {}", self.why.get(mac).map_or("", String::as_str));
        self.to_boot.union(&self.to_disk).map(why).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn done(outcome: &str, loaded: Option<[Instant; 2]>) -> Done {
        Done { outcome: outcome.to_owned(), why: "stage: reason".to_owned(), took: Duration::from_secs(3), loaded }
    }

    #[test]
    fn machines_are_accounted_for_by_what_they_had_to_do() {
        let mut fleet = Fleet::new(4);
        let mut report = Report::default();
        let macs: Vec<_> = fleet.power_on().into_iter().collect();
        assert_eq!(macs.len(), 4);
        let all = |outcomes: [&str; 4]| macs.iter().cloned().zip(outcomes.map(|it| done(it, None))).collect();
        fleet.account(&all(["booted", "failed", "booted", "disk"]), &mut report);
        assert_eq!(fleet.power_on().into_iter().collect::<Vec<_>>(), [macs[1].clone(), macs[3].clone()]);
        assert_eq!((report.wrong.len(), report.begun_again, fleet.down().len()), (1, 1, 2));
        fleet.account(&all(["booted", "booted", "booted", "booted"]), &mut report);
        assert!(fleet.is_up() && fleet.power_on().len() == 4);
        fleet.account(&all(["booted", "booted", "disk", "booted"]), &mut report);
        assert_eq!((report.wrong.len(), report.sent_to_disk), (2, 1), "one booted twice under once");
    }

    #[test]
    fn boot_just_before_a_kill_may_be_unknown() {
        let now = Instant::now();
        let at = |millis: u64| now + Duration::from_millis(millis);
        for (kill, is_unknown) in [(500, false), (1_000, true), (1_100, true), (1_400, false)] {
            let mut fleet = Fleet::new(2);
            let mut report = Report::default();
            let mac = fleet.machines()[1].mac.clone();
            fleet.killed(at(kill));
            let boot = BTreeMap::from([(mac, done("booted", Some([at(900), at(1_000)])))]);
            fleet.account(&boot, &mut report);
            fleet.to_boot.clear();
            fleet.power_on();
            fleet.account(&boot, &mut report);
            assert_eq!((report.unknown == 1, report.wrong.is_empty()), (is_unknown, is_unknown), "{kill}");
        }
    }
}
