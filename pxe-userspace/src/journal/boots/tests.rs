//! Boots as spans and as times.

use super::*;
use crate::{
    journal::{fleet::Fleet, remembered::State, samples::*},
    model::event::EventKind,
};

fn moved(boots: &mut Boots, machine: &Arc<Machine>, steps: &[(Stage, f64)]) -> Vec<Option<Duration>> {
    let kind = EventKind::WrongArchitecture { client_architecture: 11 };
    let event = |seconds| BootEvent { mac: MAC, at: at(seconds), origin: Origin::Machine, kind: kind.clone() };
    steps.iter().map(|&(stage, seconds)| boots.moved(machine, stage, false, &event(seconds))).collect()
}

fn received(receiver: &mut tokio::sync::mpsc::Receiver<Span>) -> Vec<Span> {
    std::iter::from_fn(|| receiver.try_recv().ok()).collect()
}

#[test]
fn boot_is_a_span_with_one_for_each_stage() {
    let times = Arc::new(BootTimes::default());
    let (sink, mut receiver) = SpanSink::channel(100, Default::default());
    let mut boots = Boots::new(Arc::clone(&times), Some(sink), false);
    let machine = Arc::new(machine(1));
    let steps = [(Stage::Discovering, 0.0), (Stage::Addressed, 1.0), (Stage::Booting, 5.0), (Stage::Running, 9.0)];
    let took = moved(&mut boots, &machine, &steps);
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(took, [None, seconds(1), seconds(4), seconds(4)]);
    let spans = received(&mut receiver);
    let shown: Vec<_> = spans.iter().map(|span| (span.name, span.step, span.begun, span.ended)).collect();
    assert_eq!(
        shown,
        [
            ("discovering", 1, at(0.0), at(1.0)),
            ("addressed", 2, at(1.0), at(5.0)),
            ("booting", 3, at(5.0), at(9.0)),
            ("boot", 0, at(0.0), at(9.0)),
        ]
    );
    assert!(spans.iter().all(|span| span.boot == spans[0].boot && span.error.is_none()));
    assert_eq!((times.boots(), times.stays(Stage::Addressed), times.stays(Stage::Running)), (1, 1, 0));
    // A running machine that gets another address is no boot.
    assert_eq!(moved(&mut boots, &machine, &[(Stage::OnDisk, 20.0), (Stage::Running, 30.0)]), [None, None]);
    assert!(received(&mut receiver).is_empty());
}

/// The operating system runs at 9 s, and is up at 30 s.
#[test]
fn boot_ends_when_the_system_is_up_if_somebody_finds_out() {
    for (verifies_up, spans_of_boot, stays) in [(false, (0.0, 9.0), 0), (true, (0.0, 30.0), 1)] {
        let times = Arc::new(BootTimes::default());
        let (sink, mut receiver) = SpanSink::channel(100, Default::default());
        let mut boots = Boots::new(Arc::clone(&times), Some(sink), verifies_up);
        let machine = Arc::new(machine(1));
        let steps = [(Stage::Discovering, 0.0), (Stage::Booting, 5.0), (Stage::Running, 9.0), (Stage::Up, 30.0)];
        moved(&mut boots, &machine, &steps);
        let spans = received(&mut receiver);
        let whole: Vec<_> = spans.iter().filter(|span| span.step == 0).collect();
        assert_eq!(whole.len(), 1);
        assert_eq!((whole[0].begun, whole[0].ended), (at(spans_of_boot.0), at(spans_of_boot.1)));
        assert_eq!(whole[0].error, None);
        assert_eq!((times.boots(), times.stays(Stage::Running)), (1, stays));
    }
}

/// A system that does not answer has run since 9 s, and the machine begins again a day later.
#[test]
fn boot_of_a_system_that_is_never_up_ends_when_it_ran_and_is_an_error() {
    for next in [Stage::Discovering, Stage::OnDisk] {
        let times = Arc::new(BootTimes::default());
        let (sink, mut receiver) = SpanSink::channel(100, Default::default());
        let mut boots = Boots::new(Arc::clone(&times), Some(sink), true);
        let steps = [(Stage::Discovering, 0.0), (Stage::Running, 9.0), (next, 86_400.0)];
        let took = moved(&mut boots, &Arc::new(machine(1)), &steps);
        assert_eq!(took, [None, Some(Duration::from_secs(9)), None], "its uptime is no part of a boot");
        let spans = received(&mut receiver);
        let whole = spans.iter().find(|span| span.step == 0).unwrap();
        assert_eq!((whole.ended, times.boots()), (at(9.0), 0));
        assert_eq!(whole.error.as_deref(), Some("its Talos API was not seen to answer"));
        assert!(spans.iter().all(|span| span.name != "running" && span.ended <= whole.ended), "{spans:?}");
    }
    // A renewal after a restart is no boot.
    let (sink, mut receiver) = SpanSink::channel(100, Default::default());
    let mut boots = Boots::new(Arc::default(), Some(sink), true);
    moved(&mut boots, &Arc::new(machine(1)), &[(Stage::Running, 0.0), (Stage::Up, 1.0)]);
    assert!(received(&mut receiver).is_empty() && boots.open.is_empty());
}

#[test]
fn boot_that_begins_again_is_an_error_and_no_boot() {
    let times = Arc::new(BootTimes::default());
    let (sink, mut receiver) = SpanSink::channel(100, Default::default());
    let mut boots = Boots::new(Arc::clone(&times), Some(sink), false);
    let machine = Arc::new(machine(1));
    moved(&mut boots, &machine, &[(Stage::Discovering, 0.0), (Stage::Failed, 1.0), (Stage::Discovering, 8.0)]);
    let spans = received(&mut receiver);
    assert_eq!(spans.iter().map(|span| span.name).collect::<Vec<_>>(), ["discovering", "failed", "boot"]);
    assert!(spans[1].error.is_some() && spans[2].error.is_some(), "{spans:?}");
    assert_eq!(times.boots(), 0);
    // The clock was set back.
    moved(&mut boots, &machine, &[(Stage::Addressed, 2.0)]);
    let spans = received(&mut receiver);
    assert!(spans.iter().all(|span| span.ended >= span.begun), "{spans:?}");
}

#[test]
fn boots_are_as_many_as_machines_at_most_and_spans_that_nobody_takes_are_counted() {
    let dropped = prometheus_client::metrics::counter::Counter::default();
    let (sink, _receiver) = SpanSink::channel(1, dropped.clone());
    let mut boots = Boots::new(Arc::default(), Some(sink), false);
    for number in 1..=10 {
        moved(&mut boots, &Arc::new(machine(number)), &[(Stage::Discovering, 0.0), (Stage::Addressed, 1.0)]);
    }
    assert_eq!(dropped.get(), 9);
    boots.prune(&inventory(3).load());
    assert_eq!(boots.open.len(), 3);
}

/// iPXE in the ROM of a network card asks again: no firmware is seen before.
#[test]
fn attempt_of_ipxe_in_rom_is_a_boot_of_its_own() {
    let times = Arc::new(BootTimes::default());
    let (sink, mut receiver) = SpanSink::channel(100, Default::default());
    let mut boots = Boots::new(Arc::clone(&times), Some(sink), false);
    let mut fleet = Fleet::new(&State::new(), at(-60.0), 1);
    let machine = Arc::new(machine(1));
    let mut apply = |seconds: f64, kinds: &[EventKind]| {
        for kind in kinds.iter().cloned() {
            let event = BootEvent { mac: MAC, at: at(seconds), origin: Origin::Machine, kind };
            let applied = fleet.apply(&event);
            if applied.moved {
                boots.moved(&machine, applied.stage, applied.begins, &event);
            }
        }
    };
    let fails = [requested(Kernel), failed(Kernel, "no such file")];
    apply(0.0, &[&dora(Ipxe)[..], &load(Script), &fails].concat());
    apply(3_600.0, &dora(Ipxe));
    apply(3_610.0, &[load(Script), load(Kernel), load(Initramfs)].concat());
    apply(3_620.0, &dora(Plain));
    let spans = received(&mut receiver);
    let shown: Vec<_> = spans.iter().filter(|span| span.step == 0).map(|span| (span.begun, span.ended)).collect();
    assert_eq!(shown, [(at(0.0), at(3_600.0)), (at(3_600.0), at(3_620.0))]);
    assert_ne!(spans[0].boot, spans[spans.len() - 1].boot);
    assert_eq!(times.boots(), 1);
}
