//! Decides who has a MAC address or an IP address that several machines claim, and keeps the last good version of machines with
//! errors.
//!
//! A machine that was served with an address keeps it: a mistake elsewhere must not take it away. If none of them was served, the first
//! in the order of files and lines has it. So a copy that somebody adds below, the usual way to such a mistake, leaves the machine
//! alone that works, also after a restart.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::Ipv4Addr,
    sync::Arc,
};

use pxe_common::MacAddr;

use super::{
    candidate::{Candidate, Retained, Unread},
    faults::Faults,
    finding::Finding,
    machine_settings::InForce,
};
use crate::model::inventory::{AddressHashBuilder, Inventory, Machine};

type ByMac = HashMap<MacAddr, usize, AddressHashBuilder>;
type ByAddress = HashMap<Ipv4Addr, usize, AddressHashBuilder>;

/// The claims of all machines.
pub(crate) struct Contest<'d, 'k> {
    candidates: Vec<Candidate<'d>>,
    by_mac: ByMac,
    by_address: ByAddress,
    known: &'k Inventory,
    kept: Vec<Arc<Machine>>,
    kept_macs: HashSet<MacAddr>,
    /// Machines that have an error, and of which the last good version has not been looked for.
    failed: VecDeque<usize>,
}

impl<'d, 'k> Contest<'d, 'k> {
    /// Compares the candidates. Those that lose get an error.
    pub(crate) fn new(candidates: Vec<Candidate<'d>>, known: &'k Inventory, faults: &mut Faults) -> Self {
        let mut new = Self {
            by_mac: HashMap::with_capacity_and_hasher(candidates.len(), AddressHashBuilder::default()),
            by_address: HashMap::with_capacity_and_hasher(candidates.len(), AddressHashBuilder::default()),
            candidates,
            known,
            kept: Vec::new(),
            kept_macs: HashSet::new(),
            failed: VecDeque::new(),
        };
        for index in 0..new.candidates.len() {
            new.claim_mac(index, faults);
        }
        for index in 0..new.candidates.len() {
            new.claim_other_macs(index, faults);
        }
        for index in 0..new.candidates.len() {
            new.claim_address(index, faults);
        }
        new
    }

    fn claim_mac(&mut self, index: usize, faults: &mut Faults) {
        let mac = self.candidates[index].machine.mac;
        let Some(other) = self.by_mac.insert(mac, index) else { return };
        let (winner, loser) = self.compare_macs(mac, index, other);
        let message =
            format!("{mac} is already used by the machine in {}: give each machine its own", self.place(winner));
        self.fail_mac(loser, message, faults);
    }

    /// Claims the MAC addresses of a machine's other network cards, after those of the first cards of all machines.
    fn claim_other_macs(&mut self, index: usize, faults: &mut Faults) {
        let Some(InForce { document, setting }) = &self.candidates[index].of_one.additional_macs else { return };
        let (document, setting) = (*document, *setting);
        for &(mac, at) in &setting.value.0 {
            let Some(other) = self.by_mac.insert(mac, index) else { continue };
            let finding = |message| document.finding(at, setting.field.to_string(), message);
            if other == index {
                let message = format!("{mac} is the macAddress of the machine itself: write its other network cards");
                self.fail(index, finding(message), faults);
                continue;
            }
            let (winner, loser) = self.compare_macs(mac, index, other);
            let message = format!(
                "{mac} is already used by the machine in {}: a network card belongs to one machine, so remove it here or there",
                self.place(winner)
            );
            if loser == index {
                self.fail(index, finding(message), faults);
            } else {
                self.fail_mac(loser, message, faults);
            }
        }
    }

    /// Returns the winner and the loser of a MAC address, and gives it to the winner.
    fn compare_macs(&mut self, mac: MacAddr, index: usize, other: usize) -> (usize, usize) {
        let incumbent = self.known.by_mac(mac);
        let rank = |index: usize| {
            let Candidate { machine, fault, .. } = &self.candidates[index];
            let had_it = |incumbent: &Arc<Machine>| {
                incumbent.cluster == machine.cluster && (machine.mac == mac || machine.mac == incumbent.mac)
            };
            rank(incumbent.is_some_and(had_it), fault.is_none())
        };
        let (winner, loser) = if rank(index) < rank(other) { (index, other) } else { (other, index) };
        self.by_mac.insert(mac, winner);
        (winner, loser)
    }

    fn place(&self, index: usize) -> String {
        let origin = &self.candidates[index].origin;
        origin.document.place(origin.mac_at())
    }

    fn claim_address(&mut self, index: usize, faults: &mut Faults) {
        let address = self.candidates[index].machine.address;
        let Some(other) = self.by_address.insert(address, index) else { return };
        let incumbent = self.known.by_address(address);
        let rank = |index: usize| {
            let Candidate { machine, fault, .. } = &self.candidates[index];
            rank(incumbent.is_some_and(|incumbent| incumbent.mac == machine.mac), fault.is_none())
        };
        let (winner, loser) = if rank(index) < rank(other) { (index, other) } else { (other, index) };
        self.by_address.insert(address, winner);
        let first = &self.candidates[winner].origin;
        let place = first.document.place(first.address_at());
        let message = format!("{address} is already used by the machine in {place}: give each machine its own");
        self.fail_address(loser, message, faults);
    }

    fn fail_mac(&mut self, loser: usize, message: String, faults: &mut Faults) {
        let origin = &self.candidates[loser].origin;
        let finding = origin.document.finding(origin.mac_at(), origin.mac_field(), message);
        self.fail(loser, finding, faults);
    }

    fn fail_address(&mut self, loser: usize, message: String, faults: &mut Faults) {
        let origin = &self.candidates[loser].origin;
        let finding = origin.document.finding(origin.address_at(), origin.address_field(), message);
        self.fail(loser, finding, faults);
    }

    fn fail(&mut self, loser: usize, finding: Finding, faults: &mut Faults) {
        let fault = faults.add(finding);
        self.candidates[loser].fault.get_or_insert(fault);
    }

    /// Keeps the last good version of each machine with an error. Returns the machines without errors, and the kept ones.
    pub(crate) fn settle(
        mut self,
        unread: Vec<Unread>,
        retained: &[Retained],
        faults: &mut Faults,
    ) -> (Vec<Candidate<'d>>, Vec<Arc<Machine>>) {
        let all = self.candidates.iter().enumerate();
        self.failed = all.filter(|(_, candidate)| candidate.fault.is_some()).map(|(index, _)| index).collect();
        self.keep_failed(faults);
        for Unread { fault, mac, address, owner } in unread {
            let is_kept = self.keep_either(mac, address, owner.as_ref().map(|(cluster, _)| cluster), faults);
            // Without its MAC address it may be any machine of the role that the spec does not mention elsewhere.
            let may_be_any = owner.filter(|_| mac.is_none() && !is_kept);
            let kept = may_be_any
                .map_or(0, |(cluster, role)| self.retain(&Retained { fault, cluster, role, only: None }, faults));
            if kept == 0 {
                faults.affect(fault, mac, is_kept);
            }
        }
        for retained in retained {
            self.retain(retained, faults);
        }
        self.keep_failed(faults);
        let Self { mut candidates, kept, .. } = self;
        candidates.retain(|candidate| candidate.fault.is_none());
        (candidates, kept)
    }

    /// Keeps machines of a role. Returns their number.
    fn retain(&mut self, Retained { fault, cluster, role, only }: &Retained, faults: &mut Faults) -> usize {
        let known = self.known;
        let mut kept = 0;
        for machine in known.machines() {
            let is_meant = machine.cluster == *cluster
                && machine.role == *role
                && only.as_ref().is_none_or(|only| only.contains(&machine.mac));
            if is_meant && self.keep(machine, faults) {
                faults.affect(*fault, Some(machine.mac), true);
                kept += 1;
            }
        }
        kept
    }

    fn keep_failed(&mut self, faults: &mut Faults) {
        while let Some(index) = self.failed.pop_front() {
            let Candidate { machine, fault: Some(fault), .. } = &self.candidates[index] else { continue };
            let (fault, mac, address, cluster) = (*fault, machine.mac, machine.address, Arc::clone(&machine.cluster));
            let is_kept = self.keep_either(Some(mac), Some(address), Some(&cluster), faults);
            faults.affect(fault, Some(mac), is_kept);
        }
    }

    /// Keeps the machine of a cluster that had the MAC address, or else the one that had the address.
    fn keep_either(
        &mut self,
        mac: Option<MacAddr>,
        address: Option<Ipv4Addr>,
        cluster: Option<&Arc<str>>,
        faults: &mut Faults,
    ) -> bool {
        let known = self.known;
        let by_mac = mac.and_then(|mac| known.by_mac(mac));
        let by_address = address.and_then(|address| known.by_address(address));
        let mut machines = by_mac.into_iter().chain(by_address);
        machines.any(|machine| cluster.is_none_or(|cluster| *cluster == machine.cluster) && self.keep(machine, faults))
    }

    /// Keeps a machine, unless it is there in a new version. Others lose the addresses that it has.
    fn keep(&mut self, machine: &Arc<Machine>, faults: &mut Faults) -> bool {
        if self.kept_macs.contains(&machine.mac) {
            return false;
        }
        let sound = |index: Option<&usize>| {
            let index = *index?;
            self.candidates[index].fault.is_none().then_some(index)
        };
        let with_its_macs: Vec<_> =
            machine.macs().filter_map(|mac| Some((mac, sound(self.by_mac.get(&mac))?))).collect();
        if with_its_macs.iter().any(|(_, index)| self.candidates[*index].machine.cluster == machine.cluster) {
            return false;
        }
        let with_its_address = sound(self.by_address.get(&machine.address));
        let until = "until the error there is corrected";
        for (mac, index) in with_its_macs {
            self.fail_mac(index, format!("{mac} stays with the machine in {} {until}", place(machine)), faults);
            self.failed.push_back(index);
        }
        if let Some(index) = with_its_address {
            let message = format!("{} stays with {} in {} {until}", machine.address, machine.mac, place(machine));
            self.fail_address(index, message, faults);
            self.failed.push_back(index);
        }
        self.kept_macs.extend(machine.macs());
        self.kept.push(Arc::clone(machine));
        true
    }
}

/// Returns `file:line` of a machine, or its object.
fn place(Machine { source, .. }: &Machine) -> String {
    source.to_string()
}

/// Returns the order of claims to an address: the lowest wins. The last good version of a machine with an error keeps what it has.
pub(super) const fn rank(had_it: bool, is_sound: bool) -> u8 {
    match (had_it, is_sound) {
        (true, true) => 0,
        (true, false) => 1,
        (false, true) => 2,
        (false, false) => 3,
    }
}
