use std::{collections::HashSet, ops::Range, vec::Vec};

use proptest::{prelude::*, sample::Index};

use super::*;
use crate::{
    counter::{Action, Class},
    frame::VlanTag,
    testing::{FrameBuilder, KNOWN, Rules, SERVER, Step, UNKNOWN, World, cases, stories},
};

fn counter(frame: &[u8]) -> Counter {
    classify(frame, &World::new(Rules::default())).counter
}

#[test]
fn frame_gets_its_verdict() {
    for case in cases() {
        let world = World::new(case.rules);
        let counters: Vec<Counter> =
            case.expected.iter().map(|_| classify(case.frame.as_slice(), &world).counter).collect();
        assert_eq!(counters, case.expected, "{}", case.name);
    }
}

/// Userspace tells where a machine asks in vain.
#[test]
fn known_machine_on_another_vlan_is_noted_and_no_other() {
    let ask = |chaddr, tags: &[(u16, u16)], destination| {
        let world = World::new(Rules::default());
        let frame = FrameBuilder { chaddr, tags: tags.to_vec(), destination, ..FrameBuilder::default() }.build();
        classify(frame.as_slice(), &world);
        world.strays().into_iter().map(|(machine, vlan)| (MacAddr::from(machine), vlan)).collect::<Vec<_>>()
    };
    let everybody = Ipv4Addr::BROADCAST;
    assert_eq!(ask(KNOWN, &[(0x8100, 0xa007)], everybody), [(KNOWN, 7)]);
    assert_eq!(ask(KNOWN, &[(0x8100, 100), (0x8100, 7)], everybody), [(KNOWN, 7)]);
    let forged = FrameBuilder { ethernet_source: UNKNOWN, tags: Vec::from([(0x8100, 7)]), ..FrameBuilder::default() };
    let relayed =
        FrameBuilder { giaddr: Ipv4Addr::new(10, 0, 0, 9), tags: Vec::from([(0x8100, 7)]), ..FrameBuilder::default() };
    for frame in [forged, relayed] {
        let world = World::new(Rules::default());
        classify(frame.build().as_slice(), &world);
        assert!(world.strays().is_empty(), "somebody else sent it");
    }
    assert_eq!(ask(UNKNOWN, &[(0x8100, 7)], everybody), []);
    assert_eq!(ask(KNOWN, &[(0x8100, 100)], everybody), []);
    assert_eq!(ask(KNOWN, &[(0x8100, 7)], Ipv4Addr::new(10, 0, 0, 2)), [], "it has another server there");
}

#[test]
fn flood_in_a_machines_name_takes_none_of_its_tokens() {
    for story in stories() {
        let world = World::new(story.rules);
        for (index, Step { frame, expected, times }) in story.steps.iter().enumerate() {
            for time in 0..*times {
                let counter = classify(frame.as_slice(), &world).counter;
                assert_eq!(counter, *expected, "{}: step {index}, time {time}", story.name);
            }
        }
    }
}

#[test]
fn case_table_reaches_every_counter_and_names_every_case_once() {
    let reached: HashSet<Counter> = cases()
        .into_iter()
        .flat_map(|case| case.expected)
        .chain(stories().into_iter().flat_map(|story| story.steps).map(|step| step.expected))
        .collect();
    for counter in Counter::ALL {
        assert!(reached.contains(counter), "no case for {}", counter.name());
    }
    let names: HashSet<&str> = cases().iter().map(|case| case.name).collect();
    assert_eq!(names.len(), cases().len());
}

#[test]
fn headers_are_read_in_place() {
    let frame = FrameBuilder {
        tags: Vec::from([(0x88a8, 0x00c8), (0x8100, 0x6064)]),
        ip_options: Vec::from([1; 8]),
        source: Ipv4Addr::new(10, 0, 0, 9),
        destination: SERVER,
        ports: (68, 4011),
        ..FrameBuilder::default()
    };
    let bytes = [frame.build(), Vec::from([0xa5; 9])].concat();
    let headers = Headers::parse(bytes.as_slice()).unwrap();
    assert_eq!(headers.ethernet_destination, MacAddr::BROADCAST);
    assert_eq!(headers.ethernet_source, KNOWN);
    let tags = [VlanTag { protocol: 0x88a8, control: 0x00c8 }, VlanTag { protocol: 0x8100, control: 0x6064 }];
    assert_eq!(headers.tags.as_slice(), tags);
    assert_eq!(headers.tags.as_slice().iter().map(|tag| tag.vlan()).collect::<Vec<_>>(), [200, 100]);
    assert_eq!((headers.source, headers.destination), (Ipv4Addr::new(10, 0, 0, 9), SERVER));
    assert_eq!((headers.source_port, headers.destination_port), (68, 4011));
    assert_eq!(headers.payload, 14 + 8 + 28 + 8..bytes.len() - 9);
    let client = BootClient { mac: KNOWN, giaddr: Ipv4Addr::UNSPECIFIED };
    assert_eq!(BootClient::read(bytes.as_slice(), &headers), Ok(client));
}

fn valid_frame() -> impl Strategy<Value = Vec<u8>> {
    (any::<Index>(), proptest::collection::vec((any::<Index>(), any::<u8>()), 0..4)).prop_map(|(which, changes)| {
        let mut cases = cases();
        let mut frame = cases.swap_remove(which.index(cases.len())).frame;
        if !frame.is_empty() {
            // The headers are where a changed byte matters most.
            let headers = Range { start: 0, end: frame.len().min(80) };
            for (at, value) in changes {
                frame[at.index(headers.end)] = value;
            }
        }
        frame
    })
}

fn is_truncated(counter: Counter) -> bool {
    matches!(counter, Counter::TruncatedEthernet | Counter::TruncatedIpv4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_get_a_verdict(frame in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let verdict = classify(frame.as_slice(), &World::new(Rules::default()));
        prop_assert!(verdict.counter.class() == Class::Ours || verdict.counter.action() == Action::Pass);
    }

    #[test]
    fn payload_lies_within_the_frame(frame in valid_frame()) {
        if let Ok(headers) = Headers::parse(frame.as_slice()) {
            prop_assert!(frame.get(headers.payload).is_some());
        }
    }

    #[test]
    fn padding_does_not_change_the_verdict(frame in valid_frame(), garbage in proptest::collection::vec(any::<u8>(), 0..100)) {
        let bare = counter(&frame);
        let padded = [frame.as_slice(), &garbage].concat();
        prop_assert!(is_truncated(bare) || counter(&padded) == bare);
        if let Ok(headers) = Headers::parse(frame.as_slice()) {
            prop_assert_eq!(Headers::parse(padded.as_slice()), Ok(headers));
        }
    }

    #[test]
    fn frame_that_is_cut_is_never_ours(frame in valid_frame(), length: Index) {
        if let Ok(headers) = Headers::parse(frame.as_slice()) {
            let cut = &frame[..length.index(headers.payload.end)];
            prop_assert!(is_truncated(Headers::parse(cut).unwrap_err()));
        }
    }
}
