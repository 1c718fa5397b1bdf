//! Admission control: limits for each source and for hosts outside the fleet, so that one host cannot use up the fleet's places.

use std::{collections::HashMap, net::Ipv4Addr};

/// Transfers of one address that may run at once. A machine needs one or two; a site behind NAT shares one address.
pub(super) const LIMIT_PER_SOURCE: u32 = 64;

/// The places of one worker's transfers.
#[derive(Debug)]
pub(super) struct Admission {
    limit: usize,
    taken: usize,
    /// Places taken by addresses that belong to no machine.
    by_strangers: usize,
    by_source: HashMap<Ipv4Addr, u32>,
}

impl Admission {
    /// Makes `limit` places, all free.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, taken: 0, by_strangers: 0, by_source: HashMap::new() }
    }

    /// Takes a place for this address, which is or is not a machine's. Returns `false` if there is none; half of all places are
    /// kept for machines.
    pub(super) fn take(&mut self, source: Ipv4Addr, is_machine: bool) -> bool {
        let of_source = self.by_source.get(&source).copied().unwrap_or(0);
        let crowded = !is_machine && self.by_strangers >= self.limit / 2;
        if self.taken >= self.limit || crowded || of_source >= LIMIT_PER_SOURCE {
            return false;
        }
        self.taken += 1;
        self.by_strangers += usize::from(!is_machine);
        self.by_source.insert(source, of_source + 1);
        true
    }

    /// Returns a place that was taken with the same arguments.
    pub(super) fn give_back(&mut self, source: Ipv4Addr, is_machine: bool) {
        let Some(of_source) = self.by_source.get_mut(&source) else { return };
        *of_source -= 1;
        if *of_source == 0 {
            self.by_source.remove(&source);
        }
        self.taken -= 1;
        self.by_strangers -= usize::from(!is_machine);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(0x0a00_0000 + number)
    }

    #[test]
    fn single_address_cannot_take_every_place() {
        let mut admission = Admission::new(1000);
        let taken = (0..1000).filter(|_| admission.take(address(1), true)).count();
        assert_eq!(taken, LIMIT_PER_SOURCE as usize);
        assert!(admission.take(address(2), true));
        admission.give_back(address(1), true);
        assert!(admission.take(address(1), true) && !admission.take(address(1), true));
    }

    #[test]
    fn machines_have_half_of_the_places() {
        let mut admission = Admission::new(1000);
        let strangers = (0..2000).filter(|&number| admission.take(address(number), false)).count();
        let machines = (2000..4000).filter(|&number| admission.take(address(number), true)).count();
        assert_eq!((strangers, machines), (500, 500));
        admission.give_back(address(0), false);
        assert!(admission.take(address(0), false), "a returned place is free again");
    }

    #[test]
    fn sources_without_a_place_are_forgotten() {
        let mut admission = Admission::new(10);
        for number in 0..1000 {
            assert!(admission.take(address(number), number % 2 == 0));
            admission.give_back(address(number), number % 2 == 0);
        }
        assert!(admission.by_source.is_empty() && admission.taken == 0 && admission.by_strangers == 0);
    }
}
