//! Every event in every phase of a transfer.

use super::*;

/// A transfer of eleven blocks in windows of four, or of single blocks.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The options were sent, with the length among them.
    Offering,
    /// The same for a client that did not ask for the length.
    OfferingWithoutLength,
    /// The first block was sent to a client without options.
    First,
    /// Another file, whose first block is its last.
    FirstAndLast,
    /// Blocks 5 to 8 were sent.
    Middle,
    /// The last blocks were sent, 9 to 11.
    Last,
    /// Of the blocks 5 to 8, two were sent and two wait for the disk.
    Withheld,
    /// Of the last blocks, two were sent and one waits for the disk.
    LastWithheld,
}

const PHASES: [Phase; 8] = [
    Phase::Offering,
    Phase::OfferingWithoutLength,
    Phase::First,
    Phase::FirstAndLast,
    Phase::Middle,
    Phase::Last,
    Phase::Withheld,
    Phase::LastWithheld,
];

fn enter(phase: Phase, now: Instant) -> Transfer {
    const LENGTH: u64 = 512 * 10 + 1;
    let offered = Options { window_size: Some(4), transfer_size: true, ..Options::default() };
    let acknowledged = |blocks: &[u16]| {
        let (mut transfer, _) = Transfer::new(now, terms(LENGTH, offered));
        for &block in blocks {
            assert_ne!(transfer.on_packet(now, &ack(block)), Action::Wait);
        }
        transfer
    };
    let withheld = |mut transfer: Transfer, first| {
        transfer.withhold(first);
        transfer
    };
    match phase {
        Phase::Offering => acknowledged(&[]),
        Phase::OfferingWithoutLength => Transfer::new(now, windowed(LENGTH, 4)).0,
        Phase::First => Transfer::new(now, plain(LENGTH)).0,
        Phase::FirstAndLast => Transfer::new(now, plain(100)).0,
        Phase::Middle => acknowledged(&[0, 4]),
        Phase::Last => acknowledged(&[0, 4, 8]),
        Phase::Withheld => withheld(acknowledged(&[0, 4]), 7),
        Phase::LastWithheld => withheld(acknowledged(&[0, 4, 8]), 11),
    }
}

fn word(action: &Action) -> String {
    match action {
        Action::Wait => "-".to_owned(),
        Action::SendOptions => "options".to_owned(),
        Action::SendBlocks { first, count } => format!("{first}-{}", first + u64::from(*count) - 1),
        Action::End(outcome) => end(outcome),
    }
}

fn end(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Aborted { code, .. } => format!("aborted:{code}"),
        outcome => format!("{outcome:?}").to_lowercase(),
    }
}

fn again(repeated: &Repeated) -> String {
    match repeated {
        Repeated::Again(action) => word(action),
        Repeated::Anew => "anew".to_owned(),
    }
}

type Event = fn(&mut Transfer, Instant) -> String;

#[test]
#[rustfmt::skip]
fn phases_by_events() {
    let table: &[(&str, Event, [&str; 8])] = &[
        // event                                  offering     no length    first        only block     middle       last           withheld       last withheld
        ("ACK of what is acknowledged", |transfer, now| word(&transfer.on_packet(now, &ack(transfer.acknowledged as u16))),
                                                 ["1-4",       "1-4",       "-",         "-",           "-",         "-",           "-",           "-"]),
        ("the same 1.5 s later", |transfer, now| word(&transfer.on_packet(now + SECOND * 3 / 2, &ack(transfer.acknowledged as u16))),
                                                 ["1-4",       "1-4",       "1-1",       "1-1",         "5-8",       "9-11",        "-",           "-"]),
        ("ACK of the next block", |transfer, now| word(&transfer.on_packet(now, &ack(transfer.acknowledged as u16 + 1))),
                                                 ["-",         "-",         "2-2",       "done",        "6-9",       "10-11",       "-",           "-"]),
        ("ACK of all that was sent", |transfer, now| word(&transfer.on_packet(now, &ack(transfer.sent as u16))),
                                                 ["1-4",       "1-4",       "2-2",       "done",        "9-11",      "done",        "-",           "-"]),
        ("ACK of the last block", |transfer, now| word(&transfer.on_packet(now, &ack(transfer.terms.blocks() as u16))),
                                                 ["-",         "-",         "-",         "done",        "-",         "done",        "-",           "-"]),
        ("ACK beyond the last block", |transfer, now| word(&transfer.on_packet(now, &ack(transfer.terms.blocks() as u16 + 1))),
                                                 ["-",         "-",         "-",         "-",           "-",         "-",           "-",           "-"]),
        ("ACK of a block long past", |transfer, now| word(&transfer.on_packet(now, &ack((transfer.acknowledged as u16).wrapping_sub(3)))),
                                                 ["-",         "-",         "-",         "-",           "-",         "-",           "-",           "-"]),
        ("error 8", |transfer, now| word(&transfer.on_packet(now, b"\0\x05\0\x08User aborted the transfer\0")),
                                                 ["probed",    "aborted:8", "aborted:8", "aborted:8",   "aborted:8", "aborted:8",   "aborted:8",   "aborted:8"]),
        ("error 0", |transfer, now| word(&transfer.on_packet(now, b"\0\x05\0\0TFTP Aborted\0")),
                                                 ["probed",    "aborted:0", "aborted:0", "aborted:0",   "aborted:0", "aborted:0",   "aborted:0",   "aborted:0"]),
        ("error 3", |transfer, now| word(&transfer.on_packet(now, b"\0\x05\0\x03disk full\0")),
                                                 ["aborted:3", "aborted:3", "aborted:3", "aborted:3",   "aborted:3", "aborted:3",   "aborted:3",   "aborted:3"]),
        ("a request", |transfer, now| word(&transfer.on_packet(now, b"\0\x01file\0octet\0")),
                                                 ["-",         "-",         "-",         "-",           "-",         "-",           "-",           "-"]),
        ("a block", |transfer, now| word(&transfer.on_packet(now, b"\0\x03\0\x01x")),
                                                 ["-",         "-",         "-",         "-",           "-",         "-",           "-",           "-"]),
        ("noise", |transfer, now| word(&transfer.on_packet(now, b"\0")),
                                                 ["-",         "-",         "-",         "-",           "-",         "-",           "-",           "-"]),
        ("timer, too early", |transfer, now| word(&transfer.on_timer(now)),
                                                 ["-",         "-",         "-",         "-",           "-",         "-",           "-",           "-"]),
        ("timer, when it is due", |transfer, _| word(&transfer.on_timer(transfer.deadline())),
                                                 ["options",   "options",   "1-1",       "1-1",         "5-8",       "9-11",        "-",           "-"]),
        ("timer, at last", |transfer, _| word(&transfer.on_timer(transfer.end())),
                                                 ["silent",    "silent",    "silent",    "unconfirmed", "silent",    "unconfirmed", "diskstalled", "diskstalled"]),
        ("the request again", |transfer, now| again(&transfer.on_repeated_request(now)),
                                                 ["options",   "options",   "1-1",       "1-1",         "-",         "-",           "-",           "-"]),
        ("the request 2 s later", |transfer, now| again(&transfer.on_repeated_request(now + RESTART_AFTER)),
                                                 ["options",   "options",   "1-1",       "1-1",         "anew",      "anew",        "anew",        "anew"]),
        ("another request, and silence", |transfer, _| { transfer.supersede(); word(&transfer.on_timer(transfer.deadline())) },
                                                 ["probed",    "restarted", "restarted", "unconfirmed", "restarted", "unconfirmed", "restarted",   "restarted"]),
        ("another request, and the ACK of all that was sent", |transfer, now| { transfer.supersede(); word(&transfer.on_packet(now, &ack(transfer.sent as u16))) },
                                                 ["1-4",       "1-4",       "2-2",       "done",        "9-11",      "done",        "-",           "-"]),
        ("the timer after that", |transfer, now| {
            transfer.supersede();
            match transfer.on_packet(now, &ack(transfer.sent as u16)) {
                Action::End(outcome) => end(&outcome),
                _ => word(&transfer.on_timer(transfer.deadline())),
            }
        },
                                                 ["1-4",       "1-4",       "2-2",       "done",        "9-11",      "done",        "-",           "-"]),
        ("the disk was read", |transfer, now| word(&transfer.on_readable(now)),
                                                 ["-",         "-",         "-",         "-",           "-",         "-",           "7-8",         "11-11"]),
    ];
    let now = Instant::now();
    for (name, event, expected) in table {
        let found = PHASES.map(|phase| event(&mut enter(phase, now), now));
        assert_eq!(found, *expected, "{name}: {PHASES:?}");
    }
}
