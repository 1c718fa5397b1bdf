//! Single rules. [`table`] has every event in every phase, [`simulation`] whole transfers over bad links.

use super::*;
use crate::tftp::packet::Options;

mod simulation;
mod table;

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
fn first_block_goes_out_at_once_without_options() {
    let now = Instant::now();
    let (mut transfer, action) = Transfer::new(now, plain(1000));
    assert_eq!(action, blocks(1, 1));
    assert_eq!(transfer.on_packet(now, &ack(1)), blocks(2, 1));
    assert_eq!(transfer.on_packet(now, &ack(2)), Action::End(Outcome::Done));
    assert_eq!(transfer.bytes_acknowledged(), 1000);
}

#[test]
fn options_are_sent_first_and_repeated_until_acknowledged() {
    let now = Instant::now();
    let (mut transfer, action) = Transfer::new(now, windowed(5000, 4));
    assert_eq!(action, Action::SendOptions);
    assert_eq!(transfer.on_packet(now, &ack(1)), Action::Wait);
    assert_eq!(transfer.on_timer(now + SECOND), Action::SendOptions);
    assert_eq!(transfer.on_packet(now + SECOND, &ack(0)), blocks(1, 4));
}

#[test]
fn acknowledgement_repeated_by_the_clients_timer_is_answered() {
    let start = Instant::now();
    let (mut transfer, _) = Transfer::new(start, windowed(10_000, 4));
    assert_eq!(transfer.on_packet(start, &ack(0)), blocks(1, 4));
    assert_eq!(transfer.on_timer(start + SECOND), blocks(1, 4));
    let at_once = start + SECOND + Duration::from_millis(1);
    assert_eq!(transfer.on_packet(at_once, &ack(0)), Action::Wait, "it came twice, or a block is missing");
    assert_eq!(transfer.on_packet(start + 2 * SECOND, &ack(0)), blocks(1, 4), "before the timer, which has backed off");
    assert_eq!(transfer.on_packet(start + 2 * SECOND, &ack(0)), Action::Wait);
    // A client that sends packets is waited for.
    let mut now = start;
    for _ in 0..20 {
        now += 3 * SECOND;
        let _ = transfer.on_packet(now, &ack(0));
        assert!(!matches!(transfer.on_timer(now), Action::End(_)), "after {:?}", now - start);
    }
    assert_eq!(transfer.on_packet(now, &ack(4)), blocks(5, 4));
    // But not for ever.
    while transfer.on_timer(now) != Action::End(Outcome::Silent) {
        let _ = transfer.on_packet(now, &ack(4));
        now += SECOND;
        assert!(now < start + 200 * SECOND);
    }
    assert!(now >= start + 180 * SECOND, "{:?}", now - start);
}

#[test]
fn acknowledgement_repeated_at_once_gets_no_data() {
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
fn acknowledgement_within_the_window_moves_the_window() {
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
fn question_for_the_length_is_neither_done_nor_failed() {
    let now = Instant::now();
    let question = Options { transfer_size: true, block_size: Some(1468), ..Options::default() };
    let cases: &[(&str, &[u8], Action)] = &[
        ("EDK2", b"\0\x05\0\x08User aborted the transfer\0", Action::End(Outcome::Probed)),
        ("PXE ROMs", b"\0\x05\0\0TFTP Aborted\0", Action::End(Outcome::Probed)),
        (
            "full disk",
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
fn lost_blocks_are_repeated_at_growing_intervals_until_the_client_is_given_up() {
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
fn missing_last_acknowledgement_is_unconfirmed() {
    let start = Instant::now();
    // One block, and three of which two were acknowledged.
    for (length, acknowledged) in [(100, 0), (1100, 2)] {
        let (mut transfer, _) = Transfer::new(start, plain(length));
        for block in 1..=acknowledged {
            assert_ne!(transfer.on_packet(start, &ack(block)), Action::Wait);
        }
        let mut now = start;
        while transfer.on_timer(now) != Action::End(Outcome::Unconfirmed) {
            now = transfer.deadline();
        }
        assert_eq!(now - start, SILENCE_AT_END);
        assert_eq!(transfer.bytes_acknowledged(), u64::from(acknowledged) * 512);
    }
}

#[test]
fn timer_follows_the_round_trip() {
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
fn timeout_option_fixes_the_wait() {
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
fn unanswered_request_is_repeated_three_times() {
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
fn timeout_option_prolongs_nothing_before_the_first_acknowledgement() {
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
fn repeated_request_is_the_same_transfer_until_the_client_starts_over() {
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

#[test]
fn acknowledgement_of_blocks_that_wait_for_the_disk_does_not_count() {
    let now = Instant::now();
    let (mut transfer, _) = Transfer::new(now, windowed(512 * 10, 4));
    assert_eq!(transfer.on_packet(now, &ack(0)), blocks(1, 4));
    assert_eq!(transfer.on_packet(now, &ack(4)), blocks(5, 4));
    assert_eq!(transfer.on_packet(now, &ack(8)), blocks(9, 3));
    transfer.withhold(9);
    assert_eq!(transfer.on_packet(now, &ack(11)), Action::Wait);
    assert_eq!(transfer.bytes_acknowledged(), 8 * 512);
    assert_eq!(transfer.on_readable(now), blocks(9, 3));
    assert_eq!(transfer.on_packet(now, &ack(11)), Action::End(Outcome::Done));
}

#[test]
fn window_that_moved_on_while_the_disk_was_read_is_sent_to_its_new_end() {
    let now = Instant::now();
    let (mut transfer, _) = Transfer::new(now, windowed(512 * 20, 4));
    assert_eq!(transfer.on_packet(now, &ack(0)), blocks(1, 4));
    transfer.withhold(4);
    assert_eq!(transfer.on_packet(now, &ack(2)), Action::Wait);
    assert_eq!(transfer.on_readable(now), blocks(4, 3));
    assert_eq!(transfer.on_readable(now), Action::Wait, "once");
    assert_eq!(transfer.on_packet(now, &ack(6)), blocks(7, 4));
}

#[test]
fn netascii_ends_with_the_block_that_its_encoding_ends_with() {
    let now = Instant::now();
    // 2,000 bytes are between 4 and 8 blocks.
    let options = Options { window_size: Some(4), ..Options::default() };
    let terms = Terms::negotiate_netascii(options, 2000, 1500);
    let (mut transfer, _) = Transfer::new(now, terms);
    assert_eq!(transfer.on_packet(now, &ack(0)), blocks(1, 4));
    assert_eq!(transfer.on_packet(now, &ack(4)), blocks(5, 4));
    transfer.ends_with(6);
    assert_eq!(transfer.on_packet(now, &ack(7)), Action::Wait, "it was not sent");
    assert_eq!(transfer.on_packet(now, &ack(5)), blocks(6, 1));
    assert_eq!(transfer.outcome_of_superseded(), Outcome::Unconfirmed, "everything was sent");
    assert_eq!(transfer.on_packet(now, &ack(6)), Action::End(Outcome::Done));
    assert_eq!(transfer.bytes_acknowledged(), 2000);
}

#[test]
fn disk_that_never_answers_is_told_from_a_silent_client() {
    let start = Instant::now();
    let (mut transfer, _) = Transfer::new(start, plain(5000));
    transfer.withhold(1);
    let mut now = start;
    loop {
        now = transfer.deadline().max(now + Duration::from_millis(1));
        match transfer.on_timer(now) {
            Action::Wait => {}
            action => {
                assert_eq!(action, Action::End(Outcome::DiskStalled));
                break;
            }
        }
    }
    assert!(now - start < SILENCE + SECOND, "{:?}", now - start);
}
