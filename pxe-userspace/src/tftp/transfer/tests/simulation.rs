//! Whole transfers over links that lose, duplicate and reorder, and arbitrary input.

use std::collections::VecDeque;

use proptest::prelude::*;
use rand::{SeedableRng as _, rngs::StdRng};

use super::*;
use crate::tftp::packet::Options;

/// A client as in RFC 7440: it acknowledges the end of each window, or the last block before one that is missing.
struct Client {
    terms: Terms,
    /// The number of blocks of the file.
    blocks: u64,
    received: Vec<u64>,
    in_window: u16,
    /// The client also acknowledges blocks that it has already, as EDK2 does.
    nervous: bool,
}

impl Client {
    fn on_datagram(&mut self, datagram: &Datagram) -> Option<u16> {
        let last = self.received.len() as u64;
        match *datagram {
            // A repetition means that our acknowledgement was lost.
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
            // After a whole window, its last block again means that our acknowledgement was lost.
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
        self.received.len() as u64 == self.blocks
    }
}

#[derive(Clone, Debug)]
enum Datagram {
    Options,
    Block(u64),
}

/// The link's treatment of a datagram.
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

/// Runs a transfer of `blocks` blocks over a link that treats datagrams as `fate` says. Returns its outcome, the number of blocks
/// sent, and the client.
fn simulate(
    terms: Terms,
    blocks: u64,
    nervous: bool,
    mut fate: impl FnMut() -> Fate,
) -> (Option<Outcome>, u64, Client) {
    let mut now = Instant::now();
    let (mut transfer, first) = Transfer::new(now, terms);
    let mut client = Client { terms, blocks, received: Vec::new(), in_window: 0, nervous };
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
                    let end = first + u64::from(count);
                    for number in first..end.min(blocks + 1) {
                        sent += 1;
                        deliver(&mut down, Datagram::Block(number), fate());
                    }
                    if end > blocks {
                        transfer.ends_with(blocks);
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
            // In silence, both sides repeat themselves.
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
fn duplicated_packets_do_not_duplicate_the_transfer() {
    for (window, nervous) in [(1, false), (1, true), (4, false), (64, false)] {
        let terms = windowed(512 * 1000, window);
        let (outcome, sent, _) = simulate(terms, terms.blocks(), nervous, || Fate::Doubled);
        assert_eq!(outcome, Some(Outcome::Done), "window {window}");
        assert_eq!(sent, terms.blocks(), "window {window}, nervous {nervous}");
    }
}

/// A bad link, the same for the same seed: of 100 datagrams, 8 are lost, 5 duplicated, 5 reordered.
fn bad_link(seed: u64) -> impl FnMut() -> Fate {
    let mut random = StdRng::seed_from_u64(seed);
    move || match random.random_range(0..100) {
        0..8 => Fate::Lost,
        8..13 => Fate::Doubled,
        13..18 => Fate::Overtaken,
        _ => Fate::Delivered,
    }
}

/// Returns the terms and the number of blocks, for a transfer in netascii those of an encoding of any length.
fn with_end(octet: Terms, netascii: Option<prop::sample::Index>) -> (Terms, u64) {
    let Some(end) = netascii else { return (octet, octet.blocks()) };
    let mut terms = octet;
    terms.netascii = true;
    let growth = terms.blocks() - octet.blocks();
    (terms, octet.blocks() + end.index(usize::try_from(growth).unwrap().saturating_add(1)) as u64)
}

proptest! {
    #[test]
    fn blocks_arrive_once_and_in_order(
        length in 0u64..400_000,
        window in 1u16..=64,
        (options, nervous) in any::<(bool, bool)>(),
        netascii in prop::option::of(any::<prop::sample::Index>()),
        seed in any::<u64>(),
    ) {
        let terms = if options { windowed(length, window) } else { plain(length) };
        let (terms, blocks) = with_end(terms, netascii);
        let (outcome, _, client) = simulate(terms, blocks, nervous, bad_link(seed));
        prop_assert!(client.received.iter().copied().eq(1..=client.received.len() as u64));
        // The last acknowledgement may be lost: the client has everything and is gone.
        prop_assert!(client.is_done(), "{outcome:?} after {} of {} blocks", client.received.len(), blocks);
        prop_assert!(matches!(outcome, Some(Outcome::Done | Outcome::Unconfirmed)), "{outcome:?}");
    }

    /// For any input and any delay of the disk: no more counts as acknowledged than was sent, and the transfer is done exactly when
    /// that is the whole file.
    #[test]
    fn arbitrary_packets_acknowledge_nothing_that_was_not_sent(
        length in prop_oneof![0u64..100_000, any::<u64>()],
        options in (8u16..2000, any::<bool>(), prop::option::of(1u8..), prop::option::of(1u16..)),
        netascii in prop::option::of(any::<prop::sample::Index>()),
        input in prop::collection::vec(
            (prop_oneof![
                prop::collection::vec(any::<u8>(), 0..20),
                any::<u16>().prop_map(|block| ack(block).to_vec()),
                (0u16..70).prop_map(|block| ack(block).to_vec()),
            ], 0u64..3_000_000, any::<bool>(), prop::option::of(0u16..64)),
            0..200),
    ) {
        let (block_size, transfer_size, timeout, window_size) = options;
        let options = Options { block_size: Some(block_size), transfer_size, timeout, window_size };
        let (terms, blocks) = with_end(terms(length, options), netascii);
        let mut now = Instant::now();
        let (mut transfer, _) = Transfer::new(now, terms);
        // The last block that was sent.
        let mut sent = 0;
        for (datagram, pause, request, slow) in input {
            now += Duration::from_micros(pause);
            if request && transfer.on_repeated_request(now) == Repeated::Anew {
                return Ok(());
            }
            let steps: [&dyn Fn(&mut Transfer) -> Action; 3] = [
                &|transfer| transfer.on_packet(now, &datagram),
                &|transfer| transfer.on_timer(now),
                &|transfer| if slow.is_none() { transfer.on_readable(now) } else { Action::Wait },
            ];
            for step in steps {
                match step(&mut transfer) {
                    Action::SendBlocks { first, count } => {
                        prop_assert!(first >= 1 && count >= 1 && count <= terms.window);
                        let last = first + u64::from(count) - 1;
                        prop_assert!(last <= terms.blocks());
                        match slow {
                            Some(slow) if slow < count && first + u64::from(slow) <= blocks => {
                                transfer.withhold(first + u64::from(slow));
                                sent = sent.max(first + u64::from(slow) - 1);
                            }
                            _ => {
                                sent = sent.max(last.min(blocks));
                                if last >= blocks {
                                    transfer.ends_with(blocks);
                                }
                            }
                        }
                    }
                    Action::End(outcome) => {
                        prop_assert_eq!(outcome == Outcome::Done, transfer.acknowledged == blocks);
                        prop_assert!(outcome != Outcome::Done || transfer.bytes_acknowledged() == length);
                        prop_assert!(transfer.acknowledged <= sent);
                        return Ok(());
                    }
                    Action::Wait | Action::SendOptions => {}
                }
                prop_assert!(transfer.acknowledged <= sent, "{} acknowledged, {sent} sent", transfer.acknowledged);
                prop_assert!(transfer.acknowledged < blocks);
            }
        }
    }
}
