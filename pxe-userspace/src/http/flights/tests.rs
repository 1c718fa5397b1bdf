use proptest::prelude::*;

use super::*;

const EVENTS: [Event; 5] = [Event::Timer, Event::Request, Event::Fin, Event::Broken, Event::Stopped];

const HEAD: u64 = 100;
const BODY: Range<u64> = HEAD..HEAD + 200;
/// The answer to a pipelined request, after the first answer and its own head.
const NEXT_BODY: Range<u64> = BODY.end + HEAD..BODY.end + HEAD + 50;

/// The verdicts on the two answers; an answer that stays in flight has none.
type Verdicts = Vec<(&'static str, Verdict)>;

fn lost(name: &'static str, acknowledged: u64) -> (&'static str, Verdict) {
    (name, Verdict::Lost { acknowledged })
}

fn delivered(name: &'static str) -> (&'static str, Verdict) {
    (name, Verdict::Delivered)
}

/// Lists every state of a connection with up to two answers: the verdicts that an acknowledgement alone causes in it, and
/// those at the end of the connection.
fn states() -> Vec<(&'static str, usize, u64, Verdicts, Verdicts)> {
    vec![
        ("nothing in flight", 0, 0, vec![], vec![]),
        ("nothing acknowledged", 1, 0, vec![], vec![lost("first", 0)]),
        ("part of the head acknowledged", 1, HEAD - 1, vec![], vec![lost("first", 0)]),
        ("the head acknowledged", 1, HEAD, vec![], vec![lost("first", 0)]),
        ("one byte acknowledged", 1, BODY.start + 1, vec![], vec![lost("first", 1)]),
        ("all but one byte acknowledged", 1, BODY.end - 1, vec![], vec![lost("first", 199)]),
        ("all acknowledged", 1, BODY.end, vec![delivered("first")], vec![delivered("first")]),
        ("two, nothing acknowledged", 2, 0, vec![], vec![lost("first", 0), lost("next", 0)]),
        ("two, part of the first acknowledged", 2, BODY.end - 1, vec![], vec![lost("first", 199), lost("next", 0)]),
        (
            "two, the first acknowledged",
            2,
            BODY.end,
            vec![delivered("first")],
            vec![delivered("first"), lost("next", 0)],
        ),
        (
            "two, part of the next acknowledged",
            2,
            NEXT_BODY.end - 1,
            vec![delivered("first")],
            vec![delivered("first"), lost("next", 49)],
        ),
        (
            "two, both acknowledged",
            2,
            NEXT_BODY.end,
            vec![delivered("first"), delivered("next")],
            vec![delivered("first"), delivered("next")],
        ),
    ]
}

fn in_flight(count: usize, now: Instant) -> Flights<&'static str> {
    let mut flights = Flights::new(now);
    for (name, body) in [("first", BODY), ("next", NEXT_BODY)].into_iter().take(count) {
        flights.depart(name, body, now);
    }
    flights
}

#[test]
fn verdicts_follow_from_state_and_event() {
    let began = Instant::now();
    let just_before = began + PATIENCE - Duration::from_millis(1);
    for (state, count, acknowledged, alive, ended) in states() {
        for event in EVENTS {
            for (when, is_silent) in [(began, false), (just_before, false), (began + PATIENCE, true)] {
                // The acknowledgement may be new, which ends a silence, or known from an earlier check.
                for is_known in [false, true] {
                    let mut flights = in_flight(count, began);
                    let mut verdicts = Vec::new();
                    if is_known {
                        verdicts = flights.observe(Event::Request, acknowledged, began);
                        assert_eq!(verdicts, alive, "{state}");
                    }
                    verdicts.extend(flights.observe(event, acknowledged, when));
                    let is_news = !is_known && acknowledged > 0;
                    let expected = match event {
                        Event::Timer if is_silent && !is_news => &ended,
                        Event::Timer | Event::Request | Event::Fin => &alive,
                        Event::Broken | Event::Stopped => &ended,
                    };
                    let after = when.duration_since(began);
                    assert_eq!(&verdicts, expected, "{state}, {event:?} after {after:?}, known: {is_known}");
                    assert_eq!(flights.len(), count - expected.len(), "{state}, {event:?}");
                }
            }
        }
    }
}

#[test]
fn answer_without_a_body_arrives_with_its_head() {
    let now = Instant::now();
    let mut flights = Flights::new(now);
    flights.depart("empty", HEAD..HEAD, now);
    assert_eq!(flights.observe(Event::Timer, HEAD - 1, now), []);
    assert_eq!(flights.observe(Event::Timer, HEAD, now), [delivered("empty")]);
}

#[test]
fn silence_begins_with_the_answer_and_again_with_each_acknowledgement() {
    let opened = Instant::now();
    let mut flights = Flights::new(opened);
    let began = opened + 10 * PATIENCE;
    flights.depart("first", BODY, began);
    assert_eq!(flights.observe(Event::Timer, 0, began), [], "the connection was idle before");
    for step in 1..100 {
        let now = began + step * (PATIENCE - Duration::from_millis(1));
        assert_eq!(flights.observe(Event::Timer, u64::from(step), now), [], "a slow reader is not silent");
    }
    let last = began + 99 * (PATIENCE - Duration::from_millis(1));
    assert_eq!(flights.observe(Event::Timer, 99, last + PATIENCE), [lost("first", 0)]);
}

#[test]
fn checks_back_off_until_the_next_answer() {
    let mut now = Instant::now();
    let mut flights = in_flight(0, now);
    assert_eq!(flights.next_look(), None);
    flights.depart("first", BODY, now);
    let mut pauses = Vec::new();
    while let Some(look) = flights.next_look().filter(|_| pauses.len() < 10) {
        pauses.push((look - now).as_millis());
        now = look;
        flights.observe(Event::Timer, 0, now);
    }
    assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 256, 256]);
    flights.depart("next", NEXT_BODY, now);
    assert_eq!(flights.next_look(), Some(now + FIRST_PAUSE));
    flights.observe(Event::Request, NEXT_BODY.end, now);
    assert_eq!(flights.next_look(), None);
}

#[test]
fn flights_are_limited() {
    let now = Instant::now();
    let mut flights = Flights::new(now);
    for number in 0..FLIGHT_LIMIT as u64 {
        assert!(!flights.is_full());
        flights.depart(number, number..number + 1, now);
    }
    assert!(flights.is_full());
    flights.observe(Event::Request, 1, now);
    assert!(!flights.is_full());
}

proptest! {
    #[test]
    fn every_answer_gets_one_verdict_and_the_right_one(
        lengths in prop::collection::vec((1u64..50, 0u64..100), 1..8),
        steps in prop::collection::vec((prop::sample::select(&EVENTS[..3]), 0u64..40, 0u64..30), 0..40),
        end in prop::sample::select(&EVENTS[3..]),
    ) {
        let mut now = Instant::now();
        let mut flights = Flights::new(now);
        let mut sent = 0;
        let mut bodies = Vec::new();
        for (number, (head, length)) in lengths.into_iter().enumerate() {
            let body = sent + head..sent + head + length;
            sent = body.end;
            bodies.push(body.clone());
            flights.depart(number, body, now);
        }
        let mut acknowledged = 0;
        let mut verdicts = Vec::new();
        for (event, bytes, seconds) in steps {
            now += Duration::from_secs(seconds);
            acknowledged = sent.min(acknowledged + bytes);
            verdicts.extend(flights.observe(event, acknowledged, now).into_iter().map(|verdict| (verdict, acknowledged)));
        }
        verdicts.extend(flights.observe(end, acknowledged, now).into_iter().map(|verdict| (verdict, acknowledged)));
        prop_assert_eq!(flights.len(), 0);
        let numbers: Vec<_> = verdicts.iter().map(|((number, _), _)| *number).collect();
        prop_assert_eq!(numbers, (0..bodies.len()).collect::<Vec<_>>());
        for ((number, verdict), position) in verdicts {
            let body = &bodies[number];
            let expected = if position >= body.end {
                Verdict::Delivered
            } else {
                Verdict::Lost { acknowledged: position.saturating_sub(body.start) }
            };
            prop_assert_eq!(verdict, expected);
        }
    }
}
