use proptest::prelude::*;

use super::*;
use crate::http::pace::{FLOOR, PATIENCE};

const EVENTS: [Event; 5] = [Event::Timer, Event::Request, Event::Fin, Event::Broken, Event::Stopped];

const HEAD: u64 = 100;
const BODY: Range<u64> = HEAD..HEAD + 200;
/// The answer to a pipelined request, after the first answer and its own head.
const NEXT_BODY: Range<u64> = BODY.end + HEAD..BODY.end + HEAD + 50;

/// The verdicts on the two answers; an answer that stays in flight has none.
type Verdicts = Vec<(&'static str, Verdict)>;

fn delivered(name: &'static str) -> (&'static str, Verdict) {
    (name, Verdict::Delivered)
}

fn unconfirmed(name: &'static str, acknowledged: u64) -> (&'static str, Verdict) {
    (name, Verdict::Unconfirmed { acknowledged })
}

fn lost(name: &'static str, acknowledged: u64) -> (&'static str, Verdict) {
    (name, Verdict::Lost { acknowledged })
}

fn reach(sent: u64, acknowledged: u64) -> Reach {
    Reach { sent, acknowledged }
}

/// A state of a connection with up to two answers.
struct State {
    name: &'static str,
    in_flight: usize,
    reach: Reach,
    /// The verdicts that an acknowledgement up to this position causes, whatever the event.
    alive: Verdicts,
    /// The verdicts that the end of the connection causes.
    ended: Verdicts,
}

fn states() -> Vec<State> {
    let state = |name, in_flight, reach, alive, ended| State { name, in_flight, reach, alive, ended };
    let all = NEXT_BODY.end;
    vec![
        state("nothing in flight", 0, reach(0, 0), vec![], vec![]),
        state("nothing sent", 1, reach(0, 0), vec![], vec![lost("first", 0)]),
        state("all sent, nothing acknowledged", 1, reach(BODY.end, 0), vec![], vec![lost("first", 0)]),
        state("part of the head acknowledged", 1, reach(BODY.end, HEAD - 1), vec![], vec![lost("first", 0)]),
        state("the head acknowledged", 1, reach(BODY.end, HEAD), vec![], vec![lost("first", 0)]),
        state("one byte acknowledged", 1, reach(BODY.end, HEAD + 1), vec![], vec![unconfirmed("first", 1)]),
        state("one byte not acknowledged", 1, reach(BODY.end, BODY.end - 1), vec![], vec![unconfirmed("first", 199)]),
        state("one byte not sent", 1, reach(BODY.end - 1, BODY.end - 1), vec![], vec![lost("first", 199)]),
        state("all acknowledged", 1, reach(BODY.end, BODY.end), vec![delivered("first")], vec![delivered("first")]),
        state("two, nothing acknowledged", 2, reach(all, 0), vec![], vec![lost("first", 0), lost("next", 0)]),
        state(
            "two, the first not acknowledged",
            2,
            reach(all, BODY.end - 1),
            vec![],
            vec![unconfirmed("first", 199), lost("next", 0)],
        ),
        state(
            "two, the next not sent",
            2,
            reach(BODY.end, BODY.end - 1),
            vec![],
            vec![unconfirmed("first", 199), lost("next", 0)],
        ),
        state(
            "two, the first acknowledged",
            2,
            reach(all, BODY.end),
            vec![delivered("first")],
            vec![delivered("first"), lost("next", 0)],
        ),
        state(
            "two, part of the next acknowledged",
            2,
            reach(all, all - 1),
            vec![delivered("first")],
            vec![delivered("first"), unconfirmed("next", 49)],
        ),
        state(
            "two, part of the next sent",
            2,
            reach(all - 1, all - 1),
            vec![delivered("first")],
            vec![delivered("first"), lost("next", 49)],
        ),
        state(
            "two, both acknowledged",
            2,
            reach(all, all),
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
    for State { name, in_flight: count, reach, alive, ended } in states() {
        for event in EVENTS {
            for (when, is_silent) in [(began, false), (just_before, false), (began + PATIENCE, true)] {
                // The acknowledgement may be new, which ends a silence, or known from an earlier check.
                for is_known in [false, true] {
                    let mut flights = in_flight(count, began);
                    let mut verdicts = Vec::new();
                    if is_known {
                        verdicts = flights.observe(Event::Request, reach, began);
                        assert_eq!(verdicts, alive, "{name}");
                    }
                    verdicts.extend(flights.observe(event, reach, when));
                    let is_news = !is_known && reach.acknowledged > 0;
                    let expected = match event {
                        Event::Timer if is_silent && !is_news => &ended,
                        Event::Timer | Event::Request | Event::Fin => &alive,
                        Event::Broken | Event::Stopped => &ended,
                    };
                    let after = when.duration_since(began);
                    assert_eq!(&verdicts, expected, "{name}, {event:?} after {after:?}, known: {is_known}");
                    assert_eq!(flights.len(), count - expected.len(), "{name}, {event:?}");
                }
            }
        }
    }
}

#[test]
fn end_of_an_answer_is_unconfirmed_up_to_the_limit() {
    let now = Instant::now();
    let body = HEAD..HEAD + 2 * UNCONFIRMED_LIMIT;
    for (rest, expected) in [
        (UNCONFIRMED_LIMIT, unconfirmed("large", UNCONFIRMED_LIMIT)),
        (UNCONFIRMED_LIMIT + 1, lost("large", UNCONFIRMED_LIMIT - 1)),
    ] {
        let mut flights = Flights::new(now);
        flights.depart("large", body.clone(), now);
        assert_eq!(flights.observe(Event::Broken, reach(body.end, body.end - rest), now), [expected]);
    }
}

#[test]
fn answer_without_a_body_arrives_with_its_head() {
    let now = Instant::now();
    let mut flights = Flights::new(now);
    flights.depart("empty", HEAD..HEAD, now);
    assert_eq!(flights.observe(Event::Timer, reach(HEAD, HEAD - 1), now), []);
    assert_eq!(flights.observe(Event::Timer, reach(HEAD, HEAD), now), [delivered("empty")]);
}

#[test]
fn silence_begins_with_the_answer_and_again_with_each_acknowledgement() {
    let opened = Instant::now();
    let mut flights = Flights::new(opened);
    let began = opened + 10 * PATIENCE;
    flights.depart("first", BODY, began);
    assert_eq!(flights.observe(Event::Timer, reach(BODY.end, 0), began), [], "the connection was idle before");
    for step in 1..10 {
        let now = began + step * (PATIENCE - Duration::from_millis(1));
        assert_eq!(
            flights.observe(Event::Timer, reach(BODY.end, u64::from(step)), now),
            [],
            "a slow reader is not silent"
        );
    }
    assert_eq!(flights.too_slow(), None);
    let last = began + 9 * (PATIENCE - Duration::from_millis(1));
    assert_eq!(flights.observe(Event::Timer, reach(BODY.end, 9), last + PATIENCE), [lost("first", 0)]);
    assert_eq!(flights.too_slow(), Some(TooSlow::Silent));
}

#[test]
fn client_that_only_drips_has_lost_its_answer() {
    let began = Instant::now();
    let mut flights = Flights::new(began);
    let body = HEAD..HEAD + (1 << 20);
    flights.depart("large", body.clone(), began);
    let minute = PATIENCE - Duration::from_millis(1);
    let mut verdicts = Vec::new();
    let (mut now, mut position) = (began, 0);
    for share in [FLOOR / 5, FLOOR / 5, FLOOR / 12] {
        for _ in 0..11 {
            now += minute;
            position += share;
            verdicts.extend(flights.observe(Event::Timer, reach(body.end, position), now));
        }
    }
    assert_eq!(verdicts, [lost("large", position - HEAD)]);
    assert_eq!(flights.too_slow(), Some(TooSlow::Dripping));
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
        flights.observe(Event::Timer, reach(0, 0), now);
    }
    assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 256, 256]);
    flights.depart("next", NEXT_BODY, now);
    assert_eq!(flights.next_look(), Some(now + FIRST_PAUSE));
    flights.observe(Event::Request, reach(NEXT_BODY.end, NEXT_BODY.end), now);
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
    flights.observe(Event::Request, reach(1, 1), now);
    assert!(!flights.is_full());
}

proptest! {
    #[test]
    fn answers_get_exactly_one_verdict_and_the_right_one(
        lengths in prop::collection::vec((1u64..50, 0u64..100), 1..8),
        steps in prop::collection::vec((prop::sample::select(&EVENTS[..3]), 0u64..60, 0u64..40, 0u64..30), 0..40),
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
        let mut at = Reach::default();
        let mut verdicts = Vec::new();
        for (event, bytes, more, seconds) in steps {
            now += Duration::from_secs(seconds);
            at.sent = sent.min(at.sent + bytes);
            at.acknowledged = at.sent.min(at.acknowledged + more);
            verdicts.extend(flights.observe(event, at, now).into_iter().map(|verdict| (verdict, at)));
        }
        verdicts.extend(flights.observe(end, at, now).into_iter().map(|verdict| (verdict, at)));
        prop_assert_eq!(flights.len(), 0);
        let numbers: Vec<_> = verdicts.iter().map(|((number, _), _)| *number).collect();
        prop_assert_eq!(numbers, (0..bodies.len()).collect::<Vec<_>>());
        for ((number, verdict), at) in verdicts {
            let body = &bodies[number];
            let acknowledged = at.acknowledged.saturating_sub(body.start);
            let expected = match (at.acknowledged >= body.end, acknowledged > 0 && at.sent >= body.end) {
                (true, _) => Verdict::Delivered,
                (false, true) => Verdict::Unconfirmed { acknowledged },
                (false, false) => Verdict::Lost { acknowledged },
            };
            prop_assert_eq!(verdict, expected);
        }
    }
}
