//! The state of every exchange. Does no I/O and reads no clock.

use std::{collections::VecDeque, net::Ipv4Addr, time::Duration};

use dhcproto::v4::MessageType;
use pxe_common::MacAddr;

use crate::{
    firmware::Firmware,
    load::{
        answer::Answer,
        summary::Meter,
        template::{Send, Templates},
    },
    report::Step,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Discovering,
    Requesting { server: Ipv4Addr, address: Ipv4Addr },
}

/// A machine and its exchange.
#[derive(Clone, Debug)]
struct Entry {
    mac: MacAddr,
    template: u8,
    xid: u32,
    phase: Phase,
    /// The time at which the last request was sent.
    asked: Duration,
}

/// All machines and their exchanges.
#[derive(Debug)]
pub(super) struct Book {
    entries: Vec<Entry>,
    /// The bits of a transaction identifier that are the index of the machine.
    mask: u32,
    /// The index of the machine whose turn it is.
    next: usize,
    /// The exchanges in the order of their beginnings: index, identifier, time.
    begun: VecDeque<(u32, u32, Duration)>,
    under_way: usize,
}

impl Book {
    pub(super) fn new(machines: &[(MacAddr, Firmware)], templates: &Templates, seed: u64) -> Self {
        let mask = (machines.len().next_power_of_two() - 1) as u32;
        let entries: Vec<Entry> = (0_u32..)
            .zip(machines)
            .map(|(index, &(mac, firmware))| Entry {
                mac,
                template: templates.number(firmware).unwrap_or(0),
                xid: (seed as u32 & !mask) | index,
                phase: Phase::Idle,
                asked: Duration::ZERO,
            })
            .collect();
        let begun = VecDeque::with_capacity(entries.len() * 2);
        Self { entries, mask, next: 0, begun, under_way: 0 }
    }

    /// Returns the number of machines.
    pub(super) const fn machines(&self) -> usize {
        self.entries.len()
    }

    /// Returns the number of exchanges under way.
    pub(super) const fn under_way(&self) -> usize {
        self.under_way
    }

    /// Returns when the oldest exchange began that may not be over.
    pub(super) fn oldest(&self) -> Option<Duration> {
        self.begun.front().map(|(_, _, at)| *at)
    }

    /// Begins an exchange of the machine whose turn it is. Returns `None` if its last one is not over.
    pub(super) fn begin(&mut self, now: Duration) -> Option<Send> {
        let index = self.next;
        self.next = if index + 1 == self.entries.len() { 0 } else { index + 1 };
        let entry = &mut self.entries[index];
        if entry.phase != Phase::Idle {
            return None;
        }
        entry.phase = Phase::Discovering;
        // A new one for each exchange, so that late answers to the last one are recognised.
        entry.xid = entry.xid.wrapping_add(self.mask.wrapping_add(1));
        entry.asked = now;
        self.begun.push_back((index as u32, entry.xid, now));
        self.under_way += 1;
        Some(Send { mac: entry.mac, xid: entry.xid, template: entry.template, selection: None })
    }

    /// Handles an answer, and returns the request that follows from it.
    pub(super) fn on_answer(&mut self, now: Duration, answer: &Answer, meter: &mut Meter) -> Option<Send> {
        let entry = self.entries.get_mut((answer.xid & self.mask) as usize);
        let Some(entry) = entry.filter(|entry| entry.xid == answer.xid && entry.mac == answer.mac) else {
            meter.strays += 1;
            return None;
        };
        let took = now.saturating_sub(entry.asked);
        match (entry.phase, answer.kind, answer.server) {
            (Phase::Discovering, Some(MessageType::Offer), Some(server)) if !answer.address.is_unspecified() => {
                meter.took(Step::Offer, took);
                entry.phase = Phase::Requesting { server, address: answer.address };
                entry.asked = now;
                let selection = Some((server, answer.address));
                Some(Send { mac: entry.mac, xid: entry.xid, template: entry.template, selection })
            }
            (Phase::Requesting { server, address }, Some(MessageType::Ack), Some(answered))
                if answered == server && answer.address == address =>
            {
                meter.took(Step::Acknowledgement, took);
                meter.completed += 1;
                meter.last = now;
                entry.phase = Phase::Idle;
                self.under_way -= 1;
                None
            }
            // A second offer: of a second server, or because the DISCOVER was duplicated.
            (Phase::Requesting { .. }, Some(MessageType::Offer), _) | (Phase::Idle, ..) => {
                meter.strays += 1;
                None
            }
            // For example a NAK, another address than the one that was offered, or no server identifier.
            _ => {
                meter.refused += 1;
                entry.phase = Phase::Idle;
                self.under_way -= 1;
                None
            }
        }
    }

    /// Gives up exchanges that take longer than `patience`.
    pub(super) fn expire(&mut self, now: Duration, patience: Duration, meter: &mut Meter) {
        while let Some(&(index, xid, at)) = self.begun.front() {
            let entry = &mut self.entries[index as usize];
            let is_over = entry.xid != xid || entry.phase == Phase::Idle;
            if !is_over {
                if at + patience > now {
                    break;
                }
                match entry.phase {
                    Phase::Requesting { .. } => meter.lost_requests += 1,
                    _ => meter.lost_discovers += 1,
                }
                entry.phase = Phase::Idle;
                self.under_way -= 1;
            }
            self.begun.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const PATIENCE: Duration = Duration::from_secs(1);

    fn book(machines: u8) -> Book {
        let machines: Vec<_> = (0..machines).map(|n| (MacAddr([2, 0, 0, 0, 0, n]), Firmware::UefiX64)).collect();
        Book::new(&machines, &Templates::of(&machines).unwrap(), 0x1234_5678)
    }

    fn answer(send: &Send, kind: MessageType) -> Answer {
        let address = Ipv4Addr::new(10, 0, 1, send.mac.0[5]);
        Answer { xid: send.xid, mac: send.mac, address, kind: Some(kind), server: Some(SERVER) }
    }

    #[test]
    fn exchange_is_two_requests_and_two_answers() {
        let (mut book, mut meter) = (book(3), Meter::default());
        for round in 0..10 {
            let now = Duration::from_millis(round);
            let discover = book.begin(now).unwrap();
            assert_eq!(discover.selection, None);
            let request = book.on_answer(now, &answer(&discover, MessageType::Offer), &mut meter).unwrap();
            assert_eq!((request.mac, request.xid), (discover.mac, discover.xid));
            assert_eq!(request.selection, Some((SERVER, Ipv4Addr::new(10, 0, 1, discover.mac.0[5]))));
            assert_eq!(book.on_answer(now, &answer(&discover, MessageType::Ack), &mut meter), None);
            book.expire(now, PATIENCE, &mut meter);
            assert_eq!((book.under_way(), book.oldest()), (0, None));
        }
        assert_eq!((meter.completed, meter.strays, meter.refused, meter.lost()), (10, 0, 0, 0));
    }

    #[test]
    fn machine_has_one_exchange_at_a_time() {
        let (mut book, mut meter) = (book(2), Meter::default());
        let first = book.begin(Duration::ZERO).unwrap();
        let second = book.begin(Duration::ZERO).unwrap();
        book.on_answer(Duration::ZERO, &answer(&second, MessageType::Offer), &mut meter);
        assert_eq!(book.begin(Duration::ZERO), None);
        book.expire(PATIENCE - Duration::from_nanos(1), PATIENCE, &mut meter);
        assert_eq!((meter.lost(), book.under_way()), (0, 2));
        book.expire(PATIENCE, PATIENCE, &mut meter);
        assert_eq!((meter.lost_discovers, meter.lost_requests, book.under_way()), (1, 1, 0));
        // An answer is too late now, even if the machine asks again.
        assert_eq!(book.on_answer(PATIENCE, &answer(&first, MessageType::Offer), &mut meter), None);
        let again = [book.begin(PATIENCE), book.begin(PATIENCE)].into_iter().flatten().count();
        assert_eq!(book.on_answer(PATIENCE, &answer(&first, MessageType::Offer), &mut meter), None);
        assert_eq!((again, meter.strays, meter.refused), (2, 2, 0));
    }

    #[test]
    fn answers_that_do_not_fit_are_refused() {
        let good = Answer {
            xid: 0,
            mac: MacAddr([0; 6]),
            address: SERVER,
            kind: Some(MessageType::Ack),
            server: Some(SERVER),
        };
        for (case, bad) in [
            ("NAK", Answer { kind: Some(MessageType::Nak), ..good }),
            ("another address", Answer { address: Ipv4Addr::new(10, 0, 9, 9), ..good }),
            ("another server", Answer { server: Some(Ipv4Addr::new(10, 0, 9, 9)), ..good }),
            ("no server", Answer { server: None, ..good }),
        ] {
            let (mut book, mut meter) = (book(1), Meter::default());
            let discover = book.begin(Duration::ZERO).unwrap();
            book.on_answer(Duration::ZERO, &answer(&discover, MessageType::Offer), &mut meter).unwrap();
            let bad = Answer { xid: discover.xid, mac: discover.mac, ..bad };
            assert_eq!(book.on_answer(Duration::ZERO, &bad, &mut meter), None);
            assert_eq!((meter.refused, meter.completed, book.under_way()), (1, 0, 0), "{case}");
        }
        let (mut book, mut meter) = (book(1), Meter::default());
        let discover = book.begin(Duration::ZERO).unwrap();
        let stranger = Answer { mac: MacAddr([9; 6]), ..answer(&discover, MessageType::Offer) };
        assert_eq!(book.on_answer(Duration::ZERO, &stranger, &mut meter), None);
        assert_eq!((meter.strays, book.under_way()), (1, 1));
    }
}
