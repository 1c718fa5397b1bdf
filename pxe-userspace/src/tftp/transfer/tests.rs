use std::collections::VecDeque;

use proptest::prelude::*;
use rand::{SeedableRng as _, rngs::StdRng};

use super::*;
use crate::tftp::packet::Options;

const SECOND: Duration = Duration::from_secs(1);

fn ack(block: u16) -> [u8; 4] {
    let [high, low] = block.to_be_bytes();
    [0, 4, high, low]
}

fn terms(length: u64, options: Options) -> Terms {
    Terms::negotiate(options, length, 1500)
}

fn plain(length: u64) -> Terms {
    terms(length, Options::default())
}

fn windowed(length: u64, window: u16) -> Terms {
    terms(length, Options { window_size: Some(window), ..Options::default() })
}

fn blocks(first: u64, count: u16) -> Action {
    Action::SendBlocks { first, count }
}

#[test]
fn without_options_the_first_block_goes_out_at_once() {
    let now = Instant::now();
    let (mut transfer, action) = Transfer::new(now, plain(1000));
    assert_eq!(action, blocks(1, 1));
    assert_eq!(transfer.on_packet(now, &ack(1)), blocks(2, 1));
    assert_eq!(transfer.on_packet(now, &ack(2)), Action::End(Outcome::Done));
    assert_eq!(transfer.bytes_acknowledged(), 1000);
}

#[test]
fn options_are_acknowledged_first_and_again_when_nothing_comes() {
    let now = Instant::now();
    let (mut transfer, action) = Transfer::new(now, windowed(5000, 4));
    assert_eq!(action, Action::SendOptions);
    assert_eq!(transfer.on_packet(now, &ack(1)), Action::Wait);
    assert_eq!(transfer.on_timer(now + SECOND), Action::SendOptions);
    assert_eq!(transfer.on_packet(now + SECOND, &ack(0)), blocks(1, 4));
}

#[test]
fn an_acknowledgement_that_the_clients_timer_repeats_is_answered() {
    let start = Instant::now();
    let (mut transfer, _) = Transfer::new(start, windowed(10_000, 4));
    assert_eq!(transfer.on_packet(start, &ack(0)), blocks(1, 4));
    assert_eq!(transfer.on_timer(start + SECOND), blocks(1, 4));
    let at_once = start + SECOND + Duration::from_millis(1);
    assert_eq!(transfer.on_packet(at_once, &ack(0)), Action::Wait, "it came twice, or lacks a block");
    assert_eq!(transfer.on_packet(start + 2 * SECOND, &ack(0)), blocks(1, 4), "before the timer, which has backed off");
    assert_eq!(transfer.on_packet(start + 2 * SECOND, &ack(0)), Action::Wait);
    // Whoever is heard of is waited for.
    let mut now = start;
    for _ in 0..20 {
        now += 3 * SECOND;
        let _ = transfer.on_packet(now, &ack(0));
        assert!(!matches!(transfer.on_timer(now), Action::End(_)), "after {:?}", now - start);
    }
    assert_eq!(transfer.on_packet(now, &ack(4)), blocks(5, 4));
    // And not for ever.
    while transfer.on_timer(now) != Action::End(Outcome::Silent) {
        let _ = transfer.on_packet(now, &ack(4));
        now += SECOND;
        assert!(now < start + 200 * SECOND);
    }
    assert!(now >= start + 180 * SECOND, "{:?}", now - start);
}

#[test]
fn a_repeated_acknowledgement_gets_no_data() {
    let now = Instant::now();
    for window in [1, 8] {
        let (mut transfer, _) = Transfer::new(now, windowed(1 << 20, window));
        assert_eq!(transfer.on_packet(now, &ack(0)), blocks(1, window));
        assert_eq!(transfer.on_packet(now, &ack(0)), Action::Wait, "window {window}");
        assert_eq!(transfer.on_packet(now, &ack(window)), blocks(u64::from(window) + 1, window));
        for stale in [0, window, window.wrapping_sub(1), 2 * window + 1, 0x8000] {
            assert_eq!(transfer.on_packet(now, &ack(stale)), Action::Wait, "window {window}, block {stale}");
        }
    }
}

#[test]
fn an_acknowledgement_within_the_window_moves_it() {
    let now = Instant::now();
    let (mut transfer, _) = Transfer::new(now, windowed(512 * 10, 4));
    assert_eq!(transfer.on_packet(now, &ack(0)), blocks(1, 4));
    assert_eq!(transfer.on_packet(now, &ack(3)), blocks(4, 4));
    assert_eq!(transfer.on_packet(now, &ack(7)), blocks(8, 4));
    assert_eq!(transfer.on_packet(now, &ack(11)), Action::End(Outcome::Done));
}

#[test]
fn block_numbers_wrap() {
    let now = Instant::now();
    let (mut transfer, _) = Transfer::new(now, plain(512 * 70_000));
    for block in 1..=70_000u64 {
        assert_eq!(transfer.on_packet(now, &ack(block as u16)), blocks(block + 1, 1));
    }
    assert_eq!(transfer.on_packet(now, &ack(70_001u64 as u16)), Action::End(Outcome::Done));
}

#[test]
fn a_question_for_the_length_is_no_failure() {
    let now = Instant::now();
    let question = Options { transfer_size: true, block_size: Some(1468), ..Options::default() };
    let cases: &[(&str, &[u8], Action)] = &[
        ("EDK2", b"\0\x05\0\x08User aborted the transfer\0", Action::End(Outcome::Probed)),
        ("PXE ROMs", b"\0\x05\0\0TFTP Aborted\0", Action::End(Outcome::Probed)),
        (
            "a full disk is another matter",
            b"\0\x05\0\x03disk\x1bfull\0",
            Action::End(Outcome::Aborted { code: 3, message: "disk\\x1bfull".into() }),
        ),
    ];
    for (name, error, expected) in cases {
        let (mut transfer, _) = Transfer::new(now, terms(1000, question));
        assert_eq!(transfer.on_packet(now, error), *expected, "{name}");
    }
    let (mut begun, _) = Transfer::new(now, terms(1000, question));
    assert_eq!(begun.on_packet(now, &ack(0)), blocks(1, 1));
    assert!(matches!(begun.on_packet(now, b"\0\x05\0\x08no\0"), Action::End(Outcome::Aborted { code: 8, .. })));
}

#[test]
fn what_is_lost_is_sent_again_more_and_more_slowly_until_the_client_is_given_up() {
    let asked = Instant::now();
    let (mut transfer, _) = Transfer::new(asked, plain(5000));
    // Repeated once, so that the acknowledgement says nothing about the round trip.
    let start = asked + FIRST_WAIT;
    assert_eq!(transfer.on_timer(start), blocks(1, 1));
    assert_eq!(transfer.on_packet(start, &ack(1)), blocks(2, 1));
    let mut sent = Vec::new();
    let outcome = loop {
        let now = transfer.deadline();
        match transfer.on_timer(now) {
            Action::End(outcome) => break (outcome, now - start),
            action => {
                assert_eq!(action, blocks(2, 1));
                sent.push((now - start).as_secs());
            }
        }
    };
    assert_eq!(sent, [1, 3, 7, 12, 17, 22, 27]);
    assert_eq!(outcome, (Outcome::Silent, SILENCE));
}

#[test]
fn a_client_that_never_acknowledges_the_last_block_is_told_apart() {
    let start = Instant::now();
    let (mut transfer, _) = Transfer::new(start, plain(100));
    let mut now = start;
    while transfer.on_timer(now) != Action::End(Outcome::LastUnacknowledged) {
        now = transfer.deadline();
    }
    assert_eq!(now - start, SILENCE_AT_END);
}

#[test]
fn the_timer_follows_the_round_trip() {
    let mut now = Instant::now();
    let (mut transfer, _) = Transfer::new(now, plain(1 << 20));
    assert_eq!(transfer.deadline() - now, FIRST_WAIT);
    for block in 1..50 {
        now += Duration::from_micros(300);
        assert_ne!(transfer.on_packet(now, &ack(block)), Action::Wait);
    }
    assert_eq!(transfer.deadline() - now, LEAST_WAIT);
    for block in 50..200 {
        now += Duration::from_millis(400);
        assert_ne!(transfer.on_packet(now, &ack(block)), Action::Wait);
    }
    let wait = transfer.deadline() - now;
    assert!(wait > Duration::from_millis(400) && wait < SECOND, "{wait:?}");
}

#[test]
fn the_timeout_that_a_client_asks_for_holds() {
    let mut now = Instant::now();
    let options = Options { timeout: Some(20), ..Options::default() };
    let (mut transfer, _) = Transfer::new(now, terms(5000, options));
    now += SECOND;
    assert_eq!(transfer.on_packet(now, &ack(0)), blocks(1, 1));
    let silent_since = now;
    for _ in 0..2 {
        assert_eq!(transfer.deadline() - now, 20 * SECOND);
        now += 20 * SECOND;
        assert_eq!(transfer.on_timer(now), blocks(1, 1));
    }
    now = transfer.deadline();
    assert_eq!(transfer.on_timer(now), Action::End(Outcome::Silent));
    assert_eq!(now - silent_since, 60 * SECOND);
}

#[test]
fn who_never_answers_gets_little() {
    let start = Instant::now();
    for (terms, first) in [(plain(5000), blocks(1, 1)), (windowed(1 << 20, 64), Action::SendOptions)] {
        let (mut transfer, action) = Transfer::new(start, terms);
        let mut sent = vec![action];
        let end = loop {
            let now = transfer.deadline();
            match transfer.on_timer(now) {
                Action::End(outcome) => {
                    assert_eq!(outcome, Outcome::Silent);
                    break now;
                }
                action => sent.push(action),
            }
        };
        assert_eq!(end - start, SILENCE);
        assert_eq!(sent, [(); 4].map(|()| first.clone()));
        assert_eq!(transfer.on_repeated_request(end), Repeated::Again(first), "one answer for a request");
    }
}

#[test]
fn nobody_is_waited_for_longer_before_the_first_acknowledgement() {
    let start = Instant::now();
    for window in [None, Some(64)] {
        let options = Options { timeout: Some(255), window_size: window, ..Options::default() };
        let (mut transfer, _) = Transfer::new(start, terms(5000, options));
        let mut now = start;
        while transfer.on_timer(now) != Action::End(Outcome::Silent) {
            now = transfer.deadline();
        }
        assert_eq!(now - start, SILENCE);
    }
}

#[test]
fn a_repeated_request_is_the_same_transfer_until_the_client_begins_anew() {
    let now = Instant::now();
    let (mut transfer, _) = Transfer::new(now, windowed(5000, 2));
    assert_eq!(transfer.on_repeated_request(now), Repeated::Again(Action::SendOptions));
    assert_eq!(transfer.on_packet(now, &ack(0)), blocks(1, 2));
    assert_eq!(transfer.on_repeated_request(now + SECOND), Repeated::Again(Action::Wait));
    assert_eq!(transfer.on_repeated_request(now + RESTART_AFTER), Repeated::Anew);

    let (mut plain, _) = Transfer::new(now, plain(5000));
    assert_eq!(plain.on_repeated_request(now), Repeated::Again(blocks(1, 1)));
    assert_eq!(plain.on_packet(now, &ack(1)), blocks(2, 1));
    assert_eq!(plain.on_repeated_request(now), Repeated::Again(Action::Wait));
}

/// A client after RFC 7440: it acknowledges the end of each window, and where a block is missing, the last before it.
struct Client {
    terms: Terms,
    received: Vec<u64>,
    in_window: u16,
    /// It also acknowledges blocks that it has already, as EDK2 does.
    nervous: bool,
}

impl Client {
    fn on_datagram(&mut self, datagram: &Datagram) -> Option<u16> {
        let last = self.received.len() as u64;
        match *datagram {
            // Repeated: our acknowledgement was lost.
            Datagram::Options => self.received.is_empty().then_some(0),
            Datagram::Block(number) if number == last + 1 => {
                self.received.push(number);
                self.in_window += 1;
                let full = self.in_window == self.terms.window || self.is_done();
                if full {
                    self.in_window = 0;
                }
                full.then_some(number as u16)
            }
            // After a window that arrived whole, its last block again means that our acknowledgement was lost.
            Datagram::Block(number) => {
                let answer = self.nervous || number > last || (number == last && self.in_window == 0);
                if answer {
                    self.in_window = 0;
                }
                answer.then_some(last as u16)
            }
        }
    }

    fn is_done(&self) -> bool {
        self.received.len() as u64 == self.terms.blocks()
    }
}

#[derive(Clone, Debug)]
enum Datagram {
    Options,
    Block(u64),
}

/// What the link does to a datagram.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Delivered,
    Lost,
    Doubled,
    Overtaken,
}

fn deliver<T: Clone>(link: &mut VecDeque<T>, datagram: T, fate: Fate) {
    match fate {
        Fate::Lost => {}
        Fate::Delivered => link.push_back(datagram),
        Fate::Doubled => link.extend([datagram.clone(), datagram]),
        Fate::Overtaken => {
            let before_last = link.len().saturating_sub(1);
            link.insert(before_last, datagram);
        }
    }
}

/// Runs a transfer over a link that treats datagrams as `fate` says. Returns how it ended, how many blocks were sent, and
/// what the client has.
fn simulate(terms: Terms, nervous: bool, mut fate: impl FnMut() -> Fate) -> (Option<Outcome>, u64, Client) {
    let mut now = Instant::now();
    let (mut transfer, first) = Transfer::new(now, terms);
    let mut client = Client { terms, received: Vec::new(), in_window: 0, nervous };
    let (mut down, mut up) = (VecDeque::new(), VecDeque::new());
    let mut actions = VecDeque::from([first]);
    let mut sent = 0;
    for _ in 0..200_000 {
        now += Duration::from_micros(50);
        if let Some(action) = actions.pop_front() {
            match action {
                Action::Wait => {}
                Action::SendOptions => deliver(&mut down, Datagram::Options, fate()),
                Action::SendBlocks { first, count } => {
                    assert!(count >= 1 && count <= terms.window && first + u64::from(count) <= terms.blocks() + 1);
                    for number in first..first + u64::from(count) {
                        sent += 1;
                        deliver(&mut down, Datagram::Block(number), fate());
                    }
                }
                Action::End(outcome) => return (Some(outcome), sent, client),
            }
        } else if let Some(datagram) = down.pop_front() {
            if let Some(block) = client.on_datagram(&datagram) {
                deliver(&mut up, block, fate());
            }
        } else if let Some(block) = up.pop_front() {
            actions.push_back(transfer.on_packet(now, &ack(block)));
        } else {
            // Silence: both sides repeat themselves.
            now = transfer.deadline();
            actions.push_back(transfer.on_timer(now));
            if client.received.is_empty() {
                if let Repeated::Again(action) = transfer.on_repeated_request(now) {
                    actions.push_back(action);
                }
            } else if !client.is_done() {
                deliver(&mut up, client.received.len() as u16, fate());
            }
        }
    }
    (None, sent, client)
}

#[test]
fn doubled_packets_do_not_double_the_transfer() {
    for (window, nervous) in [(1, false), (1, true), (4, false), (64, false)] {
        let terms = windowed(512 * 1000, window);
        let (outcome, sent, _) = simulate(terms, nervous, || Fate::Doubled);
        assert_eq!(outcome, Some(Outcome::Done), "window {window}");
        assert_eq!(sent, terms.blocks(), "window {window}, nervous {nervous}");
    }
}

/// A bad link, the same for the same seed: of 100 datagrams, 8 are lost, 5 doubled, 5 overtaken.
fn bad_link(seed: u64) -> impl FnMut() -> Fate {
    let mut random = StdRng::seed_from_u64(seed);
    move || match random.random_range(0..100) {
        0..8 => Fate::Lost,
        8..13 => Fate::Doubled,
        13..18 => Fate::Overtaken,
        _ => Fate::Delivered,
    }
}

proptest! {
    #[test]
    fn every_block_arrives_once_and_in_order(
        length in 0u64..400_000,
        window in 1u16..=64,
        (options, nervous) in any::<(bool, bool)>(),
        seed in any::<u64>(),
    ) {
        let terms = if options { windowed(length, window) } else { plain(length) };
        let (outcome, _, client) = simulate(terms, nervous, bad_link(seed));
        prop_assert!(client.received.iter().copied().eq(1..=client.received.len() as u64));
        // The last acknowledgement may be lost for good: the client has everything and is gone.
        prop_assert!(client.is_done(), "{outcome:?} after {} of {} blocks", client.received.len(), terms.blocks());
        prop_assert!(matches!(outcome, Some(Outcome::Done | Outcome::LastUnacknowledged)), "{outcome:?}");
    }

    #[test]
    fn arbitrary_packets_are_survived(
        length in prop_oneof![0u64..100_000, any::<u64>()],
        options in (8u16..2000, any::<bool>(), prop::option::of(1u8..), prop::option::of(1u16..)),
        input in prop::collection::vec(
            (prop_oneof![
                prop::collection::vec(any::<u8>(), 0..20),
                any::<u16>().prop_map(|block| ack(block).to_vec()),
                (0u16..70).prop_map(|block| ack(block).to_vec()),
            ], 0u64..3_000_000, any::<bool>()),
            0..200),
    ) {
        let (block_size, transfer_size, timeout, window_size) = options;
        let options = Options { block_size: Some(block_size), transfer_size, timeout, window_size };
        let terms = terms(length, options);
        let mut now = Instant::now();
        let (mut transfer, _) = Transfer::new(now, terms);
        for (datagram, pause, request) in input {
            now += Duration::from_micros(pause);
            if request && transfer.on_repeated_request(now) == Repeated::Anew {
                return Ok(());
            }
            for action in [transfer.on_packet(now, &datagram), transfer.on_timer(now)] {
                match action {
                    Action::SendBlocks { first, count } => {
                        prop_assert!(first >= 1 && count >= 1 && count <= terms.window);
                        prop_assert!(first + u64::from(count) - 1 <= terms.blocks());
                    }
                    Action::End(outcome) => {
                        prop_assert!(outcome != Outcome::Done || transfer.bytes_acknowledged() == length);
                        return Ok(());
                    }
                    Action::Wait | Action::SendOptions => {}
                }
            }
        }
    }
}
