use proptest::prelude::*;

use super::*;

type Test = Schedule<u32, &'static str>;

const GROUP: &str = "machines in default";

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn want(schedule: &mut Test, key: u32, priority: Priority, now: Instant) {
    schedule.want(key, priority, Duration::ZERO, now);
}

/// Returns what is written from `from` on for this long, with the time of each; every write ends as `ends` says.
fn run(
    schedule: &mut Test,
    from: Instant,
    lasts: Duration,
    mut ends: impl FnMut(u32) -> Result<(), Failure>,
) -> Vec<(u32, Duration)> {
    let mut writes = Vec::new();
    let mut now = from;
    while now <= from + lasts {
        while let Some(key) = schedule.next(now, |_| GROUP) {
            writes.push((key, now - from));
            match ends(key) {
                Ok(()) => schedule.written(&key, &GROUP, now),
                Err(failure) => _ = schedule.failed(&key, GROUP, failure, now),
            }
        }
        now += Duration::from_millis(50);
    }
    writes
}

fn keys(writes: &[(u32, Duration)]) -> Vec<u32> {
    writes.iter().map(|(key, _)| *key).collect()
}

#[test]
fn changes_in_quick_succession_are_one_write() {
    let now = Instant::now();
    let mut schedule = Test::new(now);
    for step in 0..10 {
        want(&mut schedule, 1, Priority::Outcome, now + Duration::from_millis(step * 30));
    }
    let writes = run(&mut schedule, now, seconds(10.0), |_| Ok(()));
    assert_eq!(keys(&writes), [1]);
    assert!(writes[0].1 <= seconds(1.0), "{writes:?}");
    assert_eq!(schedule.wanted(), 0);
}

#[test]
fn change_during_a_write_is_written_after_it() {
    let now = Instant::now();
    let mut schedule = Test::new(now);
    want(&mut schedule, 1, Priority::Outcome, now);
    let later = now + seconds(1.0);
    assert_eq!(schedule.next(later, |_| GROUP), Some(1));
    want(&mut schedule, 1, Priority::Outcome, later);
    assert_eq!(schedule.next(later + seconds(5.0), |_| GROUP), None);
    schedule.written(&1, &GROUP, later + seconds(5.0));
    assert_eq!(schedule.next(later + seconds(6.0), |_| GROUP), Some(1));
}

#[test]
fn progress_of_one_boot_is_written_every_five_seconds_and_its_end_at_once() {
    let now = Instant::now();
    let mut schedule = Test::new(now);
    let mut writes = Vec::new();
    for step in 0..100_u64 {
        let at = now + Duration::from_millis(step * 100);
        let priority = if step == 70 { Priority::Outcome } else { Priority::Progress };
        if step <= 70 {
            want(&mut schedule, 1, priority, at);
        }
        while let Some(key) = schedule.next(at, |_| GROUP) {
            writes.push(step * 100);
            schedule.written(&key, &GROUP, at);
        }
    }
    assert_eq!(writes, [500, 5_500, 7_500]);
}

#[test]
fn fleet_writes_five_times_a_second_and_facts_first() {
    let now = Instant::now();
    for nodes in [1_u32, 2, 3, 7] {
        let mut schedule = Test::new(now);
        schedule.set_nodes(nodes as usize);
        for key in 0..1_500 {
            let priority = [Priority::Progress, Priority::Fact, Priority::Initial, Priority::Event][key as usize % 4];
            want(&mut schedule, key, priority, now);
        }
        let writes = run(&mut schedule, now, seconds(60.0), |_| Ok(()));
        let expected = (60 * A_SECOND / nodes) as usize;
        assert!((expected..=expected + 6).contains(&writes.len()), "{nodes} nodes: {} writes", writes.len());
        // But for those of the first moment, when only facts were due anyway.
        assert!(keys(&writes).iter().all(|key| key % 4 == 1), "{writes:?}");
        let in_a_second = writes.windows(A_SECOND as usize + 5);
        assert!(in_a_second.clone().all(|window| window[window.len() - 1].1 - window[0].1 >= seconds(0.75)));
    }
}

#[test]
fn order_is_that_of_the_priorities_then_of_the_wishes() {
    let now = Instant::now();
    let mut schedule = Test::new(now);
    want(&mut schedule, 1, Priority::Initial, now);
    want(&mut schedule, 2, Priority::Progress, now);
    want(&mut schedule, 3, Priority::Event, now);
    want(&mut schedule, 4, Priority::Outcome, now);
    want(&mut schedule, 5, Priority::Fact, now + seconds(0.3));
    want(&mut schedule, 6, Priority::Fact, now);
    // One that becomes more important moves forward.
    want(&mut schedule, 1, Priority::Fact, now + seconds(0.1));
    let writes = run(&mut schedule, now + seconds(1.0), seconds(3.0), |_| Ok(()));
    assert_eq!(keys(&writes), [6, 1, 5, 4, 3, 2]);
}

#[test]
fn slow_writes_hold_up_others_only_if_there_are_several() {
    let now = Instant::now() + seconds(10.0);
    let mut schedule = Test::new(now);
    (0..10).for_each(|key| want(&mut schedule, key, Priority::Outcome, now));
    let mut sent = Vec::new();
    for step in 0..100_u64 {
        sent.extend(schedule.next(now + Duration::from_millis(step * 100), |_| GROUP));
    }
    assert_eq!(sent.len(), AT_ONCE);
    schedule.written(&sent[0], &GROUP, now + seconds(10.0));
    assert!(schedule.next(now + seconds(10.0), |_| GROUP).is_some());
}

#[test]
fn refused_object_is_told_of_once_tried_rarely_and_holds_up_nobody() {
    let now = Instant::now();
    let mut schedule = Test::new(now);
    (0..10).for_each(|key| want(&mut schedule, key, Priority::Outcome, now));
    let mut lines = 0;
    let mut writes = Vec::new();
    for step in 0..36_000_u64 {
        let at = now + Duration::from_millis(step * 100);
        // It changes all the time, too.
        want(&mut schedule, 3, Priority::Fact, at);
        while let Some(key) = schedule.next(at, |_| GROUP) {
            writes.push((key, at - now));
            if key == 3 {
                let told = schedule.failed(&key, GROUP, Failure::Refused, at);
                lines += u32::from(told == Told::Line);
            } else {
                schedule.written(&key, &GROUP, at);
            }
        }
    }
    assert_eq!(lines, 1);
    let (refused, others): (Vec<_>, Vec<_>) = writes.iter().partition(|(key, _)| *key == 3);
    assert_eq!(others.len(), 9);
    assert!(others.iter().all(|(_, at)| *at < seconds(3.0)), "{others:?}");
    // In an hour: at 1, 2, 4, 8, 16 and 30 minutes after each other.
    assert!((4..=7).contains(&refused.len()), "{refused:?}");
}

#[test]
fn webhook_that_rejects_every_object_fills_neither_log_nor_wire() {
    let now = Instant::now();
    let mut schedule = Test::new(now);
    (0..300).for_each(|key| want(&mut schedule, key, Priority::Outcome, now));
    let mut lines = 0;
    let mut writes = 0;
    for step in 0..3_000_u64 {
        let at = now + Duration::from_millis(step * 100);
        while let Some(key) = schedule.next(at, |_| GROUP) {
            writes += 1;
            lines += u32::from(schedule.failed(&key, GROUP, Failure::Refused, at) == Told::Line);
        }
    }
    assert_eq!(lines, LINES);
    assert!(writes <= 300 * A_SECOND + 10, "{writes}");
}

#[test]
fn forbidden_group_is_told_of_once_and_others_are_written() {
    let now = Instant::now();
    let mut schedule = Test::new(now);
    let group = |key: &u32| if key.is_multiple_of(2) { "even" } else { "odd" };
    (0..20).for_each(|key| want(&mut schedule, key, Priority::Outcome, now));
    let (mut lines, mut tries, mut written) = (0, 0, 0);
    for step in 0..6_000_u64 {
        let at = now + Duration::from_millis(step * 100);
        while let Some(key) = schedule.next(at, group) {
            if group(&key) == "even" {
                tries += 1;
                lines += u32::from(schedule.failed(&key, "even", Failure::Forbidden, at) == Told::Line);
            } else {
                written += 1;
                schedule.written(&key, &"odd", at);
            }
        }
    }
    assert_eq!((lines, written), (1, 10));
    assert!(tries <= 5, "{tries}");
    // The right is given: everything is written.
    let from = now + seconds(7_200.0);
    let writes = run(&mut schedule, from, seconds(10.0), |_| Ok(()));
    assert_eq!(writes.len(), 10);
}

#[test]
fn server_in_trouble_is_asked_once_a_minute_and_gets_everything_later() {
    for failure in [Failure::Trouble, Failure::Busy(None)] {
        let now = Instant::now();
        let mut schedule = Test::new(now);
        (0..50).for_each(|key| want(&mut schedule, key, Priority::Outcome, now));
        let mut lines = 0;
        let mut tries = 0;
        for step in 0..36_000_u64 {
            let at = now + Duration::from_millis(step * 100);
            while let Some(key) = schedule.next(at, |_| GROUP) {
                tries += 1;
                lines += u32::from(schedule.failed(&key, GROUP, failure, at) == Told::Line);
            }
        }
        assert_eq!(lines, 1);
        assert!((60..70).contains(&tries), "{tries}");
        let writes = run(&mut schedule, now + seconds(3_660.0), seconds(90.0), |_| Ok(()));
        let mut all = keys(&writes);
        all.sort_unstable();
        assert_eq!(all, (0..50).collect::<Vec<_>>());
    }
}

#[test]
fn pause_that_the_server_asks_for_is_kept_but_not_for_ever() {
    for (asked, least, most) in [(30, 30, 31), (0, 1, 3), (1_000_000, 120, 122)] {
        let now = Instant::now();
        let mut schedule = Test::new(now);
        (0..2).for_each(|key| want(&mut schedule, key, Priority::Outcome, now));
        let mut is_first = true;
        let writes = run(&mut schedule, now + seconds(1.0), seconds(300.0), |_| {
            if std::mem::take(&mut is_first) { Err(Failure::Busy(Some(Duration::from_secs(asked)))) } else { Ok(()) }
        });
        let pause = writes[1].1 - writes[0].1;
        assert!(pause >= Duration::from_secs(least) && pause <= Duration::from_secs(most), "{asked}: {pause:?}");
    }
}

#[test]
fn conflict_is_tried_again_soon_and_silently() {
    let now = Instant::now();
    let mut schedule = Test::new(now);
    want(&mut schedule, 1, Priority::Outcome, now);
    let at = now + seconds(1.0);
    assert_eq!(schedule.next(at, |_| GROUP), Some(1));
    assert_eq!(schedule.failed(&1, GROUP, Failure::Conflict, at), Told::Nothing);
    assert_eq!(schedule.next(at + seconds(0.9), |_| GROUP), None);
    assert_eq!(schedule.next(at + seconds(1.0), |_| GROUP), Some(1));
}

#[test]
fn object_that_is_gone_is_forgotten() {
    let now = Instant::now();
    let mut schedule = Test::new(now);
    (0..3).for_each(|key| want(&mut schedule, key, Priority::Outcome, now));
    let writes = run(&mut schedule, now, seconds(60.0), |key| if key == 1 { Err(Failure::Gone) } else { Ok(()) });
    assert_eq!(keys(&writes), [0, 1, 2]);
    assert_eq!(schedule.kept(), 2);
    let at = now + seconds(61.0);
    want(&mut schedule, 0, Priority::Outcome, at);
    assert_eq!(schedule.next(at + seconds(1.0), |_| GROUP), Some(0));
    schedule.retain(|key| *key == 2, |_| false);
    assert_eq!((schedule.kept(), schedule.wanted()), (1, 0));
    // The answer comes late.
    schedule.written(&0, &GROUP, at + seconds(2.0));
    (10..20).for_each(|key| want(&mut schedule, key, Priority::Outcome, at));
    let writes = run(&mut schedule, at + seconds(3.0), seconds(10.0), |_| Ok(()));
    assert_eq!(writes.len(), 10);
}

#[test]
fn unused_turn_costs_nothing() {
    let now = Instant::now();
    let mut schedule = Test::new(now);
    (0..1_000).for_each(|key| want(&mut schedule, key, Priority::Progress, now));
    let at = now + seconds(10.0);
    let mut turns = 0;
    while let Some(key) = schedule.next(at, |_| GROUP) {
        schedule.unused(&key, at);
        turns += 1;
    }
    assert_eq!((turns, schedule.wanted()), (1_000, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// However the server answers: the pace is kept, nothing is lost, and everything is written once the server is well.
    #[test]
    fn pace_is_kept_and_nothing_is_lost(
        answers in prop::collection::vec(0_u8..7, 1..40),
        wishes in prop::collection::vec((0_u32..20, 0_u8..5), 1..60),
    ) {
        let now = Instant::now();
        let mut schedule = Test::new(now);
        let mut answers = answers.into_iter();
        let mut wishes = wishes.into_iter();
        let mut sent = Vec::new();
        let mut wanted = std::collections::BTreeSet::new();
        let mut gone = std::collections::BTreeSet::new();
        let first = (0..60_000).map(|step| Duration::from_millis(step * 100));
        // If every answer is a refusal, each pause but the first ones is half an hour.
        let rest = (0..40 * 30).map(|step| Duration::from_secs(6_000 + step * 60));
        for at in first.chain(rest).map(|since| now + since) {
            if let Some((key, priority)) = wishes.next() {
                let priorities =
                    [Priority::Fact, Priority::Outcome, Priority::Event, Priority::Progress, Priority::Initial];
                want(&mut schedule, key, priorities[priority as usize], at);
                wanted.insert(key);
            }
            while let Some(key) = schedule.next(at, |_| GROUP) {
                sent.push(at);
                let failure = match answers.next() {
                    Some(1) => Failure::Conflict,
                    Some(2) => Failure::Refused,
                    Some(3) => Failure::Forbidden,
                    Some(4) => Failure::Busy(Some(Duration::from_secs(7))),
                    Some(5) => Failure::Trouble,
                    Some(6) => Failure::Gone,
                    _ => {
                        schedule.written(&key, &GROUP, at);
                        wanted.remove(&key);
                        continue;
                    }
                };
                if failure == Failure::Gone {
                    gone.insert(key);
                    wanted.remove(&key);
                }
                schedule.failed(&key, GROUP, failure, at);
            }
        }
        prop_assert!(wanted.is_empty(), "{wanted:?}");
        prop_assert!(schedule.wanted() == 0);
        prop_assert!(schedule.kept() <= 20);
        for window in sent.windows(11) {
            prop_assert!(window[10] - window[0] >= Duration::from_secs(1));
        }
    }
}
