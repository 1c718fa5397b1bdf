//! Single questions of every kind, and whose they are.

use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::{
    dhcp::{
        Reason,
        testing::{DECLINE, DISCOVER, INFORM, OTHER, RELEASE, REQUEST},
        wire::code,
    },
    model::event::{ClientKind, EventKind},
};

fn at(milliseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000) + Duration::from_millis(milliseconds)
}

fn firmware(machine: &Machine, kind: u8, xid: u32, secs: u16) -> Message {
    message(machine, kind, xid, secs).firmware("PXEClient:Arch:00007:UNDI:003000", 7)
}

fn choosing(machine: &Machine, xid: u32, server: Ipv4Addr) -> Message {
    firmware(machine, REQUEST, xid, 0)
        .address(code::SERVER_ID, server)
        .address(code::REQUESTED_ADDRESS, machine.address)
}

/// Returns the nodes that answer a question that all of them receive.
fn answering(fleet: &Fleet, machine: &Machine, message: &Message, arrival: &Arrival, now: SystemTime) -> Vec<usize> {
    let bytes = message.clone().bytes();
    (0..fleet.0.len()).filter(|&node| fleet.ask(node, machine, &bytes, arrival, now).1.is_some()).collect()
}

/// Asks the first question and the same again after so many milliseconds. Returns who answers each.
fn twice(fleet: &Fleet, machine: &Machine, messages: [Message; 2], arrival: &Arrival, after: u64) -> [Vec<usize>; 2] {
    let [first, second] = messages;
    [answering(fleet, machine, &first, arrival, at(0)), answering(fleet, machine, &second, arrival, at(after))]
}

#[test]
fn first_question_of_each_kind_has_one_answer_and_its_repetition_has_all() {
    let machine = machine_number(7);
    let address = machine.address;
    let asked: [(&str, Message); 5] = [
        ("discover", firmware(&machine, DISCOVER, 1, 0)),
        ("init-reboot", message(&machine, REQUEST, 1, 0).address(code::REQUESTED_ADDRESS, address)),
        ("rebinding", message(&machine, REQUEST, 1, 0).ciaddr(address)),
        ("inform", message(&machine, INFORM, 1, 0).ciaddr(address)),
        ("wrong address", message(&machine, REQUEST, 1, 0).address(code::REQUESTED_ADDRESS, OTHER)),
    ];
    for (name, question) in asked {
        let fleet = Fleet::new(3, Mode::Server);
        let owner = fleet.owner(&machine);
        let [first, second] = twice(&fleet, &machine, [question.clone(), question], &broadcast(), 1_000);
        assert_eq!((first, second), (vec![owner], vec![0, 1, 2]), "{name}");
    }
}

#[test]
fn repetition_is_what_real_programs_send_again() {
    let machine = machine_number(7);
    let discover = |xid, secs| firmware(&machine, DISCOVER, xid, secs);
    let ipxe = |xid, secs| message(&machine, DISCOVER, xid, secs).option(code::USER_CLASS, b"iPXE");
    let relayed = discover(1, 0).giaddr(Ipv4Addr::new(10, 9, 0, 1));
    for (name, messages, after, is_repeated) in [
        ("EDK2 again", [discover(1, 0), discover(1, 4)], 4_000, true),
        ("iPXE again", [ipxe(1, 4), ipxe(1, 10)], 1_000, true),
        ("U-Boot again", [discover(1, 0), discover(2, 0)], 250, true),
        ("one frame on two ways", [discover(1, 0), discover(1, 0)], 5, false),
        ("two transactions at once", [discover(1, 0), discover(2, 0)], 5, false),
        ("another boot, a minute later", [discover(1, 0), discover(1, 0)], 61_000, false),
        ("another attempt, a while later", [discover(1, 0), discover(2, 0)], 11_000, false),
        ("firmware, then iPXE", [discover(1, 0), ipxe(2, 4)], 3_000, false),
        (
            "PXE, then HTTP boot",
            [discover(1, 0), message(&machine, DISCOVER, 2, 0).firmware("HTTPClient", 16)],
            3_000,
            false,
        ),
        ("through a relay, too", [discover(1, 0), relayed], 300, true),
        ("the first was lost here", [ipxe(9, 4), discover(1, 12)], 0, true),
    ] {
        let fleet = Fleet::new(2, Mode::Server);
        let other = 1 - fleet.owner(&machine);
        let [_, second] = twice(&fleet, &machine, messages, &broadcast(), after);
        assert_eq!(second.contains(&other), is_repeated, "{name}");
    }
}

#[test]
fn first_questions_of_captured_programs_are_never_taken_for_repeated() {
    let machine = machine_number(7);
    let bios = |secs| message(&machine, DISCOVER, 1, secs).firmware("PXEClient:Arch:00000:UNDI:002001", 0);
    let ipxe = |secs| message(&machine, DISCOVER, 1, secs).option(code::USER_CLASS, b"iPXE");
    // EDK2, U-Boot and udhcpc say 0, iPXE and Intel's ROMs 4.
    for first in [firmware(&machine, DISCOVER, 1, 0), message(&machine, DISCOVER, 1, 0), bios(0), bios(4), ipxe(4)] {
        let fleet = Fleet::new(3, Mode::Server);
        assert_eq!(answering(&fleet, &machine, &first, &broadcast(), at(0)), [fleet.owner(&machine)]);
    }
    for repeated in [firmware(&machine, DISCOVER, 1, 4), bios(8), ipxe(10)] {
        let fleet = Fleet::new(3, Mode::Server);
        assert_eq!(answering(&fleet, &machine, &repeated, &broadcast(), at(0)), [0, 1, 2]);
    }
}

#[test]
fn machine_of_two_cards_has_one_owner() {
    for number in 0..50 {
        let card = MacAddr([0x52, 0x54, 0, 9, 9, number as u8]);
        let machine = Machine { additional_macs: [card].into(), ..machine_number(number) };
        let fleet = Fleet::new(4, Mode::Server);
        let first = firmware(&machine, DISCOVER, 1, 0);
        let other = first.clone().field(field::CHADDR, &card.0);
        let owner = vec![fleet.owner(&machine)];
        assert_eq!(twice(&fleet, &machine, [first, other], &broadcast(), 1_000), [owner.clone(), owner]);
    }
}

#[test]
fn machine_gets_its_answer_from_the_node_that_it_chose() {
    let machine = machine_number(7);
    let fleet = Fleet::new(3, Mode::Server);
    let owner = fleet.owner(&machine);
    let chosen = (owner + 1) % 3;
    assert_eq!(answering(&fleet, &machine, &choosing(&machine, 1, address(chosen)), &broadcast(), at(0)), [chosen]);
    // For ten minutes it takes the owner's place.
    let ipxe = |xid| message(&machine, DISCOVER, xid, 4).option(code::USER_CLASS, b"iPXE");
    assert_eq!(answering(&fleet, &machine, &ipxe(2), &broadcast(), at(3_000)), [chosen]);
    assert_eq!(answering(&fleet, &machine, &ipxe(3), &broadcast(), at(599_000)), [chosen]);
    assert_eq!(answering(&fleet, &machine, &ipxe(4), &broadcast(), at(661_000)), [owner]);
}

#[test]
fn choice_of_a_node_that_is_gone_does_not_count() {
    let machine = machine_number(7);
    let fleet = Fleet::new(3, Mode::Server);
    let owner = fleet.owner(&machine);
    let chosen = (owner + 1) % 3;
    answering(&fleet, &machine, &choosing(&machine, 1, address(chosen)), &broadcast(), at(0));
    fleet.announce(|node| node != chosen);
    let answers = answering(&fleet, &machine, &firmware(&machine, DISCOVER, 2, 0), &broadcast(), at(3_000));
    // The node itself does not know that the others take it for dead, and would answer.
    assert!(answers.contains(&owner), "{answers:?}");
    assert!(answers.iter().all(|node| [owner, chosen].contains(node)), "{answers:?}");
}

#[test]
fn request_that_its_node_does_not_answer_is_answered_in_its_name() {
    let machine = machine_number(7);
    let fleet = Fleet::new(3, Mode::Server);
    let dead = fleet.owner(&machine);
    let bytes = choosing(&machine, 1, address(dead)).bytes();
    for node in (0..3).filter(|&node| node != dead) {
        let (first, _) = fleet.ask(node, &machine, &bytes, &broadcast(), at(0));
        assert_eq!(first.verdict, Err(Reason::ChosePeer));
        let expected = EventKind::LeftToPeer { client: ClientKind::Pxe, address: address(dead), chosen: true };
        assert_eq!(first.events.as_slice(), [expected]);
        let (_, reply) = fleet.ask(node, &machine, &bytes, &broadcast(), at(4_000));
        let reply = reply.expect("the second is answered");
        assert_eq!(reply.option(code::MESSAGE_TYPE), Some(&[5][..]));
        assert_eq!(reply.address(code::SERVER_ID), Some(address(dead)));
        // The files come from the node that answers.
        assert_eq!(reply.field_address(field::SIADDR), address(node));
    }
    // From then on the dead node is passed over.
    let next = answering(&fleet, &machine, &firmware(&machine, DISCOVER, 2, 0), &broadcast(), at(8_000));
    assert_eq!(next.iter().filter(|&&node| node != dead).count(), 1, "{next:?}");
}

#[test]
fn request_to_a_node_that_is_known_to_be_dead_is_answered_at_once_by_one() {
    for number in 0..20 {
        let machine = machine_number(number);
        let fleet = Fleet::new(3, Mode::Server);
        let dead = fleet.owner(&machine);
        fleet.announce(|node| node != dead);
        let answers = answering(&fleet, &machine, &choosing(&machine, 1, address(dead)), &broadcast(), at(0));
        let living: Vec<_> = answers.into_iter().filter(|&node| node != dead).collect();
        assert_eq!(living.len(), 1, "{number}");
    }
}

#[test]
fn request_to_the_address_of_the_spec_is_no_other_servers() {
    let machine = machine_number(7);
    let fleet = Fleet::new(2, Mode::Server);
    let answers = answering(&fleet, &machine, &choosing(&machine, 1, SERVER), &broadcast(), at(0));
    assert_eq!(answers, [fleet.owner(&machine)]);
}

#[test]
fn request_to_a_former_address_of_a_node_is_its_own() {
    let machine = machine_number(7);
    let fleet = Fleet::new(2, Mode::Server);
    for node in 0..2 {
        let (_, reply) = fleet.ask(node, &machine, &choosing(&machine, 1, former(node)).bytes(), &broadcast(), at(0));
        assert_eq!(reply.and_then(|reply| reply.address(code::SERVER_ID)), Some(former(node)));
    }
}

#[test]
fn other_dhcp_servers_stay_others() {
    let machine = machine_number(7);
    let fleet = Fleet::new(2, Mode::Server);
    for milliseconds in [0, 4_000, 12_000] {
        for node in 0..2 {
            let bytes = choosing(&machine, 1, OTHER).bytes();
            let (outcome, _) = fleet.ask(node, &machine, &bytes, &broadcast(), at(milliseconds));
            assert_eq!(outcome.verdict, Err(Reason::OtherServer));
            assert!(outcome.events.iter().any(|event| matches!(event, EventKind::Ignored { .. })));
        }
    }
}

#[test]
fn declines_and_releases_to_another_node_are_its_own_matter() {
    let machine = machine_number(7);
    let fleet = Fleet::new(2, Mode::Server);
    for kind in [DECLINE, RELEASE] {
        let bytes = message(&machine, kind, 1, 0).address(code::SERVER_ID, address(1)).bytes();
        for milliseconds in [0, 4_000] {
            let (outcome, _) = fleet.ask(0, &machine, &bytes, &broadcast(), at(milliseconds));
            assert_eq!(outcome.verdict, Err(Reason::ChosePeer));
            assert_eq!(
                fleet.ask(1, &machine, &bytes, &broadcast(), at(milliseconds)).0.verdict,
                Err(Reason::NoReplyDue)
            );
        }
    }
}

#[test]
fn question_to_a_nodes_own_address_is_always_its_own() {
    let machine = machine_number(7);
    let fleet = Fleet::new(3, Mode::Server);
    for node in 0..3 {
        let to_it = Arrival::between(SocketAddrV4::new(machine.address, 68), SocketAddrV4::new(address(node), 67));
        let renewal = message(&machine, REQUEST, 1, 0).ciaddr(machine.address).bytes();
        let (_, reply) = fleet.ask(node, &machine, &renewal, &to_it, at(0));
        assert!(reply.is_some(), "{node}");
    }
}

#[test]
fn relayed_question_is_the_owners_although_each_node_is_spoken_to() {
    let machine = machine_number(7);
    let relay = Ipv4Addr::new(10, 9, 0, 1);
    let fleet = Fleet::new(3, Mode::Server);
    let answers = |message: &Message, milliseconds| -> Vec<usize> {
        let bytes = message.clone().giaddr(relay).bytes();
        let from_relay = |node| Arrival::between(SocketAddrV4::new(relay, 67), SocketAddrV4::new(address(node), 67));
        (0..3)
            .filter(|&node| fleet.ask(node, &machine, &bytes, &from_relay(node), at(milliseconds)).1.is_some())
            .collect()
    };
    let owner = fleet.owner(&machine);
    let discover = firmware(&machine, DISCOVER, 1, 0);
    assert_eq!(answers(&discover, 0), [owner]);
    assert_eq!(answers(&discover, 4_000), [0, 1, 2]);
    // With a server-id override every node goes by the relay's address, so the choice says nothing.
    let by_override = firmware(&machine, REQUEST, 2, 0)
        .address(code::SERVER_ID, relay)
        .address(code::REQUESTED_ADDRESS, machine.address)
        .option(code::RELAY_INFORMATION, &[11, 4, 10, 9, 0, 1]);
    assert_eq!(answers(&by_override, 20_000), [owner]);
    assert_eq!(answers(&by_override, 24_000), [0, 1, 2]);
}

#[test]
fn proxy_mode_has_one_offer_and_leaves_the_rest_to_who_made_it() {
    let machine = machine_number(7);
    let fleet = Fleet::new(3, Mode::Proxy);
    let owner = fleet.owner(&machine);
    let discover = firmware(&machine, DISCOVER, 1, 0);
    assert_eq!(answering(&fleet, &machine, &discover, &broadcast(), at(0)), [owner]);
    // The machine requests the other server's address. Only the owner's journal follows.
    for node in 0..3 {
        let (outcome, _) = fleet.ask(node, &machine, &choosing(&machine, 1, OTHER).bytes(), &broadcast(), at(1_000));
        let expected = if node == owner { Reason::NothingToSay } else { Reason::LeftToPeer };
        assert_eq!(outcome.verdict, Err(expected), "{node}");
    }
    // Port 4011 of the node that it was sent to.
    let boot_server = firmware(&machine, REQUEST, 3, 0).ciaddr(machine.address).bytes();
    for node in 0..3 {
        let to_it = Arrival::between(SocketAddrV4::new(machine.address, 4011), SocketAddrV4::new(address(node), 4011));
        assert!(fleet.ask(node, &machine, &boot_server, &to_it, at(2_000)).1.is_some());
    }
    // A broadcast to that port is for everybody.
    let to_all =
        Arrival::between(SocketAddrV4::new(machine.address, 4011), SocketAddrV4::new(Ipv4Addr::BROADCAST, 4011));
    let to_all = |xid| answering(&fleet, &machine, &firmware(&machine, INFORM, xid, 0), &to_all, at(3_000));
    assert_eq!(to_all(4), [owner]);
}

#[test]
fn owner_that_is_silent_in_proxy_mode_is_passed_over() {
    let machine = machine_number(7);
    let fleet = Fleet::new(3, Mode::Proxy);
    let dead = fleet.owner(&machine);
    let discover = firmware(&machine, DISCOVER, 1, 0);
    let [_, second] = twice(&fleet, &machine, [discover.clone(), discover], &broadcast(), 4_000);
    assert_eq!(second, [0, 1, 2]);
    let ipxe = message(&machine, DISCOVER, 2, 4).option(code::USER_CLASS, b"iPXE");
    let next = answering(&fleet, &machine, &ipxe, &broadcast(), at(8_000));
    assert_eq!(next.iter().filter(|&&node| node != dead).count(), 1, "{next:?}");
}

#[test]
fn node_alone_never_waits() {
    for (count, is_alive) in [(1, true), (3, false)] {
        let fleet = Fleet::new(count, Mode::Server);
        fleet.announce(|_| is_alive);
        for number in 0..20 {
            let machine = machine_number(number);
            let question = firmware(&machine, DISCOVER, 1, 0).bytes();
            assert!(fleet.ask(0, &machine, &question, &broadcast(), at(0)).1.is_some());
            let choice = choosing(&machine, 1, address(0)).bytes();
            assert!(fleet.ask(0, &machine, &choice, &broadcast(), at(1)).1.is_some());
        }
    }
}

#[test]
fn clock_that_is_set_back_takes_nothing_for_repeated() {
    let machine = machine_number(7);
    let fleet = Fleet::new(2, Mode::Server);
    let owner = fleet.owner(&machine);
    let discover = firmware(&machine, DISCOVER, 1, 0);
    assert_eq!(answering(&fleet, &machine, &discover, &broadcast(), at(3_600_000)), [owner]);
    assert_eq!(answering(&fleet, &machine, &discover, &broadcast(), at(0)), [owner]);
    assert_eq!(answering(&fleet, &machine, &discover, &broadcast(), UNIX_EPOCH - Duration::from_secs(9)), [owner]);
}

/// A figure, not a test: `cargo test --release -p pxe-userspace --lib dataplane::sharing -- --ignored --nocapture`
#[test]
#[ignore = "measures"]
fn turn_cost() {
    let machines: Vec<_> = (0..10_000).map(machine_number).collect();
    let questions: Vec<_> = machines.iter().map(|machine| firmware(machine, DISCOVER, 1, 0).bytes()).collect();
    for count in [1, 2, 3, 10] {
        let fleet = Fleet::new(count, Mode::Server);
        let mut best = [f64::MAX; 2];
        for round in 0..20 {
            let mut spent = [Duration::ZERO; 2];
            let mut asked = [0_u32; 2];
            for (machine, question) in machines.iter().zip(&questions) {
                let begun = std::time::Instant::now();
                let (outcome, _) =
                    std::hint::black_box(fleet.ask(0, machine, question, &broadcast(), at(round * 100_000)));
                let kind = usize::from(outcome.verdict.is_err());
                spent[kind] += begun.elapsed();
                asked[kind] += 1;
            }
            for kind in 0..2 {
                best[kind] = best[kind].min(spent[kind].as_nanos() as f64 / f64::from(asked[kind]));
            }
        }
        println!("{count} nodes: {:.0} ns for an answer, {:.0} ns for a silence", best[0], best[1]);
    }
}

/// Frames in a machine's name that another host sends, or that somebody sends as a relay, between the questions of the machine.
#[test]
fn forged_questions_change_no_turn_of_the_machine() {
    let attacker = MacAddr([6, 0, 0, 0, 0, 9]);
    let machine = machine_number(7);
    let discover = firmware(&machine, DISCOVER, 1, 0);
    for origin in [Origin::Other(attacker), Origin::Relay(attacker)] {
        let fleet = Fleet::new(3, Mode::Server);
        let owner = fleet.owner(&machine);
        let others: Vec<_> = (0..3).filter(|&node| node != owner).collect();
        let forge = |message: &Message, now| {
            let bytes = message.clone().bytes();
            let answers = |node: &usize| fleet.ask_from(origin, *node, &machine, &bytes, &broadcast(), now).1.is_some();
            (0..3).filter(answers).collect::<Vec<_>>()
        };
        assert_eq!(answering(&fleet, &machine, &discover, &broadcast(), at(0)), [owner]);
        // Other questions, the same ones again, and choices of other nodes.
        for step in 1..20 {
            forge(&firmware(&machine, DISCOVER, step, 0), at(u64::from(step) * 200));
            forge(&discover, at(u64::from(step) * 200 + 50));
            forge(&choosing(&machine, step, address(others[0])), at(u64::from(step) * 200 + 100));
            forge(&message(&machine, RELEASE, step, 0), at(u64::from(step) * 200 + 150));
        }
        let again = answering(&fleet, &machine, &discover, &broadcast(), at(4_100));
        assert_eq!(again, [0, 1, 2], "{origin:?}: the machine's repetition is known as one");
        let next = answering(&fleet, &machine, &firmware(&machine, DISCOVER, 99, 0), &broadcast(), at(60_000));
        assert_eq!(next, [owner], "{origin:?}: nobody chose another node for it");
    }
    // What another host repeats is answered by the owner alone, however old it says that the question is.
    let fleet = Fleet::new(3, Mode::Server);
    let owner = fleet.owner(&machine);
    for (step, secs) in [0, 0, 8, 30].into_iter().enumerate() {
        let bytes = firmware(&machine, DISCOVER, 1, secs).bytes();
        let now = at(step as u64 * 4_000);
        let answers = |node: &usize| {
            fleet.ask_from(Origin::Other(attacker), *node, &machine, &bytes, &broadcast(), now).1.is_some()
        };
        assert_eq!((0..3).filter(answers).collect::<Vec<_>>(), [owner], "step {step}");
    }
}
