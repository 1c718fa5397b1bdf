use std::sync::Arc;

use super::*;
use crate::{
    journal::{MachineRecord, fleet::Fleet, remembered::State, samples::*, stage::Stage},
    model::{
        event::EventKind,
        inventory::Machine,
        policy::{BootPolicy, Disposition},
    },
};

/// Returns the machine with this number whose first card is `first` and whose others are `others`.
fn with_cards(number: u32, first: u32, others: &[u32]) -> Machine {
    let additional_macs = others.iter().map(|&other| machine(other).mac).collect();
    Machine { mac: machine(first).mac, additional_macs, policy: BootPolicy::Once, ..machine(number) }
}

fn inventory(machines: &[Machine]) -> Inventory {
    Inventory::new(machines.iter().cloned().map(Arc::new).collect())
}

fn fleet(machines: &[Machine]) -> Fleet {
    let mut fleet = Fleet::new(&State::new(), at(0.0), machines.len());
    fleet.follow(&inventory(machines));
    fleet
}

fn record(fleet: &Fleet, machine: &Machine) -> MachineRecord {
    fleet.machine(&Arc::new(machine.clone()), usize::MAX)
}

/// Lets the machine boot by its card with this number.
fn boot(fleet: &mut Fleet, card: u32, events: &[EventKind]) {
    for event in timed(machine(card).mac, events.to_vec()) {
        fleet.apply(&event);
    }
}

/// Saves the state and reads it, as at a restart with this spec.
fn restarted(fleet: &mut Fleet, machines: &[Machine]) -> Fleet {
    let state = fleet.take_state().unwrap_or_default();
    let state: State = state.into_iter().map(|(mac, remembered)| (mac.to_string(), remembered)).collect();
    let mut fleet = Fleet::new(&state, at(100.0), machines.len());
    fleet.follow(&inventory(machines));
    fleet
}

#[test]
fn cards_share_stage_policy_and_journal() {
    let two = with_cards(1, 1, &[2, 3]);
    let mut fleet = fleet(std::slice::from_ref(&two));
    let second = machine(2).mac;
    boot(&mut fleet, 1, &[discover(Pxe), offer()]);
    boot(&mut fleet, 2, &dora(Pxe));
    // Files are asked for by address, which is that of the machine.
    boot(&mut fleet, 1, &[&load(Loader)[..], &load(Script), &load(Kernel), &load(Initramfs)].concat());
    let seen = record(&fleet, &two);
    assert_eq!((seen.stage, seen.boots, seen.boots_from), (Stage::Booting, 1, Disposition::Disk));
    let cards: Vec<_> = seen.events.iter().map(|event| event.mac).take(6).collect();
    assert_eq!(cards, [MAC, MAC, second, second, second, second]);
    assert_eq!(fleet.stage(second), Stage::Booting);
    let state = fleet.take_state().unwrap();
    assert_eq!(state.iter().map(|(mac, _)| *mac).collect::<Vec<_>>(), [MAC], "one machine is remembered, not two");

    fleet.release(machine(3).mac);
    assert_eq!(record(&fleet, &two).boots_from, Disposition::Network);
    fleet.hold(second);
    assert_eq!(record(&fleet, &two).policy, BootPolicy::Hold);
}

#[test]
fn what_is_remembered_follows_when_cards_swap() {
    let (before, after) = (with_cards(1, 1, &[2, 3]), with_cards(1, 3, &[1, 2]));
    let cards = [1, 2, 3].map(|number| machine(number).mac);
    for is_restarted in [false, true] {
        let mut fleet = fleet(std::slice::from_ref(&before));
        boot(&mut fleet, 1, &uefi_boot());
        boot(&mut fleet, 2, &[discover(Pxe)]);
        boot(&mut fleet, 3, &[discover(Pxe)]);
        fleet.hold(MAC);
        let expected = record(&fleet, &before);
        // The book that is in force until the journal has followed.
        assert_eq!(fleet.book().disposition(&after), Disposition::Disk);
        assert_eq!(fleet.book().policy(&after), BootPolicy::Hold);
        if is_restarted {
            fleet = restarted(&mut fleet, std::slice::from_ref(&after));
        } else {
            fleet.follow(&inventory(std::slice::from_ref(&after)));
        }
        let seen = record(&fleet, &after);
        assert_eq!((seen.boots, seen.policy, seen.boots_from), (1, BootPolicy::Hold, Disposition::Disk));
        assert!(fleet.is_changed(), "the move is saved");
        let moved = fleet.take_state().unwrap();
        assert_eq!(moved.iter().map(|(mac, _)| *mac).collect::<Vec<_>>(), [cards[2]]);
        if !is_restarted {
            assert_eq!(seen.events, expected.events, "each event names its card as before");
            assert_eq!((seen.stage, seen.stage_since), (expected.stage, expected.stage_since));
            fleet.follow(&inventory(std::slice::from_ref(&before)));
            assert_eq!(record(&fleet, &before).events, expected.events);
        }
    }
}

#[test]
fn entry_of_its_own_for_the_second_card_is_taken_in() {
    for booted_by in [1, 2] {
        let (first, second) = (with_cards(1, 1, &[]), with_cards(2, 2, &[]));
        let mut fleet = fleet(&[first, second]);
        boot(&mut fleet, 1, &[discover(Pxe)]);
        boot(&mut fleet, 2, &[discover(Pxe)]);
        boot(&mut fleet, booted_by, &uefi_boot());
        fleet.hold(machine(2).mac);
        let both = with_cards(1, 1, &[2]);
        fleet.follow(&inventory(std::slice::from_ref(&both)));
        let seen = record(&fleet, &both);
        assert_eq!((seen.stage, seen.boots, seen.policy), (Stage::Running, 1, BootPolicy::Hold), "by {booted_by}");
        fleet.release(MAC);
        assert_eq!(record(&fleet, &both).policy, BootPolicy::Once);
        fleet.follow(&Inventory::default());
        assert_eq!(record(&fleet, &both).events, []);
    }
}

#[test]
fn machine_whose_first_card_is_replaced_is_recognised_by_another() {
    let before = with_cards(1, 1, &[2]);
    let other = with_cards(7, 7, &[]);
    for (after, boots) in [
        (with_cards(1, 9, &[2]), 1),
        (with_cards(1, 2, &[]), 1),
        (with_cards(1, 2, &[9]), 1),
        // The second card went into a machine that is known already.
        (with_cards(7, 7, &[2]), 2),
    ] {
        let mut fleet = fleet(&[before.clone(), other.clone()]);
        boot(&mut fleet, 1, &uefi_boot());
        boot(&mut fleet, 7, &[uefi_boot(), uefi_boot()].concat());
        fleet.follow(&inventory(std::slice::from_ref(&after)));
        let seen = record(&fleet, &after);
        assert_eq!((seen.boots, seen.boots_from), (boots, Disposition::Disk), "{after:?}");
    }
}

#[test]
fn cards_that_are_too_many_to_be_told_apart_are_survived() {
    let others: Vec<u32> = (2..=400).collect();
    let many = with_cards(1, 1, &others);
    let mut fleet = fleet(std::slice::from_ref(&many));
    for card in others {
        boot(&mut fleet, card, &[discover(Pxe)]);
    }
    boot(&mut fleet, 2, &[offer()]);
    let seen = record(&fleet, &many);
    assert_eq!(seen.events.last().map(|event| event.mac), Some(machine(2).mac));
    assert_eq!(seen.events[0].mac, MAC, "no name is better than a wrong one");
}
