use std::net::SocketAddrV4;

use proptest::prelude::*;

use super::*;
use crate::tftp::key::PortId;

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 + number)
}

/// Transfers with places, and the clients that had to make room, in order.
struct Table {
    admission: Admission,
    running: Vec<Place>,
    displaced: Vec<Key>,
    serial: u64,
    /// The clients whose transfers are silent.
    silent: Vec<Key>,
}

impl Table {
    fn new(limit: usize) -> Self {
        Self {
            admission: Admission::new(limit),
            running: Vec::new(),
            displaced: Vec::new(),
            serial: 0,
            silent: Vec::new(),
        }
    }

    /// Admits a request as the worker does. Returns `false` if there is no place.
    fn ask(&mut self, source: Ipv4Addr, is_machine: bool) -> bool {
        self.serial += 1;
        let client = SocketAddrV4::new(source, self.serial as u16);
        let key = Key { client, port: PortId(1) };
        loop {
            match self.admission.room(source, is_machine, |key| self.silent.contains(key)) {
                Room::Free => break,
                Room::InPlaceOf(oldest) => {
                    let index = self.running.iter().position(|place| place.key == oldest).unwrap();
                    self.admission.give_back(&self.running.remove(index));
                    self.displaced.push(oldest);
                }
                Room::None => return false,
            }
        }
        self.running.push(self.admission.take(key, self.serial, is_machine));
        true
    }

    fn answer_all(&mut self) {
        self.running.iter_mut().for_each(|place| self.admission.answered(place));
    }

    fn taken(&self, is_machine: bool) -> usize {
        self.running.iter().filter(|place| place.is_machine == is_machine).count()
    }
}

const MACHINE: bool = true;
const STRANGER: bool = false;

#[test]
fn oldest_unanswered_request_of_a_source_makes_room() {
    let mut table = Table::new(10_000);
    assert!(table.ask(address(2), MACHINE));
    for _ in 0..LIMIT_PER_SOURCE + 3 {
        assert!(table.ask(address(1), MACHINE));
    }
    // The other source's request is older, and stays.
    let oldest = [2, 3, 4].map(|port| SocketAddrV4::new(address(1), port));
    assert_eq!(table.displaced.iter().map(|key| key.client).collect::<Vec<_>>(), oldest);
    assert_eq!(table.running.len(), LIMIT_PER_SOURCE as usize + 1);
}

#[test]
fn transfers_in_progress_keep_their_places() {
    let mut table = Table::new(10_000);
    while table.running.len() < LIMIT_PER_SOURCE as usize - 1 {
        assert!(table.ask(address(1), MACHINE));
    }
    table.answer_all();
    // One place is left, which every further request takes from the one before.
    for _ in 0..10 {
        assert!(table.ask(address(1), MACHINE));
    }
    assert_eq!(table.displaced.len(), 9);
    table.answer_all();
    assert!(!table.ask(address(1), MACHINE), "nobody makes room");
    assert!(table.ask(address(2), MACHINE), "another source has a place");
    let place = table.running.remove(0);
    table.admission.give_back(&place);
    assert!(table.ask(address(1), MACHINE), "a returned place is free again");
    assert_eq!(table.displaced.len(), 9);
}

#[test]
fn forged_requests_in_anybodys_name_lock_nobody_out() {
    for forged in [MACHINE, STRANGER] {
        let mut table = Table::new(1000);
        for number in 0..5000 {
            assert!(table.ask(address(number), forged));
        }
        assert_eq!(table.running.len(), if forged == MACHINE { 1000 } else { 500 });
        for number in 5000..5100 {
            assert!(table.ask(address(number), MACHINE) && table.ask(address(number + 1000), STRANGER));
        }
    }
}

#[test]
fn machines_go_before_strangers() {
    let mut table = Table::new(1000);
    for number in 0..500 {
        assert!(table.ask(address(number), STRANGER));
    }
    for number in 1000..1500 {
        assert!(table.ask(address(number), MACHINE));
    }
    assert_eq!((table.taken(MACHINE), table.taken(STRANGER)), (500, 500));
    // Every stranger's unanswered request makes room before the first of a machine, although machines' are older than some.
    for number in 2000..2500 {
        assert!(table.ask(address(number), MACHINE));
    }
    assert_eq!((table.taken(MACHINE), table.taken(STRANGER)), (1000, 0));
    assert!(table.displaced.iter().all(|client| *client.client.ip() < address(500)));
    assert!(table.ask(address(3000), MACHINE));
    assert_eq!(table.displaced.last().map(|key| *key.client.ip()), Some(address(1000)), "the oldest of the machines");
}

#[test]
fn half_of_the_places_is_kept_for_machines() {
    let mut table = Table::new(1000);
    let admitted = (0..2000).filter(|&number| {
        let admitted = table.ask(address(number), STRANGER);
        table.answer_all();
        admitted
    });
    assert_eq!(admitted.count(), 500);
    let admitted = (2000..4000).filter(|&number| {
        let admitted = table.ask(address(number), MACHINE);
        table.answer_all();
        admitted
    });
    assert_eq!(admitted.count(), 500);
    assert_eq!(table.displaced, []);
}

#[test]
fn silent_transfer_of_a_full_source_makes_room() {
    let mut table = Table::new(10_000);
    for _ in 0..LIMIT_PER_SOURCE {
        assert!(table.ask(address(1), MACHINE));
    }
    table.answer_all();
    assert!(!table.ask(address(1), MACHINE));
    let (silent, others) = (table.running[5].key, table.running.len());
    table.silent.push(silent);
    assert!(table.ask(address(1), MACHINE));
    assert_eq!((table.displaced.as_slice(), table.running.len()), ([silent].as_slice(), others));
}

#[test]
fn source_that_has_most_gives_its_places_to_others() {
    let mut table = Table::new(1000);
    for _ in 0..900 {
        assert!(table.ask(address(1), MACHINE));
    }
    for number in 2..102 {
        assert!(table.ask(address(number), MACHINE));
    }
    table.answer_all();
    // Everybody else gets a place and more, until all have as many.
    for number in 100..300 {
        assert!(table.ask(address(number), MACHINE));
        table.answer_all();
    }
    assert!(table.displaced.iter().all(|key| *key.client.ip() == address(1)), "{:?}", table.displaced);
    while table.ask(address(2), MACHINE) {
        table.answer_all();
        assert!(table.displaced.len() < 1000, "it ends");
    }
    let of = |source| table.running.iter().filter(|place| *place.key.client.ip() == source).count();
    assert!(of(address(1)).abs_diff(of(address(2))) <= 1, "{} {}", of(address(1)), of(address(2)));
    assert!(!table.ask(address(1), MACHINE));
    assert!(!table.ask(address(7), STRANGER), "a stranger takes nothing from machines");
}

#[test]
fn sources_without_a_place_are_forgotten() {
    let mut table = Table::new(10);
    for number in 0..1000 {
        assert!(table.ask(address(number), number % 2 == 0));
        if number % 3 == 0 {
            table.answer_all();
        }
        let place = table.running.remove(0);
        table.admission.give_back(&place);
    }
    for group in [table.admission.machines, table.admission.strangers] {
        let Group { taken, unanswered, transfers, unanswered_by_source, by_source, by_load } = group;
        assert!(taken == 0 && unanswered.is_empty() && transfers.is_empty());
        assert!(unanswered_by_source.is_empty() && by_source.is_empty() && by_load.is_empty());
    }
}

proptest! {
    /// For any order of requests, answers and ends: the limits hold, and a request is refused only if nobody has to make room.
    #[test]
    fn limits_hold_and_answered_transfers_stay(
        steps in prop::collection::vec((0u32..12, any::<bool>(), 0u8..4, any::<prop::sample::Index>()), 0..400),
    ) {
        const LIMIT: usize = 20;
        let mut table = Table::new(LIMIT);
        for (source, is_machine, step, which) in steps {
            let before = table.running.clone();
            let strangers = table.taken(STRANGER);
            match step {
                0 if !before.is_empty() => {
                    let place = table.running.remove(which.index(before.len()));
                    table.admission.give_back(&place);
                }
                1 if !before.is_empty() => {
                    let index = which.index(before.len());
                    table.admission.answered(&mut table.running[index]);
                }
                _ => {
                    let displaced = table.displaced.len();
                    let admitted = table.ask(address(source), is_machine);
                    let crowded = !is_machine && strangers >= LIMIT / 2;
                    let full = before.len() >= LIMIT || crowded;
                    let load = |source, is_machine| {
                        let of = |place: &&Place| place.is_machine == is_machine && *place.key.client.ip() == source;
                        before.iter().filter(of).count()
                    };
                    let own = load(address(source), is_machine);
                    let unanswered = |place: &&Place| !place.is_answered && (!crowded || !place.is_machine);
                    let heavier = |place: &&Place| {
                        load(*place.key.client.ip(), place.is_machine) >= own + 2 && (is_machine || !place.is_machine)
                    };
                    let can = before.iter().any(|place| unanswered(&place)) || before.iter().any(|place| heavier(&place));
                    prop_assert_eq!(admitted, !full || can);
                    for key in &table.displaced[displaced..] {
                        let victim = before.iter().find(|place| place.key == *key).unwrap();
                        prop_assert!(full);
                        let strangers = |place: &Place| !place.is_machine;
                        if before.iter().any(|place| unanswered(&place)) {
                            prop_assert!(!victim.is_answered);
                            let rivals = before.iter().filter(unanswered).filter(|place| place.is_machine == victim.is_machine);
                            prop_assert_eq!(rivals.map(|place| place.serial).min(), Some(victim.serial), "the oldest");
                            let any_stranger = before.iter().filter(unanswered).any(strangers);
                            prop_assert!(!victim.is_machine || !any_stranger, "strangers make room first");
                        } else {
                            prop_assert!(heavier(&victim));
                            let any_stranger = before.iter().filter(heavier).any(strangers);
                            prop_assert!(!victim.is_machine || !any_stranger, "strangers make room first");
                        }
                    }
                }
            }
            prop_assert!(table.running.len() <= LIMIT && table.taken(STRANGER) <= LIMIT / 2);
        }
    }
}
