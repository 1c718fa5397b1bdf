//! One test for each fault: its effect on what is served, and the recovery.

use std::{net::Ipv4Addr, sync::Arc};

use pxe_common::layout::QUEUES_CAPACITY;

use super::{
    super::{
        addressing::{Addressing, Served},
        datapath::{Datapath, Path},
        kernel::{Entry, Source},
        plan::{Answered, Look, Step, plan},
        wanted::Wanted,
        xdp::AttachMode,
    },
    bench::{Bench, ETH0, ETH1, SITES, mac},
    fake::{Attached, Operation, ROOM},
};

const DRIVER: Operation = Operation::Attach(AttachMode::Driver);
const GENERIC: Operation = Operation::Attach(AttachMode::Generic);
const NOTHING: [Operation; 0] = [];

/// The broadcast address of the network on the first interface.
const BROADCAST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 255);

fn queue(index: u32) -> Operation {
    Operation::Start(Source::Queue { index, of: 2 })
}

#[test]
fn unchanged_world_causes_no_operation() {
    for datapath in [Datapath::Auto, Datapath::Generic, Datapath::Socket] {
        let mut bench = Bench::serving(datapath);
        assert_eq!(bench.reconcile_well(), NOTHING);
    }
}

#[test]
fn changed_machine_is_written_as_one_map_entry() {
    let mut bench = Bench::serving(Datapath::Auto);
    bench.put(4, ETH0);
    assert_eq!(bench.reconcile_well(), [Operation::Write(Entry::AddMachine(mac(4)))]);
    bench.machines.remove(&mac(1));
    assert_eq!(bench.reconcile_well(), [Operation::Write(Entry::RemoveMachine(mac(1)))]);
}

#[test]
fn program_is_attached_before_sockets_are_bound_and_registered() {
    let mut bench = Bench::new(Datapath::Auto);
    bench.put(1, ETH0);
    let [address, _] = SITES[0].1;
    let expected = [
        Operation::Load,
        Operation::Write(Entry::AddMachine(mac(1))),
        Operation::Write(Entry::AddAddress(address)),
        Operation::Write(Entry::AddAddress(BROADCAST)),
        DRIVER,
        queue(0),
        Operation::Register(0),
        queue(1),
        Operation::Register(1),
    ];
    assert_eq!(bench.reconcile_well(), expected);
}

#[test]
fn outgrown_map_is_replaced_while_everything_is_served() {
    let mut bench = Bench::serving(Datapath::Auto);
    for number in 10..10 + u8::try_from(ROOM).unwrap() {
        bench.put(number, ETH0);
    }
    let done = bench.reconcile_well();
    assert!(done.contains(&Operation::Replace) && !done.contains(&DRIVER) && !done.contains(&queue(0)), "{done:?}");
    assert!(bench.state(ETH0).room > ROOM);
    assert_eq!(bench.reconcile_well(), NOTHING);
}

/// The old program keeps its machines and takes as many others as fit.
#[test]
fn outgrown_map_that_cannot_be_replaced_goes_on_serving() {
    for refused in
        [Operation::Load, Operation::Replace, Operation::Register(1), Operation::Write(Entry::AddMachine(mac(13)))]
    {
        let mut bench = Bench::serving(Datapath::Auto);
        bench.refuse(ETH0, refused);
        for number in 10..14 {
            bench.put(number, ETH0);
        }
        let (problems, _) = bench.reconcile();
        assert!(!problems.is_empty() && problems.iter().all(|problem| problem.contains(ETH0)), "{problems:?}");
        for number in [1, 2, 3, 10, 11] {
            assert!(bench.serves(number), "machine {number} with {refused:?}");
        }
        assert!(!bench.serves(13));
        bench.allow_all();
        bench.reconcile_well();
        assert!(bench.serves(13));
    }
}

#[test]
fn program_that_a_failed_replacement_took_off_is_attached_with_the_next_look() {
    let mut bench = Bench::serving(Datapath::Auto);
    bench.refuse(ETH0, Operation::ReplaceOrDetach);
    for number in 10..14 {
        bench.put(number, ETH0);
    }
    assert!(!bench.reconcile_unwatched().0.is_empty());
    assert!(!bench.serves(1));
    bench.allow_all();
    bench.reconcile_well();
}

#[test]
fn ended_worker_is_restarted_without_touching_the_others() {
    let mut bench = Bench::serving(Datapath::Auto);
    bench.kernel.world().end_workers(ETH0, |place| place == 1);
    assert_eq!(bench.reconcile_well(), [queue(1), Operation::Register(1)]);

    bench.kernel.world().end_workers(ETH0, |place| place == 0);
    bench.refuse(ETH0, queue(0));
    assert_eq!(bench.reconcile().0.len(), 1);
    assert_eq!(bench.reconcile().0.len(), 1);
    bench.allow_all();
    assert_eq!(bench.reconcile_well(), [queue(0), Operation::Register(0)]);

    let mut bench = Bench::serving(Datapath::Socket);
    bench.kernel.world().end_workers(ETH0, |_| true);
    assert_eq!(bench.reconcile_well(), [Operation::Start(Source::Packets)]);
}

#[test]
fn stuck_worker_is_a_problem_until_it_moves_again() {
    for datapath in [Datapath::Auto, Datapath::Socket] {
        let mut bench = Bench::serving(datapath);
        bench.kernel.world().stick_workers(ETH0, true);
        let found = (0..10).map(|_| bench.reconcile().0).find(|problems| !problems.is_empty()).unwrap_or_default();
        let of_eth0 = |problem: &String| problem.contains(ETH0) && problem.contains("stuck");
        assert!(!found.is_empty() && found.iter().all(of_eth0), "{found:?}");
        bench.kernel.world().stick_workers(ETH0, false);
        bench.reconcile_well();
    }
}

#[test]
fn replaced_interface_is_reopened() {
    type Change = fn(&mut Bench);
    let changes: [(&str, Change); 4] = [
        ("index", |bench| bench.kernel.world().plug_in(ETH0, 2, &[(SITES[0].1[0], 24)])),
        ("MAC", |bench| bench.kernel.world().device(ETH0).interface.mac = mac(99)),
        ("MTU", |bench| bench.kernel.world().device(ETH0).interface.mtu = 9000),
        ("queues", |bench| bench.kernel.world().device(ETH0).interface.queues = 4),
    ];
    for (what, change) in changes {
        for datapath in [Datapath::Auto, Datapath::Socket] {
            let mut bench = Bench::serving(datapath);
            change(&mut bench);
            let done = bench.reconcile_well();
            assert!(done.iter().any(|operation| matches!(operation, Operation::Start(_))), "{what}: {done:?}");
            let interface = bench.kernel.world().device(ETH0).interface.clone();
            assert_eq!(bench.state(ETH0).interface, interface, "{what}");
            assert_eq!(bench.reconcile_well(), NOTHING, "{what}");
        }
    }
}

#[test]
fn missing_interface_is_closed_reported_and_reopened_when_it_returns() {
    let mut bench = Bench::serving(Datapath::Auto);
    bench.kernel.world().devices.remove(ETH0);
    let (problems, _) = bench.reconcile();
    assert!(problems.len() == 1 && problems[0].contains("does not exist"), "{problems:?}");
    assert!(!bench.has(ETH0) && bench.serves(3));
    bench.kernel.world().plug_in(ETH0, 2, &[(SITES[0].1[0], 24)]);
    bench.reconcile_well();
}

/// A port on an interface that is down stays open, so that it serves as soon as the interface is up.
#[test]
fn down_interface_is_reported_and_keeps_its_port() {
    for datapath in [Datapath::Auto, Datapath::Socket] {
        let mut bench = Bench::serving(datapath);
        bench.kernel.world().device(ETH0).interface.up = false;
        let (problems, _) = bench.reconcile();
        assert!(problems.len() == 1 && problems[0].contains("ip link set dev eth0 up"), "{problems:?}");
        assert!(bench.kernel.world().done.is_empty());
        bench.kernel.world().device(ETH0).interface.up = true;
        assert!(bench.serves(1));
        assert_eq!(bench.reconcile_well(), NOTHING);
    }
}

#[test]
fn interface_that_returns_down_is_opened_when_it_is_up() {
    let mut bench = Bench::serving(Datapath::Auto);
    bench.kernel.world().plug_in(ETH0, 2, &[(SITES[0].1[0], 24)]);
    bench.kernel.world().device(ETH0).interface.up = false;
    assert_eq!(bench.reconcile().0.len(), 1);
    assert!(!bench.has(ETH0));
    bench.kernel.world().device(ETH0).interface.up = true;
    bench.reconcile_well();
}

#[test]
fn failure_on_one_interface_leaves_the_others_served() {
    for refused in [Operation::Look, Operation::Load, DRIVER, queue(1), Operation::Register(0)] {
        let mut bench = Bench::new(Datapath::Xdp);
        bench.put(1, ETH0);
        bench.put(3, ETH1);
        bench.refuse(ETH0, refused);
        let (problems, _) = bench.reconcile();
        assert!(problems.len() == 1 && problems[0].contains(ETH0), "{problems:?}");
        assert!(bench.serves(3) && !bench.serves(1), "{refused:?}");
        bench.allow_all();
        bench.reconcile_well();
    }
}

#[test]
fn failed_address_write_is_retried() {
    let mut bench = Bench::serving(Datapath::Auto);
    let [first, second] = SITES[0].1;
    for site in bench.machines.values_mut().filter(|site| &*site.interface == ETH0) {
        site.address = second;
    }
    bench.kernel.world().device(ETH0).interface.addresses = vec![(second, 24)];
    let writes = [Operation::Write(Entry::RemoveAddress(first)), Operation::Write(Entry::AddAddress(second))];
    bench.refuse(ETH0, writes[0]);
    bench.refuse(ETH0, writes[1]);
    let (problems, _) = bench.reconcile();
    assert!(problems.len() == 1 && problems[0].contains("(and 1 more)"), "{problems:?}");
    assert_eq!(bench.reconcile().0.len(), 1);
    bench.allow_all();
    assert_eq!(bench.reconcile_well(), writes);
}

#[test]
fn failed_machine_write_is_retried_and_does_not_stop_the_others() {
    let mut bench = Bench::serving(Datapath::Auto);
    bench.machines.remove(&mac(1));
    bench.machines.remove(&mac(2));
    bench.put(5, ETH0);
    bench.put(6, ETH0);
    let failing = [Operation::Write(Entry::RemoveMachine(mac(1))), Operation::Write(Entry::AddMachine(mac(5)))];
    failing.iter().for_each(|&write| bench.refuse(ETH0, write));
    let (problems, _) = bench.reconcile();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(bench.serves(6) && !bench.serves(5));
    assert_eq!(bench.state(ETH0).machines[..], [mac(1), mac(6)]);
    bench.allow_all();
    assert_eq!(bench.reconcile_well(), failing);
}

/// A request that the program hands us must find its answer.
#[test]
fn workers_know_an_address_before_the_map_does() {
    let bench = Bench::serving(Datapath::Auto);
    let [first, second] = SITES[0].1;
    let mut interface = bench.state(ETH0).interface.clone();
    interface.addresses.push((second, 24));
    let have = [(ETH0.into(), bench.state(ETH0))].into();
    let wanted = Wanted {
        addresses: vec![first, second],
        machines: Arc::clone(&bench.state(ETH0).machines),
        ..Wanted::default()
    };
    let look = Look { interface: Ok(interface), programs: Ok(None), taken: Vec::new() };
    let plan = plan(
        &have,
        &[(ETH0.into(), wanted)].into(),
        [(ETH0.into(), look)].into(),
        (Datapath::Auto, &Addressing::OfSpec),
        bench.now,
    );
    let steps: Vec<_> = plan.steps.into_iter().map(|(_, step)| step).collect();
    let asked_at = [first, second, BROADCAST].into();
    let addresses = vec![(first, 24), (second, 24)];
    let servers = [first, second].map(Served::of_spec).to_vec();
    assert_eq!(steps[0], Step::Answer(Answered { servers, addresses, asked_at, taken: Arc::default() }));
    assert!(steps.len() == 2 && matches!(steps[1], Step::WriteAddresses(_)), "{steps:?}");
}

#[test]
fn changed_prefix_length_changes_the_answers_and_the_broadcast_address() {
    let mut bench = Bench::serving(Datapath::Auto);
    let [address, _] = SITES[0].1;
    bench.kernel.world().device(ETH0).interface.addresses = vec![(address, 16)];
    let wider = Ipv4Addr::new(10, 0, 255, 255);
    let writes = [Entry::RemoveAddress(BROADCAST), Entry::AddAddress(wider)].map(Operation::Write);
    assert_eq!(bench.reconcile_well(), writes);
    assert_eq!(bench.state(ETH0).answered.addresses, [(address, 16)]);
    bench.kernel.world().device(ETH0).interface.addresses = vec![(address, 32)];
    assert_eq!(bench.reconcile_well(), [Operation::Write(Entry::RemoveAddress(wider))]);
}

/// A relay may ask an address of the interface that is no server's.
#[test]
fn other_addresses_of_the_interface_come_and_go_with_the_kernel() {
    let mut bench = Bench::serving(Datapath::Auto);
    let [first, second] = SITES[0].1;
    let other = (Ipv4Addr::new(10, 3, 0, 1), 24);
    bench.kernel.world().device(ETH0).interface.addresses = vec![(first, 24), other, (second, 32)];
    let broadcast = Ipv4Addr::new(10, 3, 0, 255);
    let added = [second, other.0, broadcast].map(|address| Operation::Write(Entry::AddAddress(address)));
    assert_eq!(bench.reconcile_well(), added);
    assert_eq!(bench.state(ETH0).answered.servers, [Served::of_spec(first)]);
    bench.kernel.world().device(ETH0).interface.addresses = vec![(first, 24)];
    let removed = [second, other.0, broadcast].map(|address| Operation::Write(Entry::RemoveAddress(address)));
    assert_eq!(bench.reconcile_well(), removed);
}

/// The map has the VLANs of all machines of the interface.
#[test]
fn vlans_come_and_go_with_the_spec() {
    let mut bench = Bench::serving(Datapath::Auto);
    bench.vlans = [(mac(1), vec![100]), (mac(2), vec![7, 100]), (mac(3), vec![200])].into();
    let [seven, hundred, two_hundred] = [7, 100, 200].map(|vlan| Operation::Write(Entry::AddVlan(vlan)));
    assert_eq!(bench.reconcile_well(), [seven, hundred, two_hundred]);
    assert_eq!((&bench.state(ETH0).vlans[..], &bench.state(ETH1).vlans[..]), (&[7, 100][..], &[200][..]));
    bench.vlans.remove(&mac(2));
    let removed = Operation::Write(Entry::RemoveVlan(7));
    bench.refuse(ETH0, removed);
    assert_eq!(bench.reconcile().0.len(), 1);
    bench.allow_all();
    assert_eq!(bench.reconcile_well(), [removed]);

    // A program that replaces another one, or comes after a fallback, has them too.
    for number in 10..10 + u8::try_from(ROOM).unwrap() {
        bench.put(number, ETH0);
    }
    assert!(bench.reconcile_well().contains(&Operation::Replace));
    bench.kernel.world().device(ETH0).attached = None;
    bench.reconcile_well();
    assert_eq!(bench.state(ETH0).vlans[..], [100]);
}

/// XDP takes a request on a VLAN for one without, if it does not see the tag.
#[test]
fn tags_that_xdp_does_not_see_are_warned_of() {
    for (datapath, strips_tags, has_vlans, vlans, expected) in [
        (Datapath::Auto, true, false, vec![100], true),
        (Datapath::Generic, true, true, vec![], true),
        (Datapath::Auto, true, false, vec![], false),
        (Datapath::Auto, false, true, vec![100], false),
        (Datapath::Socket, true, true, vec![100], false),
    ] {
        let mut bench = Bench::serving(datapath);
        let case = format!("{datapath:?} {strips_tags} {has_vlans} {vlans:?}");
        bench.vlans = [(mac(1), vlans)].into();
        {
            let mut world = bench.kernel.world();
            let interface = &mut world.device(ETH0).interface;
            (interface.strips_tags, interface.has_vlans) = (strips_tags, has_vlans);
        }
        let (problems, warnings) = bench.reconcile();
        assert!(problems.is_empty() && warnings.len() == usize::from(expected), "{case}: {warnings:?}");
        assert!(
            warnings.iter().all(|warning| warning.contains("`ethtool -K eth0 rxvlan off`")),
            "{case}: {warnings:?}"
        );
        bench.kernel.world().device(ETH0).interface.strips_tags = false;
        assert!(bench.reconcile().1.is_empty(), "{case}");
    }
}

/// Requests to the other addresses are for another program, then.
#[test]
fn interface_without_a_server_address_is_asked_nowhere() {
    let mut bench = Bench::serving(Datapath::Auto);
    let [first, second] = SITES[0].1;
    bench.kernel.world().device(ETH0).interface.addresses = vec![(second, 24)];
    let (problems, _) = bench.reconcile();
    assert!(problems.len() == 1 && problems[0].contains("does not have the address"), "{problems:?}");
    assert!(bench.kernel.world().maps(ETH0).is_some_and(|maps| maps.addresses.is_empty()) && !bench.serves(1));
    bench.kernel.world().device(ETH0).interface.addresses.push((first, 32));
    bench.reconcile_well();
    assert!(bench.serves(1));
}

#[test]
fn queues_beyond_the_map_are_reported_with_the_command() {
    let mut bench = Bench::serving(Datapath::Auto);
    assert!(bench.reconcile().1.is_empty());
    bench.kernel.world().device(ETH0).interface.queues = QUEUES_CAPACITY + 1;
    let (problems, warnings) = bench.reconcile();
    assert!(problems.is_empty());
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    for part in [ETH0, "257 receive queues", "first 256", "`ethtool -L eth0 combined 256`"] {
        assert!(warning.contains(part), "no {part} in {warning}");
    }
    // The packet socket receives from all queues.
    let mut bench = Bench::new(Datapath::Socket);
    bench.put(1, ETH0);
    bench.kernel.world().device(ETH0).interface.queues = QUEUES_CAPACITY + 1;
    assert!(bench.reconcile().1.is_empty());
}

#[test]
fn foreign_program_forces_the_slower_path_while_it_is_attached() {
    let mut bench = Bench::new(Datapath::Auto);
    bench.put(1, ETH0);
    bench.kernel.world().device(ETH0).attached = Some(Attached::Foreign);
    let (problems, warnings) = bench.reconcile();
    assert!(problems.is_empty() && warnings.len() == 1 && warnings[0].contains("another XDP program"), "{warnings:?}");
    assert_eq!(bench.state(ETH0).path, Path::Socket);
    for _ in 0..10 {
        assert_eq!(bench.reconcile_well(), NOTHING, "no attempt is made in vain");
    }
    bench.kernel.world().device(ETH0).attached = None;
    let done = bench.reconcile_well();
    assert!(done.contains(&DRIVER), "{done:?}");
    assert_eq!(bench.state(ETH0).path, Path::Driver);
    assert_eq!(bench.reconcile(), (vec![], vec![]));
}

/// Each attempt may disturb the card, so failing attempts become rarer.
#[test]
fn better_path_is_retried_with_growing_pauses() {
    let mut bench = Bench::new(Datapath::Auto);
    bench.put(1, ETH0);
    bench.refuse(ETH0, queue(1));
    assert_eq!(bench.reconcile().1.len(), 1);
    let mut looks_between = Vec::new();
    let mut idle = 0;
    while looks_between.len() < 6 {
        bench.refuse(ETH0, queue(1));
        if bench.reconcile_well().is_empty() {
            idle += 1;
        } else {
            looks_between.push(idle);
            idle = 0;
        }
        assert_eq!(bench.state(ETH0).path, Path::Socket);
    }
    assert_eq!(looks_between, [0, 0, 1, 3, 7, 15]);
    bench.allow_all();
    bench.wait();
    bench.reconcile_well();
    assert_eq!(bench.state(ETH0).path, Path::Driver);
}

#[test]
fn generic_path_is_kept_instead_of_trying_a_better_one() {
    let mut bench = Bench::new(Datapath::Auto);
    bench.put(1, ETH0);
    bench.refuse(ETH0, DRIVER);
    let (_, warnings) = bench.reconcile();
    assert!(warnings[0].contains("xdp-generic"), "{warnings:?}");
    bench.allow_all();
    bench.wait();
    assert_eq!(bench.reconcile_well(), NOTHING);
    assert_eq!(bench.state(ETH0).path, Path::Generic);
}

#[test]
fn aggregate_is_never_served_by_the_driver_path() {
    let mut bench = Bench::new(Datapath::Auto);
    bench.put(1, ETH0);
    bench.kernel.world().device(ETH0).interface.aggregate = true;
    bench.refuse(ETH0, GENERIC);
    bench.reconcile();
    assert_eq!(bench.state(ETH0).path, Path::Socket);
    bench.allow_all();
    bench.wait();
    bench.reconcile_well();
    assert_eq!(bench.state(ETH0).path, Path::Generic);
}

#[test]
fn detached_program_is_attached_again() {
    let mut bench = Bench::serving(Datapath::Auto);
    bench.kernel.world().device(ETH0).attached = None;
    let done = bench.reconcile_well();
    assert!(done.contains(&DRIVER), "{done:?}");
}

/// Machines that were served stay so, and machines that are added are served too.
#[test]
fn failed_look_closes_no_port() {
    for datapath in [Datapath::Auto, Datapath::Socket] {
        let mut bench = Bench::serving(datapath);
        bench.refuse(ETH0, Operation::Look);
        bench.refuse(ETH0, Operation::LookForProgram);
        for _ in 0..3 {
            let (problems, _) = bench.reconcile();
            assert!(problems.len() == 1 && problems[0].contains("cannot be looked up"), "{problems:?}");
            assert!(bench.kernel.world().done.is_empty());
            assert!(bench.serves(1));
        }
        bench.put(4, ETH0);
        bench.reconcile();
        assert!(bench.serves(4));
        bench.allow_all();
        assert_eq!(bench.reconcile_well(), NOTHING);
    }
}

#[test]
fn failed_look_for_programs_does_not_count_as_a_detached_program() {
    let mut bench = Bench::serving(Datapath::Auto);
    bench.refuse(ETH0, Operation::LookForProgram);
    let (problems, _) = bench.reconcile();
    assert!(problems.len() == 1 && bench.kernel.world().done.is_empty(), "{problems:?}");
}

#[test]
fn unwanted_interface_is_closed() {
    let mut bench = Bench::serving(Datapath::Auto);
    bench.machines.remove(&mac(3));
    bench.reconcile_well();
    assert!(!bench.has(ETH1) && bench.has(ETH0));
    assert_eq!(bench.kernel.world().device(ETH1).attached, None);
}
