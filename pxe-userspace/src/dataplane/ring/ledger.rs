//! Counts the frames of a queue by where they are, and limits how many replies may take.

/// Counts where the frames of one queue are, and decides which of them replies may take.
///
/// ```text
///          filled                     received           answered
///   free ─────────► the kernel's to ──────────► held ────────────► free, and owed to the fill ring
///                   receive into
///
///         take_reply                completed
///   free ─────────────► in flight ────────────► free
///                        │
///                        └─ drop_reply ───────► free
/// ```
///
/// There are `depth + budget` frames. Reception has `depth` of them: in the fill and the receive ring, held while they
/// are answered, or owed to the fill ring. Replies have at most `budget`, from the moment they are written until their
/// transmission is completed. So the free frames are never fewer than those owed: a transmitter that completes nothing
/// costs replies, not reception.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ledger {
    depth: usize,
    budget: usize,
    free: usize,
    owed: usize,
    held: usize,
    in_flight: usize,
}

impl Ledger {
    /// Creates the ledger of a queue that has just got its memory: every frame is free, and the fill ring is owed all of its
    /// `depth`.
    pub(super) fn new(depth: usize, budget: usize) -> Self {
        Self { depth, budget, free: depth + budget, owed: depth, held: 0, in_flight: 0 }
    }

    /// Takes a free frame for a reply. Returns `false` if the replies in flight have used up their budget.
    #[must_use]
    pub(super) fn take_reply(&mut self) -> bool {
        let within_budget = self.in_flight < self.budget;
        if within_budget {
            self.free -= 1;
            self.in_flight += 1;
        }
        within_budget
    }

    /// Frees the frame of a reply that is not sent.
    pub(super) fn drop_reply(&mut self) {
        self.completed(1);
    }

    /// Frees the frames of replies that the kernel has sent.
    pub(super) fn completed(&mut self, frames: usize) {
        let frames = frames.min(self.in_flight);
        self.in_flight -= frames;
        self.free += frames;
    }

    /// Records frames that the receive ring has handed out.
    pub(super) fn received(&mut self, frames: usize) {
        self.held += frames.min(self.receiving());
    }

    /// Frees a received frame. The fill ring is owed one for it.
    pub(super) fn answered(&mut self) {
        let frames = self.held.min(1);
        self.held -= frames;
        self.free += frames;
        self.owed += frames;
    }

    /// Records free frames that the fill ring has taken.
    pub(super) fn filled(&mut self, frames: usize) {
        let frames = frames.min(self.owed);
        self.free -= frames;
        self.owed -= frames;
    }

    /// Returns the number of frames that the fill ring is owed. At least this many are free.
    pub(super) fn owed(&self) -> usize {
        self.owed
    }

    /// Returns the number of frames in the fill ring and the receive ring.
    fn receiving(&self) -> usize {
        self.depth - self.owed - self.held
    }
}

#[cfg(test)]
impl Ledger {
    pub(super) fn free(&self) -> usize {
        self.free
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Asserts the invariants that hold after every step.
    pub(super) fn check(&self) {
        let Self { depth, budget, free, owed, held, in_flight } = self;
        assert_eq!(free + held + in_flight + self.receiving(), depth + budget, "a frame is lost: {self:?}");
        assert!(in_flight <= budget, "replies took more than their budget: {self:?}");
        assert!(owed <= free, "the fill ring cannot be paid: {self:?}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The place of a frame.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Place {
        Free,
        Receiving,
        Held,
        InFlight,
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        TakeReply,
        DropReply,
        Completed(usize),
        Received(usize),
        Answered,
        Filled(usize),
    }

    /// The place of every single frame, so that each is in one place by construction.
    struct Model(Vec<Place>);

    impl Model {
        fn count(&self, place: Place) -> usize {
            self.0.iter().filter(|&&other| other == place).count()
        }

        /// Moves up to `frames` frames. Returns how many were there to move.
        fn shift(&mut self, frames: usize, from: Place, to: Place) -> usize {
            let places = self.0.iter_mut().filter(|place| **place == from).take(frames);
            places.map(|place| *place = to).count()
        }
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => Just(Step::TakeReply),
            1 => Just(Step::DropReply),
            1 => (0_usize..6).prop_map(Step::Completed),
            2 => (0_usize..6).prop_map(Step::Received),
            3 => Just(Step::Answered),
            2 => (0_usize..6).prop_map(Step::Filled),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        /// The ledger agrees after every step with a model that tracks each frame, and the fill ring can be paid.
        #[test]
        fn frames_are_where_the_model_has_them(depth in 1_usize..9, budget in 0_usize..9, steps in steps()) {
            let mut ledger = Ledger::new(depth, budget);
            let mut model = Model(vec![Place::Free; depth + budget]);
            for step in steps {
                match step {
                    Step::TakeReply => {
                        let taken = ledger.take_reply();
                        prop_assert_eq!(taken, model.count(Place::InFlight) < budget);
                        let shifted = model.shift(usize::from(taken), Place::Free, Place::InFlight);
                        prop_assert_eq!(shifted, usize::from(taken));
                    }
                    Step::DropReply => {
                        ledger.drop_reply();
                        model.shift(1, Place::InFlight, Place::Free);
                    }
                    Step::Completed(frames) => {
                        ledger.completed(frames);
                        model.shift(frames, Place::InFlight, Place::Free);
                    }
                    Step::Received(frames) => {
                        ledger.received(frames);
                        model.shift(frames, Place::Receiving, Place::Held);
                    }
                    Step::Answered => {
                        ledger.answered();
                        model.shift(1, Place::Held, Place::Free);
                    }
                    Step::Filled(frames) => {
                        let payable = frames.min(ledger.owed());
                        ledger.filled(frames);
                        let shifted = model.shift(payable, Place::Free, Place::Receiving);
                        prop_assert_eq!(shifted, payable);
                    }
                }
                ledger.check();
                prop_assert_eq!(ledger.free, model.count(Place::Free));
                prop_assert_eq!(ledger.held, model.count(Place::Held));
                prop_assert_eq!(ledger.in_flight, model.count(Place::InFlight));
                prop_assert_eq!(ledger.receiving(), model.count(Place::Receiving));
            }
        }
    }

    /// Every state that small rings can come to, in whatever order the kernel and the worker act, and whatever numbers the kernel tells.
    #[test]
    fn every_state_of_small_rings_keeps_all_frames_and_leads_back() {
        for (depth, budget) in (1..=4).flat_map(|depth| (0..=4).map(move |budget| (depth, budget))) {
            let (mut reached, mut next) = (Vec::new(), vec![Ledger::new(depth, budget)]);
            while let Some(ledger) = next.pop() {
                if reached.contains(&ledger) {
                    continue;
                }
                ledger.check();
                let mut then = |step: &dyn Fn(&mut Ledger)| {
                    let mut other = ledger.clone();
                    step(&mut other);
                    next.push(other);
                };
                then(&|ledger| _ = ledger.take_reply());
                then(&Ledger::drop_reply);
                then(&Ledger::answered);
                for frames in 0..=depth + budget + 1 {
                    then(&|ledger| ledger.completed(frames));
                    then(&|ledger| ledger.received(frames));
                    then(&|ledger| ledger.filled(frames));
                }
                // While nothing is completed, all frames of reception can go round.
                let mut stuck = ledger.clone();
                stuck.received(depth);
                (0..depth).for_each(|_| stuck.answered());
                stuck.filled(depth);
                assert_eq!(stuck.receiving(), depth, "from {ledger:?}");
                stuck.completed(budget);
                assert_eq!((stuck.free, stuck.in_flight), (budget, 0), "from {ledger:?}");
                reached.push(ledger);
            }
            assert!(reached.len() >= (depth + 1) * (budget + 1), "{} states of {depth} and {budget}", reached.len());
        }
    }

    #[test]
    fn replies_stop_at_their_budget_and_the_fill_ring_is_paid() {
        let mut ledger = Ledger::new(8, 3);
        ledger.filled(8);
        ledger.received(8);
        let replies = (0..8).filter(|_| {
            let taken = ledger.take_reply();
            ledger.answered();
            taken
        });
        assert_eq!(replies.count(), 3);
        assert_eq!((ledger.owed(), ledger.free()), (8, 8));
        ledger.filled(8);
        assert!(!ledger.take_reply());
        ledger.completed(1);
        assert!(ledger.take_reply() && !ledger.take_reply());
    }
}
