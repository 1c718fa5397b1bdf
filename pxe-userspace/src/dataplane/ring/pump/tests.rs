use proptest::prelude::*;

use super::{
    super::{
        ledger::Ledger,
        memory::{Memory, Transmitter},
        rings::{BATCH, Rings as _},
    },
    *,
};

/// The first byte of a query, which selects the answer.
const ONE_REPLY: u8 = 1;
const TWO_REPLIES: u8 = 2;
const TOO_LONG_A_REPLY: u8 = 3;

fn respond(query: &[u8], reply: &mut [u8]) -> Option<Reply> {
    let reply_length = match query[0] {
        ONE_REPLY | TWO_REPLIES => 3,
        TOO_LONG_A_REPLY => reply.len() + 1,
        _ => return None,
    };
    reply[..3].copy_from_slice(&query[..3]);
    reply[3] = 0xee;
    Some(Reply { length: reply_length, second: if query[0] == ONE_REPLY { Second::None } else { Second::Same } })
}

/// A queue in plain memory, checked after every step.
struct Lab {
    memory: Memory,
    ledger: Ledger,
    transmission: Transmission,
}

impl Lab {
    fn new(depth: usize, budget: usize, transmit_room: usize) -> Self {
        let mut memory = Memory::new(depth, budget, transmit_room);
        let mut ledger = Ledger::new(depth, budget);
        ledger.filled((&mut memory).fill(depth));
        let lab = Self { memory, ledger, transmission: Transmission::Done };
        lab.check();
        lab
    }

    fn turn(&mut self) -> Turn {
        let mut pump = Pump::new(&mut self.memory, &mut self.ledger);
        pump.transmission = self.transmission;
        let turn = pump.turn(respond);
        self.transmission = pump.transmission;
        self.check();
        assert_eq!(self.ledger.owed(), 0, "the fill ring was not refilled: {:?}", self.memory);
        turn
    }

    /// Delivers queries of this kind and answers them. Returns the numbers of queries received and replies lost.
    fn ask(&mut self, kind: u8, queries: usize) -> (usize, usize) {
        let (mut received, mut lost) = (0, 0);
        for number in 0..queries {
            let [.., c, d] = number.to_be_bytes();
            received += usize::from(self.memory.deliver([kind, c, d, 0]));
            if number % BATCH == BATCH - 1 || number == queries - 1 {
                lost += self.turn().lost;
            }
        }
        (received, lost)
    }

    /// Lets the transmitter work and waits until all frames are back.
    fn recover(&mut self) {
        self.memory.transmitter = Transmitter::Prompt;
        self.memory.finish(usize::MAX);
        let mut turns = 0;
        while self.turn() != (Turn { received: 0, lost: 0, kick_pending: false }) {
            turns += 1;
            assert!(turns < 100, "frames are still in flight: {:?}", self.memory);
        }
        // Completes what the last kick sent.
        self.turn();
    }

    fn check(&self) {
        let Self { memory, ledger, .. } = self;
        memory.check();
        ledger.check();
        assert_eq!(ledger.free(), memory.free.len(), "{memory:?}");
        assert_eq!(ledger.in_flight(), memory.in_flight(), "{memory:?}");
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Deliver(u8, usize),
    Turn,
    Finish(usize),
    Become(Transmitter),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    use Transmitter::{Down, Dropping, Full, Holding, Prompt};
    let transmitter = prop::sample::select(vec![Prompt, Holding, Full, Dropping, Down]);
    let step = prop_oneof![
        4 => (0_u8..4, 1_usize..100).prop_map(|(kind, queries)| Step::Deliver(kind, queries)),
        4 => Just(Step::Turn),
        1 => (0_usize..100).prop_map(Step::Finish),
        1 => transmitter.prop_map(Step::Become),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    /// No transmitter makes the pump lose a frame or use it twice; the fill ring is full after every turn; and once the
    /// transmitter works again, so does everything else.
    #[test]
    fn frames_survive_every_transmitter(
        (depth, budget) in (6_u32..9, 0_usize..200).prop_map(|(depth, budget)| (1 << depth, budget)),
        transmit_room in 0_usize..300,
        steps in steps(),
    ) {
        let mut lab = Lab::new(depth, budget, transmit_room);
        for step in steps {
            match step {
                Step::Deliver(kind, queries) => (0..queries).for_each(|_| _ = lab.memory.deliver([kind; 4])),
                Step::Turn => _ = lab.turn(),
                Step::Finish(frames) => lab.memory.finish(frames),
                Step::Become(transmitter) => lab.memory.transmitter = transmitter,
            }
            lab.check();
        }

        lab.recover();
        // Replies that have waited since the interface was down are sent when the next frame arrives; its own reply may find
        // no frame.
        lab.ask(ONE_REPLY, 1);
        lab.recover();
        prop_assert_eq!(lab.memory.in_flight(), 0);
        let before = lab.memory.sent.len();
        let replies = usize::from(budget.min(transmit_room) > 0);
        prop_assert_eq!(lab.ask(ONE_REPLY, 1), (1, 1 - replies));
        prop_assert_eq!(lab.memory.sent.len(), before + replies);
    }
}

#[test]
fn stuck_transmitter_costs_replies_and_no_query() {
    const QUERIES: usize = 10_000;
    const BUDGET: usize = 128;
    for transmitter in [Transmitter::Full, Transmitter::Holding, Transmitter::Down] {
        let mut lab = Lab::new(256, BUDGET, 256);
        lab.memory.transmitter = transmitter;
        assert_eq!(lab.ask(ONE_REPLY, QUERIES), (QUERIES, QUERIES - BUDGET), "{transmitter:?}");
        assert_eq!(lab.memory.in_flight(), BUDGET, "{transmitter:?}");

        lab.recover();
        if transmitter == Transmitter::Down {
            assert_eq!(lab.ask(ONE_REPLY, 1), (1, 1), "a query triggers another kick");
            lab.recover();
        }
        assert_eq!((lab.memory.in_flight(), lab.memory.sent.len()), (0, BUDGET), "{transmitter:?}");
        assert_eq!(lab.ask(ONE_REPLY, QUERIES), (QUERIES, 0), "{transmitter:?}");
        assert_eq!(lab.memory.sent.len(), BUDGET + QUERIES, "{transmitter:?}");
    }
}

#[test]
fn kernel_is_asked_to_send_again_unless_the_interface_is_down() {
    for (transmitter, kicks, kick_pending) in [
        (Transmitter::Prompt, 1, false),
        (Transmitter::Holding, 1, false),
        (Transmitter::Dropping, 2, false),
        (Transmitter::Full, KICKS, true),
        (Transmitter::Down, 1, false),
    ] {
        let mut lab = Lab::new(64, 64, 64);
        lab.memory.transmitter = transmitter;
        lab.memory.deliver([ONE_REPLY; 4]);
        assert_eq!(lab.turn(), Turn { received: 1, lost: 0, kick_pending }, "{transmitter:?}");
        assert_eq!(lab.memory.kicks, kicks, "{transmitter:?}");
        lab.turn();
        assert_eq!(lab.memory.kicks > kicks, kick_pending, "{transmitter:?}");
    }
}

#[test]
fn batch_of_double_replies_takes_one_kick_for_every_32() {
    let mut lab = Lab::new(64, REPLIES, REPLIES);
    assert_eq!(lab.ask(TWO_REPLIES, BATCH), (BATCH, 0));
    assert_eq!((lab.memory.sent.len(), lab.memory.kicks), (REPLIES, REPLIES / 32));
    let (replies, rest) = lab.memory.sent.as_chunks::<2>();
    assert!(rest.is_empty() && replies.iter().all(|[one, other]| one == other), "{replies:?}");
    let order: Vec<_> = replies.iter().map(|[one, _]| one[2]).collect();
    assert!(order.is_sorted(), "{order:?}");
}

#[test]
fn second_reply_without_a_frame_is_the_only_loss() {
    let mut lab = Lab::new(64, 1, 64);
    assert_eq!(lab.ask(TWO_REPLIES, 1), (1, 1));
    assert_eq!(lab.memory.sent, [[TWO_REPLIES, 0, 0]]);
}

#[test]
fn replies_that_the_transmit_ring_refuses_are_lost() {
    let mut lab = Lab::new(64, 64, 2);
    lab.memory.transmitter = Transmitter::Full;
    assert_eq!(lab.ask(ONE_REPLY, 3), (3, 3));
    assert_eq!(lab.ask(ONE_REPLY, 2), (2, 0));
    assert_eq!(lab.ask(TOO_LONG_A_REPLY, 1), (1, 2));
}
